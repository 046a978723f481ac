/* data/filter: n-grams of evaluation files are found in documents, all of them and nothing else. */
#include "data/filter/filter.h"
#include "made_data.h"
#include "runtime/fs.h"
#include "runtime/rng.h"
#include "support/capture.h"
#include "support/suite.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

static char *file_of(const char *dir, const char *name, const char *text) {
    char *path = weft_format("%s/%s", dir, name);
    ck_assert_int_eq(weft_fs_create_file(path, text, strlen(text)), WEFT_OK);
    return path;
}

static weft_contaminants *opened(const char *files, int n, int shortest) {
    weft_contaminants *c = NULL;
    ck_assert_int_eq(weft_contaminants_open(&c, files, n, shortest), WEFT_OK);
    return c;
}

static weft_contamination look(const weft_contaminants *c, const char *text) {
    weft_words *words;
    weft_contamination found;
    ck_assert_int_eq(weft_words_new(&words), WEFT_OK);
    ck_assert_int_eq(weft_contaminated(c, words, text, strlen(text), &found), WEFT_OK);
    weft_words_free(words);
    return found;
}

START_TEST(a_question_in_a_document) {
    char *path = file_of(made_dir(), "eval.jsonl",
                         "{\"id\": 1, \"q\": \"What is the Capital of France, and why?\"}\n"
                         "\n"
                         "{\"q\": \"one two three four five six seven eight nine\"}");
    weft_contaminants *c = opened(path, 5, 5);
    weft_contamination r = look(c, "Q: what is the capital -- of FRANCE and the rest of it");
    ck_assert_int_eq(r.matches, 3); /* what..of, is..france, the..and */
    ck_assert_double_eq(r.share, 7.0 / 12);
    ck_assert_int_eq(r.file, 0);
    ck_assert_int_eq(r.text, 1);
    ck_assert_str_eq(r.excerpt, "what is the capital of");
    r = look(c, "five six seven eight nine; ten, and three four five six seven");
    ck_assert_int_eq(r.matches, 2);
    ck_assert_double_eq(r.share, 10.0 / 12);
    ck_assert_int_eq(r.text, 3);
    ck_assert_str_eq(r.excerpt, "five six seven eight nine");
    r = look(c, "six seven eight nine one two three four");
    ck_assert_int_eq(r.matches, 0);
    ck_assert_double_eq(r.share, 0);
    ck_assert_int_eq(r.file, -1);
    ck_assert_int_eq(r.text, 0);
    ck_assert_str_eq(r.excerpt, "");
    r = look(c, "");
    ck_assert_int_eq(r.matches, 0);
    ck_assert_double_eq(r.share, 0);
    weft_contaminants_close(c);
    free(path);
}
END_TEST

START_TEST(every_string_of_an_object) {
    char *path =
        file_of(made_dir(), "eval.jsonl",
                "{\"ax ay az\": \"aa ab ac\", \"list\": [\"ba bb bc\", {\"deep\": [[\"ca cb cc\"]]}], \"n\": "
                "123456789012345678901, \"no\": null, \"s\": \"\\u0000da db dc\"}\r\n");
    weft_contaminants *c = opened(path, 3, 3);
    int64_t too_short;
    ck_assert_int_eq(weft_contaminants_count(c, &too_short), 4);
    ck_assert_int_eq(too_short, 0);
    ck_assert_int_eq(look(c, "aa ab ac").matches, 1);
    ck_assert_int_eq(look(c, "ba bb bc").matches, 1);
    ck_assert_int_eq(look(c, "ca cb cc").matches, 1);
    ck_assert_int_eq(look(c, "da db dc").matches, 1);
    ck_assert_int_eq(look(c, "ax ay az ab ac ba").matches, 0); /* names of members; across strings */
    ck_assert_int_eq(look(c, "ab ac ba").matches, 0);
    weft_contaminants_close(c);
    free(path);
}
END_TEST

