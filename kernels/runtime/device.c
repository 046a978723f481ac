#include "runtime/device.h"

weft_status weft_device_measure(weft_device *d) {
    weft_arena_destroy(&d->act);
    WEFT_TRY(weft_arena_init_measuring(&d->act, "activation"));
    d->dry = true;
    return WEFT_OK;
}

weft_status weft_device_size(weft_device *d, size_t act_bytes) {
    weft_arena_destroy(&d->act);
    WEFT_TRY(weft_arena_init(&d->act, "activation", act_bytes));
    d->dry = false;
    return WEFT_OK;
}

void weft_device_close(weft_device *d) {
    weft_arena_destroy(&d->act);
}
