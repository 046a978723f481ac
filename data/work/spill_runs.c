#include "data/work/spill_runs.h"
#include "data/work/spill_format.h"
#include "data/work/spill_sort.h"
#include "data/work/work_file.h"
#include "runtime/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_INPUTS = 1024, FEWEST_INPUTS = 2 };

/* ---- memory ---- */

weft_status weft_area_new(weft_area *a, size_t bytes, size_t out_bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) WEFT_FAIL(WEFT_ENOMEM, "no memory to sort: %zu bytes", bytes);
    *a = (weft_area){.at = at, .bytes = bytes, .out_bytes = out_bytes};
    return WEFT_OK;
}

weft_status weft_area_reserve(weft_area *a, size_t bytes) {
    if (bytes <= a->bytes) return WEFT_OK;
    void *at = mremap(a->at, a->bytes, bytes, MREMAP_MAYMOVE);
    if (at == MAP_FAILED) WEFT_FAIL(WEFT_ENOMEM, "no memory to sort: %zu bytes", bytes);
    a->at = at;
    a->bytes = bytes;
    return WEFT_OK;
}

void weft_area_free(weft_area *a) {
    if (a->at) munmap(a->at, a->bytes);
    a->at = NULL;
}

/* ---- files ---- */

/* Before each block of a run. */
typedef struct block_header {
    uint64_t bytes;
    uint64_t xxh3; /* of the block, seeded with where it lies */
} block_header;

typedef struct run {
    uint64_t start, end; /* in the file */
} run;

typedef struct run_file {
    char *path; /* for messages */
    int fd;
    uint64_t bytes;
} run_file;

/* A run being merged: one block of it is in memory. */
typedef struct input {
    uint64_t next, end; /* what is not read yet */
    char *block;
    size_t at, bytes; /* in it: behind the current record; the end */
    const char *stored;
    size_t stored_bytes; /* the current record */
} input;

typedef struct head {
    uint64_t word; /* the first of the record's key */
    int input;
} head;

struct weft_runs {
    weft_area *area;
    const char *temp;
    size_t record_bytes, limit;
    run_file files[2]; /* runs are in files[from]; a pass writes files[!from] */
    int from;
    run *runs; /* in order */
    size_t count, capacity;
    run_file *out; /* the file being written */
    uint64_t out_start;
    size_t out_used;
    size_t slot; /* the largest block written */
    input *inputs;
    head *heap;
    int heads;
    bool taken; /* heap[0] has been given out */
};

weft_status weft_runs_new(weft_runs **out, weft_area *area, const char *temp, size_t record_bytes,
                          size_t limit) {
    weft_runs *r = calloc(1, sizeof *r);
    if (!r) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to sort through files", temp);
    r->area = area;
    r->temp = temp;
    r->record_bytes = record_bytes;
    r->limit = limit;
    r->files[0].fd = r->files[1].fd = -1;
    r->out = &r->files[0];
    *out = r;
    return WEFT_OK;
}

static void close_file(run_file *f) {
    if (f->fd >= 0) close(f->fd);
    free(f->path);
    *f = (run_file){.fd = -1};
}

void weft_runs_free(weft_runs *r) {
    if (!r) return;
    close_file(&r->files[0]);
    close_file(&r->files[1]);
    free(r->runs);
    free(r->inputs);
    free(r->heap);
    free(r);
}

