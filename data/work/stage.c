#include "data/work/stage.h"
#include "runtime/hash.h"
#include "runtime/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#define JOURNAL "journal"
enum { RECORD_MAGIC = 0x77667431 };

/* In front of each record's packed counters. */
typedef struct record_head {
    uint32_t magic, packed;
    int64_t piece;
    uint64_t xxh3; /* of piece, packed size and packed bytes */
} record_head;

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the directory ---- */
static weft_status take_lock(weft_work *w) {
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/lock", w->dir));
    w->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (w->lock < 0) WEFT_FAIL(WEFT_EIO, "%s: %s", path, strerror(errno));
    if (flock(w->lock, LOCK_EX | LOCK_NB) == 0) return WEFT_OK;
    if (errno == EWOULDBLOCK)
        WEFT_FAIL(WEFT_EINPUT, "%s: another job is building in this directory; wait for it, or stop it",
                  w->dir);
    weft_warn("%s: cannot be locked (%s); take care that no other job builds here", path, strerror(errno));
    return WEFT_OK;
}

static weft_status check_identity(const weft_work *w, const char *identity) {
    char path[WEFT_PATH_SIZE], *found = NULL;
    size_t bytes;
    WEFT_TRY(weft_fs_path(path, "%s/identity", w->dir));
    if (access(path, F_OK) != 0) return weft_fs_replace_file(path, identity, strlen(identity));
    WEFT_TRY(weft_fs_read_file(path, (size_t)1 << 30, &found, &bytes));
    bool same = strcmp(found, identity) == 0;
    free(found);
    if (!same)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: left by a build with another recipe, other files, or files that have changed since; "
                  "remove it to "
                  "begin anew, or restore them to go on",
                  w->dir);
    weft_info("%s: going on with the build that was begun here", w->dir);
    return WEFT_OK;
}

static weft_status open_first(weft_work *w, const char *identity) {
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_mkdirs(w->dir));
    WEFT_TRY(take_lock(w));
    WEFT_TRY(check_identity(w, identity));
    WEFT_TRY(weft_fs_path(path, "%s/stop", w->dir));
    if (unlink(path) != 0 && errno != ENOENT) WEFT_FAIL(WEFT_EIO, "%s: %s", path, strerror(errno));
    WEFT_TRY(weft_fs_path(path, "%s/%s", w->dir, JOURNAL));
    return weft_fs_mkdirs(path);
}

weft_status weft_work_begin(weft_work *w, const char *dir, const char *identity, const weft_team *team,
                            int threads, void (*progress)(const weft_work_progress *)) {
    *w = (weft_work){.team = team, .threads = threads, .lock = -1, .progress = progress};
    weft_status st = weft_fs_path(w->dir, "%s", dir);
    if (st == WEFT_OK && team->rank == 0) st = open_first(w, identity);
    st = team->agree(st);
    if (st != WEFT_OK) weft_work_end(w);
    return st;
}

void weft_work_end(weft_work *w) {
    if (w->lock >= 0) close(w->lock);
    w->lock = -1;
}

weft_status weft_work_path(const weft_work *w, char path[WEFT_PATH_SIZE], const char *folder, int64_t number,
                           const char *ending) {
    return weft_fs_path(path, "%s/%s/%06lld.%s", w->dir, folder, (long long)number, ending);
}

weft_status weft_work_folder(weft_work *w, const char *name) {
    char path[WEFT_PATH_SIZE];
    weft_status st = weft_fs_path(path, "%s/%s", w->dir, name);
    if (st == WEFT_OK && w->team->rank == 0) st = weft_fs_mkdirs(path);
    return w->team->agree(st);
}

/* ---- the journal ---- */
static uint64_t record_hash(const record_head *h, const void *packed) {
    uint64_t seed = weft_hash64(&h->piece, sizeof h->piece, h->packed);
    return weft_hash64(packed, h->packed, seed);
}

