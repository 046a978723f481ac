#include "data/source/source_utf8.h"

/* Bytes of the character that begins with `c`, and the bounds of the second; 0: none begins so. */
static size_t character(unsigned char c, unsigned char *low, unsigned char *high) {
    *low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    *high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    return c < 0x80                 ? 1
           : c >= 0xc2 && c <= 0xdf ? 2
           : c >= 0xe0 && c <= 0xef ? 3
           : c >= 0xf0 && c <= 0xf4 ? 4
                                    : 0;
}

size_t weft_utf8_valid_prefix(const char *text, size_t bytes, size_t *bad) {
    const unsigned char *p = (const unsigned char *)text;
    size_t i = 0;
    *bad = 0;
    while (i < bytes) {
        unsigned char low, high;
        size_t length = character(p[i], &low, &high), good = 1;
        while (good < length && i + good < bytes && p[i + good] >= low && p[i + good] <= high) {
            good++;
            low = 0x80, high = 0xbf;
        }
        if (good != length) {
            *bad = good;
            return i;
        }
        i += length;
    }
    return i;
}

weft_status weft_utf8_repair(const char *text, size_t bytes, weft_text *out) {
    for (;;) {
        size_t bad, good = weft_utf8_valid_prefix(text, bytes, &bad);
        WEFT_TRY(weft_text_append(out, text, good));
        if (bad == 0) return WEFT_OK;
        WEFT_TRY(weft_text_append(out, "\xef\xbf\xbd", 3));
        text += good + bad;
        bytes -= good + bad;
    }
}
