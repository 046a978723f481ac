/* The tokenizer: training, exact round trips, and its ids against a plain BPE that reads tokenizer.json as
 * the `tokenizers` library does. */
#include "data/tokenizer/tokenizer.h"
#include "runtime/fs.h"
#include "runtime/log.h"
#include "support/suite.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VOCAB = 400, TEXT = 1 << 20 };

static char g_dir[] = "/tmp/weft-tokenizer-XXXXXX";
static char g_text[TEXT];
static size_t g_bytes;
static weft_tokenizer *g_tokenizer;

static char *in_dir(const char *name) {
    char *path = weft_format("%s/%s", g_dir, name);
    if (!path) abort();
    return path;
}

static uint64_t g_random = 1;
static unsigned draw(unsigned below) {
    g_random = g_random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(g_random >> 33) % below;
}

/* Prose, numbers, indented code, some letters beyond ASCII. */
static void make_text(void) {
    static const char *const words[] = {"the",   "weft",  "is",     "carried", "across", "warp",    "thread",
                                        "Größe", "naïve", "and",    "of",      "loom",   "weaving", "in",
                                        "a",     "layer", "return", "日本",    "1984"};
    while (g_bytes < 60000) {
        char *p = g_text + g_bytes;
        if (draw(4) == 0) {
            g_bytes += (size_t)sprintf(p, "%*sif (x_%u == %u) {\n%*sreturn -- x;\t// ----\n",
                                       (int)draw(4) * 4, "", draw(10), draw(2000), (int)draw(4) * 4 + 4, "");
        } else {
            for (unsigned n = 5 + draw(10); n > 0; n--)
                g_bytes += (size_t)sprintf(g_text + g_bytes, "%s%s", words[draw(19)], n > 1 ? " " : ".\n");
        }
    }
}

static void write_text(const char *name, const char *text, size_t bytes) {
    char *path = in_dir(name);
    ck_assert_int_eq(weft_fs_create_file(path, text, bytes), WEFT_OK);
    free(path);
}

static weft_status train(const char *out, int64_t vocab, int64_t sample, uint64_t seed, const char *a,
                         const char *b) {
    char *dir = in_dir(out), *first = in_dir(a), *second = b ? in_dir(b) : NULL;
    const char *files[] = {first, second};
    const weft_tokenizer_training o = {vocab, sample, seed};
    weft_status st = weft_tokenizer_train(&o, files, b ? 2 : 1, dir);
    free(dir);
    free(first);
    free(second);
    return st;
}

static weft_tokenizer *open_in(const char *name) {
    weft_tokenizer *t;
    char *path = in_dir(name);
    ck_assert_int_eq(weft_tokenizer_open(&t, path), WEFT_OK);
    free(path);
    return t;
}

