/* What the suite reads off inside of a model, on 1, 2 and 4 ranks: induction heads, activations, experts,
 * caches. Every rank compares its result with a plain computation. */
#include "data/loader/loader.h"
#include "made_model.h"
#include "support/ranks.h"
#include "support/suite.h"
#include "train/suite/suite_internal.h"

#include <math.h>
#include <string.h>

static weft_world g_w;

typedef weft_status (*task)(weft_suite_job *j, json_t **out);

/* The task's result, the same bits on all ranks together and on each alone. */
static json_t *result_of(task run, const weft_suite *s, weft_modelfile *f) {
    weft_suite_job j = {.suite = s, .file = f, .world = &g_w};
    json_t *together = NULL, *alone = NULL;
    weft_world sub;
    int part;
    expect(run(&j, &together) == WEFT_OK, "the task failed");
    none_is_wrong();
    if (g_w.size > 1) {
        weft_world_split(&g_w, g_w.size, &sub, &part);
        j.world = &sub;
        weft_status st = run(&j, &alone);
        weft_world_join(&g_w);
        expect(st == WEFT_OK && json_equal(together, alone), "%d ranks have another result than one",
               g_w.size);
        json_decref(alone);
    }
    return together;
}

static double number(const json_t *o, const char *key) {
    const json_t *n = json_object_get(o, key);
    expect(json_is_number(n), "no number %s", key);
    return json_number_value(n);
}

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-5 * (fabs(b) + 1e-2);
}

/* ---- induction ---------------------------------------------------------------------------------- */

/* The tokens of document i, as suite_induction.c says: without the control tokens 0, 1 and 2, none twice
 * until all were drawn. */
static void induction_tokens(int32_t *tokens, int document, int n, uint64_t seed, int vocab) {
    char name[64];
    int ordinary = vocab - 3;
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "suite/induction/%d/%d", document, i / ordinary);
        tokens[i] = tokens[n + i] =
            3 + (int32_t)weft_rng_permute(weft_rng_make(seed, name), (uint64_t)(i % ordinary),
                                          (uint64_t)ordinary);
    }
}

static void check_induction(const char *words, int n, int documents, int vocab) {
    weft_modelfile *f = made_model(words);
    weft_suite s;
    weft_suite_defaults(&s);
    s.seed = 5;
    s.induction.tokens = n, s.induction.documents = documents;
    double score[LAYERS][H] = {{0}}, chance = 0;
    hand *w = calloc(1, sizeof *w);
    for (int i = 0; i < documents; i++) {
        int32_t tokens[MOST];
        induction_tokens(tokens, i, n, 5, vocab);
        by_hand(w, f, tokens, 2 * n);
        for (int layer = 0; layer < LAYERS; layer += 2)
            for (int h = 0; h < H; h++)
                for (int t = n; t < 2 * n; t++)
                    score[layer][h] += w->attention[layer][h][t][t - n + 1] / n / documents;
    }
    for (int t = n; t < 2 * n; t++) chance += 1.0 / (t + 1) / n;

    json_t *o = result_of(weft_suite_induction, &s, f), *heads = json_object_get(o, "heads"), *head;
    size_t i;
    expect(json_array_size(heads) == 2 * H, "%zu heads", json_array_size(heads));
    expect(near(number(o, "chance"), chance), "chance %g wanted %g", number(o, "chance"), chance);
    json_array_foreach(heads, i, head) {
        int layer = i < H ? 0 : 2, h = (int)i % H;
        expect(number(head, "layer") == layer && number(head, "head") == h, "head %zu is out of order", i);
        expect(near(number(head, "score"), score[layer][h]), "%s, layer %d, head %d: %.9g wanted %.9g", words,
               layer, h, number(head, "score"), score[layer][h]);
    }
    json_decref(o);
    free(w);
    made_model_close(f);
    none_is_wrong();
}

START_TEST(induction_scores_are_the_attention_that_weights_give) {
    check_induction(ATTENTION_ALONE, 13, 5, 23);
    check_induction(ATTENTION_ALONE " model.positions=rope", 13, 5, 23);
    check_induction(ATTENTION_ALONE " model.num_key_value_heads=2 model.vocab_size=8", 12, 3, 8);
}
END_TEST

