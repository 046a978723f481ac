#include "emulation/graph_eval.h"

#include <cuda_bf16.h>

#include <cmath>
#include <vector>

namespace {

int64_t elements(const weft_graph_tensor &t) {
    return t.dim[0] * t.dim[1] * t.dim[2] * t.dim[3];
}

/* ---- shapes ---- */

bool same_but_last(const weft_graph_tensor &a, const weft_graph_tensor &b) {
    return a.dim[0] == b.dim[0] && a.dim[1] == b.dim[1] && a.dim[2] == b.dim[2];
}
bool same(const weft_graph_tensor &a, const weft_graph_tensor &b) {
    return same_but_last(a, b) && a.dim[3] == b.dim[3];
}
/* Can `a` be repeated, or with `runs` folded, along its dimensions so that it becomes `b`? */
bool divides(const weft_graph_tensor &a, const weft_graph_tensor &b, bool runs) {
    for (int i = 0; i < 4; i++)
        if (a.dim[i] != b.dim[i] && (runs ? b.dim[i] % a.dim[i] != 0 : a.dim[i] != 1)) return false;
    return true;
}

bool fits(const weft_graph *g, const weft_graph_op &op) {
    const weft_graph_tensor &x = g->tensor[op.x], &y = g->tensor[op.y];
    const weft_graph_tensor *b = op.b < 0 ? nullptr : &g->tensor[op.b];
    switch (op.mode) {
    case WEFT_GRAPH_MATMUL:
        return b && same_but_last(x, y) && b->dim[0] == x.dim[0] && x.dim[1] % b->dim[1] == 0 &&
               b->dim[2] == x.dim[3] && b->dim[3] == y.dim[3];
    case WEFT_GRAPH_TRANSPOSE:
        return x.dim[0] == y.dim[0] && x.dim[1] == y.dim[1] && x.dim[2] == y.dim[3] && x.dim[3] == y.dim[2];
    case WEFT_GRAPH_MAX:
    case WEFT_GRAPH_SUM:
        return divides(y, x, true);
    case WEFT_GRAPH_INDEX:
        return same(x, y) && op.axis >= 0 && op.axis < 4;
    case WEFT_GRAPH_EXP:
    case WEFT_GRAPH_LOG:
        return same(x, y);
    case WEFT_GRAPH_SELECT:
        return b && op.t >= 0 && divides(x, y, false) && divides(*b, y, false) &&
               divides(g->tensor[op.t], y, false);
    default:
        return b && divides(x, y, false) && divides(*b, y, false);
    }
}

/* ---- values ---- */

float rounded(weft_graph_type type, float x) {
    return type == WEFT_GRAPH_BF16 ? __bfloat162float(__float2bfloat16(x)) : x;
}

template <class F> void each(const int64_t dim[4], F f) {
    for (int64_t i = 0; i < dim[0]; i++)
        for (int64_t j = 0; j < dim[1]; j++)
            for (int64_t k = 0; k < dim[2]; k++)
                for (int64_t l = 0; l < dim[3]; l++) {
                    const int64_t at[4] = {i, j, k, l};
                    f(at);
                }
}

/* A tensor, dense. */
struct values {
    const weft_graph_tensor *t;
    std::vector<float> x;

    /* The element that belongs to place `at` of a tensor of dimensions `dim`, each a multiple of ours. */
    size_t place(const int64_t at[4], const int64_t dim[4]) const {
        int64_t to = 0;
        for (int i = 0; i < 4; i++) to = to * t->dim[i] + at[i] / (dim[i] / t->dim[i]);
        return static_cast<size_t>(to);
    }
    float get(const int64_t at[4], const int64_t dim[4]) const { return x[place(at, dim)]; }
};

int64_t strided(const weft_graph_tensor &t, const int64_t at[4]) {
    return at[0] * t.stride[0] + at[1] * t.stride[1] + at[2] * t.stride[2] + at[3] * t.stride[3];
}

void load(values &v, const void *array) {
    each(v.t->dim, [&](const int64_t at[4]) {
        const int64_t i = strided(*v.t, at);
        v.x.push_back(v.t->type == WEFT_GRAPH_BF16
                          ? __bfloat162float(static_cast<const __nv_bfloat16 *>(array)[i])
                          : static_cast<const float *>(array)[i]);
    });
}

void store(const values &v, void *array) {
    size_t from = 0;
    each(v.t->dim, [&](const int64_t at[4]) {
        const int64_t i = strided(*v.t, at);
        if (v.t->type == WEFT_GRAPH_BF16)
            static_cast<__nv_bfloat16 *>(array)[i] = __float2bfloat16(v.x[from++]);
        else
            static_cast<float *>(array)[i] = v.x[from++];
    });
}

/* ---- operations ---- */

void multiply(values &y, const values &x, const values &b) {
    const int64_t rows = x.t->dim[2], depth = x.t->dim[3], cols = b.t->dim[3],
                  repeat = x.t->dim[1] / b.t->dim[1];
    for (int64_t head = 0; head < x.t->dim[0] * x.t->dim[1]; head++) {
        const float *xh = x.x.data() + head * rows * depth, *bh = b.x.data() + head / repeat * depth * cols;
        float *yh = y.x.data() + head * rows * cols;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < depth; k++)
                for (int64_t j = 0; j < cols; j++) yh[i * cols + j] += xh[i * depth + k] * bh[k * cols + j];
    }
}

