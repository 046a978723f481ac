/* Who does a run, and doing it. */
#include "runtime/fs.h"
#include "runtime/log.h"
#include "train/ablate/ablation_internal.h"
#include "train/checkpoint.h"
#include "train/clock.h"
#include "train/run.h"
#include "train/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- locks: of the open file, gone with the process that opened it ------------------------------ */

static weft_status open_lock(const weft_ablation *a, const char *name, int *fd) {
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/locks/%s", a->folder, name));
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    return WEFT_OK;
}

weft_status weft_ablation_lock(const weft_ablation *a, const char *name, bool wait, int *fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    WEFT_TRY(open_lock(a, name, fd));
    int failed;
    do failed = fcntl(*fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
    while (failed && errno == EINTR);
    if (!failed) return WEFT_OK;
    int code = errno;
    close(*fd);
    *fd = -1;
    if (code == EAGAIN || code == EACCES) return WEFT_OK;
    WEFT_FAIL(WEFT_EIO, "%s/locks/%s: cannot be locked: %s; put `out` on a file system that has locks",
              a->folder, name, strerror(code));
}

static bool is_locked(const weft_ablation *a, const char *name) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[WEFT_PATH_SIZE];
    if (weft_fs_path(path, "%s/locks/%s", a->folder, name) != WEFT_OK) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool locked = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(fd);
    return locked;
}

/* A lock's file holds the number of the job in which the run failed last. */
static bool failed_in_job(int fd, uint64_t job) {
    uint64_t number;
    return job && pread(fd, &number, sizeof number, 0) == sizeof number && number == job;
}

static void note_failure(const weft_ablation *a, int fd) {
    /* Lost, it costs another part one more try. */
    if (a->job && pwrite(fd, &a->job, sizeof a->job, 0) != sizeof a->job)
        weft_warn("%s/locks: cannot be written: %s", a->folder, strerror(errno));
}

/* ---- done or not -------------------------------------------------------------------------------- */

/* The evaluation of the trained model; NULL: none. */
static json_t *evaluation_of(const weft_ablation_run *r) {
    char path[WEFT_PATH_SIZE];
    if (weft_fs_path(path, "%s/eval.json", r->dir) != WEFT_OK) return NULL;
    json_t *eval = json_load_file(path, 0, NULL);
    if (json_integer_value(json_object_get(eval, "step")) == r->config.train.steps) return eval;
    json_decref(eval);
    return NULL;
}

bool weft_ablation_done(const weft_ablation *a, int i) {
    json_t *eval = evaluation_of(a->runs[i]);
    bool done = weft_suite_same(eval, &a->suite);
    json_decref(eval);
    return done;
}

const char *weft_ablation_state(const weft_ablation *a, int i) {
    char path[WEFT_PATH_SIZE];
    if (weft_ablation_done(a, i)) return "done";
    if (is_locked(a, a->runs[i]->name)) return "running";
    if (weft_fs_path(path, "%s/config.yaml", a->runs[i]->dir) == WEFT_OK && access(path, F_OK) == 0)
        return "begun";
    return "-";
}

/* ---- what a run says ---------------------------------------------------------------------------- */

/* From here on stderr is OUT/RUN/log.txt; *saved is what it was. */
static weft_status begin_log(const weft_ablation_run *r, int *saved) {
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/log.txt", r->dir));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    fflush(stderr);
    *saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    bool failed = *saved < 0 || dup2(fd, STDERR_FILENO) < 0;
    close(fd);
    if (failed) WEFT_FAIL(WEFT_EIO, "%s: cannot stand for stderr: %s", path, strerror(errno));
    unsetenv("WEFT_TERMINAL"); /* a file has no use for a progress bar */
    return WEFT_OK;
}

static void end_log(int saved) {
    if (saved < 0) return;
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
}

static void announce(const weft_ablation *a, int i) {
    const weft_ablation_run *r = a->runs[i];
    const weft_ablation_variant *v = &a->variants[r->variant];
    weft_info("run %d of %d: %s (%lld parameters, %lld active%s%s, %lld steps)%s%s%s", i + 1, a->run_count,
              r->name, (long long)v->params, (long long)v->active, *v->matched ? ", " : "", v->matched,
              (long long)r->config.train.steps, a->logs ? ": " : "", a->logs ? r->dir : "",
              a->logs ? "/log.txt" : "");
}

/* For the console only. */
static double training_loss(const weft_ablation *a, int i) {
    weft_ablation_record record;
    if (weft_ablation_record_read(a, i, &record) != WEFT_OK) return 0;
    double loss = weft_ablation_final_loss(&record);
    weft_ablation_record_free(&record);
    return loss;
}

/* ---- doing it ----------------------------------------------------------------------------------- */

static weft_status stop_if_asked(void) {
    const char *signal = weft_signals_pending();
    if (!weft_world_any(signal != NULL)) return WEFT_OK;
    weft_info("%s: stopped; run the same command to go on",
              signal ? signal : "another rank was asked to stop");
    return WEFT_ESTOPPED;
}

