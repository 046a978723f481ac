/* Which kernel computes attention, why, and that the results are right either way. On a GPU: what cuDNN
 * computes, where it is installed. In emulation: the choice too, for there cuDNN is
 * tests/emulation/cudnn.cpp, which can be told to misbehave. */
#include "kernels/cuda/pair.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct shape {
    int64_t B, T, H, G, d, pad; /* pad: columns behind the heads of a row */
    bool documents;
} shape;

/* ---- what is logged: through tee, so that it is also seen, should the program end there ---- */

static char log_path[] = "/tmp/weft-attention-XXXXXX";
static int saved_stderr;
static FILE *tee;

static void log_begin(void) {
    char command[128];
    strcpy(log_path + sizeof log_path - 7, "XXXXXX");
    const int fd = mkstemp(log_path);
    snprintf(command, sizeof command, "exec tee %s >&2", log_path);
    ck_assert(fd >= 0 && (tee = popen(command, "w")) != NULL);
    close(fd);
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    ck_assert(saved_stderr >= 0 && dup2(fileno(tee), STDERR_FILENO) >= 0);
}

static const char *log_end(void) {
    static char text[8192];
    fflush(stderr);
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    pclose(tee);
    FILE *f = fopen(log_path, "r");
    ck_assert(f != NULL);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    unlink(log_path);
    return text;
}

/* ---- one shape, forward and backward, against the CPU ---- */

/* Roundings to bf16 of P, dS and the gradients of single heads, as in test_cudnn_graph.c; and of o, from
 * which the backward pass starts, which the CPU does not round. */
static const double OUTPUT = 1.2e-2, GRADIENT = 5e-2, FLOAT = 1e-5;

static void open_pair(pair *p, weft_dtype act, weft_attention_kernel how) {
    const weft_cuda_options o = {.act = act, .attention = how};
    pair_open(p, act);
    weft_device_close(&p->gpu);
    ck_assert(weft_device_open_cuda(&p->gpu, &o) == WEFT_OK);
}

typedef struct arrays {
    pair_array q, k, v, dout, o, lse, dq, dk, dv, doc;
    int64_t ldq, ldk;
} arrays;

/* On the side of the pair that runs now. */
static void attention(const pair *p, weft_device *d, const shape *s, const arrays *x) {
    weft_attention a = {.B = s->B, .Tq = s->T, .Tk = s->T, .H = s->H, .G = s->G, .d = s->d};
    a.ldq = a.ldo = x->ldq, a.ldk = a.ldv = x->ldk, a.scale = 1 / sqrtf((float)s->d);
    a.q = pair_at(p, x->q), a.k = pair_at(p, x->k), a.v = pair_at(p, x->v), a.doc_start = pair_at(p, x->doc);
    a.o = pair_at(p, x->o), a.lse = pair_at(p, x->lse);
    d->ops->attention_fwd(d, &a);
    a.dout = pair_at(p, x->dout);
    a.dq = pair_at(p, x->dq), a.dk = pair_at(p, x->dk), a.dv = pair_at(p, x->dv);
    d->ops->attention_bwd(d, &a);
}

static void run(pair *p, const shape *s) {
    const int64_t M = s->B * s->T, ldq = s->H * s->d + s->pad, ldk = s->G * s->d + s->pad;
    const pair_fill fill = PAIR_UNIFORM(-2, 2);
    int32_t documents[1024];
    for (int64_t i = 0; i < M; i++) documents[i] = i % s->T < s->T / 3 ? 0 : (int32_t)(s->T / 3);
    arrays x = {.ldq = ldq, .ldk = ldk, .doc = s->documents ? pair_i32(p, documents, M) : -1};
    x.q = pair_act(p, M * ldq, fill), x.k = pair_act(p, M * ldk, fill), x.v = pair_act(p, M * ldk, fill);
    x.dout = pair_act(p, M * ldq, fill), x.o = pair_act_out(p, M * ldq), x.lse = pair_real_out(p, M * s->H);
    x.dq = pair_act_out(p, M * ldq), x.dk = pair_act_out(p, M * ldk), x.dv = pair_act_out(p, M * ldk);
    PAIR_RUN(p, attention(pair_now, d, s, &x));
    const bool wide = p->gpu.act_dtype == WEFT_F32;
    pair_check(p, x.o, "o", wide ? FLOAT : OUTPUT);
    pair_check(p, x.lse, "lse", FLOAT);
    pair_check(p, x.dq, "dq", wide ? FLOAT : GRADIENT);
    pair_check(p, x.dk, "dk", wide ? FLOAT : GRADIENT);
    pair_check(p, x.dv, "dv", wide ? FLOAT : GRADIENT);
}

