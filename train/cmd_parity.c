/* `weft parity CONFIG.yaml [key=value ...]`: collective. One step on the mesh and on one rank, compared. */
#include "runtime/log.h"
#include "train/commands.h"
#include "train/options.h"
#include "train/parity.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct parity {
    weft_config config, config_one; /* the mesh's, and one rank's */
    weft_parity_side mesh, one;     /* one: rank 0 only */
    weft_parity_report report;
    double tolerance;
    bool json;
} parity;

static const weft_world alone = {.size = 1, .local_size = 1};

static weft_status read_arguments(parity *p, const weft_world *w, int argc, char **argv, bool *help) {
    const weft_usage usage = {
        .command = "weft parity",
        .positional = "CONFIG.yaml [key=value ...]",
        .text = "Does the first step of a run twice on the same batch, on the ranks of mpirun as mesh.*\n"
                "says and on one of them alone, and compares what both compute: outputs of the blocks,\n"
                "losses, gradients, updated weights. Prints a table in the order of execution; where the\n"
                "first tensor differs is where to look for a mistake. Exit status 1 when one does.\n"
                "\n"
                "The largest difference of any element is judged, relative to the tensor's root mean\n"
                "square. Layouts add the same numbers in another order: that makes 2e-5 at most in\n"
                "single precision, a mistake 1e-3 or more. In a large model a router may find two experts\n"
                "equal to the last digit, and choose the other one: then a few tokens behind an expert\n"
                "layer differ by much.",
        .min_positional = 1,
        .max_positional = -1};
    const weft_option options[] = {
        {"tolerance", WEFT_OPT_REAL, &p->tolerance, "X", "largest relative difference that passes (1e-4)"},
        {"json", WEFT_OPT_FLAG, &p->json, NULL, "print one JSON object"},
    };
    int n = 0;
    p->tolerance = WEFT_PARITY_TOLERANCE;
    WEFT_TRY(weft_options_parse(&usage, options, 2, argc, argv, &n, help));
    if (*help) return WEFT_OK;
    if (!(p->tolerance > 0)) WEFT_FAIL(WEFT_EINPUT, "--tolerance %g: must be above 0", p->tolerance);
    if (w->size == 1)
        WEFT_FAIL(WEFT_EINPUT,
                  "one rank has nothing to be compared with; start it as `mpirun -n N weft parity ...`");
    WEFT_TRY(weft_config_read(&p->config, argv[1], n - 1, argv + 2));
    p->config_one = p->config;
    for (weft_axis a = 0; a < WEFT_AXES; a++) p->config_one.mesh.sizes.size[a] = 1;
    return WEFT_OK;
}

/* Bytes that this machine can still give; 0: unknown. */
static size_t available_memory(void) {
    FILE *f = fopen("/proc/meminfo", "r");
    char line[256];
    size_t kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %zu", &kib) == 1) break;
    if (f) fclose(f);
    return kib << 10;
}

/* Linux grants what it does not have, and ends the process when it is used: better to know before. */
static weft_status check_memory(const parity *p, const weft_world *w) {
    size_t mesh, one = 0, have = available_memory();
    WEFT_TRY(weft_parity_bytes(&p->config, w, &mesh));
    WEFT_TRY(weft_parity_bytes(&p->config_one, &alone, &one));
    size_t want = mesh * (size_t)w->local_size + one;
    if (have && want > have)
        WEFT_FAIL(
            WEFT_ENOMEM,
            "this needs %.2f GiB on the machine of rank 0, of which one rank alone takes %.2f; %.2f GiB are "
            "there. "
            "Fewer layers, a smaller train.global_batch or a shorter train.seq_len show the same mistakes",
            (double)want / (1 << 30), (double)one / (1 << 30), (double)have / (1 << 30));
    return WEFT_OK;
}

static weft_status compare(parity *p, const weft_world *w) {
    weft_status st = WEFT_OK;
    char text[512];
    WEFT_TRY(weft_parity_run(&p->mesh, &p->config, w));
    weft_log_replicated(false);
    if (w->rank == 0) st = weft_parity_run(&p->one, &p->config_one, &alone);
    WEFT_TRY(weft_world_agree(st));
    WEFT_TRY(weft_parity_compare(&p->report, &p->mesh, w->rank == 0 ? &p->one : NULL, p->tolerance));
    const weft_mesh *mesh = &p->mesh.trainer.comm.mesh;
    if (w->rank == 0) st = weft_parity_print(&p->report, mesh, p->json);
    WEFT_TRY(weft_world_agree(st));
    /* Every rank ends with the same status; one says why. */
    if (!weft_world_any(w->rank == 0 && p->report.first >= 0)) return WEFT_OK;
    weft_log_replicated(true);
    if (w->rank != 0) return WEFT_EINTERNAL;
    WEFT_FAIL(WEFT_EINTERNAL, "%s", weft_parity_first(&p->report, mesh, text, sizeof text));
}

weft_status weft_cmd_parity(const weft_world *w, int argc, char **argv) {
    parity *p = calloc(1, sizeof *p);
    if (!p) WEFT_FAIL(WEFT_ENOMEM, "no memory");
    bool help = false;
    weft_log_replicated(true);
    weft_status st = weft_world_agree(read_arguments(p, w, argc, argv, &help));
    if (st == WEFT_OK && !help) st = weft_world_agree(check_memory(p, w));
    if (st == WEFT_OK && !help) st = compare(p, w);
    weft_parity_report_free(&p->report);
    weft_parity_close(&p->one);
    weft_parity_close(&p->mesh);
    free(p);
    return st;
}
