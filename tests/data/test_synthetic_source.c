/* data/source: files that end in .synthetic. */
#include "data/source/synthetic.h"
#include "made_data.h"
#include "made_source.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

static char *file(const char *name, const char *text) {
    return made_file(name, text, strlen(text), PLAIN);
}

/* What reading `documents` of them must deliver. The caller frees. */
static char *all_of(const weft_synthetic *s, uint64_t documents) {
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    weft_synthetic_document d = {0};
    for (uint64_t i = 0; i < documents; i++) {
        ck_assert_int_eq(weft_synthetic_make(s, i, &d), WEFT_OK);
        fprintf(out, "%llu|||%s\n", (unsigned long long)i + 1, d.text);
    }
    fclose(out);
    weft_synthetic_free(&d);
    return text;
}

static void reads(const char *yaml, const weft_synthetic *s, uint64_t documents) {
    char *path = file("x.synthetic", yaml), *want = all_of(s, documents);
    weft_source_tally t = made_reads(path, NULL, 0, want); /* fetches each as well */
    ck_assert_int_eq(t.documents, (int64_t)documents);
    free(path);
    free(want);
}

START_TEST(documents_are_those_of_the_generator) {
    weft_synthetic s;
    weft_synthetic_defaults(&s, WEFT_SYNTHETIC_RECALL);
    reads("task: recall\ndocuments: 40\n", &s, 40);
    s.seed = 9000000000000000;
    s.pairs = (weft_range){3, 200};
    reads("# comment\npairs: 3-200\nseed: 9000000000000000\ndocuments: 3\ntask: recall\n", &s, 3);
    weft_synthetic_defaults(&s, WEFT_SYNTHETIC_COPY);
    s.words = (weft_range){5, 5};
    reads("task: copy\ndocuments: 1\nwords: 5\n", &s, 1);
    weft_synthetic_defaults(&s, WEFT_SYNTHETIC_NEEDLE);
    reads("task: needle\ndocuments: 5\ndepth: drawn\n", &s, 5);
    s.sentences = (weft_range){0, 9};
    s.needles = (weft_range){3, 3};
    s.depth = 0.5;
    reads("task: needle\ndocuments: 5\nsentences: 0-9\nneedles: 3\ndepth: 0.5\n", &s, 5);
    weft_synthetic_defaults(&s, WEFT_SYNTHETIC_LABELS);
    reads("task: labels\ndocuments: 5\nlabels: random\n", &s, 5);
    s.classes = (weft_range){8, 8};
    s.examples = (weft_range){30, 40};
    s.random_labels = false;
    reads("task: labels\ndocuments: 5\nclasses: 8\nexamples: '30-40'\nlabels: named\n", &s, 5);
}
END_TEST

static void fetch(void *path) {
    char *text;
    size_t bytes;
    ck_assert_int_eq(weft_source_fetch(path, NULL, 4, &text, &bytes), WEFT_EINPUT);
}

START_TEST(no_document_behind_the_last) {
    char *path = file("three.synthetic", "task: copy\ndocuments: 3\n");
    ck_assert_ptr_nonnull(strstr(made_errors(fetch, path), "three.synthetic:4: no such document"));
    free(path);
}
END_TEST

static void fetch_too_long(void *path) {
    weft_source_options o = {.max_document = 1, .oversize = WEFT_BAD_SKIP};
    char *text;
    size_t bytes;
    ck_assert_int_eq(weft_source_fetch(path, &o, 3, &text, &bytes), WEFT_EINPUT);
}

/* No other document is made for the sake of one. */
START_TEST(a_far_document_is_fetched) {
    char *path = file("many.synthetic", "task: recall\ndocuments: 1000000000000\nseed: 5\n"), *text;
    size_t bytes;
    weft_synthetic s;
    weft_synthetic_document d = {0};
    weft_synthetic_defaults(&s, WEFT_SYNTHETIC_RECALL);
    s.seed = 5;
    ck_assert_int_eq(weft_synthetic_make(&s, 999999999999, &d), WEFT_OK);
    ck_assert_int_eq(weft_source_fetch(path, NULL, 1000000000000, &text, &bytes), WEFT_OK);
    ck_assert_uint_eq(bytes, d.bytes);
    ck_assert_int_eq(memcmp(text, d.text, bytes), 0);
    weft_synthetic_free(&d);
    free(text);
    ck_assert_ptr_nonnull(strstr(made_errors(fetch_too_long, path), "many.synthetic:3: no such document"));
    free(path);
}
END_TEST

START_TEST(the_format_goes_by_the_ending_or_is_asked_for) {
    static const char yaml[] = "task: copy\ndocuments: 2\n";
    weft_source_options asked = {.format = WEFT_FORMAT_SYNTHETIC};
    weft_synthetic s;
    weft_synthetic_defaults(&s, WEFT_SYNTHETIC_COPY);
    char *want = all_of(&s, 2), *other = file("copy.yaml", yaml), *path;
    made_reads(other, &asked, 0, want);
    made_refused(other, NULL, 0, "or in .synthetic; give its format");
    path = made_file("copy.synthetic", yaml, sizeof yaml - 1, GZIP);
    made_refused(path, NULL, 0, "not a name that ends in");
    free(path);
    path = file("copy.synthetic", yaml);
    made_reads(path, &asked, 0, want);
    made_reads(path, &(weft_source_options){.format = WEFT_FORMAT_TXT}, 0,
               "0|||task: copy\ndocuments: 2\n\n");
    free(path);
    free(other);
    free(want);
}
END_TEST

