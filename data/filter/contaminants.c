#include "data/filter/evaluation.h"
#include "data/filter/filter.h"
#include "data/filter/ngrams.h"
#include "runtime/fs.h"
#include "runtime/log.h"

#include <stdlib.h>
#include <string.h>

enum { LINE_BITS = 44, MAX_FILES = 1 << (64 - LINE_BITS - 1) };

/* A word of a document is in the set by mistake with a probability of (n-grams in the set) * 2^-64: of 10^7
 * n-grams and 10^12 words half a false match is expected, and n-grams are not stored to look again. */
struct weft_contaminants {
    int n, prefix; /* prefix: words of the shortest run that is taken */
    weft_ngram_set set;
    int64_t texts, too_short;
};

/* ---- making ---- */
typedef struct taking {
    weft_contaminants *to;
    int64_t file;
    weft_words *words;
    weft_text compared;
    weft_words_rolled rolled;       /* words of the text that is being read */
    int64_t lines[WEFT_NGRAM_RING]; /* that each of the last words is on */
} taking;

/* The run of the last `length` words. */
static weft_status take_run(taking *t, int length) {
    const weft_words_rolled *r = &t->rolled;
    int64_t first = r->count - length, line = t->lines[first % WEFT_NGRAM_RING];
    return weft_ngram_set_add(&t->to->set, weft_words_rolled_hash(r, first, length), length,
                              weft_words_rolled_hash(r, first, t->to->prefix),
                              (uint64_t)t->file << LINE_BITS | (uint64_t)line);
}

static weft_status take_piece(void *arg, const char *text, size_t bytes, int64_t line) {
    taking *t = arg;
    const weft_word *words;
    size_t count;
    WEFT_TRY(weft_normalise_compared(text, bytes, &t->compared));
    WEFT_TRY(weft_words_split(t->words, t->compared.data, t->compared.bytes, &words, &count));
    for (size_t i = 0; i < count; i++) {
        t->lines[t->rolled.count % WEFT_NGRAM_RING] = line;
        weft_words_rolled_add(&t->rolled, t->compared.data + words[i].start, words[i].bytes);
        if (t->rolled.count >= t->to->n) WEFT_TRY(take_run(t, t->to->n));
    }
    return WEFT_OK;
}

static weft_status end_text(void *arg) {
    taking *t = arg;
    int64_t words = t->rolled.count;
    if (words >= t->to->prefix && words < t->to->n) WEFT_TRY(take_run(t, (int)words));
    *(words >= t->to->prefix ? &t->to->texts : &t->to->too_short) += 1;
    weft_words_rolled_start(&t->rolled);
    return WEFT_OK;
}

static weft_status take_file(taking *t, const char *path) {
    int64_t before = t->to->texts;
    if (t->file >= MAX_FILES) WEFT_FAIL(WEFT_EINPUT, "more than %d evaluation files", MAX_FILES);
    weft_words_rolled_start(&t->rolled);
    WEFT_TRY(weft_evaluation_read(path, take_piece, end_text, t));
    if (t->to->texts == before)
        weft_warn("%s: no text of %d words or more: nothing of it will be found", path, t->to->prefix);
    t->file++;
    return WEFT_OK;
}

static weft_status take_files(taking *t, const char *files) {
    for (const char *name = files; name;) {
        const char *comma = strchr(name, ',');
        size_t bytes = comma ? (size_t)(comma - name) : strlen(name);
        while (bytes > 0 && *name == ' ') name++, bytes--;
        while (bytes > 0 && name[bytes - 1] == ' ') bytes--;
        if (bytes == 0) WEFT_FAIL(WEFT_EINPUT, "evaluation files '%s': a name is empty", files);
        char *path = weft_format("%.*s", (int)bytes, name);
        if (!path) WEFT_FAIL(WEFT_ENOMEM, "no memory for the names of evaluation files");
        weft_status st = take_file(t, path);
        free(path);
        WEFT_TRY(st);
        name = comma ? comma + 1 : NULL;
    }
    if (t->to->texts == 0)
        WEFT_FAIL(WEFT_EINPUT, "evaluation files '%s': no text of %d words or more in them", files,
                  t->to->prefix);
    return weft_ngram_set_finish(&t->to->set);
}