static bool in_dir_exists(const char *name) {
    char *path = in_dir(name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

typedef struct ids {
    int32_t *list;
    size_t count, capacity;
} ids;

static void encode(ids *out, const char *text, size_t bytes) {
    ck_assert_int_eq(weft_tokenizer_encode(g_tokenizer, text, bytes, &out->list, &out->count, &out->capacity),
                     WEFT_OK);
}

static void check_round_trip(const char *text, size_t bytes) {
    ids x = {0};
    char *back;
    size_t back_bytes, sum = 0;
    encode(&x, text, bytes);
    for (size_t i = 0; i < x.count; i++) {
        if (x.list[i] < 4 || x.list[i] >= VOCAB)
            ck_abort_msg("id %d, a control token or none", (int)x.list[i]);
        sum += (size_t)weft_tokenizer_piece_bytes(g_tokenizer, x.list[i]);
    }
    ck_assert_uint_eq(sum, bytes);
    ck_assert_int_eq(weft_tokenizer_decode(g_tokenizer, x.list, x.count, &back, &back_bytes), WEFT_OK);
    ck_assert_uint_eq(back_bytes, bytes);
    ck_assert_mem_eq(back, text, bytes);
    ck_assert_int_eq(back[bytes], 0);
    free(back);
    free(x.list);
}

static const char *const nasty[] = {
    "",
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    " a",
    "a ",
    "  a  b  ",
    "\n\n\n   \n",
    "\t\t x\t",
    "weft  weft",
    "the\nweft",
    "naïve Größe",
    "e\xcc\x81 \xef\xac\x81 \xe2\x84\xab",
    "日本語",
    "\xf0\x9f\x98\x80\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa9",
    "\xe2\x96\x81",
    " \xe2\x96\x81 \xe2\x96\x81\xe2\x96\x81x",
    "\xe2\x96\x85",
    "\xef\xbf\xbd",
    "\xff\xfe",
    "a\xc3",
    "\xe2\x96 x",
    "\xed\xa0\x80",
    "\xc0\xaf\xf5\x80\x80\x80",
    "<|pad|><|startoftext|><|endoftext|><|unk|>",
    "<0x0A><0x41>",
    "<s></s><unk>",
    "\xc2\xa0\xe2\x80\x83",
};

START_TEST(special_ids) {
    ck_assert_int_eq(weft_tokenizer_vocab_size(g_tokenizer), VOCAB);
    ck_assert_int_eq(weft_tokenizer_pad(g_tokenizer), 0);
    ck_assert_int_eq(weft_tokenizer_bos(g_tokenizer), 1);
    ck_assert_int_eq(weft_tokenizer_eos(g_tokenizer), 2);
    for (int32_t id = 0; id < 4; id++) ck_assert_int_eq(weft_tokenizer_piece_bytes(g_tokenizer, id), 0);
    for (int32_t id = 4; id < 260; id++) ck_assert_int_eq(weft_tokenizer_piece_bytes(g_tokenizer, id), 1);
    const int32_t wrapped[] = {1, 4 + 'h', 0, 3, 4 + 'i', 2}; /* control tokens leave no text */
    char *text;
    size_t bytes;
    ck_assert_int_eq(weft_tokenizer_decode(g_tokenizer, wrapped, 6, &text, &bytes), WEFT_OK);
    ck_assert_str_eq(text, "hi");
    free(text);
    const int32_t outside[] = {5, VOCAB}, negative[] = {-1};
    ck_assert_int_eq(weft_tokenizer_decode(g_tokenizer, outside, 2, &text, &bytes), WEFT_EINPUT);
    ck_assert_int_eq(weft_tokenizer_decode(g_tokenizer, negative, 1, &text, &bytes), WEFT_EINPUT);
}
END_TEST

START_TEST(round_trips) {
    for (size_t i = 0; i < sizeof nasty / sizeof *nasty; i++) check_round_trip(nasty[i], strlen(nasty[i]));
    check_round_trip("a\0b\0\0", 5);
    check_round_trip(g_text, g_bytes);
    for (int i = 0; i < 500; i++) {
        char text[64];
        size_t bytes = draw(sizeof text);
        for (size_t k = 0; k < bytes; k++)
            text[k] = i % 2 ? (char)draw(256) : "\xe2\x96\x81 a\n\xc3\xa9-"[draw(8)];
        check_round_trip(text, bytes);
    }
}
END_TEST

START_TEST(digits_are_single) {
    const char *text = "1984 and 2024 0x1F a1b22 3.14159\n007";
    ids x = {0};
    encode(&x, text, strlen(text));
    for (size_t i = 0, at = 0; i < x.count;
         at += (size_t)weft_tokenizer_piece_bytes(g_tokenizer, x.list[i++])) {
        size_t bytes = (size_t)weft_tokenizer_piece_bytes(g_tokenizer, x.list[i]);
        for (size_t k = 0; k < bytes; k++)
            if (text[at + k] >= '0' && text[at + k] <= '9') ck_assert_uint_eq(bytes, 1);
    }
    /* ... and the vocabulary has longer pieces, so that the above says something. */
    encode(&x, " the weft", 9);
    ck_assert_uint_le(x.count, 3);
    encode(&x, "        return", 14);
    ck_assert_uint_le(x.count, 4);
    free(x.list);
}
END_TEST

/* ---- BPE as tokenizer.json describes it -------------------------------------------------------------------
 */

static json_t *g_vocab, *g_ranks; /* piece -> id, "left right" -> rank */

static void load_tokenizer_json(void) {
    char *path = in_dir("t/tokenizer.json");
    json_t *root = json_load_file(path, 0, NULL), *merge;
    size_t i;
    free(path);
    ck_assert_ptr_nonnull(root);
    json_t *model = json_object_get(root, "model");
    g_vocab = json_incref(json_object_get(model, "vocab"));
    g_ranks = json_object();
    ck_assert_uint_eq(json_object_size(g_vocab), VOCAB);
    json_array_foreach(json_object_get(model, "merges"), i, merge)
        json_object_set_new(g_ranks, json_string_value(merge), json_integer((json_int_t)i));
    ck_assert_uint_gt(json_object_size(g_ranks), 50);
    ck_assert_uint_eq(json_object_size(g_ranks), i); /* no merge twice */
    json_decref(root);
}

/* Rank of merging text[a, b) with text[b, c), -1 when there is no such merge. */
static json_int_t rank_of(const char *text, size_t a, size_t b, size_t c) {
    char pair[4096];
    if (c - a > sizeof pair - 2) ck_abort_msg("a pair of %zu bytes", c - a);
    memcpy(pair, text + a, b - a);
    pair[b - a] = ' ';
    memcpy(pair + (b - a) + 1, text + b, c - b);
    const json_t *rank = json_object_getn(g_ranks, pair, c - a + 1);
    return rank ? json_integer_value(rank) : -1;
}

/* Ids of `text` (no U+2581 in it, at most 1000 bytes). Symbol i is s[start[i], start[i + 1]). */
static size_t plain_bpe(const char *text, size_t bytes, int32_t *out) {
    char s[3001];
    size_t start[1001], n = 0, end = 0, count = 0;
    ck_assert_uint_le(bytes, 1000);
    for (size_t i = 0; i < bytes; i++) {
        if ((text[i] & 0xc0) != 0x80) start[n++] = end;
        if (text[i] == ' ')
            memcpy(s + end, "\xe2\x96\x81", 3);
        else
            s[end] = text[i];
        end += text[i] == ' ' ? 3 : 1;
    }
    start[n] = end;
    for (;;) {
        json_int_t best = -1;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            json_int_t rank = rank_of(s, start[i], start[i + 1], start[i + 2]);
            if (rank < 0 || (best >= 0 && rank >= best)) continue;
            best = rank;
            at = i;
        }
        if (best < 0) break;
        memmove(start + at + 1, start + at + 2, (n - at - 1) * sizeof *start);
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_object_getn(g_vocab, s + start[i], start[i + 1] - start[i]);
        if (id) out[count++] = (int32_t)json_integer_value(id);
        for (size_t k = start[i]; !id && k < start[i + 1]; k++) {
            char name[8];
            snprintf(name, sizeof name, "<0x%02X>", (unsigned char)s[k]);
            out[count++] = (int32_t)json_integer_value(json_object_get(g_vocab, name));
        }
    }
    return count;
}

static void check_plain(const char *text, size_t bytes) {
    int32_t plain[1000];
    ids x = {0};
    encode(&x, text, bytes);
    size_t count = plain_bpe(text, bytes, plain);
    ck_assert_uint_eq(x.count, count);
    if (count) ck_assert_mem_eq(x.list, plain, count * sizeof *plain);
    free(x.list);
}

START_TEST(equals_plain_bpe) {
    load_tokenizer_json();
    for (size_t at = 0; at + 400 < g_bytes; at += 1500) {
        size_t first = at, end = at + 200 + draw(200);
        while ((g_text[first] & 0xc0) == 0x80) first++;
        while ((g_text[end] & 0xc0) == 0x80) end++;
        check_plain(g_text + first, end - first);
    }
    static const char *const parts[] = {" ",  "  ", "   ", "-",  "--", "\n", "\t", "the",
                                        "we", "ft", "é",   "日", "1",  "x_", "{",  "😀"};
    for (int i = 0; i < 300; i++) {
        char text[400] = "";
        for (unsigned n = draw(60); n > 0; n--) strcat(text, parts[draw(16)]);
        check_plain(text, strlen(text));
    }
    for (const char *c = " -er"; *c; c++) {
        char run[100];
        memset(run, *c, sizeof run);
        for (size_t n = 1; n <= sizeof run; n++) check_plain(run, n);
    }
    json_decref(g_vocab);
    json_decref(g_ranks);
}
END_TEST

START_TEST(lines_give_the_ids_of_the_whole) {
    ids whole = {0}, line = {0};
    size_t at = 0;
    encode(&whole, g_text, g_bytes);
    for (const char *p = g_text, *end = g_text + g_bytes; p < end;) {
        const char *next = (const char *)memchr(p, '\n', (size_t)(end - p)) + 1;
        encode(&line, p, (size_t)(next - p));
        ck_assert_uint_le(at + line.count, whole.count);
        ck_assert_mem_eq(line.list, whole.list + at, line.count * sizeof *line.list);
        at += line.count;
        p = next;
    }
    ck_assert_uint_eq(at, whole.count);
    free(whole.list);
    free(line.list);
}
END_TEST

/* More different words than the encoder remembers: one must not pass for another. */
START_TEST(many_words) {
    enum { WORDS = 60000 };
    char *text = malloc(WORDS * 5);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < WORDS; i++) {
        for (int k = 0; k < 4; k++) text[i * 5 + (size_t)k] = (char)('a' + draw(26));
        text[i * 5 + 4] = ' ';
    }
    check_round_trip(text, WORDS * 5);
    free(text);
}
END_TEST

