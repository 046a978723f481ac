#include "data/dedup/drops.h"

#include <math.h>
#include <string.h>

/* Larger numbers become larger words; adding 0 makes one of the two zeros. */
static uint32_t word_of_float(float x) {
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 31 ? ~bits : bits | UINT32_C(1) << 31;
}

uint32_t weft_keep_order(weft_keep keep, const weft_docs_row *about) {
    switch (keep) {
    case WEFT_KEEP_LONGEST:
        return UINT32_MAX - about->text_bytes;
    case WEFT_KEEP_BEST:
        return isnan(about->quality) ? UINT32_MAX : ~word_of_float(about->quality);
    case WEFT_KEEP_FIRST:
        break;
    }
    return 0;
}

void weft_drop_pack(const weft_drop *d, unsigned char out[WEFT_DROP_BYTES]) {
    uint32_t similarity;
    memcpy(&similarity, &d->similarity, sizeof similarity);
    weft_put_u64(out, d->id);
    weft_put_u64(out + 8, d->kept);
    weft_put_u64(out + 16, d->cluster);
    weft_put_u32(out + 24, d->size);
    weft_put_u32(out + 28, similarity);
}

void weft_drop_unpack(const unsigned char in[WEFT_DROP_BYTES], weft_drop *d) {
    uint32_t similarity = weft_get_u32(in + 28);
    d->id = weft_get_u64(in);
    d->kept = weft_get_u64(in + 8);
    d->cluster = weft_get_u64(in + 16);
    d->size = weft_get_u32(in + 24);
    memcpy(&d->similarity, &similarity, sizeof similarity);
}
