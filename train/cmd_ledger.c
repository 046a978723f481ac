/* `weft ledger DIR`: what each rank of a job did last, and the verdict about them. */
#include "parallel/ledger_read.h"
#include "runtime/fs.h"
#include "train/commands.h"
#include "train/options.h"
#include "train/output.h"

#include <stdio.h>
#include <sys/stat.h>

static json_t *time_or_null(double moment) {
    return moment > 0 ? json_real(moment) : json_null();
}

static json_t *record_json(const weft_ledger_record *r) {
    static const char *const states[] = {"started", "waiting", "complete"};
    return json_pack("{s:I, s:s, s:I, s:s, s:s, s:I, s:s, s:f, s:o, s:o}", "sequence",
                     (json_int_t)r->sequence, "group", weft_group_name(r->group), "number",
                     (json_int_t)r->group_sequence, "collective", weft_collective_name(r->op), "tensor",
                     r->tensor, "bytes", (json_int_t)r->bytes, "state", states[r->state], "entered",
                     r->entered, "waited", time_or_null(r->waited), "left", time_or_null(r->left));
}

/* The record of that sequence number; null when there is none. */
static json_t *numbered_json(const weft_ledger_job *j, int rank, uint64_t sequence) {
    weft_ledger_record r;
    return weft_ledger_job_record(j, rank, sequence, &r) ? record_json(&r) : json_null();
}

