/* A training step allocates nothing, on any mesh: malloc and its kin are counted while steps run, in every
 * thread. Left out are calls of the OpenMP runtime, which makes a record of each one-thread team and frees it
 * again, and those that the MPI library makes for itself. */
#include "support/suite.h"
#include "train/trainer.h"

#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
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

/* Where the libraries lie whose calls do not count. */
static struct { uintptr_t begin, end; } g_others[128];
static int g_others_count;

static int find_others(struct dl_phdr_info *info, size_t size, void *data) {
    static const char *const names[] = {"libgomp", "libomp",   "libmpi", "libopen-", "mca_",   "libevent",
                                        "libpmix", "libhwloc", "libucp", "libucs",   "libuct", "libfabric"};
    (void)size, (void)data;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        if (!strstr(info->dlpi_name, names[k]) || g_others_count == 128) continue;
        uintptr_t begin = UINTPTR_MAX, end = 0;
        for (int i = 0; i < info->dlpi_phnum; i++) {
            if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
            uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr,
                      to = from + info->dlpi_phdr[i].p_memsz;
            if (from < begin) begin = from;
            if (to > end) end = to;
        }
        g_others[g_others_count].begin = begin;
        g_others[g_others_count++].end = end;
        break;
    }
    return 0;
}

static void count(void *caller) {
    if (!atomic_load(&g_counting)) return;
    for (int i = 0; i < g_others_count; i++)
        if ((uintptr_t)caller >= g_others[i].begin && (uintptr_t)caller < g_others[i].end) return;
    atomic_fetch_add(&g_calls, 1);
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

static weft_world g_w;

#if COUNTED
static weft_config *config(const char *mesh) {
    static const char *const overrides[] = {"model.hidden_size=64",
                                            "model.num_hidden_layers=8",
                                            "model.num_attention_heads=4",
                                            "model.vocab_size=300",
                                            "model.num_key_value_heads=2",
                                            "model.intermediate_size=128",
                                            "model.num_experts=4",
                                            "train.seq_len=48",
                                            "train.global_batch=8",
                                            "train.micro_batch=2",
                                            "train.steps=8",
                                            "optim.warmup=2",
                                            "data.path=random"};
    char words[128], *rest = words, *word;
    weft_config *c = malloc(sizeof *c);
    weft_config_defaults(c);
    for (size_t i = 0; i < sizeof overrides / sizeof *overrides; i++)
        ck_assert_int_eq(weft_config_override(c, overrides[i], "test"), WEFT_OK);
    snprintf(words, sizeof words, "%s", mesh);
    while ((word = strtok_r(rest, " ", &rest)))
        ck_assert_int_eq(weft_config_override(c, word, "test"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(c), WEFT_OK);
    return c;
}

/* Calls during steps 3 to 6: the first start the threads, the BLAS and what MPI makes on first use. */
static long calls_on(const char *mesh) {
    weft_config *c = config(mesh);
    weft_trainer t;
    weft_loader *loader = NULL;
    uint64_t samples[8];
    ck_assert_int_eq(weft_trainer_open(&t, c, &g_w, false), WEFT_OK);
    weft_loader_options o = {.path = "random",
                             .split = "train",
                             .seed = 1,
                             .seq_len = 48,
                             .max_batch = 8,
                             .cache_bytes = 1 << 20,
                             .vocab_size = 300};
    ck_assert_int_eq(weft_loader_open(&loader, &o), WEFT_OK);
    ck_assert_int_eq(weft_trainer_init(&t), WEFT_OK);
    atomic_store(&g_calls, 0);
    for (int step = 0; step < 6; step++) {
        weft_batch batch;
        weft_step_result result;
        /* Only the step counts: a Check assertion allocates. */
        atomic_store(&g_counting, step >= 2);
        weft_trainer_batch_samples(&t, t.samples, samples);
        weft_status st = weft_loader_request(loader, samples, weft_trainer_batch_size(&t));
        if (st == WEFT_OK) st = weft_loader_take(loader, &batch, NULL);
        if (st == WEFT_OK) weft_trainer_step(&t, &batch, &result);
        atomic_store(&g_counting, false);
        ck_assert_int_eq(st, WEFT_OK);
        ck_assert(result.finite);
    }
    weft_loader_close(loader);
    weft_trainer_close(&t);
    free(c);
    return atomic_load(&g_calls);
}
#endif

START_TEST(steps_allocate_nothing) {
#if COUNTED
    static const struct {
        int ranks;
        const char *mesh;
    } meshes[] = {{1, ""},
                  {2, "mesh.fsdp=2 mesh.ep=2"},
                  {2, "mesh.tp=2 train.recompute=all"},
                  {2, "mesh.cp=2"},
                  {4, "mesh.tp=2 mesh.cp=2"},
                  {4, "mesh.dp=2 mesh.fsdp=2 mesh.ep=4 mesh.reshard=never"}};
    for (size_t i = 0; i < sizeof meshes / sizeof *meshes; i++) {
        if (meshes[i].ranks != g_w.size) continue;
        long calls = calls_on(meshes[i].mesh);
        ck_assert_msg(calls == 0, "'%s': %ld calls", meshes[i].mesh, calls);
    }
    /* The counter does count. */
    atomic_store(&g_calls, 0);
    atomic_store(&g_counting, true);
    free(calloc(1, (size_t)g_w.size + 1));
    atomic_store(&g_counting, false);
    ck_assert_int_ge(atomic_load(&g_calls), 1);
#endif
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {steps_allocate_nothing};
    if (weft_world_init(&argc, &argv, &g_w) != WEFT_OK) return 1;
#if COUNTED
    dl_iterate_phdr(find_others, NULL);
#endif
    int code = weft_world_exit_code(suite_run("allocations", tests, 1));
    weft_world_finalize();
    return code;
}
