/* `weft logprob MODEL --ids FILE [--json]`: log-probability of each token given those before it. */
#include "train/commands.h"
#include "train/modelfile.h"
#include "train/options.h"
#include "train/output.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct sequences {
    int32_t *ids;  /* all, one behind the other */
    int64_t *ends; /* behind the last id of each */
    int64_t count, total, longest;
    int64_t ids_capacity, ends_capacity;
} sequences;

static void sequences_free(sequences *s) {
    free(s->ids);
    free(s->ends);
}

static weft_status grow(void **array, int64_t *capacity, int64_t needed, size_t element) {
    if (needed <= *capacity) return WEFT_OK;
    int64_t more = *capacity ? 2 * *capacity : 1024;
    void *bigger = realloc(*array, (size_t)more * element);
    if (!bigger) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld tokens", (long long)more);
    *array = bigger;
    *capacity = more;
    return WEFT_OK;
}

static weft_status read_line(sequences *s, const char *path, int64_t line, const char *text, int64_t vocab) {
    int64_t begin = s->total;
    for (const char *p = text;;) {
        p += strspn(p, " \t\r\n");
        if (!*p) break;
        char *end;
        errno = 0;
        long long id = strtoll(p, &end, 10);
        if (end == p || (*end && !strchr(" \t\r\n", *end)))
            WEFT_FAIL(WEFT_EINPUT, "%s:%lld: '%.*s' is not a token id; a line holds ids separated by spaces",
                      path, (long long)line, (int)strcspn(p, " \t\r\n"), p);
        if (errno || id < 0 || id >= vocab)
            WEFT_FAIL(WEFT_EINPUT, "%s:%lld: token id %lld is not in 0..%lld", path, (long long)line, id,
                      (long long)vocab - 1);
        WEFT_TRY(grow((void **)&s->ids, &s->ids_capacity, s->total + 1, sizeof *s->ids));
        s->ids[s->total++] = (int32_t)id;
        p = end;
    }
    int64_t length = s->total - begin;
    if (length == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s:%lld: no token on this line; every line is one sequence", path,
                  (long long)line);
    WEFT_TRY(grow((void **)&s->ends, &s->ends_capacity, s->count + 1, sizeof *s->ends));
    s->ends[s->count++] = s->total;
    if (length > s->longest) s->longest = length;
    return WEFT_OK;
}

static weft_status read_ids(sequences *s, const char *path, int64_t vocab) {
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    if (!f) WEFT_FAIL(WEFT_EINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    weft_status st = WEFT_OK;
    ssize_t length;
    for (int64_t number = 1; st == WEFT_OK && (length = getline(&line, &capacity, f)) >= 0; number++) {
        if (strlen(line) != (size_t)length)
            st = weft_fail(WEFT_EINPUT, "%s:%lld: holds a zero byte; is it a text file?", path,
                           (long long)number);
        else
            st = read_line(s, path, number, line, vocab);
    }
    if (st == WEFT_OK && ferror(f)) st = weft_fail(WEFT_EIO, "%s: read error: %s", path, strerror(errno));
    free(line);
    if (f != stdin) fclose(f);
    if (st == WEFT_OK && s->count == 0)
        st = weft_fail(WEFT_EINPUT, "%s: is empty; every line is one sequence of token ids", path);
    return st;
}

static void print_sequence(const weft_real *loss, int64_t count, bool json) {
    double sum = 0;
    for (int64_t t = 0; t < count; t++) {
        sum -= (double)loss[t];
        printf(json ? "%s%.9g" : "%s%.6f", t ? (json ? ", " : " ") : "", -(double)loss[t]);
    }
    if (!json) printf("%s(sum %.6f)\n", count ? "  " : "", sum);
}

static weft_status print_all(weft_modelfile *f, const sequences *s, bool json) {
    weft_status st = WEFT_OK;
    weft_real *loss = malloc((size_t)s->longest * sizeof *loss);
    if (!loss) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld tokens", (long long)s->longest);
    if (json) printf("{\"logprobs\": [");
    for (int64_t i = 0; i < s->count; i++) {
        int64_t begin = i ? s->ends[i - 1] : 0, T = s->ends[i] - begin - 1;
        weft_microbatch mb = {.B = 1, .T = T, .tokens = s->ids + begin, .targets = s->ids + begin + 1};
        if (T > 0) weft_model_losses(&f->model, &f->device, f->params, &mb, f->config.train.loss_chunk, loss);
        for (int64_t t = 0; t < T && st == WEFT_OK; t++)
            if (!isfinite(loss[t]))
                st = weft_fail(WEFT_EINPUT,
                               "%s: the log-probability of token %lld of sequence %lld is not a finite "
                               "number; are its weights?",
                               f->path, (long long)t + 2, (long long)i + 1);
        if (st != WEFT_OK) break;
        if (json) printf("%s[", i ? ",\n  " : "\n  ");
        print_sequence(loss, T, json);
        if (json) printf("]");
    }
    if (json && st == WEFT_OK) printf("\n]}\n");
    free(loss);
    return st == WEFT_OK ? weft_output_finish() : st;
}

weft_status weft_cmd_logprob(const weft_world *w, int argc, char **argv) {
    const char *path = NULL;
    bool json = false, help = false;
    int n = 0;
    const weft_usage usage = {
        .command = "weft logprob",
        .positional = "MODEL",
        .text = "Natural log-probability of each token given those before it. MODEL is a run directory,\n"
                "a checkpoint or a Hugging Face directory.",
        .min_positional = 1,
        .max_positional = 1};
    const weft_option options[] = {
        {"ids", WEFT_OPT_STRING, &path, "FILE",
         "one sequence of token ids a line, separated by spaces; - for standard input"},
        {"json", WEFT_OPT_FLAG, &json, NULL,
         "print {\"logprobs\": [[...], ...]}, one entry fewer than a sequence's tokens"},
    };
    WEFT_TRY(weft_options_parse(&usage, options, 2, argc, argv, &n, &help));
    if (help) return WEFT_OK;
    if (!path) WEFT_FAIL(WEFT_EINPUT, "weft logprob: --ids FILE is missing");
    weft_modelfile *f = calloc(1, sizeof *f);
    sequences s = {0};
    weft_status st = f ? weft_modelfile_open(f, w, argv[1]) : weft_fail(WEFT_ENOMEM, "no memory");
    if (st == WEFT_OK) {
        st = read_ids(&s, path, f->config.model.vocab_size);
        if (st == WEFT_OK) st = weft_modelfile_size(f, 1, s.longest);
        if (st == WEFT_OK) st = print_all(f, &s, json);
        weft_modelfile_close(f);
    }
    sequences_free(&s);
    free(f);
    return st;
}
