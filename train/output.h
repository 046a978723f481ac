/* What commands print on stdout: one JSON object, and the check that all of it was written. */
#ifndef WEFT_OUTPUT_H
#define WEFT_OUTPUT_H

#include "runtime/status.h"

#include <jansson.h>

/* Ends a command's output. A full disk or a closed pipe shows here at the latest: WEFT_EIO. */
weft_status weft_output_finish(void);

/* Prints the object (taken; NULL means that there was no memory for it) with jansson's flags, and finishes.
 */
weft_status weft_output_json(json_t *object, size_t flags);

/* A number, or null for what JSON has no number for: NaN and infinities. */
json_t *weft_output_real(double x);

#endif
