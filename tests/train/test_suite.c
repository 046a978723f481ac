/* The evaluation suite: its settings, and what is refused. Its scores are in test_suite_scores.c and
 * test_suite_choices.c, what it reads off inside of a model in test_suite_inside_mpi.c, the command in
 * cli/test_suite.sh. */
#include "made_suite.h"
#include "support/capture.h"
#include "support/suite.h"
#include "train/suite/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static weft_world g_w = {.size = 1, .local_size = 1};

START_TEST(begin) {
    made_suite_open();
}
END_TEST

START_TEST(end) {
    made_suite_close();
}
END_TEST

static weft_status quietly(weft_status (*run)(weft_suite *s, const char *text), weft_suite *s,
                           const char *text) {
    capture();
    weft_status st = run(s, text);
    release();
    return st;
}

/* ---- settings ----------------------------------------------------------------------------------- */

static weft_status set(weft_suite *s, const char *text) {
    return weft_suite_set(s, text, "here");
}
static weft_status set_tasks(weft_suite *s, const char *text) {
    snprintf(s->tasks, sizeof s->tasks, "%s", text);
    return weft_suite_finish(s);
}
static weft_status read_file(weft_suite *s, const char *text) {
    made_suite_file(made_suite_path("settings.yaml"), text);
    return weft_suite_read(s, made_suite_path("settings.yaml"));
}

START_TEST(settings_are_set) {
    weft_suite s;
    weft_suite_defaults(&s);
    ck_assert_str_eq(s.tasks, "all");
    ck_assert_int_eq(s.recall.pairs.count, 4);
    ck_assert_int_eq(s.recall.pairs.of[3], 32);
    ck_assert_int_eq(set(&s, "recall.pairs= 1_0,20 , 7 "), WEFT_OK);
    ck_assert_int_eq(s.recall.pairs.count, 3);
    ck_assert_int_eq(s.recall.pairs.of[0], 10);
    ck_assert_int_eq(s.recall.pairs.of[2], 7);
    ck_assert_int_eq(set(&s, "needle.depths=11"), WEFT_OK);
    ck_assert_int_eq(s.needle.depths, 11);
    ck_assert_int_eq(set(&s, "choices.file=a=b.jsonl"), WEFT_OK);
    ck_assert_str_eq(s.choices.file, "a=b.jsonl");
    ck_assert_int_eq(read_file(&s, "tasks: needle, recall\nrecall:\n  pairs: \"2, 3\"\n  documents: 5\n"
                                   "copy.words: 9\nlabels: {classes: 4}\n"),
                     WEFT_OK);
    ck_assert_int_eq(s.recall.pairs.of[1], 3);
    ck_assert_int_eq(s.recall.documents, 5);
    ck_assert_int_eq(s.copy.words.of[0], 9);
    ck_assert_int_eq(s.labels.classes, 4);
    ck_assert_int_eq(weft_suite_finish(&s), WEFT_OK);
    ck_assert_str_eq(s.tasks, "recall, needle"); /* in the order in which they are run */
}
END_TEST

/* All settings as text, one by one into another suite, give the same bytes. */
START_TEST(text_reads_back) {
    weft_suite a, b;
    weft_suite_defaults(&a);
    weft_suite_defaults(&b);
    ck_assert_int_eq(read_file(&a, "tasks: copy, bits\nseed: 9\nbits: {data: some where, seq_len: 12}\n"
                                   "context: {lengths: \"5, 6\", decode: 7}\n"),
                     WEFT_OK);
    char *text = weft_suite_text(&a), *copy = strdup(text), *rest = copy, *line;
    ck_assert(text && copy);
    while ((line = strsep(&rest, "\n")) && *line) ck_assert_int_eq(set(&b, line), WEFT_OK);
    ck_assert_mem_eq(&a, &b, sizeof a);
    ck_assert_ptr_nonnull(strstr(text, "context.lengths=5, 6\n"));
    free(text);
    free(copy);
}
END_TEST

START_TEST(mistakes_in_settings) {
    static const struct {
        const char *text, *why;
    } wrong[] = {{"recall.pair=4", "here: unknown setting 'recall.pair'; did you mean 'recall.pairs'?"},
                 {"nonsense=4", "unknown setting 'nonsense' (`weft eval --doc`"},
                 {"recall.pairs", "'recall.pairs' is no setting"},
                 {"recall.pairs=", "recall.pairs wants integers, separated by commas, not ''"},
                 {"recall.pairs=4,", "wants integers"},
                 {"recall.pairs=4 5", "wants integers"},
                 {"recall.pairs=4,x", "wants integers"},
                 {"recall.pairs=4,257", "recall.pairs is 257; it must be from 1 to 256"},
                 {"recall.pairs=1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "has more than 16 numbers"},
                 {"seed=1,2", "seed wants an integer, not '1,2'"},
                 {"seed=1_", "wants an integer"},
                 {"seed=-1", "seed is -1; it must be at least 0"},
                 {"seed=99999999999999999999", "wants an integer"},
                 {"batch=0", "batch is 0; it must be from 1"},
                 {"labels.classes=9", "from 2 to 8"},
                 {"bits.split=a-name-of-16-byt", "bits.split has 16 bytes; at most 15 fit"},
                 {"bits.data=a\nb", "control character"}};
    weft_suite s, before;
    weft_suite_defaults(&s);
    before = s;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ck_assert_msg(quietly(set, &s, wrong[i].text) == WEFT_EINPUT, "'%s' was accepted", wrong[i].text);
        ck_assert_msg(strstr(message, wrong[i].why) != NULL, "'%s': %s", wrong[i].text, message);
        ck_assert_mem_eq(&s, &before, sizeof s);
    }
    ck_assert_int_eq(quietly(read_file, &s, "seed: 1\nrecall:\n  pears: 3\n"), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "settings.yaml:3:3: unknown setting 'recall.pears'; did you mean"));
    ck_assert_int_eq(quietly(set_tasks, &s, "recal"), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "did you mean 'recall'?"));
    ck_assert_int_eq(quietly(set_tasks, &s, "recall,,copy"), WEFT_EINPUT);
    ck_assert_int_eq(quietly(set_tasks, &s, ""), WEFT_EINPUT);
    ck_assert_int_eq(quietly(set_tasks, &s, "choices"), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "choices.file=FILE.jsonl"));
    ck_assert_int_eq(set_tasks(&s, "copy,all"), WEFT_OK);
    ck_assert_str_eq(s.tasks, "all");
}
END_TEST