static json_t *records_json(const weft_ledger_job *j, int rank, int count) {
    const weft_ledger_rank *k = weft_ledger_job_rank(j, rank);
    json_t *list = json_array();
    uint64_t from = k->last > (uint64_t)count ? k->last - (uint64_t)count + 1 : 1;
    weft_ledger_record r;
    for (uint64_t s = from; s <= k->last && list; s++)
        if (weft_ledger_job_record(j, rank, s, &r) && json_array_append_new(list, record_json(&r)) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static json_t *bytes_json(const int64_t bytes[WEFT_AXES + 1]) {
    json_t *o = json_object();
    int bad = 0;
    for (int a = 0; a <= WEFT_AXES; a++)
        bad |= json_object_set_new(o, a == WEFT_AXES ? "control" : weft_axis_name((weft_axis)a),
                                   json_integer((json_int_t)bytes[a]));
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

static json_t *rank_json(const weft_ledger_job *j, int rank, int count) {
    const weft_ledger_rank *k = weft_ledger_job_rank(j, rank);
    json_t *o = json_pack("{s:i, s:s, s:b, s:I, s:s, s:f, s:I, s:s, s:o, s:o, s:o}", "rank", rank, "state",
                          weft_rank_state_name(k->state), "stopped", k->stopped, "pid", (json_int_t)k->pid,
                          "host", k->host, "started", k->started, "step", (json_int_t)k->step, "activity",
                          k->activity, "waits_in", numbered_json(j, rank, k->waits_in), "last_complete",
                          numbered_json(j, rank, k->complete), "step_bytes", bytes_json(k->bytes));
    if (o && count > 0 && json_object_set_new(o, "records", records_json(j, rank, count)) != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* Last step that every rank has ended. */
static int64_t whole_step(const weft_ledger_job *j) {
    int64_t step = weft_ledger_job_rank(j, 0)->whole_step;
    for (int r = 1; r < weft_ledger_job_mesh(j)->ranks; r++)
        if (weft_ledger_job_rank(j, r)->whole_step < step) step = weft_ledger_job_rank(j, r)->whole_step;
    return step;
}

static weft_status print_json(const char *dir, int rank, int count, const char *verdict, bool parted) {
    weft_ledger_job *j;
    int64_t sum[WEFT_AXES + 1] = {0}, most[WEFT_AXES + 1] = {0}; /* over all ranks; of those shown */
    WEFT_TRY(weft_ledger_job_open_for(&j, dir, rank));
    const weft_mesh *m = weft_ledger_job_mesh(j);
    json_t *list = json_array(), *mesh = json_object();
    int bad = 0;
    for (int a = 0; a < WEFT_AXES; a++)
        bad |= json_object_set_new(mesh, weft_axis_name((weft_axis)a), json_integer(m->size[a]));
    for (int r = 0; r < m->ranks; r++) {
        const int64_t *bytes = weft_ledger_job_rank(j, r)->bytes;
        bool shown = rank < 0 || rank == r;
        for (int a = 0; a <= WEFT_AXES; a++) {
            sum[a] += bytes[a];
            if (shown && bytes[a] > most[a]) most[a] = bytes[a];
        }
        if (shown) bad |= json_array_append_new(list, rank_json(j, r, count));
    }
    json_t *o =
        json_pack("{s:i, s:o, s:b, s:s, s:I, s:o, s:o, s:o}", "ranks", m->ranks, "mesh", mesh, "parted",
                  parted, "verdict", verdict, "step", (json_int_t)whole_step(j), "step_bytes",
                  bytes_json(sum), "step_bytes_per_rank", bytes_json(most), "processes", list);
    weft_ledger_job_close(j);
    if (bad) {
        json_decref(o);
        o = NULL;
    }
    return weft_output_json(o, JSON_INDENT(2));
}

/* A run's ledger lies in RUN/ledger. */
static weft_status find_ledger(const char *path, char dir[WEFT_PATH_SIZE]) {
    struct stat s;
    WEFT_TRY(weft_fs_path(dir, "%s/ledger", path));
    if (stat(dir, &s) == 0 && S_ISDIR(s.st_mode)) return WEFT_OK;
    return weft_fs_path(dir, "%s", path);
}

weft_status weft_cmd_ledger(const weft_world *w, int argc, char **argv) {
    bool json = false, help = false, parted;
    int64_t records = 0, rank = -1;
    int positional = 0;
    char dir[WEFT_PATH_SIZE], verdict[WEFT_PATH_SIZE];
    const weft_usage usage = {
        .command = "weft ledger",
        .positional = "RUN|DIR",
        .text = "Shows what each rank of a job did last, while it runs or after its end, from the files in "
                "RUN/ledger, and\n"
                "says which rank the others wait for, or which one died. The exit status is 0 when all ranks "
                "are in\n"
                "step or finished, 1 when they part or one died, 2 when the files cannot be read.",
        .min_positional = 1,
        .max_positional = 1};
    const weft_option options[] = {
        {"records", WEFT_OPT_INT, &records, "N", "show each rank's last N collectives (0)"},
        {"rank", WEFT_OPT_INT, &rank, "R", "show this rank only"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "print one JSON object"},
    };
    (void)w; /* never more than one rank */
    WEFT_TRY(weft_options_parse(&usage, options, 3, argc, argv, &positional, &help));
    if (help) return WEFT_OK;
    if (records < 0 || records > WEFT_LEDGER_RECORDS)
        WEFT_FAIL(WEFT_EINPUT, "--records %lld: must be from 0 to %d", (long long)records,
                  WEFT_LEDGER_RECORDS);
    if (rank < -1 || rank > INT32_MAX)
        WEFT_FAIL(WEFT_EINPUT, "--rank %lld: there is no such rank", (long long)rank);
    WEFT_TRY(find_ledger(argv[1], dir));
    WEFT_TRY(weft_ledger_examine(dir, verdict, sizeof verdict, &parted));
    if (json)
        WEFT_TRY(print_json(dir, (int)rank, (int)records, verdict, parted));
    else {
        WEFT_TRY(weft_ledger_print(dir, (int)rank, (int)records, stdout));
        printf("%s\n", verdict);
        WEFT_TRY(weft_output_finish());
    }
    return parted ? WEFT_EINTERNAL : WEFT_OK; /* exit status 1; the verdict has said why */
}
