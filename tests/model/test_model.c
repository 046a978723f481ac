/* The model as a whole: recomputation, packing, decoding, parameter counts. */
#include "support/suite.h"
#include "toy.h"

#include <math.h>
#include <string.h>

#define OPEN(t, B, T, packed, ...)                                                                           \
    do {                                                                                                     \
        const char *const overrides[] = {__VA_ARGS__};                                                       \
        toy_open(t, overrides, (int)(sizeof overrides / sizeof *overrides), B, T, packed);                   \
    } while (0)

START_TEST(recompute_changes_no_bit) {
    static const char *const ways[] = {"train.recompute=none", "train.recompute=mixer", "train.recompute=ffn",
                                       "train.recompute=all"};
    toy plain;
    OPEN(&plain, 2, 33, true, ways[0], "model.router_aux_loss_coef=0.1");
    double loss = toy_loss(&plain);
    size_t plain_peak = plain.device.act.peak;
    for (int i = 1; i < 4; i++) {
        toy t;
        OPEN(&t, 2, 33, true, ways[i], "model.router_aux_loss_coef=0.1");
        ck_assert_double_eq(toy_loss(&t), loss);
        ck_assert_mem_eq(t.grads, plain.grads, (size_t)t.model.table.flat * sizeof(weft_real));
        ck_assert_uint_lt(t.device.act.peak, plain_peak);
        toy_close(&t);
    }
    toy_close(&plain);
}
END_TEST

START_TEST(threads_change_no_bit) {
    toy t;
    OPEN(&t, 2, 65, true, "train.recompute=none");
    t.device.threads = 1;
    double loss = toy_loss(&t);
    size_t bytes = (size_t)t.model.table.flat * sizeof(weft_real);
    weft_real *grads = malloc(bytes);
    memcpy(grads, t.grads, bytes);
    for (int threads = 2; threads <= 3; threads++) {
        toy u;
        OPEN(&u, 2, 65, true, "train.recompute=none");
        u.device.threads = threads;
        /* Workspace may grow with threads: size again. */
        weft_loss l;
        ck_assert_int_eq(weft_device_measure(&u.device), WEFT_OK);
        weft_model_train(&u.model, &u.device, weft_model_whole(&u.model, u.params, u.grads), &u.mb,
                         &u.objective, &l);
        ck_assert_int_eq(weft_device_size(&u.device, u.device.act.peak), WEFT_OK);
        ck_assert_double_eq(toy_loss(&u), loss);
        ck_assert_mem_eq(u.grads, grads, bytes);
        toy_close(&u);
    }
    free(grads);
    toy_close(&t);
}
END_TEST

START_TEST(the_plan_is_the_peak) {
    toy t;
    OPEN(&t, 2, 19, false, "train.recompute=mixer");
    toy_loss(&t);
    ck_assert_uint_eq(t.device.act.peak, t.device.act.capacity);
    ck_assert_uint_eq(t.device.act.top, 0);
    toy_close(&t);
}
END_TEST

/* Losses of a packed sequence are those of its documents one by one. */
START_TEST(packed_documents_do_not_leak) {
    toy t;
    OPEN(&t, 1, 50, true, "train.loss_chunk=16");
    weft_real packed[50], alone[50];
    int documents = 0;
    weft_model_losses(&t.model, &t.device, t.params, &t.mb, 16, packed);
    for (int64_t begin = 0; begin < 50;) {
        int64_t end = begin + 1;
        while (end < 50 && t.doc_start[end] == begin) end++;
        weft_microbatch one = {
            .B = 1, .T = end - begin, .tokens = t.tokens + begin, .targets = t.targets + begin};
        weft_model_losses(&t.model, &t.device, t.params, &one, 16, alone + begin);
        begin = end;
        documents++;
    }
    ck_assert_int_gt(documents, 3);
    for (int i = 0; i < 50; i++)
        ck_assert_msg(fabs(packed[i] - alone[i]) < 2e-5, "token %d: %g packed, %g alone", i, packed[i],
                      alone[i]);
    toy_close(&t);
}
END_TEST

