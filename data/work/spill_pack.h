/* Packs a block of records with zstd, level 1, where that pays. Records of one size are transposed first, so
 * that all first bytes stand together, then all second ones: of keys and document ids this takes a block to
 * about a half, of hashes alone it leaves it as it is. */
#ifndef WEFT_SPILL_PACK_H
#define WEFT_SPILL_PACK_H

#include "data/work/spill_format.h"

typedef struct weft_packer weft_packer;
weft_status weft_packer_new(weft_packer **out, bool unpack); /* for one of the two */
void weft_packer_free(weft_packer *p);                       /* NULL is allowed */

/* data[bytes], whole records, into *packed, valid until the next call: its size, or 0 where it does not pay.
 */
size_t weft_pack(weft_packer *p, size_t record_bytes, const char *data, size_t bytes, const char **packed);
/* Where packed[WEFT_SPILL_BLOCK] is to be put for weft_unpack; false when it is not what weft_pack made of
 * `bytes`. */
char *weft_packer_input(weft_packer *p);
bool weft_unpack(weft_packer *p, size_t record_bytes, size_t packed, char *data, size_t bytes);

#endif