/* Without queries attention is even. */
START_TEST(a_head_that_looks_everywhere_scores_by_chance) {
    weft_modelfile *f = made_model("model.num_hidden_layers=2 model.mixer_pattern=MA");
    weft_suite s;
    weft_suite_defaults(&s);
    s.induction.tokens = 9, s.induction.documents = 2;
    const weft_param *q = weft_params_find(&f->model.table, "layers.1.self_attn.q_proj");
    ck_assert_ptr_nonnull(q);
    memset(f->params + q->at, 0, (size_t)q->numel * sizeof *f->params);
    json_t *o = result_of(weft_suite_induction, &s, f), *heads = json_object_get(o, "heads"), *head;
    size_t i;
    expect(json_array_size(heads) == H, "%zu heads", json_array_size(heads));
    json_array_foreach(heads, i, head)
        expect(number(head, "layer") == 1 && near(number(head, "score"), number(o, "chance")),
               "head %zu: %g, chance %g", i, number(head, "score"), number(o, "chance"));
    json_decref(o);
    made_model_close(f);
    none_is_wrong();
}
END_TEST

/* ---- activations -------------------------------------------------------------------------------- */

/* What the model has no data for: the loader's random tokens. */
static weft_batch random_batch(weft_loader **loader, const weft_modelfile *f, int count) {
    const weft_loader_options o = {.path = "random",
                                   .split = "heldout",
                                   .seed = (uint64_t)f->config.seed,
                                   .seq_len = f->config.train.seq_len,
                                   .max_batch = count,
                                   .cache_bytes = 1 << 20,
                                   .vocab_size = f->config.model.vocab_size,
                                   .bos = 1};
    weft_batch b;
    ck_assert_int_eq(weft_loader_open(loader, &o), WEFT_OK);
    ck_assert_int_eq(weft_loader_request_sequential(*loader, 0, 0, count), WEFT_OK);
    ck_assert_int_eq(weft_loader_take(*loader, &b, NULL), WEFT_OK);
    return b;
}

static const json_t *site(const json_t *o, int layer, const char *name) {
    const json_t *list = json_object_get(o, "layers"), *found = NULL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *at = json_array_get(list, i);
        if (number(at, "layer") != layer || strcmp(json_string_value(json_object_get(at, "name")), name))
            continue;
        expect(!found, "layer %d has %s twice", layer, name);
        found = at;
    }
    expect(found != NULL, "layer %d has no %s", layer, name);
    return found;
}

static void check_site(const json_t *o, int layer, const char *name, double max, double rms) {
    const json_t *at = site(o, layer, name);
    if (!at) return;
    expect(near(number(at, "max"), max) && near(number(at, "rms"), rms),
           "layer %d, %s: max %.9g wanted %.9g, rms %.9g wanted %.9g", layer, name, number(at, "max"), max,
           number(at, "rms"), rms);
}

enum { SEQUENCES = 5, T = 19 };

START_TEST(activations_of_attention_are_those_by_hand) {
    weft_modelfile *f = made_model(ATTENTION_ALONE);
    weft_suite s;
    weft_loader *loader;
    hand *w = calloc(1, sizeof *w);
    weft_batch b = random_batch(&loader, f, SEQUENCES);
    for (int i = 0; i < SEQUENCES; i++) by_hand(w, f, b.tokens + i * T, T);
    weft_loader_close(loader);
    weft_suite_defaults(&s);
    s.activations.sequences = SEQUENCES;
    json_t *o = result_of(weft_suite_activations, &s, f);
    expect(json_array_size(json_object_get(o, "layers")) == 4, "not two numbers of two layers");
    expect(strcmp(json_string_value(json_object_get(o, "data")), "random ids") == 0, "it is not said");
    for (int layer = 0; layer < LAYERS; layer += 2) {
        double n = SEQUENCES * T * D;
        check_site(o, layer, "attention.residual", w->residual_max[layer], sqrt(w->residual_sum[layer] / n));
        check_site(o, layer, "attention.out", w->out_max[layer], sqrt(w->out_sum[layer] / n));
    }
    json_decref(o);
    free(w);
    made_model_close(f);
    none_is_wrong();
}
END_TEST

