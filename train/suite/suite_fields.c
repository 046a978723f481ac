/* The table of the suite's settings: parsing, checks, text and reference follow it; and the list of tasks. */
#include "runtime/fs.h"
#include "runtime/text.h"
#include "runtime/yaml.h"
#include "train/suite/suite_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const weft_suite_task weft_suite_tasks[] = {
    [WEFT_SUITE_BITS] = {"bits",
                         "loss, perplexity and bits per byte of held-out text, by domain and sequence"},
    [WEFT_SUITE_RECALL] = {"recall", "multi-query associative recall (Arora et al., arXiv 2312.04927)"},
    [WEFT_SUITE_COPY] = {"copy", "a line of words, repeated (Olsson et al., arXiv 2209.11895)"},
    [WEFT_SUITE_LABELS] = {"labels", "few-shot classification, with drawn labels and with the groups' names"},
    [WEFT_SUITE_NEEDLE] = {"needle", "needle in a haystack, over length and depth"},
    [WEFT_SUITE_CHOICES] = {"choices", "multiple choice by log-likelihood, from a jsonl file (choices.file)"},
    [WEFT_SUITE_INDUCTION] = {"induction", "prefix matching of every attention head"},
    [WEFT_SUITE_ACTIVATIONS] = {"activations", "largest activations of every layer, load of every expert"},
    [WEFT_SUITE_CONTEXT] = {"context", "speed and memory against the length of the context"},
};
const int weft_suite_tasks_count = WEFT_SUITE_TASKS;
_Static_assert(sizeof weft_suite_tasks / sizeof *weft_suite_tasks == WEFT_SUITE_TASKS, "every task is named");

typedef enum field_type { FIELD_INT, FIELD_LIST, FIELD_TEXT } field_type;

typedef struct field {
    const char *key;
    field_type type;
    size_t offset, size; /* in weft_suite; size: TEXT only */
    int64_t low, high;   /* of each number */
    const char *preset, *doc;
} field;

#define MEMBER(m) (((weft_suite *)0)->m)
/* The offset of a member; a member whose type is not the row's does not compile. */
#define AT(type_, m) (offsetof(weft_suite, m) + 0 * sizeof(_Generic(MEMBER(m), type_ : 1)))
#define INT(k, m, d, a, b, t)                                                                                \
    { .key = k, .type = FIELD_INT, .offset = AT(int64_t, m), .preset = d, .low = a, .high = b, .doc = t }
#define LIST(k, m, d, a, b, t)                                                                               \
    {                                                                                                        \
        .key = k, .type = FIELD_LIST, .offset = AT(weft_suite_list, m), .preset = d, .low = a, .high = b,    \
        .doc = t                                                                                             \
    }
#define TEXT(k, m, d, t)                                                                                     \
    { .key = k, .type = FIELD_TEXT, .offset = AT(char *, m), .size = sizeof MEMBER(m), .preset = d, .doc = t }

#define MANY 1000000
#define LONG (INT64_C(1) << 30)

