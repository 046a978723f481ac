/* The evaluation suite's scores against those computed one document at a time from logits. */
#include "made_suite.h"
#include "support/suite.h"
#include "train/suite/suite_quiz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

START_TEST(begin) {
    made_suite_open();
}
END_TEST

START_TEST(end) {
    made_suite_close();
}
END_TEST

/* ---- sheets ------------------------------------------------------------------------------------- */

/* Every span of a text: its tokens are those of which it holds a byte, found by decoding them. */
START_TEST(tokens_of_an_answer) {
    static const char text[] = "sort\nhorse turtle => fruit\nGr\xc3\xb6\xc3\x9f"
                               "e 1234 \t the  end";
    weft_suite_sheet sheet = {0};
    size_t bytes = sizeof text - 1;
    for (size_t begin = 0; begin < bytes; begin++)
        for (size_t end = begin + 1; end <= bytes; end++) {
            weft_answer answer = {begin, end};
            ck_assert_int_eq(weft_suite_sheet_fill(&sheet, made_suite_tokenizer, text, bytes, &answer, 1),
                             WEFT_OK);
            ck_assert_int_eq(sheet.count, sheet.answers[0].behind);
            size_t p = 0, n;
            for (int64_t i = 0; i < sheet.tokens; i++, p += n) {
                char *piece;
                ck_assert_int_eq(weft_tokenizer_decode(made_suite_tokenizer, &sheet.ids[i], 1, &piece, &n),
                                 WEFT_OK);
                free(piece);
                bool inside = i >= sheet.answers[0].first && i < sheet.answers[0].behind;
                ck_assert_msg(inside == (p < end && p + n > begin), "%zu..%zu, token %lld at %zu", begin, end,
                              (long long)i, p);
            }
            ck_assert_uint_eq(p, bytes);
        }
    free(sheet.ids);
    free(sheet.answers);
}
END_TEST

/* ---- the tasks ---------------------------------------------------------------------------------- */

static weft_synthetic options_of(weft_synthetic_task task) {
    weft_synthetic o;
    weft_synthetic_defaults(&o, task);
    o.seed = 5;
    o.held_out = true;
    return o;
}

/* Documents 0 .. documents - 1 of `value`, all their answers. */
static void check_answers(weft_modelfile *f, const json_t *got, weft_synthetic o, int64_t value,
                          int documents) {
    weft_synthetic_document d = {0};
    double answers = 0, right = 0, nll = 0;
    for (int i = 0; i < documents; i++) {
        ck_assert_int_eq(weft_synthetic_make(&o, weft_suite_document(value, 0, i), &d), WEFT_OK);
        made_suite_score s[WEFT_SUITE_MAX];
        ck_assert_uint_le(d.answers_count, WEFT_SUITE_MAX);
        made_suite_scores(f, d.text, d.bytes, d.answers, d.answers_count, s);
        for (size_t a = 0; a < d.answers_count; a++) answers++, right += s[a].right, nll += s[a].nll;
    }
    ck_assert_double_eq(made_suite_number(got, "answers"), answers);
    ck_assert_double_eq(made_suite_number(got, "accuracy"), right / answers);
    made_suite_same(made_suite_number(got, "nll"), nll / answers, "nll");
    weft_synthetic_free(&d);
}

static void check_recall_and_copy(weft_modelfile *f) {
    json_t *r = MADE_SUITE_RESULT(f, "tasks=recall,copy", "seed=5", "batch=3", "recall.pairs=5,2",
                                  "recall.documents=4", "copy.words=3,12", "copy.documents=5");
    weft_synthetic o = options_of(WEFT_SYNTHETIC_RECALL);
    for (int i = 0; i < 2; i++) {
        int64_t pairs = i ? 2 : 5;
        o.pairs = (weft_range){pairs, pairs};
        check_answers(f, json_array_get(json_object_get(r, "recall"), (size_t)i), o, pairs, 4);
    }
    o = options_of(WEFT_SYNTHETIC_COPY);
    for (int i = 0; i < 2; i++) {
        int64_t words = i ? 12 : 3;
        o.words = (weft_range){words, words};
        check_answers(f, json_array_get(json_object_get(r, "copy"), (size_t)i), o, words, 5);
    }
    json_decref(r);
}

