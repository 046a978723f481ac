/* `weft generate MODEL --prompt TEXT`: continues a text, token by token, with caches of keys, values and
 * states. */
#include "data/source/source_json.h"
#include "train/commands.h"
#include "train/modelfile.h"
#include "train/options.h"
#include "train/output.h"
#include "train/sampling.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TOKENS (INT64_C(1) << 30)

typedef struct generation {
    weft_modelfile file;
    weft_tokenizer *tokenizer; /* NULL: token ids in and out */
    int32_t *ids;              /* prompt, then what is generated */
    int64_t prompt, count, capacity;
    weft_arena cache;
    weft_block_cache *caches;
    weft_real *logits;
    weft_sampler sampler;
} generation;

static weft_status set_prompt(generation *g, const char *text, const char *ids, int64_t max_tokens) {
    const char *const between = " ,\t\r\n";
    int32_t *encoded = NULL;
    size_t count = 0, capacity = 0;
    if (ids) {
        int64_t vocab = g->file.config.model.vocab_size;
        encoded = malloc((strlen(ids) / 2 + 1) * sizeof *encoded);
        if (!encoded) WEFT_FAIL(WEFT_ENOMEM, "no memory for the prompt");
        for (const char *p = ids + strspn(ids, between); *p; p += strspn(p, between)) {
            char *end;
            long long id = strtoll(p, &end, 10);
            if (end == p || id < 0 || id >= vocab) {
                free(encoded);
                WEFT_FAIL(WEFT_EINPUT, "--ids: '%.*s' is not a token id in 0..%lld", (int)strcspn(p, between),
                          p, (long long)vocab - 1);
            }
            encoded[count++] = (int32_t)id;
            p = end;
        }
    } else {
        WEFT_TRY(weft_modelfile_tokenizer(&g->file, &g->tokenizer));
        WEFT_TRY(weft_tokenizer_encode(g->tokenizer, text, strlen(text), &encoded, &count, &capacity));
    }
    size_t bos = ids ? 0 : 1; /* documents begin with it; ids are taken as they are */
    weft_status st = count + bos == 0 ? weft_fail(WEFT_EINPUT, "--ids: no token id") : WEFT_OK;
    g->capacity = (int64_t)(count + bos) + max_tokens;
    if (st == WEFT_OK && !(g->ids = malloc((size_t)g->capacity * sizeof *g->ids)))
        st = weft_fail(WEFT_ENOMEM, "no memory for %lld tokens", (long long)g->capacity);
    if (st == WEFT_OK) {
        if (bos) g->ids[0] = (int32_t)g->file.config.model.bos_token_id;
        memcpy(g->ids + bos, encoded, count * sizeof *encoded);
        g->prompt = g->count = (int64_t)(count + bos);
    }
    free(encoded);
    return st;
}

static weft_status allocate(generation *g) {
    weft_modelfile *f = &g->file;
    g->caches = calloc((size_t)f->model.block_count + 1, sizeof *g->caches);
    g->logits = malloc((size_t)f->config.model.vocab_size * sizeof *g->logits);
    if (!g->caches || !g->logits) WEFT_FAIL(WEFT_ENOMEM, "no memory for logits");
    WEFT_TRY(weft_sampler_open(&g->sampler, f->config.model.vocab_size));
    WEFT_TRY(weft_arena_init_measuring(&g->cache, "cache"));
    weft_model_make_caches(&f->model, &g->cache, g->capacity, f->device.act_dtype, g->caches);
    /* The largest pass is the prompt's; one token against the longest cache may need other workspace. */
    WEFT_TRY(weft_device_measure(&f->device));
    weft_model_decode(&f->model, &f->device, f->params, g->caches, g->ids, g->prompt, 0, g->logits);
    weft_model_decode(&f->model, &f->device, f->params, g->caches, g->ids, 1, g->capacity - 1, g->logits);
    WEFT_TRY(weft_device_size(&f->device, f->device.act.peak));
    size_t bytes = g->cache.peak;
    weft_arena_destroy(&g->cache);
    WEFT_TRY(weft_arena_init(&g->cache, "cache", bytes));
    weft_model_make_caches(&f->model, &g->cache, g->capacity, f->device.act_dtype, g->caches);
    return WEFT_OK;
}