static const field fields[] = {
    TEXT("tasks", tasks, "all",
         "Tasks, separated by commas, or all: every task, choices only with choices.file. What the model or "
         "its data cannot do is an error, and with all it is skipped."),
    INT("seed", seed, "1", 0, INT64_MAX, "Seed of synthetic documents and random tokens."),
    INT("vocabulary", vocabulary, "256", 2, 256,
        "Words that recall, copy and needle draw from: as many as the model was trained on."),
    INT("batch", batch, "8", 1, INT64_C(1) << 20,
        "Sequences at a time; of answers, fewer where they are long: batch * train.seq_len tokens at most, "
        "or one sequence."),
    TEXT("bits.data", bits.data, "", "Directory of shards; empty: the run's data.path."),
    TEXT("bits.split", bits.split, "heldout", "Split: heldout or train."),
    INT("bits.seq_len", bits.seq_len, "0", 0, LONG, "Tokens of a sequence; 0: the run's train.seq_len."),
    INT("bits.max_sequences", bits.max_sequences, "0", 0, INT64_MAX, "Sequences of each domain; 0: all."),
    LIST("recall.pairs", recall.pairs, "4, 8, 16, 32", 1, 256, "Pairs of a document; all are asked for."),
    INT("recall.documents", recall.documents, "32", 1, MANY, "Documents of each number of pairs."),
    LIST("copy.words", copy.words, "8, 16, 32, 64", 2, 100000, "Words of the line that is repeated."),
    INT("copy.documents", copy.documents, "32", 1, MANY, "Documents of each number of words."),
    LIST("labels.examples", labels.examples, "4, 8, 16, 32", 2, 100000,
         "Lines of a document; the last one is asked for."),
    INT("labels.classes", labels.classes, "3", 2, 8, "Groups of words, each with a label."),
    INT("labels.documents", labels.documents, "64", 1, MANY,
        "Documents of each number of examples, with drawn labels and again with the groups' names."),
    LIST("needle.lengths", needle.lengths, "512, 1024, 2048, 4096, 8192", 16, LONG,
         "Tokens of a document, at most: as many sentences as fit."),
    INT("needle.depths", needle.depths, "5", 1, 256,
        "Places of the needle that is asked for, evenly from the start to the end; 1: in the middle."),
    INT("needle.documents", needle.documents, "4", 1, MANY, "Documents of each length and depth."),
    INT("needle.needles", needle.needles, "1", 1, 64,
        "Needles in a document. The first that is asked for counts; the others stand at drawn places."),
    TEXT(
        "choices.file", choices.file, "",
        "One JSON object a line: the text before in `query`, else `context`, else `question`; a list of two "
        "or more strings `choices`; which one is right in `gold`, else `answer`, else `label`: its index "
        "from 0 (2 or \"2\"), its text, or its letter (\"C\"), a text before a letter before an index. The "
        "choice follows the text behind a space, unless it begins with one or the text is empty or ends with "
        "white space. Other members are ignored."),
    TEXT("induction.text", induction.text, "random",
         "random: tokens of the whole vocabulary; copy: documents of the task copy, for models that know "
         "little "
         "else."),
    INT("induction.tokens", induction.tokens, "64", 2, MANY, "Tokens, or words, which are then repeated."),
    INT("induction.documents", induction.documents, "8", 1, MANY, "Sequences of them."),
    INT("activations.sequences", activations.sequences, "8", 1, MANY,
        "Sequences of each domain of bits.data, of bits.seq_len tokens; random tokens without data."),
    LIST("context.lengths", context.lengths, "1024, 2048, 4096, 8192", 1, LONG, "Tokens of the context."),
    INT("context.decode", context.decode, "32", 1, MANY, "Tokens decoded behind it."),
};
enum { FIELDS = sizeof fields / sizeof *fields };

/* ---- text to value ------------------------------------------------------------------------------ */

/* A whole number, with underscores between digits; *text moves behind it and the spaces around it. */
static bool read_number(const char **text, int64_t *out) {
    char digits[32], *end;
    size_t n = 0;
    const char *p = *text + strspn(*text, " ");
    for (; (*p >= '0' && *p <= '9') || *p == '_' || (n == 0 && *p == '-'); p++) {
        if (*p == '_' && (n == 0 || p[-1] == '_' || p[1] < '0' || p[1] > '9')) return false;
        if (n + 1 == sizeof digits) return false;
        if (*p != '_') digits[n++] = *p;
    }
    digits[n] = '\0';
    errno = 0;
    *out = strtoll(digits, &end, 10);
    if (end == digits || *end || errno) return false;
    *text = p + strspn(p, " ");
    return true;
}

static weft_status out_of_range(const field *f, int64_t x, const char *where) {
    if (f->high == INT64_MAX)
        WEFT_FAIL(WEFT_EINPUT, "%s: %s is %lld; it must be at least %lld", where, f->key, (long long)x,
                  (long long)f->low);
    WEFT_FAIL(WEFT_EINPUT, "%s: %s is %lld; it must be from %lld to %lld", where, f->key, (long long)x,
              (long long)f->low, (long long)f->high);
}

static weft_status set_numbers(const field *f, void *value, const char *text, const char *where) {
    weft_suite_list list = {.count = 0};
    int most = f->type == FIELD_LIST ? WEFT_SUITE_MAX : 1;
    for (const char *p = text;; p++) {
        int64_t x;
        if (!read_number(&p, &x) || (*p && *p != ',') || (*p && most == 1))
            WEFT_FAIL(WEFT_EINPUT, "%s: %s wants %s, not '%.200s'", where, f->key,
                      most == 1 ? "an integer" : "integers, separated by commas", text);
        if (x < f->low || x > f->high) return out_of_range(f, x, where);
        if (list.count == most)
            WEFT_FAIL(WEFT_EINPUT, "%s: %s has more than %d numbers", where, f->key, most);
        list.of[list.count++] = x;
        if (!*p) break;
    }
    if (f->type == FIELD_LIST)
        *(weft_suite_list *)value = list;
    else
        *(int64_t *)value = list.of[0];
    return WEFT_OK;
}

static weft_status set_text(const field *f, char *value, const char *text, const char *where) {
    size_t n = strlen(text);
    if (n >= f->size)
        WEFT_FAIL(WEFT_EINPUT, "%s: %s has %zu bytes; at most %zu fit", where, f->key, n, f->size - 1);
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            WEFT_FAIL(WEFT_EINPUT, "%s: %s holds a control character", where, f->key);
    memset(value, 0, f->size); /* two equal suites are equal bytes */
    memcpy(value, text, n);
    return WEFT_OK;
}