START_TEST(recall_and_copy) {
    weft_modelfile *f =
        made_suite_model("model.num_hidden_layers=2 model.mixer_pattern=MA model.ffn_pattern=ED");
    check_recall_and_copy(f);
    made_model_close(f);
}
END_TEST

/* What follows each token in the answers of some documents, the last that was seen: right for some answers.
 */
static void learn(int32_t *next, const weft_synthetic *o, int64_t value, int documents) {
    weft_synthetic_document d = {0};
    weft_suite_sheet sheet = {0};
    for (int i = 0; i < documents; i++) {
        ck_assert_int_eq(weft_synthetic_make(o, weft_suite_document(value, 0, i), &d), WEFT_OK);
        ck_assert_int_eq(
            weft_suite_sheet_fill(&sheet, made_suite_tokenizer, d.text, d.bytes, d.answers, d.answers_count),
            WEFT_OK);
        for (int64_t a = 0; a < sheet.answers_count; a++)
            for (int64_t t = sheet.answers[a].first; t < sheet.answers[a].behind; t++)
                if (t > 0) next[sheet.ids[t - 1]] = sheet.ids[t];
    }
    free(sheet.ids);
    free(sheet.answers);
    weft_synthetic_free(&d);
}

START_TEST(planted_answers_are_right) {
    int64_t V = weft_tokenizer_vocab_size(made_suite_tokenizer);
    int32_t *next = calloc((size_t)V, sizeof *next);
    weft_synthetic o = options_of(WEFT_SYNTHETIC_RECALL);
    o.pairs = (weft_range){5, 5};
    learn(next, &o, 5, 4);
    o.pairs = (weft_range){1, 1};
    learn(next, &o, 1, 1);
    weft_modelfile *f = made_suite_planted(next);
    check_recall_and_copy(f);
    json_t *r = MADE_SUITE_RESULT(f, "tasks=recall", "seed=5", "recall.pairs=5,1", "recall.documents=4"),
           *list = json_object_get(r, "recall");
    double some = made_suite_number(json_array_get(list, 0), "accuracy");
    ck_assert_msg(some > 0 && some < 1, "accuracy %g", some);
    json_decref(r);
    r = MADE_SUITE_RESULT(f, "tasks=recall", "seed=5", "recall.pairs=1", "recall.documents=1");
    ck_assert_double_eq(made_suite_number(json_array_get(json_object_get(r, "recall"), 0), "accuracy"), 1);
    json_decref(r);
    made_model_close(f);
    free(next);
}
END_TEST

/* ---- labels ------------------------------------------------------------------------------------- */

typedef struct totals {
    double right, format, exact, nll, chance;
} totals;

static void add_labels(weft_modelfile *f, const weft_synthetic_document *d, totals *t) {
    weft_answer last = d->answers[d->answers_count - 1];
    double least = INFINITY, own = 0;
    bool format = false;
    char text[4096];
    for (int i = 0; i < d->choices_count; i++) {
        int n = snprintf(text, sizeof text, "%.*s %s", (int)last.begin, d->text, d->choices[i]);
        weft_answer answer = {last.begin, (size_t)n};
        made_suite_score s;
        made_suite_scores(f, text, (size_t)n, &answer, 1, &s);
        if (s.nll < least) least = s.nll;
        format |= s.guess == s.first;
        if (strncmp(text + last.begin, d->text + last.begin, last.end - last.begin) != 0 ||
            (size_t)n != last.end)
            continue;
        own = s.nll;
        t->exact += s.right;
    }
    t->right += own == least;
    t->format += format;
    t->nll += own;
    t->chance += 1.0 / d->choices_count;
}