static void *encode_slices(void *failed) {
    ids x = {0};
    for (int round = 0; round < 20; round++) {
        if (weft_tokenizer_encode(g_tokenizer, g_text, g_bytes, &x.list, &x.count, &x.capacity) != WEFT_OK)
            *(bool *)failed = true;
        char *back;
        size_t bytes;
        if (weft_tokenizer_decode(g_tokenizer, x.list, x.count, &back, &bytes) != WEFT_OK) {
            *(bool *)failed = true;
            break;
        }
        if (bytes != g_bytes || memcmp(back, g_text, bytes) != 0) *(bool *)failed = true;
        free(back);
    }
    free(x.list);
    return NULL;
}

START_TEST(threads_share_a_tokenizer) {
    pthread_t threads[4];
    bool failed[4] = {0};
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, encode_slices, &failed[i]), 0);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 4; i++) ck_assert(!failed[i]);
}
END_TEST

START_TEST(digest_names_the_model) {
    weft_hash128 hash, digest = weft_tokenizer_digest(g_tokenizer);
    uint64_t file_bytes;
    size_t bytes;
    char *path = in_dir("t/tokenizer.model");
    ck_assert_int_eq(weft_hash_file(path, &hash, &file_bytes), WEFT_OK);
    free(path);
    ck_assert_uint_eq(hash.hi, digest.hi);
    ck_assert_uint_eq(hash.lo, digest.lo);
    const void *model = weft_tokenizer_model(g_tokenizer, &bytes);
    ck_assert_uint_eq(bytes, file_bytes);
    hash = weft_hash128_of(model, bytes);
    ck_assert_uint_eq(hash.lo, digest.lo);
}
END_TEST

