/* A training step allocates nothing: malloc and its kin are counted while steps run, in every thread. Left
 * out are calls of the OpenMP runtime, which makes a record of each one-thread team and frees it again. */
#include "support/suite.h"
#include "train/trainer.h"

#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define COUNTED 0 /* the sanitizer has a malloc of its own: nothing can be counted */
#else
#define COUNTED 1
static atomic_long g_calls;
static atomic_bool g_counting;
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static uintptr_t g_omp_begin, g_omp_end;

static int find_openmp(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size, (void)data;
    if (!strstr(info->dlpi_name, "libgomp") && !strstr(info->dlpi_name, "libomp")) return 0;
    g_omp_begin = UINTPTR_MAX;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
        uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr,
                  end = begin + info->dlpi_phdr[i].p_memsz;
        if (begin < g_omp_begin) g_omp_begin = begin;
        if (end > g_omp_end) g_omp_end = end;
    }
    return 1;
}

static void count(void *caller) {
    bool openmp = (uintptr_t)caller >= g_omp_begin && (uintptr_t)caller < g_omp_end;
    if (atomic_load(&g_counting) && !openmp) atomic_fetch_add(&g_calls, 1);
}
#define COUNT count(__builtin_return_address(0))
void *malloc(size_t n) {
    return COUNT, __libc_malloc(n);
}
void *calloc(size_t n, size_t m) {
    return COUNT, __libc_calloc(n, m);
}
void *realloc(void *p, size_t n) {
    return COUNT, __libc_realloc(p, n);
}
void *memalign(size_t a, size_t n) {
    return COUNT, __libc_memalign(a, n);
}
void *aligned_alloc(size_t a, size_t n) {
    return COUNT, __libc_memalign(a, n);
}
int posix_memalign(void **p, size_t a, size_t n) {
    COUNT;
    *p = __libc_memalign(a, n);
    return *p ? 0 : 12;
}
#endif

START_TEST(steps_allocate_nothing) {
#if COUNTED
    const char *const overrides[] = {"model.hidden_size=64",
                                     "model.num_hidden_layers=8",
                                     "model.num_attention_heads=4",
                                     "model.num_key_value_heads=2",
                                     "model.intermediate_size=128",
                                     "model.vocab_size=300",
                                     "model.num_experts=4",
                                     "train.seq_len=48",
                                     "train.global_batch=8",
                                     "train.micro_batch=2",
                                     "train.steps=8",
                                     "optim.warmup=2",
                                     "data.path=random"};
    weft_config *c = malloc(sizeof *c);
    weft_world w = {.size = 1, .local_size = 1};
    weft_trainer t;
    weft_loader *loader = NULL;
    uint64_t samples[8];
    ck_assert_int_eq(dl_iterate_phdr(find_openmp, NULL), 1);
    weft_config_defaults(c);
    for (size_t i = 0; i < sizeof overrides / sizeof *overrides; i++)
        ck_assert_int_eq(weft_config_override(c, overrides[i], "test"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(c), WEFT_OK);
    ck_assert_int_eq(weft_trainer_open(&t, c, &w, false), WEFT_OK);
    weft_loader_options o = {.path = "random",
                             .split = "train",
                             .seed = 1,
                             .seq_len = 48,
                             .max_batch = 8,
                             .cache_bytes = 1 << 20,
                             .vocab_size = 300};
    ck_assert_int_eq(weft_loader_open(&loader, &o), WEFT_OK);
    weft_trainer_init(&t);
    for (int step = 0; step < 6; step++) {
        weft_batch batch;
        weft_step_result result;
        /* The first steps start the threads and the BLAS. Only the step counts: a Check assertion allocates.
         */
        atomic_store(&g_counting, step >= 2);
        weft_trainer_batch_samples(&t, t.samples, samples);
        weft_status st = weft_loader_request(loader, samples, 8);
        if (st == WEFT_OK) st = weft_loader_take(loader, &batch, NULL);
        if (st == WEFT_OK) weft_trainer_step(&t, &batch, &result);
        atomic_store(&g_counting, false);
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
#endif
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
