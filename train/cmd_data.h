/* Parts of `weft data`. Private to train/cmd_data*.c. */
#ifndef WEFT_CMD_DATA_H
#define WEFT_CMD_DATA_H

#include "runtime/status.h"

#include <stdbool.h>

weft_status weft_data_build_command(int argc, char **argv);

/* What a data directory holds, by domain and split: a table, or JSON. */
weft_status weft_data_print_summary(const char *dir, bool json);

#endif
