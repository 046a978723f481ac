/* `weft bench`: what this machine can do, and how long a step takes on it. */
#include "train/commands.h"
#include "train/options.h"
#include "train/output.h"
#include "train/plan/bench.h"

#include "runtime/fs.h"
#include "runtime/log.h"
#include "runtime/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* ---- bench machine ------------------------------------------------------------------------------ */

typedef struct request {
    const char *out, *device, *name;
    int64_t rounds;
} request;

static weft_status open_device(const weft_world *w, bool cuda, weft_dtype act, bool tf32, weft_device *d) {
    if (cuda)
        return weft_device_open_cuda(
            d, &(weft_cuda_options){.local_rank = w->local_rank, .act = act, .tf32 = tf32});
    WEFT_TRY(weft_device_open_cpu(d));
    d->threads = weft_world_threads(w);
    return WEFT_OK;
}

static double load_average(void) {
    double load = 0;
    return getloadavg(&load, 1) == 1 ? load : 0;
}

static void describe(const weft_world *w, const weft_device *d, const request *r, weft_machine *m) {
    struct utsname u;
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    m->node = w->local_size;
    m->overlap = d->driver && d->driver->overlaps;
    if (weft_device_on_host(d)) m->memory = (double)pages * (double)page / w->local_size;
    snprintf(m->name, sizeof m->name, "%s",
             *r->name         ? r->name
             : uname(&u) == 0 ? u.nodename
                              : "this machine");
    snprintf(m->source, sizeof m->source,
             "measured: weft bench machine, %s, %d rank%s x %d thread%s, load average %.1f before",
             d->ops->name, w->size, w->size == 1 ? "" : "s", d->threads, d->threads == 1 ? "" : "s",
             load_average());
}

static weft_status measure_type(const weft_world *w, const request *r, weft_product_type type,
                                weft_machine *m) {
    const bool cuda =
        strcmp(r->device, "cuda") == 0 || (strcmp(r->device, "auto") == 0 && weft_cuda_devices() > 0);
    const bool first = m->bandwidth == 0;
    weft_device d = {0};
    if (!cuda && type != WEFT_PRODUCT_FP32) return WEFT_OK;
    weft_status st = weft_world_agree(open_device(
        w, cuda, type == WEFT_PRODUCT_BF16 ? WEFT_BF16 : WEFT_REAL_DTYPE, type == WEFT_PRODUCT_TF32, &d));
    if (st == WEFT_OK && first) describe(w, &d, r, m);
    if (st == WEFT_OK) st = weft_bench_machine(w, &d, type, (int)r->rounds, m);
    if (st == WEFT_OK && first) st = weft_bench_links(w, &d, (int)r->rounds, m);
    weft_device_close(&d);
    return st;
}

static weft_status write_machine(const weft_machine *m, const char *path) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) WEFT_FAIL(WEFT_ENOMEM, "no memory for the machine's description");
    weft_machine_print(m, f);
    if (fclose(f) != 0) {
        free(text);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the machine's description");
    }
    weft_status st = *path ? weft_fs_replace_file(path, text, bytes) : WEFT_OK;
    if (!*path) fputs(text, stdout);
    free(text);
    return st == WEFT_OK ? weft_output_finish() : st;
}

static weft_status check(const request *r) {
    static const char *const devices[] = {"auto", "cpu", "cuda"};
    bool known = false;
    for (int i = 0; i < 3; i++) known |= strcmp(r->device, devices[i]) == 0;
    if (!known) WEFT_FAIL(WEFT_EINPUT, "--device %s: must be auto, cpu or cuda", r->device);
    if (r->rounds < 1 || r->rounds > WEFT_BENCH_ROUNDS)
        WEFT_FAIL(WEFT_EINPUT, "--rounds %lld: must be from 1 to %d", (long long)r->rounds,
                  (int)WEFT_BENCH_ROUNDS);
    return WEFT_OK;
}

weft_status weft_cmd_bench_machine(const weft_world *w, int argc, char **argv) {
    request r = {.out = "", .device = "auto", .name = "", .rounds = 15};
    const weft_usage usage = {
        .command = "weft bench machine",
        .positional = "",
        .text = "Measures what a rank of this machine can do, through the operations that training uses:\n"
                "matrix products by size, attention, scan, memory, special functions; and under mpirun\n"
                "the links between ranks. Prints, or writes, a file for `weft plan --machine`. Run it\n"
                "with the ranks and threads that a run will have, and nothing else running.",
        .max_positional = 0};
    const weft_option options[] = {
        {"o", WEFT_OPT_STRING, &r.out, "FILE.yaml", "where to write it (the terminal)"},
        {"name", WEFT_OPT_STRING, &r.name, "TEXT", "what to call the machine (its network name)"},
        {"device", WEFT_OPT_STRING, &r.device, "DEVICE", "auto, cpu or cuda (auto)"},
        {"rounds", WEFT_OPT_INT, &r.rounds, "N",
         "measurements of each rate, of which the middle one counts (15)"},
    };
    bool help = false;
    int n = 0;
    weft_machine m = {.node = 1, .efficiency = {1, 1, 1, 1, 1, 1}};
    weft_log_replicated(true);
    weft_status st = weft_options_parse(&usage, options, 4, argc, argv, &n, &help);
    if (st == WEFT_OK && !help) st = check(&r);
    st = weft_world_agree(st);
    weft_log_replicated(false);
    if (st != WEFT_OK || help) return st;
    static const weft_product_type types[] = {WEFT_PRODUCT_BF16, WEFT_PRODUCT_FP32, WEFT_PRODUCT_TF32};
    for (int i = 0; i < 3; i++) WEFT_TRY(measure_type(w, &r, types[i], &m));
    return weft_world_agree(w->rank == 0 ? write_machine(&m, r.out) : WEFT_OK);
}

/* ---- bench -------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *summary;
    weft_status (*run)(const weft_world *w, int argc, char **argv);
} parts[] = {
    {"machine", "what this machine can do, as a file for `weft plan --machine`", weft_cmd_bench_machine},
    {"step", "how long a training step of a configuration takes here", weft_cmd_bench_step},
};
enum { PARTS = sizeof parts / sizeof *parts };

weft_status weft_cmd_bench(const weft_world *w, int argc, char **argv) {
    const char *names[PARTS];
    const char *part = argc > 1 ? argv[1] : "";
    for (int i = 0; i < PARTS; i++) {
        if (strcmp(part, parts[i].name) == 0) return parts[i].run(w, argc - 1, argv + 1);
        names[i] = parts[i].name;
    }
    if (strcmp(part, "--help") == 0 || strcmp(part, "-h") == 0) {
        printf("usage: weft bench PART [ARGUMENTS]     (weft bench PART --help tells more)\n\n");
        for (int i = 0; i < PARTS; i++) printf("  %-10s %s\n", parts[i].name, parts[i].summary);
        return weft_output_finish();
    }
    weft_log_replicated(true);
    int near = weft_nearest(part, names, PARTS);
    if (*part && near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "weft bench: unknown part '%s'; did you mean '%s'?", part, names[near]);
    WEFT_FAIL(WEFT_EINPUT, "weft bench: what? machine or step (weft bench --help)");
}
