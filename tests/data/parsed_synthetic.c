#include "parsed_synthetic.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

enum { WORDS = 256, GROUPS = 8, OF_GROUP = 12 };

int parsed_word(const char *word) {
    for (int i = 0; i < WORDS; i++)
        if (strcmp(weft_synthetic_words[i], word) == 0) return i;
    return -1;
}

/* ---- a text, word for word ---- */

typedef struct cursor {
    const weft_synthetic_document *d;
    const char *at;
    size_t answered; /* answers that were met */
} cursor;

static cursor start(const weft_synthetic_document *d) {
    ck_assert_uint_eq(strlen(d->text), d->bytes);
    return (cursor){.d = d, .at = d->text};
}

static bool follows(const cursor *c, const char *text) {
    return strncmp(c->at, text, strlen(text)) == 0;
}

static void pass(cursor *c, const char *text) {
    if (!follows(c, text)) ck_abort_msg("'%s' stands where '%s' should, in:\n%s", c->at, text, c->d->text);
    c->at += strlen(text);
}

static int take(cursor *c) {
    char word[PARSED_WORD];
    size_t n = strspn(c->at, "abcdefghijklmnopqrstuvwxyz");
    snprintf(word, sizeof word, "%.*s", (int)n, c->at);
    c->at += n;
    int found = n < sizeof word ? parsed_word(word) : -1;
    if (found < 0) ck_abort_msg("'%s' is none of the words", word);
    return found;
}

/* A space and this very word, which are the next answer. */
static void answer(cursor *c, const char *word) {
    if (c->answered == c->d->answers_count) ck_abort_msg("'%s' is no answer", c->at);
    weft_answer a = c->d->answers[c->answered++];
    size_t begin = (size_t)(c->at - c->d->text);
    pass(c, " ");
    pass(c, word);
    if (a.begin != begin || a.end != begin + 1 + strlen(word) || !strchr(" \n.", *c->at))
        ck_abort_msg("'%.*s' is the answer where ' %s' should be", (int)(a.end - a.begin),
                     c->d->text + a.begin, word);
}

static void stop(const cursor *c) {
    ck_assert_str_eq(c->at, "");
    ck_assert_uint_eq(c->answered, c->d->answers_count);
}

/* ---- tasks ---- */

parsed parsed_recall(const weft_synthetic_document *d) {
    int value_of[WORDS], order[WORDS];
    bool values[WORDS] = {false}, asked[WORDS] = {false};
    parsed p = {.same_order = true};
    for (int i = 0; i < WORDS; i++) value_of[i] = -1;
    cursor c = start(d);
    for (pass(&c, "pairs\n"); !follows(&c, "recall\n"); pass(&c, "\n")) {
        int key = take(&c);
        ck_assert_int_eq(value_of[key], -1);
        pass(&c, " ");
        int value = value_of[key] = take(&c);
        p.repeats = p.repeats || values[value];
        values[value] = true;
        order[p.items++] = key;
    }
    pass(&c, "recall\n");
    for (int64_t i = 0; i < p.items; i++, pass(&c, "\n")) {
        int key = take(&c);
        ck_assert(value_of[key] >= 0 && !asked[key]);
        asked[key] = true;
        p.same_order = p.same_order && order[i] == key;
        answer(&c, weft_synthetic_words[value_of[key]]);
    }
    stop(&c);
    return p;
}

parsed parsed_copy(const weft_synthetic_document *d) {
    static int line[100000];
    bool seen[WORDS] = {false};
    parsed p = {0};
    cursor c = start(d);
    for (pass(&c, "copy\n"); *c.at != '\n'; p.items++) {
        if (p.items > 0) pass(&c, " ");
        int word = line[p.items] = take(&c);
        p.repeats = p.repeats || seen[word];
        seen[word] = true;
    }
    pass(&c, "\nagain\n");
    pass(&c, weft_synthetic_words[line[0]]);
    for (int64_t i = 1; i < p.items; i++) answer(&c, weft_synthetic_words[line[i]]);
    pass(&c, "\n");
    stop(&c);
    return p;
}

