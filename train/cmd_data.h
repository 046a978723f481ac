/* Parts of `weft data`. Private to train/cmd_data*.c. */
#ifndef WEFT_CMD_DATA_H
#define WEFT_CMD_DATA_H

#include "runtime/status.h"

#include <jansson.h>
#include <stdbool.h>

weft_status weft_data_build_command(int argc, char **argv);

/* What a data directory holds, by domain and split: a table, or JSON. */
weft_status weft_data_print_summary(const char *dir, bool json);

/* Prints it indented and releases it; WEFT_ENOMEM for NULL. */
weft_status weft_data_print_json(json_t *value);
weft_status weft_data_flush(void); /* stdout, checked */

#endif
