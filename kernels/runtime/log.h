/* Log lines on stderr: "weft: info|warning|error: MESSAGE", with "[rank N]" when there are several ranks. */
#ifndef WEFT_LOG_H
#define WEFT_LOG_H

#include <stdbool.h>

typedef enum weft_log_level {
    WEFT_LOG_DEBUG,
    WEFT_LOG_INFO,
    WEFT_LOG_WARNING,
    WEFT_LOG_ERROR
} weft_log_level;

void weft_log(weft_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define weft_debug(...) weft_log(WEFT_LOG_DEBUG, __VA_ARGS__)
#define weft_info(...) weft_log(WEFT_LOG_INFO, __VA_ARGS__)
#define weft_warn(...) weft_log(WEFT_LOG_WARNING, __VA_ARGS__)

void weft_log_set_level(weft_log_level level); /* lines below it are dropped; default INFO */
void weft_log_set_rank(int rank, int size);    /* info lines come from rank 0 only */

/* While on, every rank runs the same code on the same input (parsing the configuration, say), so a failure
 * occurs on all of them: only rank 0 prints it. The other ranks hold their last error back; weft_world_agree
 * lets the lowest failing rank print it when rank 0 has not failed. */
void weft_log_replicated(bool on);
void weft_log_settle_held(bool print); /* prints the error held back, if any, or forgets it */

/* Called before each log line, so that a progress bar can clear its line. NULL for none. */
void weft_log_set_hook(void (*before_line)(void));

#endif
