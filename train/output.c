#include "train/output.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

weft_status weft_output_finish(void) {
    if (fflush(stdout) != 0 || ferror(stdout))
        WEFT_FAIL(WEFT_EIO, "cannot write the output: %s", strerror(errno));
    return WEFT_OK;
}

weft_status weft_output_json(json_t *object, size_t flags) {
    char *text = object ? json_dumps(object, flags) : NULL;
    json_decref(object);
    if (!text) WEFT_FAIL(WEFT_ENOMEM, "no memory for the output's JSON");
    puts(text);
    free(text);
    return weft_output_finish();
}

json_t *weft_output_real(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}