START_TEST(reference_names_everything) {
    char *text = NULL, *keys, *rest, *line, pattern[96];
    size_t bytes;
    weft_suite s;
    FILE *out = open_memstream(&text, &bytes);
    weft_suite_print_doc(out);
    ck_assert_int_eq(fclose(out), 0);
    weft_suite_defaults(&s);
    keys = rest = weft_suite_text(&s);
    while ((line = strsep(&rest, "\n")) && *line) {
        snprintf(pattern, sizeof pattern, "- `%.*s`: ", (int)strcspn(line, "="), line);
        ck_assert_msg(strstr(text, pattern) != NULL, "%s", pattern);
    }
    for (int i = 0; i < weft_suite_tasks_count; i++) {
        snprintf(pattern, sizeof pattern, "- `%s`: ", weft_suite_tasks[i].name);
        ck_assert_msg(strstr(text, pattern) != NULL, "%s", pattern);
    }
    free(text);
    free(keys);
}
END_TEST

/* ---- what cannot be run ------------------------------------------------------------------------- */

static weft_status refused(weft_modelfile *f, const char *tasks, json_t **out) {
    weft_suite s;
    weft_suite_defaults(&s);
    snprintf(s.tasks, sizeof s.tasks, "%s", tasks);
    s.activations.sequences = s.context.decode = s.context.lengths.of[0] = 2;
    s.context.lengths.count = 1;
    ck_assert_int_eq(weft_suite_finish(&s), WEFT_OK);
    capture();
    weft_status st = weft_suite_run(&s, f, &g_w, NULL, out);
    release();
    return st;
}

static void is_skipped(const json_t *result, const char *task, const char *why) {
    const json_t *reason = json_object_get(json_object_get(result, task), "skipped");
    ck_assert_msg(json_is_string(reason) && strstr(json_string_value(reason), why), "%s", task);
}

START_TEST(what_a_model_cannot_do) {
    weft_modelfile *f =
        made_suite_model("model.num_hidden_layers=1 model.mixer_pattern=M model.ffn_pattern=.");
    json_t *r = NULL;
    f->tokenizer[0] = '\0';
    ck_assert_int_eq(refused(f, "context, recall", &r), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "model: holds no tokenizer.model"));
    ck_assert_int_eq(refused(f, "bits", &r), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "model: names no data; add --data DIR"));
    ck_assert_ptr_null(r);
    ck_assert_int_eq(refused(f, "induction", &r), WEFT_OK);
    is_skipped(r, "induction", "no attention");
    json_decref(r);
    ck_assert_int_eq(refused(f, "all", &r), WEFT_OK);
    is_skipped(r, "bits", "no data");
    is_skipped(r, "needle", "no tokenizer.model");
    is_skipped(r, "induction", "no attention");
    ck_assert_ptr_nonnull(json_object_get(json_object_get(r, "activations"), "layers"));
    ck_assert(json_is_array(json_object_get(r, "context")));
    ck_assert_ptr_null(json_object_get(r, "choices")); /* without a file all is the others */
    json_decref(r);
    snprintf(f->config.data.path, sizeof f->config.data.path, "random");
    ck_assert_int_eq(refused(f, "bits", &r), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "data.path=random has no held-out text"));
    made_model_close(f);
}
END_TEST

START_TEST(too_short_for_a_needle) {
    weft_modelfile *f =
        made_suite_model("model.num_hidden_layers=1 model.mixer_pattern=M model.ffn_pattern=.");
    weft_suite s;
    json_t *r = NULL;
    weft_suite_defaults(&s);
    s.needle.lengths.of[0] = 16;
    ck_assert_int_eq(set_tasks(&s, "needle"), WEFT_OK);
    capture();
    ck_assert_int_eq(weft_suite_run(&s, f, &g_w, NULL, &r), WEFT_EINPUT);
    release();
    ck_assert_ptr_nonnull(strstr(message, "needle.lengths: 16 tokens are too few"));
    ck_assert_int_eq(lines(message), 1);
    ck_assert_ptr_null(r);
    made_model_close(f);
}
END_TEST

SUITE_MAIN("suite", begin, settings_are_set, text_reads_back, mistakes_in_settings,
           reference_names_everything, what_a_model_cannot_do, too_short_for_a_needle, end)
