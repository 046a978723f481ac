/* Variants of one size: a key of theirs is chosen so that the parameters that a token uses, or the FLOPs of
 * the run, come as near to the baseline's as they can. */
#include "runtime/fs.h"
#include "runtime/log.h"
#include "model/model.h"
#include "train/ablate/ablation_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define MOST_OFF 0.05 /* farther from the baseline than that is no match */
#define MOST_WIDE (INT64_C(1) << 26)

typedef struct counts {
    int64_t params, active;
    double flops_per_token;
    double inner;     /* active, without embedding and head */
    double run_flops; /* of all its tokens */
} counts;

/* From the model's own table; nothing is allocated for its weights. */
static weft_status count(const weft_config *c, counts *out) {
    weft_model m;
    WEFT_TRY(weft_model_build(&m, &c->model, WEFT_RECOMPUTE_NONE, "", 0, WEFT_REAL_DTYPE, NULL));
    out->params = weft_params_total(&m.table);
    out->active = weft_model_active_params(&m);
    out->flops_per_token = weft_model_train_flops(&m, c->train.seq_len);
    int64_t outer = m.table.rows[m.embed].numel;
    if (m.head != m.embed) outer += m.table.rows[m.head].numel;
    out->inner = (double)(out->active - outer);
    out->run_flops = out->flops_per_token * (double)c->train.steps * (double)c->train.global_batch *
                     (double)c->train.seq_len;
    weft_model_free(&m);
    return WEFT_OK;
}

typedef struct search {
    const weft_ablation_match_rule *rule;
    weft_config *config; /* of the variant: the key is tried in it */
    double target;
} search;

static weft_status value_at(const search *s, int64_t width, double *value) {
    counts c;
    s->config->model.intermediate_size = width;
    WEFT_TRY(count(s->config, &c));
    *value = s->rule->by_flops ? c.run_flops : c.inner;
    return WEFT_OK;
}

/* The multiple with the value nearest to the target: values grow with the width. `reached` is its value. */
static weft_status find_width(const search *s, const char *name, int64_t *width, double *reached) {
    int64_t unit = s->rule->multiple, low = 1, high = 1;
    double below, above, twice;
    WEFT_TRY(value_at(s, unit, &above));
    WEFT_TRY(value_at(s, 2 * unit, &twice));
    if (twice <= above)
        WEFT_FAIL(
            WEFT_EINPUT,
            "%s: the variant '%s' has no feed-forward part: model.intermediate_size changes nothing of it",
            s->rule->where, name);
    below = above;
    while (above < s->target && high * unit < MOST_WIDE) {
        low = high;
        below = above;
        high *= 2;
        WEFT_TRY(value_at(s, high * unit, &above));
    }
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        double value;
        WEFT_TRY(value_at(s, middle * unit, &value));
        if (value < s->target)
            low = middle, below = value;
        else
            high = middle, above = value;
    }
    bool lower = fabs(below - s->target) < fabs(above - s->target);
    *width = (lower ? low : high) * unit;
    *reached = lower ? below : above;
    return WEFT_OK;
}

static weft_status check_near(const search *s, const char *name, double reached, const char *key,
                              int64_t value) {
    const char *what = s->rule->by_flops ? "FLOPs" : "active parameters without embedding and head";
    if (fabs(reached / s->target - 1) <= MOST_OFF) return WEFT_OK;
    WEFT_FAIL(WEFT_EINPUT,
              "%s: the variant '%s' cannot match the baseline: %.4g %s of the nearest %s, %lld, against %.4g "
              "(more than %.0f %% apart)%s",
              s->rule->where, name, reached, what, key, (long long)value, s->target, 100 * MOST_OFF,
              !s->rule->steps ? "; make something else of it smaller or larger, or lower match.multiple"
                              : "");
}

/* Sets the key in the variant's configuration, and tells it. */
static weft_status set_key(const search *s, weft_ablation_variant *v, const char *key, int64_t value,
                           double reached) {
    WEFT_TRY(check_near(s, v->name, reached, key, value));
    char *text = weft_format("%s=%" PRId64, key, value);
    if (!text) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory", s->rule->where);
    free(v->matched);
    v->matched = text;
    v->match_off = reached / s->target - 1;
    WEFT_TRY(weft_config_override(s->config, text, s->rule->where));
    return weft_config_finish(s->config);
}

static weft_status match_steps(const search *s, weft_ablation_variant *v, const counts *have) {
    double a_step = have->run_flops / (double)s->config->train.steps;
    int64_t steps = llround(s->target / a_step);
    if (steps < 1) steps = 1;
    return set_key(s, v, "train.steps", steps, a_step * (double)steps);
}

/* A variant that has the baseline's value already is left as it is. */
static weft_status match_one(const search *s, weft_ablation_variant *v) {
    counts have;
    int64_t width = 0;
    double reached = 0;
    WEFT_TRY(count(s->config, &have));
    if ((s->rule->by_flops ? have.run_flops : have.inner) == s->target) return WEFT_OK;
    if (s->rule->steps) return match_steps(s, v, &have);
    WEFT_TRY(find_width(s, v->name, &width, &reached));
    return set_key(s, v, "model.intermediate_size", width, reached);
}

weft_status weft_ablation_match(weft_ablation *a, const weft_ablation_match_rule *rule,
                                weft_config *configs) {
    counts c;
    WEFT_TRY(count(&configs[a->baseline], &c));
    search s = {.rule = rule, .target = rule->by_flops ? c.run_flops : c.inner};
    for (int i = 0; i < a->variant_count; i++) {
        weft_ablation_variant *v = &a->variants[i];
        s.config = &configs[i];
        if (rule->wanted && i != a->baseline) WEFT_TRY(match_one(&s, v));
        WEFT_TRY(count(&configs[i], &c));
        v->params = c.params;
        v->active = c.active;
        v->flops_per_token = c.flops_per_token;
    }
    return WEFT_OK;
}