static void check_labels(weft_modelfile *f, const json_t *list, bool drawn) {
    static const int64_t examples[] = {2, 7};
    enum { DOCUMENTS = 5 };
    weft_synthetic_document d = {0};
    weft_synthetic o = options_of(WEFT_SYNTHETIC_LABELS);
    o.classes = (weft_range){4, 4};
    o.random_labels = drawn;
    for (size_t i = 0; i < 2; i++) {
        totals t = {0};
        const json_t *got = json_array_get(list, i);
        o.examples = (weft_range){examples[i], examples[i]};
        for (int k = 0; k < DOCUMENTS; k++) {
            ck_assert_int_eq(weft_synthetic_make(&o, weft_suite_document(examples[i], 0, k), &d), WEFT_OK);
            add_labels(f, &d, &t);
        }
        ck_assert_double_eq(made_suite_number(got, "answers"), DOCUMENTS);
        made_suite_same(made_suite_number(got, "accuracy"), t.right / DOCUMENTS, "accuracy");
        made_suite_same(made_suite_number(got, "format"), t.format / DOCUMENTS, "format");
        made_suite_same(made_suite_number(got, "exact"), t.exact / DOCUMENTS, "exact");
        made_suite_same(made_suite_number(got, "nll"), t.nll / DOCUMENTS, "nll");
        made_suite_same(made_suite_number(got, "chance"), t.chance / DOCUMENTS, "chance");
    }
    weft_synthetic_free(&d);
}

static void check_both_labels(weft_modelfile *f) {
    json_t *r = MADE_SUITE_RESULT(f, "tasks=labels", "seed=5", "batch=2", "labels.examples=2,7",
                                  "labels.classes=4", "labels.documents=5"),
           *labels = json_object_get(r, "labels");
    check_labels(f, json_object_get(labels, "random"), true);
    check_labels(f, json_object_get(labels, "named"), false);
    json_decref(r);
}

START_TEST(labels) {
    weft_modelfile *f =
        made_suite_model("model.num_hidden_layers=2 model.mixer_pattern=AM model.ffn_pattern=D.");
    check_both_labels(f);
    made_model_close(f);
}
END_TEST

/* A model that says the same word behind everything: the ids, one after the other. */
static weft_modelfile *one_word_model(const int32_t *ids, size_t count) {
    int64_t V = weft_tokenizer_vocab_size(made_suite_tokenizer);
    int32_t *next = calloc((size_t)V, sizeof *next);
    ck_assert_ptr_nonnull(next);
    for (int64_t i = 0; i < V; i++) next[i] = ids[0];
    for (size_t i = 0; i + 1 < count; i++) next[ids[i]] = ids[i + 1];
    weft_modelfile *f = made_suite_planted(next);
    free(next);
    return f;
}

/* It answers in the format wherever that is a label that was shown; rightly, where it says all of it. */
static void check_one_word(const char *word, bool whole) {
    int32_t *ids = NULL;
    size_t count, capacity = 0;
    ck_assert_int_eq(weft_tokenizer_encode(made_suite_tokenizer, word, strlen(word), &ids, &count, &capacity),
                     WEFT_OK);
    if (!whole) {
        ck_assert_uint_gt(count, 1);
        ids[1] = weft_tokenizer_eos(made_suite_tokenizer);
    }
    weft_modelfile *f = one_word_model(ids, count);
    json_t *r = MADE_SUITE_RESULT(f, "tasks=labels", "seed=5", "labels.examples=64", "labels.classes=8",
                                  "labels.documents=16"),
           *named = json_array_get(json_object_get(json_object_get(r, "labels"), "named"), 0);
    double exact = made_suite_number(named, "exact"), accuracy = made_suite_number(named, "accuracy");
    ck_assert_double_eq(made_suite_number(named, "format"), 1);
    ck_assert_double_eq(made_suite_number(named, "chance"), 1.0 / 8);
    ck_assert_msg(whole ? exact > 0 && exact == accuracy : exact == 0, "exact %g, accuracy %g", exact,
                  accuracy);
    json_decref(r);
    made_model_close(f);
    free(ids);
}

START_TEST(one_word_for_everything) {
    check_one_word(" bird", true);
    check_one_word(" vehicle", false);
}
END_TEST

/* ---- needle ------------------------------------------------------------------------------------- */