void transpose(values &y, const values &x) {
    size_t to = 0;
    each(y.t->dim, [&](const int64_t at[4]) {
        const int64_t other[4] = {at[0], at[1], at[3], at[2]};
        y.x[to++] = x.get(other, x.t->dim);
    });
}

void reduce(weft_graph_mode mode, values &y, const values &x) {
    for (float &one : y.x) one = mode == WEFT_GRAPH_MAX ? -INFINITY : 0;
    each(x.t->dim, [&](const int64_t at[4]) {
        const float one = x.get(at, x.t->dim);
        float &all = y.x[y.place(at, x.t->dim)];
        all = mode == WEFT_GRAPH_SUM ? all + one : one > all || std::isnan(one) ? one : all;
    });
}

float pointwise(weft_graph_mode mode, float x, float b, float t) {
    switch (mode) {
    case WEFT_GRAPH_MUL:
        return x * b;
    case WEFT_GRAPH_ADD:
        return x + b;
    case WEFT_GRAPH_SUB:
        return x - b;
    case WEFT_GRAPH_DIV:
        return x / b;
    case WEFT_GRAPH_EXP:
        return std::exp(x);
    case WEFT_GRAPH_LOG:
        return std::log(x);
    case WEFT_GRAPH_NOT_LESS:
        return x >= b;
    case WEFT_GRAPH_SELECT:
        return t != 0 ? x : b;
    default:
        return NAN;
    }
}

/* Operands that an operation does without are x. */
void compute(const weft_graph_op &op, values &y, const values &x, const values &b, const values &t) {
    size_t to = 0;
    y.x.assign(static_cast<size_t>(elements(*y.t)), 0.0f);
    if (op.mode == WEFT_GRAPH_MATMUL)
        multiply(y, x, b);
    else if (op.mode == WEFT_GRAPH_TRANSPOSE)
        transpose(y, x);
    else if (op.mode == WEFT_GRAPH_SUM || op.mode == WEFT_GRAPH_MAX)
        reduce(op.mode, y, x);
    else if (op.mode == WEFT_GRAPH_INDEX)
        each(y.t->dim, [&](const int64_t at[4]) { y.x[to++] = static_cast<float>(at[op.axis]); });
    else
        each(y.t->dim, [&](const int64_t at[4]) {
            const int64_t *dim = y.t->dim;
            y.x[to++] = pointwise(op.mode, x.get(at, dim), b.get(at, dim), t.get(at, dim));
        });
    for (float &one : y.x) one = rounded(y.t->type, one);
}

} // namespace

/* ---- the graph ---- */

int64_t graph_extent(const weft_graph_tensor *t) {
    int64_t extent = 1;
    for (int i = 0; i < 4; i++) extent += (t->dim[i] - 1) * t->stride[i];
    return extent;
}

const char *graph_fault(const weft_graph *g) {
    bool known[WEFT_GRAPH_TENSORS], written[WEFT_GRAPH_TENSORS] = {};
    for (int i = 0; i < g->ops; i++) written[g->op[i].y] = true;
    for (int i = 0; i < g->tensors; i++)
        known[i] =
            g->tensor[i].kind == WEFT_GRAPH_SCALAR || (g->tensor[i].kind == WEFT_GRAPH_ARRAY && !written[i]);
    for (int i = 0; i < g->ops; i++) {
        const weft_graph_op &op = g->op[i];
        for (int t : {op.x, op.b, op.t})
            if (t >= 0 && !known[t]) return "a tensor is read before it is written";
        if (known[op.y]) return "a tensor is written twice";
        if (!fits(g, op)) return "the shapes of an operation do not fit";
        known[op.y] = true;
    }
    return nullptr;
}

void graph_eval(const weft_graph *g, void *const arrays[WEFT_GRAPH_ROLES]) {
    std::vector<values> v(WEFT_GRAPH_TENSORS);
    for (int i = 0; i < g->tensors; i++) {
        v[i].t = &g->tensor[i];
        if (v[i].t->kind == WEFT_GRAPH_SCALAR) v[i].x.assign(1, v[i].t->value);
    }
    const auto read = [&](int i) -> const values & {
        if (v[i].x.empty()) load(v[i], arrays[i]);
        return v[i];
    };
    for (int i = 0; i < g->ops; i++) {
        const weft_graph_op &op = g->op[i];
        compute(op, v[op.y], read(op.x), read(op.b < 0 ? op.x : op.b), read(op.t < 0 ? op.x : op.t));
        if (v[op.y].t->kind == WEFT_GRAPH_ARRAY) store(v[op.y], arrays[op.y]);
    }
}