typedef struct reading {
    const weft_stage *s;
    int64_t *total, *each; /* may be NULL */
    unsigned char *done;   /* [pieces] */
    int64_t count;
    int64_t *scratch; /* [counters]; NULL: pieces are only counted, by what their heads say */
} reading;

/* One record; false where the file holds no whole one. */
static bool take_record(reading *r, const char *at, size_t left, size_t *used) {
    record_head h;
    size_t want = (size_t)r->s->counters * sizeof(int64_t);
    if (left < sizeof h) return false;
    memcpy(&h, at, sizeof h);
    if (h.magic != RECORD_MAGIC || h.packed > left - sizeof h || h.piece < 0 || h.piece >= r->s->pieces)
        return false;
    *used = sizeof h + h.packed;
    if (r->scratch) {
        if (record_hash(&h, at + sizeof h) != h.xxh3) return false;
        size_t got = h.packed ? ZSTD_decompress(r->scratch, want, at + sizeof h, h.packed) : 0;
        if (got != want) return false;
    }
    if (r->done[h.piece]) return true; /* of a rank that was thought dead: the same counts */
    r->done[h.piece] = 1;
    r->count++;
    if (!r->scratch) return true;
    /* Some pieces note hashes among their counters, whose sum is of no use and may wrap around. */
    for (int i = 0; r->total && i < r->s->counters; i++)
        r->total[i] = (int64_t)((uint64_t)r->total[i] + (uint64_t)r->scratch[i]);
    for (int i = 0; r->each && i < r->s->each_count; i++)
        r->each[h.piece * r->s->each_count + i] = r->scratch[r->s->each_first + i];
    return true;
}

/* *valid: bytes of whole records. */
static weft_status read_journal(reading *r, const char *path, size_t *valid) {
    char *data = NULL;
    size_t bytes, used;
    *valid = 0;
    WEFT_TRY(weft_fs_read_file(path, SIZE_MAX / 4, &data, &bytes));
    while (*valid < bytes && take_record(r, data + *valid, bytes - *valid, &used)) *valid += used;
    free(data);
    return WEFT_OK;
}

static bool of_stage(const char *name, const char *stage) {
    size_t n = strlen(stage);
    return strncmp(name, stage, n) == 0 && name[n] == '.' &&
           strspn(name + n + 1, "0123456789") == strlen(name + n + 1);
}

static weft_status read_journals(const weft_work *w, reading *r) {
    weft_status st = WEFT_OK;
    char path[WEFT_PATH_SIZE];
    size_t valid;
    WEFT_TRY(weft_fs_path(path, "%s/%s", w->dir, JOURNAL));
    DIR *d = opendir(path);
    if (!d) WEFT_FAIL(WEFT_EIO, "%s: %s", path, strerror(errno));
    for (struct dirent *e; st == WEFT_OK && (e = readdir(d));) {
        if (!of_stage(e->d_name, r->s->name)) continue;
        st = weft_fs_path(path, "%s/%s/%s", w->dir, JOURNAL, e->d_name);
        if (st == WEFT_OK) st = read_journal(r, path, &valid);
    }
    closedir(d);
    return st;
}

/* What is done, on every rank: rank 0 reads, the others are told. */
static weft_status find_done(weft_work *w, const weft_stage *s, int64_t *total, int64_t *each,
                             unsigned char *done, int64_t *count) {
    reading r = {.s = s, .total = total, .each = each, .done = done};
    memset(done, 0, (size_t)s->pieces);
    if (total) memset(total, 0, (size_t)s->counters * sizeof *total);
    r.scratch = calloc((size_t)s->counters + 1, sizeof *r.scratch);
    weft_status st = r.scratch ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for stage %s", s->name);
    if (st == WEFT_OK && w->team->rank == 0) st = read_journals(w, &r);
    free(r.scratch);
    WEFT_TRY(w->team->agree(st));
    w->team->bcast(&r.count, sizeof r.count, 0);
    w->team->bcast(done, (size_t)s->pieces, 0);
    if (total) w->team->bcast(total, (size_t)s->counters * sizeof *total, 0);
    if (each) w->team->bcast(each, (size_t)(s->pieces * s->each_count) * sizeof *each, 0);
    *count = r.count;
    return WEFT_OK;
}

