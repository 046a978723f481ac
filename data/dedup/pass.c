#include "data/dedup/pass.h"
#include "runtime/fs.h"

#include <stdlib.h>

weft_status weft_pass_reader(weft_spilled **in, const weft_dedup_job *job, int partition, char *const *files,
                             int count, size_t record_bytes, const char *out, const char *name) {
    char *temp = weft_format("%s.%s", out, name);
    if (!temp) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read what it is made of", out);
    weft_status st = weft_spilled_open(in, files, count, partition, record_bytes, job->memory / 4, temp);
    free(temp);
    return st;
}

weft_status weft_pass_open(weft_pass *p, const weft_dedup_job *job, int partition, char *const *files,
                           int count, size_t record_bytes, const char *out, size_t out_bytes) {
    *p = (weft_pass){0};
    WEFT_TRY(weft_pass_reader(&p->in, job, partition, files, count, record_bytes, out, "sort"));
    weft_status st = weft_spill_create(&p->out, out, job->partitions, out_bytes, job->memory / 8);
    if (st == WEFT_OK) return WEFT_OK;
    weft_spilled_close(p->in);
    *p = (weft_pass){0};
    return st;
}

weft_status weft_pass_close(weft_pass *p, weft_status st) {
    weft_spilled_close(p->in);
    if (st == WEFT_OK) st = weft_spill_finish(p->out);
    if (st != WEFT_OK) weft_spill_abandon(p->out);
    *p = (weft_pass){0};
    return st;
}

weft_status weft_pass_next(weft_spilled *in, size_t record_bytes, const unsigned char **record) {
    size_t bytes;
    const void *at;
    WEFT_TRY(weft_spilled_next(in, &at, &bytes));
    if (at && bytes != record_bytes)
        WEFT_FAIL(WEFT_EINTERNAL, "deduplication: a record of %zu bytes where one of %zu should be", bytes,
                  record_bytes);
    *record = at;
    return WEFT_OK;
}