/* Prompt of 7 tokens, then one by one, equals the full forward pass. */
static void check_decoding(const char *positions) {
    enum { T = 45, PROMPT = 7 };
    toy t;
    OPEN(&t, 1, T, false, positions);
    int64_t V = t.config.model.vocab_size;
    weft_real full[T], *logits = malloc((size_t)V * sizeof *logits);
    weft_block_cache caches[16];
    weft_arena arena = {0};
    weft_model_losses(&t.model, &t.device, t.params, &t.mb, 8, full);
    ck_assert_int_eq(weft_arena_init(&arena, "cache", 1 << 20), WEFT_OK);
    weft_model_make_caches(&t.model, &arena, T, t.device.act_dtype, caches);
    for (int done = 0; done < T;) {
        int n = done ? 1 : PROMPT;
        weft_model_decode(&t.model, &t.device, t.params, caches, t.tokens + done, n, done, logits);
        done += n;
        double max = logits[0], sum = 0;
        for (int64_t v = 1; v < V; v++) max = logits[v] > max ? logits[v] : max;
        for (int64_t v = 0; v < V; v++) sum += exp(logits[v] - max);
        double loss = max + log(sum) - logits[t.targets[done - 1]];
        ck_assert_msg(fabs(loss - full[done - 1]) < 2e-5, "token %d: %g decoding, %g at once", done - 1, loss,
                      full[done - 1]);
    }
    free(logits);
    weft_arena_destroy(&arena);
    toy_close(&t);
}
START_TEST(decoding_is_the_forward_pass) {
    check_decoding("model.positions=none");
    check_decoding("model.positions=rope");
}
END_TEST

START_TEST(initial_weights_depend_on_names_only) {
    /* The same tensors in a model with other layers around them. */
    toy a, b;
    OPEN(&a, 1, 4, false, "model.num_experts=4");
    OPEN(&b, 1, 4, false, "model.ffn_pattern=DDEE");
    weft_params_init(&a.model.table, a.params, 99);
    weft_params_init(&b.model.table, b.params, 99);
    int shared = 0;
    for (int64_t i = 0; i < a.model.table.count; i++) {
        const weft_param *ra = &a.model.table.rows[i], *rb = weft_params_find(&b.model.table, ra->name);
        if (!rb) continue;
        ck_assert_mem_eq(a.params + ra->at, b.params + rb->at, (size_t)ra->numel * sizeof(weft_real));
        shared++;
    }
    ck_assert_int_gt(shared, 30);
    toy_close(&a);
    toy_close(&b);
}
END_TEST

START_TEST(jamba_has_its_published_size) {
    weft_config *c = malloc(sizeof *c);
    weft_config_defaults(c);
    const char *const keys[] = {
        "model.hidden_size=4096",      "model.num_hidden_layers=32",    "model.num_attention_heads=32",
        "model.num_key_value_heads=8", "model.intermediate_size=14336", "model.vocab_size=65536",
        "model.num_experts=16",        "model.num_experts_per_tok=2",   "model.attn_layer_period=8",
        "model.attn_layer_offset=4",   "model.expert_layer_period=2",   "model.expert_layer_offset=1"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ck_assert_int_eq(weft_config_override(c, keys[i], "test"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(c), WEFT_OK);
    weft_model m;
    ck_assert_int_eq(weft_model_build(&m, &c->model, WEFT_RECOMPUTE_NONE, "", 0, WEFT_REAL_DTYPE, NULL),
                     WEFT_OK);
    ck_assert_int_eq(weft_params_total(&m.table), 51570323328);
    ck_assert_int_eq(weft_model_active_params(&m), 12110311296);
    ck_assert_int_eq(weft_model_kv_bytes(&m, 262144, 16), (int64_t)4 << 30);
    weft_model_free(&m);
    free(c);
}
END_TEST

SUITE_MAIN("model", recompute_changes_no_bit, threads_change_no_bit, the_plan_is_the_peak,
           packed_documents_do_not_leak, decoding_is_the_forward_pass, initial_weights_depend_on_names_only,
           jamba_has_its_published_size)
