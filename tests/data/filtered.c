#include "filtered.h"
#include "made_data.h"
#include "runtime/fs.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

const weft_filter_kind *filtered_kind(const char *name) {
    for (int i = 0; i < weft_filter_kind_count; i++)
        if (strcmp(weft_filter_kinds[i]->name, name) == 0) return weft_filter_kinds[i];
    ck_abort_msg("no filter %s", name);
}

int filtered_rule(const weft_filter_kind *k, const char *rule) {
    for (int i = 0; i < k->rule_count; i++)
        if (strcmp(k->rules[i].name, rule) == 0) return i;
    ck_abort_msg("no rule %s in %s", rule, k->name);
}

weft_status filtered_try(filtered *f, const char *kind, const char *const *options) {
    *f = (filtered){.kind = filtered_kind(kind)};
    const char *values[16] = {0};
    for (; options && *options; options += 2) {
        int i = 0;
        while (i < f->kind->option_count && strcmp(f->kind->options[i], options[0]) != 0) i++;
        ck_assert_int_lt(i, f->kind->option_count);
        values[i] = options[1];
    }
    WEFT_TRY(weft_words_new(&f->words));
    return f->kind->open ? f->kind->open(&f->state, values) : WEFT_OK;
}

void filtered_open(filtered *f, const char *kind, const char *const *options) {
    ck_assert_int_eq(filtered_try(f, kind, options), WEFT_OK);
}

void filtered_close(filtered *f) {
    if (f->kind->close) f->kind->close(f->state);
    weft_words_free(f->words);
    weft_text_free(&f->changed);
}

void filtered_run(filtered *f, const char *text, size_t bytes, const char *url, const char *file) {
    const weft_word *words;
    size_t count;
    ck_assert_int_eq(weft_words_split(f->words, text, bytes, &words, &count), WEFT_OK);
    weft_filter_input in = {text, bytes, url ? url : "", file ? file : "", words, count};
    for (int i = 0; i < WEFT_FILTER_MAX_RULES; i++) f->values[i] = -1e300; /* what no signal is */
    ck_assert_int_eq(f->kind->signals(f->state, &in, f->values, &f->changed, &f->has_changed), WEFT_OK);
}

double filtered_value(filtered *f, const char *rule) {
    return f->values[filtered_rule(f->kind, rule)];
}

const char *filtered_file(const char *content) {
    static char paths[16][WEFT_PATH_SIZE];
    static const char *dir;
    static int count;
    if (!dir) dir = made_dir();
    ck_assert_int_lt(count, 16);
    char *path = paths[count];
    ck_assert_int_eq(weft_fs_path(path, "%s/list%d", dir, count++), WEFT_OK);
    ck_assert_int_eq(weft_fs_create_file(path, content, strlen(content)), WEFT_OK);
    return path;
}
