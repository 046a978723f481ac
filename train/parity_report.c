#include "train/output.h"
#include "train/parity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* "8x64x64" */
static const char *shape_text(const weft_parity_tensor *t, char *out, size_t size) {
    size_t n = 0;
    for (int d = 0; d < t->ndim && n < size; d++)
        n += (size_t)snprintf(out + n, size - n, "%s%lld", d ? "x" : "", (long long)t->shape[d]);
    return out;
}

static void index_of(const weft_parity_tensor *t, int64_t element, int64_t *index) {
    for (int d = t->ndim - 1; d >= 0; d--) {
        index[d] = element % t->shape[d];
        element /= t->shape[d];
    }
}

static int64_t elements_of(const weft_parity_tensor *t) {
    int64_t n = 1;
    for (int d = 0; d < t->ndim; d++) n *= t->shape[d];
    return n;
}

/* "sample 3, token 32, channel 16 (rank 1)" */
static const char *place_text(const weft_parity_tensor *t, char *out, size_t size) {
    int64_t at[WEFT_PARAM_DIMS] = {0};
    char rank[32] = "";
    index_of(t, t->worst, at);
    if (t->worst_rank >= 0) snprintf(rank, sizeof rank, " (rank %d)", t->worst_rank);
    if (t->ndim == 3)
        snprintf(out, size, "sample %lld, token %lld, channel %lld%s", (long long)at[0], (long long)at[1],
                 (long long)at[2], rank);
    else if (t->ndim == 2)
        snprintf(out, size, "[%lld,%lld]%s", (long long)at[0], (long long)at[1], rank);
    else
        snprintf(out, size, "[%lld]%s", (long long)at[0], rank);
    return out;
}

const char *weft_parity_first(const weft_parity_report *r, const weft_mesh *mesh, char *out, size_t size) {
    const weft_parity_tensor *t = &r->tensors[r->first];
    char ranks[128], at[96];
    snprintf(out, size,
             "mesh %s differs from one rank first in %s (%s): %lld of %lld elements by more than %g of its "
             "rms, the "
             "largest by %.1e at %s",
             weft_mesh_text(mesh, ranks, sizeof ranks), t->name, weft_parity_phase_name(t->phase),
             (long long)t->beyond, (long long)elements_of(t), r->tolerance, t->relative,
             place_text(t, at, sizeof at));
    return out;
}

/* ---- the table ----------------------------------------------------------------------------------------- */

/* Tensors from i on that share a line: all of a layer's experts. */
static int64_t line_length(const weft_parity_report *r, int64_t i) {
    const weft_parity_tensor *t = &r->tensors[i];
    int64_t n = 1;
    while (t->layer >= 0 && i + n < r->count && t[n].phase == t->phase && t[n].layer == t->layer) n++;
    return n;
}

static void print_line(const weft_parity_report *r, int64_t i, int64_t n) {
    const weft_parity_tensor *t = &r->tensors[i];
    bool first = r->first >= i && r->first < i + n;
    char shape[64], name[WEFT_PARAM_NAME], verdict[WEFT_PARAM_NAME + 64] = "ok";
    for (int64_t k = 1; k < n; k++)
        if (r->tensors[i + k].relative > t->relative) t = &r->tensors[i + k];
    snprintf(name, sizeof name, "%s", t->name);
    shape_text(t, shape, sizeof shape);
    char *expert = n > 1 ? strstr(name, ".experts.") : NULL;
    if (expert) {
        strcpy(expert, ".experts.*");
        snprintf(shape, sizeof shape, "%lld tensors", (long long)n);
    }
    if (t->relative > r->tolerance) snprintf(verdict, sizeof verdict, "differs");
    if (first)
        snprintf(verdict, sizeof verdict, "<-- first beyond %g%s%s", r->tolerance, n > 1 ? ": " : "",
                 n > 1 ? r->tensors[r->first].name : "");
    printf("%5lld  %-8s  %-40s  %-14s  %9.2e  %9.2e  %9.2e  %s\n", (long long)i + 1,
           weft_parity_phase_name(t->phase), name, shape, t->rms, t->difference, t->relative, verdict);
}

static void print_summary(const weft_parity_report *r, const char *mesh) {
    const weft_parity_tensor *worst = &r->tensors[r->worst];
    long long differ = 0, count = (long long)r->count;
    for (int64_t i = 0; i < r->count; i++) differ += r->tensors[i].relative > r->tolerance;
    if (differ)
        printf("mesh %s differs from one rank in %lld of %lld tensors, worst %.1e at %s (%s)\n", mesh, differ,
               count, worst->relative, worst->name, weft_parity_phase_name(worst->phase));
    else if (worst->relative > 0)
        printf("mesh %s agrees with one rank: %lld tensors, worst %.1e at %s (%s)\n", mesh, count,
               worst->relative, worst->name, weft_parity_phase_name(worst->phase));
    else
        printf("mesh %s agrees with one rank to the last bit: %lld tensors\n", mesh, count);
}

static weft_status print_table(const weft_parity_report *r, const weft_mesh *mesh) {
    char text[128];
    printf("%5s  %-8s  %-40s  %-14s  %9s  %9s  %9s  %s\n", "order", "phase", "tensor", "shape", "rms",
           "largest", "relative", "verdict");
    for (int64_t i = 0, n; i < r->count; i += n) {
        n = line_length(r, i);
        print_line(r, i, n);
    }
    print_summary(r, weft_mesh_text(mesh, text, sizeof text));
    return weft_output_finish();
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static json_t *tensor_json(const weft_parity_report *r, int64_t i) {
    const weft_parity_tensor *t = &r->tensors[i];
    int64_t at[WEFT_PARAM_DIMS] = {0};
    json_t *shape = json_array(), *worst = json_array();
    index_of(t, t->worst, at);
    for (int d = 0; d < t->ndim; d++) {
        json_array_append_new(shape, json_integer(t->shape[d]));
        json_array_append_new(worst, json_integer(at[d]));
    }
    return json_pack("{s:I, s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:o, s:i, s:b}", "order", (json_int_t)i + 1,
                     "phase", weft_parity_phase_name(t->phase), "tensor", t->name, "shape", shape, "rms",
                     weft_output_real(t->rms), "largest", weft_output_real(t->difference), "relative",
                     weft_output_real(t->relative), "beyond", (json_int_t)t->beyond, "at", worst, "rank",
                     t->worst_rank, "ok", t->relative <= r->tolerance);
}

static weft_status print_json(const weft_parity_report *r, const weft_mesh *mesh) {
    char text[128];
    json_t *tensors = json_array();
    for (int64_t i = 0; i < r->count; i++) json_array_append_new(tensors, tensor_json(r, i));
    json_t *o =
        json_pack("{s:s, s:i, s:f, s:b, s:o, s:s, s:o, s:o}", "mesh", weft_mesh_text(mesh, text, sizeof text),
                  "ranks", mesh->ranks, "tolerance", r->tolerance, "agrees", r->first < 0, "first",
                  r->first < 0 ? json_null() : json_string(r->tensors[r->first].name), "worst",
                  r->tensors[r->worst].name, "worst_relative",
                  weft_output_real(r->tensors[r->worst].relative), "tensors", tensors);
    return weft_output_json(o, JSON_INDENT(1));
}

weft_status weft_parity_print(const weft_parity_report *r, const weft_mesh *mesh, bool json) {
    return json ? print_json(r, mesh) : print_table(r, mesh);
}
