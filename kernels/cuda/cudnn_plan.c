/* Execution plans of cuDNN's graph API: the graph, an engine that computes it, the plan; and running it. */
#include "cuda/cudnn_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef dnn_descriptor descriptor;

struct weft_cudnn {
    const weft_cudnn_library *lib;
    cudnnHandle_t handle;       /* of a GPU, or NULL */
    dnn_descriptors properties; /* then: one, of a GPU that is described */
};

struct weft_cudnn_plan {
    weft_graph graph; /* its scalars are read when it runs */
    const weft_cudnn_library *lib;
    dnn_descriptors all; /* the last is the plan's own */
    int64_t workspace;
};

static dnn_builder builder_of(const weft_cudnn *c, dnn_descriptors *all, weft_cudnn_reason *why) {
    dnn_builder b = {.lib = c->lib, .handle = c->handle, .all = all, .why = why};
    if (!c->handle && c->properties.count > 0) b.properties = c->properties.made[0];
    return b;
}

static void get(dnn_builder *b, descriptor d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t most, int64_t *count, void *values) {
    if (!b->failed)
        dnn_check(b, b->lib->BackendGetAttribute(d, name, type, most, count, values), "asking about a plan");
}

/* ---- making a plan ---- */

static void finish_plan(dnn_builder *b, descriptor engine, int64_t *workspace) {
    int64_t count;
    descriptor d = dnn_make(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    dnn_set_descriptor(b, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine);
    if (b->handle)
        dnn_set(b, d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->handle);
    else
        dnn_set_descriptor(b, d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, b->properties);
    dnn_finalize(b, d, "building the plan");
    get(b, d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, workspace);
}

/* The first of cuDNN's proposals, which come best first, that makes a plan. */
static void proposed_engine(dnn_builder *b, descriptor graph, int64_t *workspace) {
    enum { MOST = 8 };
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    descriptor proposals[MOST];
    int64_t count = 0;
    descriptor search = dnn_make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    dnn_set_descriptor(b, search, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    dnn_set(b, search, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (!b->handle) dnn_set_descriptor(b, search, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, b->properties);
    dnn_finalize(b, search, "asking for engines");
    for (int i = 0; i < MOST; i++) proposals[i] = dnn_make(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    get(b, search, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST, &count, proposals);
    if (b->failed) return;
    dnn_say(b->why, "it has no engine for this on this GPU");
    b->failed = true;
    for (int64_t i = 0; i < count && i < MOST && b->failed; i++) {
        b->failed = false;
        finish_plan(b, proposals[i], workspace);
    }
}

static descriptor knob(dnn_builder *b, cudnnBackendKnobType_t type, int64_t value) {
    descriptor d = dnn_make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    dnn_set(b, d, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
    dnn_set_int(b, d, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, value);
    return dnn_finalize(b, d, "choosing an engine");
}

/* The engine made for Blackwell (compute capability 10) computes our backward graph in one setting only,
 * which cuDNN does not propose by itself; NVIDIA's own front end asks for it by these numbers. Other GPUs
 * refuse them at once. From 9.23 on the numbers mean something else. */
static void blackwell_engine(dnn_builder *b, descriptor graph, int64_t *workspace) {
    enum { ENGINE = 5, KERNEL = 31, STAGES = 2 };
    descriptor engine = dnn_make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    dnn_set_descriptor(b, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    dnn_set_int(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, ENGINE);
    if (!b->handle) dnn_set_descriptor(b, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, b->properties);
    dnn_finalize(b, engine, "choosing an engine");
    const descriptor knobs[] = {knob(b, CUDNN_KNOB_TYPE_KERNEL_CFG, KERNEL),
                                knob(b, CUDNN_KNOB_TYPE_STAGES, STAGES)};
    descriptor config = dnn_make(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    dnn_set_descriptor(b, config, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    dnn_set(b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, 2, knobs);
    dnn_finalize(b, config, "choosing an engine");
    finish_plan(b, config, workspace);
}

weft_cudnn_plan *weft_cudnn_plan_make(weft_cudnn *c, const weft_graph *g, weft_cudnn_reason *why) {
    enum { RENUMBERED = 92300 };
    weft_cudnn_plan *plan = calloc(1, sizeof *plan);
    if (!plan) {
        dnn_say(why, "no memory for a plan");
        return NULL;
    }
    plan->graph = *g;
    plan->lib = c->lib;
    dnn_builder b = builder_of(c, &plan->all, why);
    descriptor graph = dnn_lower(&b, &plan->graph);
    dnn_builder other = b;
    if (c->lib->GetVersion() < RENUMBERED)
        blackwell_engine(&other, graph, &plan->workspace);
    else
        other.failed = true;
    if (other.failed) proposed_engine(&b, graph, &plan->workspace);
    if (!b.failed) return plan;
    weft_cudnn_plan_free(plan);
    return NULL;
}

void weft_cudnn_plan_free(weft_cudnn_plan *p) {
    if (!p) return;
    dnn_free(p->lib, &p->all);
    free(p);
}

size_t weft_cudnn_plan_workspace(const weft_cudnn_plan *p) {
    return (size_t)p->workspace;
}

/* ---- running it ---- */

bool weft_cudnn_run(weft_cudnn *c, const weft_cudnn_plan *p, void *stream,
                    void *const arrays[WEFT_GRAPH_ROLES], void *workspace, weft_cudnn_reason *why) {
    int64_t names[WEFT_GRAPH_TENSORS];
    void *values[WEFT_GRAPH_TENSORS];
    int64_t n = 0;
    WEFT_CHECK(c->handle, "a plan for a GPU that is only described cannot run");
    for (int i = 0; i < p->graph.tensors; i++) {
        const weft_graph_tensor *t = &p->graph.tensor[i];
        if (t->kind != WEFT_GRAPH_ARRAY && t->kind != WEFT_GRAPH_SCALAR) continue;
        names[n] = dnn_name(i);
        values[n++] = t->kind == WEFT_GRAPH_ARRAY ? arrays[i] : (void *)&t->value;
    }
    dnn_descriptors all = {0};
    dnn_builder b = builder_of(c, &all, why);
    dnn_check(&b, c->lib->SetStream(c->handle, stream), "choosing the stream");
    descriptor pack = dnn_make(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    dnn_set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, names);
    dnn_set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, values);
    dnn_set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    dnn_finalize(&b, pack, "naming the arrays");
    descriptor plan = p->all.made[p->all.count - 1];
    if (!b.failed) dnn_check(&b, c->lib->BackendExecute(c->handle, plan, pack), "running the plan");
    dnn_free(c->lib, &all);
    return !b.failed;
}

/* ---- the library ---- */

const char *weft_cudnn_version(void) {
    static char text[32];
    weft_cudnn_reason unused;
    const weft_cudnn_library *lib = weft_cudnn_load(&unused);
    if (!lib) return "";
    const size_t v = lib->GetVersion();
    snprintf(text, sizeof text, "cuDNN %zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
    return text;
}

/* Backward passes before 9.16 are wrong where T is no multiple of 128. */
static weft_cudnn *open_library(weft_cudnn_reason *why) {
    enum { OLDEST = 91600 };
    const weft_cudnn_library *lib = weft_cudnn_load(why);
    if (!lib) return NULL;
    if (lib->GetVersion() < OLDEST) {
        dnn_say(why, "%s is too old: 9.16 or newer is needed", weft_cudnn_version());
        return NULL;
    }
    weft_cudnn *c = calloc(1, sizeof *c);
    if (c)
        c->lib = lib;
    else
        dnn_say(why, "no memory for a handle");
    return c;
}

weft_cudnn *weft_cudnn_open(weft_cudnn_reason *why) {
    weft_cudnn *c = open_library(why);
    if (!c || dnn_ok(c->lib, c->lib->Create(&c->handle), "opening cuDNN", why)) return c;
    free(c);
    return NULL;
}

weft_cudnn *weft_cudnn_open_described(const char *json, weft_cudnn_reason *why) {
    weft_cudnn *c = open_library(why);
    if (!c) return NULL;
    dnn_builder b = builder_of(c, &c->properties, why);
    descriptor d = dnn_make(&b, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    dnn_set(&b, d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
    dnn_finalize(&b, d, "describing a GPU");
    if (!b.failed) return c;
    weft_cudnn_close(c);
    return NULL;
}

void weft_cudnn_close(weft_cudnn *c) {
    if (!c) return;
    if (c->handle) c->lib->Destroy(c->handle);
    dnn_free(c->lib, &c->properties);
    free(c);
}