/* ---- running ---- */
typedef struct running {
    weft_work *w;
    const weft_stage *s;
    void *arg;
    const int64_t *mine; /* pieces of this rank */
    int64_t count;
    atomic_llong next;
    atomic_bool stop;
    pthread_mutex_t lock; /* of the journal */
    int journal;
    char path[WEFT_PATH_SIZE], stop_path[WEFT_PATH_SIZE];
    weft_status status;
    int running;
    pthread_cond_t ended;
} running;

typedef struct worker {
    running *r;
    int number;
} worker;

/* Behind what is whole: a torn end is cut off first. */
static weft_status open_journal(running *r) {
    reading none = {.s = r->s,
                    .done = calloc((size_t)r->s->pieces + 1, 1),
                    .scratch = calloc((size_t)r->s->counters + 1, sizeof(int64_t))};
    size_t valid = 0;
    weft_status st =
        none.done && none.scratch ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for stage %s", r->s->name);
    if (st == WEFT_OK)
        st = weft_fs_path(r->path, "%s/%s/%s.%d", r->w->dir, JOURNAL, r->s->name, r->w->team->rank);
    if (st == WEFT_OK && access(r->path, F_OK) == 0) st = read_journal(&none, r->path, &valid);
    free(none.done);
    free(none.scratch);
    WEFT_TRY(st);
    r->journal = open(r->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (r->journal < 0 || ftruncate(r->journal, (off_t)valid) != 0 ||
        lseek(r->journal, (off_t)valid, SEEK_SET) != (off_t)valid)
        WEFT_FAIL(WEFT_EIO, "%s: %s", r->path, strerror(errno));
    return WEFT_OK;
}

static weft_status note(running *r, int64_t piece, const int64_t *counters) {
    size_t bytes = (size_t)r->s->counters * sizeof *counters, bound = ZSTD_compressBound(bytes);
    char *record = malloc(sizeof(record_head) + bound);
    if (!record) WEFT_FAIL(WEFT_ENOMEM, "no memory to note a piece of stage %s", r->s->name);
    record_head h = {.magic = RECORD_MAGIC, .piece = piece};
    size_t packed = r->s->counters ? ZSTD_compress(record + sizeof h, bound, counters, bytes, 1) : 0;
    h.packed = (uint32_t)packed;
    h.xxh3 = record_hash(&h, record + sizeof h);
    memcpy(record, &h, sizeof h);
    pthread_mutex_lock(&r->lock);
    weft_status st = weft_fs_write_all(r->journal, record, sizeof h + packed, r->path);
    if (st == WEFT_OK && fsync(r->journal) != 0) st = weft_fail(WEFT_EIO, "%s: %s", r->path, strerror(errno));
    pthread_mutex_unlock(&r->lock);
    free(record);
    return st;
}

static void fail_stage(running *r, weft_status st) {
    pthread_mutex_lock(&r->lock);
    if (r->status == WEFT_OK) r->status = st;
    pthread_mutex_unlock(&r->lock);
    atomic_store(&r->stop, true);
    int fd = open(r->stop_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666); /* the other ranks look for it */
    if (fd >= 0) close(fd);
}

static void *work(void *arg) {
    worker *k = arg;
    running *r = k->r;
    int64_t *counters = calloc((size_t)r->s->counters + 1, sizeof *counters);
    if (!counters) fail_stage(r, weft_fail(WEFT_ENOMEM, "no memory for stage %s", r->s->name));
    while (counters && !atomic_load(&r->stop)) {
        int64_t i = atomic_fetch_add(&r->next, 1);
        if (i >= r->count) break;
        if (access(r->stop_path, F_OK) == 0) {
            atomic_store(&r->stop, true);
            break;
        }
        memset(counters, 0, (size_t)r->s->counters * sizeof *counters);
        weft_status st = r->s->run(r->arg, r->mine[i], k->number, counters);
        if (st == WEFT_OK) st = note(r, r->mine[i], counters);
        if (st != WEFT_OK) fail_stage(r, st);
    }
    free(counters);
    pthread_mutex_lock(&r->lock);
    r->running--;
    pthread_cond_broadcast(&r->ended);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* Pieces done by all ranks, from the journals as they grow: for the progress line. */
static int64_t count_done(const running *r) {
    reading heads = {.s = r->s, .done = calloc((size_t)r->s->pieces + 1, 1)};
    if (heads.done) read_journals(r->w, &heads);
    free(heads.done);
    return heads.count;
}

static void watch(running *r, int64_t before) {
    double began = seconds_now(), pause = 0.4, next = began + pause;
    struct timespec until;
    pthread_mutex_lock(&r->lock);
    while (r->running > 0) {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 400000000;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&r->ended, &r->lock, &until);
        if (!r->w->progress || r->w->team->rank != 0 || r->running == 0 || seconds_now() < next) continue;
        pthread_mutex_unlock(&r->lock);
        double asked = seconds_now();
        int64_t done = count_done(r);
        double seconds = seconds_now() - began;
        if (20 * (seconds_now() - asked) > pause) pause = 20 * (seconds_now() - asked);
        next = seconds_now() + pause;
        weft_work_progress p = {.stage = r->s->name,
                                .number = r->w->stage,
                                .of = r->w->stages,
                                .done = done,
                                .pieces = r->s->pieces,
                                .seconds = seconds,
                                .left = -1};
        if (done > before) p.left = seconds * (double)(r->s->pieces - done) / (double)(done - before);
        r->w->progress(&p);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
}

static weft_status run_threads(running *r, int threads, int64_t before) {
    pthread_t *ids = calloc((size_t)threads, sizeof *ids);
    worker *workers = calloc((size_t)threads, sizeof *workers);
    int started = 0;
    sigset_t all, old;
    if (!ids || !workers) {
        free(ids);
        free(workers);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for %d threads", threads);
    }
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (; started < threads; started++) {
        workers[started] = (worker){.r = r, .number = started};
        pthread_mutex_lock(&r->lock);
        r->running++;
        pthread_mutex_unlock(&r->lock);
        int error = pthread_create(&ids[started], NULL, work, &workers[started]);
        if (!error) continue;
        pthread_mutex_lock(&r->lock);
        r->running--;
        pthread_mutex_unlock(&r->lock);
        fail_stage(r, weft_fail(WEFT_EINTERNAL, "thread %d of %d cannot be started: %s", started + 1, threads,
                                strerror(error)));
        break;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    watch(r, before);
    for (int i = 0; i < started; i++) pthread_join(ids[i], NULL);
    free(ids);
    free(workers);
    return r->status;
}

static weft_status run_mine(weft_work *w, const weft_stage *s, void *arg, const unsigned char *done,
                            int64_t before) {
    int64_t *mine = calloc((size_t)s->pieces + 1, sizeof *mine), count = 0, open_pieces = 0;
    if (!mine) WEFT_FAIL(WEFT_ENOMEM, "no memory for stage %s", s->name);
    for (int64_t i = 0; i < s->pieces; i++)
        if (!done[i] && open_pieces++ % w->team->size == w->team->rank) mine[count++] = i;
    running r = {.w = w, .s = s, .arg = arg, .mine = mine, .count = count, .journal = -1, .status = WEFT_OK};
    pthread_mutex_init(&r.lock, NULL);
    pthread_cond_init(&r.ended, NULL);
    int threads = s->max_threads && s->max_threads < w->threads ? s->max_threads : w->threads;
    if (threads > count) threads = (int)count;
    weft_status st = weft_fs_path(r.stop_path, "%s/stop", w->dir);
    if (st == WEFT_OK) st = open_journal(&r);
    if (st == WEFT_OK && count > 0) st = run_threads(&r, threads, before);
    /* Stopped for another rank's sake: that one makes the agreement fail. */
    if (r.journal >= 0) close(r.journal);
    pthread_cond_destroy(&r.ended);
    pthread_mutex_destroy(&r.lock);
    free(mine);
    return st;
}

weft_status weft_stage_run(weft_work *w, const weft_stage *s, void *arg, int64_t *total, int64_t *each) {
    unsigned char *done = malloc((size_t)s->pieces + 1);
    int64_t count = 0;
    weft_status st = done ? WEFT_OK
                          : weft_fail(WEFT_ENOMEM, "no memory for the %lld pieces of stage %s",
                                      (long long)s->pieces, s->name);
    w->stage++;
    st = w->team->agree(st);
    if (st == WEFT_OK) st = find_done(w, s, total, each, done, &count);
    if (st == WEFT_OK && count < s->pieces) {
        st = w->team->agree(run_mine(w, s, arg, done, count));
        if (st == WEFT_OK) st = find_done(w, s, total, each, done, &count);
        if (st == WEFT_OK && count < s->pieces)
            st = weft_fail(
                WEFT_EIO,
                "%s: the journals of stage %s hold %lld of %lld pieces: do all ranks see the same directory?",
                w->dir, s->name, (long long)count, (long long)s->pieces);
    }
    free(done);
    return st;
}

static weft_status remove_journals(const weft_work *w, const char *name) {
    weft_status st = WEFT_OK;
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/%s", w->dir, JOURNAL));
    DIR *d = opendir(path);
    if (!d) WEFT_FAIL(WEFT_EIO, "%s: %s", path, strerror(errno));
    for (struct dirent *e; st == WEFT_OK && (e = readdir(d));) {
        if (!of_stage(e->d_name, name)) continue;
        st = weft_fs_path(path, "%s/%s/%s", w->dir, JOURNAL, e->d_name);
        if (st == WEFT_OK && unlink(path) != 0) st = weft_fail(WEFT_EIO, "%s: %s", path, strerror(errno));
    }
    closedir(d);
    return st;
}

weft_status weft_stage_forget(weft_work *w, const char *name) {
    return w->team->agree(w->team->rank == 0 ? remove_journals(w, name) : WEFT_OK);
}

/* ---- small files ---- */
enum { SUM_BYTES = 17 }; /* 16 digits and a newline */

weft_status weft_work_put_text(const char *path, const char *text, size_t bytes) {
    char *all = malloc(SUM_BYTES + 1 + bytes);
    if (!all) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", path);
    snprintf(all, SUM_BYTES + 1, "%016llx\n", (unsigned long long)weft_hash64(text, bytes, 0));
    if (bytes > 0) memcpy(all + SUM_BYTES, text, bytes);
    weft_status st = weft_fs_replace_file(path, all, SUM_BYTES + bytes);
    free(all);
    return st;
}

weft_status weft_work_get_text(const char *path, char **text, size_t *bytes) {
    char *all = NULL, sum[SUM_BYTES + 1];
    size_t n;
    *text = NULL;
    if (access(path, F_OK) != 0 && errno == ENOENT) return WEFT_OK;
    WEFT_TRY(weft_fs_read_file(path, SIZE_MAX / 4, &all, &n));
    if (n >= SUM_BYTES)
        snprintf(sum, sizeof sum, "%016llx\n",
                 (unsigned long long)weft_hash64(all + SUM_BYTES, n - SUM_BYTES, 0));
    if (n < SUM_BYTES || memcmp(all, sum, SUM_BYTES) != 0) {
        free(all);
        WEFT_FAIL(WEFT_EINPUT, "%s: damaged; remove the work directory and build again", path);
    }
    memmove(all, all + SUM_BYTES, n - SUM_BYTES + 1);
    *text = all;
    *bytes = n - SUM_BYTES;
    return WEFT_OK;
}
