/* The emulated NCCL (tests/emulation) tells programs that misuse it from right ones, in words that say what
 * is wrong. Each runs on two ranks of its own: this program, started by mpirun with the program's name. */
#include "parallel/world.h"
#include "runtime/device.h"
#include "cuda/stream.h"
#include "support/suite.h"

#include <nccl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct setting {
    weft_device gpu;
    weft_world w;
    ncclComm_t comm;
    cudaStream_t stream;
    char *memory; /* of the GPU */
    char host[64];
} setting;

static void right(setting *s) {
    ncclAllGather(s->memory + 8 * s->w.rank, s->memory, 8, ncclUint8, s->comm, s->stream);
}
static void sizes_differ(setting *s) {
    ncclAllGather(s->memory, s->memory + 64, s->w.rank ? 8 : 16, ncclUint8, s->comm, s->stream);
}
static void functions_differ(setting *s) {
    if (s->w.rank)
        ncclBroadcast(s->memory, s->memory, 16, ncclUint8, 0, s->comm, s->stream);
    else
        ncclAllGather(s->memory, s->memory + 64, 16, ncclUint8, s->comm, s->stream);
}
static void messages_differ(setting *s) {
    if (s->w.rank)
        ncclSend(s->memory, 8, ncclUint8, 0, s->comm, s->stream);
    else
        ncclRecv(s->memory, 16, ncclUint8, 1, s->comm, s->stream);
}
static void memory_of_the_host(setting *s) {
    ncclSend(s->host, 8, ncclUint8, !s->w.rank, s->comm, s->stream);
}
static void received_over_what_is_sent(setting *s) {
    ncclGroupStart();
    ncclSend(s->memory, 16, ncclUint8, !s->w.rank, s->comm, s->stream);
    ncclRecv(s->memory + 15, 16, ncclUint8, !s->w.rank, s->comm, s->stream);
    ncclGroupEnd();
}
static void destroyed_in_use(setting *s) {
    right(s);
    ncclCommDestroy(s->comm);
}

static const struct program {
    const char *name;
    void (*run)(setting *);
    const char *said;
} g_programs[] = {
    {"right", right, "all is well"},
    {"sizes", sizes_differ, "is in ncclAllGather of 8 bytes"},
    {"functions", functions_differ, "in ncclBroadcast of 16 bytes"},
    {"messages", messages_differ, "receives 16 bytes from member 1, which sends 8"},
    {"host", memory_of_the_host, "which is not memory of the device"},
    {"overlap", received_over_what_is_sent, "ncclRecv writes what ncclSend of the same group uses"},
    {"destroyed", destroyed_in_use, "1 operations are still queued"},
};
enum { PROGRAMS = sizeof g_programs / sizeof *g_programs };

/* As a rank of a program's job. */
static int run(const struct program *p, int *argc, char ***argv) {
    setting s = {0};
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    void *memory;
    config.blocking = 1;
    if (weft_world_init(argc, argv, &s.w) != WEFT_OK ||
        weft_device_open_cuda(&s.gpu, &(weft_cuda_options){.local_rank = s.w.local_rank}) != WEFT_OK ||
        s.gpu.driver->alloc(&s.gpu, 1024, &memory) != WEFT_OK)
        return 1;
    s.memory = memory;
    s.stream = weft_cuda_stream(&s.gpu);
    ncclGetUniqueId(&id);
    weft_world_bcast(&id, sizeof id, 0);
    ncclCommInitRankConfig(&s.comm, s.w.size, id, s.w.rank, &config);
    p->run(&s);
    weft_device_finish(&s.gpu);
    weft_world_barrier(); /* all are, or none */
    ncclCommDestroy(s.comm);
    fprintf(stderr, "all is well\n");
    weft_world_finalize();
    return 0;
}

/* What the ranks of a program say. */
static void listen(const struct program *p, char *said, size_t size) {
    char self[512], command[640];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    ck_assert_int_gt(n, 0);
    self[n] = '\0';
    snprintf(command, sizeof command, "mpirun -n 2 '%s' %s 2>&1 </dev/null", self, p->name);
    FILE *f = popen(command, "r");
    ck_assert_ptr_nonnull(f);
    size_t got = fread(said, 1, size - 1, f);
    said[got] = '\0';
    pclose(f);
}

START_TEST(misuse_is_found) {
    static char said[1 << 14];
    int missed = 0;
    for (int i = 0; i < PROGRAMS; i++) {
        const struct program *p = &g_programs[i];
        listen(p, said, sizeof said);
        bool well = strstr(said, "all is well") != NULL;
        if (strstr(said, p->said) && well == (i == 0)) continue;
        missed++;
        printf("%s: \"%s\" was not said, but: %s\n", p->name, p->said, said);
    }
    ck_assert_msg(missed == 0, "%d of %d programs", missed, PROGRAMS);
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {misuse_is_found};
    for (int i = 0; i < PROGRAMS && argc > 1; i++)
        if (strcmp(argv[1], g_programs[i].name) == 0) return run(&g_programs[i], &argc, &argv);
    if (!strstr(weft_cuda_version(), "emulated")) {
        puts("skipped: not the emulation");
        return 77;
    }
    return suite_run("nccl misuse", tests, 1);
}
