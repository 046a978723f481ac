/* data/source/synthetic*.c: what the generator makes, and what is refused. The file: test_synthetic_source.c.
 */
#include "data/source/synthetic.h"
#include "made_data.h"
#include "parsed_synthetic.h"
#include "runtime/hash.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

enum { TASKS = 4, DOCUMENTS = 300 };

static weft_synthetic defaults(weft_synthetic_task task) {
    weft_synthetic s;
    weft_synthetic_defaults(&s, task);
    ck_assert_int_eq(weft_synthetic_check(&s, "defaults"), WEFT_OK);
    return s;
}

static char *text_of(const weft_synthetic *s, uint64_t number) {
    weft_synthetic_document d = {0};
    ck_assert_int_eq(weft_synthetic_make(s, number, &d), WEFT_OK);
    char *text = strdup(d.text);
    weft_synthetic_free(&d);
    ck_assert_ptr_null(d.text);
    return text;
}

/* ---- words ---- */

/* Documents are made of the words' numbers. */
START_TEST(the_words_keep_their_order) {
    uint64_t hash = 0;
    for (int i = 0; i < 256; i++) hash = weft_hash64_str(weft_synthetic_words[i], hash);
    ck_assert_uint_eq(hash, 9181815624848625330u);
}
END_TEST

START_TEST(no_word_begins_another) {
    static const char *const others[] = {"pairs", "recall",   "copy",   "again",  "sort",  "the",
                                         "magic", "word",     "animal", "bird",   "fruit", "clothes",
                                         "tool",  "building", "worker", "vehicle"};
    for (int i = 0; i < 256; i++) {
        const char *w = weft_synthetic_words[i];
        size_t n = strlen(w);
        ck_assert(n >= 4 && n <= 8 && strspn(w, "abcdefghijklmnopqrstuvwxyz") == n);
        for (int k = 0; k < 256; k++)
            if (k != i && strncmp(w, weft_synthetic_words[k], n) == 0)
                ck_abort_msg("%s: %s", w, weft_synthetic_words[k]);
        for (size_t k = 0; k < sizeof others / sizeof *others; k++)
            if (strncmp(w, others[k], n) == 0 || strncmp(w, others[k], strlen(others[k])) == 0)
                ck_abort_msg("%s: %s", w, others[k]);
    }
}
END_TEST

START_TEST(tasks_have_names) {
    static const char *const names[TASKS] = {"recall", "copy", "needle", "labels"};
    for (int i = 0; i < TASKS; i++) {
        ck_assert_str_eq(weft_synthetic_name((weft_synthetic_task)i), names[i]);
        ck_assert_int_eq(weft_synthetic_task_of(names[i]), i);
    }
    ck_assert_int_eq(weft_synthetic_task_of("recal"), -1);
    ck_assert_int_eq(weft_synthetic_task_of(""), -1);
}
END_TEST

/* ---- numbers ---- */

/* Runs of other years must find the same documents: these texts stay. */
START_TEST(documents_are_these) {
    weft_synthetic s = defaults(WEFT_SYNTHETIC_RECALL);
    s.seed = 1;
    s.pairs = (weft_range){3, 3};
    s.words = (weft_range){4, 4};
    s.sentences = (weft_range){2, 2};
    s.needles = (weft_range){1, 1};
    s.examples = (weft_range){3, 3};
    static const char *const want[TASKS] = {
        "pairs\nkitchen iron\ncellar shovel\niron sparrow\nrecall\ncellar shovel\niron sparrow\nkitchen "
        "iron\n",
        "copy\nsword potato stadium bronze\nagain\nsword potato stadium bronze\n",
        "The letter beside the otter covers the large evening.\n"
        "The harbor covers the tiger above the new story.\n"
        "The magic word of ladder is stamp.\n"
        "The magic word of ladder is stamp.\n",
        "sort\n"
        "palace tower => minute\n"
        "mango lemon => market\n"
        "coconut pear => market\n",
    };
    for (int i = 0; i < TASKS; i++) {
        s.task = (weft_synthetic_task)i;
        char *text = text_of(&s, 7);
        ck_assert_str_eq(text, want[i]);
        free(text);
    }
}
END_TEST

