/* In place of comm_nccl.c, where CUDA is not built: no device has memory of its own. */
#include "parallel/comm_backend.h"

weft_status weft_nccl_open(weft_device *side, const weft_group *g, const weft_comm_backend **backend,
                           int *handle) {
    (void)side, (void)backend, (void)handle;
    WEFT_FAIL(WEFT_EINTERNAL, "the %s group cannot talk between GPUs: this binary was built without CUDA",
              weft_group_name(g->kind));
}

void weft_nccl_close(int handle) {
    (void)handle;
}

bool weft_nccl_failed(char *why, size_t size) {
    (void)why, (void)size;
    return false;
}

void weft_nccl_abort(void) {}
