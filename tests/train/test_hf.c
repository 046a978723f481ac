/* Hugging Face directories: export, import and config.json, on a hand-made parameter table. */
#include "data/tokenizer/tokenizer.h"
#include "runtime/log.h"
#include "support/suite.h"
#include "train/hf.h"
#include "train/safetensors.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { V = 11, D = 8, H = 2, G = 1, F = 6, X = 3, E = 16, N = 3, K = 4, R = 2, LAYERS = 4 };
static char g_root[64]; /* everything is made below it */
static char g_log[1 << 16];

/* ---- files -------------------------------------------------------------------------------------------- */

/* root/name; the last four results stay valid. */
static const char *at(const char *name) {
    static char paths[4][512];
    static int next = 0;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", g_root, name);
    return p;
}

static void remove_tree(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char child[1024];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        if (unlink(child) != 0) remove_tree(child);
    }
    if (d) closedir(d);
    rmdir(path);
}

static bool exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

static int count_entries(const char *path) {
    int n = -2;
    DIR *d = opendir(path);
    ck_assert_ptr_nonnull(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void put_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

/* Error lines go to g_log between these two. */
static int g_stderr;
static void log_begin(void) {
    int fd = open(at("log"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    g_stderr = dup(2);
    dup2(fd, 2);
    close(fd);
}

static void log_end(void) {
    dup2(g_stderr, 2);
    close(g_stderr);
    FILE *f = fopen(at("log"), "r");
    g_log[fread(g_log, 1, sizeof g_log - 1, f)] = '\0';
    fclose(f);
}
#define LOGGED(status, call)                                                                                 \
    do {                                                                                                     \
        log_begin();                                                                                         \
        weft_status logged_ = (call);                                                                        \
        log_end();                                                                                           \
        ck_assert_msg(logged_ == (status), "%s: status %d, log:\n%s", #call, logged_, g_log);                \
    } while (0)

static int count_in_log(const char *text) {
    int n = 0;
    for (const char *p = g_log; (p = strstr(p, text)) != NULL; p++) n++;
    return n;
}
#define ck_assert_logged(text)                                                                               \
    ck_assert_msg(strstr(g_log, text) != NULL, "no \"%s\" in the log:\n%s", text, g_log)

/* ---- the model ---------------------------------------------------------------------------------------- */

static void add_part(weft_params *p, const char *name, const char *hf, int64_t rows, int64_t cols,
                     int64_t hf_row, int64_t hf_rows, bool joined) {
    weft_param r = {.ndim = cols ? 2 : 1, .shape = {rows, cols}, .layer = -1, .expert = -1};
    snprintf(r.name, sizeof r.name, "%s", name);
    snprintf(r.hf_name, sizeof r.hf_name, "%s", hf);
    r.hf_ndim = r.ndim;
    r.hf_shape[0] = hf_rows;
    r.hf_shape[1] = cols;
    r.hf_row = hf_row;
    weft_params_add(p, &r, joined);
}

static void add(weft_params *p, const char *hf, int64_t rows, int64_t cols) {
    add_part(p, hf, hf, rows, cols, 0, rows, false);
}

static void add_mamba(weft_params *p, int layer) {
    char hf[WEFT_PARAM_NAME];
#define HF(...) (snprintf(hf, sizeof hf, __VA_ARGS__), hf)
    /* z before x, and another tensor between them: only hf_row counts. */
    add_part(p, "z", HF("model.layers.%d.mamba.in_proj.weight", layer), E, D, E, 2 * E, false);
    add(p, HF("model.layers.%d.mamba.A_log", layer), E, N);
    add_part(p, "x", HF("model.layers.%d.mamba.in_proj.weight", layer), E, D, 0, 2 * E, false);
    weft_param conv = {.name = "conv", .ndim = 2, .shape = {E, K}, .hf_ndim = 3, .hf_shape = {E, 1, K}};
    snprintf(conv.hf_name, sizeof conv.hf_name, "model.layers.%d.mamba.conv1d.weight", layer);
    weft_params_add(p, &conv, false);
    add(p, HF("model.layers.%d.mamba.dt_proj.bias", layer), E, 0);
}

static weft_params make_table(bool tied) {
    weft_params p = {.mesh = weft_mesh_single(), .experts = X};
    char hf[WEFT_PARAM_NAME];
    add(&p, "model.embed_tokens.weight", V, D);
    for (int i = 0; i < LAYERS; i++) {
        add(&p, HF("model.layers.%d.input_layernorm.weight", i), D, 0);
        if (i % 2) {
            add(&p, HF("model.layers.%d.self_attn.q_proj.weight", i), D, D);
            add_part(&p, "k", HF("model.layers.%d.self_attn.k_proj.weight", i), D / H * G, D, 0, D / H * G,
                     true);
            for (int j = 0; j < X; j++) {
                add(&p, HF("model.layers.%d.feed_forward.experts.%d.gate_proj.weight", i, j), F, D);
                add_part(&p, "up", HF("model.layers.%d.feed_forward.experts.%d.up_proj.weight", i, j), F, D,
                         0, F, true);
                add(&p, HF("model.layers.%d.feed_forward.experts.%d.down_proj.weight", i, j), D, F);
            }
        } else {
            add_mamba(&p, i);
        }
    }
    add(&p, "model.final_layernorm.weight", D, 0);
    if (!tied) add(&p, "lm_head.weight", V, D);
    weft_params_place(&p);
    return p;
}

/* Numbers whose last bits bf16 cannot hold; zero between the tensors. */
static weft_real *make_flat(const weft_params *p) {
    weft_real *flat = calloc((size_t)p->flat, sizeof *flat);
    ck_assert_ptr_nonnull(flat);
    for (int64_t r = 0; r < p->count; r++)
        for (int64_t i = 0; i < p->rows[r].numel; i++)
            flat[p->rows[r].at + i] = (weft_real)(float)(sin((double)(r * 1000 + i)) + 0.01);
    return flat;
}

static weft_config make_config(bool tied) {
    weft_config c;
    weft_config_defaults(&c);
    weft_model_config *m = &c.model;
    m->vocab_size = V, m->hidden_size = D, m->intermediate_size = F, m->num_hidden_layers = LAYERS;
    m->num_attention_heads = H, m->num_key_value_heads = G;
    m->attn_layer_period = 2, m->attn_layer_offset = 1, m->expert_layer_period = 2,
    m->expert_layer_offset = 1;
    m->num_experts = X, m->num_experts_per_tok = 2, m->router_aux_loss_coef = 0.0125;
    m->mamba_d_state = N, m->mamba_d_conv = K, m->mamba_expand = 2, m->mamba_dt_rank = R;
    m->mamba_conv_bias = false, m->mamba_proj_bias = true;
    m->rms_norm_eps = 3e-6, m->initializer_range = 0.03, m->tie_word_embeddings = tied;
    m->bos_token_id = 3, m->eos_token_id = 4, m->pad_token_id = 5;
    ck_assert_int_eq(weft_config_finish(&c), WEFT_OK);
    return c;
}

#define BIG ((int64_t)1 << 40)

static void assert_imports_as(const char *dir, const weft_params *p, const weft_real *flat) {
    weft_real *back = malloc((size_t)p->flat * sizeof *back);
    memset(back, 0x55, (size_t)p->flat * sizeof *back);
    ck_assert_int_eq(weft_hf_read_weights(dir, p, back), WEFT_OK);
    for (int64_t i = 0; i < p->flat; i++)
        ck_assert_msg(back[i] == flat[i], "element %lld: %g != %g", (long long)i, (double)back[i],
                      (double)flat[i]);
    free(back);
}

/* ---- round trips -------------------------------------------------------------------------------------- */

START_TEST(round_trip_is_exact) {
    for (int tied = 0; tied < 2; tied++) {
        weft_config c = make_config(tied), back;
        weft_params p = make_table(tied);
        weft_real *flat = make_flat(&p);
        const char *dir = at(tied ? "tied" : "untied");
        char slashed[600];
        snprintf(slashed, sizeof slashed, "%s//", dir);
        ck_assert(!weft_hf_is_dir(dir));
        ck_assert_int_eq(weft_hf_export(slashed, &c.model, &p, flat, WEFT_REAL_DTYPE, BIG, NULL), WEFT_OK);
        ck_assert(weft_hf_is_dir(dir));
        ck_assert_int_eq(count_entries(dir), 3); /* config, generation_config, weights */
        assert_imports_as(dir, &p, flat);
        weft_config_defaults(&back);
        ck_assert_int_eq(weft_hf_read_config(dir, &back), WEFT_OK);
        ck_assert_mem_eq(&back.model, &c.model, sizeof c.model);
        free(flat);
        weft_params_free(&p);
    }
}
END_TEST

static const weft_st_tensor *find_tensor(const weft_st_file *f, const char *name) {
    for (int64_t i = 0; i < weft_st_count(f); i++)
        if (strcmp(weft_st_at(f, i)->name, name) == 0) return weft_st_at(f, i);
    ck_abort_msg("no tensor %s", name);
    return NULL;
}

START_TEST(rows_are_joined_as_the_format_wants) {
    weft_config c = make_config(false);
    weft_params p = make_table(false);
    weft_real *flat = make_flat(&p), values[2 * E * D];
    ck_assert_int_eq(weft_hf_export(at("joined"), &c.model, &p, flat, WEFT_F32, BIG, NULL), WEFT_OK);
    weft_st_file *f = NULL;
    ck_assert_int_eq(weft_st_open(&f, at("joined/model.safetensors")), WEFT_OK);
    ck_assert_int_eq(weft_st_count(f), p.count - 2); /* x and z are one, in two layers */
    const weft_st_tensor *t = find_tensor(f, "model.layers.0.mamba.in_proj.weight");
    ck_assert(t->ndim == 2 && t->shape[0] == 2 * E && t->shape[1] == D);
    ck_assert_int_eq(weft_st_read(f, t, 0, t->numel, values), WEFT_OK);
    const weft_param *x = weft_params_find(&p, "x"), *z = weft_params_find(&p, "z");
    for (int i = 0; i < E * D; i++) {
        ck_assert(values[i] == flat[x->at + i]);
        ck_assert(values[E * D + i] == flat[z->at + i]);
    }
    t = find_tensor(f, "model.layers.2.mamba.conv1d.weight");
    ck_assert(t->ndim == 3 && t->shape[0] == E && t->shape[1] == 1 && t->shape[2] == K);
    weft_st_close(f);
    free(flat);
    weft_params_free(&p);
}
END_TEST

START_TEST(shards_stay_below_the_limit) {
    enum { LIMIT = 1100 };
    weft_config c = make_config(false);
    weft_params p = make_table(false);
    weft_real *flat = make_flat(&p);
    ck_assert_int_eq(weft_hf_export(at("shards"), &c.model, &p, flat, WEFT_F32, LIMIT, NULL), WEFT_OK);
    ck_assert(!exists(at("shards/model.safetensors")));
    json_t *index = json_load_file(at("shards/model.safetensors.index.json"), 0, NULL);
    const char *tensor;
    json_t *file, *map = json_object_get(index, "weight_map");
    int64_t total = json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size"));
    ck_assert_int_eq(total, 4 * weft_params_total(&p));
    ck_assert_int_eq((int64_t)json_object_size(map), p.count - 2);
    json_object_foreach(map, tensor, file) {
        char name[128];
        int number, of;
        snprintf(name, sizeof name, "shards/%s", json_string_value(file));
        ck_assert_int_eq(sscanf(json_string_value(file), "model-%5d-of-%5d.safetensors", &number, &of), 2);
        ck_assert_int_eq(count_entries(at("shards")), of + 3);
        weft_st_file *f = NULL;
        ck_assert_int_eq(weft_st_open(&f, at(name)), WEFT_OK);
        const weft_st_tensor *t = find_tensor(f, tensor);
        int64_t bytes = weft_st_at(f, weft_st_count(f) - 1)->end - weft_st_at(f, 0)->begin;
        ck_assert_msg(bytes <= LIMIT, "%s of %s: %lld", t->name, name, (long long)bytes);
        weft_st_close(f);
    }
    json_decref(index);
    assert_imports_as(at("shards"), &p, flat);
    /* A limit below a tensor's size: that tensor has a file of its own. */
    ck_assert_int_eq(weft_hf_export(at("single"), &c.model, &p, flat, WEFT_F32, 1, NULL), WEFT_OK);
    ck_assert_int_eq(count_entries(at("single")), (int)p.count - 2 + 3);
    assert_imports_as(at("single"), &p, flat);
    free(flat);
    weft_params_free(&p);
}
END_TEST

START_TEST(bf16_and_f64_round_trip) {
    weft_config c = make_config(false);
    weft_params p = make_table(false);
    weft_real *flat = make_flat(&p);
    ck_assert_int_eq(weft_hf_export(at("f64"), &c.model, &p, flat, WEFT_F64, BIG, NULL), WEFT_OK);
    assert_imports_as(at("f64"), &p, flat);
    ck_assert_int_eq(weft_hf_export(at("bf16"), &c.model, &p, flat, WEFT_BF16, BIG, NULL), WEFT_OK);
    json_t *config = json_load_file(at("bf16/config.json"), 0, NULL);
    ck_assert_str_eq(json_string_value(json_object_get(config, "torch_dtype")), "bfloat16");
    json_decref(config);
    for (int64_t i = 0; i < p.flat; i++) { /* to 8 significant bits; rint rounds ties to even */
        int exponent;
        double fraction = frexp((double)flat[i], &exponent);
        flat[i] = (weft_real)ldexp(rint(ldexp(fraction, 8)), exponent - 8);
    }
    assert_imports_as(at("bf16"), &p, flat);
    free(flat);
    weft_params_free(&p);
}
END_TEST

START_TEST(tokenizer_travels_along) {
    weft_config c = make_config(false);
    weft_params p = make_table(false);
    weft_real *flat = make_flat(&p);
    FILE *f = fopen(at("text.txt"), "w");
    ck_assert_ptr_nonnull(f);
    for (int i = 0; i < 300; i++)
        fprintf(f, "line %d of the text that %d words are learned from\n", i, i * 7 % 31);
    ck_assert_int_eq(fclose(f), 0);
    const char *text = at("text.txt");
    weft_tokenizer_training training = {.vocab_size = 300, .max_sample_bytes = 1 << 20, .seed = 1};
    ck_assert_int_eq(weft_tokenizer_train(&training, &text, 1, at("tokenizer")), WEFT_OK);
    weft_tokenizer *t = NULL, *copy = NULL;
    ck_assert_int_eq(weft_tokenizer_open(&t, at("tokenizer")), WEFT_OK);
    c.model.vocab_size = weft_tokenizer_vocab_size(t) - 1;
    LOGGED(WEFT_EINPUT, weft_hf_export(at("spoken"), &c.model, &p, flat, WEFT_F32, BIG, at("tokenizer")));
    ck_assert_logged("another model's");
    ck_assert(!exists(at("spoken")));
    c.model.vocab_size++;
    ck_assert_int_eq(weft_hf_export(at("spoken"), &c.model, &p, flat, WEFT_F32, BIG, at("tokenizer")),
                     WEFT_OK);
    ck_assert_int_eq(count_entries(at("spoken")), 3 + 4);
    ck_assert_int_eq(weft_tokenizer_open(&copy, at("spoken")), WEFT_OK);
    weft_hash128 a = weft_tokenizer_digest(t), b = weft_tokenizer_digest(copy);
    ck_assert(a.hi == b.hi && a.lo == b.lo);
    weft_tokenizer_close(copy);
    weft_tokenizer_close(t);
    free(flat);
    weft_params_free(&p);
}
END_TEST

/* ---- what must fail ----------------------------------------------------------------------------------- */

START_TEST(nothing_half_written) {
    weft_config c = make_config(false);
    weft_params p = make_table(false);
    weft_real *flat = make_flat(&p);
    remove_tree(at("area"));
    ck_assert_int_eq(mkdir(at("area"), 0700), 0);
    ck_assert_int_eq(weft_hf_export(at("area/out"), &c.model, &p, flat, WEFT_F32, BIG, NULL), WEFT_OK);
    LOGGED(WEFT_EINPUT, weft_hf_export(at("area/out"), &c.model, &p, flat, WEFT_F32, BIG, NULL));
    ck_assert_logged("exists; remove it or choose another");
    LOGGED(WEFT_EIO, weft_hf_export(at("area/no/parent"), &c.model, &p, flat, WEFT_F32, BIG, NULL));
    LOGGED(WEFT_EINPUT, weft_hf_export(at("area/new"), &c.model, &p, flat, WEFT_F16, BIG, NULL));
    LOGGED(WEFT_EINPUT, weft_hf_export(at("area/new"), &c.model, &p, flat, WEFT_F32, 0, NULL));
    LOGGED(WEFT_EINPUT,
           weft_hf_export(at("area/new"), &c.model, &p, flat, WEFT_F32, BIG, at("no-tokenizer")));
    struct rlimit old, small;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    signal(SIGXFSZ, SIG_IGN);
    static const rlim_t limits[] = {0, 100, 8000}; /* while config.json, and while the weights are written */
    for (int i = 0; i < 3; i++) {
        small.rlim_cur = limits[i];
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
        weft_status status = weft_hf_export(at("area/new"), &c.model, &p, flat, WEFT_F32, BIG, NULL);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
        ck_assert_int_eq(status, WEFT_EIO);
    }
    ck_assert_int_eq(count_entries(at("area")), 1); /* "out" and no trace of the others */
    free(flat);
    weft_params_free(&p);
}
END_TEST

static void refused(weft_model_config *m, const char *reason) {
    weft_params p = make_table(false);
    weft_real *flat = make_flat(&p);
    LOGGED(WEFT_EINPUT, weft_hf_export(at("refused"), m, &p, flat, WEFT_F32, BIG, NULL));
    ck_assert_logged(reason);
    ck_assert_msg(count_in_log("\n") == 1, "more than one line:\n%s", g_log);
    ck_assert(!exists(at("refused")));
    free(flat);
    weft_params_free(&p);
}

START_TEST(refuses_what_the_format_cannot_express) {
    static const struct {
        const char *assignment[2], *reason;
    } cases[] = {
        {{"model.mixer_pattern=MAAM"}, "attention layers"},
        {{"model.ffn_pattern=EEDD"}, "expert layers"},
        {{"model.mixer_pattern=MA.A"}, "without a mixer"},
        {{"model.ffn_pattern=DE.E"}, "without a feed-forward"},
        {{"model.positions=rope"}, "rotary"},
        {{"model.mamba_inner_norm=false"}, "norms on dt"},
        {{"model.norm_topk_prob=true"}, "renormalised"},
        {{"model.head_dim=16"}, "head_dim of 16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weft_config c = make_config(false);
        ck_assert_int_eq(weft_config_override(&c, cases[i].assignment[0], "test"), WEFT_OK);
        ck_assert_int_eq(weft_config_finish(&c), WEFT_OK);
        refused(&c.model, cases[i].reason);
    }
    /* Two reasons, two lines. */
    weft_config c = make_config(false);
    weft_params p = make_table(false);
    c.model.norm_topk_prob = true;
    c.model.positions = WEFT_POS_ROPE;
    LOGGED(WEFT_EINPUT, weft_hf_export(at("refused"), &c.model, &p, NULL, WEFT_F32, BIG, NULL));
    ck_assert_int_eq(count_in_log("cannot express"), 2);
    weft_params_free(&p);
}
END_TEST

START_TEST(all_misfits_are_named) {
    weft_config c = make_config(false);
    weft_params p = make_table(false);
    weft_real *flat = make_flat(&p);
    ck_assert_int_eq(weft_hf_export(at("misfit"), &c.model, &p, flat, WEFT_F32, BIG, NULL), WEFT_OK);
    weft_params other = {.mesh = weft_mesh_single(),
                         .experts = X}; /* without the first and the last row, one row longer, one more */
    for (int64_t i = 1; i + 1 < p.count; i++) {
        weft_param r = p.rows[i];
        if (strcmp(r.hf_name, "model.final_layernorm.weight") == 0) r.shape[0] = r.hf_shape[0] = D + 1;
        weft_params_add(&other, &r, false);
    }
    add(&other, "model.layers.9.mamba.D", E, 0);
    weft_real *back = calloc((size_t)other.flat, sizeof *back);
    LOGGED(WEFT_EINPUT, weft_hf_read_weights(at("misfit"), &other, back));
    ck_assert_logged("unexpected tensor model.embed_tokens.weight");
    ck_assert_logged("unexpected tensor lm_head.weight");
    ck_assert_logged("missing tensor model.layers.9.mamba.D [16]");
    ck_assert_logged("model.final_layernorm.weight has the shape [8]; the model needs [9]");
    ck_assert_logged("4 tensors do not fit");
    ck_assert_int_eq(count_in_log("\n"), 5);
    for (int64_t i = 0; i < other.flat; i++) ck_assert(back[i] == 0); /* nothing was read */
    free(back);
    weft_params_free(&other);
    /* Nothing fits: the list ends, the count does not. */
    add(&other, "x", 1, 0);
    weft_real one;
    LOGGED(WEFT_EINPUT, weft_hf_read_weights(at("misfit"), &other, &one));
    ck_assert_int_eq(count_in_log("\n"), 21);
    ck_assert_logged("first 20");
    weft_params_free(&other);
    free(flat);
    weft_params_free(&p);
}
END_TEST

START_TEST(foreign_and_damaged_directories) {
    static const struct {
        const char *index, *reason;
    } cases[] = {
        {"", "not JSON"},
        {"[]", "not a JSON object"},
        {"{}", "no weight_map"},
        {"{\"weight_map\": {\"x\": 3}}", "something other than files"},
        {"{\"weight_map\": {\"x\": \"../damage/a.safetensors\"}}", "something other than files"},
        {"{\"weight_map\": {\"x\": \"absent.safetensors\"}}", "absent.safetensors: cannot open"},
        {"{\"weight_map\": {\"x\": \"a.safetensors\"}}", "tensor y is not listed"},
        {"{\"weight_map\": {\"x\": \"a.safetensors\", \"y\": \"b.safetensors\"}}", "is also in"},
        {"{\"weight_map\": {\"x\": \"a.safetensors\", \"y\": \"c.safetensors\"}}",
         "tensor y is not in the file"},
    };
    static const weft_st_decl x_and_y[] = {{"x", 1, {1}}, {"y", 1, {1}}}, z = {"z", 1, {1}};
    weft_params p = {.mesh = weft_mesh_single(), .experts = X};
    weft_real values[32] = {0};
    add(&p, "x", 1, 0);
    add(&p, "y", 1, 0);
    ck_assert_int_eq(mkdir(at("damage"), 0700), 0);
    LOGGED(WEFT_EINPUT, weft_hf_read_weights(at("damage"), &p, values));
    ck_assert_logged("neither");
    LOGGED(WEFT_EIO, weft_hf_read_config(at("damage"), &(weft_config){0}));
    for (int i = 0; i < 3; i++) {
        weft_st_writer *w = NULL;
        static const char *const files[] = {"damage/a.safetensors", "damage/b.safetensors",
                                            "damage/c.safetensors"};
        ck_assert_int_eq(weft_st_create(&w, at(files[i]), WEFT_F32, i == 2 ? &z : x_and_y, i == 2 ? 1 : 2),
                         WEFT_OK);
        ck_assert_int_eq(weft_st_append(w, values, i == 2 ? 1 : 2), WEFT_OK);
        ck_assert_int_eq(weft_st_finish(w), WEFT_OK);
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_text(at("damage/model.safetensors.index.json"), cases[i].index);
        log_begin();
        weft_status status = weft_hf_read_weights(at("damage"), &p, values);
        log_end();
        ck_assert_msg(status == WEFT_EINPUT || status == WEFT_EIO, "case %zu: status %d", i, status);
        ck_assert_logged(cases[i].reason);
    }
    /* The three rows of a file that begins as it should and is cut. */
    ck_assert_int_eq(truncate(at("damage/a.safetensors"), 100), 0);
    put_text(at("damage/model.safetensors.index.json"), "{\"weight_map\": {\"x\": \"a.safetensors\"}}");
    LOGGED(WEFT_EINPUT, weft_hf_read_weights(at("damage"), &p, values));
    ck_assert_logged("truncated");
    weft_params_free(&p);
}
END_TEST

/* The same weights with the experts of each layer in two tensors. */
START_TEST(fused_experts_are_read) {
    weft_params p = make_table(true);
    weft_real *flat = make_flat(&p);
    weft_st_decl decls[64];
    char names[4][WEFT_PARAM_NAME];
    for (int wrong = 0; wrong < 2; wrong++) {
        int count = 0;
        ck_assert(mkdir(at("fused"), 0700) == 0 || wrong);
        unlink(at("fused/model.safetensors"));
        for (int64_t i = 0; i < p.count; i++) {
            const weft_param *r = &p.rows[i];
            if (strstr(r->hf_name, ".experts.") || strcmp(r->name, "x") == 0 || strcmp(r->name, "z") == 0)
                continue;
            decls[count] = (weft_st_decl){.name = r->hf_name, .ndim = r->hf_ndim};
            memcpy(decls[count++].shape, r->hf_shape, sizeof r->hf_shape);
        }
        int plain = count;
        for (int l = 0; l < 2; l++) {
            snprintf(names[2 * l], WEFT_PARAM_NAME, "model.layers.%d.feed_forward.experts.gate_up_proj",
                     2 * l + 1);
            snprintf(names[2 * l + 1], WEFT_PARAM_NAME, "model.layers.%d.feed_forward.experts.down_proj",
                     2 * l + 1);
            decls[count++] = (weft_st_decl){names[2 * l], 3, {X, 2 * F - wrong, D}};
            decls[count++] = (weft_st_decl){names[2 * l + 1], 3, {X, D, F}};
        }
        static char in_proj[2][WEFT_PARAM_NAME];
        for (int l = 0; l < 2; l++) {
            snprintf(in_proj[l], sizeof in_proj[l], "model.layers.%d.mamba.in_proj.weight", 2 * l);
            decls[count++] = (weft_st_decl){in_proj[l], 2, {2 * E, D}};
        }
        weft_st_writer *w = NULL;
        ck_assert_int_eq(weft_st_create(&w, at("fused/model.safetensors"), WEFT_REAL_DTYPE, decls, count),
                         WEFT_OK);
        /* Order of the file: plain tensors, per layer (gate, up) of each expert then down of each, x and z.
         */
        for (int k = 0; k < plain; k++)
            for (int64_t i = 0; i < p.count; i++)
                if (strcmp(p.rows[i].hf_name, decls[k].name) == 0)
                    ck_assert_int_eq(weft_st_append(w, flat + p.rows[i].at, p.rows[i].numel), WEFT_OK);
        for (int layer = 1; layer < LAYERS; layer += 2)
            for (int down = 0; down < 2; down++)
                for (int64_t i = 0; i < p.count; i++) {
                    int l, j, skip = 0;
                    char part[16];
                    const weft_param *r = &p.rows[i];
                    if (sscanf(r->hf_name, "model.layers.%d.feed_forward.experts.%d.%15[a-z]_proj", &l, &j,
                               part) != 3)
                        continue;
                    if (l != layer || (strcmp(part, "down") == 0) != down) continue;
                    if (wrong && strcmp(part, "up") == 0) skip = D;
                    ck_assert_int_eq(weft_st_append(w, flat + r->at, r->numel - skip), WEFT_OK);
                }
        for (int l = 0; l < LAYERS; l += 2)
            for (const char *part = "xz"; *part; part++)
                for (int64_t i = 0; i < p.count; i++)
                    if (p.rows[i].name[0] == *part && strcmp(p.rows[i].hf_name, in_proj[l / 2]) == 0)
                        ck_assert_int_eq(weft_st_append(w, flat + p.rows[i].at, p.rows[i].numel), WEFT_OK);
        ck_assert_int_eq(weft_st_finish(w), WEFT_OK);
        if (!wrong) {
            assert_imports_as(at("fused"), &p, flat);
        } else {
            LOGGED(WEFT_EINPUT, weft_hf_read_weights(at("fused"), &p, flat));
            ck_assert_logged("experts.gate_up_proj has the shape [3, 11, 8]; the model needs [3, 12, 8]");
            ck_assert_int_eq(count_in_log("\n"), 3); /* one for each layer, and the count */
        }
    }
    free(flat);
    weft_params_free(&p);
}
END_TEST

/* ---- config.json -------------------------------------------------------------------------------------- */

static weft_status read_text(const char *text, weft_config *c) {
    mkdir(at("config"), 0700);
    put_text(at("config/config.json"), text);
    weft_config_defaults(c);
    return weft_hf_read_config(at("config"), c);
}

START_TEST(missing_keys_have_the_published_values) {
    weft_config c, v01;
    weft_config_defaults(&v01);
    ck_assert_int_eq(weft_config_finish(&v01), WEFT_OK);
    ck_assert_int_eq(
        read_text("{\"model_type\": \"jamba\", \"torch_dtype\": \"bfloat16\", \"unknown\": [1]}", &c),
        WEFT_OK);
    ck_assert_mem_eq(&c.model, &v01.model, sizeof c.model);
    ck_assert(c.model.mixer[4] == WEFT_MIXER_ATTENTION && c.model.ffn[1] == WEFT_FFN_MOE);
    /* Values that other writers use. */
    ck_assert_int_eq(
        read_text("{\"model_type\": \"jamba\", \"num_key_value_heads\": null, \"mamba_dt_rank\": \"auto\","
                  " \"pad_token_id\": null, \"num_experts\": 1, \"rms_norm_eps\": 1,"
                  " \"attn_layer_period\": 2000, \"attn_layer_offset\": 1999}",
                  &c),
        WEFT_OK);
    ck_assert_int_eq(c.model.num_key_value_heads, 32);
    ck_assert_int_eq(weft_dt_rank(&c.model), 256);
    ck_assert(c.model.rms_norm_eps == 1);
    for (int i = 0; i < 32; i++)
        ck_assert(c.model.mixer[i] == WEFT_MIXER_MAMBA && c.model.ffn[i] == WEFT_FFN_DENSE);
    /* A period beyond the last layer, with an offset before it: one attention layer. */
    ck_assert_int_eq(
        read_text("{\"model_type\": \"jamba\", \"attn_layer_period\": 2000, \"attn_layer_offset\": 31}", &c),
        WEFT_OK);
    for (int i = 0; i < 32; i++) ck_assert((c.model.mixer[i] == WEFT_MIXER_ATTENTION) == (i == 31));
}
END_TEST

START_TEST(configurations_that_cannot_be_honoured) {
    static const struct {
        const char *keys, *reason;
    } cases[] = {
        {"\"model_type\": \"mamba\"", "\"mamba\"; only \"jamba\""},
        {"\"x\": 1", "only \"jamba\""},
        {"\"model_type\": \"jamba\", \"architectures\": [\"JambaForSequenceClassification\"]",
         "architectures"},
        {"\"model_type\": \"jamba\", \"hidden_act\": \"gelu\"", "hidden_act"},
        {"\"model_type\": \"jamba\", \"sliding_window\": 4096", "sliding_window"},
        {"\"model_type\": \"jamba\", \"quantization_config\": {}", "quantization_config"},
        {"\"model_type\": \"jamba\", \"hidden_size\": \"4096\"", "hidden_size must be an integer"},
        {"\"model_type\": \"jamba\", \"hidden_size\": 4096.5", "hidden_size must be an integer"},
        {"\"model_type\": \"jamba\", \"hidden_size\": 0", "hidden_size"},
        {"\"model_type\": \"jamba\", \"num_hidden_layers\": 1000000", "num_hidden_layers"},
        {"\"model_type\": \"jamba\", \"mamba_dt_rank\": \"all\"", "mamba_dt_rank"},
        {"\"model_type\": \"jamba\", \"rms_norm_eps\": \"1e-6\"", "rms_norm_eps must be a number"},
        {"\"model_type\": \"jamba\", \"mamba_conv_bias\": 1", "mamba_conv_bias must be true or false"},
        {"\"model_type\": \"jamba\", \"attn_layer_period\": 0", "attn_layer_period"},
        {"\"model_type\": \"jamba\", \"expert_layer_offset\": 2", "expert_layer_offset 2"},
        {"\"model_type\": \"jamba\", \"num_experts_per_tok\": 17", "num_experts_per_tok"},
        {"\"model_type\": \"jamba\", \"hidden_size\": 1, \"hidden_size\": 2", "not JSON"},
    };
    char text[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weft_config c;
        snprintf(text, sizeof text, "{%s}", cases[i].keys);
        LOGGED(WEFT_EINPUT, read_text(text, &c));
        ck_assert_logged(cases[i].reason);
        ck_assert_int_eq(c.model.mixer[0], WEFT_MIXER_NONE); /* c was not touched: nothing derived yet */
    }
}
END_TEST

/* Patterns that are some period and offset come back as the same layers, whatever way they were given. */
START_TEST(schedules_round_trip) {
    static const char *const mixers[] = {"MMMM", "AAAA", "MMAM", "AMAM", "MMMA", "AMMA"};
    static const char *const ffns[] = {"DDDD", "EEEE", "DEDE", "DDDE", "EDDD", "DEDD"};
    weft_params p = make_table(false);
    weft_real *flat = make_flat(&p);
    for (int i = 0; i < 6; i++) {
        weft_config c = make_config(false), back;
        strcpy(c.model.mixer_pattern, mixers[i]);
        strcpy(c.model.ffn_pattern, ffns[i]);
        ck_assert_int_eq(weft_config_finish(&c), WEFT_OK);
        remove_tree(at("schedule"));
        ck_assert_int_eq(weft_hf_export(at("schedule"), &c.model, &p, flat, WEFT_F32, BIG, NULL), WEFT_OK);
        weft_config_defaults(&back);
        ck_assert_int_eq(weft_hf_read_config(at("schedule"), &back), WEFT_OK);
        ck_assert_mem_eq(back.model.mixer, c.model.mixer, sizeof c.model.mixer);
        ck_assert_mem_eq(back.model.ffn, c.model.ffn, sizeof c.model.ffn);
    }
    free(flat);
    weft_params_free(&p);
}
END_TEST

int main(void) {
    strcpy(g_root, "/tmp/weft-test-XXXXXX");
    if (!mkdtemp(g_root)) return EXIT_FAILURE;
    const TTest *const tests[] = {tokenizer_travels_along,
                                  round_trip_is_exact,
                                  rows_are_joined_as_the_format_wants,
                                  shards_stay_below_the_limit,
                                  bf16_and_f64_round_trip,
                                  nothing_half_written,
                                  refuses_what_the_format_cannot_express,
                                  all_misfits_are_named,
                                  foreign_and_damaged_directories,
                                  fused_experts_are_read,
                                  schedules_round_trip,
                                  missing_keys_have_the_published_values,
                                  configurations_that_cannot_be_honoured};
    int failed = suite_run("hf", tests, sizeof tests / sizeof *tests);
    remove_tree(g_root);
    return failed;
}
