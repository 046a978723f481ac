/* From our graphs to cuDNN's: a descriptor for every tensor and every operation. */
#include "cuda/cudnn_builder.h"

typedef dnn_descriptor descriptor;

static void set_type(dnn_builder *b, descriptor d, cudnnBackendAttributeName_t name, cudnnDataType_t value) {
    dnn_set(b, d, name, CUDNN_TYPE_DATA_TYPE, 1, &value);
}
static void set_true(dnn_builder *b, descriptor d, cudnnBackendAttributeName_t name) {
    const bool value = true;
    dnn_set(b, d, name, CUDNN_TYPE_BOOLEAN, 1, &value);
}

static cudnnDataType_t type_of(weft_graph_type type) {
    static const cudnnDataType_t types[] = {[WEFT_GRAPH_BF16] = CUDNN_DATA_BFLOAT16,
                                            [WEFT_GRAPH_F32] = CUDNN_DATA_FLOAT,
                                            [WEFT_GRAPH_I32] = CUDNN_DATA_INT32,
                                            [WEFT_GRAPH_BOOL] = CUDNN_DATA_BOOLEAN};
    return types[type];
}

/* Not 0. */
int64_t dnn_name(int tensor) {
    return tensor + 1;
}

static descriptor tensor(dnn_builder *b, const weft_graph *g, int i) {
    const weft_graph_tensor *t = &g->tensor[i];
    descriptor d = dnn_make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set_type(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, type_of(t->type));
    dnn_set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, t->dim);
    dnn_set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, t->stride);
    dnn_set_int(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, dnn_name(i));
    dnn_set_int(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
    if (t->kind == WEFT_GRAPH_VIRTUAL) set_true(b, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
    if (t->kind == WEFT_GRAPH_SCALAR) set_true(b, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE);
    return dnn_finalize(b, d, "describing a tensor");
}

static descriptor matmul(dnn_builder *b, descriptor x, descriptor w, descriptor y) {
    descriptor how = dnn_make(b, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set_type(b, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
    dnn_finalize(b, how, "describing a product");
    descriptor o = dnn_make(b, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_MATMUL_ADESC, x);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_MATMUL_BDESC, w);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_MATMUL_CDESC, y);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    return dnn_finalize(b, o, "describing a product");
}

static descriptor transpose(dnn_builder *b, descriptor x, descriptor y) {
    descriptor o = dnn_make(b, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    return dnn_finalize(b, o, "describing a transposition");
}

static descriptor reduction(dnn_builder *b, cudnnReduceTensorOp_t mode, descriptor x, descriptor y) {
    descriptor how = dnn_make(b, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    dnn_set(b, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &mode);
    set_type(b, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    dnn_finalize(b, how, "describing a reduction");
    descriptor o = dnn_make(b, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    return dnn_finalize(b, o, "describing a reduction");
}

typedef struct pointwise_mode {
    cudnnPointwiseMode_t mode;
    cudnnDataType_t precision;
} pointwise_mode;

static pointwise_mode pointwise_of(weft_graph_mode mode) {
    switch (mode) {
    case WEFT_GRAPH_INDEX:
        return (pointwise_mode){CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32};
    case WEFT_GRAPH_NOT_LESS:
        return (pointwise_mode){CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN};
    case WEFT_GRAPH_SELECT:
        return (pointwise_mode){CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT};
    case WEFT_GRAPH_MUL:
        return (pointwise_mode){CUDNN_POINTWISE_MUL, CUDNN_DATA_FLOAT};
    case WEFT_GRAPH_ADD:
        return (pointwise_mode){CUDNN_POINTWISE_ADD, CUDNN_DATA_FLOAT};
    case WEFT_GRAPH_SUB:
        return (pointwise_mode){CUDNN_POINTWISE_SUB, CUDNN_DATA_FLOAT};
    case WEFT_GRAPH_DIV:
        return (pointwise_mode){CUDNN_POINTWISE_DIV, CUDNN_DATA_FLOAT};
    case WEFT_GRAPH_EXP:
        return (pointwise_mode){CUDNN_POINTWISE_EXP, CUDNN_DATA_FLOAT};
    case WEFT_GRAPH_LOG:
        return (pointwise_mode){CUDNN_POINTWISE_LOG, CUDNN_DATA_FLOAT};
    default:
        weft_panic(__FILE__, __LINE__, "operation %d is not element-wise", mode);
    }
}

static descriptor pointwise(dnn_builder *b, const weft_graph_op *op, const descriptor *tensors) {
    const pointwise_mode m = pointwise_of(op->mode);
    descriptor how = dnn_make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    dnn_set(b, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &m.mode);
    set_type(b, how, CUDNN_ATTR_POINTWISE_MATH_PREC, m.precision);
    if (op->axis >= 0) dnn_set_int(b, how, CUDNN_ATTR_POINTWISE_AXIS, op->axis);
    dnn_finalize(b, how, "describing an element-wise operation");
    descriptor o = dnn_make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors[op->x]);
    if (op->b >= 0) dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors[op->b]);
    if (op->t >= 0) dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, tensors[op->t]);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors[op->y]);
    return dnn_finalize(b, o, "describing an element-wise operation");
}

static descriptor operation(dnn_builder *b, const weft_graph_op *op, const descriptor *tensors) {
    switch (op->mode) {
    case WEFT_GRAPH_MATMUL:
        return matmul(b, tensors[op->x], tensors[op->b], tensors[op->y]);
    case WEFT_GRAPH_TRANSPOSE:
        return transpose(b, tensors[op->x], tensors[op->y]);
    case WEFT_GRAPH_MAX:
        return reduction(b, CUDNN_REDUCE_TENSOR_MAX, tensors[op->x], tensors[op->y]);
    case WEFT_GRAPH_SUM:
        return reduction(b, CUDNN_REDUCE_TENSOR_ADD, tensors[op->x], tensors[op->y]);
    default:
        return pointwise(b, op, tensors);
    }
}

descriptor dnn_lower(dnn_builder *b, const weft_graph *g) {
    descriptor tensors[WEFT_GRAPH_TENSORS] = {0}, ops[WEFT_GRAPH_OPS];
    for (int i = 0; i < g->tensors; i++)
        if (g->tensor[i].kind != WEFT_GRAPH_UNUSED) tensors[i] = tensor(b, g, i);
    for (int i = 0; i < g->ops; i++) ops[i] = operation(b, &g->op[i], tensors);
    descriptor d = dnn_make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    dnn_set(b, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->ops, ops);
    if (b->handle) dnn_set(b, d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->handle);
    return dnn_finalize(b, d, "describing the graph");
}
