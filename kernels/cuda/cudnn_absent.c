/* In place of cudnn_plan.c, where cuDNN is not there to build with. */
#include "cuda/cudnn.h"

#include <stdio.h>

const char *weft_cudnn_version(void) {
    return "";
}

static void *absent(weft_cudnn_reason *why) {
    snprintf(why->text, sizeof why->text, "this binary was built without cuDNN");
    return NULL;
}

weft_cudnn *weft_cudnn_open(weft_cudnn_reason *why) {
    return absent(why);
}
weft_cudnn *weft_cudnn_open_described(const char *json, weft_cudnn_reason *why) {
    (void)json;
    return absent(why);
}
void weft_cudnn_close(weft_cudnn *c) {
    (void)c;
}

weft_cudnn_plan *weft_cudnn_plan_make(weft_cudnn *c, const weft_graph *g, weft_cudnn_reason *why) {
    (void)c, (void)g;
    return absent(why);
}
void weft_cudnn_plan_free(weft_cudnn_plan *p) {
    (void)p;
}
size_t weft_cudnn_plan_workspace(const weft_cudnn_plan *p) {
    (void)p;
    return 0;
}

bool weft_cudnn_run(weft_cudnn *c, const weft_cudnn_plan *p, void *stream,
                    void *const arrays[WEFT_GRAPH_ROLES], void *workspace, weft_cudnn_reason *why) {
    (void)c, (void)p, (void)stream, (void)arrays, (void)workspace;
    return absent(why);
}
