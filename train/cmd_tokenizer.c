/* `weft tokenizer train|encode|decode`. */
#include "train/commands.h"
#include "train/options.h"
#include "train/output.h"

#include "data/tokenizer/tokenizer.h"
#include "runtime/fs.h"
#include "runtime/log.h"
#include "runtime/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))
#define MAX_INPUT ((size_t)1 << 30)

static weft_status train(int argc, char **argv) {
    int64_t vocab = 0, sample = WEFT_TOKENIZER_SAMPLE_BYTES, seed = 0;
    const char *out = NULL;
    bool help;
    int count;
    const weft_option options[] = {
        {"vocab", WEFT_OPT_INT, &vocab, "N",
         "size of the vocabulary, with 4 special tokens and 256 bytes (required)"},
        {"o", WEFT_OPT_STRING, &out, "DIR", "directory to make; it must not exist (required)"},
        {"sample-bytes", WEFT_OPT_INT, &sample, "N",
         "text to learn from, drawn evenly from all files (default 16 MiB)"},
        {"seed", WEFT_OPT_INT, &seed, "N", "of the draw (default 0)"},
    };
    const weft_usage usage = {
        "weft tokenizer train", "FILE...",
        "Trains a SentencePiece BPE tokenizer on .txt, .jsonl (also .gz, .zst) and .synthetic files, and writes\n"
        "tokenizer.model and the JSON files with which transformers loads it.",
        1, -1};
    WEFT_TRY(weft_options_parse(&usage, options, COUNT(options), argc, argv, &count, &help));
    if (help) return WEFT_OK;
    if (vocab == 0)
        WEFT_FAIL(WEFT_EINPUT, "weft tokenizer train: --vocab N is missing, for example --vocab 4096");
    if (!out || !*out)
        WEFT_FAIL(WEFT_EINPUT, "weft tokenizer train: -o DIR is missing, the directory to make");
    const weft_tokenizer_training training = {
        .vocab_size = vocab, .max_sample_bytes = sample, .seed = (uint64_t)seed};
    WEFT_TRY(weft_tokenizer_train(&training, (const char *const *)(argv + 1), count, out));
    weft_info("tokenizer: %lld tokens in %s", (long long)vocab, out);
    return WEFT_OK;
}

static weft_status read_stdin(char **data, size_t *bytes) {
    size_t capacity = 0, count = 0;
    char *p = NULL;
    for (;;) {
        if (capacity - count < 4096) {
            capacity = capacity * 2 + 65536;
            char *larger = capacity <= 2 * MAX_INPUT ? realloc(p, capacity) : NULL;
            if (!larger) {
                free(p);
                WEFT_FAIL(WEFT_ENOMEM, "no memory for the standard input: over %zu bytes", count);
            }
            p = larger;
        }
        size_t n = fread(p + count, 1, capacity - count - 1, stdin);
        count += n;
        if (n == 0) break;
    }
    if (ferror(stdin)) {
        free(p);
        WEFT_FAIL(WEFT_EIO, "the standard input cannot be read: %s", strerror(errno));
    }
    p[count] = 0;
    *data = p;
    *bytes = count;
    return WEFT_OK;
}

/* "-" is the standard input. */
static weft_status read_input(const char *name, char **data, size_t *bytes) {
    if (strcmp(name, "-") == 0) return read_stdin(data, bytes);
    return weft_fs_read_file(name, MAX_INPUT, data, bytes);
}

static void print_ids(const weft_tokenizer *t, const int32_t *ids, size_t count, size_t bytes, bool bos,
                      bool eos, bool json) {
    const char *between = json ? ", " : " ", *gap = "";
    if (json) printf("{\"tokens\": %zu, \"bytes\": %zu, \"ids\": [", count + bos + eos, bytes);
    if (bos) {
        printf("%d", weft_tokenizer_bos(t));
        gap = between;
    }
    for (size_t i = 0; i < count; i++) {
        printf("%s%d", gap, ids[i]);
        gap = between;
    }
    if (eos) printf("%s%d", gap, weft_tokenizer_eos(t));
    puts(json ? "]}" : "");
}

