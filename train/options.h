/* Command-line options of the subcommands: "--name value", "--name=value", flags, and positional arguments.
 * The same table parses, prints --help and complains about unknown options with the nearest known one. */
#ifndef WEFT_OPTIONS_H
#define WEFT_OPTIONS_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum weft_option_kind {
    WEFT_OPT_FLAG,
    WEFT_OPT_STRING,
    WEFT_OPT_INT,
    WEFT_OPT_REAL
} weft_option_kind;

typedef struct weft_option {
    const char *name; /* without dashes */
    weft_option_kind kind;
    void *value;     /* bool, const char *, int64_t, double: holds the default before */
    const char *arg; /* name of the value in --help: "FILE" */
    const char *doc;
} weft_option;

typedef struct weft_usage {
    const char *command;                /* "weft eval" */
    const char *positional;             /* "MODEL [key=value ...]" */
    const char *text;                   /* what it does */
    int min_positional, max_positional; /* max -1: any number */
} weft_usage;

/* Parses argv[1..]; positional arguments are moved to the front of argv[1..] and counted in *positional.
 * Prints the usage and sets *help when --help is there; the caller then returns WEFT_OK. */
weft_status weft_options_parse(const weft_usage *u, const weft_option *options, int count, int argc,
                               char **argv, int *positional, bool *help);

#endif
