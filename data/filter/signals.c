#include "data/filter/signals.h"
#include "runtime/hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>

/* ---- characters ---- */

size_t weft_characters(const char *text, size_t bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += (text[i] & 0xc0) != 0x80; /* all but continuation bytes */
    return n;
}

size_t weft_count_byte(const char *text, size_t bytes, char which) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += text[i] == which;
    return n;
}

static bool space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

size_t weft_space_at(const char *p, const char *end) {
    if (p == end) return 0;
    size_t bytes;
    return space(weft_character(p, &bytes)) ? bytes : 0;
}

/* Start of the character that ends at `end`. */
static const char *before(const char *start, const char *end) {
    for (end--; end > start && (*end & 0xc0) == 0x80;) end--;
    return end;
}

weft_span weft_strip(weft_span s) {
    const char *p = s.at, *end = s.at + s.bytes;
    for (size_t n; (n = weft_space_at(p, end)) > 0;) p += n;
    while (end > p) {
        const char *last = before(p, end);
        if (!weft_space_at(last, end)) break;
        end = last;
    }
    return (weft_span){p, (size_t)(end - p)};
}

bool weft_starts(weft_span s, const char *beginning) {
    size_t n = strlen(beginning);
    return s.bytes >= n && memcmp(s.at, beginning, n) == 0;
}

bool weft_ends(weft_span s, const char *ending) {
    size_t n = strlen(ending);
    return s.bytes >= n && memcmp(s.at + s.bytes - n, ending, n) == 0;
}

bool weft_sentence_terminal(uint32_t c) {
    if (c < 0x80) return c == '.' || c == '!' || c == '?';
    return u_hasBinaryProperty((UChar32)c, UCHAR_S_TERM);
}

bool weft_ends_sentence(weft_span s) {
    if (s.bytes == 0) return false;
    size_t bytes;
    return weft_sentence_terminal(weft_character(before(s.at, s.at + s.bytes), &bytes));
}

/* ---- lines ---- */

/* Bytes of the line end at p, 0: none. */
static size_t line_end(const char *p, const char *end) {
    unsigned char c = (unsigned char)*p;
    if (c == '\r') return p + 1 < end && p[1] == '\n' ? 2 : 1;
    if ((c >= '\n' && c <= '\f') || (c >= 0x1c && c <= 0x1e)) return 1;
    if (c == 0xc2) return (unsigned char)p[1] == 0x85 ? 2 : 0;
    if (c != 0xe2 || (unsigned char)p[1] != 0x80) return 0;
    return ((unsigned char)p[2] & 0xfe) == 0xa8 ? 3 : 0; /* U+2028, U+2029 */
}

bool weft_next_line(weft_span *rest, weft_span *line) {
    /* the bytes that a line end can begin with */
    static const bool begins[256] = {
        ['\n'] = true, ['\v'] = true, ['\f'] = true, ['\r'] = true, [0x1c] = true,
        [0x1d] = true, [0x1e] = true, [0xc2] = true, [0xe2] = true};
    if (rest->bytes == 0) return false;
    const char *p = rest->at, *end = p + rest->bytes;
    size_t skip = 0;
    for (; p < end; p++)
        if (begins[(unsigned char)*p] && (skip = line_end(p, end)) > 0) break;
    *line = (weft_span){rest->at, (size_t)(p - rest->at)};
    p += skip;
    *rest = (weft_span){p, (size_t)(end - p)};
    return true;
}

bool weft_next_piece(weft_span *rest, size_t newlines, weft_span *piece) {
    const char *start = rest->at, *end = start + rest->bytes, *from = start;
    while (start < end) {
        const char *stop = memchr(from, '\n', (size_t)(end - from)), *next = stop;
        if (!stop) stop = next = end;
        while (next < end && *next == '\n') next++;
        from = next;
        if (next < end && (size_t)(next - stop) < newlines) continue;
        if ((size_t)(next - stop) < newlines)
            stop = end; /* too few of them at the end are part of the piece */
        if (stop > start) {
            *piece = (weft_span){start, (size_t)(stop - start)};
            *rest = (weft_span){next, (size_t)(end - next)};
            return true;
        }
        start = next;
    }
    *rest = (weft_span){end, 0};
    return false;
}

