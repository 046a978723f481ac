#define XXH_INLINE_ALL
#include "data/text/shingles.h"
#include "data/text/normalise.h"
#include "data/text/words.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Words of the compared form are its tokens between spaces: of ASCII it holds letters and zeros only, which
 * UAX #29 never parts. Tokens with anything else are cut by words.h, and where that changes the text it is
 * copied. */
struct weft_shingler {
    size_t words;
    weft_words *splitter;
    weft_text compared,
        joined;     /* joined: the words, one space between them; empty where `compared` is that already */
    size_t kept;    /* compared up to here is in `joined` */
    size_t *starts; /* of each word in the joined text, and one past the end and a space */
    size_t count, capacity;
    uint64_t *hashes, *spare; /* [hash_capacity] each */
    size_t hash_capacity;
};

enum { MOST_WORDS = 1024 };

weft_status weft_shingler_new(weft_shingler **out, int words) {
    if (words < 1 || words > MOST_WORDS)
        WEFT_FAIL(WEFT_EINPUT, "shingles of %d words: 1 to %d are possible", words, MOST_WORDS);
    weft_shingler *s = calloc(1, sizeof *s);
    if (!s) WEFT_FAIL(WEFT_ENOMEM, "no memory for shingles");
    s->words = (size_t)words;
    weft_status st = weft_words_new(&s->splitter);
    if (st != WEFT_OK) {
        free(s);
        return st;
    }
    *out = s;
    return WEFT_OK;
}

void weft_shingler_free(weft_shingler *s) {
    if (!s) return;
    weft_words_free(s->splitter);
    weft_text_free(&s->compared);
    weft_text_free(&s->joined);
    free(s->starts);
    free(s->hashes);
    free(s->spare);
    free(s);
}

/* ---- the words ---- */

static weft_status more_starts(weft_shingler *s) {
    size_t more = s->capacity ? 2 * s->capacity : 1024;
    size_t *starts = realloc(s->starts, more * sizeof *starts);
    if (!starts) WEFT_FAIL(WEFT_ENOMEM, "no memory for the %zu words of a text", more);
    s->starts = starts;
    s->capacity = more;
    return WEFT_OK;
}

static inline weft_status add_start(weft_shingler *s, size_t start) {
    if (s->count == s->capacity) WEFT_TRY(more_starts(s));
    s->starts[s->count++] = start;
    return WEFT_OK;
}

/* Where compared[at] is in the joined text. */
static inline size_t joined_at(const weft_shingler *s, size_t at) {
    return s->joined.bytes + (at - s->kept);
}

/* The text up to `at` goes to `joined`, the text up to `next` is done with. */
static weft_status keep(weft_shingler *s, size_t at, size_t next) {
    if (at > s->kept) WEFT_TRY(weft_text_append(&s->joined, s->compared.data + s->kept, at - s->kept));
    s->kept = next;
    return WEFT_OK;
}

/* The token [from, to) of the compared form. */
static weft_status add_token(weft_shingler *s, size_t from, size_t to) {
    const weft_word *words;
    size_t n;
    const char *text = s->compared.data + from;
    WEFT_TRY(weft_words_split(s->splitter, text, to - from, &words, &n));
    if (n == 1 && words[0].bytes == to - from) return add_start(s, joined_at(s, from));
    /* The words with a space behind each stand for the token and the space behind it. */
    WEFT_TRY(keep(s, from, to < s->compared.bytes ? to + 1 : to));
    for (size_t i = 0; i < n; i++) {
        WEFT_TRY(add_start(s, s->joined.bytes));
        WEFT_TRY(weft_text_append(&s->joined, text + words[i].start, words[i].bytes));
        WEFT_TRY(weft_text_append(&s->joined, " ", 1));
    }
    return WEFT_OK;
}

/* The words end where the text does, whether it was copied or not. */
static weft_status end_words(weft_shingler *s) {
    size_t end = s->compared.bytes;
    if (s->kept > 0) {
        WEFT_TRY(keep(s, s->compared.bytes, s->compared.bytes));
        end = s->joined.bytes;
        while (end > 0 && s->joined.data[end - 1] == ' ') end--;
    }
    WEFT_TRY(add_start(s, end + 1));
    s->count--;
    return WEFT_OK;
}

