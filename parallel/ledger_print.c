/* The tables of `weft ledger DIR`. */
#include "parallel/ledger_read.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static double since(const weft_ledger_job *j, double moment) {
    double d = weft_ledger_job_time(j) - moment;
    return d > 0 ? d : 0;
}

static void print_operation(FILE *out, const weft_ledger_record *r) {
    fprintf(out, *r->tensor ? "%s of %s (%s %" PRIu64 ")" : "%s%s (%s %" PRIu64 ")",
            weft_collective_name(r->op), r->tensor, weft_group_name(r->group), r->group_sequence);
}

static void print_rank(const weft_ledger_job *j, int rank, FILE *out) {
    const weft_ledger_rank *k = weft_ledger_job_rank(j, rank);
    weft_ledger_record r;
    char who[96], step[24] = "-";
    snprintf(who, sizeof who, "%" PRId64 " %s", k->pid, k->host);
    if (k->step >= 0) snprintf(step, sizeof step, "%" PRId64, k->step);
    fprintf(out, "%5d  %-9s  %-20s  %7s  ", rank, k->stopped ? "stopped" : weft_rank_state_name(k->state),
            who, step);
    if (weft_ledger_job_record(j, rank, k->waits_in, &r) && r.state == WEFT_RECORD_WAITING) {
        fprintf(out, "has waited %.1f s in ", since(j, r.waited));
        print_operation(out, &r);
    } else {
        fprintf(out, "%s", *k->activity ? k->activity : "-");
        if (weft_ledger_job_record(j, rank, k->complete, &r)) {
            fprintf(out, "; %.1f s after ", since(j, r.left));
            print_operation(out, &r);
        }
    }
    fputc('\n', out);
}

static void print_record(const weft_ledger_record *r, FILE *out) {
    static const char *const states[] = {"started", "waiting", "complete"};
    char clock[16], waited[24] = "-";
    time_t seconds = (time_t)r->entered;
    struct tm t;
    localtime_r(&seconds, &t);
    strftime(clock, sizeof clock, "%H:%M:%S", &t);
    if (r->state == WEFT_RECORD_COMPLETE && r->waited > 0)
        snprintf(waited, sizeof waited, "%.3f", 1e3 * (r->left - r->waited));
    fprintf(out, "%10" PRIu64 "  %s.%03d  %-8s  %10s  %-14s %8" PRIu64 "  %-14s %12" PRId64 "  %s\n",
            r->sequence, clock, (int)(1e3 * (r->entered - (double)seconds)), states[r->state], waited,
            weft_group_name(r->group), r->group_sequence, weft_collective_name(r->op), r->bytes, r->tensor);
}

static void print_records(const weft_ledger_job *j, int rank, int count, FILE *out) {
    const weft_ledger_rank *k = weft_ledger_job_rank(j, rank);
    weft_ledger_record r;
    uint64_t from = k->first;
    if (k->last >= (uint64_t)count && k->last - (uint64_t)count + 1 > from)
        from = k->last - (uint64_t)count + 1;
    fprintf(out, "rank %d\n%10s  %-12s  %-8s  %10s  %-14s %8s  %-14s %12s  %s\n", rank, "sequence", "entered",
            "state", "waited ms", "group", "number", "collective", "bytes", "tensor");
    for (uint64_t s = from; s <= k->last; s++)
        if (weft_ledger_job_record(j, rank, s, &r)) print_record(&r, out);
}

static void print_bytes(const weft_ledger_job *j, FILE *out) {
    const weft_mesh *m = weft_ledger_job_mesh(j);
    int64_t step = weft_ledger_job_rank(j, 0)->whole_step;
    if (m->ranks == 1) return;
    if (step < 0) {
        fprintf(out, "no step is complete yet\n");
        return;
    }
    fprintf(out, "bytes of step %" PRId64 "\n%-8s  %20s  %20s\n", step, "axis", "all ranks",
            "a rank, at most");
    for (int a = 0; a <= WEFT_AXES; a++) {
        int64_t sum = 0, most = 0;
        for (int r = 0; r < m->ranks; r++) {
            int64_t bytes = weft_ledger_job_rank(j, r)->bytes[a];
            sum += bytes;
            if (bytes > most) most = bytes;
        }
        if (sum == 0 && (a == WEFT_AXES || m->size[a] == 1)) continue;
        fprintf(out, "%-8s  %20" PRId64 "  %20" PRId64 "\n",
                a == WEFT_AXES ? "control" : weft_axis_name((weft_axis)a), sum, most);
    }
}

weft_status weft_ledger_print(const char *dir, int rank, int count, FILE *out) {
    weft_ledger_job *j;
    char mesh[128];
    WEFT_TRY(weft_ledger_job_open_for(&j, dir, rank));
    const weft_mesh *m = weft_ledger_job_mesh(j);
    int first = rank < 0 ? 0 : rank, end = rank < 0 ? m->ranks : rank + 1;
    fprintf(out, "mesh: %s\n", weft_mesh_text(m, mesh, sizeof mesh));
    for (int r = first; r < end && count > 0; r++) print_records(j, r, count, out);
    if (count == 0) fprintf(out, "%5s  %-9s  %-20s  %7s  %s\n", "rank", "state", "process", "step", "doing");
    for (int r = first; r < end && count == 0; r++) print_rank(j, r, out);
    print_bytes(j, out);
    weft_ledger_job_close(j);
    return WEFT_OK;
}
