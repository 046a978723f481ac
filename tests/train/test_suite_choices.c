/* Multiple choice: questions from files, and their scores against those computed from logits. */
#include "made_suite.h"
#include "support/capture.h"
#include "support/suite.h"
#include "train/suite/suite_questions.h"

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

/* ---- questions ---- */

/* By its text before its letter, by its letter before its index. */
START_TEST(answers_are_named) {
    static const struct {
        const char *answer;
        int64_t right;
    } forms[] = {{"2", 2}, {"\"2\"", 2}, {"\"c\"", 2}, {"\"C\"", 2},  {"\"b\"", 0},
                 {"0", 0}, {"\"A\"", 0}, {"\"1\"", 1}, {"\"two\"", 1}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        weft_suite_questions *q = NULL;
        char line[256];
        snprintf(line, sizeof line, "{\"query\": \"\", \"choices\": [\"b\", \"two\", \"x\"], \"gold\": %s}",
                 forms[i].answer);
        made_suite_file(made_suite_path("q.jsonl"), line);
        ck_assert_int_eq(weft_suite_questions_read(&q, made_suite_path("q.jsonl")), WEFT_OK);
        ck_assert_msg(q->of[0].right == forms[i].right, "%s: %lld", forms[i].answer,
                      (long long)q->of[0].right);
        weft_suite_questions_free(q);
    }
}
END_TEST

