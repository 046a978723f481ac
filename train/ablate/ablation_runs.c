/* From the file to its runs: the baseline, the rule of `match`, seeds. */
#include "runtime/fs.h"
#include "runtime/text.h"
#include "train/ablate/ablation_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SEEDS = 1000 };

static weft_status no_memory(const char *what) {
    return weft_fail(WEFT_ENOMEM, "%s: no memory", what);
}

weft_status weft_ablation_baseline(weft_ablation *a, const weft_ablation_file *f) {
    const weft_ablation_given *g = &f->own[WEFT_ABLATION_BASELINE];
    if (!g->text) return WEFT_OK;
    const char **names = calloc((size_t)a->variant_count, sizeof *names);
    if (!names) return no_memory(a->path);
    a->baseline = -1;
    for (int i = 0; i < a->variant_count; i++) {
        names[i] = a->variants[i].name;
        if (strcmp(names[i], g->text) == 0) a->baseline = i;
    }
    int near = weft_nearest(g->text, names, a->variant_count);
    const char *meant = names[near >= 0 ? near : 0];
    free(names);
    if (a->baseline >= 0) return WEFT_OK;
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: baseline '%s' is no variant; did you mean '%s'?", g->where, g->text,
                  meant);
    WEFT_FAIL(WEFT_EINPUT, "%s: baseline '%s' is no variant; the first is '%s'", g->where, g->text, meant);
}

static bool whole_number(const char *text, int64_t *out) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno || *text < '0' || *text > '9') return false;
    *out = v;
    return true;
}

weft_status weft_ablation_match_read(weft_ablation_match_rule *m, const weft_ablation_file *f) {
    const weft_ablation_given *by = &f->own[WEFT_ABLATION_MATCH_BY], *key = &f->own[WEFT_ABLATION_MATCH_KEY],
                              *multiple = &f->own[WEFT_ABLATION_MATCH_MULTIPLE];
    *m = (weft_ablation_match_rule){.multiple = 8};
    if (!by->text) {
        const weft_ablation_given *other = key->text ? key : multiple;
        if (!other->text) return WEFT_OK;
        WEFT_FAIL(WEFT_EINPUT, "%s: match has no `by`; give active or flops", other->where);
    }
    m->wanted = true;
    m->where = by->where;
    m->by_flops = strcmp(by->text, "flops") == 0;
    if (!m->by_flops && strcmp(by->text, "active") != 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: match.by is '%s'; it must be active or flops", by->where, by->text);
    m->steps = key->text && strcmp(key->text, "train.steps") == 0;
    if (key->text && !m->steps && strcmp(key->text, "model.intermediate_size") != 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: match.key is '%s'; it must be model.intermediate_size or train.steps",
                  key->where, key->text);
    if (m->steps && !m->by_flops)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: train.steps changes no active parameters; match by flops, or use "
                  "model.intermediate_size",
                  key->where);
    if (multiple->text && m->steps)
        WEFT_FAIL(WEFT_EINPUT, "%s: match.multiple is of model.intermediate_size; leave it out",
                  multiple->where);
    if (multiple->text &&
        (!whole_number(multiple->text, &m->multiple) || m->multiple < 1 || m->multiple > 1 << 20))
        WEFT_FAIL(WEFT_EINPUT, "%s: match.multiple is '%s'; it must be from 1 to %d", multiple->where,
                  multiple->text, 1 << 20);
    return WEFT_OK;
}

static weft_status read_seeds(const weft_ablation *a, const weft_ablation_file *f, int64_t *seeds,
                              int *count) {
    const weft_ablation_given *g = &f->own[WEFT_ABLATION_SEEDS];
    char item[64];
    *count = 0;
    if (!g->text) {
        seeds[(*count)++] = a->shared->seed;
        return WEFT_OK;
    }
    for (const char *rest = g->text; weft_ablation_item(&rest, item, sizeof item);) {
        if (*count == MAX_SEEDS) WEFT_FAIL(WEFT_EINPUT, "%s: more than %d seeds", g->where, MAX_SEEDS);
        if (!whole_number(item, &seeds[*count]))
            WEFT_FAIL(WEFT_EINPUT, "%s: seeds: '%s' is no seed; write whole numbers as in \"1, 2\"", g->where,
                      item);
        for (int i = 0; i < *count; i++)
            if (seeds[i] == seeds[*count])
                WEFT_FAIL(WEFT_EINPUT, "%s: seed %s stands twice in seeds", g->where, item);
        (*count)++;
    }
    if (*count == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: seeds has no value; leave it out for the configuration's", g->where);
    return WEFT_OK;
}

/* ---- runs --------------------------------------------------------------------------------------- */

static weft_status make_run(weft_ablation *a, int variant, int64_t seed, const weft_config *config) {
    weft_ablation_run *r = calloc(1, sizeof *r);
    if (!r) return no_memory(a->path);
    a->runs[a->run_count++] = r;
    r->variant = variant;
    r->seed = seed;
    r->config = *config;
    r->config.seed = seed;
    r->name = weft_format("%s-s%lld", a->variants[variant].name, (long long)seed);
    r->dir = weft_format("%s/%s", a->folder, r->name);
    char *run = weft_format("run=%s/%s", a->folder, r->name);
    weft_status st =
        run && r->name && r->dir ? weft_config_override(&r->config, run, a->path) : no_memory(a->path);
    free(run);
    return st == WEFT_OK ? weft_config_finish(&r->config) : st;
}

weft_status weft_ablation_runs(weft_ablation *a, const weft_ablation_file *f, const weft_config *configs) {
    int64_t *seeds = malloc(MAX_SEEDS * sizeof *seeds);
    if (!seeds) return no_memory(a->path);
    weft_status st;
    WEFT_GOTO(st, done, read_seeds(a, f, seeds, &a->seed_count));
    a->runs = calloc((size_t)a->variant_count * (size_t)a->seed_count, sizeof *a->runs);
    if (!a->runs) st = no_memory(a->path);
    for (int v = 0; v < a->variant_count && st == WEFT_OK; v++)
        for (int s = 0; s < a->seed_count && st == WEFT_OK; s++) st = make_run(a, v, seeds[s], &configs[v]);
done:
    free(seeds);
    return st;
}