/* Four nouns of the list at most, and words of the grammar. */
static void pass_filler(cursor *c) {
    char word[PARSED_WORD];
    int nouns = 0;
    for (pass(c, "The "); *c->at != '.'; c->at += *c->at == ' ') {
        size_t n = strspn(c->at, "abcdefghijklmnopqrstuvwxyz");
        if (n == 0 || n >= sizeof word) ck_abort_msg("'%s' is no sentence", c->at);
        snprintf(word, sizeof word, "%.*s", (int)n, c->at);
        nouns += parsed_word(word) >= 0;
        c->at += n;
    }
    ck_assert(nouns == 2 || nouns == 3);
    pass(c, ".\n");
}

/* The needles between filler, then all again: where the body ends, the first of them is asked for. */
parsed parsed_needle(const weft_synthetic_document *d) {
    static const char head[] = "The magic word of ";
    int value_of[WORDS], order[64];
    int64_t line_of[WORDS];
    bool used[WORDS] = {false};
    parsed p = {.same_order = true};
    size_t asked = d->answers_count;
    cursor c = start(d);
    for (int64_t line = 0; p.groups < (int64_t)asked || !follows(&c, head); line++) {
        if (!follows(&c, head)) {
            pass_filler(&c);
            p.items++;
            continue;
        }
        pass(&c, head);
        int key = take(&c);
        pass(&c, " is ");
        int value = take(&c);
        pass(&c, ".\n");
        ck_assert(key != value && !used[key] && !used[value]);
        used[key] = used[value] = true;
        value_of[key] = value;
        line_of[key] = line;
        order[p.groups++] = key;
    }
    for (int64_t i = 0; i < p.groups; i++) {
        pass(&c, head);
        int key = take(&c);
        bool known = false;
        for (int64_t k = 0; k < p.groups; k++) known = known || order[k] == key;
        ck_assert(known && used[key]); /* and asked for once */
        used[key] = false;
        if (i == 0) p.first_at = line_of[key];
        p.same_order = p.same_order && order[i] == key;
        pass(&c, " is");
        answer(&c, weft_synthetic_words[value_of[key]]);
        pass(&c, ".\n");
    }
    stop(&c);
    return p;
}

static const char *const group_names[GROUPS] = {"animal", "bird",     "fruit",  "clothes",
                                                "tool",   "building", "worker", "vehicle"};

static void take_label(cursor *c, bool random_labels, int group, char label[PARSED_WORD]) {
    size_t n = strcspn(c->at + 1, "\n");
    ck_assert_uint_lt(n, PARSED_WORD);
    snprintf(label, PARSED_WORD, "%.*s", (int)n, c->at + 1);
    if (random_labels)
        ck_assert_int_ge(parsed_word(label), 0);
    else
        ck_assert_str_eq(label, group_names[group]);
}

static void check_choices(const weft_synthetic_document *d, char label[GROUPS][PARSED_WORD], int64_t groups) {
    int found = 0;
    ck_assert_int_eq(d->choices_count, groups);
    for (int i = 0; i < d->choices_count; i++)
        for (int g = 0; g < GROUPS; g++) found += strcmp(d->choices[i], label[g]) == 0;
    ck_assert_int_eq(found, groups);
}

parsed parsed_labels(const weft_synthetic_document *d, bool random_labels) {
    char label[GROUPS][PARSED_WORD] = {{0}}, found[PARSED_WORD];
    parsed p = {0};
    cursor c = start(d);
    for (pass(&c, "sort\n"); *c.at; p.items++, pass(&c, "\n")) {
        int one = take(&c);
        pass(&c, " ");
        int two = take(&c), group = one / OF_GROUP;
        ck_assert(one != two && group < GROUPS && two / OF_GROUP == group);
        pass(&c, " =>");
        p.last_answered = *label[group];
        if (*label[group]) {
            answer(&c, label[group]);
            continue;
        }
        take_label(&c, random_labels, group, found);
        for (int g = 0; g < GROUPS; g++) ck_assert_str_ne(label[g], found); /* another group's */
        strcpy(label[group], found);
        pass(&c, " ");
        pass(&c, found);
        p.groups++;
    }
    for (int g = 0; g < GROUPS; g++) { /* no label is an example of a group that is shown */
        int word = parsed_word(label[g]);
        ck_assert(word < 0 || word / OF_GROUP >= GROUPS || !*label[word / OF_GROUP]);
    }
    check_choices(d, label, p.groups);
    stop(&c);
    return p;
}
