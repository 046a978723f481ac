#include "data/text/normalise.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>
#include <unicode/utf8.h>

weft_status weft_text_append(weft_text *t, const char *data, size_t bytes) {
    if (t->capacity - t->bytes < bytes) {
        size_t needed = t->bytes + bytes, capacity = needed + needed / 2 + 64;
        char *grown = realloc(t->data, capacity);
        if (!grown) WEFT_FAIL(WEFT_ENOMEM, "no memory for a text of %zu bytes", needed);
        t->data = grown;
        t->capacity = capacity;
    }
    if (bytes > 0) memcpy(t->data + t->bytes, data, bytes);
    t->bytes += bytes;
    return WEFT_OK;
}

void weft_text_free(weft_text *t) {
    free(t->data);
    *t = (weft_text){0};
}

/* ---- what there is to do ---- */

typedef struct needs {
    bool above_ascii, control, layout;
} needs;

/* One scan; what it finds may turn out to be in order. */
static needs look(const char *text, size_t bytes) {
    static const uint8_t kinds[256] = {
        [0 ... 8] = 1, ['\t'] = 2, ['\n'] = 4, [11 ... 31] = 1, [' '] = 2, [127] = 1, [128 ... 255] = 8};
    unsigned seen = 0;
    bool layout = bytes > 0 && (text[0] == '\n' || text[bytes - 1] == '\n');
    unsigned before = 0, before2 = 0;
    for (size_t i = 0; i < bytes; i++) {
        unsigned kind = kinds[(uint8_t)text[i]];
        seen |= kind;
        layout |= kind == 4 && (before == 2 || (before == 4 && before2 == 4));
        before2 = before;
        before = kind;
    }
    return (needs){seen & 8, seen & 1, layout || before == 2 || (seen & (8 | 1))};
}

/* ---- control characters and newlines ---- */

static bool removed_control(UChar32 c) {
    bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
    return (control && c != '\t' && c != '\n') || c == 0xfeff || c == 0xfffe || c == 0xffff;
}

/* Into `out`, which has room for it: it only shrinks. */
static void filter(const weft_normalise_options *o, const char *text, size_t bytes, weft_text *out) {
    size_t n = 0;
    for (size_t i = 0; i < bytes;) {
        size_t from = i;
        UChar32 c;
        U8_NEXT_UNSAFE(text, i, c);
        if (c == '\r' && o->newlines) {
            if (i == bytes || text[i] != '\n') out->data[n++] = '\n';
            continue;
        }
        if (o->controls && removed_control(c)) continue;
        for (; from < i; from++) out->data[n++] = text[from];
    }
    out->bytes = n;
}

/* ---- NFC ---- */

static bool ascii_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* End of the piece at `i`, where nothing can be composed with what follows: white space, or, in a long piece,
 * what ICU says. *suspect: it holds a character that NFC may change, or whose order may matter. */
enum { LONG_PIECE = 4096 };
static size_t piece_end(const UNormalizer2 *nfc, const char *text, size_t start, size_t bytes,
                        bool *suspect) {
    size_t i = start;
    while (i < bytes && !ascii_space(text[i])) {
        size_t from = i;
        UChar32 c;
        U8_NEXT_UNSAFE(text, i, c);
        if (from - start > LONG_PIECE && unorm2_hasBoundaryBefore(nfc, c)) return from;
        if (c >= 0x300)
            *suspect |=
                u_getIntPropertyValue(c, UCHAR_NFC_QUICK_CHECK) != UNORM_YES || u_getCombiningClass(c) != 0;
    }
    return i;
}

static weft_status failed(UErrorCode error) {
    WEFT_FAIL(error == U_MEMORY_ALLOCATION_ERROR ? WEFT_ENOMEM : WEFT_EINTERNAL,
              "Unicode normalisation (ICU): %s", u_errorName(error));
}

/* Memory for ICU's UTF-16. */
typedef struct units {
    UChar *from, *to;
    size_t capacity; /* of each */
} units;

static weft_status room(units *u, size_t units) {
    if (units <= u->capacity) return WEFT_OK;
    free(u->from);
    free(u->to);
    u->capacity = 0;
    u->from = malloc(units * sizeof *u->from);
    u->to = malloc(units * sizeof *u->to);
    if (!u->from || !u->to) WEFT_FAIL(WEFT_ENOMEM, "no memory to normalise a text of %zu bytes", units);
    u->capacity = units;
    return WEFT_OK;
}

