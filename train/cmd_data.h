/* Parts of `weft data`. Private to train/cmd_data*.c. */
#ifndef WEFT_CMD_DATA_H
#define WEFT_CMD_DATA_H

#include "parallel/world.h"
#include "runtime/status.h"

#include <stdbool.h>

weft_status weft_data_build_command(const weft_world *w, int argc, char **argv); /* collective */
weft_status weft_data_recipe_command(int argc, char **argv);
weft_status weft_data_ls_command(int argc, char **argv);
weft_status weft_data_show_command(int argc, char **argv);
weft_status weft_data_trace_command(int argc, char **argv);

/* What a data directory holds, by domain and split: a table, or JSON. */
weft_status weft_data_print_summary(const char *dir, bool json);

#endif
