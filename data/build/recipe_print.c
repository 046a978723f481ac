#include "data/build/recipe_fields.h"

#include <math.h>

static void print_text(const char *value, FILE *out) {
    putc('"', out);
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p < 0x20)
            fprintf(out, "\\x%02x", *p);
        else
            putc(*p, out);
    }
    putc('"', out);
}

static void print_field(const weft_recipe_field *f, const void *base, FILE *out) {
    const void *at = (const char *)base + f->offset;
    int length;
    const char *choice;
    switch (f->type) {
    case FIELD_TEXT:
        print_text(*(char *const *)at, out);
        break;
    case FIELD_INT:
        fprintf(out, "%lld", (long long)*(const int64_t *)at);
        break;
    case FIELD_REAL:
        fprintf(out, "%.17g", *(const double *)at);
        break;
    case FIELD_BOOL:
        fputs(*(const bool *)at ? "true" : "false", out);
        break;
    case FIELD_CHOICE:
        choice = weft_recipe_choice(f->choices, *(const int64_t *)at, &length);
        fprintf(out, "%.*s", length, choice);
        break;
    }
}

static void print_fields(const weft_recipe_field *fields, int count, const void *base, const char *indent,
                         FILE *out) {
    for (int i = 0; i < count; i++) {
        fprintf(out, "%s%s: ", indent, fields[i].key);
        print_field(&fields[i], base, out);
        putc('\n', out);
    }
}

static void print_filter(const weft_recipe_filter *f, FILE *out) {
    fprintf(out, "  %s:\n    tag: %s\n    domains: ", f->kind->name, f->tag ? "true" : "false");
    print_text(f->domains, out);
    putc('\n', out);
    for (int i = 0; i < f->kind->rule_count; i++) {
        const weft_rule *rule = &f->kind->rules[i];
        if (isnan(f->bounds[i]))
            fprintf(out, "    %s: off\n", rule->name);
        else if (rule->kind == WEFT_RULE_FLAG)
            fprintf(out, "    %s: on\n", rule->name);
        else
            fprintf(out, "    %s: %.17g\n", rule->name, f->bounds[i]);
    }
    for (int i = 0; i < f->kind->option_count; i++)
        if (f->options[i]) {
            fprintf(out, "    %s: ", f->kind->options[i]);
            print_text(f->options[i], out);
            putc('\n', out);
        }
}

weft_status weft_recipe_print(const weft_recipe *r, FILE *out) {
    print_fields(weft_recipe_sections[0].fields, weft_recipe_sections[0].count, r, "", out);
    fprintf(out, "sources:\n");
    for (int i = 0; i < r->source_count; i++) {
        fprintf(out, "  %s:\n", r->sources[i].name);
        print_fields(weft_recipe_source_fields, weft_recipe_source_field_count, &r->sources[i], "    ", out);
    }
    if (r->filter_count > 0) fprintf(out, "filters:\n");
    for (int i = 0; i < r->filter_count; i++) print_filter(&r->filters[i], out);
    for (int i = 1; i < weft_recipe_section_count; i++) {
        if (!*(const bool *)((const char *)r + weft_recipe_sections[i].present)) continue;
        fprintf(out, "%s:\n", weft_recipe_sections[i].name);
        print_fields(weft_recipe_sections[i].fields, weft_recipe_sections[i].count, r, "  ", out);
    }
    if (ferror(out)) WEFT_FAIL(WEFT_EIO, "the recipe cannot be written");
    return WEFT_OK;
}

static void explain_fields(const weft_recipe_field *fields, int count, FILE *out) {
    for (int i = 0; i < count; i++) {
        const char *value = *fields[i].preset ? fields[i].preset : "\"\"";
        fprintf(out, "  %-18s %-14s %s%s%s%s\n", fields[i].key, value, fields[i].doc,
                fields[i].choices ? " (" : "", fields[i].choices ? fields[i].choices : "",
                fields[i].choices ? ")" : "");
    }
}

weft_status weft_recipe_explain(FILE *out) {
    fprintf(out, "of the recipe itself\n");
    explain_fields(weft_recipe_sections[0].fields, weft_recipe_sections[0].count, out);
    fprintf(out, "\nsources.NAME: where documents come from\n");
    explain_fields(weft_recipe_source_fields, weft_recipe_source_field_count, out);
    fprintf(out,
            "\nfilters.KIND: in the recipe's order; tag: true notes the verdict and keeps the document;\n"
            "domains: only these; a rule's value is its bound, or off\n");
    for (int i = 0; i < weft_filter_kind_count; i++) {
        const weft_filter_kind *k = weft_filter_kinds[i];
        fprintf(out, "\n  filters.%s: %s\n", k->name, k->summary);
        for (int j = 0; j < k->option_count; j++) fprintf(out, "    %s\n", k->options[j]);
        for (int j = 0; j < k->rule_count; j++) {
            const weft_rule *rule = &k->rules[j];
            if (rule->kind == WEFT_RULE_FLAG)
                fprintf(out, "    %-28s on          %s (%s)\n", rule->name, rule->meaning, rule->source);
            else
                fprintf(out, "    %-28s %s %-8.4g %s (%s)\n", rule->name,
                        rule->kind == WEFT_RULE_MIN ? ">=" : "<=", rule->bound, rule->meaning, rule->source);
        }
    }
    for (int i = 1; i < weft_recipe_section_count; i++) {
        fprintf(out, "\n%s: %s\n", weft_recipe_sections[i].name, weft_recipe_sections[i].doc);
        explain_fields(weft_recipe_sections[i].fields, weft_recipe_sections[i].count, out);
    }
    if (ferror(out)) WEFT_FAIL(WEFT_EIO, "the keys cannot be written");
    return WEFT_OK;
}
