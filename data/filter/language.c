/* The natural language of a text, by libexttextcat: the n-grams of its first 4 KiB compared with those of
 * some 150 languages (Cavnar and Trenkle 1994). A text passes when one of the wanted languages is among the
 * library's answers: the nearest, and those within 3 % of it. */
#include "data/filter/signals.h"
#include "runtime/fs.h"

#include <stdlib.h>
#include <string.h>
#include <textcat.h>

#define FOLDER "/usr/share/libexttextcat/"
#define LIST FOLDER "fpdb.conf"

enum { OTHER_LANGUAGE, UNDECIDED, RULES };
enum { LOOKED_AT = 4096, LIST_LIMIT = 1 << 20, SHOWN = 40 };

static const weft_rule rules[RULES] = {
    [OTHER_LANGUAGE] = {"other_language", WEFT_RULE_FLAG, 0, WEFT_SCALE_COUNT,
                        "the text is in none of the languages (undecided ones are not meant)",
                        "libexttextcat; FineWeb and C4 choose by language too"},
    [UNDECIDED] = {"undecided", WEFT_RULE_FLAG, 0, WEFT_SCALE_COUNT,
                   "the text is empty of letters, or like more than five languages at once",
                   "libexttextcat's answers SHORT and UNKNOWN"},
};
static const char *const options[] = {"languages"}; /* codes separated by commas: en, de, zh-TW */

typedef struct language {
    weft_pool *classifiers;
    weft_span *codes; /* of `text` */
    int count;
    char *text;
} language;

/* ---- options ---- */

/* Names are "en--utf8", "zh-TW-utf8": a code means all names that begin with it and a hyphen. */
static bool code_means(weft_span code, const char *name) {
    return strncmp(name, code.at, code.bytes) == 0 && name[code.bytes] == '-';
}

/* Whether the library's list, lines of a file's name and a language's name, has the language. */
static bool listed(weft_span code, const char *list) {
    for (const char *line = list; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        const char *name = line + strcspn(line, " \t\n#");
        name += strspn(name, " \t");
        if (*line != '#' && code_means(code, name)) return true;
    }
    return false;
}

static weft_status parse_codes(language *l, const char *value) {
    size_t bytes, most = 1 + weft_count_byte(value, strlen(value), ',');
    char *list;
    l->text = weft_format("%s", value);
    l->codes = calloc(most, sizeof *l->codes);
    if (!l->text || !l->codes) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filter language");
    WEFT_TRY(weft_fs_read_file(LIST, LIST_LIMIT, &list, &bytes));
    weft_span rest = {l->text, strlen(l->text)}, code;
    weft_status st = WEFT_OK;
    while (st == WEFT_OK && weft_next_part(&rest, &code)) {
        if (code.bytes == 0 || !listed(code, list))
            st = weft_fail(WEFT_EINPUT,
                           "filter language: no language \"%.*s\" in " LIST "; codes are like en, de, zh-TW",
                           (int)(code.bytes < SHOWN ? code.bytes : SHOWN), code.at);
        l->codes[l->count++] = code;
    }
    free(list);
    return st;
}

static weft_status make(void **item) {
    *item = special_textcat_Init(LIST, FOLDER);
    if (!*item)
        WEFT_FAIL(WEFT_EINPUT, "filter language: cannot read the languages of " LIST
                               "; install the package libexttextcat-data");
    return WEFT_OK;
}

static void close_filter(void *state) {
    language *l = state;
    if (!l) return;
    weft_pool_free(l->classifiers);
    free(l->codes);
    free(l->text);
    free(l);
}

static weft_status open_filter(void **state, const char *const *values) {
    if (!values[0]) WEFT_FAIL(WEFT_EINPUT, "filter language: say which languages stay: languages: en,de");
    language *l = calloc(1, sizeof *l);
    if (!l) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filter language");
    weft_status st = parse_codes(l, values[0]);
    void *first = NULL; /* made now: a damaged installation is found at once */
    if (st == WEFT_OK) st = weft_pool_new(&l->classifiers, make, textcat_Done);
    if (st == WEFT_OK) st = weft_pool_take(l->classifiers, &first);
    if (st != WEFT_OK) {
        close_filter(l);
        return st;
    }
    weft_pool_give(l->classifiers, first);
    *state = l;
    return WEFT_OK;
}

/* ---- a text ---- */

static bool wanted(const language *l, const char *name) {
    for (int i = 0; i < l->count; i++)
        if (code_means(l->codes[i], name)) return true;
    return false;
}

static weft_status classify(const language *l, void *classifier, weft_span text, double *values) {
    candidate_t *found = textcat_GetClassifyFullOutput(classifier);
    if (!found) WEFT_FAIL(WEFT_ENOMEM, "no memory to tell a text's language");
    int n = textcat_ClassifyFull(classifier, text.at, text.bytes, found);
    bool decided = n > 0, passes = false;
    for (int i = 0; i < n; i++) passes = passes || wanted(l, found[i].name);
    values[UNDECIDED] = !decided;
    values[OTHER_LANGUAGE] = decided && !passes;
    textcat_ReleaseClassifyFullOutput(classifier, found);
    return WEFT_OK;
}

static weft_status signals(void *state, const weft_filter_input *in, double *values, weft_text *changed,
                           bool *has_changed) {
    (void)changed;
    *has_changed = false;
    language *l = state;
    size_t bytes = in->bytes < LOOKED_AT ? in->bytes : LOOKED_AT;
    while (bytes < in->bytes && (in->text[bytes] & 0xc0) == 0x80) bytes--; /* whole characters */
    void *classifier;
    WEFT_TRY(weft_pool_take(l->classifiers, &classifier));
    weft_status st = classify(l, classifier, (weft_span){in->text, bytes}, values);
    weft_pool_give(l->classifiers, classifier);
    return st;
}

const weft_filter_kind weft_filter_language = {
    .name = "language",
    .summary = "texts in other languages than the ones named",
    .rules = rules,
    .rule_count = RULES,
    .options = options,
    .option_count = 1,
    .open = open_filter,
    .close = close_filter,
    .signals = signals,
};
