/* The subcommands. Each gets the arguments behind its name (argv[0] is the name) and returns a status; main()
 * turns it into the exit code. "Collective" commands run on every rank of an mpirun. */
#ifndef WEFT_COMMANDS_H
#define WEFT_COMMANDS_H

#include "parallel/world.h"

typedef struct weft_command {
    const char *name;
    const char *summary;
    weft_status (*run)(const weft_world *w, int argc, char **argv);
    bool collective; /* false: refuses to run on more than one rank */
} weft_command;

extern const weft_command weft_commands[];
extern const int weft_commands_count;

void weft_version_print(void);

weft_status weft_cmd_train(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_ledger(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_ablate(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_report(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_bench(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_plan(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_parity(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_config(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_data(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_tokenizer(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_ckpt(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_export(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_import(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_eval(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_logprob(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_generate(const weft_world *w, int argc, char **argv);

#endif
