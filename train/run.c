#include "train/run.h"
#include "runtime/fs.h"
#include "runtime/log.h"
#include "train/clock.h"
#include "train/machine.h"
#include "train/metrics.h"
#include "train/signals.h"
#include "train/trainer.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_SKIPPED_IN_A_ROW = 10 };

typedef struct session {
    const weft_config *config;
    weft_trainer trainer;
    weft_loader *loader;
    weft_metrics metrics;
    weft_ledger *ledger;
    weft_watchdog *watchdog;
    uint64_t *samples; /* numbers of the batch asked for */
    double peak_flops; /* of all ranks: the measured rate of matrix products */
    double flops_per_token;
    char resume_from[WEFT_PATH_SIZE]; /* "" for a fresh start */
    weft_step_times times;            /* of the step that is reported next */
    double reported;                  /* when the step before it was */
    int skipped;                      /* steps in a row that were not finite */
    bool begin_again;
} session;

/* A run directory that holds anything of a run must not be begun again at step 0. */
static weft_status refuse_used(const char *run, const char *why) {
    DIR *dir = opendir(run);
    if (!dir) {
        if (errno == ENOENT) return WEFT_OK;
        WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", run, strerror(errno));
    }
    struct dirent *e;
    weft_status st = WEFT_OK;
    while (st == WEFT_OK && (e = readdir(dir)))
        if (strcmp(e->d_name, "metrics.jsonl") == 0 || strcmp(e->d_name, "checkpoints") == 0)
            st = weft_fail(
                WEFT_EINPUT,
                "%s: holds %s of an earlier run%s; remove the directory or choose another with run=DIR", run,
                e->d_name, why);
    closedir(dir);
    return st;
}

