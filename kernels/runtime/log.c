#include "runtime/log.h"
#include "runtime/status.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    weft_log_level level;
    int rank, size;
    bool replicated;
    char held[4224];
    void (*before_line)(void);
    pthread_mutex_t lock;
} g_log = {.level = WEFT_LOG_INFO, .rank = 0, .size = 1, .lock = PTHREAD_MUTEX_INITIALIZER};

static void emit(weft_log_level level, const char *fmt, va_list ap) {
    static const char *const names[] = {"debug", "info", "warning", "error"};
    char text[4096];
    if (level < g_log.level) return;
    bool hold = g_log.rank != 0 && g_log.replicated;
    if (g_log.rank != 0 && (level < WEFT_LOG_WARNING || (hold && level < WEFT_LOG_ERROR))) return;
    int n = vsnprintf(text, sizeof text, fmt, ap);
    if (n >= (int)sizeof text) memcpy(text + sizeof text - 4, "...", 4);
    pthread_mutex_lock(&g_log.lock);
    if (hold) {
        snprintf(g_log.held, sizeof g_log.held, "weft: [rank %d] error: %s\n", g_log.rank, text);
        pthread_mutex_unlock(&g_log.lock);
        return;
    }
    if (g_log.before_line) g_log.before_line();
    /* One write per line: the lines of several ranks do not mix. */
    char line[4224];
    if (g_log.size > 1 && !g_log.replicated && level >= WEFT_LOG_WARNING)
        n = snprintf(line, sizeof line, "weft: [rank %d] %s: %s\n", g_log.rank, names[level], text);
    else
        n = snprintf(line, sizeof line, "weft: %s: %s\n", names[level], text);
    fwrite(line, 1, (size_t)n, stderr);
    fflush(stderr);
    pthread_mutex_unlock(&g_log.lock);
}

void weft_log(weft_log_level level, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    emit(level, fmt, ap);
    va_end(ap);
}

weft_status weft_fail(weft_status status, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    emit(WEFT_LOG_ERROR, fmt, ap);
    va_end(ap);
    return status;
}

void weft_panic(const char *file, int line, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fprintf(stderr, "weft: [rank %d] internal error at %s:%d: %s\n", g_log.rank, file, line, text);
    abort();
}

int weft_status_exit_code(weft_status status) {
    switch (status) {
    case WEFT_OK:
        return 0;
    case WEFT_EINPUT:
    case WEFT_EIO:
    case WEFT_EREMOTE:
        return 2;
    case WEFT_ESTOPPED:
        return 75;
    default:
        return 1;
    }
}

void weft_log_settle_held(bool print) {
    pthread_mutex_lock(&g_log.lock);
    if (print && *g_log.held) {
        fputs(g_log.held, stderr);
        fflush(stderr);
    }
    g_log.held[0] = '\0';
    pthread_mutex_unlock(&g_log.lock);
}

void weft_log_set_level(weft_log_level level) {
    g_log.level = level;
}
void weft_log_replicated(bool on) {
    g_log.replicated = on;
}
void weft_log_set_hook(void (*before_line)(void)) {
    g_log.before_line = before_line;
}
void weft_log_set_rank(int rank, int size) {
    g_log.rank = rank;
    g_log.size = size;
}