START_TEST(directories_are_searched_for_them) {
    char *path = file("one.synthetic", "task: copy\ndocuments: 2\n"), **files;
    char *folder = weft_format("%.*s", (int)(strrchr(path, '/') - path), path);
    int count, found = 0;
    for (weft_format_kind format = WEFT_FORMAT_AUTO; format <= WEFT_FORMAT_SYNTHETIC; format++) {
        if (format != WEFT_FORMAT_AUTO && format != WEFT_FORMAT_SYNTHETIC) continue;
        ck_assert_int_eq(weft_source_list(folder, format, &files, &count), WEFT_OK);
        for (int i = 0; i < count; i++) {
            found += strcmp(files[i], path) == 0;
            if (format == WEFT_FORMAT_SYNTHETIC) ck_assert_ptr_nonnull(strstr(files[i], ".synthetic"));
            ck_assert_ptr_null(strstr(files[i], ".synthetic.gz"));
        }
        weft_source_list_free(files, count);
    }
    ck_assert_int_eq(found, 2);
    free(folder);
    free(path);
}
END_TEST

START_TEST(too_long_documents_are_refused_or_skipped) {
    char *path = file("long.synthetic", "task: recall\ndocuments: 40\npairs: 1-20\n");
    weft_source_options o = {.max_document = 200};
    made_refused(path, &o, 0, ": a text longer than 200 bytes");
    o.oversize = WEFT_BAD_SKIP;
    reading r = {.path = path, .options = &o};
    made_errors(made_read, &r);
    ck_assert_int_eq(r.status, WEFT_OK);
    ck_assert_int_gt(r.tally.documents, 0);
    ck_assert_int_gt(r.tally.oversize, 0);
    ck_assert_int_eq(r.tally.documents + r.tally.oversize, 40);
    free(r.text);
    free(path);
}
END_TEST

START_TEST(what_is_wrong_is_said_with_its_line) {
    static const char *const cases[][2] = {
        {"", "no task; it must be recall, copy, needle or labels"},
        {"documents: 3\n", "no task"},
        {"documents: 3\ntask: recal\n", ":2: task is 'recal'; it must be recall, copy, needle or labels"},
        {"documents: 3\ntask:\n  name: recall\n", ":2: task is ''"},
        {"task: copy\n", "how many documents"},
        {"task: copy\ndocuments: 0\n", ":2: documents is '0'; it must be a whole number from 1 to"},
        {"task: copy\ndocuments: 1000000000001\n", ":2: documents is '1000000000001'"},
        {"task: copy\ndocuments: 99999999999999999999999999\n", ":2: documents is '9999"},
        {"task: copy\ndocuments: many\n", ":2: documents is 'many'"},
        {"task: copy\ndocuments: ''\n", ":2: documents is ''"},
        {"task: copy\ndocuments: 3\nseed: -1\n", ":3: seed is '-1'; it must be a whole number from 0"},
        {"task: copy\ndocuments: 3\nseed: 1.5\n", ":3: seed is '1.5'"},
        {"task: copy\ndocuments: 3\nword: 5\n", ":3: unknown key 'word'; did you mean 'words'?"},
        {"task: copy\ndocuments: 3\nheld_out: true\n", ":3: unknown key 'held_out'"},
        {"task: copy\ndocuments: 3\n\npairs: 5\n",
         ":4: pairs is a key of task recall; this file's task is copy"},
        {"task: copy\ndocuments: 3\ndepth: 0.5\n", ":3: depth is a key of task needle"},
        {"task: copy\ndocuments: 3\nlabels: named\n", ":3: labels is a key of task labels"},
        {"task: copy\ndocuments: 3\nwords: few\n", ":3: words is 'few'; it must be a number, or a range as"},
        {"task: copy\ndocuments: 3\nwords: 5-\n", ":3: words is '5-'"},
        {"task: copy\ndocuments: 3\nwords: 5-6-7\n", ":3: words is '5-6-7'"},
        {"task: copy\ndocuments: 3\nwords: -5\n", ":3: words is '-5'"},
        {"task: copy\ndocuments: 3\nwords: 9-5\n", ":3: words is 9-5; it must be a range within 2-100000"},
        {"task: copy\ndocuments: 3\nwords: 1\n", ":3: words is 1-1; it must be a range within 2-100000"},
        {"task: copy\ndocuments: 3\nwords:\n  low: 5\n", ":3: 'words' takes a value"},
        {"task: needle\ndocuments: 3\ndepth: 1.5\n", ":3: depth is '1.5'; it must be a number from 0 to 1"},
        {"task: needle\ndocuments: 3\ndepth: -1\n", ":3: depth is '-1'"},
        {"task: needle\ndocuments: 3\ndepth: nan\n", ":3: depth is 'nan'"},
        {"task: needle\ndocuments: 3\ndepth: ''\n", ":3: depth is ''"},
        {"task: labels\ndocuments: 3\nlabels: names\n", ":3: labels is 'names'; it must be random or named"},
        {"task: labels\ndocuments: 3\nclasses: 2-9\n", ":3: classes is 2-9; it must be a range within 2-8"},
        {"task: copy\ndocuments: 3\ndocuments: 4\n", ":3:"},
        {"task: [copy]\n", ":1:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = file("bad.synthetic", cases[i][0]);
        made_refused(path, NULL, 0, cases[i][1]);
        free(path);
    }
    static char large[(1 << 16) + 2];
    memset(large, '#', sizeof large - 1);
    char *path = file("large.synthetic", large);
    made_refused(path, NULL, 0, "large.synthetic");
    free(path);
}
END_TEST

SUITE_MAIN("data/synthetic source", documents_are_those_of_the_generator, no_document_behind_the_last,
           a_far_document_is_fetched, the_format_goes_by_the_ending_or_is_asked_for,
           directories_are_searched_for_them, too_long_documents_are_refused_or_skipped,
           what_is_wrong_is_said_with_its_line)
