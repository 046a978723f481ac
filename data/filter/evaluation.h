/* Evaluation files: jsonl, of which every string is a text, or txt, which is one text. Private to
 * data/filter. */
#ifndef WEFT_EVALUATION_H
#define WEFT_EVALUATION_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

/* Takes a piece of a text: valid UTF-8, the line of the file (from 1) that it is of. A txt comes line by
 * line. */
typedef weft_status weft_evaluation_piece(void *arg, const char *text, size_t bytes, int64_t line);
typedef weft_status weft_evaluation_end(void *arg); /* of a text */

/* By the name's ending; either packed as sources are. WEFT_EINPUT, with file:line, for a line that is no JSON
 * object or no UTF-8: what is not read is not looked for. */
weft_status weft_evaluation_read(const char *path, weft_evaluation_piece *piece, weft_evaluation_end *end,
                                 void *arg);

#endif