static weft_status encode(int argc, char **argv) {
    bool json = false, bos = false, eos = false, help;
    const char *given = NULL;
    int count;
    const weft_option options[] = {
        {"text", WEFT_OPT_STRING, &given, "TEXT", "the text itself, in place of FILE"},
        {"bos", WEFT_OPT_FLAG, &bos, NULL, "put the begin token first"},
        {"eos", WEFT_OPT_FLAG, &eos, NULL, "put the end token last"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "{\"tokens\": N, \"bytes\": N, \"ids\": [...]}"},
    };
    const weft_usage usage = {
        "weft tokenizer encode", "DIR|tokenizer.model [FILE|-]",
        "Prints the token ids of one text, byte for byte: FILE, the standard input (-, the default)\n"
        "or --text. One line, ids separated by spaces.",
        1, 2};
    WEFT_TRY(weft_options_parse(&usage, options, COUNT(options), argc, argv, &count, &help));
    if (help) return WEFT_OK;
    if (given && count == 2)
        WEFT_FAIL(WEFT_EINPUT, "weft tokenizer encode: --text and '%s' are both given; give one of them",
                  argv[2]);
    weft_tokenizer *t = NULL;
    char *data = NULL;
    int32_t *ids = NULL;
    size_t bytes = 0, ids_count = 0, capacity = 0;
    WEFT_TRY(weft_tokenizer_open(&t, argv[1]));
    weft_status st = WEFT_OK;
    if (given)
        bytes = strlen(given);
    else
        WEFT_GOTO(st, done, read_input(count == 2 ? argv[2] : "-", &data, &bytes));
    WEFT_GOTO(st, done, weft_tokenizer_encode(t, given ? given : data, bytes, &ids, &ids_count, &capacity));
    print_ids(t, ids, ids_count, bytes, bos, eos, json);
    st = weft_output_finish();
done:
    free(ids);
    free(data);
    weft_tokenizer_close(t);
    return st;
}

/* Appends the ids in `text`, separated by blanks: at most half of its bytes, rounded up. */
static weft_status parse_ids(const char *text, size_t bytes, int32_t *ids, size_t *count) {
    const char *p = text, *end = text + bytes;
    while (p += strspn(p, " \t\r\n"), p < end) {
        size_t length = strcspn(p, " \t\r\n");
        char *behind;
        errno = 0;
        long id = strtol(p, &behind, 10);
        if (behind != p + length || errno != 0 || id < 0 || id > INT32_MAX)
            WEFT_FAIL(WEFT_EINPUT, "weft tokenizer decode: '%.*s' is no token id",
                      (int)(length < 40 ? length : 40), p);
        ids[(*count)++] = (int32_t)id;
        p += length;
    }
    return WEFT_OK;
}

static weft_status decode(int argc, char **argv) {
    bool help;
    int count;
    const weft_usage usage = {
        "weft tokenizer decode", "DIR|tokenizer.model [ID ...|-]",
        "Prints the text of token ids, byte for byte and without a newline of its own. The ids are\n"
        "arguments or come from the standard input (-, the default). Special tokens have no text.",
        1, -1};
    WEFT_TRY(weft_options_parse(&usage, NULL, 0, argc, argv, &count, &help));
    if (help) return WEFT_OK;
    bool from_stdin = count == 1 || (count == 2 && strcmp(argv[2], "-") == 0);
    weft_tokenizer *t = NULL;
    char *input = NULL, *text = NULL;
    int32_t *ids = NULL;
    size_t bytes = 0, ids_count = 0, text_bytes;
    WEFT_TRY(weft_tokenizer_open(&t, argv[1]));
    weft_status st = WEFT_OK;
    if (from_stdin) WEFT_GOTO(st, done, read_stdin(&input, &bytes));
    for (int i = 2; !from_stdin && i <= count; i++) bytes += strlen(argv[i]) + 1;
    ids = malloc((bytes / 2 + 1) * sizeof *ids);
    if (!ids) WEFT_GOTO(st, done, weft_fail(WEFT_ENOMEM, "no memory for the token ids"));
    if (from_stdin) WEFT_GOTO(st, done, parse_ids(input, bytes, ids, &ids_count));
    for (int i = 2; !from_stdin && i <= count; i++)
        WEFT_GOTO(st, done, parse_ids(argv[i], strlen(argv[i]), ids, &ids_count));
    WEFT_GOTO(st, done, weft_tokenizer_decode(t, ids, ids_count, &text, &text_bytes));
    fwrite(text, 1, text_bytes, stdout);
    st = weft_output_finish();
done:
    free(text);
    free(ids);
    free(input);
    weft_tokenizer_close(t);
    return st;
}

weft_status weft_cmd_tokenizer(const weft_world *w, int argc, char **argv) {
    static const char *const names[] = {"train", "encode", "decode"};
    static weft_status (*const run[])(int, char **) = {train, encode, decode};
    (void)w; /* one rank: see weft_commands */
    if (argc < 2) WEFT_FAIL(WEFT_EINPUT, "weft tokenizer: say what: train, encode or decode");
    for (int i = 0; i < COUNT(names); i++)
        if (strcmp(argv[1], names[i]) == 0) return run[i](argc - 1, argv + 1);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        printf("usage: weft tokenizer train --vocab N -o DIR FILE...    train a tokenizer on text\n"
               "       weft tokenizer encode DIR [FILE|-] [--text TEXT]  token ids of a text\n"
               "       weft tokenizer decode DIR [ID ...|-]              text of token ids\n"
               "(each with --help)\n");
        return weft_output_finish();
    }
    int near = weft_nearest(argv[1], names, COUNT(names));
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "weft tokenizer: unknown '%s'; did you mean '%s'?", argv[1], names[near]);
    WEFT_FAIL(WEFT_EINPUT, "weft tokenizer: unknown '%s'; it is train, encode or decode", argv[1]);
}