static weft_status create_file(const weft_runs *r, run_file *f) {
    f->path = weft_format("%s.%d", r->temp, (int)(f - r->files));
    if (!f->path) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to sort through files", r->temp);
    f->fd = open(f->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (f->fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be created: %s", f->path, strerror(errno));
    if (unlink(f->path) != 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be removed: %s", f->path, strerror(errno));
    return WEFT_OK;
}

/* ---- writing ---- */

static weft_status put_block(weft_runs *r, const void *data, size_t bytes) {
    run_file *f = r->out;
    if (f->fd < 0) WEFT_TRY(create_file(r, f));
    block_header header = {.bytes = bytes, .xxh3 = weft_hash64(data, bytes, f->bytes)};
    WEFT_TRY(weft_fs_write_all(f->fd, &header, sizeof header, f->path));
    WEFT_TRY(weft_fs_write_all(f->fd, data, bytes, f->path));
    f->bytes += sizeof header + bytes;
    if (bytes > r->slot) r->slot = bytes;
    return WEFT_OK;
}

static weft_status put_out(weft_runs *r) {
    size_t bytes = r->out_used;
    r->out_used = 0;
    return bytes > 0 ? put_block(r, r->area->at, bytes) : WEFT_OK;
}

weft_status weft_runs_add(weft_runs *r, const char *stored, size_t bytes) {
    if (bytes > r->area->out_bytes - r->out_used) {
        WEFT_TRY(put_out(r));
        if (bytes > r->area->out_bytes) return put_block(r, stored, bytes);
    }
    memcpy(r->area->at + r->out_used, stored, bytes);
    r->out_used += bytes;
    return WEFT_OK;
}

weft_status weft_runs_end(weft_runs *r) {
    WEFT_TRY(put_out(r));
    if (r->count == r->capacity) {
        size_t more = r->capacity ? 2 * r->capacity : 64;
        run *runs = realloc(r->runs, more * sizeof *runs);
        if (!runs) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to sort through files", r->temp);
        r->runs = runs;
        r->capacity = more;
    }
    r->runs[r->count++] = (run){r->out_start, r->out->bytes};
    r->out_start = r->out->bytes;
    return WEFT_OK;
}

/* ---- reading ---- */

static weft_status read_block(weft_runs *r, input *in) {
    const run_file *f = &r->files[r->from];
    block_header header;
    WEFT_TRY(weft_work_read_at(f->fd, f->path, &header, sizeof header, in->next));
    bool sound = header.bytes <= r->slot && header.bytes <= in->end - in->next - sizeof header;
    if (sound) WEFT_TRY(weft_work_read_at(f->fd, f->path, in->block, header.bytes, in->next + sizeof header));
    if (!sound || header.xxh3 != weft_hash64(in->block, header.bytes, in->next))
        WEFT_FAIL(WEFT_EIO, "%s: does not read back as it was written: look for errors of the disk", f->path);
    in->next += sizeof header + header.bytes;
    in->at = 0;
    in->bytes = header.bytes;
    return WEFT_OK;
}

/* The next record of a run, or *end. */
static weft_status advance(weft_runs *r, input *in, bool *end) {
    if (in->at == in->bytes) {
        if (in->next == in->end) {
            *end = true;
            return WEFT_OK;
        }
        WEFT_TRY(read_block(r, in));
    }
    in->stored = in->block + in->at;
    in->stored_bytes = weft_stored_bytes(in->stored, r->record_bytes);
    in->at += in->stored_bytes;
    *end = false;
    return WEFT_OK;
}

/* ---- merging ---- */

static head head_of(const weft_runs *r, int i) {
    const input *in = &r->inputs[i];
    size_t skip = weft_stored_skip(r->record_bytes);
    return (head){weft_record_word(in->stored + skip, in->stored_bytes - skip, r->limit, 0), i};
}

static bool before(const weft_runs *r, head a, head b) {
    if (a.word != b.word) return a.word < b.word;
    const input *x = &r->inputs[a.input], *y = &r->inputs[b.input];
    size_t skip = weft_stored_skip(r->record_bytes);
    for (size_t at = 8; at < r->limit; at += 8) {
        uint64_t p = weft_record_word(x->stored + skip, x->stored_bytes - skip, r->limit, at);
        uint64_t q = weft_record_word(y->stored + skip, y->stored_bytes - skip, r->limit, at);
        if (p != q) return p < q;
    }
    return a.input < b.input;
}

static void sift_down(weft_runs *r, int at) {
    head moved = r->heap[at];
    for (int child; (child = 2 * at + 1) < r->heads; at = child) {
        if (child + 1 < r->heads && before(r, r->heap[child + 1], r->heap[child])) child++;
        if (!before(r, r->heap[child], moved)) break;
        r->heap[at] = r->heap[child];
    }
    r->heap[at] = moved;
}

/* Begins to merge runs[first, first + n). */
static weft_status begin(weft_runs *r, size_t first, int n) {
    r->heads = 0;
    r->taken = false;
    for (int i = 0; i < n; i++) {
        bool end;
        const run *from = &r->runs[first + (size_t)i];
        r->inputs[i] = (input){.next = from->start,
                               .end = from->end,
                               .block = r->area->at + r->area->out_bytes + (size_t)i * r->slot};
        WEFT_TRY(advance(r, &r->inputs[i], &end));
        if (!end) {
            r->heap[r->heads] = head_of(r, i);
            r->heads++;
        }
    }
    for (int i = r->heads / 2 - 1; i >= 0; i--) sift_down(r, i);
    return WEFT_OK;
}

/* The input whose record is next, or NULL. It is advanced by the next call only: until then its record stays.
 */
static weft_status pop(weft_runs *r, const input **out) {
    if (r->taken) {
        bool end;
        int i = r->heap[0].input;
        r->taken = false;
        WEFT_TRY(advance(r, &r->inputs[i], &end));
        r->heap[0] = end ? r->heap[--r->heads] : head_of(r, i);
        if (r->heads > 0) sift_down(r, 0);
    }
    r->taken = r->heads > 0;
    *out = r->taken ? &r->inputs[r->heap[0].input] : NULL;
    return WEFT_OK;
}

/* Merges neighbouring runs, up to `fan` of them into one, into the other file. */
static weft_status merge_pass(weft_runs *r, size_t fan) {
    size_t runs = r->count;
    r->out = &r->files[!r->from];
    r->out_start = 0;
    r->count = 0;
    for (size_t first = 0; first < runs; first += fan) {
        const input *in;
        WEFT_TRY(begin(r, first, (int)(runs - first < fan ? runs - first : fan)));
        for (;;) {
            WEFT_TRY(pop(r, &in));
            if (!in) break;
            WEFT_TRY(weft_runs_add(r, in->stored, in->stored_bytes));
        }
        WEFT_TRY(weft_runs_end(r)); /* runs[count] with count <= first: read already */
    }
    close_file(&r->files[r->from]);
    r->from = !r->from;
    return WEFT_OK;
}

weft_status weft_runs_merge(weft_runs *r) {
    WEFT_TRY(weft_area_reserve(r->area, r->area->out_bytes + FEWEST_INPUTS * r->slot));
    size_t fan = (r->area->bytes - r->area->out_bytes) / r->slot;
    if (fan > MOST_INPUTS) fan = MOST_INPUTS;
    r->inputs = calloc(fan, sizeof *r->inputs);
    r->heap = calloc(fan, sizeof *r->heap);
    if (!r->inputs || !r->heap) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to sort through files", r->temp);
    while (r->count > fan) WEFT_TRY(merge_pass(r, fan));
    return begin(r, 0, (int)r->count);
}

weft_status weft_runs_next(weft_runs *r, const void **record, size_t *bytes) {
    const input *in;
    size_t skip = weft_stored_skip(r->record_bytes);
    WEFT_TRY(pop(r, &in));
    *record = in ? in->stored + skip : NULL;
    *bytes = in ? in->stored_bytes - skip : 0;
    return WEFT_OK;
}