static weft_hash128 digest_of(const char *name) {
    weft_tokenizer *t = open_in(name);
    weft_hash128 digest = weft_tokenizer_digest(t);
    weft_tokenizer_close(t);
    return digest;
}

START_TEST(training_repeats) {
    write_text("a.txt", g_text, g_bytes / 2 + 1);
    size_t cut = g_bytes / 2 + 1;
    while ((g_text[cut] & 0xc0) == 0x80) cut++;
    write_text("b.txt", g_text + cut, g_bytes - cut);
    ck_assert_int_eq(train("r1", VOCAB, 30000, 7, "b.txt", "text.txt"), WEFT_OK);
    ck_assert_int_eq(train("r2", VOCAB, 30000, 7, "text.txt", "b.txt"), WEFT_OK);
    ck_assert_int_eq(train("r3", VOCAB, 30000, 8, "b.txt", "text.txt"), WEFT_OK);
    ck_assert_uint_eq(digest_of("r1").lo, digest_of("r2").lo);
    ck_assert_uint_ne(digest_of("r1").lo, digest_of("r3").lo);
}
END_TEST

START_TEST(files_for_transformers) {
    static const char *const names[] = {"tokenizer.model", "tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    char *dir = in_dir("export");
    ck_assert_int_eq(weft_fs_mkdir(dir), WEFT_OK);
    ck_assert_int_eq(weft_tokenizer_write_hf(g_tokenizer, dir), WEFT_OK);
    for (int i = 0; i < 4; i++) {
        char *path = weft_format("%s/%s", dir, names[i]), *trained = weft_format("%s/t/%s", g_dir, names[i]);
        weft_hash128 a, b;
        uint64_t bytes;
        ck_assert_int_eq(weft_hash_file(path, &a, &bytes), WEFT_OK);
        ck_assert_int_eq(weft_hash_file(trained, &b, &bytes), WEFT_OK);
        ck_assert_uint_eq(a.lo, b.lo);
        free(path);
        free(trained);
    }
    ck_assert_int_ne(weft_tokenizer_write_hf(g_tokenizer, dir), WEFT_OK); /* never writes over files */
    free(dir);
    char *path = in_dir("t/tokenizer_config.json");
    json_t *config = json_load_file(path, 0, NULL);
    free(path);
    ck_assert_str_eq(json_string_value(json_object_get(config, "bos_token")), "<|startoftext|>");
    ck_assert_str_eq(json_string_value(json_object_get(config, "eos_token")), "<|endoftext|>");
    ck_assert_str_eq(json_string_value(json_object_get(config, "pad_token")), "<|pad|>");
    ck_assert_uint_eq(json_object_size(json_object_get(config, "added_tokens_decoder")), 4);
    json_decref(config);
}
END_TEST

START_TEST(refusals) {
    weft_tokenizer *t = NULL;
    char *missing = in_dir("missing");
    ck_assert_int_eq(weft_tokenizer_open(&t, missing), WEFT_EINPUT);
    free(missing);
    write_text("empty.model", "", 0);
    write_text("foreign.model", "hello, this is no model", 23);
    for (int i = 0; i < 2; i++) {
        char *path = in_dir(i ? "empty.model" : "foreign.model");
        ck_assert_int_eq(weft_tokenizer_open(&t, path), WEFT_EINPUT);
        free(path);
    }
    size_t bytes;
    const char *model = weft_tokenizer_model(g_tokenizer, &bytes);
    write_text("cut.model", model, bytes / 2);
    char *cut = in_dir("cut.model");
    ck_assert_int_eq(weft_tokenizer_open(&t, cut), WEFT_EINPUT);
    free(cut);
    ck_assert_ptr_null(t);
    write_text("empty.txt", "", 0);
    ck_assert_int_eq(train("x", VOCAB, TEXT, 0, "empty.txt", NULL), WEFT_EINPUT);
    ck_assert_int_eq(train("x", VOCAB, TEXT, 0, "missing.txt", NULL), WEFT_EINPUT);
    ck_assert_int_eq(train("x", 100, TEXT, 0, "text.txt", NULL), WEFT_EINPUT);   /* below the bytes */
    ck_assert_int_eq(train("x", 265, TEXT, 0, "text.txt", NULL), WEFT_EINPUT);   /* below the characters */
    ck_assert_int_eq(train("x", 50000, TEXT, 0, "text.txt", NULL), WEFT_EINPUT); /* more than the text has */
    ck_assert_int_eq(train("x", VOCAB, 0, 0, "text.txt", NULL), WEFT_EINPUT);
    ck_assert(!in_dir_exists("x"));
    ck_assert_int_eq(train("t", VOCAB, TEXT, 0, "text.txt", NULL), WEFT_EINPUT); /* exists */
    ck_assert_int_eq(train("no/t", VOCAB, TEXT, 0, "text.txt", NULL), WEFT_EINPUT);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {special_ids,
                                  round_trips,
                                  digits_are_single,
                                  equals_plain_bpe,
                                  lines_give_the_ids_of_the_whole,
                                  many_words,
                                  threads_share_a_tokenizer,
                                  digest_names_the_model,
                                  training_repeats,
                                  files_for_transformers,
                                  refusals};
    if (!mkdtemp(g_dir)) {
        fprintf(stderr, "%s: %s\n", g_dir, strerror(errno));
        return EXIT_FAILURE;
    }
    /* Check's asserts work inside tests only. */
    make_text();
    char *text = in_dir("text.txt"), *dir = in_dir("t");
    int result = EXIT_FAILURE;
    if (weft_fs_create_file(text, g_text, g_bytes) == WEFT_OK &&
        train("t", VOCAB, TEXT, 0, "text.txt", NULL) == WEFT_OK &&
        weft_tokenizer_open(&g_tokenizer, dir) == WEFT_OK) {
        result = suite_run("tokenizer", tests, (int)(sizeof tests / sizeof *tests));
        weft_tokenizer_close(g_tokenizer);
    }
    free(text);
    free(dir);
    weft_fs_remove_tree(g_dir);
    return result;
}
