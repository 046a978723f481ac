/* Paths and JSON files of a Hugging Face directory, and how its tensors are made of rows of the parameter
 * table. */
#include "train/hf_files.h"
#include "runtime/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool weft_hf_is_dir(const char *dir) {
    struct stat st;
    char *path = weft_format("%s/%s", dir, WEFT_HF_CONFIG);
    bool yes = path && stat(path, &st) == 0 && S_ISREG(st.st_mode);
    free(path);
    return yes;
}

/* Text whose numbers read back to the same bits, with as few digits as that takes: 1e-06, not
 * 9.9999999999999995e-07. NULL without memory. */
static char *json_text(const json_t *value) {
    for (size_t digits = 6; digits <= 17; digits++) {
        char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
        json_t *back = text ? json_loads(text, 0, NULL) : NULL;
        bool same = back && json_equal(value, back);
        json_decref(back);
        if (same) return text;
        free(text);
    }
    return NULL;
}

weft_status weft_hf_write_json(const char *dir, const char *name, json_t *value) {
    char *path = weft_format("%s/%s", dir, name);
    char *json = value ? json_text(value) : NULL, *text = json ? weft_format("%s\n", json) : NULL;
    json_decref(value);
    weft_status status = path && text ? weft_fs_create_file(path, text, strlen(text))
                                      : weft_fail(WEFT_ENOMEM, "%s/%s: no memory to write it", dir, name);
    free(path);
    free(json);
    free(text);
    return status;
}

weft_status weft_hf_read_json(const char *dir, const char *name, json_t **out) {
    char *path = weft_format("%s/%s", dir, name);
    if (!path) WEFT_FAIL(WEFT_ENOMEM, "%s/%s: no memory to read it", dir, name);
    weft_status status = WEFT_OK;
    json_error_t error;
    json_t *value = NULL;
    FILE *file = fopen(path, "rb");
    if (!file) {
        status = weft_fail(WEFT_EIO, "%s: cannot open: %s", path, strerror(errno));
    } else {
        value = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
        if (!value)
            status = weft_fail(WEFT_EINPUT, "%s:%d:%d: is not JSON: %s", path, error.line, error.column,
                               error.text);
        else if (!json_is_object(value))
            status = weft_fail(WEFT_EINPUT, "%s: is not a JSON object", path);
        fclose(file);
    }
    free(path);
    if (status == WEFT_OK)
        *out = value;
    else
        json_decref(value);
    return status;
}

/* ---- tensors from rows -------------------------------------------------------------------------------- */

static int by_name_and_row(const void *a, const void *b) {
    const weft_param *s = *(const weft_param *const *)a, *t = *(const weft_param *const *)b;
    int order = strcmp(s->hf_name, t->hf_name);
    if (order) return order;
    if (s->hf_row != t->hf_row) return s->hf_row < t->hf_row ? -1 : 1;
    return (s > t) - (s < t);
}

/* Rows of one table are one array: the lower address is the earlier row. */
static const weft_param *first_row(const weft_hf_tensor *t) {
    const weft_param *first = t->rows[0];
    for (int64_t i = 1; i < t->count; i++)
        if (t->rows[i] < first) first = t->rows[i];
    return first;
}

static int by_table(const void *a, const void *b) {
    const weft_param *s = first_row(a), *t = first_row(b);
    return (s > t) - (s < t);
}

static weft_status check_cover(const weft_hf_tensor *t) {
    int64_t row_elements = 1, at = 0;
    for (int k = 1; k < t->ndim; k++) row_elements *= t->shape[k];
    for (int64_t i = 0; i < t->count; i++) {
        const weft_param *r = t->rows[i];
        bool same =
            r->hf_ndim == t->ndim && memcmp(r->hf_shape, t->shape, (size_t)t->ndim * sizeof *t->shape) == 0;
        if (!same || r->hf_row != at || r->numel != r->shape[0] * row_elements)
            WEFT_FAIL(WEFT_EINTERNAL, "parameter %s does not fit into rows %lld... of the tensor %s", r->name,
                      (long long)at, t->name);
        at += r->shape[0];
    }
    if (at != t->shape[0])
        WEFT_FAIL(WEFT_EINTERNAL, "the parameter table fills %lld of %lld rows of the tensor %s",
                  (long long)at, (long long)t->shape[0], t->name);
    return WEFT_OK;
}

weft_status weft_hf_group(weft_hf_tensors *out, const weft_params *p) {
    weft_hf_tensors t = {.list = calloc((size_t)p->count + 1, sizeof *t.list),
                         .rows = calloc((size_t)p->count + 1, sizeof *t.rows)};
    if (!t.list || !t.rows) {
        weft_hf_tensors_free(&t);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for a list of %lld tensors", (long long)p->count);
    }
    for (int64_t i = 0; i < p->count; i++) t.rows[i] = &p->rows[i];
    qsort(t.rows, (size_t)p->count, sizeof *t.rows, by_name_and_row);
    for (int64_t i = 0; i < p->count; i++) {
        const weft_param *r = t.rows[i];
        if (i == 0 || strcmp(r->hf_name, t.rows[i - 1]->hf_name) != 0) {
            weft_hf_tensor *n = &t.list[t.count++];
            *n = (weft_hf_tensor){.name = r->hf_name, .ndim = r->hf_ndim, .numel = 1, .rows = &t.rows[i]};
            for (int k = 0; k < r->hf_ndim; k++) {
                n->shape[k] = r->hf_shape[k];
                n->numel *= r->hf_shape[k];
            }
        }
        t.list[t.count - 1].count++;
    }
    weft_status status = WEFT_OK;
    for (int64_t i = 0; i < t.count && status == WEFT_OK; i++) status = check_cover(&t.list[i]);
    if (status != WEFT_OK) {
        weft_hf_tensors_free(&t);
        return status;
    }
    qsort(t.list, (size_t)t.count, sizeof *t.list, by_table);
    *out = t;
    return WEFT_OK;
}

void weft_hf_tensors_free(weft_hf_tensors *t) {
    free(t->list);
    free(t->rows);
    *t = (weft_hf_tensors){0};
}