START_TEST(texts_shorter_than_n) {
    char *path = file_of(made_dir(), "eval.jsonl",
                         "{\"q\": \"a b\"}\n{\"q\": \"c d e\"}\n{\"q\": \"f g h i\"}\n{\"q\": \"j k l m n "
                         "o\"}\n{\"q\": \"\"}\n");
    weft_contaminants *c = opened(path, 5, 3);
    int64_t too_short;
    ck_assert_int_eq(weft_contaminants_count(c, &too_short), 3);
    ck_assert_int_eq(too_short, 2);
    ck_assert_int_eq(look(c, "x a b x").matches, 0);
    ck_assert_int_eq(look(c, "x c d e x").matches, 1);
    ck_assert_int_eq(look(c, "c d e").matches, 1);
    ck_assert_int_eq(look(c, "c d").matches, 0);
    ck_assert_int_eq(look(c, "f g h x").matches, 0);
    ck_assert_int_eq(look(c, "f g h i").matches, 1);
    ck_assert_int_eq(look(c, "x x x x x x f g h i").matches, 1);
    ck_assert_int_eq(look(c, "j k l").matches, 0); /* of a longer text only its n-grams */
    ck_assert_int_eq(look(c, "j k l m n o").matches, 2);
    ck_assert_double_eq(look(c, "c d e x j k l m n o").share, 0.9);
    weft_contaminants_close(c);
    c = opened(path, 5, 9); /* more than n: texts of n words are taken */
    ck_assert_int_eq(weft_contaminants_count(c, &too_short), 1);
    ck_assert_int_eq(too_short, 4);
    ck_assert_int_eq(look(c, "f g h i j k l m n").matches, 1);
    weft_contaminants_close(c);
    free(path);
}
END_TEST

START_TEST(the_first_one_wins) {
    const char *dir = made_dir();
    char *a = file_of(dir, "a.jsonl", "{\"q\": \"a b c d\"}\n{\"q\": \"e f g h\"}\n{\"q\": \"a b c d e\"}\n");
    char *b = file_of(dir, "b.txt", "i j\nk\n\nl m e f\ng h n\n");
    char *ab = weft_format("%s, %s", a, b), *ba = weft_format("%s,%s ", b, a);
    static const struct {
        const char *text;
        int32_t file, other_file;
        int64_t line, other_line;
    } list[] = {{"a b c d", 0, 1, 1, 1}, {"b c d e", 0, 1, 3, 3}, {"e f g h", 0, 0, 2, 4},
                {"i j k l", 1, 0, 1, 1}, {"k l m e", 1, 0, 2, 2}, {"f g h n", 1, 0, 4, 4}};
    weft_contaminants *c = opened(ab, 4, 4), *other = opened(ba, 4, 4);
    ck_assert_int_eq(weft_contaminants_count(c, NULL), 4); /* a txt is one text */
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        weft_contamination r = look(c, list[i].text);
        ck_assert_int_eq(r.matches, 1);
        ck_assert_int_eq(r.file, list[i].file);
        ck_assert_int_eq(r.text, list[i].line);
        r = look(other, list[i].text);
        ck_assert_int_eq(r.file, list[i].other_file);
        ck_assert_int_eq(r.text, list[i].other_line);
    }
    weft_contaminants_close(c);
    weft_contaminants_close(other);
    free(a);
    free(b);
    free(ab);
    free(ba);
}
END_TEST

START_TEST(packed_files) {
    static const char text[] = "\xef\xbb\xbf{\"q\": \"aa bb cc dd\"}\n";
    const char *dir = made_dir();
    char *gz = weft_format("%s/a.jsonl.gz", dir), *zst = weft_format("%s/b.ndjson.zst", dir);
    gzFile out = gzopen(gz, "wb");
    ck_assert_int_eq(gzwrite(out, text, sizeof text - 1), (int)sizeof text - 1);
    ck_assert_int_eq(gzclose(out), Z_OK);
    char packed[256];
    size_t bytes = ZSTD_compress(packed, sizeof packed, text, sizeof text - 1, 1);
    ck_assert_int_eq(weft_fs_create_file(zst, packed, bytes), WEFT_OK);
    char *files[] = {gz, zst};
    for (int i = 0; i < 2; i++) {
        weft_contaminants *c = opened(files[i], 4, 4);
        ck_assert_int_eq(look(c, "aa bb cc dd").matches, 1);
        weft_contaminants_close(c);
        free(files[i]);
    }
}
END_TEST

START_TEST(words_of_other_scripts) {
    /* No spaces: words are ICU's; a mark is taken out, a composed letter decomposed. */
    char *path = file_of(made_dir(), "eval.txt",
                         "\xe6\x88\x91\xe5\x96\x9c\xe6\xac\xa2\xe5\x90\x83\xe8\x8b\xb9\xe6\x9e\x9c "
                         "caf\xc3\xa9 \xc3\x89t\xc3\xa9 Stra\xc3\x9f"
                         "e");
    weft_contaminants *c = opened(path, 3, 3);
    weft_contamination r =
        look(c, "x \xe6\x88\x91\xe5\x96\x9c\xe6\xac\xa2\xe5\x90\x83\xe8\x8b\xb9\xe6\x9e\x9c y");
    ck_assert_int_ge(r.matches, 1);
    r = look(c, "the CAFE\xcc\x81, ete: stra\xc3\x9f"
                "e!");
    ck_assert_int_eq(r.matches, 1);
    ck_assert_str_eq(r.excerpt, "cafe ete stra\xc3\x9f"
                                "e");
    weft_contaminants_close(c);
    free(path);
}
END_TEST

