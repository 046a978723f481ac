/* The configuration: what is read, what is refused and with which message, and that printing reads back. */
#include "model/config.h"
#include "model/config_fields.h"
#include "support/capture.h"
#include "support/suite.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- an empty folder, failures ------------------------------------------------------------------- */

static char folder[] = "/tmp/weft-config.XXXXXX";

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text) {
    FILE *f = fopen(path_of(name), "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

/* A failure is one line and says `expected`; the configuration is as before. */
static void expect_failure(weft_status st, const weft_config *after, const weft_config *before,
                           const char *expected) {
    if (!strstr(message, expected))
        ck_abort_msg("expected '%s' in the message, got: %.2000s", expected, message);
    ck_assert_int_ne(st, WEFT_OK);
    ck_assert_int_eq(lines(message), 1);
    ck_assert_int_eq(memcmp(after, before, sizeof *after), 0);
}

static void refuse_file(const char *text, const char *expected) {
    weft_config c, before;
    weft_config_defaults(&c);
    memcpy(&before, &c, sizeof c);
    write_file("bad.yaml", text);
    capture();
    weft_status st = weft_config_load(&c, path_of("bad.yaml"));
    release();
    expect_failure(st, &c, &before, expected);
}

static void refuse_override(const char *assignment, const char *expected) {
    weft_config c, before;
    weft_config_defaults(&c);
    memcpy(&before, &c, sizeof c);
    capture();
    weft_status st = weft_config_override(&c, assignment, "command line");
    release();
    expect_failure(st, &c, &before, expected);
}

/* Overrides on the defaults (separated by spaces), each legal by itself; finish must refuse them together. */
static weft_status finish_with(weft_config *c, const char *assignments) {
    char text[1024], *rest = text;
    weft_config_defaults(c);
    snprintf(text, sizeof text, "%s", assignments);
    for (char *word; (word = strsep(&rest, " "));)
        ck_assert_int_eq(weft_config_override(c, word, "command line"), WEFT_OK);
    capture();
    weft_status st = weft_config_finish(c);
    release();
    return st;
}

static void refuse_finish(const char *assignments, const char *expected) {
    weft_config c;
    weft_status st = finish_with(&c, assignments);
    if (!strstr(message, expected))
        ck_abort_msg("expected '%s' in the message, got: %.2000s", expected, message);
    ck_assert_int_eq(st, WEFT_EINPUT);
    ck_assert_int_eq(lines(message), 1);
}

static void accept_finish(weft_config *c, const char *assignments) {
    weft_status st = finish_with(c, assignments);
    if (st != WEFT_OK) ck_abort_msg("%s was refused: %.2000s", assignments, message);
    ck_assert_str_eq(message, "");
}

/* ---- good input ---- */

START_TEST(defaults_are_jamba) {
    weft_config c;
    weft_config_defaults(&c);
    ck_assert_int_eq(weft_config_finish(&c), WEFT_OK);
    ck_assert_int_eq(c.model.hidden_size, 4096);
    ck_assert_int_eq(c.model.intermediate_size, 14336);
    ck_assert_int_eq(c.model.vocab_size, 65536);
    ck_assert_int_eq(weft_dt_rank(&c.model), 256);
    ck_assert_int_eq(weft_head_dim(&c.model), 128);
    ck_assert_int_eq(weft_d_inner(&c.model), 8192);
    ck_assert_double_eq(c.model.rms_norm_eps, 1e-6);
    ck_assert(c.model.mamba_inner_norm && c.model.mamba_conv_bias && !c.model.mamba_proj_bias);
    for (int i = 0; i < 32; i++) {
        bool attention = i == 4 || i == 12 || i == 20 || i == 28;
        ck_assert_int_eq(c.model.mixer[i], attention ? WEFT_MIXER_ATTENTION : WEFT_MIXER_MAMBA);
        ck_assert_int_eq(c.model.ffn[i], i % 2 ? WEFT_FFN_MOE : WEFT_FFN_DENSE);
    }
    ck_assert_int_eq(c.seed, 1234);
    ck_assert_str_eq(c.start.resume, "auto");
    ck_assert_str_eq(c.run, "");
    ck_assert_int_eq(c.device, WEFT_DEVICE_AUTO);
    ck_assert_int_eq(c.train.deterministic, WEFT_DET_LAYOUT);
    ck_assert_double_eq(c.optim.beta2, 0.95);
    ck_assert_int_eq(c.checkpoint.keep, 3);
    for (int axis = 0; axis < WEFT_AXES; axis++)
        ck_assert_int_eq(c.mesh.sizes.size[axis], axis == WEFT_AXIS_FSDP ? 0 : 1);
    ck_assert_int_eq(c.mesh.ep_passes, 0);
    ck_assert_int_eq(c.mesh.reshard, WEFT_RESHARD_ALWAYS);
    ck_assert(c.mesh.prefetch);
    ck_assert_double_eq(c.mesh.timeout, 600);
}
END_TEST

START_TEST(a_file_sets_every_type) {
    weft_config c;
    weft_config_defaults(&c);
    write_file("good.yaml", "\xef\xbb\xbf# comment\n"
                            "run: \"runs/a b\"\n"
                            "seed: 1_000_000\n"
                            "device: cpu\n"
                            "resume: 'never'\n"
                            "optim: {lr: 3e-4, min_lr: 0}\n"
                            "log:\n"
                            "model:\n"
                            "  num_hidden_layers: 4   # four\n"
                            "  mixer_pattern: .AM.\n"
                            "  ffn_pattern: \"DE.E\"\n"
                            "  mamba_dt_rank: auto\n"
                            "  head_dim: 16\n"
                            "  tie_word_embeddings: true\n"
                            "  positions: rope\n"
                            "train.steps: 17\r\n"
                            "train:\n"
                            "  recompute_layers: 0-1,3\n"
                            "data:\n"
                            "  weights:\n"
                            "    books: 2\n"
                            "    \"a: b\": 0.5\n"
                            "mesh: {dp: auto, fsdp: 4, cp: 2, tp: 8, ep: 16,\n"
                            "       ep_passes: 3, reshard: after_backward, prefetch: false, timeout: 0.5}\n");
    ck_assert_int_eq(weft_config_load(&c, path_of("good.yaml")), WEFT_OK);
    ck_assert_int_eq(weft_config_override(&c, "data.weights.code=1.25", "command line"), WEFT_OK);
    ck_assert_int_eq(weft_config_override(&c, "data.weights.books=3", "command line"), WEFT_OK);
    ck_assert_int_eq(weft_config_override(&c, "data.path=a=b", "command line"), WEFT_OK);
    ck_assert_int_eq(weft_config_override(&c, "optim.warmup=2", "command line"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(&c), WEFT_OK);
    ck_assert_str_eq(c.run, "runs/a b");
    ck_assert_int_eq(c.seed, 1000000);
    ck_assert_int_eq(c.device, WEFT_DEVICE_CPU);
    ck_assert_str_eq(c.start.resume, "never");
    ck_assert_double_eq(c.optim.lr, 3e-4);
    ck_assert_double_eq(c.optim.min_lr, 0);
    ck_assert_int_eq(c.model.mixer[0], WEFT_MIXER_NONE);
    ck_assert_int_eq(c.model.mixer[1], WEFT_MIXER_ATTENTION);
    ck_assert_int_eq(c.model.mixer[2], WEFT_MIXER_MAMBA);
    ck_assert_int_eq(c.model.ffn[0], WEFT_FFN_DENSE);
    ck_assert_int_eq(c.model.ffn[1], WEFT_FFN_MOE);
    ck_assert_int_eq(c.model.ffn[2], WEFT_FFN_NONE);
    ck_assert_int_eq(c.model.mamba_dt_rank, 0);
    ck_assert_int_eq(c.model.head_dim, 16);
    ck_assert(c.model.tie_word_embeddings);
    ck_assert_int_eq(c.model.positions, WEFT_POS_ROPE);
    ck_assert_int_eq(c.train.steps, 17);
    ck_assert_str_eq(c.train.recompute_layers, "0-1,3");
    ck_assert_int_eq(c.data.weights_count, 3);
    ck_assert_str_eq(c.data.weights[0].name, "books");
    ck_assert_double_eq(c.data.weights[0].weight, 3);
    ck_assert_str_eq(c.data.weights[1].name, "a: b");
    ck_assert_double_eq(c.data.weights[2].weight, 1.25);
    ck_assert_str_eq(c.data.path, "a=b");
    static const int64_t mesh[] = {0, 4, 2, 8, 16};
    for (int axis = 0; axis < WEFT_AXES; axis++) ck_assert_int_eq(c.mesh.sizes.size[axis], mesh[axis]);
    ck_assert_int_eq(c.mesh.ep_passes, 3);
    ck_assert_int_eq(c.mesh.reshard, WEFT_RESHARD_AFTER_BACKWARD);
    ck_assert(!c.mesh.prefetch);
    ck_assert_double_eq(c.mesh.timeout, 0.5);
    /* A command line can go back to auto. */
    ck_assert_int_eq(weft_config_override(&c, "mesh.fsdp=auto", "command line"), WEFT_OK);
    ck_assert_int_eq(c.mesh.sizes.size[WEFT_AXIS_FSDP], 0);
}
END_TEST

START_TEST(includes_come_first) {
    weft_config c;
    ck_assert_int_eq(mkdir(path_of("sub"), 0777), 0);
    write_file("sub/base.yaml",
               "include: deeper.yaml\ntrain: {steps: 5, seq_len: 7}\ndata: {weights: {a: 1, b: 2}}\n");
    write_file("sub/deeper.yaml", "train:\n  steps: 3\n  micro_batch: 2\n");
    write_file("top.yaml", "train:\n  seq_len: 9\ninclude: sub/base.yaml\ndata:\n  weights: {b: 3}\n");
    weft_config_defaults(&c);
    ck_assert_int_eq(weft_config_load(&c, path_of("top.yaml")), WEFT_OK);
    ck_assert_int_eq(c.train.steps, 5);
    ck_assert_int_eq(c.train.seq_len, 9);
    ck_assert_int_eq(c.train.micro_batch, 2);
    ck_assert_int_eq(c.data.weights_count, 2);
    ck_assert_double_eq(c.data.weights[1].weight, 3);

    write_file("none.yaml", "include: top.yaml\ndata: {weights: {}}\n");
    ck_assert_int_eq(weft_config_load(&c, path_of("none.yaml")), WEFT_OK);
    ck_assert_int_eq(c.data.weights_count, 0);

    /* Included twice side by side is no cycle; a mistake in an included file is reported there. */
    refuse_file("include: sub/../bad.yaml\n", "bad.yaml:1:10: ");
    ck_assert_ptr_nonnull(strstr(message, "lead back"));
    write_file("a.yaml", "include: sub/b.yaml\n");
    write_file("sub/b.yaml", "seed: 1\ninclude: ../a.yaml\n");
    refuse_file("include: a.yaml\n", "sub/b.yaml:2:10: ");
    write_file("sub/b.yaml", "seed: 1\n\nsed: 2\n");
    refuse_file("include: a.yaml\n", "sub/b.yaml:3:1: unknown key 'sed'; did you mean 'seed'?");
    refuse_file("seed: 1\ninclude: missing.yaml\n", "bad.yaml:2:10: cannot open the configuration");
    refuse_file("include: {a: b}\n", "bad.yaml:1:10: include wants the name of one file");
    refuse_file("include:\n", "include wants the name of one file");
}
END_TEST

START_TEST(read_joins_all) {
    weft_config c;
    char *args[] = {"train.steps=3", "optim.warmup=1", "train.steps=4"};
    write_file("r.yaml", "train: {steps: 1, seq_len: 32}\n");
    ck_assert_int_eq(weft_config_read(&c, path_of("r.yaml"), 3, args), WEFT_OK);
    ck_assert_int_eq(c.train.steps, 4);
    ck_assert_int_eq(c.train.seq_len, 32);
    ck_assert_int_eq(c.model.mixer[4], WEFT_MIXER_ATTENTION);
    write_file("empty.yaml", "# nothing\n");
    ck_assert_int_eq(weft_config_read(&c, path_of("empty.yaml"), 0, NULL), WEFT_OK);
    ck_assert_int_eq(c.train.steps, 1000);
}
END_TEST

/* ---- bad input ---- */

START_TEST(bad_keys) {
    refuse_file("seed: 1\nmodel:\n  vocab_size: 5\n  hiden_size: 64\n",
                "bad.yaml:4:3: unknown key 'model.hiden_size'; did you mean 'model.hidden_size'?");
    refuse_file("steps: 3\n", "bad.yaml:1:1: unknown key 'steps'; did you mean 'train.steps'?");
    refuse_file("\nmodle:\n  vocab_size: 5\n",
                "bad.yaml:2:1: unknown section 'modle'; did you mean 'model'?");
    refuse_file("qqqqqqqqqqqq: 1\n", "unknown key 'qqqqqqqqqqqq'; `weft config doc` lists all");
    refuse_file("train:\n  steps: 1\n  seq_len: 2\n  steps: 3\n",
                "bad.yaml:4:3: train.steps was given before, on line 2");
    refuse_file("train:\n  steps: 1\ntrain.steps: 3\n",
                "bad.yaml:3:1: train.steps was given before, on line 2");
    refuse_file("train:\n  steps: 1\nlog:\ntrain:\n  seq_len: 3\n",
                "bad.yaml:4:1: train was given before, on line 1");
    refuse_file("train:\n  steps:\n    many: 3\n",
                "bad.yaml:2:3: train.steps wants an integer, not a mapping");
    refuse_file("data:\n  weights:\n    a:\n      b: 3\n",
                "bad.yaml:3:5: data.weights.a wants a number, not a mapping");
    refuse_file("? {a: b}\n: 3\n", "bad.yaml:1:3: a key must be a plain name");
    refuse_file("\"\": 3\n", "bad.yaml:1:1: a key must be a plain name");
    refuse_file("model: 3\n", "bad.yaml:1:8: model is a section");
    refuse_file("data:\n  weights: 3\n", "bad.yaml:2:12: data.weights wants a mapping such as");
}
END_TEST

START_TEST(bad_values) {
    refuse_file("train:\n  steps: many\n", "bad.yaml:2:10: train.steps wants an integer, not 'many'");
    refuse_file("train:\n  steps:\n", "train.steps wants an integer, not ''");
    refuse_file("train:\n  steps: \"3\"\n", "train.steps wants an integer, not \"3\"; leave the quotes out");
    refuse_file("train:\n  steps: 1.5\n", "wants an integer, not '1.5'");
    refuse_file("train:\n  steps: 1__0\n", "wants an integer, not '1__0'");
    refuse_file("train:\n  steps: 10_\n", "wants an integer, not '10_'");
    refuse_file("train:\n  steps: 0x10\n", "wants an integer, not '0x10'");
    refuse_file("train:\n  steps: 99999999999999999999\n", "wants an integer");
    refuse_file("train:\n  steps: 0\n",
                "bad.yaml:2:10: train.steps is 0; it must be from 1 to 1000000000000 (steps)");
    refuse_file("seed: -1\n", "seed is -1; it must be at least 0");
    refuse_file("model: {head_dim: automatic}\n", "wants an integer or auto, not 'automatic'");
    refuse_file("optim:\n  lr: fast\n", "bad.yaml:2:7: optim.lr wants a number, not 'fast'");
    refuse_file("optim:\n  lr: .inf\n", "optim.lr wants a number");
    refuse_file("optim:\n  lr: nan\n", "optim.lr wants a number");
    refuse_file("optim:\n  lr: 1e999\n", "optim.lr wants a number");
    refuse_file("optim:\n  lr: 0\n", "optim.lr is 0; it must be greater than 0");
    refuse_file("optim:\n  beta1: 1\n", "optim.beta1 is 1; it must be from 0 to below 1");
    refuse_file("optim:\n  beta2: 1\n", "optim.beta2 is 1; it must be from 0 to below 1");
    refuse_file("model:\n  norm_topk_prob: yes\n",
                "bad.yaml:2:19: model.norm_topk_prob wants true or false, not 'yes'");
    refuse_file("train: {recompute: some}\n",
                "train.recompute is 'some'; it must be none, mixer, ffn or all");
    refuse_file("device: gpu\n", "bad.yaml:1:9: device is 'gpu'; it must be auto, cpu or cuda");
    refuse_file("run:\n", "run has no value");
    refuse_file("run: null\n", "run has no value");
    refuse_file("run: \"a\\nb\"\n", "run must be UTF-8 text on one line");
    refuse_file("run: \"a\\0b\"\n", "run has a NUL character");
    refuse_file("data: {weights: {a: -1}}\n", "data.weights.a is -1; it must be at least 0");
    refuse_file("data: {weights: {a: b}}\n", "data.weights.a wants a number, not 'b'");

    char long_text[WEFT_CONFIG_STR + 16] = "run: ";
    memset(long_text + 5, 'x', WEFT_CONFIG_STR);
    refuse_file(long_text, "run has 1024 bytes; at most 1023 fit");
    char many[2048] = "data:\n  weights:\n";
    for (int i = 0; i <= WEFT_MAX_DOMAINS; i++) snprintf(many + strlen(many), 32, "    d%d: 1\n", i);
    refuse_file(many, "bad.yaml:35:10: data.weights.d32 is one domain too many; at most 32");
}
END_TEST

START_TEST(bad_yaml) {
    refuse_file("train:\n\tsteps: 3\n", "bad.yaml:2:1: a tab in the indentation");
    refuse_file("train:\n  steps: 3\n  \tseq_len: 3\n", "bad.yaml:3:3: a tab in the indentation");
    refuse_file("train:\n  steps: 3\n seq_len: 4\n", "bad.yaml:3:");
    refuse_file("train: {steps: 3\nseed: 4\n", "YAML syntax: ");
    refuse_file("run: \"abc\n", "YAML syntax: ");
    refuse_file("seed: 1\nrun: \xff\xff\n", "bad.yaml:2:6: ");
    refuse_file("seed: 1\nrun: \x01\n", "bad.yaml:2:6: ");
    refuse_file("- a\n- b\n", "bad.yaml:1:1: not a mapping of keys to values");
    refuse_file("just words\n", "bad.yaml:1:1: not a mapping of keys to values");
    refuse_file("train:\n  steps: [1, 2]\n", "bad.yaml:2:10: a list; no key takes one");
    refuse_file("train: &t\n  steps: 1\n", "bad.yaml:1:8: anchors");
    refuse_file("run: *x\n", "bad.yaml:1:6: anchors");
    refuse_file("seed: !!int 3\n", "bad.yaml:1:7: tags");
    refuse_file("seed: 1\n---\nseed: 2\n", "bad.yaml:2:1: a second document");
    refuse_file("a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}}}\n", "nested too deeply");

    weft_config c, before;
    weft_config_defaults(&c);
    memcpy(&before, &c, sizeof c);
    capture();
    weft_status st = weft_config_load(&c, path_of("absent.yaml"));
    release();
    ck_assert_int_eq(st, WEFT_EIO);
    expect_failure(st, &c, &before, "absent.yaml: No such file or directory");
    capture();
    st = weft_config_load(&c, folder);
    release();
    expect_failure(st, &c, &before, "is a directory");
    capture();
    st = weft_config_parse(&c, "include: x.yaml\n", 16, "checkpoint");
    release();
    expect_failure(st, &c, &before, "checkpoint:1:10: include works in files only");
}
END_TEST

START_TEST(bad_overrides) {
    refuse_override("train.stepz=3", "command line: unknown key 'train.stepz'; did you mean 'train.steps'?");
    refuse_override("train.steps", "command line: 'train.steps' is not key=value");
    refuse_override("=3", "is not key=value");
    refuse_override("train.steps=", "command line: train.steps wants an integer, not ''");
    refuse_override("train.steps=0", "command line: train.steps is 0; it must be from 1");
    refuse_override("train=3", "command line: train is a section");
    refuse_override("include=a.yaml", "command line: include works in files only");
    refuse_override("mesh.tp=-1", "mesh.tp is -1; it must be from 0 to 1000000 (ranks)");
    refuse_override("mesh.tp=two", "mesh.tp wants an integer or auto, not 'two'");
    refuse_override("mesh.ep=auto", "mesh.ep wants an integer, not 'auto'");
    refuse_override("mesh.ep=0", "mesh.ep is 0; it must be from 1 to 1000000 (ranks)");
    refuse_override("mesh.ep_passes=4097", "mesh.ep_passes is 4097; it must be from 0 to 4096 (passes)");
    refuse_override("mesh.pp=2", "unknown key 'mesh.pp'; did you mean 'mesh.");
    refuse_override("mesh.reshard=sometimes",
                    "mesh.reshard is 'sometimes'; it must be always, after_backward or never");
    refuse_override("mesh.timeout=-1", "mesh.timeout is -1; it must be at least 0 (seconds)");
    refuse_override("data.weights=3", "command line: data.weights is a mapping");
    refuse_override("data.weights.=3", "a domain's name has 1 to 63 bytes");
    refuse_override("data.weights.a=x", "command line: data.weights.a wants a number");
    refuse_override("run=a\nb", "command line: run must be UTF-8 text");
    refuse_override("run=\xff", "command line: run must be UTF-8 text");
    refuse_override("run=\xc0\xaf", "command line: run must be UTF-8 text");     /* overlong */
    refuse_override("run=\xe2\x80\xa8", "command line: run must be UTF-8 text"); /* line separator */
}
END_TEST

START_TEST(rules_between_keys) {
    weft_config c;
    refuse_finish("model.num_attention_heads=48 model.num_key_value_heads=16",
                  "model.hidden_size 4096 is not a multiple of model.num_attention_heads 48");
    accept_finish(&c, "model.num_attention_heads=48 model.num_key_value_heads=16 model.head_dim=64");
    refuse_finish("model.num_key_value_heads=5",
                  "model.num_attention_heads 32 is not a multiple of model.num_key_value_heads 5");
    accept_finish(&c, "model.attn_layer_period=0 model.num_key_value_heads=5");
    ck_assert_int_eq(c.model.mixer[4], WEFT_MIXER_MAMBA);
    refuse_finish("model.attn_layer_offset=8",
                  "model.attn_layer_offset 8 must be smaller than model.attn_layer_period 8");
    refuse_finish("model.expert_layer_offset=2", "model.expert_layer_offset 2 must be smaller");
    refuse_finish("model.num_hidden_layers=4 model.mixer_pattern=AMM",
                  "model.mixer_pattern has 3 symbols, but model.num_hidden_layers is 4");
    refuse_finish("model.num_hidden_layers=2 model.ffn_pattern=DDD", "model.ffn_pattern has 3 symbols");
    refuse_finish(
        "model.num_hidden_layers=4 model.mixer_pattern=AMDM",
        "'AMDM': symbol 'D' at position 3 (layer 2) is not one of A (attention), M (Mamba), . (none)");
    refuse_finish("model.num_hidden_layers=1 model.ffn_pattern=e", "symbol 'e' at position 1 (layer 0)");
    refuse_finish("model.num_hidden_layers=2 model.ffn_pattern=DE model.num_experts=1",
                  "model.ffn_pattern has layers with experts (E), but model.num_experts is 1");
    accept_finish(&c, "model.num_experts=1");
    for (int i = 0; i < 32; i++) ck_assert_int_eq(c.model.ffn[i], WEFT_FFN_DENSE);
    refuse_finish("model.num_experts_per_tok=17",
                  "model.num_experts_per_tok 17 is more than model.num_experts 16");
    refuse_finish("train.global_batch=9 train.micro_batch=2",
                  "train.global_batch 9 is not a multiple of train.micro_batch 2");
    refuse_finish("optim.schedule=wsd optim.decay_steps=901", "optim.decay_steps 901 together are longer");
    accept_finish(&c, "optim.schedule=wsd optim.decay_steps=900");
    refuse_finish("train.seq_len=100 train.global_batch_tokens=250",
                  "250 is not a multiple of train.seq_len 100");
    accept_finish(&c, "train.seq_len=100 train.global_batch=7 train.global_batch_tokens=300");
    ck_assert_int_eq(c.train.global_batch, 3);
    accept_finish(&c, "train.seq_len=100 train.global_batch_tokens=300 train.global_batch=7");
    ck_assert_int_eq(c.train.global_batch, 7);
    refuse_finish("optim.lr=1e-5", "optim.min_lr 0.0001 is larger than optim.lr 1.0e-05");
    refuse_finish("model.positions=rope model.head_dim=33",
                  "the head width 33 (model.head_dim) must be even");
    accept_finish(&c, "model.head_dim=33");
    refuse_finish("model.vocab_size=2", "model.eos_token_id 2 must be smaller than model.vocab_size 2");
    refuse_finish("model.intermediate_size=0", "model.intermediate_size is 0");
    accept_finish(&c, "model.intermediate_size=0 model.num_hidden_layers=2 model.ffn_pattern=..");
    refuse_finish("train.recompute_layers=0-3,x", "'0-3,x' has a mistake at position 5");
    refuse_finish("train.recompute_layers=1,", "'1,' has a mistake at position 2");
    refuse_finish("train.recompute_layers=-1", "has a mistake at position 1");
    refuse_finish("train.recompute_layers=3-", "has a mistake");
    refuse_finish("train.recompute_layers=5-3", "5-3 is no range of layers 0 to 31");
    refuse_finish("train.recompute_layers=32", "32-32 is no range of layers 0 to 31");
    refuse_finish("train.recompute_layers=99999999999999999999", "is no range of layers 0 to 31");
    accept_finish(&c, "train.recompute_layers=0-3,31");
    refuse_finish("data.weights.a=0", "data.weights must have a sum above 0");
    refuse_finish("model.num_experts=65536 model.hidden_size=1000000 model.intermediate_size=10000000",
                  "the model section describes up to");
    refuse_finish("train.seq_len=1000000000 train.micro_batch=8", "too large for a model of this width");
    refuse_finish("train.steps=1000000000000 train.global_batch=1000000", "is more than 10^18 tokens");

    weft_config_defaults(&c);
    c.model.vocab_size = 0; /* as a program might */
    capture();
    weft_status st = weft_config_finish(&c);
    release();
    ck_assert_int_eq(st, WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "model.vocab_size is 0; it must be from 1 to 100000000 (tokens)"));
}
END_TEST

/* ---- printing ---- */

static uint64_t random_state = 12345;
static uint64_t random_bits(void) { /* splitmix64 */
    uint64_t z = (random_state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* Text that is awkward in YAML, of up to `room` bytes. */
static void random_text(char *out, size_t room, size_t least) {
    static const char *const bits[] = {"a",
                                       "Z",
                                       " ",
                                       ":",
                                       "#",
                                       "'",
                                       "\"",
                                       "\\",
                                       "{",
                                       "}",
                                       "-",
                                       "0",
                                       "1",
                                       "true",
                                       "~",
                                       "*",
                                       "&",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       ",",
                                       "%",
                                       "!",
                                       "null",
                                       ".",
                                       "no",
                                       "\xf0\x9f\xa7\xb5",
                                       "=",
                                       "1e3",
                                       "?",
                                       "@",
                                       "`",
                                       "["};
    size_t n = 0, wanted = random_bits() % 8 ? random_bits() % 12 : room - 1;
    if (wanted < least) wanted = least;
    if (wanted >= room) wanted = room - 1;
    memset(out, 0, room);
    while (n < wanted) {
        const char *b = bits[random_bits() % (sizeof bits / sizeof *bits)];
        if (n + strlen(b) >= room) b = "x";
        memcpy(out + n, b, strlen(b));
        n += strlen(b);
    }
}

static double random_real(const weft_field_range *r) {
    for (;;) {
        uint64_t bits = random_bits();
        double x;
        memcpy(&x, &bits, sizeof x);
        if (random_bits() % 2)
            x = ldexp((double)(bits >> 11), -(int)(bits % 80)); /* nearer to everyday sizes */
        if (!isfinite(x) || x < r->low || x > r->high || (x == r->low && r->low_open) ||
            (x == r->high && r->high_open))
            continue;
        return x;
    }
}

static void randomize(weft_config *c) {
    weft_config_defaults(c);
    for (int i = 0; i < weft_fields_count; i++) {
        const weft_field *f = &weft_fields[i];
        void *value = (char *)c + f->offset;
        int choices = 0;
        switch (f->type) {
        case WEFT_FIELD_INT: {
            double high = f->range.high < 9e18 ? f->range.high : 9e18;
            *(int64_t *)value =
                (int64_t)f->range.low + (int64_t)(random_bits() % (uint64_t)(high - f->range.low + 1));
            break;
        }
        case WEFT_FIELD_REAL:
            *(double *)value = random_real(&f->range);
            break;
        case WEFT_FIELD_BOOL:
            *(bool *)value = random_bits() % 2;
            break;
        case WEFT_FIELD_TEXT:
            random_text(value, f->size, 0);
            break;
        case WEFT_FIELD_CHOICE:
            while (f->choices[choices]) choices++;
            *(int *)value = (int)(random_bits() % (unsigned)choices);
            break;
        default:
            c->data.weights_count = (int64_t)(random_bits() % (WEFT_MAX_DOMAINS + 1));
            for (int64_t k = 0; k < c->data.weights_count; k++) {
                random_text(c->data.weights[k].name, sizeof c->data.weights[k].name - 4, 1);
                snprintf(c->data.weights[k].name + strlen(c->data.weights[k].name), 4, "%02d",
                         (int)k); /* distinct */
                c->data.weights[k].weight = random_real(&f->range);
            }
        }
    }
}

START_TEST(yaml_reads_back) {
    weft_config c, back;
    for (int round = 0; round < 500; round++) {
        randomize(&c);
        char *text = weft_config_to_yaml(&c);
        ck_assert_ptr_nonnull(text);
        weft_config_defaults(&back);
        if (weft_config_parse(&back, text, strlen(text), "printed") != WEFT_OK ||
            memcmp(&back, &c, sizeof c) != 0)
            ck_abort_msg("round %d does not read back:\n%.3000s", round, text);
        if (round < 20) { /* the same from a file */
            write_file("printed.yaml", text);
            weft_config_defaults(&back);
            ck_assert_int_eq(weft_config_load(&back, path_of("printed.yaml")), WEFT_OK);
            ck_assert_int_eq(memcmp(&back, &c, sizeof c), 0);
        }
        free(text);
    }
    /* A finished one, with its derived members. */
    ck_assert_int_eq(finish_with(&c, "model.num_hidden_layers=3 model.mixer_pattern=A.M"), WEFT_OK);
    char *text = weft_config_to_yaml(&c);
    weft_config_defaults(&back);
    ck_assert_int_eq(weft_config_parse(&back, text, strlen(text), "printed"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(&back), WEFT_OK);
    ck_assert_int_eq(memcmp(&back, &c, sizeof c), 0);
    free(text);
}
END_TEST

START_TEST(json_has_every_key) {
    weft_config c;
    weft_config_defaults(&c);
    ck_assert_int_eq(weft_config_override(&c, "data.weights.books=0.1", "command line"), WEFT_OK);
    char *text = weft_config_to_json(&c);
    ck_assert_ptr_nonnull(text);
    json_t *root = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(root);
    for (int i = 0; i < weft_fields_count; i++) {
        char key[128];
        snprintf(key, sizeof key, "%s", weft_fields[i].key);
        char *dot = strchr(key, '.');
        if (dot) *dot = '\0';
        json_t *value = json_object_get(root, key);
        if (dot) value = json_object_get(value, dot + 1);
        if (!value) ck_abort_msg("JSON lacks %s", weft_fields[i].key);
    }
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(root, "model"), "hidden_size")),
                     4096);
    ck_assert_double_eq(json_real_value(json_object_get(json_object_get(root, "optim"), "beta2")), 0.95);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(root, "model"), "mamba_dt_rank")),
                     "auto");
    json_t *mesh = json_object_get(root, "mesh");
    ck_assert_str_eq(json_string_value(json_object_get(mesh, "fsdp")), "auto");
    ck_assert_int_eq(json_integer_value(json_object_get(mesh, "tp")), 1);
    ck_assert_str_eq(json_string_value(json_object_get(mesh, "reshard")), "always");
    json_t *weights = json_object_get(json_object_get(root, "data"), "weights");
    ck_assert_double_eq(json_real_value(json_object_get(weights, "books")), 0.1);
    json_decref(root);
    free(text);
}
END_TEST