/* What passes by in one pass over all sequences. */
typedef struct watched {
    double max, squares, elements;
} watched;
typedef struct passing {
    watched site[8][5]; /* of each block */
    double slots[8][4]; /* of each layer's experts */
} passing;

static const char *const names[] = {"residual", "x_proj", "dbc", "gated", "out"};

static void passes(void *of, const weft_block *b, const char *name, const weft_act *x, int64_t ld,
                   int64_t first, int64_t rows, int64_t width) {
    passing *p = of;
    (void)first;
    for (int k = 0; k < 5; k++) {
        if (strcmp(name, names[k]) != 0) continue;
        for (int64_t i = 0; i < rows * width; i++) {
            double v = (double)((const weft_real *)x)[i / width * ld + i % width];
            p->site[b->index][k].max = fmax(p->site[b->index][k].max, fabs(v));
            p->site[b->index][k].squares += v * v;
        }
        p->site[b->index][k].elements += (double)(rows * width);
    }
}
static void routes(void *of, const weft_block *b, const int32_t *ids, int64_t rows, int64_t k) {
    passing *p = of;
    for (int64_t i = 0; i < rows * k; i++) p->slots[b->layer][ids[i]] += 1;
}

static void watch_all(passing *p, weft_modelfile *f) {
    static weft_real loss[SEQUENCES * T];
    weft_loader *loader;
    weft_batch b = random_batch(&loader, f, SEQUENCES);
    weft_microbatch mb = {.B = SEQUENCES, .T = T, .tokens = b.tokens, .targets = b.targets};
    ck_assert_int_eq(weft_modelfile_size(f, SEQUENCES, T), WEFT_OK);
    f->model.watch = (weft_watch){.inside = passes, .routed = routes, .of = p};
    weft_model_losses(&f->model, &f->device, f->params, &mb, 7, loss);
    f->model.watch = (weft_watch){0};
    weft_loader_close(loader);
}

static void check_layers(const json_t *o, const passing *p, const weft_model *m) {
    char name[64];
    size_t sites = 0;
    for (int64_t i = 0; i < m->block_count; i++)
        for (int k = 0; k < 5; k++) {
            const watched *x = &p->site[i][k];
            snprintf(name, sizeof name, "%s.%s", m->blocks[i].kind->name, names[k]);
            if (x->elements == 0) continue;
            check_site(o, (int)m->blocks[i].layer, name, x->max, sqrt(x->squares / x->elements));
            sites++;
        }
    expect(json_array_size(json_object_get(o, "layers")) == sites, "%zu sites, wanted %zu",
           json_array_size(json_object_get(o, "layers")), sites);
    expect(sites == 3 * 2 + 2 * 5 + 1 * 2, "%zu sites", sites);
}

static void check_experts(const json_t *list, const passing *p) {
    const int layers[] = {1, 2};
    expect(json_array_size(list) == 2, "%zu layers of experts", json_array_size(list));
    for (size_t i = 0; i < json_array_size(list) && i < 2; i++) {
        const json_t *o = json_array_get(list, i), *share = json_object_get(o, "share");
        double sum = 0;
        expect(number(o, "layer") == layers[i] && json_array_size(share) == 4, "layer %zu of experts", i);
        for (size_t e = 0; e < json_array_size(share); e++) {
            double got = json_number_value(json_array_get(share, e)), want = p->slots[layers[i]][e];
            expect(near(got, want / (SEQUENCES * T * 2)), "layer %d, expert %zu: %g", layers[i], e, got);
            sum += got;
        }
        expect(near(sum, 1), "shares of %g", sum);
    }
}

START_TEST(every_sequence_of_every_layer_is_counted) {
    weft_modelfile *f = made_model(
        "model.num_hidden_layers=3 model.mixer_pattern=MAM model.ffn_pattern=DEE data.path=random");
    weft_suite s;
    passing *p = calloc(1, sizeof *p);
    weft_suite_defaults(&s);
    s.activations.sequences = SEQUENCES;
    watch_all(p, f);
    json_t *o = result_of(weft_suite_activations, &s, f), *experts = result_of(weft_suite_experts, &s, f);
    check_layers(o, p, &f->model);
    check_experts(experts, p);
    json_decref(o);
    json_decref(experts);
    free(p);
    made_model_close(f);
    none_is_wrong();
}
END_TEST

