/* The task needle: facts in a text of filler, asked for at its end. */
#include "data/source/synthetic_private.h"

enum { MOST = 64 /* needles */ };

/* ---- filler ---- */

/* N a noun, A an adjective, V a verb, P a preposition; all else stands as it is. */
static const char *const sentences[] = {"The A N V the A N.", "The A N V the N P the N.",
                                        "The N P the N V the A N.", "The N V the N P the A N."};
static const char *const adjectives[] = {"old", "new",   "small",  "large", "bright", "quiet",
                                         "red", "heavy", "narrow", "empty", "green",  "cold"};
static const char *const verbs[] = {"finds",  "takes", "likes", "keeps",  "leaves", "brings",
                                    "covers", "moves", "needs", "misses", "holds",  "follows"};
static const char *const prepositions[] = {"near", "behind", "under", "above", "beside", "with"};

#define DRAWN(m, list) (list)[weft_making_below(m, sizeof(list) / sizeof *(list))]

static const char *expanded(weft_making *m, char symbol) {
    switch (symbol) {
    case 'N':
        return weft_synthetic_words[weft_making_below(m, (uint64_t)m->s->vocabulary)];
    case 'A':
        return DRAWN(m, adjectives);
    case 'V':
        return DRAWN(m, verbs);
    case 'P':
        return DRAWN(m, prepositions);
    default:
        return NULL;
    }
}

static weft_status write_filler(weft_making *m) {
    for (const char *p = DRAWN(m, sentences); *p; p++) {
        const char *word = expanded(m, *p);
        WEFT_TRY(weft_making_text(m, word ? word : (const char[]){*p, 0}));
    }
    return weft_making_text(m, "\n");
}

/* ---- needles ---- */

typedef struct needles {
    int count;
    int64_t lines;      /* of the body: filler and needles */
    int word[2 * MOST]; /* the keys, then the values, in the order of the body: all different */
    int64_t line[MOST]; /* ascending */
    int asked[MOST];    /* in what order */
} needles;

static void insert(needles *n, int have, int64_t line) {
    int i = have;
    for (; i > 0 && n->line[i - 1] > line; i--) n->line[i] = n->line[i - 1];
    n->line[i] = line;
}

static bool taken(const needles *n, int have, int64_t line) {
    for (int i = 0; i < have; i++)
        if (n->line[i] == line) return true;
    return false;
}

/* `count` different lines of `of`, every set equally likely (Bentley and Floyd, "A sample of brilliance",
 * 1987). */
static void draw_lines(weft_making *m, needles *n, int count, int64_t of) {
    for (int i = 0; i < count; i++) {
        int64_t last = of - count + i, line = (int64_t)weft_making_below(m, (uint64_t)last + 1);
        insert(n, i, taken(n, i, line) ? last : line);
    }
}

/* Where the needles stand and in what order they are asked for. At a depth that is given, its line is left
 * out of the draw, and the needle there comes first. */
static void place(weft_making *m, needles *n) {
    weft_making_choose(m, n->count, n->count, n->asked);
    if (m->s->depth < 0) {
        draw_lines(m, n, n->count, n->lines);
        return;
    }
    int64_t line = (int64_t)(m->s->depth * (double)(n->lines - 1) + 0.5);
    draw_lines(m, n, n->count - 1, n->lines - 1);
    for (int i = 0; i < n->count - 1; i++) n->line[i] += n->line[i] >= line;
    insert(n, n->count - 1, line);
    for (int i = 0; i < n->count; i++) {
        if (n->line[n->asked[i]] != line) continue;
        int first = n->asked[i];
        n->asked[i] = n->asked[0];
        n->asked[0] = first;
    }
}

static weft_status write_needle(weft_making *m, const needles *n, int i, bool answer) {
    WEFT_TRY(weft_making_text(m, "The magic word of"));
    WEFT_TRY(weft_making_word(m, weft_synthetic_words[n->word[i]], false));
    WEFT_TRY(weft_making_text(m, " is"));
    WEFT_TRY(weft_making_word(m, weft_synthetic_words[n->word[n->count + i]], answer));
    return weft_making_text(m, ".\n");
}

weft_status weft_making_needle(weft_making *m) {
    int64_t fillers = weft_making_from(m, m->s->sentences);
    needles n = {.count = (int)weft_making_from(m, m->s->needles)};
    int next = 0;
    n.lines = fillers + n.count;
    weft_making_choose(m, 2 * n.count, (int)m->s->vocabulary, n.word);
    place(m, &n);
    for (int64_t line = 0; line < n.lines; line++) {
        bool needle = next < n.count && n.line[next] == line;
        WEFT_TRY(needle ? write_needle(m, &n, next++, false) : write_filler(m));
    }
    for (int i = 0; i < n.count; i++) WEFT_TRY(write_needle(m, &n, n.asked[i], true));
    return WEFT_OK;
}