/* The excerpt has whole characters only, and its zero. */
START_TEST(long_excerpts_are_cut) {
    for (int shift = 0; shift < 3; shift++) {
        char text[1024] = "";
        for (int i = 0; i < shift; i++) strcat(text, "x");
        for (int w = 0; w < 4; w++) {
            for (int i = 0; i < 30; i++) strcat(text, "\xd0\xb6");
            strcat(text, " ");
        }
        char *path = file_of(made_dir(), "eval.txt", text);
        weft_contaminants *c = opened(path, 4, 4);
        weft_contamination r = look(c, text);
        size_t n = strlen(r.excerpt);
        ck_assert_int_eq(r.matches, 1);
        ck_assert(n == 159 || n == 158);
        ck_assert(memcmp(r.excerpt, text, n) == 0 && (text[n] & 0xc0) != 0x80);
        weft_contaminants_close(c);
        free(path);
    }
}
END_TEST

START_TEST(excerpts_that_just_fit) {
    for (int bytes = 157; bytes < 163; bytes++) {
        char text[256];
        memset(text, 'x', sizeof text);
        text[100] = ' ';
        text[bytes] = '\0';
        char *path = file_of(made_dir(), "eval.txt", text);
        weft_contaminants *c = opened(path, 2, 2);
        weft_contamination r = look(c, text);
        ck_assert_uint_eq(strlen(r.excerpt), bytes < 160 ? (size_t)bytes : 159);
        ck_assert_int_eq(strncmp(r.excerpt, text, 159), 0);
        weft_contaminants_close(c);
        free(path);
    }
}
END_TEST

/* ---- against a model: every run of words compared with every other ---- */
enum { WORDS = 400, N = 4, SHORTEST = 2 };

static bool is_run(char (*eval)[16], const int *ends, int texts, char (*doc)[16], int at, int length) {
    for (int t = 0, start = 0; t < texts; start = ends[t++]) {
        int words = ends[t] - start;
        if (words < N ? words != length : length != N) continue;
        for (int i = start; i + length <= ends[t]; i++) {
            int same = 0;
            while (same < length && strcmp(eval[i + same], doc[at + same]) == 0) same++;
            if (same == length) return true;
        }
    }
    return false;
}

static void random_words(char (*words)[16], int count, weft_rng r, uint64_t *at, uint64_t letters) {
    for (int i = 0; i < count; i++)
        snprintf(words[i], 16, "w%c", (int)('a' + weft_rng_below(r, (*at)++, letters)));
}

START_TEST(against_every_pair) {
    const char *dir = made_dir();
    weft_rng r = weft_rng_make(1, "contaminants");
    uint64_t at = 0;
    int64_t found = 0, none = 0;
    for (int trial = 0; trial < 40; trial++) {
        static char eval[WORDS][16], doc[WORDS][16], json[16 * WORDS], text[16 * WORDS];
        int ends[WORDS], texts = 0, words = 0, count = (int)weft_rng_below(r, at++, 120);
        uint64_t letters = 2 + weft_rng_below(r, at++, 20);
        random_words(eval, WORDS, r, &at, letters);
        random_words(doc, WORDS, r, &at, letters);
        json[0] = text[0] = '\0';
        strcat(json, "{\"q\": \"long enough to be taken whole\"}\n");
        for (; words < WORDS - 12; texts++) {
            strcat(json, "{\"q\": \"");
            int end = words + (int)weft_rng_below(r, at++, 10);
            for (; words < end; words++) strcat(strcat(json, eval[words]), " ");
            strcat(json, "\"}\n");
            ends[texts] = end;
        }
        for (int i = 0; i < count; i++) strcat(strcat(text, doc[i]), i % 7 ? " " : ".\n");
        int64_t matches = 0, covered = 0, end = 0;
        for (int i = 0; i < count; i++) {
            int length = N;
            while (length >= SHORTEST && (i + length > count || !is_run(eval, ends, texts, doc, i, length)))
                length--;
            if (length < SHORTEST) continue;
            matches++;
            for (int k = i; k < i + length; k++)
                if (k >= end) covered++, end = k + 1;
        }
        char *name = weft_format("%d.jsonl", trial), *path = file_of(dir, name, json);
        weft_contaminants *c = opened(path, N, SHORTEST);
        weft_contamination got = look(c, text);
        ck_assert_int_eq(got.matches, matches);
        ck_assert_double_eq(got.share, count > 0 ? (double)covered / count : 0);
        found += matches;
        none += count - matches;
        weft_contaminants_close(c);
        free(name);
        free(path);
    }
    ck_assert(found > 100 && none > 100);
}
END_TEST