START_TEST(reference_has_every_key) {
    char *text = NULL, line[160];
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    weft_config_print_doc(out);
    fclose(out);
    for (int i = 0; i < weft_fields_count; i++) {
        const weft_field *f = &weft_fields[i];
        size_t length = strlen(f->doc);
        snprintf(line, sizeof line, "- `%s`: ", f->key);
        ck_assert_msg(strstr(text, line) && strstr(text, f->doc), "the reference lacks %s", f->key);
        ck_assert_msg(length > 10 && f->doc[length - 1] == '.', "%s has no sentence", f->key);
        for (int k = 0; k < i; k++) ck_assert_str_ne(weft_fields[k].key, f->key);
    }
    free(text);
}
END_TEST

START_TEST(numbers_are_short_and_exact) {
    char text[32];
    weft_real_text(0.1, text);
    ck_assert_str_eq(text, "0.1");
    weft_real_text(10000, text);
    ck_assert_str_eq(text, "10000");
    weft_real_text(1e-6, text);
    ck_assert_str_eq(text, "1.0e-06");
    weft_real_text(0.1 + 0.2, text);
    ck_assert_double_eq(strtod(text, NULL), 0.1 + 0.2);
    weft_real_text(-1.7976931348623157e308, text);
    ck_assert_double_eq(strtod(text, NULL), -1.7976931348623157e308);
}
END_TEST

static int run_all(void) {
    const TTest *const tests[] = {defaults_are_jamba,
                                  a_file_sets_every_type,
                                  includes_come_first,
                                  read_joins_all,
                                  bad_keys,
                                  bad_values,
                                  bad_yaml,
                                  bad_overrides,
                                  rules_between_keys,
                                  yaml_reads_back,
                                  json_has_every_key,
                                  reference_has_every_key,
                                  numbers_are_short_and_exact};
    return suite_run("config", tests, (int)(sizeof tests / sizeof *tests));
}

int main(void) {
    static const char *const files[] = {"bad.yaml",      "good.yaml",       "top.yaml",   "none.yaml",
                                        "a.yaml",        "r.yaml",          "empty.yaml", "printed.yaml",
                                        "sub/base.yaml", "sub/deeper.yaml", "sub/b.yaml"};
    if (!mkdtemp(folder)) return EXIT_FAILURE;
    int code = run_all();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) unlink(path_of(files[i]));
    rmdir(path_of("sub"));
    rmdir(folder);
    return code;
}
