/* cuDNN in the emulation (kernels/cuda/cudnn.h): a plan is the graph itself, computed on the host when its
 * turn on the stream has come.
 *
 * It touches all the workspace it asks for, and looks that every array is device memory. WEFT_EMULATED_CUDNN
 * in the environment makes it fail as the library might: "absent", "refusing" (no plan), "greedy" (more
 * workspace than the bound by shape), "wrong" (numbers). */
#include "emulation/graph_eval.h"
#include "emulation/streams.h"

extern "C" {
#include "cuda/cudnn.h"
}

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

struct weft_cudnn {};

struct weft_cudnn_plan {
    std::shared_ptr<const weft_graph> graph; /* also of what is still queued */
    size_t workspace;
};

static bool behaves(const char *how) {
    const char *asked = getenv("WEFT_EMULATED_CUDNN");
    return asked && strcmp(asked, how) == 0;
}

template <class T> static T *fail(weft_cudnn_reason *why, const char *text) {
    snprintf(why->text, sizeof why->text, "%s", text);
    return nullptr;
}

const char *weft_cudnn_version() {
    return "cuDNN emulated";
}

weft_cudnn *weft_cudnn_open(weft_cudnn_reason *why) {
    if (behaves("absent")) return fail<weft_cudnn>(why, "there is no cuDNN in this emulation");
    return new weft_cudnn;
}
weft_cudnn *weft_cudnn_open_described(const char *, weft_cudnn_reason *why) {
    return weft_cudnn_open(why);
}
void weft_cudnn_close(weft_cudnn *c) {
    delete c;
}

static size_t workspace_of(const weft_graph &g) {
    int64_t most = 0;
    for (int i = 0; i < g.tensors; i++) {
        const weft_graph_tensor &t = g.tensor[i];
        const int64_t n = t.dim[0] * t.dim[1] * t.dim[2] * t.dim[3];
        if (t.kind == WEFT_GRAPH_VIRTUAL && n > most) most = n;
    }
    const bool backward = g.tensor[WEFT_GRAPH_DOUT].kind == WEFT_GRAPH_ARRAY;
    return static_cast<size_t>(behaves("greedy") ? 1000 * most : backward ? 2 * most : 256);
}

weft_cudnn_plan *weft_cudnn_plan_make(weft_cudnn *, const weft_graph *g, weft_cudnn_reason *why) {
    if (behaves("refusing")) return fail<weft_cudnn_plan>(why, "this emulation has no engine for it");
    if (const char *fault = graph_fault(g)) return fail<weft_cudnn_plan>(why, fault);
    weft_graph copy = *g;
    if (behaves("wrong"))
        for (weft_graph_tensor &t : copy.tensor) t.value *= 1.25f;
    return new weft_cudnn_plan{std::make_shared<const weft_graph>(copy), workspace_of(copy)};
}
void weft_cudnn_plan_free(weft_cudnn_plan *p) {
    delete p;
}
size_t weft_cudnn_plan_workspace(const weft_cudnn_plan *p) {
    return p->workspace;
}

static void check_memory(const weft_graph &g, void *const arrays[], const void *workspace, size_t bytes) {
    for (int i = 0; i < WEFT_GRAPH_ROLES; i++) {
        const weft_graph_tensor &t = g.tensor[i];
        if (t.kind != WEFT_GRAPH_ARRAY) continue;
        const size_t size = static_cast<size_t>(graph_extent(&t)) * (t.type == WEFT_GRAPH_BF16 ? 2 : 4);
        if (!emu_on_device(arrays[i], size) || reinterpret_cast<uintptr_t>(arrays[i]) % 16)
            emu_fail("cuDNN: array %d at %p is not %zu bytes of device memory, 16-byte aligned", i, arrays[i],
                     size);
    }
    if (!emu_on_device(workspace, bytes) || reinterpret_cast<uintptr_t>(workspace) % 16)
        emu_fail("cuDNN: the workspace at %p is not %zu bytes of device memory, 16-byte aligned", workspace,
                 bytes);
}

bool weft_cudnn_run(weft_cudnn *, const weft_cudnn_plan *p, void *stream,
                    void *const arrays[WEFT_GRAPH_ROLES], void *workspace, weft_cudnn_reason *) {
    struct pointers {
        void *array[WEFT_GRAPH_ROLES];
    } all;
    memcpy(all.array, arrays, sizeof all.array);
    check_memory(*p->graph, arrays, workspace, p->workspace);
    emu_enqueue(static_cast<cudaStream_t>(stream), "cuDNN", [=, graph = p->graph, bytes = p->workspace] {
        memset(workspace, 0xff, bytes);
        graph_eval(graph.get(), all.array);
    });
    return true;
}
