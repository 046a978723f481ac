#include "train/options.h"

#include "runtime/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 64, NAME = 64 };

/* Names of one letter are written -o, longer ones --out. */
static const char *dashes(const char *name) {
    return name[1] ? "--" : "-";
}

static void print_option(const char *left, const char *doc) {
    printf("  %-22s%s%s\n", left, strlen(left) >= 22 ? "\n                        " : "", doc);
}

static void print_help(const weft_usage *u, const weft_option *options, int count) {
    char left[128];
    printf("usage: %s%s%s%s\n\n%s\n\noptions:\n", u->command, count ? " [options]" : "",
           u->positional[0] ? " " : "", u->positional, u->text);
    for (int i = 0; i < count; i++) {
        const weft_option *o = &options[i];
        snprintf(left, sizeof left, "%s%s%s%s", dashes(o->name), o->name, o->arg ? " " : "",
                 o->arg ? o->arg : "");
        print_option(left, o->doc);
    }
    print_option("--help", "this text");
}

static weft_status unknown_failure(const weft_usage *u, const weft_option *options, int count,
                                   const char *given) {
    char texts[MAX_OPTIONS][NAME];
    const char *names[MAX_OPTIONS];
    int known = count < MAX_OPTIONS ? count : MAX_OPTIONS;
    for (int i = 0; i < known; i++) {
        snprintf(texts[i], NAME, "%s%s", dashes(options[i].name), options[i].name);
        names[i] = texts[i];
    }
    int near = weft_nearest(given, names, known);
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: unknown option '%s'; did you mean '%s'?", u->command, given, names[near]);
    WEFT_FAIL(WEFT_EINPUT, "%s: unknown option '%s' (%s --help lists all)", u->command, given, u->command);
}

static const weft_option *find(const weft_option *options, int count, const char *arg, size_t length) {
    for (int i = 0; i < count; i++) {
        const char *d = dashes(options[i].name);
        size_t n = strlen(d);
        if (length == n + strlen(options[i].name) && strncmp(arg, d, n) == 0 &&
            strncmp(arg + n, options[i].name, length - n) == 0)
            return &options[i];
    }
    return NULL;
}

static weft_status set_value(const weft_usage *u, const weft_option *o, const char *text) {
    char *end = NULL;
    errno = 0;
    if (o->kind == WEFT_OPT_STRING) {
        *(const char **)o->value = text;
        return WEFT_OK;
    }
    if (o->kind == WEFT_OPT_INT) {
        long long v = strtoll(text, &end, 10);
        if (end != text && !*end && errno == 0) {
            *(int64_t *)o->value = v;
            return WEFT_OK;
        }
    } else {
        double v = strtod(text, &end);
        if (end != text && !*end && isfinite(v)) {
            *(double *)o->value = v;
            return WEFT_OK;
        }
    }
    WEFT_FAIL(WEFT_EINPUT, "%s: %s%s wants %s, not '%s'", u->command, dashes(o->name), o->name,
              o->kind == WEFT_OPT_INT ? "an integer" : "a number", text);
}

/* argv[i] is an option; *used is set when argv[i + 1] was its value. */
static weft_status parse_option(const weft_usage *u, const weft_option *options, int count, int argc,
                                char **argv, int i, bool *used) {
    const char *arg = argv[i], *equals = strchr(arg, '=');
    char given[NAME];
    size_t length = equals ? (size_t)(equals - arg) : strlen(arg);
    const weft_option *o = find(options, count, arg, length);
    *used = false;
    snprintf(given, sizeof given, "%.*s", (int)(length < NAME ? length : NAME - 1), arg);
    if (!o) return unknown_failure(u, options, count, given);
    if (o->kind == WEFT_OPT_FLAG) {
        if (equals) WEFT_FAIL(WEFT_EINPUT, "%s: %s takes no value", u->command, given);
        *(bool *)o->value = true;
        return WEFT_OK;
    }
    if (equals) return set_value(u, o, equals + 1);
    /* A text that looks like an option is more likely one whose value was forgotten: --out --json. */
    if (i + 1 == argc || (o->kind == WEFT_OPT_STRING && argv[i + 1][0] == '-' && argv[i + 1][1]))
        WEFT_FAIL(WEFT_EINPUT, "%s: %s wants a value: %s %s (or %s=... for one that begins with a dash)",
                  u->command, given, given, o->arg ? o->arg : "VALUE", given);
    *used = true;
    return set_value(u, o, argv[i + 1]);
}

weft_status weft_options_parse(const weft_usage *u, const weft_option *options, int count, int argc,
                               char **argv, int *positional, bool *help) {
    int found = 0;
    bool only_positional = false;
    *help = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) break;
        if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
        if (strcmp(argv[i], "-h") == 0 && find(options, count, "-h", 2)) continue;
        print_help(u, options, count);
        *help = true;
        return WEFT_OK;
    }
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        bool used = false;
        if (!only_positional && strcmp(arg, "--") == 0) {
            only_positional = true;
        } else if (only_positional || arg[0] != '-' || !arg[1]) {
            argv[++found] = arg; /* found < i: what is overwritten has been read */
        } else {
            WEFT_TRY(parse_option(u, options, count, argc, argv, i, &used));
            i += used;
        }
    }
    if (found < u->min_positional)
        WEFT_FAIL(WEFT_EINPUT, "%s: an argument is missing; usage: %s %s", u->command, u->command,
                  u->positional);
    if (u->max_positional >= 0 && found > u->max_positional)
        WEFT_FAIL(WEFT_EINPUT, "%s: unexpected argument '%s'; usage: %s %s", u->command,
                  argv[u->max_positional + 1], u->command, u->positional);
    *positional = found;
    return WEFT_OK;
}