START_TEST(a_model_without_experts_has_no_shares) {
    weft_modelfile *f = made_model("model.num_hidden_layers=2 model.num_experts=1");
    weft_suite s;
    weft_suite_defaults(&s);
    json_t *o = result_of(weft_suite_experts, &s, f);
    expect(json_is_array(o) && json_array_size(o) == 0, "there are shares");
    json_decref(o);
    made_model_close(f);
    none_is_wrong();
}
END_TEST

/* What is not a number is not passed over, though finite numbers come behind it. */
START_TEST(a_nan_is_null) {
    weft_modelfile *f = made_model(ATTENTION_ALONE);
    weft_suite s;
    weft_suite_defaults(&s);
    s.activations.sequences = SEQUENCES, s.induction.tokens = 4;
    const weft_param *out = weft_params_find(&f->model.table, "layers.0.self_attn.o_proj");
    ck_assert_ptr_nonnull(out);
    f->params[out->at] = (weft_real)NAN; /* of the first channel alone */
    json_t *o = result_of(weft_suite_activations, &s, f), *heads = result_of(weft_suite_induction, &s, f);
    const json_t *first = site(o, 0, "attention.residual"), *second = site(o, 2, "attention.residual");
    expect(json_is_number(json_object_get(first, "max")), "layer 0 is not finite before it begins");
    expect(json_is_null(json_object_get(second, "max")) && json_is_null(json_object_get(second, "rms")),
           "NaN");
    for (size_t h = 0; h < 2 * H; h++) {
        const json_t *score = json_object_get(json_array_get(json_object_get(heads, "heads"), h), "score");
        expect(h < H ? json_is_number(score) : json_is_null(score), "head %zu", h);
    }
    json_decref(o);
    json_decref(heads);
    made_model_close(f);
    none_is_wrong();
}
END_TEST

/* ---- context ------------------------------------------------------------------------------------ */

static double rounded(int64_t elements) {
    return (double)weft_arena_round((size_t)elements * sizeof(weft_real));
}

/* Speeds are this machine's; sizes are the model's. */
START_TEST(the_cost_of_a_context) {
    weft_modelfile *f = made_model("model.num_hidden_layers=3 model.mixer_pattern=MAM");
    weft_suite s;
    weft_suite_defaults(&s);
    s.context.lengths = (weft_suite_list){.of = {40, 200}, .count = 2};
    s.context.decode = 3;
    weft_suite_job j = {.suite = &s, .file = f, .world = &g_w};
    json_t *o = NULL;
    expect(weft_suite_context(&j, &o) == WEFT_OK, "the task failed");
    expect(json_array_size(o) == (g_w.rank == 0 ? 2 : 0), "%zu lengths", json_array_size(o));
    double activations = 0;
    for (size_t i = 0; i < json_array_size(o); i++) {
        const json_t *at = json_array_get(o, i);
        int64_t tokens = s.context.lengths.of[i], E = 2 * D;
        double mamba = rounded((4 - 1) * E) + rounded(E * 5), attention = 2 * rounded((tokens + 3) * G * d);
        expect(number(at, "tokens") == (double)tokens, "length %zu", i);
        expect(number(at, "cache_bytes") == 2 * mamba + attention, "caches of %g bytes, wanted %g",
               number(at, "cache_bytes"), 2 * mamba + attention);
        expect(number(at, "activation_bytes") > activations, "no more activations");
        activations = number(at, "activation_bytes");
        expect(number(at, "prefill_tokens_per_second") > 0 && number(at, "decode_tokens_per_second") > 0,
               "no speed");
    }
    json_decref(o);
    made_model_close(f);
    none_is_wrong();
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {induction_scores_are_the_attention_that_weights_give,
                                  a_head_that_looks_everywhere_scores_by_chance,
                                  activations_of_attention_are_those_by_hand,
                                  every_sequence_of_every_layer_is_counted,
                                  a_model_without_experts_has_no_shares,
                                  a_nan_is_null,
                                  the_cost_of_a_context};
    if (weft_world_init(&argc, &argv, &g_w) != WEFT_OK) return 1;
    int code = weft_world_exit_code(suite_run("suite_inside", tests, sizeof tests / sizeof *tests));
    weft_world_finalize();
    return code;
}
