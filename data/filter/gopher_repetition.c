/* Repetition within a document as in Gopher: lines, paragraphs and n-grams of words. Words are segments of
 * UAX #29.
 *
 * Linear in the text: pieces and n-grams are told apart by 64-bit hashes in open hash tables. An n-gram can
 * be repeated only where its first n - 1 words are, so each size looks only at the places that the size
 * before left over; of ordinary prose few are left after 4 words. */
#include "data/filter/signals.h"
#include "runtime/hash.h"

#include <stdlib.h>
#include <string.h>

#define RAE "Rae et al. 2021 (Gopher), table A1"

enum {
    PARAGRAPHS,
    PARAGRAPH_CHARACTERS,
    LINES,
    LINE_CHARACTERS,
    TOP_2,
    DUPLICATE_5 = TOP_2 + 3,
    RULES = DUPLICATE_5 + 6
};
enum { FIRST_TOP = 2, LAST_TOP = 4, LAST_DUPLICATE = 10 };

#define TOP(n, bound)                                                                                        \
    {                                                                                                        \
        "max_top_" #n "_gram", WEFT_RULE_MAX, bound, WEFT_SCALE_SHARE,                                       \
            "share of characters in the most frequent " #n "-gram of words", RAE                             \
    }
#define DUPLICATE(n, bound)                                                                                  \
    {                                                                                                        \
        "max_duplicate_" #n "_grams", WEFT_RULE_MAX, bound, WEFT_SCALE_SHARE,                                \
            "share of characters in repeated " #n "-grams of words, none counted twice", RAE                 \
    }

static const weft_rule rules[RULES] = {
    [PARAGRAPHS] = {"max_duplicate_paragraphs", WEFT_RULE_MAX, 0.3, WEFT_SCALE_SHARE,
                    "share of paragraphs that repeat an earlier one", RAE},
    [PARAGRAPH_CHARACTERS] = {"max_duplicate_paragraph_characters", WEFT_RULE_MAX, 0.2, WEFT_SCALE_SHARE,
                              "share of characters in paragraphs that repeat an earlier one", RAE},
    [LINES] = {"max_duplicate_lines", WEFT_RULE_MAX, 0.3, WEFT_SCALE_SHARE,
               "share of lines that repeat an earlier one", RAE},
    [LINE_CHARACTERS] = {"max_duplicate_line_characters", WEFT_RULE_MAX, 0.2, WEFT_SCALE_SHARE,
                         "share of characters in lines that repeat an earlier one", RAE},
    [TOP_2] = TOP(2, 0.2),
    [TOP_2 + 1] = TOP(3, 0.18),
    [TOP_2 + 2] = TOP(4, 0.16),
    [DUPLICATE_5] = DUPLICATE(5, 0.15),
    [DUPLICATE_5 + 1] = DUPLICATE(6, 0.14),
    [DUPLICATE_5 + 2] = DUPLICATE(7, 0.13),
    [DUPLICATE_5 + 3] = DUPLICATE(8, 0.12),
    [DUPLICATE_5 + 4] = DUPLICATE(9, 0.11),
    [DUPLICATE_5 + 5] = DUPLICATE(10, 0.1),
};

/* Place where an n-gram may be repeated, and the hash of the n words from there. */
typedef struct place {
    uint64_t hash;
    uint32_t word;
    uint32_t
        copies; /* of the same n-gram, counted at its first place; elsewhere 0, or 1 when there is another */
} place;

typedef struct scratch {
    weft_hash_set set;
    uint64_t *hashes; /* [capacity] of the words */
    uint32_t *ends;   /* [capacity + 1] characters in the words before each */
    place *places;    /* [capacity] */
    size_t capacity;  /* more than there are words */
} scratch;

static void scratch_release(scratch *s) {
    weft_hash_set_free(&s->set);
    free(s->hashes);
    free(s->ends);
    free(s->places);
    *s = (scratch){0};
}

static weft_status scratch_reserve(scratch *s, size_t words) {
    if (words < s->capacity) return WEFT_OK;
    scratch_release(s);
    size_t capacity = words + words / 2 + 1;
    s->hashes = malloc(capacity * sizeof *s->hashes);
    s->ends = malloc((capacity + 1) * sizeof *s->ends);
    s->places = malloc(capacity * sizeof *s->places);
    if (!s->hashes || !s->ends || !s->places)
        WEFT_FAIL(WEFT_ENOMEM, "no memory to find repetitions among %zu words", words);
    s->capacity = capacity;
    return WEFT_OK;
}

/* ---- lines and paragraphs ---- */

/* Cut at runs of at least `newlines` LF. */
static weft_status look_at_pieces(scratch *s, weft_span text, size_t newlines, size_t characters,
                                  double values[2]) {
    weft_repeats r = {0};
    weft_span piece;
    WEFT_TRY(weft_hash_set_clear(&s->set, weft_count_byte(text.at, text.bytes, '\n') / newlines + 1));
    while (weft_next_piece(&text, newlines, &piece)) weft_repeats_add(&r, &s->set, piece);
    values[0] = r.pieces ? (double)r.repeated / (double)r.pieces : 0;
    values[1] = (double)r.repeated_characters / (double)characters;
    return WEFT_OK;
}

/* ---- n-grams ---- */

static void hash_words(scratch *s, const weft_filter_input *in) {
    s->ends[0] = 0;
    for (size_t i = 0; i < in->word_count; i++) {
        const weft_word *w = &in->words[i];
        s->hashes[i] = weft_hash64(in->text + w->start, w->bytes, 0);
        s->ends[i + 1] = s->ends[i] + w->characters;
        s->places[i] = (place){.hash = s->hashes[i], .word = (uint32_t)i};
    }
}