weft_status weft_contaminants_open(weft_contaminants **out, const char *files, int n, int shortest) {
    if (n < 1 || n > WEFT_NGRAM_MAX || shortest < 1)
        WEFT_FAIL(WEFT_EINPUT, "n-grams of %d words, texts from %d words on: 1 to %d, and 1 or more", n,
                  shortest, WEFT_NGRAM_MAX);
    weft_contaminants *c = calloc(1, sizeof *c);
    taking *t = calloc(1, sizeof *t);
    weft_status st = WEFT_OK;
    if (!c || !t) st = weft_fail(WEFT_ENOMEM, "no memory for evaluation texts");
    if (st == WEFT_OK) st = weft_words_new(&t->words);
    if (st == WEFT_OK) {
        c->n = n;
        c->prefix = shortest < n ? shortest : n;
        t->to = c;
        st = take_files(t, files);
        weft_text_free(&t->compared);
        weft_words_free(t->words);
    }
    free(t);
    if (st != WEFT_OK) {
        weft_contaminants_close(c);
        return st;
    }
    *out = c;
    return WEFT_OK;
}

void weft_contaminants_close(weft_contaminants *c) {
    if (!c) return;
    weft_ngram_set_free(&c->set);
    free(c);
}

int64_t weft_contaminants_count(const weft_contaminants *c, int64_t *too_short) {
    if (too_short) *too_short = c->too_short;
    return c->texts;
}

/* ---- looking ---- */
/* Words of the longest run that begins at word `first`, 0: none. Words up to rolled->count are known. */
static int run_at(const weft_contaminants *c, const weft_words_rolled *r, int64_t first, uint64_t *origin) {
    int most = r->count - first < c->n ? (int)(r->count - first) : c->n;
    if (most < c->prefix || !weft_ngram_set_may_have(&c->set, weft_words_rolled_hash(r, first, c->prefix)))
        return 0;
    for (int length = most; length >= c->prefix; length--) {
        if (!(c->set.lengths >> (length - 1) & 1)) continue;
        *origin = weft_ngram_set_find(&c->set, weft_words_rolled_hash(r, first, length));
        if (*origin) return length;
    }
    return 0;
}

static void describe(weft_contamination *out, const char *text, const weft_word *first, const weft_word *last,
                     uint64_t origin) {
    size_t bytes = last->start + last->bytes - first->start;
    if (bytes >= sizeof out->excerpt) {
        bytes = sizeof out->excerpt - 1;
        while (bytes > 0 && (text[first->start + bytes] & 0xc0) == 0x80) bytes--; /* whole characters */
    }
    memcpy(out->excerpt, text + first->start, bytes);
    out->excerpt[bytes] = '\0';
    out->file = (int32_t)(origin >> LINE_BITS);
    out->text = (int64_t)(origin & ((UINT64_C(1) << LINE_BITS) - 1));
}

static void look(const weft_contaminants *c, const char *text, const weft_word *words, int64_t count,
                 weft_contamination *out) {
    weft_words_rolled rolled;
    int64_t covered = 0, end = 0; /* words in runs; behind the last of them */
    weft_words_rolled_start(&rolled);
    for (int64_t first = 0; first < count; first++) {
        while (rolled.count < count && rolled.count < first + c->n)
            weft_words_rolled_add(&rolled, text + words[rolled.count].start, words[rolled.count].bytes);
        uint64_t origin;
        int length = run_at(c, &rolled, first, &origin);
        if (length == 0) continue;
        if (out->matches++ == 0) describe(out, text, &words[first], &words[first + length - 1], origin);
        int64_t from = first > end ? first : end;
        if (first + length > from) {
            covered += first + length - from;
            end = first + length;
        }
    }
    out->share = count > 0 ? (double)covered / (double)count : 0;
}

weft_status weft_contaminated(const weft_contaminants *c, weft_words *words, const char *text, size_t bytes,
                              weft_contamination *out) {
    weft_text compared = {0};
    const weft_word *list;
    size_t count;
    weft_status st = weft_normalise_compared(text, bytes, &compared);
    if (st == WEFT_OK) st = weft_words_split(words, compared.data, compared.bytes, &list, &count);
    if (st == WEFT_OK) {
        *out = (weft_contamination){.file = -1};
        look(c, compared.data, list, (int64_t)count, out);
    }
    weft_text_free(&compared);
    return st;
}
