/* What an earlier result of the same model already says. */
#include "train/suite/suite_internal.h"

#include <stdlib.h>
#include <string.h>

/* Does a task's result depend on the setting `key`? Activations are read from the text of bits. */
static bool matters(int task, const char *key) {
    const char *name = weft_suite_tasks[task].name, *dot = strchr(key, '.');
    if (!dot) return strcmp(key, "tasks") != 0;
    size_t n = (size_t)(dot - key);
    if (strlen(name) == n && strncmp(key, name, n) == 0) return true;
    return task == WEFT_SUITE_ACTIVATIONS && strncmp(key, "bits.", 5) == 0;
}

/* Whether the result's settings are the suite's, those that matter to the task or, at WEFT_SUITE_TASKS, all;
 * *count: of all of them. */
static bool agree(const json_t *known, const weft_suite *s, int task, size_t *count) {
    const json_t *settings = json_object_get(known, "suite");
    char *text = weft_suite_text(s), *rest = text, *line;
    bool same = text != NULL;
    for (*count = 0; same && (line = strsep(&rest, "\n")) && *line; ++*count) {
        char *equals = strchr(line, '=');
        *equals = '\0';
        const char *value = json_string_value(json_object_get(settings, line));
        bool asked = task == WEFT_SUITE_TASKS || matters(task, line);
        same = !asked || (value && strcmp(value, equals + 1) == 0);
    }
    free(text);
    return same;
}

bool weft_suite_known(const json_t *known, const weft_suite *s, int task) {
    size_t count;
    return json_object_get(known, weft_suite_tasks[task].name) && agree(known, s, task, &count);
}

bool weft_suite_same(const json_t *known, const weft_suite *s) {
    size_t count;
    return agree(known, s, WEFT_SUITE_TASKS, &count) &&
           json_object_size(json_object_get(known, "suite")) == count;
}