/* The drawn words of all tasks but labels are the first of the list. */
START_TEST(a_small_vocabulary_is_kept) {
    const weft_synthetic_task tasks[] = {WEFT_SYNTHETIC_RECALL, WEFT_SYNTHETIC_COPY, WEFT_SYNTHETIC_NEEDLE};
    for (int i = 0; i < 3; i++) {
        weft_synthetic s = defaults(tasks[i]);
        bool seen[256] = {false};
        s.vocabulary = 24;
        s.pairs.high = 24;
        for (uint64_t number = 0; number < 60; number++) {
            char *text = text_of(&s, number);
            for (char *rest = text, *word; (word = strtok_r(rest, " .\n", &rest));)
                for (int w = 0; w < 256; w++) seen[w] |= strcmp(word, weft_synthetic_words[w]) == 0;
            free(text);
        }
        for (int w = 0; w < 256; w++) ck_assert_int_eq(seen[w], w < 24);
        s.vocabulary = 1;
        ck_assert_int_eq(weft_synthetic_check(&s, "one word"), WEFT_EINPUT);
        s.vocabulary = 257;
        ck_assert_int_eq(weft_synthetic_check(&s, "more words"), WEFT_EINPUT);
    }
    weft_synthetic s = defaults(WEFT_SYNTHETIC_RECALL);
    s.vocabulary = s.pairs.high - 1;
    ck_assert_int_eq(weft_synthetic_check(&s, "fewer words than keys"), WEFT_EINPUT);
    s = defaults(WEFT_SYNTHETIC_NEEDLE);
    s.vocabulary = 2 * s.needles.high - 1;
    ck_assert_int_eq(weft_synthetic_check(&s, "fewer words than needles"), WEFT_EINPUT);
}
END_TEST

START_TEST(a_document_depends_on_its_number_alone) {
    for (int i = 0; i < TASKS; i++) {
        weft_synthetic s = defaults((weft_synthetic_task)i);
        weft_synthetic_document d = {0};
        char *before = text_of(&s, 0);
        for (uint64_t number = 1; number < 50; number++) {
            ck_assert_int_eq(weft_synthetic_make(&s, number, &d), WEFT_OK); /* in the memory of the last */
            char *alone = text_of(&s, number);
            ck_assert_str_eq(alone, d.text);
            ck_assert_str_ne(alone, before);
            free(before);
            before = alone;
        }
        free(before);
        weft_synthetic_free(&d);
    }
}
END_TEST

START_TEST(seeds_and_what_is_held_out_are_other_documents) {
    for (int i = 0; i < TASKS; i++) {
        weft_synthetic s = defaults((weft_synthetic_task)i);
        char *texts[80];
        int count = 0;
        for (uint64_t seed = 0; seed < 4; seed++)
            for (int held_out = 0; held_out < 2; held_out++)
                for (uint64_t number = 0; number < 10; number++) {
                    s.seed = seed;
                    s.held_out = held_out;
                    texts[count++] = text_of(&s, number);
                }
        for (int a = 0; a < count; a++)
            for (int b = 0; b < a; b++) ck_assert_str_ne(texts[a], texts[b]);
        while (count > 0) free(texts[--count]);
    }
}
END_TEST

START_TEST(large_numbers_and_seeds) {
    weft_synthetic s = defaults(WEFT_SYNTHETIC_RECALL);
    char *text = text_of(&s, UINT64_MAX), *low = text_of(&s, UINT32_MAX);
    ck_assert_str_ne(text, low);
    free(low);
    s.seed = UINT64_MAX;
    char *other = text_of(&s, UINT64_MAX);
    ck_assert_str_ne(text, other);
    free(text);
    free(other);
}
END_TEST

/* ---- what the documents say ---- */

static parsed parse(const weft_synthetic *s, const weft_synthetic_document *d) {
    if (s->task == WEFT_SYNTHETIC_LABELS) return parsed_labels(d, s->random_labels);
    ck_assert_int_eq(d->choices_count, 0);
    return s->task == WEFT_SYNTHETIC_RECALL ? parsed_recall(d)
           : s->task == WEFT_SYNTHETIC_COPY ? parsed_copy(d)
                                            : parsed_needle(d);
}

/* Every document can be answered as it says; all numbers of items in the range are drawn, none other. */
typedef struct survey {
    bool items[256], groups[9];
    int same_order, repeats, documents;
} survey;

static survey surveyed(const weft_synthetic *s, weft_range items, weft_range groups) {
    survey found = {.documents = DOCUMENTS};
    weft_synthetic_document d = {0};
    ck_assert_int_eq(weft_synthetic_check(s, "survey"), WEFT_OK);
    for (uint64_t number = 0; number < DOCUMENTS; number++) {
        ck_assert_int_eq(weft_synthetic_make(s, number, &d), WEFT_OK);
        parsed p = parse(s, &d);
        ck_assert(p.items >= items.low && p.items <= items.high);
        ck_assert(p.groups >= groups.low && p.groups <= groups.high);
        found.items[p.items] = found.groups[p.groups] = true;
        found.same_order += p.same_order;
        found.repeats += p.repeats;
        if (s->task == WEFT_SYNTHETIC_LABELS) ck_assert(p.last_answered);
    }
    weft_synthetic_free(&d);
    for (int64_t i = items.low; i <= items.high; i++) ck_assert(found.items[i]);
    for (int64_t i = groups.low; i <= groups.high; i++) ck_assert(found.groups[i]);
    return found;
}