static weft_status set_field(weft_suite *s, const field *f, const char *text, const char *where) {
    void *value = (char *)s + f->offset;
    return f->type == FIELD_TEXT ? set_text(f, value, text, where) : set_numbers(f, value, text, where);
}

static weft_status unknown_key(const char *key, const char *where) {
    const char *names[FIELDS];
    for (int i = 0; i < FIELDS; i++) names[i] = fields[i].key;
    int near = weft_nearest(key, names, FIELDS);
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: unknown setting '%s'; did you mean '%s'?", where, key, names[near]);
    WEFT_FAIL(WEFT_EINPUT, "%s: unknown setting '%s' (`weft eval --doc` lists all)", where, key);
}

weft_status weft_suite_set(weft_suite *s, const char *assignment, const char *where) {
    char key[64];
    const char *equals = strchr(assignment, '=');
    if (!equals) WEFT_FAIL(WEFT_EINPUT, "%s: '%.200s' is no setting: key=value", where, assignment);
    size_t n = (size_t)(equals - assignment);
    snprintf(key, sizeof key, "%.*s", (int)(n < sizeof key ? n : sizeof key - 1), assignment);
    for (int i = 0; i < FIELDS; i++)
        if (strcmp(key, fields[i].key) == 0) return set_field(s, &fields[i], equals + 1, where);
    return unknown_key(key, where);
}

void weft_suite_defaults(weft_suite *s) {
    memset(s, 0, sizeof *s);
    for (int i = 0; i < FIELDS; i++) {
        weft_status st = set_field(s, &fields[i], fields[i].preset, "default");
        WEFT_CHECK(st == WEFT_OK, "the default of %s is refused", fields[i].key);
    }
}

static weft_status set_entry(weft_suite *s, const weft_yaml_entry *e, const char *path) {
    if (!e->value) return WEFT_OK; /* opens a mapping */
    char *where = weft_format("%s:%zu:%zu", path, e->line, e->column),
         *assignment = weft_format("%s=%s", e->key, e->value);
    weft_status st = where && assignment ? weft_suite_set(s, assignment, where)
                                         : weft_fail(WEFT_ENOMEM, "no memory for the settings of %s", path);
    free(where);
    free(assignment);
    return st;
}

weft_status weft_suite_read(weft_suite *s, const char *path) {
    char *text = NULL;
    size_t bytes = 0;
    weft_yaml y = {0};
    WEFT_TRY(weft_fs_read_file(path, 1 << 20, &text, &bytes));
    weft_status st = weft_yaml_parse(&y, text, bytes, path);
    for (int i = 0; i < y.count && st == WEFT_OK; i++) st = set_entry(s, &y.entries[i], path);
    weft_yaml_free(&y);
    free(text);
    return st;
}

/* ---- the names of the tasks --------------------------------------------------------------------- */

static int task_of(const char *name) {
    for (int i = 0; i < WEFT_SUITE_TASKS; i++)
        if (strcmp(name, weft_suite_tasks[i].name) == 0) return i;
    return -1;
}

static weft_status unknown_task(const char *name) {
    const char *names[WEFT_SUITE_TASKS + 1] = {"all"};
    char all[256] = "all";
    for (int i = 0; i < WEFT_SUITE_TASKS; i++) {
        names[i + 1] = weft_suite_tasks[i].name;
        size_t n = strlen(all);
        snprintf(all + n, sizeof all - n, ", %s", names[i + 1]);
    }
    int near = weft_nearest(name, names, WEFT_SUITE_TASKS + 1);
    if (near >= 0) WEFT_FAIL(WEFT_EINPUT, "unknown task '%s'; did you mean '%s'?", name, names[near]);
    WEFT_FAIL(WEFT_EINPUT, "unknown task '%s'; there are %s", name, all);
}

static weft_status read_tasks(const char *text, bool *all, bool wanted[WEFT_SUITE_TASKS]) {
    char copy[sizeof MEMBER(tasks)], *rest = copy, *name;
    snprintf(copy, sizeof copy, "%s", text);
    *all = false;
    memset(wanted, 0, WEFT_SUITE_TASKS * sizeof *wanted);
    while ((name = strsep(&rest, ","))) {
        name += strspn(name, " ");
        name[strcspn(name, " ")] = '\0';
        if (!*name)
            WEFT_FAIL(WEFT_EINPUT, "tasks: '%s' wants names of tasks, separated by commas, or all", text);
        int i = task_of(name);
        if (strcmp(name, "all") == 0)
            *all = true;
        else if (i < 0)
            return unknown_task(name);
        else
            wanted[i] = true;
    }
    return WEFT_OK;
}

