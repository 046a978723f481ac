/* What the report's page reads of the report. */
#include "data/build/report_html_parts.h"

#include <string.h>

/* ---- members ---- */
int64_t page_integer(const json_t *object, const char *key) {
    return (int64_t)json_integer_value(json_object_get(object, key));
}

double page_real(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

bool page_is(const json_t *object, const char *key, const char *value) {
    const char *s = json_string_value(json_object_get(object, key));
    return s && strcmp(s, value) == 0;
}

int64_t page_sum(const json_t *objects, const char *key) {
    int64_t sum = 0;
    size_t i;
    const json_t *one;
    json_array_foreach(objects, i, one) sum += page_integer(one, key);
    return sum;
}

/* ---- texts ---- */
void page_string(FILE *out, const json_t *string) {
    if (json_is_string(string)) weft_page_text(out, json_string_value(string), json_string_length(string));
}

void page_member(FILE *out, const json_t *object, const char *key) {
    page_string(out, json_object_get(object, key));
}