static bool same_place(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Decides, on all ranks alike, whether and from where to go on. */
static weft_status find_start(session *s) {
    const weft_config *c = s->config;
    const weft_world *w = &s->trainer.world;
    const char *resume = c->start.resume;
    weft_status st = WEFT_OK;
    if (strcmp(resume, "never") == 0) {
        if (w->rank == 0) st = refuse_used(c->run, " and resume=never was asked for");
        return weft_world_agree(st);
    }
    bool found = false, named = strcmp(resume, "auto") != 0;
    WEFT_TRY(weft_ckpt_find(w, c->run, &found, s->resume_from, sizeof s->resume_from));
    if (found && named && w->rank == 0 && !same_place(s->resume_from, resume))
        st = weft_fail(WEFT_EINPUT,
                       "resume=%s: %s holds its own newest checkpoint, %s; to branch off, choose another run "
                       "directory with run=DIR",
                       resume, c->run, s->resume_from);
    if (!found && w->rank == 0 && !s->begin_again)
        st = refuse_used(c->run, " but no checkpoint to go on from");
    if (!found) s->resume_from[0] = '\0';
    if (named) snprintf(s->resume_from, sizeof s->resume_from, "%s", resume);
    return weft_world_agree(st);
}

static weft_status prepare_run_dir(session *s) {
    const weft_config *c = s->config;
    char path[WEFT_PATH_SIZE];
    weft_status st = weft_fs_mkdirs(c->run);
    if (st != WEFT_OK) return st;
    char *yaml = weft_config_to_yaml(c);
    if (!yaml) WEFT_FAIL(WEFT_ENOMEM, "no memory for the configuration's text");
    st = weft_fs_path(path, "%s/config.yaml", c->run);
    if (st == WEFT_OK) st = weft_fs_replace_file(path, yaml, strlen(yaml));
    free(yaml);
    return st == WEFT_OK ? weft_metrics_open(&s->metrics, c->run, s->trainer.step, c) : st;
}

/* What each rank does, kept in RUN/ledger for the case that one of them does not come back. Collective. */
static weft_status open_ledger(session *s) {
    weft_trainer *t = &s->trainer;
    char dir[WEFT_PATH_SIZE];
    weft_status st = weft_fs_path(dir, "%s/ledger", s->config->run);
    if (st == WEFT_OK && t->world.rank == 0) st = weft_fs_mkdirs(dir);
    WEFT_TRY(weft_world_agree(st));
    st = weft_ledger_open(&s->ledger, dir, &t->comm.mesh, t->comm.kv_ranks);
    WEFT_TRY(weft_world_agree(st));
    t->comm.ledger = s->ledger;
    weft_world_attach(&t->comm);
    if (t->world.size > 1) st = weft_watchdog_start(&s->watchdog, s->ledger, dir, s->config->mesh.timeout);
    return weft_world_agree(st);
}

static void close_ledger(session *s) {
    weft_watchdog_stop(s->watchdog);
    weft_world_attach(NULL);
    s->trainer.comm.ledger = NULL;
    weft_ledger_close(s->ledger);
}

static void introduce(const session *s) {
    const weft_trainer *t = &s->trainer;
    const weft_config *c = s->config;
    char mesh[128];
    weft_info("%lld parameters (%lld active), %s%s, %d rank%s x %d thread%s%s%s, %.2f GiB a rank",
              (long long)weft_params_total(&t->model.table), (long long)weft_model_active_params(&t->model),
              t->device.ops->name, t->device.act_dtype == WEFT_BF16 ? " in bf16" : "", t->world.size,
              t->world.size == 1 ? "" : "s", t->device.threads, t->device.threads == 1 ? "" : "s",
              t->world.size == 1 ? "" : ", ",
              t->world.size == 1 ? "" : weft_mesh_text(&t->comm.mesh, mesh, sizeof mesh),
              (double)weft_trainer_bytes(t).total / (1 << 30));
    for (int i = 0; i < weft_loader_domain_count(s->loader); i++) {
        const weft_loader_domain *d = &weft_loader_domains(s->loader)[i];
        if (d->documents)
            weft_info("domain %s: %lld documents, %lld tokens, share %.3f", d->name, (long long)d->documents,
                      (long long)d->tokens, d->weight);
    }
    if (t->world.rank == 0 && c->optim.warmup >= c->train.steps)
        weft_warn("optim.warmup=%lld is not shorter than train.steps=%lld: the learning rate never leaves "
                  "the warm-up",
                  (long long)c->optim.warmup, (long long)c->train.steps);
    int tp = t->comm.mesh.size[WEFT_AXIS_TP];
    if (t->world.rank == 0 && t->world.local_size % tp != 0)
        weft_warn("mesh.tp=%d: the %d ranks of this machine do not hold whole tp groups; tp moves the most, "
                  "so choose one that "
                  "divides them",
                  tp, t->world.local_size);
    if (t->world.rank == 0 && t->blocks > 1 && t->comm.mesh.size[WEFT_AXIS_DP] > 1)
        weft_warn("%lld microbatches a step are %lld times a power of two: the replicas (mesh.dp) sum their "
                  "gradients "
                  "%lld times a step; choose a power of two, or train.deterministic=run",
                  (long long)t->micro_total, (long long)t->blocks, (long long)t->blocks);
    if (*s->resume_from)
        weft_info("going on from %s: step %lld of %lld", s->resume_from, (long long)t->step,
                  (long long)c->train.steps);
    else
        weft_info("starting at step 0 of %lld in %s", (long long)c->train.steps, c->run);
}

static weft_status request_next(session *s, uint64_t first) {
    weft_trainer_batch_samples(&s->trainer, first, s->samples);
    return weft_loader_request(s->loader, s->samples, weft_trainer_batch_size(&s->trainer));
}

/* What a finished step reports. The status is agreed between the ranks. */
static weft_status report(session *s, const weft_step_result *result) {
    weft_trainer *t = &s->trainer;
    double now = weft_clock();
    weft_status st = WEFT_OK;
    s->times.seconds = now - s->reported;
    s->times.mfu = s->flops_per_token * (double)result->tokens / s->times.seconds / s->peak_flops;
    s->times.mem_bytes = weft_trainer_bytes(t).total;
    s->reported = now;
    if (!result->finite && t->world.rank == 0)
        weft_warn("step %lld: loss or gradient norm is not finite; the update was skipped",
                  (long long)result->step);
    s->skipped = result->finite ? 0 : s->skipped + 1;
    if (t->world.rank == 0) st = weft_metrics_write(&s->metrics, result->step, result, &s->times);
    WEFT_TRY(weft_world_agree(st));
    if (s->skipped >= MAX_SKIPPED_IN_A_ROW) {
        weft_log_replicated(true);
        WEFT_FAIL(
            WEFT_EINPUT,
            "%d steps in a row were not finite; lower optim.lr, or look at the data; nothing was saved since",
            s->skipped);
    }
    return WEFT_OK;
}

/* One step; on a GPU what is reported is the one before. The status is agreed between the ranks. */
static weft_status train_step(session *s) {
    weft_trainer *t = &s->trainer;
    weft_step_result result;
    weft_batch batch;
    long long number = (long long)t->step + 1;
    weft_ledger_activity(s->ledger, "step %lld: reading the batch", number);
    weft_status st = weft_loader_take(s->loader, &batch, &s->times.data_seconds);
    /* The next batch is decoded while this one is computed. */
    if (st == WEFT_OK && t->step + 1 < s->config->train.steps)
        st = request_next(s, t->samples + (uint64_t)s->config->train.global_batch);
    WEFT_TRY(weft_world_agree(st));
    weft_ledger_activity(s->ledger, "step %lld: computing", number);
    bool finished = weft_trainer_step(t, &batch, &result);
    weft_ledger_activity(s->ledger, "step %lld: done", number);
    return finished ? report(s, &result) : WEFT_OK;
}

static weft_status finish_steps(session *s) {
    weft_step_result result;
    return weft_trainer_finish(&s->trainer, &result) ? report(s, &result) : WEFT_OK;
}

static weft_status loop(session *s) {
    weft_trainer *t = &s->trainer;
    const weft_config *c = s->config;
    int64_t saved = *s->resume_from ? t->step : -1;
    weft_status st = t->step < c->train.steps ? weft_world_agree(request_next(s, t->samples)) : WEFT_OK;
    if (st != WEFT_OK) return st;
    if (t->step >= c->train.steps)
        weft_info("train.steps=%lld are done; give more to go on", (long long)c->train.steps);
    s->reported = weft_clock();
    while (t->step < c->train.steps) {
        WEFT_TRY(train_step(s));
        const char *signal = weft_signals_pending();
        bool stop = weft_world_any(signal != NULL);
        bool due = c->checkpoint.every > 0 && t->step % c->checkpoint.every == 0;
        if (stop || due || t->step == c->train.steps) {
            WEFT_TRY(finish_steps(s));
            weft_ledger_activity(s->ledger, "step %lld: saving a checkpoint", (long long)t->step);
            st = weft_trainer_save(t, s->loader, c->run);
            /* A save that failed leaves the earlier ones; training goes on unless this was the last chance.
             */
            if (st != WEFT_OK && (stop || t->step == c->train.steps)) return st;
            if (st == WEFT_OK) saved = t->step;
            s->reported = weft_clock();
        }
        if (stop && t->step < c->train.steps) {
            weft_info("%s: step %lld is saved; run the same command to go on",
                      signal ? signal : "another rank was asked to stop", (long long)t->step);
            return WEFT_ESTOPPED;
        }
    }
    weft_info("done: step %lld, checkpoint of step %lld in %s/checkpoints", (long long)t->step,
              (long long)saved, c->run);
    return WEFT_OK;
}

weft_status weft_run_train(const weft_world *w, const weft_config *c, bool begin_again) {
    session *s = calloc(1, sizeof *s);
    if (!s) WEFT_FAIL(WEFT_ENOMEM, "no memory");
    bool opened = false;
    weft_status st;
    s->config = c;
    s->begin_again = begin_again;
    weft_log_replicated(true);
    WEFT_GOTO(st, done, weft_trainer_open(&s->trainer, c, w, false));
    opened = true;
    WEFT_GOTO(st, done, weft_trainer_open_loader(&s->trainer, &s->loader));
    weft_log_replicated(false);

    WEFT_GOTO(st, done, find_start(s));
    s->samples = malloc((size_t)weft_trainer_batch_size(&s->trainer) * sizeof *s->samples);
    WEFT_GOTO(st, done,
              weft_world_agree(s->samples ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for a batch")));
    if (*s->resume_from)
        st = weft_trainer_load(&s->trainer, s->loader, s->resume_from);
    else
        st = weft_trainer_init(&s->trainer);
    WEFT_GOTO(st, done, weft_world_agree(st));
    weft_signals_install();
    s->peak_flops = weft_machine_gemm_flops(&s->trainer.device);
    s->flops_per_token = weft_model_train_flops(&s->trainer.model, c->train.seq_len);
    WEFT_GOTO(st, done, open_ledger(s)); /* first: it refuses the directory of a run that is under way */
    if (w->rank == 0) st = prepare_run_dir(s);
    WEFT_GOTO(st, done, weft_world_agree(st));
    introduce(s);
    weft_log_replicated(true); /* what several ranks meet, a damaged shard say, one of them tells */
    st = loop(s);
done:
    weft_log_replicated(false);
    if (s->metrics.path) {
        weft_status closed = weft_metrics_close(&s->metrics);
        if (st == WEFT_OK) st = closed;
    }
    weft_loader_close(s->loader);
    close_ledger(s);
    if (opened) weft_trainer_close(&s->trainer);
    free(s->samples);
    free(s);
    return st;
}
