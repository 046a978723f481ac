/* What attention.cu needs of cuDNN: execution plans for the graphs of cudnn_graph.h.
 *
 * cudnn_plan.c makes them with cuDNN's graph API, cudnn_absent.c says that the library was not there when
 * this binary was built, and the emulation (tests/emulation) computes the graphs on the host. Nothing is
 * reported here: whether a failure matters is the caller's business, who gets the reason in words. */
#ifndef WEFT_CUDA_CUDNN_H
#define WEFT_CUDA_CUDNN_H

#include "cuda/cudnn_graph.h"

typedef struct weft_cudnn weft_cudnn;
typedef struct weft_cudnn_plan weft_cudnn_plan;

typedef struct weft_cudnn_reason {
    char text[512];
} weft_cudnn_reason;

/* "cuDNN 9.19.0", the library that is loaded, or "" without one. */
const char *weft_cudnn_version(void);

/* For the GPU that is current; NULL and why. */
weft_cudnn *weft_cudnn_open(weft_cudnn_reason *why);
/* For a GPU that need not be there, described in cuDNN's JSON: its plans can be asked for their workspace,
 * but not run. */
weft_cudnn *weft_cudnn_open_described(const char *json, weft_cudnn_reason *why);
void weft_cudnn_close(weft_cudnn *c); /* also of NULL; its plans must be gone */

/* NULL and why. Takes about a second. */
weft_cudnn_plan *weft_cudnn_plan_make(weft_cudnn *c, const weft_graph *g, weft_cudnn_reason *why);
void weft_cudnn_plan_free(weft_cudnn_plan *p); /* also of NULL */
size_t weft_cudnn_plan_workspace(const weft_cudnn_plan *p);

/* Queues it on `stream`, a cudaStream_t: `arrays` by weft_graph_role, the workspace 16-byte aligned. False
 * and why. */
bool weft_cudnn_run(weft_cudnn *c, const weft_cudnn_plan *p, void *stream,
                    void *const arrays[WEFT_GRAPH_ROLES], void *workspace, weft_cudnn_reason *why);

#endif
