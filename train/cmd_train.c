/* `weft train CONFIG.yaml [key=value ...]`: collective. Pretrains, or goes on from the newest checkpoint. */
#include "runtime/log.h"
#include "train/commands.h"
#include "train/options.h"
#include "train/run.h"

#include <stdlib.h>

static weft_status read_config(weft_config *c, int argc, char **argv, bool *help) {
    const weft_usage usage = {
        .command = "weft train",
        .positional = "CONFIG.yaml [key=value ...]",
        .text = "Pretrains a model from a configuration, or goes on from its run's newest checkpoint.\n"
                "Under mpirun the ranks share the model and the batch as mesh.* says (by default\n"
                "every rank holds a part of the parameters and works on a part of the batch).\n"
                "`weft config doc` lists the keys.",
        .min_positional = 1,
        .max_positional = -1};
    int n = 0;
    WEFT_TRY(weft_options_parse(&usage, NULL, 0, argc, argv, &n, help));
    if (*help) return WEFT_OK;
    WEFT_TRY(weft_config_read(c, argv[1], n - 1, argv + 2));
    if (!*c->run)
        WEFT_FAIL(WEFT_EINPUT, "no run directory: add `run: DIR` to %s or run=DIR to the command line",
                  argv[1]);
    return WEFT_OK;
}

weft_status weft_cmd_train(const weft_world *w, int argc, char **argv) {
    bool help = false;
    weft_config *c = malloc(sizeof *c);
    weft_log_replicated(true);
    weft_status st =
        weft_world_agree(c ? read_config(c, argc, argv, &help) : weft_fail(WEFT_ENOMEM, "no memory"));
    weft_log_replicated(false);
    if (st == WEFT_OK && !help) st = weft_run_train(w, c, false);
    free(c);
    return st;
}