/* ---- sets of hashes ---- */

weft_status weft_hash_set_clear(weft_hash_set *s, size_t count) {
    size_t slots = 16;
    while (slots < count + count / 2 + 1) slots *= 2; /* at most two thirds are taken */
    if (slots > s->capacity) {
        free(s->slots);
        s->capacity = 0;
        s->slots = malloc(slots * sizeof *s->slots);
        if (!s->slots)
            WEFT_FAIL(WEFT_ENOMEM, "no memory to find repetitions in a document of %zu pieces", count);
        s->capacity = slots;
    }
    memset(s->slots, 0, slots * sizeof *s->slots);
    s->mask = slots - 1;
    return WEFT_OK;
}

void weft_hash_set_free(weft_hash_set *s) {
    free(s->slots);
    *s = (weft_hash_set){0};
}

void weft_hash_set_shrink(weft_hash_set *s) {
    if (s->capacity * sizeof *s->slots > WEFT_SCRATCH_KEPT) weft_hash_set_free(s);
}

void weft_repeats_add(weft_repeats *r, weft_hash_set *seen, weft_span piece) {
    r->pieces++;
    if (!weft_hash_set_add(seen, weft_hash64(piece.at, piece.bytes, 0))) return;
    r->repeated++;
    r->repeated_characters += weft_characters(piece.at, piece.bytes);
}

/* ---- options ---- */

bool weft_next_part(weft_span *rest, weft_span *part) {
    if (!rest->at) return false;
    const char *comma = memchr(rest->at, ',', rest->bytes);
    size_t bytes = comma ? (size_t)(comma - rest->at) : rest->bytes;
    *part = weft_strip((weft_span){rest->at, bytes});
    *rest = comma ? (weft_span){comma + 1, rest->bytes - bytes - 1} : (weft_span){NULL, 0};
    return true;
}

weft_status weft_whole_number(const char *filter, const char *option, const char *value, int64_t otherwise,
                              int64_t *out) {
    if (!value) {
        *out = otherwise;
        return WEFT_OK;
    }
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || errno != 0 || n < 0)
        WEFT_FAIL(WEFT_EINPUT, "filter %s: %s: \"%s\" is no whole number from 0 on", filter, option, value);
    *out = n;
    return WEFT_OK;
}

/* ---- scratch ---- */

struct weft_pool {
    pthread_mutex_t lock;
    weft_status (*make)(void **item);
    void (*destroy)(void *item);
    void **items;
    size_t count, capacity;
};

weft_status weft_pool_new(weft_pool **out, weft_status (*make)(void **item), void (*destroy)(void *item)) {
    weft_pool *p = calloc(1, sizeof *p);
    if (!p) WEFT_FAIL(WEFT_ENOMEM, "no memory for a filter");
    pthread_mutex_init(&p->lock, NULL);
    p->make = make;
    p->destroy = destroy;
    *out = p;
    return WEFT_OK;
}

void weft_pool_free(weft_pool *p) {
    if (!p) return;
    for (size_t i = 0; i < p->count; i++) p->destroy(p->items[i]);
    pthread_mutex_destroy(&p->lock);
    free(p->items);
    free(p);
}

weft_status weft_pool_take(weft_pool *p, void **item) {
    *item = NULL;
    pthread_mutex_lock(&p->lock);
    if (p->count > 0) *item = p->items[--p->count];
    pthread_mutex_unlock(&p->lock);
    return *item ? WEFT_OK : p->make(item);
}

void weft_pool_give(weft_pool *p, void *item) {
    pthread_mutex_lock(&p->lock);
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 16;
        void **items = realloc(p->items, capacity * sizeof *items);
        if (items) {
            p->items = items;
            p->capacity = capacity;
        }
    }
    bool kept = p->count < p->capacity;
    if (kept) p->items[p->count++] = item;
    pthread_mutex_unlock(&p->lock);
    if (!kept) p->destroy(item); /* no memory to remember it: the next call makes another */
}
