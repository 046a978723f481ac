/* Computes a graph of kernels/cuda/cudnn_graph.h on the host: one operation after the other, every tensor
 * whole, nothing clever. Products and sums are float; what a tensor holds is rounded to its type. */
#ifndef WEFT_EMULATION_GRAPH_EVAL_H
#define WEFT_EMULATION_GRAPH_EVAL_H

#ifdef __cplusplus
extern "C" {
#endif

#include "cuda/cudnn_graph.h"

/* NULL, or what is wrong with the graph: shapes that do not fit, a tensor read before it is written or
 * written twice. */
const char *graph_fault(const weft_graph *g);

void graph_eval(const weft_graph *g, void *const arrays[WEFT_GRAPH_ROLES]);

/* How many elements lie from the first to the last of a tensor. */
int64_t graph_extent(const weft_graph_tensor *t);

#ifdef __cplusplus
}
#endif
#endif
