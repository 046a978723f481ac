/* Packing of whole documents into sequences. Private to data/loader.
 *
 * Documents come in the order of the stream. One longer than a sequence is cut: all but its tail become
 * sequences of their own; the tail is packed like a document. A document goes to the open sequence that it
 * fits with the least room left over, the first of those that are equal; at most 64 are open: where none
 * fits, a new one is opened, if need be in the place of the fullest. Sequences are numbered as they are
 * closed, the last ones in the order of their places. So the table depends on doc_end and the length of
 * sequences alone.
 *
 * 12 bytes a piece and 8 a sequence stay in memory; a document has one piece for each sequence_length begun.
 */
#ifndef WEFT_LOADER_PACK_H
#define WEFT_LOADER_PACK_H

#include "data/loader/loader_streams.h"

#include <stdbool.h>

#define WEFT_PACK_OPEN 64

typedef struct weft_pack {
    int64_t sequences, pieces;
    uint64_t *begin; /* [sequences + 1] number of each sequence's first piece */
    uint64_t *first; /* [pieces] token of the domain's stream */
    uint32_t *count; /* [pieces] tokens; the top bit: the document goes on behind them */
} weft_pack;

typedef struct weft_pack_piece {
    int64_t first, count;
    bool goes_on;
} weft_pack_piece;

/* Reads doc_end of one shard after the other. *p is to be freed after a failure as well. */
weft_status weft_pack_make(weft_pack *p, const weft_stream *s, int64_t sequence_length);
void weft_pack_free(weft_pack *p); /* a zeroed one is allowed */

static inline weft_pack_piece weft_pack_get(const weft_pack *p, uint64_t piece) {
    uint32_t count = p->count[piece];
    return (weft_pack_piece){
        .first = (int64_t)p->first[piece], .count = count & INT32_MAX, .goes_on = count >> 31};
}

#endif
