/* Attention as cuDNN wants to be told of it: a graph of simple operations on tensors of four dimensions.
 *
 * The graph is data of our own. cudnn_plan.c turns it into cuDNN's descriptors, and the tests compute it on
 * the host, number by number: that cuDNN accepts a graph does not say that its maths is right.
 *
 * Both graphs are those of arXiv 2307.08691 for full causal attention: without documents, the queries
 * standing where the keys stand. The backward pass is the one of the two forms that cuDNN knows in which
 * every sum has one order: dQ is a product of its own. In the other form dQ is summed by atomic additions,
 * which would make the results differ from run to run. Its price is room for dS, which grows with the square
 * of T. */
#ifndef WEFT_CUDA_CUDNN_GRAPH_H
#define WEFT_CUDA_CUDNN_GRAPH_H

#include "ops.h"

/* Arrays that a graph reads and writes; weft_graph.tensor holds them under these numbers. */
typedef enum weft_graph_role {
    WEFT_GRAPH_Q,
    WEFT_GRAPH_K,
    WEFT_GRAPH_V,
    WEFT_GRAPH_O,
    WEFT_GRAPH_LSE, /* [B,H,T], dense: the only layout that cuDNN reads right before 9.26 */
    WEFT_GRAPH_DOUT,
    WEFT_GRAPH_DQ,
    WEFT_GRAPH_DK,
    WEFT_GRAPH_DV,
    WEFT_GRAPH_DELTA, /* [B,H,T]: workspace that belongs to the caller */
    WEFT_GRAPH_ROLES
} weft_graph_role;

typedef enum weft_graph_type {
    WEFT_GRAPH_BF16,
    WEFT_GRAPH_F32,
    WEFT_GRAPH_I32,
    WEFT_GRAPH_BOOL
} weft_graph_type;

typedef enum weft_graph_kind {
    WEFT_GRAPH_UNUSED,  /* a role that this graph does without */
    WEFT_GRAPH_ARRAY,   /* in memory */
    WEFT_GRAPH_VIRTUAL, /* between two operations, never stored */
    WEFT_GRAPH_SCALAR   /* one number, known to the graph */
} weft_graph_kind;

typedef struct weft_graph_tensor {
    weft_graph_kind kind;
    weft_graph_type type;
    int64_t dim[4], stride[4]; /* in elements */
    float value;               /* of a scalar */
} weft_graph_tensor;

/* Element-wise operations repeat an operand along the dimensions in which it has one element. */
typedef enum weft_graph_mode {
    WEFT_GRAPH_MATMUL, /* y = x b, the last two dimensions; head h of x meets head h / (heads of x / of b) */
    WEFT_GRAPH_TRANSPOSE, /* y = x with the last two dimensions exchanged */
    WEFT_GRAPH_MAX,       /* y = the largest of each run of x along the dimensions in which y is smaller */
    WEFT_GRAPH_SUM,       /* their sum */
    WEFT_GRAPH_INDEX,     /* y = the place along `axis`; x gives the shape only */
    WEFT_GRAPH_MUL,
    WEFT_GRAPH_ADD,
    WEFT_GRAPH_SUB,
    WEFT_GRAPH_DIV,
    WEFT_GRAPH_EXP,
    WEFT_GRAPH_LOG,
    WEFT_GRAPH_NOT_LESS, /* y = x >= b */
    WEFT_GRAPH_SELECT    /* y = t ? x : b */
} weft_graph_mode;

typedef struct weft_graph_op {
    weft_graph_mode mode;
    int axis;
    int x, b, t, y; /* numbers of tensors; -1: none */
} weft_graph_op;

#define WEFT_GRAPH_TENSORS 48
#define WEFT_GRAPH_OPS 32

typedef struct weft_graph {
    int tensors, ops;
    weft_graph_tensor tensor[WEFT_GRAPH_TENSORS];
    weft_graph_op op[WEFT_GRAPH_OPS];
} weft_graph;

/* All that a graph depends on. Compared byte by byte: it has no padding. */
typedef struct weft_graph_shape {
    int64_t B, H, G, T, d;
    int64_t ldq, ldk, ldv, ldo;
    float scale;
    int32_t backward;
} weft_graph_shape;

void weft_graph_attention(weft_graph *g, const weft_graph_shape *s);

/* What cuDNN may ask for beyond the arrays of the graph: a bound by shape alone, so that a machine without a
 * GPU can tell it, above what the plans for every GPU that we know of ask for. */
size_t weft_graph_workspace(const weft_graph_shape *s);

/* The backward pass of one (sequence, group of heads) needs nothing of another. Makes *s the largest part of
 * itself that divides it evenly and whose workspace is within `limit`: as many sequences, or as many groups
 * of one sequence. False: one group is too large. */
bool weft_graph_slice(weft_graph_shape *s, size_t limit);

#endif
