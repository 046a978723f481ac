#include "parallel/ledger_file.h"
#include "parallel/ledger_read.h"
#include "runtime/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const double LOOK_EVERY = 0.1; /* seconds */
static const double SETTLE = 1;       /* before a verdict about a wait: the others' files come to rest */
static const double REPORT_TIME = 4;  /* that another rank is given for its report */
/* A look after a longer pause counts as this: a process that was stopped has not waited. */
static const double LONGEST_LOOK = 1;

struct weft_watchdog {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
    weft_ledger *ledger;
    char dir[WEFT_PATH_SIZE];
    double limit;
    /* The next rank on this host: */
    int neighbour; /* -1: none */
    int neighbour_fd;
    const ledger_file *neighbour_file;
};

static double clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void pause_for(double seconds) {
    struct timespec t = {.tv_sec = (time_t)seconds, .tv_nsec = (long)(fmod(seconds, 1) * 1e9)};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}

/* ---- the report ---- */

/* Past the log, whose lock the main thread may hold; each in one write, so that lines of other ranks do not
 * mix in. When it fails nothing is left to tell it to. */
static void put(int fd, const char *text) {
    ssize_t written = write(fd, text, strlen(text));
    (void)written;
}

static void print_error(const weft_watchdog *w, const char *verdict) {
    char line[3 * WEFT_PATH_SIZE], who[32] = "";
    const weft_mesh *m = ledger_mesh(w->ledger);
    if (m->ranks > 1) snprintf(who, sizeof who, "[rank %d] ", m->rank);
    snprintf(line, sizeof line, "weft: %serror: %s (more: weft ledger %s)\n", who, verdict, w->dir);
    put(STDERR_FILENO, line);
}

/* `cause` is what this rank knows by itself; the files of all ranks say more. */
static void report(const weft_watchdog *w, int fd, const char *cause) {
    char verdict[WEFT_PATH_SIZE - 1], line[WEFT_PATH_SIZE], problem[1024];
    weft_ledger_job *job;
    bool parted;
    if (weft_ledger_job_open(&job, w->dir, problem, sizeof problem) == WEFT_OK) {
        weft_ledger_job_examine(job, 0, verdict, sizeof verdict, &parted);
        size_t n = strlen(verdict);
        if (!parted) snprintf(verdict + n, sizeof verdict - n, "; %s", cause);
        weft_ledger_job_close(job);
    } else
        snprintf(verdict, sizeof verdict, "%s; more is unknown: %s", cause, problem);
    snprintf(line, sizeof line, "%s\n", verdict);
    if (fd >= 0) put(fd, line);
    print_error(w, verdict);
}

/* Gives the rank that reports the time to do so. */
static void wait_for_report(const char *path) {
    struct stat s;
    for (double end = clock_now() + REPORT_TIME; clock_now() < end; pause_for(LOOK_EVERY / 2))
        if (stat(path, &s) == 0 && s.st_size > 0) break;
    pause_for(LOOK_EVERY);
}

/* One rank of the job reports, then all end. */
static void end_job(const weft_watchdog *w, const char *cause, double settle) {
    char path[WEFT_PATH_SIZE];
    int fd = -1;
    if (weft_fs_path(path, "%s/" LEDGER_VERDICT, w->dir) == WEFT_OK)
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST)
        wait_for_report(path);
    else { /* without a file two ranks may report: better than none */
        pause_for(settle);
        report(w, fd, cause);
    }
    _exit(1);
}

/* ---- the looks ---- */

static bool neighbour_died(const weft_watchdog *w) {
    return w->neighbour >= 0 && ledger_lock_is_free(w->neighbour_fd) &&
           !__atomic_load_n(&w->neighbour_file->header.finished, __ATOMIC_ACQUIRE);
}

