/* The tasks: recall, copy, labels (needle: synthetic_needle.c). */
#include "data/source/synthetic_private.h"

#include <stdlib.h>

enum { WORDS = WEFT_SYNTHETIC_WORDS, GROUPS = WEFT_SYNTHETIC_GROUPS, OF_GROUP = WEFT_SYNTHETIC_GROUP_WORDS };

static const char *drawn_word(weft_making *m) {
    return weft_synthetic_words[weft_making_below(m, (uint64_t)m->s->vocabulary)];
}

/* ---- recall ---- */

typedef struct pairs {
    int count, key[WORDS], value[WORDS];
} pairs;

static weft_status write_pair(weft_making *m, const pairs *p, int i, bool answer) {
    WEFT_TRY(weft_making_text(m, weft_synthetic_words[p->key[i]]));
    WEFT_TRY(weft_making_word(m, weft_synthetic_words[p->value[i]], answer));
    return weft_making_text(m, "\n");
}

weft_status weft_making_recall(weft_making *m) {
    pairs p = {.count = (int)weft_making_from(m, m->s->pairs)};
    int order[WORDS];
    weft_making_choose(m, p.count, (int)m->s->vocabulary, p.key);
    for (int i = 0; i < p.count; i++) p.value[i] = (int)weft_making_below(m, (uint64_t)m->s->vocabulary);
    weft_making_choose(m, p.count, p.count, order);
    WEFT_TRY(weft_making_text(m, "pairs\n"));
    for (int i = 0; i < p.count; i++) WEFT_TRY(write_pair(m, &p, i, false));
    WEFT_TRY(weft_making_text(m, "recall\n"));
    for (int i = 0; i < p.count; i++) WEFT_TRY(write_pair(m, &p, order[i], true));
    return WEFT_OK;
}

/* ---- copy ---- */

/* The line's words are draws `from` and those behind it, so that the second line needs no copy of the first.
 */
static weft_status write_line(weft_making *m, const char *head, uint64_t from, int64_t count, bool answers) {
    m->next = from;
    WEFT_TRY(weft_making_text(m, head));
    WEFT_TRY(weft_making_text(m, drawn_word(m)));
    for (int64_t i = 1; i < count; i++) WEFT_TRY(weft_making_word(m, drawn_word(m), answers));
    return weft_making_text(m, "\n");
}

weft_status weft_making_copy(weft_making *m) {
    int64_t count = weft_making_from(m, m->s->words);
    uint64_t from = m->next;
    WEFT_TRY(write_line(m, "copy\n", from, count, false));
    return write_line(m, "again\n", from, count, true);
}

/* ---- labels ---- */

typedef struct classes {
    int count, group[GROUPS];
    const char *label[GROUPS];
    int shown[GROUPS], shown_count; /* classes, in the order in which the lines show them first */
} classes;

static bool of_classes(const classes *c, int word) {
    for (int i = 0; i < c->count; i++)
        if (word / OF_GROUP == c->group[i]) return true;
    return false;
}

/* A label is a word of none of the groups that the document shows: it would be an example and an answer. */
static void draw_labels(weft_making *m, classes *c) {
    int others[WORDS], count = 0, chosen[GROUPS];
    for (int word = 0; word < WORDS; word++)
        if (!of_classes(c, word)) others[count++] = word;
    weft_making_choose(m, c->count, count, chosen);
    for (int i = 0; i < c->count; i++) c->label[i] = weft_synthetic_words[others[chosen[i]]];
}

static bool was_shown(const classes *c, int class) {
    for (int i = 0; i < c->shown_count; i++)
        if (c->shown[i] == class) return true;
    return false;
}

static weft_status write_example(weft_making *m, classes *c, bool last) {
    /* the last line can be answered: its group is one of those before it */
    int class = last ? c->shown[weft_making_below(m, (uint64_t)c->shown_count)]
                     : (int)weft_making_below(m, (uint64_t)c->count);
    bool known = was_shown(c, class);
    int two[2];
    weft_making_choose(m, 2, OF_GROUP, two);
    const char *const *words = weft_synthetic_words + (ptrdiff_t)c->group[class] * OF_GROUP;
    WEFT_TRY(weft_making_text(m, words[two[0]]));
    WEFT_TRY(weft_making_word(m, words[two[1]], false));
    WEFT_TRY(weft_making_text(m, " =>"));
    WEFT_TRY(weft_making_word(m, c->label[class], known));
    if (!known) {
        c->shown[c->shown_count++] = class;
        m->d->choices[m->d->choices_count++] = c->label[class];
    }
    return weft_making_text(m, "\n");
}

weft_status weft_making_labels(weft_making *m) {
    classes c = {.count = (int)weft_making_from(m, m->s->classes)};
    int64_t examples = weft_making_from(m, m->s->examples);
    weft_making_choose(m, c.count, GROUPS, c.group);
    for (int i = 0; i < c.count; i++) c.label[i] = weft_synthetic_group_names[c.group[i]];
    if (m->s->random_labels) draw_labels(m, &c);
    WEFT_TRY(weft_making_text(m, "sort\n"));
    for (int64_t i = 0; i < examples; i++) WEFT_TRY(write_example(m, &c, i + 1 == examples));
    return WEFT_OK;
}
