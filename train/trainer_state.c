/* The trainer's tensors and counters as a checkpoint sees them. */
#include "runtime/log.h"
#include "train/fragments.h"
#include "train/trainer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shards as the host sees them: copies where device memory is not its own. */
typedef struct host_shards {
    weft_real *of[WEFT_FRAGMENT_KINDS]; /* params, adam_m, adam_v */
    bool copies;
} host_shards;

static weft_status take_shards(weft_trainer *t, bool read, host_shards *out) {
    weft_real *const device[WEFT_FRAGMENT_KINDS] = {t->params, t->adam_m, t->adam_v};
    size_t bytes = (size_t)t->model.table.shards * sizeof(weft_real);
    *out = (host_shards){.copies = !weft_device_on_host(&t->device)};
    for (int i = 0; i < WEFT_FRAGMENT_KINDS; i++) {
        out->of[i] = out->copies ? calloc(1, bytes ? bytes : 1) : device[i];
        if (!out->of[i])
            WEFT_FAIL(WEFT_ENOMEM, "no host memory for %.2f GiB of a checkpoint", (double)bytes / (1 << 30));
        if (read) WEFT_TRY(weft_device_read(&t->device, out->of[i], device[i], bytes));
    }
    return WEFT_OK;
}

static weft_status put_shards(weft_trainer *t, const host_shards *s) {
    weft_real *const device[WEFT_FRAGMENT_KINDS] = {t->params, t->adam_m, t->adam_v};
    size_t bytes = (size_t)t->model.table.shards * sizeof(weft_real);
    for (int i = 0; i < WEFT_FRAGMENT_KINDS; i++)
        WEFT_TRY(weft_device_write(&t->device, device[i], s->of[i], bytes));
    weft_trainer_params_changed(t);
    return WEFT_OK;
}

static void free_shards(host_shards *s) {
    for (int i = 0; i < WEFT_FRAGMENT_KINDS && s->copies; i++) free(s->of[i]);
}

static weft_status list_tensors(const weft_trainer *t, const host_shards *s, bool save,
                                weft_fragment_list *out) {
    const weft_group *dense = &t->comm.group[WEFT_GROUP_REPLICA],
                     *expert = &t->comm.group[WEFT_GROUP_EXPERT_REPLICA];
    return weft_fragments_shards(out, &t->model.table, s->of, (weft_replica){dense->size, dense->rank},
                                 (weft_replica){expert->size, expert->rank}, save);
}

weft_status weft_trainer_save(weft_trainer *t, const weft_loader *loader, const char *run) {
    const weft_config *c = t->config;
    weft_ckpt_state state = {.step = t->step,
                             .samples = t->samples,
                             .tokens = t->tokens,
                             .seed = (uint64_t)c->seed,
                             .tokenizer = weft_loader_tokenizer_digest(loader),
                             .data = weft_loader_content_digest(loader),
                             .config_yaml = weft_config_to_yaml(c)};
    const char *tokenizer = weft_loader_tokenizer_path(loader);
    weft_ckpt_options options = {.keep = c->checkpoint.keep,
                                 .keep_every = c->checkpoint.keep_every,
                                 .compress = c->checkpoint.compress,
                                 .tokenizer_model = *tokenizer ? tokenizer : NULL};
    weft_fragment_list list = {0};
    host_shards shards = {0};
    weft_status st = state.config_yaml ? take_shards(t, true, &shards)
                                       : weft_fail(WEFT_ENOMEM, "no memory for the configuration's text");
    if (st == WEFT_OK) st = list_tensors(t, &shards, true, &list);
    st = weft_world_agree(st);
    if (st == WEFT_OK) st = weft_ckpt_save(&t->world, run, &state, list.fragments, list.count, &options);
    weft_fragments_free(&list);
    free_shards(&shards);
    weft_ckpt_state_free(&state);
    return st;
}

/* The model as it is, however it was spelled: patterns instead of periods, sizes instead of "auto". What only
 * steers training is left out for a checkpoint that has not trained yet. */
static void resolve(weft_config *c, bool untrained) {
    weft_model_config *m = &c->model;
    m->mamba_dt_rank = weft_dt_rank(m);
    m->head_dim = weft_head_dim(m);
    for (int64_t l = 0; l < m->num_hidden_layers; l++) {
        m->mixer_pattern[l] = ".AM"[m->mixer[l]];
        m->ffn_pattern[l] = ".DE"[m->ffn[l]];
    }
    m->mixer_pattern[m->num_hidden_layers] = m->ffn_pattern[m->num_hidden_layers] = '\0';
    m->attn_layer_period = m->attn_layer_offset = m->expert_layer_period = m->expert_layer_offset = 0;
    if (untrained)
        m->router_aux_loss_coef = m->router_z_loss_coef = m->activation_loss_coef = m->initializer_range = 0;
}

