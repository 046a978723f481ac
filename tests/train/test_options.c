/* Options of the subcommands. */
#include "train/options.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool flag;
static const char *text;
static int64_t whole;
static double real;
static const weft_option options[] = {{"json", WEFT_OPT_FLAG, &flag, NULL, "as JSON"},
                                      {"format", WEFT_OPT_STRING, &text, "hf|gguf", "format"},
                                      {"o", WEFT_OPT_STRING, &text, "DIR", "where to"},
                                      {"seed", WEFT_OPT_INT, &whole, "N", "seed"},
                                      {"top-p", WEFT_OPT_REAL, &real, "P", "nucleus"}};
static const weft_usage usage = {"weft test", "MODEL [key=value ...]", "Tests.", 1, 3};

static char *args[16];
static int positional;
static bool help;

/* Splits at spaces and parses; messages are not of interest here. */
static weft_status parse(const char *line) {
    static char copy[256];
    char *rest = copy, *word;
    int argc = 1, saved = dup(2);
    flag = false, text = "preset", whole = 7, real = 0.5, positional = -1, help = false;
    snprintf(copy, sizeof copy, "%s", line);
    args[0] = "test";
    while ((word = strsep(&rest, " "))) args[argc++] = word;
    fflush(stderr);
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
    weft_status st = weft_options_parse(&usage, options, 5, argc, args, &positional, &help);
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    return st;
}

START_TEST(values_and_positionals) {
    ck_assert_int_eq(parse("a --seed -3 k=v --top-p=0.25 --format hf --json b"), WEFT_OK);
    ck_assert_int_eq(positional, 3);
    ck_assert_str_eq(args[1], "a");
    ck_assert_str_eq(args[2], "k=v");
    ck_assert_str_eq(args[3], "b");
    ck_assert(flag && !help);
    ck_assert_str_eq(text, "hf");
    ck_assert_int_eq(whole, -3);
    ck_assert_double_eq(real, 0.25);
    ck_assert_int_eq(parse("a -o out"), WEFT_OK);
    ck_assert_str_eq(text, "out");
    ck_assert_int_eq(parse("a --format=-x"), WEFT_OK);
    ck_assert_str_eq(text, "-x");
    ck_assert_int_eq(parse("a"), WEFT_OK); /* presets stay */
    ck_assert_str_eq(text, "preset");
    ck_assert_int_eq(whole, 7);
    ck_assert_int_eq(parse("- -- --json"), WEFT_OK);
    ck_assert_int_eq(positional, 2);
    ck_assert_str_eq(args[2], "--json");
    ck_assert(!flag);
}
END_TEST

START_TEST(mistakes) {
    static const char *const lines[] = {
        "--json",       "a b c d",       "a --jsn",           "a --json=1",
        "a --seed",     "a --seed x",    "a --seed 3x",       "a --seed=",
        "a --top-p q",  "a --top-p nan", "a --format",        "a --o out",
        "a -format hf", "a -x",          "a --format --json", "a --seed 99999999999999999999"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ck_assert_msg(parse(lines[i]) == WEFT_EINPUT, "'%s' was accepted", lines[i]);
    ck_assert_int_eq(whole, 7);
}
END_TEST

SUITE_MAIN("options", values_and_positionals, mistakes)
