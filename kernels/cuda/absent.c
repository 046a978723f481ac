/* In place of the CUDA backend, where it is not built. */
#include "runtime/device.h"

weft_status weft_device_open_cuda(weft_device *d, const weft_cuda_options *o) {
    (void)d, (void)o;
    WEFT_FAIL(WEFT_EINPUT, "device=cuda: this binary was built without CUDA (-DWEFT_CUDA=off, or no toolkit was "
                           "found); use device=cpu");
}

int weft_cuda_devices(void) {
    return 0;
}

const char *weft_cuda_version(void) {
    return "";
}