/* Runs the shape on a device opened so; what was logged must hold all of `lines`; without any, nothing. */
static void expect(const shape *s, weft_dtype act, weft_attention_kernel how, const char *misbehaviour,
                   const char *const lines[2]) {
    pair p;
    if (misbehaviour)
        setenv("WEFT_EMULATED_CUDNN", misbehaviour, 1);
    else
        unsetenv("WEFT_EMULATED_CUDNN");
    open_pair(&p, act, how);
    log_begin();
    run(&p, s);
    const char *text = log_end();
    pair_close(&p);
    unsetenv("WEFT_EMULATED_CUDNN");
    for (int i = 0; i < 2; i++) {
        if (!lines)
            ck_assert_msg(!strstr(text, "attention"), "logged: %s", text);
        else
            ck_assert_msg(strstr(text, lines[i]), "not logged: %s\nbut: %s", lines[i], text);
    }
}

static const shape usual = {1, 128, 4, 2, 16, 8, false};

START_TEST(cudnn_is_right) {
    const shape shapes[] = {{1, 128, 4, 4, 16, 0, false},
                            {2, 256, 8, 2, 32, 8, false},
                            {1, 192, 8, 1, 64, 0, false},
                            {2, 80, 6, 2, 24, 0, false},
                            {1, 130, 2, 2, 128, 8, false}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        expect(&shapes[i], WEFT_BF16, WEFT_ATTENTION_CUDNN, NULL,
               (const char *[]){"attention forward", "attention backward"});
}
END_TEST

START_TEST(cudnn_where_it_serves) {
    expect(&usual, WEFT_BF16, WEFT_ATTENTION_AUTO, NULL,
           (const char *[]){"attention forward, 1 x 128 tokens, 4 heads of 16 over 2: cuDNN emulated\n",
                            "attention backward, 1 x 128 tokens, 4 heads of 16 over 2: cuDNN emulated\n"});
}
END_TEST

/* More workspace than is set aside: the backward pass goes group by group. */
START_TEST(in_parts) {
    const shape s = {2, 128, 8, 2, 16, 0, false};
    expect(&s, WEFT_BF16, WEFT_ATTENTION_AUTO, NULL,
           (const char *[]){
               "attention forward, 2 x 128 tokens, 8 heads of 16 over 2: cuDNN emulated\n",
               "attention backward, 2 x 128 tokens, 8 heads of 16 over 2: cuDNN emulated, in 4 parts\n"});
    const shape sequences = {4, 128, 2, 2, 8, 0, false};
    expect(&sequences, WEFT_BF16, WEFT_ATTENTION_AUTO, NULL,
           (const char *[]){": cuDNN emulated\n", ": cuDNN emulated\n"});
}
END_TEST

START_TEST(weft_where_it_does_not) {
    const shape documents = {1, 128, 2, 1, 16, 0, true}, odd_rows = {1, 128, 2, 1, 16, 4, false};
    const shape odd_length = {1, 72, 2, 1, 16, 0, false}, odd_heads = {1, 128, 2, 1, 20, 0, false};
    expect(&documents, WEFT_BF16, WEFT_ATTENTION_AUTO, NULL, NULL);
    expect(&odd_rows, WEFT_BF16, WEFT_ATTENTION_AUTO, NULL, NULL);
    expect(&odd_length, WEFT_BF16, WEFT_ATTENTION_AUTO, NULL, NULL);
    expect(&odd_heads, WEFT_BF16, WEFT_ATTENTION_AUTO, NULL, NULL);
    expect(&usual, WEFT_F32, WEFT_ATTENTION_AUTO, NULL, NULL);
    expect(&usual, WEFT_BF16, WEFT_ATTENTION_WEFT, NULL, NULL);
}
END_TEST

START_TEST(falls_back_and_says_why) {
    const shape long_one = {1, 384, 1, 1, 8, 0, false};
    const struct {
        const char *misbehaviour, *lines[2];
    } cases[] = {
        {"wrong",
         {"forward, 1 x 128 tokens, 4 heads of 16 over 2: weft's kernel, not cuDNN's: the two disagree",
          "backward, 1 x 128 tokens, 4 heads of 16 over 2: weft's kernel, not cuDNN's: the two disagree"}},
        {"greedy", {"weft's kernel, not cuDNN's: it wants", "bytes of workspace, and"}},
        {"absent", {"weft's kernel, not cuDNN's: there is no cuDNN in this emulation", "backward"}},
        {"refusing", {"weft's kernel, not cuDNN's: this emulation has no engine for it", "backward"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect(&usual, WEFT_BF16, WEFT_ATTENTION_AUTO, cases[i].misbehaviour, cases[i].lines);
    expect(&long_one, WEFT_BF16, WEFT_ATTENTION_AUTO, NULL,
           (const char *[]){
               "forward, 1 x 384 tokens, 1 heads of 8 over 1: cuDNN emulated\n",
               "backward, 1 x 384 tokens, 1 heads of 8 over 1: weft's kernel, not cuDNN's: it may want"});
    expect(&long_one, WEFT_BF16, WEFT_ATTENTION_CUDNN, NULL,
           (const char *[]){"forward, 1 x 384 tokens, 1 heads of 8 over 1: cuDNN emulated\n",
                            "backward, 1 x 384 tokens, 1 heads of 8 over 1: cuDNN emulated\n"});
}
END_TEST

/* Where cuDNN was asked for, it also does what is not worth it otherwise. */
START_TEST(cudnn_when_asked_for) {
    const shape odd = {2, 72, 4, 1, 24, 8, false}, documents = {1, 64, 2, 1, 16, 0, true};
    expect(&odd, WEFT_BF16, WEFT_ATTENTION_CUDNN, NULL,
           (const char *[]){"72 tokens, 4 heads of 24 over 1: cuDNN emulated", "backward"});
    expect(&documents, WEFT_BF16, WEFT_ATTENTION_CUDNN, NULL, NULL);
}
END_TEST

/* This program again, as a child that does one forward pass by cuDNN: its status, and what it says. */
static int child(const char *misbehaviour, char text[4096]) {
    char program[4096];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 64);
    ck_assert(n > 0);
    strcpy(program + n, " asked-for 2>&1");
    setenv("WEFT_EMULATED_CUDNN", misbehaviour, 1);
    FILE *output = popen(program, "r");
    ck_assert(output != NULL);
    text[fread(text, 1, 4095, output)] = 0;
    unsetenv("WEFT_EMULATED_CUDNN");
    return pclose(output);
}

static void expect_failure(const char *misbehaviour, const char *words) {
    char text[4096];
    const int status = child(misbehaviour, text);
    ck_assert_msg(status != 0 && strstr(text, words), "status %d, and not \"%s\": %s", status, words, text);
}

START_TEST(or_an_error) {
    char text[4096];
    expect_failure("absent", "cuDNN was asked for, but: there is no cuDNN in this emulation");
    expect_failure("refusing", "cuDNN was asked for, but: this emulation has no engine for it");
    expect_failure("wrong", "cuDNN was asked for, but: the two disagree on a probe");
    expect_failure("greedy", "cuDNN was asked for, but: it wants");
    ck_assert_int_eq(child("", text), 0);
}
END_TEST

/* That child: a forward pass that cuDNN must do. Status 2 where the device does not even open. */
static int asked_for(void) {
    const weft_cuda_options o = {.act = WEFT_BF16, .attention = WEFT_ATTENTION_CUDNN};
    weft_device d;
    void *x;
    if (weft_device_open_cuda(&d, &o) != WEFT_OK) return 2;
    if (weft_device_size(&d, 1 << 20) != WEFT_OK || d.driver->alloc(&d, 128 * 16 * 2, &x) != WEFT_OK)
        return 3;
    const weft_attention a = {.B = 1,
                              .Tq = 128,
                              .Tk = 128,
                              .H = 1,
                              .G = 1,
                              .d = 16,
                              .ldq = 16,
                              .ldk = 16,
                              .ldv = 16,
                              .ldo = 16,
                              .scale = 1,
                              .q = x,
                              .k = x,
                              .v = x,
                              .o = x};
    d.ops->attention_fwd(&d, &a);
    weft_device_finish(&d);
    d.driver->free(&d, x);
    weft_device_close(&d);
    return 0;
}

/* Is cuDNN there? */
static bool serves(void) {
    const weft_cuda_options o = {.act = WEFT_BF16, .attention = WEFT_ATTENTION_CUDNN};
    weft_device d;
    if (weft_device_open_cuda(&d, &o) != WEFT_OK) return false;
    weft_device_close(&d);
    return true;
}

int main(int argc, char **argv) {
    const TTest *const tests[] = {
        cudnn_is_right,          cudnn_where_it_serves, in_parts,   weft_where_it_does_not,
        falls_back_and_says_why, cudnn_when_asked_for,  or_an_error};
    const bool emulated = strstr(weft_cuda_version(), "emulated") != NULL;
    if (argc > 1 && strcmp(argv[1], "asked-for") == 0) return asked_for();
    if (weft_cuda_devices() == 0 || !serves()) {
        puts("skipped: no CUDA device with cuDNN");
        return 77;
    }
    return suite_run("attention's kernels", tests, emulated ? (int)(sizeof tests / sizeof *tests) : 1);
}