/* The document of as many sentences as fit, found one by one; its tokens with BOS. */
static int64_t longest(weft_synthetic *o, uint64_t number, int64_t length, weft_synthetic_document *d) {
    int32_t *ids = NULL;
    size_t count, capacity = 0, fits = 0;
    int64_t sentences = 0;
    for (;; sentences++) {
        o->sentences = (weft_range){sentences, sentences};
        ck_assert_int_eq(weft_synthetic_make(o, number, d), WEFT_OK);
        ck_assert_int_eq(
            weft_tokenizer_encode(made_suite_tokenizer, d->text, d->bytes, &ids, &count, &capacity), WEFT_OK);
        if ((int64_t)count + 1 > length) break;
        fits = count + 1;
    }
    free(ids);
    ck_assert_int_gt(sentences, 0);
    o->sentences = (weft_range){sentences - 1, sentences - 1};
    ck_assert_int_eq(weft_synthetic_make(o, number, d), WEFT_OK);
    return (int64_t)fits;
}

START_TEST(needle) {
    static const int64_t lengths[] = {200, 330};
    enum { DOCUMENTS = 3, DEPTHS = 3 };
    weft_modelfile *f =
        made_suite_model("model.num_hidden_layers=2 model.mixer_pattern=MA model.ffn_pattern=..");
    json_t *r = MADE_SUITE_RESULT(f, "tasks=needle", "seed=5", "batch=4", "needle.lengths=200,330",
                                  "needle.depths=3", "needle.documents=3", "needle.needles=2"),
           *got = json_object_get(r, "needle");
    weft_synthetic_document d = {0};
    weft_synthetic o = options_of(WEFT_SYNTHETIC_NEEDLE);
    o.needles = (weft_range){2, 2};
    for (size_t i = 0; i < 2; i++) {
        double tokens = 0;
        for (size_t k = 0; k < DEPTHS; k++) {
            double right = 0, nll = 0;
            o.depth = (double)k / 2;
            for (int n = 0; n < DOCUMENTS; n++) {
                tokens += (double)longest(&o, weft_suite_document(lengths[i], (int64_t)k, n), lengths[i], &d);
                made_suite_score s;
                made_suite_scores(f, d.text, d.bytes, d.answers, 1, &s);
                right += s.right, nll += s.nll;
            }
            json_t *row = json_array_get(json_object_get(got, "nll"), i),
                   *rights = json_array_get(json_object_get(got, "accuracy"), i);
            made_suite_same(json_number_value(json_array_get(row, k)), nll / DOCUMENTS, "nll");
            made_suite_same(json_number_value(json_array_get(rights, k)), right / DOCUMENTS, "accuracy");
            ck_assert_double_eq(json_number_value(json_array_get(json_object_get(got, "depths"), k)),
                                o.depth);
        }
        ck_assert_double_eq(json_number_value(json_array_get(json_object_get(got, "tokens"), i)),
                            tokens / (DOCUMENTS * DEPTHS));
    }
    weft_synthetic_free(&d);
    json_decref(r);
    made_model_close(f);
}
END_TEST

/* A model that diverged: numbers that are none become null, and nothing is right. */
START_TEST(not_a_number) {
    weft_modelfile *f =
        made_suite_model("model.num_hidden_layers=1 model.mixer_pattern=M model.ffn_pattern=.");
    weft_real *w = made_suite_row(f, "final_layernorm", 0);
    w[0] = (weft_real)NAN;
    json_t *r = MADE_SUITE_RESULT(f, "tasks=recall,labels,needle", "recall.pairs=2", "recall.documents=2",
                                  "labels.examples=4", "labels.documents=16", "needle.lengths=200",
                                  "needle.depths=1", "needle.documents=1"),
           *recall = json_array_get(json_object_get(r, "recall"), 0),
           *label = json_array_get(json_object_get(json_object_get(r, "labels"), "named"), 0);
    ck_assert(json_is_null(json_object_get(recall, "nll")) && json_is_null(json_object_get(label, "nll")));
    ck_assert_double_eq(made_suite_number(recall, "accuracy"), 0);
    ck_assert_double_eq(made_suite_number(label, "accuracy"), 0);
    ck_assert_double_eq(made_suite_number(label, "format"), 0);
    json_decref(r);
    made_model_close(f);
}
END_TEST

SUITE_MAIN("suite_scores", begin, tokens_of_an_answer, recall_and_copy, planted_answers_are_right, labels,
           one_word_for_everything, needle, not_a_number, end)
