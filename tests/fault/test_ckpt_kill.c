/* A writer that is killed at any instant: what it has reported as saved stays, and what is found is whole.
 *
 * This program starts itself as the writer, which saves step after step and reports each on a pipe; it is
 * killed with SIGKILL after a random while, often in the middle of a save, and started again on the same run
 * directory. */
#include "runtime/log.h"
#include "support/suite.h"
#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KILLS = 30, ROWS = 64, COLUMNS = 4096 }; /* 1 MiB a tensor, three of them */
static const char *const g_names[] = {"param/w", "adam_m/w", "adam_v/w"};
static weft_world g_w;
/* As it was before MPI changed it, since the writers are jobs of their own; one more variable is added. */
static char **g_environment;
static int g_variables;

static void tensors_of(int64_t step, weft_fragment f[3], float *data) {
    for (int t = 0; t < 3; t++) {
        f[t] = (weft_fragment){.name = g_names[t],
                               .dtype = WEFT_F32,
                               .ndim = 2,
                               .shape = {ROWS, COLUMNS},
                               .extent = {ROWS, COLUMNS},
                               .data = data + (size_t)t * ROWS * COLUMNS};
        for (int i = 0; i < ROWS * COLUMNS; i++)
            data[t * ROWS * COLUMNS + i] = (float)(step * 7 + t * 3 + i % 1000);
    }
}

/* ---- the writer ---- */

static int write_forever(const char *run, int64_t step) {
    static float data[3 * ROWS * COLUMNS];
    static char config[] = "killed: true\n";
    weft_fragment f[3];
    weft_ckpt_options o = {.keep = 2, .keep_every = 0};
    weft_log_set_level(WEFT_LOG_ERROR);
    for (;; step++) {
        weft_ckpt_state state = {.step = step, .samples = (uint64_t)step, .config_yaml = config};
        tensors_of(step, f, data);
        /* Every third step is saved twice: a checkpoint that is replaced must not be lost either. */
        for (int again = 0; again <= (step % 3 == 0); again++) {
            if (weft_ckpt_save(&g_w, run, &state, f, 3, &o) != WEFT_OK) return 1;
            if (write(3, &step, sizeof step) != sizeof step) return 1;
        }
    }
}

/* ---- the judge ---- */

static pid_t start_writer(const char *run, int64_t first, int *reports) {
    int ends[2];
    char step[32];
    snprintf(step, sizeof step, "%lld", (long long)first);
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        char *argv[] = {"writer", "--writer", (char *)run, step, NULL};
        dup2(ends[1], 3);
        if (ends[0] != 3) close(ends[0]);
        if (ends[1] != 3) close(ends[1]);
        execve("/proc/self/exe", argv, g_environment);
        _exit(127);
    }
    close(ends[1]);
    *reports = ends[0];
    return pid;
}

static bool read_report(int fd, int64_t *step) {
    ssize_t n;
    do n = read(fd, step, sizeof *step);
    while (n < 0 && errno == EINTR);
    return n == sizeof *step;
}

static void wait_ms(double ms) {
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms * 1e6) % 1000000000};
    nanosleep(&t, NULL);
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int leftovers(const char *run) {
    char path[512];
    struct dirent *e;
    int n = 0;
    snprintf(path, sizeof path, "%s/checkpoints", run);
    DIR *d = opendir(path);
    while (d && (e = readdir(d))) n += strstr(e->d_name, ".tmp.") || strstr(e->d_name, ".trash.");
    if (d) closedir(d);
    return n;
}

/* The step of the newest checkpoint, whose every element is checked. */
static int64_t check_newest(const char *run) {
    static float want[3 * ROWS * COLUMNS], got[3 * ROWS * COLUMNS];
    char path[512];
    bool found = false;
    weft_ckpt_state s;
    weft_fragment f[3], g[3];
    ck_assert_int_eq(weft_ckpt_find(&g_w, run, &found, path, sizeof path), WEFT_OK);
    ck_assert(found);
    ck_assert_int_eq(weft_ckpt_read_state(&g_w, path, &s), WEFT_OK);
    weft_ckpt_state_free(&s);
    tensors_of(s.step, f, want);
    tensors_of(-1, g, got);
    ck_assert_int_eq(weft_ckpt_load(&g_w, path, g, 3), WEFT_OK);
    ck_assert_mem_eq(want, got, sizeof want);
    return s.step;
}

/* What MPI keeps of a killed job's session lies in the folder too, and its daemon may take a moment to end.
 */
static void remove_folder(const char *folder) {
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s' 2>/dev/null", folder);
    for (int attempt = 0; attempt < 50 && system(command) != 0; attempt++) wait_ms(100);
    ck_assert_int_ne(access(folder, F_OK), 0);
}

START_TEST(a_killed_writer_loses_nothing) {
    char folder[256], run[300], sessions[320];
    int64_t acknowledged = 0;
    int in_a_save = 0;
    double save_ms = 0;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/weft-kill.XXXXXX", base ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(run, sizeof run, "%s/run", folder);
    snprintf(sessions, sizeof sessions, "OMPI_MCA_orte_tmpdir_base=%s", folder);
    g_environment[g_variables] = sessions;
    for (int kill_number = 0; kill_number < KILLS; kill_number++) {
        int fd;
        int64_t step;
        pid_t pid = start_writer(run, acknowledged + 1, &fd);
        /* The first report says that the writer is under way; the time to the second is that of a save. */
        for (int i = 0; i < 2; i++) {
            double start = now_ms();
            ck_assert_msg(read_report(fd, &step), "the writer ended by itself");
            acknowledged = step;
            if (i == 1) save_ms = now_ms() - start;
        }
        uint64_t random = weft_hash64(&kill_number, sizeof kill_number, (uint64_t)pid);
        wait_ms(save_ms * 1.5 * (double)(random >> 11) * 0x1p-53);
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        while (read_report(fd, &step)) acknowledged = step;
        close(fd);
        in_a_save += leftovers(run) > 0;
        int64_t newest = check_newest(run);
        ck_assert_msg(newest >= acknowledged, "found step %lld, but %lld was acknowledged", (long long)newest,
                      (long long)acknowledged);
        ck_assert_int_le(newest, acknowledged + 1);
        acknowledged = newest;
    }
    /* The kills did hit saves under way, or nothing was tested. */
    printf("%d of %d kills left a temporary or trash behind\n", in_a_save, KILLS);
    ck_assert_int_gt(in_a_save, KILLS / 6);
    remove_folder(folder);
}
END_TEST

int main(int argc, char **argv) {
    extern char **environ;
    const TTest *const tests[] = {a_killed_writer_loses_nothing};
    while (environ[g_variables]) g_variables++;
    g_environment = calloc((size_t)g_variables + 2, sizeof *g_environment); /* one more, and the end */
    for (int i = 0; i < g_variables; i++) g_environment[i] = strdup(environ[i]);
    if (weft_world_init(&argc, &argv, &g_w) != WEFT_OK) return 1;
    if (argc == 4 && strcmp(argv[1], "--writer") == 0)
        return write_forever(argv[2], strtoll(argv[3], NULL, 10));
    weft_log_set_level(WEFT_LOG_ERROR);
    int code = suite_run("ckpt killed", tests, 1);
    weft_world_finalize();
    return code;
}