static bool all_finite(const weft_real *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static weft_status run(generation *g, const weft_sampling *how) {
    weft_modelfile *f = &g->file;
    int64_t done = 0;
    while (g->count < g->capacity) {
        weft_model_decode(&f->model, &f->device, f->params, g->caches, g->ids + done, g->count - done, done,
                          g->logits);
        done = g->count;
        if (!all_finite(g->logits, f->config.model.vocab_size))
            WEFT_FAIL(WEFT_EINPUT, "%s: its logits are not finite numbers; are its weights?", f->path);
        int32_t next = weft_sampler_pick(&g->sampler, how, g->logits, (uint64_t)(g->count - g->prompt));
        if (next == f->config.model.eos_token_id) break;
        g->ids[g->count++] = next;
    }
    return WEFT_OK;
}

/* A token sequence may end within a character, or hold byte tokens that are none: U+FFFD stands for such
 * bytes. The ids are the whole truth. */
static json_t *json_text(const char *text, size_t bytes) {
    char *valid = malloc(3 * bytes + 1);
    size_t n = 0;
    for (size_t i = 0, length; valid && i < bytes; i += length) {
        for (length = 1; length < 4 && i + length < bytes && !weft_utf8_valid(text + i, length);) length++;
        bool good = weft_utf8_valid(text + i, length);
        if (!good) length = 1;
        memcpy(valid + n, good ? text + i : "\xEF\xBF\xBD", good ? length : 3);
        n += good ? length : 3;
    }
    json_t *string = valid ? json_stringn(valid, n) : NULL;
    free(valid);
    return string;
}

static weft_status print(const generation *g, bool json) {
    char *text = NULL;
    size_t bytes = 0;
    if (g->tokenizer) WEFT_TRY(weft_tokenizer_decode(g->tokenizer, g->ids, (size_t)g->count, &text, &bytes));
    if (!json) {
        if (text)
            fwrite(text, 1, bytes, stdout);
        else
            for (int64_t i = 0; i < g->count; i++) printf("%s%d", i ? " " : "", g->ids[i]);
        putchar('\n');
        free(text);
        return weft_output_finish();
    }
    json_t *ids = json_array(),
           *o = json_pack("{s:o, s:I}", "ids", ids, "prompt_tokens", (json_int_t)g->prompt);
    for (int64_t i = 0; o && i < g->count; i++) json_array_append_new(ids, json_integer(g->ids[i]));
    json_t *string = text ? json_text(text, bytes) : NULL;
    if (o && string) json_object_set_new(o, "text", string);
    free(text);
    return weft_output_json(o, 0);
}

weft_status weft_cmd_generate(const weft_world *w, int argc, char **argv) {
    const char *prompt = NULL, *ids = NULL;
    int64_t max_tokens = 100, seed = 0;
    weft_sampling how = {.temperature = 1, .top_p = 1};
    bool json = false, help = false;
    int n = 0;
    const weft_usage usage = {
        .command = "weft generate",
        .positional = "MODEL",
        .text = "Continues a text. MODEL is a run directory, a checkpoint or a Hugging Face directory.",
        .min_positional = 1,
        .max_positional = 1};
    const weft_option options[] = {
        {"prompt", WEFT_OPT_STRING, &prompt, "TEXT", "the text to go on from (default: a new document)"},
        {"ids", WEFT_OPT_STRING, &ids, "\"1 5 7\"", "token ids instead of a text; no tokenizer is needed"},
        {"max-tokens", WEFT_OPT_INT, &max_tokens, "N", "tokens to generate at most (100)"},
        {"temperature", WEFT_OPT_REAL, &how.temperature, "X",
         "divides the logits; 0 takes the likeliest token (1)"},
        {"top-k", WEFT_OPT_INT, &how.top_k, "N", "draw from the N likeliest tokens (0: all)"},
        {"top-p", WEFT_OPT_REAL, &how.top_p, "X",
         "draw from the likeliest tokens that together have probability X (1)"},
        {"seed", WEFT_OPT_INT, &seed, "N", "of the draws (0)"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "print {\"text\", \"ids\", \"prompt_tokens\"}"},
    };
    WEFT_TRY(weft_options_parse(&usage, options, 8, argc, argv, &n, &help));
    if (help) return WEFT_OK;
    if (prompt && ids) WEFT_FAIL(WEFT_EINPUT, "weft generate: give --prompt or --ids, not both");
    if (max_tokens < 1 || max_tokens > MAX_TOKENS)
        WEFT_FAIL(WEFT_EINPUT, "--max-tokens %lld: must be from 1 to %lld", (long long)max_tokens,
                  (long long)MAX_TOKENS);
    how.seed = (uint64_t)seed;
    WEFT_TRY(weft_sampling_check(&how));
    generation *g = calloc(1, sizeof *g);
    weft_status st = g ? weft_modelfile_open(&g->file, w, argv[1]) : weft_fail(WEFT_ENOMEM, "no memory");
    if (st == WEFT_OK) {
        st = set_prompt(g, prompt ? prompt : "", ids, max_tokens);
        if (st == WEFT_OK) st = allocate(g);
        if (st == WEFT_OK) st = run(g, &how);
        if (st == WEFT_OK) st = print(g, json);
        weft_modelfile_close(&g->file);
        weft_tokenizer_close(g->tokenizer);
        weft_arena_destroy(&g->cache);
        weft_sampler_close(&g->sampler);
        free(g->caches);
        free(g->logits);
        free(g->ids);
    }
    free(g);
    return st;
}