/* NFC of at most this many bytes at a time, so that ICU's lengths, which are of 32 bits, hold it: UTF-8 of n
 * bytes is n units at most, and NFC makes them three times as many at most. */
enum { MOST = INT32_MAX / 6 };

static weft_status compose(const UNormalizer2 *nfc, units *u, const char *text, size_t bytes,
                           weft_text *out) {
    if (bytes > MOST)
        WEFT_FAIL(WEFT_EINPUT,
                  "Unicode normalisation: a text has %zu bytes of combining characters; the limit is %d",
                  bytes, MOST);
    WEFT_TRY(room(u, 3 * bytes));
    UErrorCode error = U_ZERO_ERROR;
    int32_t n = 0, most = (int32_t)(3 * bytes);
    u_strFromUTF8(u->from, most, &n, text, (int32_t)bytes, &error);
    n = unorm2_normalize(nfc, u->from, n, u->to, most, &error);
    if (U_FAILURE(error)) return failed(error);
    for (int32_t i = 0; i < n;) {
        char utf8[4];
        size_t length = 0;
        UChar32 c;
        U16_NEXT_UNSAFE(u->to, i, c);
        U8_APPEND_UNSAFE(utf8, length, c);
        WEFT_TRY(weft_text_append(out, utf8, length));
    }
    return WEFT_OK;
}

/* ASCII white space takes no part in a composition, so pieces are what stands between it. */
static weft_status compose_text(weft_text *t) {
    UErrorCode error = U_ZERO_ERROR;
    const UNormalizer2 *nfc = unorm2_getNFCInstance(&error);
    if (U_FAILURE(error)) return failed(error);
    weft_text composed = {0};
    units u = {0};
    weft_status st = WEFT_OK;
    size_t kept = 0; /* t up to here is in `composed` */
    for (size_t i = 0; st == WEFT_OK && i < t->bytes;) {
        if (ascii_space(t->data[i])) {
            i++;
            continue;
        }
        bool suspect = false;
        size_t end = piece_end(nfc, t->data, i, t->bytes, &suspect);
        if (suspect) {
            st = weft_text_append(&composed, t->data + kept, i - kept);
            if (st == WEFT_OK) st = compose(nfc, &u, t->data + i, end - i, &composed);
            kept = end;
        }
        i = end;
    }
    if (st == WEFT_OK && kept > 0) {
        st = weft_text_append(&composed, t->data + kept, t->bytes - kept);
        weft_text swap = *t;
        *t = composed;
        composed = swap;
    }
    weft_text_free(&composed);
    free(u.from);
    free(u.to);
    return st;
}

/* ---- layout ---- */

/* End of text[start, end) without white space. */
static size_t stripped(const char *text, size_t start, size_t end) {
    while (end > start) {
        size_t i = end;
        UChar32 c;
        U8_PREV_UNSAFE(text, i, c);
        if (!u_isUWhiteSpace(c)) break;
        end = i;
    }
    return end;
}

/* In place. */
static void trim(weft_text *t) {
    size_t n = 0, i = 0;
    int newlines = 0; /* since the last line that is not empty; two at most */
    while (i < t->bytes) {
        const char *newline = memchr(t->data + i, '\n', t->bytes - i);
        size_t end = newline ? (size_t)(newline - t->data) : t->bytes, last = stripped(t->data, i, end);
        if (last > i) {
            if (n > 0)
                for (int k = 0; k < newlines; k++) t->data[n++] = '\n';
            memmove(t->data + n, t->data + i, last - i);
            n += last - i;
            newlines = 0;
        }
        if (newlines < 2) newlines++;
        i = end + 1;
    }
    t->bytes = n;
}

weft_status weft_normalise(const weft_normalise_options *o, const char *text, size_t bytes, weft_text *out) {
    needs n = look(text, bytes);
    out->bytes = 0;
    WEFT_TRY(weft_text_append(out, text, bytes));
    if ((o->controls || o->newlines) && (n.control || n.above_ascii)) filter(o, text, bytes, out);
    if (o->nfc && n.above_ascii) WEFT_TRY(compose_text(out));
    if (o->trim && n.layout) trim(out);
    return WEFT_OK;
}
