#include "train/metrics.h"
#include "runtime/log.h"
#include "train/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool g_line_drawn;

void weft_metrics_clear_line(void) {
    if (g_line_drawn) fputs("\r\033[K", stderr);
    g_line_drawn = false;
}

/* Step number of a metrics line, or -1. */
static int64_t step_of(const char *line, size_t length) {
    json_t *o = json_loadb(line, length, 0, NULL);
    int64_t step = o ? (int64_t)json_integer_value(json_object_get(o, "step")) : -1;
    json_decref(o);
    return step;
}

/* Cuts the file behind the last whole record of a step <= `step`. */
static weft_status keep_until(const char *path, int64_t step) {
    FILE *f = fopen(path, "r");
    if (!f) {
        if (errno == ENOENT) return WEFT_OK;
        WEFT_FAIL(WEFT_EIO, "%s: cannot be read: %s", path, strerror(errno));
    }
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    off_t keep = 0;
    while ((n = getline(&line, &capacity, f)) > 0) {
        int64_t s = line[n - 1] == '\n' ? step_of(line, (size_t)n) : -1;
        if (s < 0 || s > step) break;
        keep += n;
    }
    free(line);
    fclose(f);
    if (truncate(path, keep) != 0)
        WEFT_FAIL(WEFT_EIO, "%s: cannot be cut to %lld bytes: %s", path, (long long)keep, strerror(errno));
    return WEFT_OK;
}

weft_status weft_metrics_open(weft_metrics *m, const char *run, int64_t step, const weft_config *c) {
    /* Under mpirun stderr is a pipe to mpirun: launch/local knows whether a terminal is behind it. */
    *m = (weft_metrics){.terminal = isatty(STDERR_FILENO) || getenv("WEFT_TERMINAL"),
                        .every = c->log.every,
                        .steps = c->train.steps,
                        .first_step = step,
                        .started = weft_clock()};
    size_t size = strlen(run) + 32;
    m->path = malloc(size);
    if (!m->path) WEFT_FAIL(WEFT_ENOMEM, "no memory for a path");
    snprintf(m->path, size, "%s/metrics.jsonl", run);
    WEFT_TRY(keep_until(m->path, step));
    m->file = fopen(m->path, "a");
    if (!m->file) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", m->path, strerror(errno));
    setvbuf(m->file, NULL, _IOLBF, 1 << 16);
    weft_log_set_hook(weft_metrics_clear_line);
    return WEFT_OK;
}

/* JSON has no NaN and no infinity. */
static void put_real(FILE *f, const char *key, double v) {
    if (isfinite(v))
        fprintf(f, ", \"%s\": %.17g", key, v);
    else
        fprintf(f, ", \"%s\": null", key);
}

static void human_time(double s, char out[32]) {
    if (s < 90)
        snprintf(out, 32, "%.0fs", s);
    else if (s < 5400)
        snprintf(out, 32, "%.0fm", s / 60);
    else if (s < 48 * 3600)
        snprintf(out, 32, "%.1fh", s / 3600);
    else
        snprintf(out, 32, "%.1fd", s / 86400);
}

/* 8412 -> "8,412" */
static void grouped(double v, char out[32]) {
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%.0f", v), at = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
}

static void console(weft_metrics *m, int64_t step, const weft_step_result *r, const weft_step_times *t,
                    double tokens_per_s) {
    double now = weft_clock(), done = (double)(step - m->first_step);
    char eta[32], rate[32], line[256];
    bool due = step % m->every == 0 || step == m->first_step + 1 || step == m->steps;
    if (!due && !(m->terminal && now - m->last_drawn > 1.0 / 6)) return;
    human_time((now - m->started) / done * (double)(m->steps - step), eta);
    grouped(tokens_per_s, rate);
    snprintf(line, sizeof line,
             "step %" PRId64 "/%" PRId64
             "  loss %.4f  grad %.2f  lr %.1e  mem %.2fGiB  tok/s %s  mfu %.1f%%  data %.1f%%  eta %s",
             step, m->steps, r->loss, r->grad_norm, r->lr, (double)t->mem_bytes / (1 << 30), rate,
             100 * t->mfu, t->seconds > 0 ? 100 * t->data_seconds / t->seconds : 0, eta);
    weft_metrics_clear_line();
    m->last_drawn = now;
    if (due) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    char bar[21];
    int filled = (int)(20 * step / (m->steps > 0 ? m->steps : 1));
    for (int i = 0; i < 20; i++) bar[i] = i < filled ? '#' : '.';
    bar[20] = '\0';
    fprintf(stderr, "[%s] %s", bar, line);
    fflush(stderr);
    g_line_drawn = true;
}

weft_status weft_metrics_write(weft_metrics *m, int64_t step, const weft_step_result *r,
                               const weft_step_times *t) {
    double tokens_per_s = t->seconds > 0 ? (double)r->tokens / t->seconds : 0;
    FILE *f = m->file;
    fprintf(f, "{\"step\": %" PRId64, step);
    put_real(f, "loss", r->loss);
    put_real(f, "grad_norm", r->grad_norm);
    put_real(f, "lr", r->lr);
    fprintf(f, ", \"tokens\": %" PRId64, r->tokens);
    put_real(f, "tokens_per_s", tokens_per_s);
    put_real(f, "mfu", t->mfu);
    fprintf(f, ", \"mem_bytes\": %zu", t->mem_bytes);
    put_real(f, "step_seconds", t->seconds);
    put_real(f, "data_seconds", t->data_seconds);
    put_real(f, "aux_loss", r->aux);
    put_real(f, "z_loss", r->z);
    put_real(f, "activation_loss", r->act);
    fprintf(f, ", \"updated\": %s}\n", r->finite ? "true" : "false");
    if (ferror(f)) WEFT_FAIL(WEFT_EIO, "%s: cannot be written: %s", m->path, strerror(errno));
    console(m, step, r, t, tokens_per_s);
    return WEFT_OK;
}

weft_status weft_metrics_close(weft_metrics *m) {
    weft_status st = WEFT_OK;
    weft_metrics_clear_line();
    weft_log_set_hook(NULL);
    if (m->file) {
        if (fflush(m->file) != 0 || fsync(fileno(m->file)) != 0)
            st = weft_fail(WEFT_EIO, "%s: cannot be written: %s", m->path, strerror(errno));
        fclose(m->file);
    }
    free(m->path);
    *m = (weft_metrics){0};
    return st;
}