START_TEST(mistakes_in_questions) {
    static const struct {
        const char *text, *why;
    } wrong[] = {
        {"", "q.jsonl: holds no question"},
        {"{\"query\": \"a\", \"choices\": [\"x\", \"y\"], \"gold\": 0}\n{\"query\": ", "q.jsonl:2:"},
        {"[1]", "q.jsonl:1: is no object"},
        {"{\"choices\": [\"x\", \"y\"], \"gold\": 0}", ":1: has no 'query', 'context' or 'question'"},
        {"{\"query\": 3, \"choices\": [\"x\", \"y\"], \"gold\": 0}", ":1: 'query' is no string"},
        {"{\"context\": \"a\", \"question\": \"b\", \"choices\": [\"x\", \"y\"], \"gold\": 0}",
         ":1: has both 'context' and 'question'"},
        {"{\"query\": \"a\", \"gold\": 0}", ":1: 'choices' must be a list"},
        {"{\"query\": \"a\", \"choices\": [\"x\"], \"gold\": 0}", ":1: 'choices' must be a list of two"},
        {"{\"query\": \"a\", \"choices\": [\"x\", 2], \"gold\": 0}", ":1: choice 1 is no string"},
        {"{\"query\": \"a\", \"choices\": [\" \", \"y\"], \"gold\": 0}", ":1: choice 0 is empty"},
        {"{\"query\": \"a\", \"choices\": [\"x\", \"y\"]}", ":1: has no 'gold', 'answer' or 'label'"},
        {"\n{\"query\": \"a\", \"choices\": [\"x\", \"y\"], \"gold\": 2}", ":2: 'gold' is not the index"},
        {"{\"query\": \"a\", \"choices\": [\"x\", \"y\"], \"answer\": -1}", "'answer' is not the index"},
        {"{\"query\": \"a\", \"choices\": [\"x\", \"y\"], \"label\": \"C\"}", "'label' is not the index"},
        {"{\"query\": \"a\", \"choices\": [\"x\", \"y\"], \"label\": \"no\"}", "'label' is not the index"},
        {"{\"query\": \"a\", \"choices\": [\"x\", \"y\"], \"gold\": [0]}", "'gold' is not the index"},
        {"{\"query\": \"a\", \"query\": \"b\", \"choices\": [\"x\", \"y\"], \"gold\": 0}", "q.jsonl:1:"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        weft_suite_questions *q = NULL;
        made_suite_file(made_suite_path("q.jsonl"), wrong[i].text);
        capture();
        weft_status st = weft_suite_questions_read(&q, made_suite_path("q.jsonl"));
        release();
        ck_assert_msg(st == WEFT_EINPUT && !q, "%s: was accepted", wrong[i].text);
        ck_assert_msg(strstr(message, wrong[i].why) != NULL, "%s: %s", wrong[i].text, message);
        ck_assert_int_eq(lines(message), 1);
    }
}
END_TEST

/* ---- scores ------------------------------------------------------------------------------------ */

typedef struct question {
    char line[256], before[64], texts[3][64]; /* texts as they stand in the whole text */
    size_t begin, bytes[3];
    int right;
} question;

/* By hand: the cheapest choice, whole, per byte and per token. */
static void choose(weft_modelfile *f, const question *q, int chosen[3]) {
    double best[3] = {INFINITY, INFINITY, INFINITY};
    for (int k = 0; k < 3 && *q->texts[k]; k++) {
        char text[160];
        int32_t *ids = NULL;
        size_t before, all, capacity = 0;
        int n = snprintf(text, sizeof text, "%s%s", q->before, q->texts[k]);
        weft_answer answer = {q->begin, (size_t)n};
        made_suite_score s;
        made_suite_scores(f, text, (size_t)n, &answer, 1, &s);
        /* here no token crosses the beginning */
        weft_tokenizer_encode(made_suite_tokenizer, text, q->begin, &ids, &before, &capacity);
        weft_tokenizer_encode(made_suite_tokenizer, text, (size_t)n, &ids, &all, &capacity);
        free(ids);
        double cost[3] = {s.nll, s.nll / (double)q->bytes[k], s.nll / (double)(all - before)};
        for (int m = 0; m < 3; m++)
            if (cost[m] < best[m]) best[m] = cost[m], chosen[m] = k;
    }
}

static void check_choices(const question *q, int count, double right[3]) {
    static const char *const names[3] = {"accuracy", "accuracy_per_byte", "accuracy_per_token"};
    weft_modelfile *f =
        made_suite_model("model.num_hidden_layers=2 model.mixer_pattern=AM model.ffn_pattern=D.");
    char setting[300];
    FILE *out = fopen(made_suite_path("q.jsonl"), "w");
    ck_assert_ptr_nonnull(out);
    for (int i = 0; i < count; i++) {
        int chosen[3] = {0};
        fprintf(out, "%s%s", q[i].line, i % 2 ? "\r\n" : "\n \n");
        choose(f, &q[i], chosen);
        for (int m = 0; m < 3; m++) right[m] += chosen[m] == q[i].right;
    }
    ck_assert_int_eq(fclose(out), 0);
    snprintf(setting, sizeof setting, "choices.file=%s", made_suite_path("q.jsonl"));
    json_t *r = MADE_SUITE_RESULT(f, "tasks=choices", "batch=2", setting),
           *got = json_object_get(r, "choices");
    ck_assert_double_eq(made_suite_number(got, "documents"), count);
    for (int m = 0; m < 3; m++) made_suite_same(made_suite_number(got, names[m]), right[m] / count, names[m]);
    json_decref(r);
    made_model_close(f);
}

START_TEST(forms_of_choices) {
    static const question q[] = {
        {"{\"query\": \"A horse\", \"choices\": [\"runs\", \" sees a turtle\"], \"gold\": 1}",
         "A horse",
         {" runs", " sees a turtle"},
         7,
         {4, 13},
         1},
        {"{\"context\": \"Where? \", \"choices\": [\"in\", \"under\", \"the end\"], \"answer\": \"C\"}",
         "Where? ",
         {"in", "under", "the end"},
         6,
         {2, 5, 7},
         2},
        {"{\"question\": \"\", \"choices\": [\"B\", \"0\"], \"label\": \"0\"}", "", {"B", "0"}, 0, {1, 1}, 1},
        {"{\"query\": \"x\\n\", \"choices\": [\"B\", \"A\"], \"answer\": \"A\"}",
         "x\n",
         {"B", "A"},
         2,
         {1, 1},
         1},
        {"{\"query\": \"x\", \"context\": 3, \"choices\": [\"y\", \"z\"], \"label\": \"1\"}",
         "x",
         {" y", " z"},
         1,
         {1, 1},
         1},
    };
    double right[3] = {0};
    check_choices(q, sizeof q / sizeof *q, right);
}
END_TEST

/* Enough of them that the three ways of counting differ. */
START_TEST(ways_to_count_choices) {
    enum { QUESTIONS = 40 };
    static question q[QUESTIONS];
    double right[3] = {0};
    const char *const *w = weft_synthetic_words;
    for (int i = 0; i < QUESTIONS; i++) {
        char *texts[2] = {q[i].texts[0], q[i].texts[1]};
        snprintf(q[i].before, sizeof q[i].before, "%s %s", w[i], w[3 * i]);
        snprintf(texts[i % 2], sizeof q[i].texts[0], " %s", w[255 - i]);
        snprintf(texts[1 - i % 2], sizeof q[i].texts[0], " %s 17 %s", w[2 * i], w[i * i % 256]);
        q[i].begin = strlen(q[i].before);
        for (int k = 0; k < 2; k++) q[i].bytes[k] = strlen(texts[k]) - 1;
        snprintf(q[i].line, sizeof q[i].line,
                 "{\"query\": \"%s\", \"choices\": [\"%s\", \"%s\"], \"gold\": 0}", q[i].before, texts[0],
                 texts[1]);
    }
    check_choices(q, QUESTIONS, right);
    ck_assert_msg(right[0] != right[1] && right[1] != right[2] && right[0] != right[2], "%g, %g, %g of %d",
                  right[0], right[1], right[2], QUESTIONS);
}
END_TEST

SUITE_MAIN("suite_choices", begin, answers_are_named, mistakes_in_questions, forms_of_choices,
           ways_to_count_choices, end)