/* More n-grams than the first table has room for, each found again and with its line. */
START_TEST(many_texts) {
    enum { TEXTS = 17000 };
    char *json = malloc(TEXTS * 64), *p = json;
    for (int i = 0; i < TEXTS; i++)
        p += sprintf(p, "{\"q\": \"a%c%c%c b%c%c%c c\"}\n", 'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676,
                     'a' + i / 676, 'a' + i % 26, 'a' + i / 26 % 26);
    char *path = file_of(made_dir(), "eval.jsonl", json);
    weft_contaminants *c = opened(path, 3, 3);
    weft_words *words;
    ck_assert_int_eq(weft_words_new(&words), WEFT_OK);
    p = json;
    for (int i = 0; i < TEXTS; i++, p = strchr(p, '\n') + 1) {
        weft_contamination r;
        ck_assert_int_eq(weft_contaminated(c, words, p + 7, 11, &r), WEFT_OK);
        ck_assert_int_eq(r.matches, 1);
        ck_assert_int_eq(r.text, i + 1);
        ck_assert_int_eq(weft_contaminated(c, words, p + 7, 9, &r), WEFT_OK);
        ck_assert_int_eq(r.matches, 0);
    }
    weft_words_free(words);
    weft_contaminants_close(c);
    free(path);
    free(json);
}
END_TEST

START_TEST(what_is_not_read_is_refused) {
    const char *dir = made_dir();
    static const struct {
        const char *name, *text, *why;
    } bad[] = {{"a.jsonl", "{\"q\": \"a b c\"}\n{\"q\": \"a b", "a.jsonl:2: not JSON"},
               {"b.jsonl", "{\"q\": \"a b c\"}\n[\"a b c\"]", "b.jsonl:2: not a JSON object"},
               {"c.jsonl", "{\"q\": \"a \xff c\"}", "c.jsonl:1: not JSON"},
               {"d.txt", "a b c\n\n\xc3", "d.txt:3: not UTF-8"},
               {"e.csv", "a b c", "e.csv: an evaluation file's name ends in"},
               {"f.jsonl.gz", "{}", "damaged gzip data"},
               {"g.txt", "a b", "no text of 3 words or more"},
               {"h.jsonl", "", "no text of 3 words or more"}};
    weft_contaminants *c = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *path = file_of(dir, bad[i].name, bad[i].text);
        capture();
        weft_status st = weft_contaminants_open(&c, path, 5, 3);
        release();
        ck_assert_int_eq(st, WEFT_EINPUT);
        ck_assert_ptr_null(c);
        ck_assert_msg(strstr(message, bad[i].why) && strstr(message, bad[i].name), "'%s' lacks '%s'", message,
                      bad[i].why);
        free(path);
    }
    char *good = file_of(dir, "good.txt", "a b c"), *list = weft_format("%s,,%s", good, good);
    char *missing = weft_format("%s,%s/nowhere.txt", good, dir),
         *mixed = weft_format("%s,%s/g.txt", good, dir);
    const struct {
        const char *files;
        int n, shortest;
        const char *why;
    } wrong[] = {{list, 5, 3, "a name is empty"}, {"", 5, 3, "a name is empty"},
                 {missing, 5, 3, "nowhere.txt"},  {good, 0, 1, "1 to 64"},
                 {good, 65, 1, "1 to 64"},        {good, 5, 0, "1 or more"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        capture();
        weft_status st = weft_contaminants_open(&c, wrong[i].files, wrong[i].n, wrong[i].shortest);
        release();
        ck_assert_int_eq(st, WEFT_EINPUT);
        ck_assert_msg(strstr(message, wrong[i].why), "'%s' lacks '%s'", message, wrong[i].why);
    }
    capture();
    c = opened(mixed, 5, 3);
    release();
    ck_assert_ptr_nonnull(strstr(message, "g.txt: no text of 3 words or more"));
    weft_contaminants_close(c);
    free(good);
    free(list);
    free(missing);
    free(mixed);
}
END_TEST

SUITE_MAIN("contaminants", a_question_in_a_document, every_string_of_an_object, texts_shorter_than_n,
           the_first_one_wins, packed_files, words_of_other_scripts, long_excerpts_are_cut,
           excerpts_that_just_fit, against_every_pair, many_texts, what_is_not_read_is_refused)