/* A run that was trained to its end, but killed before its evaluation was there, is not opened again. */
static weft_status is_trained(const weft_world *w, const weft_ablation_run *r, bool *yes) {
    char path[WEFT_PATH_SIZE];
    weft_ckpt_state state = {0};
    bool found = false;
    *yes = false;
    WEFT_TRY(weft_ckpt_find(w, r->dir, &found, path, sizeof path));
    if (!found) return WEFT_OK;
    WEFT_TRY(weft_ckpt_read_state(w, path, &state));
    *yes = state.step == r->config.train.steps;
    weft_ckpt_state_free(&state);
    return WEFT_OK;
}

static weft_status keep_result(const weft_ablation_run *r, json_t *result) {
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/eval.json", r->dir));
    char *text = json_dumps(result, JSON_INDENT(1));
    if (!text) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for its text", path);
    weft_status st = weft_fs_replace_file(path, text, strlen(text));
    free(text);
    return st;
}

static weft_status evaluate(const weft_ablation *a, const weft_ablation_run *r, const weft_world *w) {
    weft_modelfile f;
    json_t *result = NULL;
    weft_info("evaluating %s", r->name);
    WEFT_TRY(weft_modelfile_open(&f, w, r->dir));
    weft_status st = WEFT_OK;
    if (f.step != r->config.train.steps)
        st = weft_fail(WEFT_EINPUT,
                       "%s: holds a checkpoint of step %lld, above the last, %lld: was it trained "
                       "further? Remove that checkpoint, or choose another `out`",
                       r->dir, (long long)f.step, (long long)r->config.train.steps);
    st = weft_world_agree(st);
    json_t *known = evaluation_of(r);
    if (st == WEFT_OK) st = weft_suite_run(&a->suite, &f, w, known, &result);
    json_decref(known);
    weft_modelfile_close(&f);
    WEFT_TRY(st);
    if (w->rank == 0) st = keep_result(r, result);
    json_decref(result);
    return weft_world_agree(st);
}

static weft_status train_and_evaluate(const weft_ablation *a, const weft_ablation_run *r,
                                      const weft_world *w) {
    bool trained;
    WEFT_TRY(stop_if_asked());
    WEFT_TRY(is_trained(w, r, &trained));
    if (!trained) WEFT_TRY(weft_run_train(w, &r->config, true));
    WEFT_TRY(stop_if_asked());
    return evaluate(a, r, w);
}

static weft_status perform(const weft_ablation *a, int i, const weft_world *w) {
    const weft_ablation_run *r = a->runs[i];
    int saved = -1;
    double begin = weft_clock();
    announce(a, i);
    weft_status st = w->rank == 0 ? weft_fs_mkdirs(r->dir) : WEFT_OK;
    WEFT_TRY(weft_world_agree(st));
    if (a->logs) st = weft_world_agree(begin_log(r, &saved));
    if (st == WEFT_OK) st = train_and_evaluate(a, r, w);
    end_log(saved);
    if (st == WEFT_OK && w->rank == 0)
        weft_info("run %d of %d: %s is done: loss %.4f, %.1f s", i + 1, a->run_count, r->name,
                  training_loss(a, i), weft_clock() - begin);
    else if (st == WEFT_ESTOPPED)
        weft_info("run %d of %d: %s is stopped", i + 1, a->run_count, r->name);
    else if (st != WEFT_OK && w->rank == 0)
        weft_warn("run %d of %d: %s failed%s%s%s", i + 1, a->run_count, r->name, a->logs ? ": see " : "",
                  a->logs ? r->dir : "", a->logs ? "/log.txt" : "");
    return st;
}

/* Rank 0's: takes the run's lock, and says what is to be done. *fd is open when that is WEFT_ABLATION_DONE.
 */
static weft_status claim(const weft_ablation *a, int i, int *fd, weft_ablation_outcome *out) {
    *out = WEFT_ABLATION_BEFORE;
    if (weft_ablation_done(a, i)) return WEFT_OK;
    WEFT_TRY(weft_ablation_lock(a, a->runs[i]->name, false, fd));
    *out = *fd < 0                      ? WEFT_ABLATION_BUSY
           : failed_in_job(*fd, a->job) ? WEFT_ABLATION_FAILED
           : weft_ablation_done(a, i)   ? WEFT_ABLATION_BEFORE /* in the meantime */
                                        : WEFT_ABLATION_DONE;
    weft_status st = *out == WEFT_ABLATION_DONE ? weft_ablation_check(a, i) : WEFT_OK;
    if (*fd >= 0 && (st != WEFT_OK || *out != WEFT_ABLATION_DONE)) {
        close(*fd);
        *fd = -1;
    }
    return st;
}

weft_status weft_ablation_do(const weft_ablation *a, int i, const weft_world *w, weft_ablation_outcome *out) {
    int fd = -1;
    weft_ablation_outcome outcome = WEFT_ABLATION_BEFORE;
    weft_status st = w->rank == 0 ? claim(a, i, &fd, &outcome) : WEFT_OK;
    WEFT_TRY(weft_world_agree(st));
    weft_world_bcast(&outcome, sizeof outcome, 0);
    if (outcome == WEFT_ABLATION_DONE) {
        st = perform(a, i, w);
        if (fd >= 0 && st != WEFT_OK && st != WEFT_ESTOPPED) note_failure(a, fd);
        if (fd >= 0) close(fd);
    }
    *out = outcome;
    return st;
}