static weft_status find_words(weft_shingler *s) {
    const unsigned char *text = (const unsigned char *)s->compared.data;
    size_t bytes = s->compared.bytes, i = 0;
    s->count = s->kept = s->joined.bytes = 0;
    while (i < bytes) {
        if (text[i] == ' ') { /* a second one, where a mark was taken out */
            WEFT_TRY(keep(s, i, i + 1));
            i++;
            continue;
        }
        size_t end = i;
        unsigned all = 0;
        for (; end < bytes && text[end] != ' '; end++) all |= text[end];
        if (all < 0x80)
            WEFT_TRY(add_start(s, joined_at(s, i)));
        else
            WEFT_TRY(add_token(s, i, end));
        i = end + 1;
    }
    return end_words(s);
}

/* ---- the hashes ---- */

static weft_status reserve_hashes(weft_shingler *s, size_t count) {
    if (count <= s->hash_capacity) return WEFT_OK;
    size_t capacity = count + count / 2;
    free(s->hashes);
    free(s->spare);
    s->hash_capacity = 0;
    s->hashes = malloc(capacity * sizeof *s->hashes);
    s->spare = malloc(capacity * sizeof *s->spare);
    if (!s->hashes || !s->spare) WEFT_FAIL(WEFT_ENOMEM, "no memory for the %zu shingles of a text", count);
    s->hash_capacity = capacity;
    return WEFT_OK;
}

weft_status weft_shingles(weft_shingler *s, const char *text, size_t bytes, const uint64_t **hashes,
                          size_t *count) {
    WEFT_TRY(weft_normalise_compared(text, bytes, &s->compared));
    WEFT_TRY(find_words(s));
    size_t shingles = s->count >= s->words ? s->count - s->words + 1 : 0;
    WEFT_TRY(reserve_hashes(s, shingles));
    const char *joined = s->kept > 0 ? s->joined.data : s->compared.data;
    for (size_t i = 0; i < shingles; i++)
        s->hashes[i] = XXH64(joined + s->starts[i], s->starts[i + s->words] - 1 - s->starts[i], 0);
    *hashes = s->hashes;
    *count = shingles;
    return WEFT_OK;
}

/* ---- sets ---- */

static void insertion_sort(uint64_t *a, size_t n) {
    for (size_t i = 1; i < n; i++) {
        uint64_t x = a[i];
        size_t j = i;
        for (; j > 0 && a[j - 1] > x; j--) a[j] = a[j - 1];
        a[j] = x;
    }
}

/* By the least significant byte first; `spare` is as long as `a`. */
static void radix_sort(uint64_t *a, uint64_t *spare, size_t n) {
    for (unsigned shift = 0; shift < 64; shift += 8) {
        size_t at[256] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++) at[a[i] >> shift & 255]++;
        for (int d = 0; d < 256; d++) {
            size_t here = at[d];
            at[d] = sum;
            sum += here;
        }
        for (size_t i = 0; i < n; i++) spare[at[a[i] >> shift & 255]++] = a[i];
        uint64_t *swap = a;
        a = spare;
        spare = swap;
    }
}

weft_status weft_shingle_set(weft_shingler *s, const char *text, size_t bytes, const uint64_t **hashes,
                             size_t *count) {
    enum { FEW = 48 };
    size_t n;
    WEFT_TRY(weft_shingles(s, text, bytes, hashes, &n));
    if (n <= FEW)
        insertion_sort(s->hashes, n);
    else
        radix_sort(s->hashes, s->spare, n);
    size_t distinct = 0;
    for (size_t i = 0; i < n; i++)
        if (distinct == 0 || s->hashes[distinct - 1] != s->hashes[i]) s->hashes[distinct++] = s->hashes[i];
    *count = distinct;
    return WEFT_OK;
}

double weft_jaccard(const uint64_t *a, size_t na, const uint64_t *b, size_t nb) {
    size_t both = 0, i = 0, j = 0;
    while (i < na && j < nb) {
        uint64_t x = a[i], y = b[j];
        both += x == y;
        i += x <= y;
        j += y <= x;
    }
    size_t either = na + nb - both;
    return either > 0 ? (double)both / (double)either : 0;
}