START_TEST(recall_answers_follow_from_the_pairs) {
    weft_synthetic s = defaults(WEFT_SYNTHETIC_RECALL);
    survey v = surveyed(&s, (weft_range){4, 24}, (weft_range){0, 0});
    ck_assert_int_lt(v.same_order, 20);
    ck_assert(v.repeats > 20 && v.repeats < v.documents);
    s.pairs = (weft_range){1, 1};
    ck_assert_int_eq(surveyed(&s, s.pairs, (weft_range){0, 0}).same_order, DOCUMENTS);
}
END_TEST

START_TEST(recall_of_all_words) {
    weft_synthetic s = defaults(WEFT_SYNTHETIC_RECALL);
    weft_synthetic_document d = {0};
    s.pairs = (weft_range){256, 256};
    for (uint64_t number = 0; number < 10; number++) {
        ck_assert_int_eq(weft_synthetic_make(&s, number, &d), WEFT_OK);
        ck_assert_int_eq(parsed_recall(&d).items, 256);
        ck_assert_uint_eq(d.answers_count, 256);
    }
    weft_synthetic_free(&d);
}
END_TEST

START_TEST(copy_says_the_line_again) {
    weft_synthetic s = defaults(WEFT_SYNTHETIC_COPY);
    s.words = (weft_range){8, 30};
    survey v = surveyed(&s, s.words, (weft_range){0, 0});
    ck_assert(v.repeats > 20 && v.repeats < v.documents);
    s.words = (weft_range){2, 3};
    surveyed(&s, s.words, (weft_range){0, 0});
    weft_synthetic_document d = {0};
    s.words = (weft_range){100000, 100000};
    ck_assert_int_eq(weft_synthetic_make(&s, 0, &d), WEFT_OK);
    ck_assert_int_eq(parsed_copy(&d).items, 100000);
    weft_synthetic_free(&d);
}
END_TEST

START_TEST(needles_are_found_in_the_text) {
    weft_synthetic s = defaults(WEFT_SYNTHETIC_NEEDLE);
    s.sentences = (weft_range){10, 40};
    survey v = surveyed(&s, s.sentences, (weft_range){2, 4});
    ck_assert(v.same_order > 20 && v.same_order < 160); /* of 2, 3, 4 needles: a quarter, in the mean */
    s.sentences = (weft_range){0, 3};
    surveyed(&s, s.sentences, (weft_range){2, 4});
    s.needles = (weft_range){64, 64};
    weft_synthetic_document d = {0};
    for (uint64_t number = 0; number < 20; number++) {
        ck_assert_int_eq(weft_synthetic_make(&s, number, &d), WEFT_OK);
        ck_assert_int_eq(parsed_needle(&d).groups, 64);
    }
    weft_synthetic_free(&d);
}
END_TEST

/* At a depth that is given, the needle that is asked for first stands at that line, and what else is drawn
 * goes where it likes; without one it is anywhere. */
START_TEST(depth_places_the_needle_that_is_asked_for_first) {
    static const double depths[] = {0, 0.1, 0.25, 0.5, 0.9, 1};
    weft_synthetic s = defaults(WEFT_SYNTHETIC_NEEDLE);
    weft_synthetic_document d = {0};
    s.sentences = (weft_range){0, 30};
    s.needles = (weft_range){1, 4};
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        s.depth = depths[i];
        for (uint64_t number = 0; number < DOCUMENTS; number++) {
            ck_assert_int_eq(weft_synthetic_make(&s, number, &d), WEFT_OK);
            parsed p = parsed_needle(&d);
            ck_assert_int_eq(p.first_at, (int64_t)floor(s.depth * (double)(p.items + p.groups - 1) + 0.5));
        }
    }
    int at[20] = {0};
    s.depth = -1;
    s.sentences = (weft_range){18, 18};
    s.needles = (weft_range){2, 2};
    for (uint64_t number = 0; number < 2000; number++) {
        ck_assert_int_eq(weft_synthetic_make(&s, number, &d), WEFT_OK);
        at[parsed_needle(&d).first_at]++;
    }
    for (int i = 0; i < 20; i++) ck_assert(at[i] > 50 && at[i] < 150); /* 100 in the mean, +- 10 */
    weft_synthetic_free(&d);
}
END_TEST

