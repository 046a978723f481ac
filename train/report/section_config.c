/* The configuration: what differs between the variants, and what all have. */
#include "train/report/report_internal.h"

#include <stdlib.h>
#include <string.h>

/* A key's value as it is shown. */
static const char *shown(const weft_yaml_entry *e) {
    return e->value ? (*e->value ? e->value : "\"\"") : "{}";
}

static const weft_yaml_entry *entry_of(const report_run *run, const char *key) {
    for (int i = 0; i < run->config.count; i++)
        if (strcmp(run->config.entries[i].key, key) == 0) return &run->config.entries[i];
    return NULL;
}

/* Values of a group's runs, each once, joined by commas; escaped. malloc'ed, NULL: no memory. */
static char *values_of(const report *r, int group, const char *key) {
    const report_group *g = &r->groups[group];
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (int i = 0; out && i < g->count; i++) {
        const weft_yaml_entry *e = entry_of(&r->runs[g->runs[i]], key), *other = NULL;
        bool known = !e;
        for (int k = 0; k < i && !known; k++) {
            other = entry_of(&r->runs[g->runs[k]], key);
            known = other && strcmp(shown(other), shown(e)) == 0;
        }
        if (known) continue;
        if (ftell(out) > 0) fputs(", ", out);
        weft_page_string(out, shown(e));
    }
    if (!out || fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void put_key(FILE *out, const char *key) {
    fputs("<tr><th scope=\"row\"><code>", out);
    weft_page_string(out, key);
    fputs("</code></th>", out);
}

/* A row of the differences, or of what is common. */
static void put_row(FILE *differing, FILE *common, report *r, const char *key) {
    char *first = values_of(r, 0, key);
    bool same = true;
    for (int g = 1; g < r->group_count && first; g++) {
        char *other = values_of(r, g, key);
        same = same && other && strcmp(first, other) == 0;
        r->no_memory = r->no_memory || !other;
        free(other);
    }
    put_key(same ? common : differing, key);
    for (int g = 0; g < r->group_count; g++) {
        char *text = values_of(r, g, key);
        if (!same || g == 0)
            fprintf(same ? common : differing, "<td class=\"text\">%s</td>",
                    text && *text ? text : "\xe2\x80\x93");
        r->no_memory = r->no_memory || !text;
        free(text);
    }
    fputs("</tr>\n", same ? common : differing);
    r->no_memory = r->no_memory || !first;
    free(first);
}

/* Is the key also of a run before, or earlier of this one? */
static bool seen_before(const report *r, int run, const char *key) {
    for (int i = 0; i < run; i++)
        if (entry_of(&r->runs[i], key)) return true;
    return false;
}

static void all_rows(FILE *differing, FILE *common, report *r) {
    for (int i = 0; i < r->run_count; i++)
        for (int k = 0; k < r->runs[i].config.count; k++) {
            const weft_yaml_entry *e = &r->runs[i].config.entries[k];
            bool mapping = !e->value && !e->empty;
            if (mapping || strcmp(e->key, "run") == 0 || seen_before(r, i, e->key)) continue;
            put_row(differing, common, r, e->key);
        }
}

static void put_differing(FILE *out, const report *r, const char *rows) {
    fputs("<p class=\"note\">Keys of the configuration in which the variants differ.</p>\n<div "
          "class=\"wide\"><table>\n<thead><tr><th>Key</th>",
          out);
    for (int g = 0; g < r->group_count; g++) {
        fputs("<th>", out);
        report_who(out, g, r->groups[g].name, "");
        fputs("</th>", out);
    }
    fprintf(out, "</tr></thead>\n<tbody>\n%s</tbody></table></div>\n", rows);
}

void report_configuration(FILE *out, report *r) {
    char *differing = NULL, *common = NULL;
    size_t differing_size = 0, common_size = 0;
    FILE *a = open_memstream(&differing, &differing_size), *b = open_memstream(&common, &common_size);
    if (a && b) all_rows(a, b, r);
    r->no_memory = r->no_memory || !a || !b;
    if (a) r->no_memory = fclose(a) != 0 || r->no_memory;
    if (b) r->no_memory = fclose(b) != 0 || r->no_memory;
    if (differing_size > 0) put_differing(out, r, differing);
    if (common_size > 0)
        fprintf(out,
                "<details><summary>%s</summary><div><div "
                "class=\"wide\"><table><tbody>\n%s</tbody></table></div></div>"
                "</details>\n",
                r->run_count > 1 ? "What all have in common" : "The configuration", common);
    free(differing);
    free(common);
}
