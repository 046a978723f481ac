/* Which meshes a model accepts, and what the refusals advise. */
#include "model/layout.h"
#include "support/capture.h"
#include "support/suite.h"

#include <string.h>

/* 4 layers, D 48, E 96, 12 query heads, 4 key/value heads, F 40, 6 experts, V 64, and overrides (by spaces).
 */
static weft_config model_of(const char *overrides) {
    static const char small[] =
        "model.vocab_size=64 model.hidden_size=48 model.intermediate_size=40 "
        "model.num_hidden_layers=4 model.num_attention_heads=12 model.num_key_value_heads=4 "
        "model.mixer_pattern=MAMA model.ffn_pattern=DEDE model.num_experts=6 ";
    weft_config c;
    char text[1024], *rest = text;
    weft_config_defaults(&c);
    snprintf(text, sizeof text, "%s%s", small, overrides);
    for (char *word; (word = strsep(&rest, " "));)
        if (word[0]) ck_assert_int_eq(weft_config_override(&c, word, "command line"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(&c), WEFT_OK);
    return c;
}

static weft_mesh mesh_of(int cp, int tp, int ep) {
    weft_mesh m;
    weft_mesh_sizes want = {.size = {1, ep, cp, tp, ep}}; /* fsdp = ep: always legal */
    ck_assert_int_eq(weft_mesh_make(&m, &want, ep * cp * tp, 0), WEFT_OK);
    return m;
}

static weft_status try_layout(const char *overrides, int64_t B, int64_t T, int cp, int tp, int ep) {
    weft_config c = model_of(overrides);
    weft_mesh mesh = mesh_of(cp, tp, ep);
    capture();
    weft_status st = weft_layout_check(&c.model, B, T, &mesh);
    release();
    return st;
}

static void accept(const char *overrides, int64_t B, int64_t T, int cp, int tp, int ep) {
    weft_status st = try_layout(overrides, B, T, cp, tp, ep);
    if (st != WEFT_OK) ck_abort_msg("cp=%d tp=%d ep=%d %s: %.2000s", cp, tp, ep, overrides, message);
    ck_assert_str_eq(message, "");
}

static void refuse(const char *overrides, int64_t B, int64_t T, int cp, int tp, int ep,
                   const char *expected) {
    weft_status st = try_layout(overrides, B, T, cp, tp, ep);
    if (!strstr(message, expected)) ck_abort_msg("expected '%s', got: %.2000s", expected, message);
    ck_assert_int_eq(st, WEFT_EINPUT);
    ck_assert_int_eq(lines(message), 1);
}

#define NO_ATTENTION "model.mixer_pattern=MMMM"
#define ONLY_ATTENTION "model.mixer_pattern=AAAA"

START_TEST(tensor_parallelism) {
    accept("", 1, 7, 1, 1, 1);
    accept("", 1, 48, 1, 2, 1);
    accept("", 1, 48, 1, 4, 1);
    accept("", 1, 48, 1, 12, 1); /* three ranks a key/value head */
    refuse("", 1, 40, 1, 5, 1,
           "model.num_attention_heads 12 is not a multiple of mesh.tp 5; mesh.tp could be 4 or 12\n");
    refuse("", 1, 48, 1, 3, 1,
           "of model.num_key_value_heads 4 and mesh.tp 3 neither is a multiple of the other; mesh.tp could "
           "be 2 or 4\n");
    refuse("", 1, 48, 1, 24, 1, "is not a multiple of mesh.tp 24; mesh.tp could be 12\n");
    accept(NO_ATTENTION, 1, 40, 1, 5, 1);
    accept(NO_ATTENTION, 1, 40, 1, 40, 1);
    refuse(NO_ATTENTION, 1, 41, 1, 41, 1,
           "mesh.tp 41 is more than model.intermediate_size 40, which it cuts; mesh.tp could be 40\n");
    accept(NO_ATTENTION " model.ffn_pattern=....", 1, 64, 1, 64, 1);
    refuse(NO_ATTENTION " model.ffn_pattern=....", 1, 65, 1, 65, 1,
           "mesh.tp 65 is more than model.vocab_size 64, which it cuts; mesh.tp could be 64\n");
    refuse("model.hidden_size=12 model.mamba_expand=1 model.ffn_pattern=.... " NO_ATTENTION, 1, 13, 1, 13, 1,
           "mesh.tp 13 is more than the inner width of Mamba 12, which it cuts; mesh.tp could be 12\n");
    /* Where no layer has the part, its width does not count. */
    accept("model.hidden_size=12 model.num_attention_heads=24 model.num_key_value_heads=1 model.head_dim=2 "
           "model.mamba_expand=1 model.ffn_pattern=.... " ONLY_ATTENTION,
           1, 24, 1, 24, 1);
}
END_TEST

START_TEST(expert_parallelism) {
    accept("", 1, 8, 1, 1, 4); /* 6 experts over 4 ranks: 2, 2, 1, 1 */
    accept("", 1, 8, 1, 1, 6);
    refuse("", 1, 8, 1, 1, 7, "mesh.ep 7 is more than model.num_experts 6; mesh.ep can be at most that\n");
    refuse("model.ffn_pattern=DDDD", 1, 8, 1, 1, 2,
           "mesh.ep is 2, but the model has no layer with experts; leave it at 1\n");
    accept("model.ffn_pattern=DDDD", 1, 8, 1, 1, 1);
}
END_TEST

START_TEST(context_parallelism) {
    accept("", 1, 24, 4, 1, 1); /* chunks of 3 = mamba_d_conv - 1 */
    refuse("", 1, 16, 4, 1, 1,
           "train.seq_len 16 over 2 * mesh.cp, which is 8, makes chunks of 2 tokens, but Mamba's convolution "
           "looks back "
           "3 (model.mamba_d_conv - 1); train.seq_len could be 24, or mesh.cp 2\n");
    accept("", 1, 16, 2, 1, 1);
    accept(ONLY_ATTENTION, 1, 16, 4, 1, 1);
    accept(ONLY_ATTENTION, 1, 8, 4, 1, 1);
    refuse(ONLY_ATTENTION, 1, 4, 4, 1, 1, "train.seq_len could be 8, or mesh.cp 2\n");
    accept("model.mamba_d_conv=3", 1, 16, 4, 1, 1);
    accept("model.mamba_d_conv=1", 1, 8, 4, 1, 1);
    refuse("", 1, 36, 4, 1, 1,
           "train.seq_len 36 is not a multiple of 2 * mesh.cp, which is 8; train.seq_len could be 40, or "
           "mesh.cp 3\n");
    refuse("", 1, 4, 3, 1, 1, "train.seq_len could be 18, or mesh.cp 1\n");
    refuse("", 1, 7, 2, 1, 1, "train.seq_len could be 12, or mesh.cp 1\n");
}
END_TEST

START_TEST(rows_of_the_residual_stream) {
    accept("", 4, 7, 1, 4, 1);
    refuse(
        "", 2, 7, 1, 4, 1,
        "train.micro_batch 2 times train.seq_len 7 over mesh.cp 1 is 14 tokens, not a multiple of mesh.tp 4; "
        "train.micro_batch could be 4\n");
    accept("", 1, 36, 3, 4, 1);
    refuse("", 1, 20, 2, 4, 1, "is 10 tokens, not a multiple of mesh.tp 4; train.micro_batch could be 2\n");
    accept("", 2, 20, 2, 4, 1);
}
END_TEST

START_TEST(key_value_heads_are_shared) {
    static const int expected[][2] = {{1, 1}, {2, 1}, {4, 1}, {12, 3}};
    weft_config c = model_of("");
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        weft_mesh mesh = mesh_of(1, expected[i][0], 1);
        ck_assert_int_eq(weft_layout_kv_ranks(&c.model, &mesh), expected[i][1]);
    }
    c = model_of(NO_ATTENTION);
    weft_mesh mesh = mesh_of(1, 12, 1);
    ck_assert_int_eq(weft_layout_kv_ranks(&c.model, &mesh), 1);
}
END_TEST

SUITE_MAIN("layout", tensor_parallelism, expert_parallelism, context_parallelism, rows_of_the_residual_stream,
           key_value_heads_are_shared)
