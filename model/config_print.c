/* The configuration as YAML and JSON, and the reference of all keys. */
#include "model/config.h"
#include "model/config_fields.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- YAML --------------------------------------------------------------------------------------- */

/* Would every YAML reader take the bare word as this text? (Some read `yes`, `1e3` or `~` as something else.)
 */
static bool plain(const char *text) {
    static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
    if (!isalpha((unsigned char)text[0]) && text[0] != '/') return false;
    for (const char *p = text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_-./", *p)) return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(text, words[i]) == 0) return false;
    return true;
}

static void print_text(const char *text, FILE *out) {
    if (plain(text)) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\') fputc('\\', out);
        fputc(*p, out);
    }
    fputc('"', out);
}

static void print_weights(const weft_config *c, FILE *out) {
    char number[32];
    fputc('{', out);
    for (int64_t i = 0; i < c->data.weights_count; i++) {
        fputs(i ? ", " : "", out);
        print_text(c->data.weights[i].name, out);
        weft_real_text(c->data.weights[i].weight, number);
        fprintf(out, ": %s", number);
    }
    fputc('}', out);
}

static void print_field(const weft_config *c, const weft_field *f, const char *name, const char *indent,
                        FILE *out) {
    char value[WEFT_FIELD_VALUE];
    weft_field_get(c, f, value);
    fprintf(out, "%s%s: ", indent, name);
    if (f->type == WEFT_FIELD_WEIGHTS)
        print_weights(c, out);
    else if (f->type == WEFT_FIELD_TEXT)
        print_text(value, out);
    else
        fputs(value, out);
    fputc('\n', out);
}

void weft_config_print_yaml(const weft_config *c, FILE *out) {
    const char *name;
    for (int s = 0; s < weft_sections_count; s++) {
        const char *section = weft_sections[s].name;
        if (section[0]) fprintf(out, "%s:\n", section);
        for (int i = 0; i < weft_fields_count; i++)
            if (weft_field_in(&weft_fields[i], section, &name))
                print_field(c, &weft_fields[i], name, section[0] ? "  " : "", out);
    }
}

char *weft_config_to_yaml(const weft_config *c) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return NULL;
    weft_config_print_yaml(c, out);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static json_t *json_of(const weft_config *c, const weft_field *f) {
    const void *value = (const char *)c + f->offset;
    char text[WEFT_FIELD_VALUE];
    if (f->type == WEFT_FIELD_WEIGHTS) {
        json_t *object = json_object();
        for (int64_t i = 0; object && i < c->data.weights_count; i++)
            if (json_object_set_new(object, c->data.weights[i].name, json_real(c->data.weights[i].weight)) !=
                0) {
                json_decref(object);
                return NULL;
            }
        return object;
    }
    if (f->type == WEFT_FIELD_REAL) return json_real(*(const double *)value);
    if (f->type == WEFT_FIELD_BOOL) return json_boolean(*(const bool *)value);
    if (f->type == WEFT_FIELD_INT && !(f->has_auto && *(const int64_t *)value == 0))
        return json_integer(*(const int64_t *)value);
    weft_field_get(c, f, text);
    return json_string(text);
}

static bool fill_json(json_t *root, const weft_config *c) {
    const char *name;
    for (int s = 0; s < weft_sections_count; s++) {
        const char *section = weft_sections[s].name;
        json_t *object = root;
        if (section[0]) {
            object = json_object();
            if (json_object_set_new(root, section, object) != 0) return false;
        }
        for (int i = 0; i < weft_fields_count; i++)
            if (weft_field_in(&weft_fields[i], section, &name) &&
                json_object_set_new(object, name, json_of(c, &weft_fields[i])) != 0)
                return false;
    }
    return true;
}

char *weft_config_to_json(const weft_config *c) {
    json_t *root = json_object();
    char *text = NULL;
    if (root && fill_json(root, c)) text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    return text;
}

/* ---- reference ---------------------------------------------------------------------------------- */

static void print_doc_field(const weft_field *f, FILE *out) {
    static const char *const types[] = {
        [WEFT_FIELD_INT] = "integer",        [WEFT_FIELD_REAL] = "number",
        [WEFT_FIELD_BOOL] = "true or false", [WEFT_FIELD_TEXT] = "text",
        [WEFT_FIELD_CHOICE] = "choice",      [WEFT_FIELD_WEIGHTS] = "mapping of numbers"};
    char range[256];
    weft_field_range_text(f, range, sizeof range);
    fprintf(out, "- `%s`: %s%s%s%s", f->key, types[f->type], f->has_auto ? " or auto" : "",
            range[0] ? ", " : "", range);
    if (f->unit) fprintf(out, " (%s)", f->unit);
    fprintf(out, "; default %s%s%s\n  %s\n", f->preset[0] ? "`" : "", f->preset[0] ? f->preset : "empty",
            f->preset[0] ? "`" : "", f->doc);
}

void weft_config_print_doc(FILE *out) {
    const char *name;
    fputs("# Configuration reference\n\n"
          "A configuration is a YAML file; sections are mappings. The same keys, dotted, are overrides on "
          "the command\n"
          "line: `weft train configs/tiny-hybrid.yaml train.steps=20 data.path=random`. Integers may have "
          "underscores\n"
          "(1_000_000).\n",
          out);
    for (int s = 0; s < weft_sections_count; s++) {
        const weft_section *section = &weft_sections[s];
        fprintf(out, "\n## %s\n\n%s\n\n", section->name[0] ? section->name : "Top level", section->doc);
        for (int i = 0; i < weft_fields_count; i++)
            if (weft_field_in(&weft_fields[i], section->name, &name)) print_doc_field(&weft_fields[i], out);
    }
}