bool weft_suite_wants_all(const weft_suite *s) {
    return strcmp(s->tasks, "all") == 0;
}

void weft_suite_wanted(const weft_suite *s, bool wanted[WEFT_SUITE_TASKS]) {
    bool all;
    weft_status st = read_tasks(s->tasks, &all, wanted);
    WEFT_CHECK(st == WEFT_OK, "the suite is not finished");
    for (int i = 0; i < WEFT_SUITE_TASKS && all; i++) wanted[i] = i != WEFT_SUITE_CHOICES || *s->choices.file;
}

weft_status weft_suite_finish(weft_suite *s) {
    bool all, wanted[WEFT_SUITE_TASKS];
    WEFT_TRY(read_tasks(s->tasks, &all, wanted));
    if (wanted[WEFT_SUITE_CHOICES] && !*s->choices.file)
        WEFT_FAIL(WEFT_EINPUT, "the task choices needs a file: choices.file=FILE.jsonl");
    for (int i = 0; i < s->recall.pairs.count; i++)
        if (wanted[WEFT_SUITE_RECALL] && s->recall.pairs.of[i] > s->vocabulary)
            WEFT_FAIL(WEFT_EINPUT,
                      "recall.pairs: %lld different keys need a vocabulary of as many; it is %lld",
                      (long long)s->recall.pairs.of[i], (long long)s->vocabulary);
    if (wanted[WEFT_SUITE_NEEDLE] && 2 * s->needle.needles > s->vocabulary)
        WEFT_FAIL(WEFT_EINPUT,
                  "needle.needles: %lld keys and values need a vocabulary of as many; it is %lld",
                  (long long)s->needle.needles, (long long)s->vocabulary);
    if (strcmp(s->induction.text, "random") != 0 && strcmp(s->induction.text, "copy") != 0)
        WEFT_FAIL(WEFT_EINPUT, "induction.text is '%s'; it must be random or copy", s->induction.text);
    char names[sizeof s->tasks] = "";
    for (int i = 0; i < WEFT_SUITE_TASKS; i++) {
        size_t n = strlen(names);
        if (wanted[i]) snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", weft_suite_tasks[i].name);
    }
    memset(s->tasks, 0, sizeof s->tasks);
    snprintf(s->tasks, sizeof s->tasks, "%s", all ? "all" : names);
    return WEFT_OK;
}

/* ---- value to text ------------------------------------------------------------------------------ */

static void print_value(const weft_suite *s, const field *f, FILE *out) {
    const void *value = (const char *)s + f->offset;
    const weft_suite_list *list = value;
    if (f->type == FIELD_TEXT)
        fputs(value, out);
    else if (f->type == FIELD_INT)
        fprintf(out, "%lld", (long long)*(const int64_t *)value);
    for (int i = 0; f->type == FIELD_LIST && i < list->count; i++)
        fprintf(out, "%s%lld", i ? ", " : "", (long long)list->of[i]);
}

char *weft_suite_text(const weft_suite *s) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return NULL;
    for (int i = 0; i < FIELDS; i++) {
        fprintf(out, "%s=", fields[i].key);
        print_value(s, &fields[i], out);
        fputc('\n', out);
    }
    bool failed = ferror(out) != 0;
    if (fclose(out) == 0 && !failed) return text;
    free(text);
    return NULL;
}

static void print_doc_field(const field *f, FILE *out) {
    static const char *const types[] = {
        [FIELD_INT] = "integer", [FIELD_LIST] = "integers, separated by commas", [FIELD_TEXT] = "text"};
    fprintf(out, "- `%s`: %s", f->key, types[f->type]);
    if (f->type != FIELD_TEXT && f->high == INT64_MAX)
        fprintf(out, ", at least %lld", (long long)f->low);
    else if (f->type != FIELD_TEXT)
        fprintf(out, ", from %lld to %lld", (long long)f->low, (long long)f->high);
    fprintf(out, *f->preset ? "; default `%s`\n  %s\n" : "; default empty%s\n  %s\n", f->preset, f->doc);
}

void weft_suite_print_doc(FILE *out) {
    fputs("# Evaluation suite\n\n"
          "What `weft eval MODEL --suite TASKS [key=value ...]` runs. Settings also come from a YAML file "
          "(`--settings`), nested or\ndotted, and from the `eval` section of an ablation. Integers may have "
          "underscores (1_000).\n\n## Tasks\n\n",
          out);
    for (int i = 0; i < weft_suite_tasks_count; i++)
        fprintf(out, "- `%s`: %s\n", weft_suite_tasks[i].name, weft_suite_tasks[i].doc);
    fputs("\n## Settings\n\n", out);
    for (int i = 0; i < FIELDS; i++) print_doc_field(&fields[i], out);
}
