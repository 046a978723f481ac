/* The blocks of one partition, one after the other over many files; one file is open at a time. */
#ifndef WEFT_SPILL_BLOCKS_H
#define WEFT_SPILL_BLOCKS_H

#include "data/work/spill_format.h"

typedef struct weft_spill_blocks weft_spill_blocks;
weft_status weft_spill_blocks_open(weft_spill_blocks **out, char *const *paths, int count, int partition);
void weft_spill_blocks_close(weft_spill_blocks *b); /* NULL is allowed */
/* The next block's row, which is not to be trusted before its block is read; NULL at the end. */
weft_status weft_spill_blocks_next(weft_spill_blocks *b, const weft_spill_row **row);
/* That block into data[row->bytes], checked: row->records whole records. */
weft_status weft_spill_blocks_read(weft_spill_blocks *b, char *data);
/* The same for all files; known from the first row on. */
size_t weft_spill_blocks_record_bytes(const weft_spill_blocks *b);

#endif
