/* weft: the command. Starts MPI, finds the subcommand, turns its status into the exit code of every rank. */
#include "runtime/log.h"
#include "runtime/text.h"
#include "train/commands.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(void) {
    printf("usage: weft COMMAND [ARGUMENTS]     (weft COMMAND --help tells more)\n"
           "       mpirun -n N weft train CONFIG.yaml [key=value ...]\n\n");
    for (int i = 0; i < weft_commands_count; i++)
        printf("  %-10s %s\n", weft_commands[i].name, weft_commands[i].summary);
    printf("\n  --version  what this binary was built with\n  --help     this text\n");
}

static weft_status unknown_command(const char *name) {
    const char *names[64];
    int count = weft_commands_count < 64 ? weft_commands_count : 64;
    for (int i = 0; i < count; i++) names[i] = weft_commands[i].name;
    int near = weft_nearest(name, names, count);
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "unknown command '%s'; did you mean '%s'? (weft --help lists all)", name,
                  names[near]);
    WEFT_FAIL(WEFT_EINPUT, "unknown command '%s' (weft --help lists all)", name);
}

static weft_status dispatch(const weft_world *w, int argc, char **argv) {
    for (int i = 0; i < weft_commands_count; i++) {
        const weft_command *c = &weft_commands[i];
        if (strcmp(argv[1], c->name) != 0) continue;
        if (!c->collective && w->size > 1) {
            weft_log_replicated(true);
            WEFT_FAIL(WEFT_EINPUT, "weft %s runs on one rank; start it without mpirun", c->name);
        }
        return c->run(w, argc - 1, argv + 1);
    }
    weft_log_replicated(true);
    return unknown_command(argv[1]);
}

int main(int argc, char **argv) {
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        weft_version_print();
        return 0;
    }
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help();
        return argc < 2 ? 2 : 0;
    }
    weft_world world;
    weft_status st = weft_world_init(&argc, &argv, &world);
    if (st != WEFT_OK) return weft_status_exit_code(st);
    /* What all ranks print alike is printed once. A full quota or file-size limit is an error of write(),
     * with its message, not a signal. */
    if (world.rank != 0 && !freopen("/dev/null", "w", stdout)) fclose(stdout);
    signal(SIGXFSZ, SIG_IGN);
    int code = weft_world_exit_code(weft_status_exit_code(dispatch(&world, argc, argv)));
    weft_world_finalize();
    return code;
}
