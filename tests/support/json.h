/* JSON in tests. */
#ifndef TEST_JSON_H
#define TEST_JSON_H

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* JSON with ' for ". */
static inline json_t *json_of(const char *text) {
    char *copy = strdup(text);
    ck_assert_ptr_nonnull(copy);
    for (char *c = copy; *c; c++)
        if (*c == '\'') *c = '"';
    json_error_t error;
    json_t *made = json_loads(copy, 0, &error);
    ck_assert_msg(made != NULL, "%s at %d", error.text, error.position);
    free(copy);
    return made;
}

#endif