static void look(const weft_watchdog *w, uint64_t *record, double *waited, double elapsed) {
    char cause[128];
    ledger_show_life(w->ledger);
    if (neighbour_died(w)) {
        snprintf(cause, sizeof cause, "rank %d died (process %lld)", w->neighbour,
                 (long long)w->neighbour_file->header.identity.pid);
        end_job(w, cause, 0);
    }
    uint64_t now_in = ledger_waits_in(w->ledger);
    *waited = now_in && now_in == *record ? *waited + fmin(elapsed, LONGEST_LOOK) : 0;
    *record = now_in;
    if (w->limit > 0 && *waited > w->limit) {
        snprintf(cause, sizeof cause,
                 "rank %d has waited in one collective for more than mesh.timeout=%g seconds",
                 ledger_mesh(w->ledger)->rank, w->limit);
        end_job(w, cause, SETTLE);
    }
}

static void next_look(struct timespec *t) {
    clock_gettime(CLOCK_MONOTONIC, t);
    t->tv_nsec += (long)(LOOK_EVERY * 1e9);
    if (t->tv_nsec >= 1000000000) {
        t->tv_sec++;
        t->tv_nsec -= 1000000000;
    }
}

static void *watch(void *arg) {
    weft_watchdog *w = arg;
    uint64_t record = 0;
    double waited = 0, last = clock_now();
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        struct timespec until;
        double now = clock_now();
        look(w, &record, &waited, now - last);
        last = now;
        next_look(&until);
        pthread_cond_timedwait(&w->wake, &w->lock, &until);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- start and stop ---- */

static bool open_neighbour(weft_watchdog *w, int rank, const char *host) {
    char path[WEFT_PATH_SIZE];
    struct stat s;
    if (weft_fs_path(path, "%s/" LEDGER_NAME, w->dir, rank) != WEFT_OK) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    void *map = MAP_FAILED;
    if (fstat(fd, &s) == 0 && s.st_size == (off_t)sizeof(ledger_file))
        map = mmap(NULL, sizeof(ledger_file), PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) {
        const ledger_file *f = map;
        if (strncmp(f->header.identity.host, host, LEDGER_HOST) == 0) {
            w->neighbour = rank;
            w->neighbour_fd = fd;
            w->neighbour_file = f;
            return true;
        }
        munmap(map, sizeof(ledger_file));
    }
    close(fd);
    return false;
}

/* Locks do not reach other hosts reliably, and a run directory need not either. */
static void find_neighbour(weft_watchdog *w) {
    char host[LEDGER_HOST];
    const weft_mesh *m = ledger_mesh(w->ledger);
    ledger_host_name(host);
    for (int i = 1; i < m->ranks; i++)
        if (open_neighbour(w, (m->rank + i) % m->ranks, host)) return;
}

static void release(weft_watchdog *w) {
    if (w->neighbour >= 0) {
        munmap((void *)w->neighbour_file, sizeof *w->neighbour_file);
        close(w->neighbour_fd);
    }
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

/* Signals are the main thread's. */
static int start_thread(weft_watchdog *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&w->thread, NULL, watch, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

weft_status weft_watchdog_start(weft_watchdog **out, weft_ledger *l, const char *dir, double limit_seconds) {
    pthread_condattr_t attributes;
    weft_watchdog *w = calloc(1, sizeof *w);
    if (!w) WEFT_FAIL(WEFT_ENOMEM, "no memory for the watchdog");
    w->ledger = l;
    w->limit = limit_seconds;
    w->neighbour = -1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    weft_status st = weft_fs_path(w->dir, "%s", dir);
    if (st == WEFT_OK) {
        find_neighbour(w);
        int code = start_thread(w);
        if (code != 0)
            st = weft_fail(WEFT_ENOMEM, "the watchdog's thread cannot be started: %s", strerror(code));
    }
    if (st != WEFT_OK) {
        release(w);
        return st;
    }
    *out = w;
    return WEFT_OK;
}

void weft_watchdog_stop(weft_watchdog *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    release(w);
}
