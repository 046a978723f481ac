/* Status codes and the one place where a failure is reported.
 *
 * A function that can fail returns weft_status. The first function that detects a failure reports it, once,
 * through WEFT_FAIL (what, where, what to do); its callers pass the status up with WEFT_TRY and print
 * nothing. Outputs are set on success only. Only main() ends the process: weft_status_exit_code() is its
 * return value. */
#ifndef WEFT_STATUS_H
#define WEFT_STATUS_H

typedef enum weft_status {
    WEFT_OK = 0,
    WEFT_EINPUT,    /* the user's input: configuration, arguments, data files           exit 2 */
    WEFT_EIO,       /* a file could not be read or written, disk full                   exit 2 */
    WEFT_ENOMEM,    /* not enough memory                                                exit 1 */
    WEFT_EINTERNAL, /* an invariant of weft does not hold                               exit 1 */
    WEFT_EREMOTE,   /* another rank failed and has reported it                          exit as that rank's */
    WEFT_ESTOPPED,  /* asked to stop by a signal; state was saved                       exit 75 */
} weft_status;

/* Formats "error: MESSAGE" through the log and returns `status`. */
weft_status weft_fail(weft_status status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define WEFT_FAIL(status, ...) return weft_fail((status), __VA_ARGS__)

#define WEFT_TRY(expr)                                                                                       \
    do {                                                                                                     \
        weft_status weft_try_status_ = (expr);                                                               \
        if (weft_try_status_ != WEFT_OK) return weft_try_status_;                                            \
    } while (0)

/* The same with a cleanup label: sets `var` and jumps. */
#define WEFT_GOTO(var, label, expr)                                                                          \
    do {                                                                                                     \
        (var) = (expr);                                                                                      \
        if ((var) != WEFT_OK) goto label;                                                                    \
    } while (0)

int weft_status_exit_code(weft_status status);

/* Reports an invariant that does not hold and aborts; for programming errors, never for user input. */
void weft_panic(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), noreturn));
#define WEFT_CHECK(cond, ...)                                                                                \
    do {                                                                                                     \
        if (__builtin_expect(!(cond), 0)) weft_panic(__FILE__, __LINE__, __VA_ARGS__);                       \
    } while (0)

#endif