/* Sets `out` to the first line in which two models differ; false when there is none. */
static bool first_difference(const weft_model_config *now, const weft_model_config *then, bool untrained,
                             char *out, size_t size) {
    weft_config *c = calloc(2, sizeof *c);
    char *text[2] = {NULL, NULL};
    bool differ = false;
    for (int i = 0; c && i < 2; i++) {
        weft_config_defaults(&c[i]);
        c[i].model = i ? *then : *now;
        resolve(&c[i], untrained);
        text[i] = weft_config_to_yaml(&c[i]);
    }
    for (char *a = text[0], *b = text[1]; a && b && *a && *b && !differ;) {
        size_t la = strcspn(a, "\n"), lb = strcspn(b, "\n");
        differ = la != lb || memcmp(a, b, la) != 0;
        if (differ) snprintf(out, size, "now \"%.*s\", in the checkpoint \"%.*s\"", (int)la, a, (int)lb, b);
        a += la + (a[la] == '\n');
        b += lb + (b[lb] == '\n');
    }
    free(text[0]);
    free(text[1]);
    free(c);
    return differ;
}

static bool same_digest(weft_hash128 a, weft_hash128 b) {
    return a.hi == b.hi && a.lo == b.lo;
}

/* A resumed run must be the same run: the same model, and, once it has trained, the same data, seed and
 * sequence length. A checkpoint of step 0 comes from `weft import` and is bound to no data yet. */
static weft_status check_same_run(const weft_trainer *t, const weft_loader *loader, const weft_ckpt_state *s,
                                  const char *path) {
    weft_config then;
    const weft_config *now = t->config;
    weft_config_defaults(&then);
    WEFT_TRY(weft_config_parse(&then, s->config_yaml, strlen(s->config_yaml), path));
    WEFT_TRY(weft_config_finish(&then));
    char text[512];
    if (first_difference(&now->model, &then.model, s->step == 0, text, sizeof text))
        WEFT_FAIL(WEFT_EINPUT, "%s: another model: %s; use the same configuration, or another run directory",
                  path, text);
    if (s->step == 0) return WEFT_OK;
    if (then.train.seq_len != now->train.seq_len)
        WEFT_FAIL(
            WEFT_EINPUT,
            "%s: train.seq_len was %lld, now %lld: the order of the data would change; start another run",
            path, (long long)then.train.seq_len, (long long)now->train.seq_len);
    if (s->seed != (uint64_t)now->seed)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: seed was %" PRIu64 ", now %lld: the order of the data would change; start another run",
                  path, s->seed, (long long)now->seed);
    if (then.data.packing != now->data.packing)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: data.packing has changed: the order of the data would change; start another run",
                  path);
    /* A limit that no domain has reached is not felt yet. */
    if (then.data.max_epochs != now->data.max_epochs &&
        !weft_loader_same_order(loader, s->samples, then.data.max_epochs))
        WEFT_FAIL(
            WEFT_EINPUT,
            "%s: data.max_epochs was %lld, now %lld, and the order of the data so far depends on it; start "
            "another run",
            path, (long long)then.data.max_epochs, (long long)now->data.max_epochs);
    if (!same_digest(s->tokenizer, weft_loader_tokenizer_digest(loader)))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: the shards in data.path=%s were made with another tokenizer than this run's", path,
                  now->data.path);
    if (!same_digest(s->data, weft_loader_content_digest(loader)))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: data.path=%s holds other data than this run began with; start another run, or point "
                  "it at the same data",
                  path, now->data.path);
    return WEFT_OK;
}

weft_status weft_trainer_load(weft_trainer *t, const weft_loader *loader, const char *path) {
    weft_ckpt_state state = {0};
    weft_fragment_list list = {0};
    host_shards shards = {0};
    weft_status st = weft_ckpt_read_state(&t->world, path, &state);
    if (st != WEFT_OK) return st;
    weft_log_replicated(true);
    st = check_same_run(t, loader, &state, path);
    weft_log_replicated(false);
    WEFT_GOTO(st, done, weft_world_agree(st));
    st = take_shards(t, false, &shards);
    if (st == WEFT_OK) st = list_tensors(t, &shards, false, &list);
    WEFT_GOTO(st, done, weft_world_agree(st));
    WEFT_GOTO(st, done, weft_ckpt_load(&t->world, path, list.fragments, list.count));
    st = put_shards(t, &shards);
    WEFT_GOTO(st, done, weft_world_agree(st));
    t->step = state.step;
    t->samples = state.samples;
    t->tokens = state.tokens;
done:
    weft_fragments_free(&list);
    free_shards(&shards);
    weft_ckpt_state_free(&state);
    return st;
}