START_TEST(labels_follow_from_the_lines_before) {
    weft_synthetic s = defaults(WEFT_SYNTHETIC_LABELS);
    surveyed(&s, (weft_range){8, 24}, (weft_range){1, 4});
    s.random_labels = false;
    surveyed(&s, (weft_range){8, 24}, (weft_range){1, 4});
    s.classes = (weft_range){8, 8};
    s.examples = (weft_range){2, 6};
    for (int i = 0; i < 2; i++, s.random_labels = true)
        surveyed(&s, s.examples, (weft_range){1, 5}); /* of six lines the last shows no new group */
}
END_TEST

/* ---- what is refused ---- */

static void check_it(void *s) {
    ck_assert_int_eq(weft_synthetic_check(s, "eval.suite:3"), WEFT_EINPUT);
}

static void refused(weft_synthetic s, const char *why) {
    const char *text = made_errors(check_it, &s);
    ck_assert_msg(strstr(text, "eval.suite:3: ") && strstr(text, why), "'%s' lacks '%s'", text, why);
}

START_TEST(ranges_out_of_bounds_are_refused) {
    static const struct {
        weft_synthetic_task task;
        size_t offset;
        weft_range range;
        const char *why;
    } cases[] = {
        {WEFT_SYNTHETIC_RECALL, offsetof(weft_synthetic, pairs), {0, 4}, "pairs is 0-4; it must be"},
        {WEFT_SYNTHETIC_RECALL, offsetof(weft_synthetic, pairs), {4, 257}, "within 1-256"},
        {WEFT_SYNTHETIC_RECALL, offsetof(weft_synthetic, pairs), {5, 4}, "pairs is 5-4"},
        {WEFT_SYNTHETIC_COPY, offsetof(weft_synthetic, words), {1, 9}, "words is 1-9"},
        {WEFT_SYNTHETIC_COPY, offsetof(weft_synthetic, words), {9, 100001}, "within 2-100000"},
        {WEFT_SYNTHETIC_NEEDLE, offsetof(weft_synthetic, sentences), {-1, 9}, "sentences is -1-9"},
        {WEFT_SYNTHETIC_NEEDLE, offsetof(weft_synthetic, sentences), {0, 1000001}, "within 0-1000000"},
        {WEFT_SYNTHETIC_NEEDLE, offsetof(weft_synthetic, needles), {0, 1}, "needles is 0-1"},
        {WEFT_SYNTHETIC_NEEDLE, offsetof(weft_synthetic, needles), {1, 65}, "within 1-64"},
        {WEFT_SYNTHETIC_LABELS, offsetof(weft_synthetic, classes), {1, 4}, "classes is 1-4"},
        {WEFT_SYNTHETIC_LABELS, offsetof(weft_synthetic, classes), {2, 9}, "within 2-8"},
        {WEFT_SYNTHETIC_LABELS, offsetof(weft_synthetic, examples), {1, 4}, "examples is 1-4"},
        {WEFT_SYNTHETIC_LABELS, offsetof(weft_synthetic, examples), {2, INT64_MAX}, "within 2-100000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weft_synthetic s = defaults(cases[i].task);
        memcpy((char *)&s + cases[i].offset, &cases[i].range, sizeof cases[i].range);
        refused(s, cases[i].why);
        s.task = s.task == WEFT_SYNTHETIC_COPY ? WEFT_SYNTHETIC_RECALL : WEFT_SYNTHETIC_COPY;
        ck_assert_int_eq(weft_synthetic_check(&s, "another task's"), WEFT_OK);
    }
    weft_synthetic s = defaults(WEFT_SYNTHETIC_NEEDLE);
    s.depth = 1.01;
    refused(s, "depth is 1.01");
    s.depth = NAN;
    refused(s, "depth is nan");
}
END_TEST

SUITE_MAIN("data/synthetic", the_words_keep_their_order, no_word_begins_another, tasks_have_names,
           a_small_vocabulary_is_kept, documents_are_these, a_document_depends_on_its_number_alone,
           seeds_and_what_is_held_out_are_other_documents, large_numbers_and_seeds,
           recall_answers_follow_from_the_pairs, recall_of_all_words, copy_says_the_line_again,
           needles_are_found_in_the_text, depth_places_the_needle_that_is_asked_for_first,
           labels_follow_from_the_lines_before, ranges_out_of_bounds_are_refused)