/* Makes the hashes of n - 1 words those of n; places without n words, the last ones, go. Returns how many are
 * left. */
static size_t lengthen(scratch *s, size_t places, size_t words, size_t n) {
    while (places > 0 && s->places[places - 1].word + n > words) places--;
    for (size_t i = 0; i < places; i++) {
        place *p = &s->places[i];
        p->hash = p->hash * 0x9e3779b97f4a7c15u + s->hashes[p->word + n - 1]; /* a polynomial, modulo 2^64 */
        p->copies = 0;
    }
    return places;
}

/* Counts the copies of each n-gram; returns the first of the most frequent. A slot of the table holds the
 * upper half of the hash and the number of the place, from 1. */
static size_t count_copies(scratch *s, size_t places) {
    size_t top = 0;
    for (size_t i = 0; i < places; i++) {
        place *p = &s->places[i], *first = NULL;
        size_t at = p->hash & s->set.mask;
        for (uint64_t slot; (slot = s->set.slots[at]) != 0; at = (at + 1) & s->set.mask) {
            if (slot >> 32 != p->hash >> 32) continue;
            first = &s->places[(uint32_t)slot - 1];
            if (first->hash == p->hash) break;
            first = NULL;
        }
        if (first) {
            first->copies = first->copies == 0 ? 2 : first->copies + 1;
            p->copies = 1;
            size_t index = (size_t)(first - s->places);
            uint32_t best = s->places[top].copies;
            if (first->copies > best || (first->copies == best && index < top)) top = index;
        } else {
            s->set.slots[at] = (p->hash >> 32 << 32) | (uint32_t)(i + 1);
        }
    }
    return top;
}

static size_t keep_repeated(scratch *s, size_t places) {
    size_t kept = 0;
    for (size_t i = 0; i < places; i++)
        if (s->places[i].copies > 0) s->places[kept++] = s->places[i];
    return kept;
}

static size_t characters_of(const scratch *s, size_t word, size_t n) {
    return s->ends[word + n] - s->ends[word];
}

/* Characters in n-grams that occurred before, from the left; the next is looked for behind one that was
 * found. */
static size_t duplicate_characters(scratch *s, size_t places, size_t n) {
    size_t characters = 0, next = 0;
    for (size_t i = 0; i < places; i++) {
        const place *p = &s->places[i];
        if (p->word < next || !weft_hash_set_add(&s->set, p->hash)) continue;
        characters += characters_of(s, p->word, n);
        next = p->word + n;
    }
    return characters;
}

static weft_status look_at_ngrams(scratch *s, const weft_filter_input *in, size_t characters,
                                  double *values) {
    size_t words = in->word_count, places = words;
    hash_words(s, in);
    for (size_t n = FIRST_TOP; n <= LAST_TOP; n++) {
        places = lengthen(s, places, words, n);
        WEFT_TRY(weft_hash_set_clear(&s->set, places));
        size_t top = count_copies(s, places);
        /* where none is repeated, the most frequent is the first of the text */
        bool repeated = places > 0 && s->places[top].copies > 0;
        size_t word = repeated ? s->places[top].word : 0, copies = repeated ? s->places[top].copies : 1;
        size_t each = words >= n ? characters_of(s, word, n) + n - 1 : 0; /* with a space between words */
        values[TOP_2 + n - FIRST_TOP] = (double)(each * copies) / (double)characters;
        places = keep_repeated(s, places);
    }
    for (size_t n = LAST_TOP + 1; n <= LAST_DUPLICATE; n++) {
        places = lengthen(s, places, words, n);
        WEFT_TRY(weft_hash_set_clear(&s->set, places));
        values[DUPLICATE_5 + n - LAST_TOP - 1] =
            (double)duplicate_characters(s, places, n) / (double)characters;
    }
    return WEFT_OK;
}

/* ---- the filter ---- */

static weft_status look(scratch *s, const weft_filter_input *in, double *values) {
    WEFT_TRY(scratch_reserve(s, in->word_count));
    weft_span text = {in->text, in->bytes};
    size_t characters = weft_characters(in->text, in->bytes);
    WEFT_TRY(look_at_pieces(s, weft_strip(text), 2, characters, &values[PARAGRAPHS]));
    WEFT_TRY(look_at_pieces(s, text, 1, characters, &values[LINES]));
    return look_at_ngrams(s, in, characters, values);
}

static weft_status make(void **item) {
    *item = calloc(1, sizeof(scratch));
    if (!*item) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filter gopher_repetition");
    return WEFT_OK;
}

static void destroy(void *item) {
    scratch_release(item);
    free(item);
}

static weft_status open_filter(void **state, const char *const *values) {
    (void)values;
    weft_pool *pool;
    WEFT_TRY(weft_pool_new(&pool, make, destroy));
    *state = pool;
    return WEFT_OK;
}

static void close_filter(void *state) {
    weft_pool_free(state);
}

static weft_status signals(void *state, const weft_filter_input *in, double *values, weft_text *changed,
                           bool *has_changed) {
    (void)changed;
    *has_changed = false;
    void *item;
    WEFT_TRY(weft_pool_take(state, &item));
    scratch *s = item;
    weft_status st = look(s, in, values);
    if (s->capacity * sizeof *s->places > WEFT_SCRATCH_KEPT) scratch_release(s);
    weft_pool_give(state, s);
    return st;
}

const weft_filter_kind weft_filter_gopher_repetition = {
    .name = "gopher_repetition",
    .summary = "lines, paragraphs and n-grams of words that a document repeats",
    .rules = rules,
    .rule_count = RULES,
    .open = open_filter,
    .close = close_filter,
    .signals = signals,
};
