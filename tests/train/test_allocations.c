/* A training step allocates nothing: malloc and its kin are counted while steps run, in every thread. */
#include "support/suite.h"
#include "train/trainer.h"

#include <stdatomic.h>
#include <string.h>

static atomic_long g_calls;
static atomic_bool g_counting;

#if defined(__SANITIZE_ADDRESS__)
#define COUNTED 0 /* the sanitizer has a malloc of its own */
#else
#define COUNTED 1
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static void count(void) {
    if (atomic_load(&g_counting)) atomic_fetch_add(&g_calls, 1);
}
void *malloc(size_t n) { return count(), __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return count(), __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return count(), __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { return count(), __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { return count(), __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) {
    count();
    *p = __libc_memalign(a, n);
    return *p ? 0 : 12;
}
#endif

START_TEST(steps_allocate_nothing) {
    if (!COUNTED) return;
    const char *const overrides[] = {"model.hidden_size=64", "model.num_hidden_layers=8", "model.num_attention_heads=4", "model.num_key_value_heads=2",
                                     "model.intermediate_size=128", "model.vocab_size=300", "model.num_experts=4", "train.seq_len=48",
                                     "train.global_batch=8", "train.micro_batch=2", "train.steps=8", "optim.warmup=2", "data.path=random"};
    weft_config *c = malloc(sizeof *c);
    weft_world w = {.size = 1, .local_size = 1};
    weft_trainer t;
    weft_loader *loader = NULL;
    uint64_t samples[8];
    weft_config_defaults(c);
    for (size_t i = 0; i < sizeof overrides / sizeof *overrides; i++) ck_assert_int_eq(weft_config_override(c, overrides[i], "test"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(c), WEFT_OK);
    ck_assert_int_eq(weft_trainer_open(&t, c, &w, false), WEFT_OK);
    weft_loader_options o = {.path = "random", .split = "train", .seed = 1, .seq_len = 48, .max_batch = 8, .cache_bytes = 1 << 20, .vocab_size = 300};
    ck_assert_int_eq(weft_loader_open(&loader, &o), WEFT_OK);
    weft_trainer_init(&t);
    for (int step = 0; step < 6; step++) {
        weft_batch batch;
        weft_step_result result;
        /* The first steps start the threads and the BLAS. */
        if (step == 2) atomic_store(&g_counting, true);
        weft_trainer_batch_samples(&t, t.samples, samples);
        weft_status st = weft_loader_request(loader, samples, 8);
        if (st == WEFT_OK) st = weft_loader_take(loader, &batch, NULL);
        if (st == WEFT_OK) weft_trainer_step(&t, &batch, &result);
        if (step == 5) atomic_store(&g_counting, false);
        ck_assert_int_eq(st, WEFT_OK);
        ck_assert(result.finite);
    }
    ck_assert_int_eq(atomic_load(&g_calls), 0);
    /* The counter does count. */
    atomic_store(&g_counting, true);
    free(strdup("x"));
    atomic_store(&g_counting, false);
    ck_assert_int_ge(atomic_load(&g_calls), 1);
    weft_loader_close(loader);
    weft_trainer_close(&t);
    free(c);
}
END_TEST

int main(int argc, char **argv) {
    weft_world w;
    const TTest *const tests[] = {steps_allocate_nothing};
    if (weft_world_init(&argc, &argv, &w) != WEFT_OK) return 1;
    int code = suite_run("allocations", tests, 1);
    weft_world_finalize();
    return code;
}
