/* The owner's side of the ledger: one thread writes, other processes read at any time (see ledger_file.h). */
#include "parallel/ledger_file.h"
#include "runtime/fs.h"
#include "runtime/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct weft_ledger {
    ledger_file *file;
    int fd; /* holds the lock; closed at the end only */
    weft_mesh mesh;
    int axis[WEFT_GROUPS]; /* index into the sums below */
    uint64_t last, group_last[WEFT_GROUPS];
    uint64_t waits_in;  /* read by the watchdog's thread */
    uint64_t device_in; /* the record that the device waits in, or 0 */
    bool in_step;
    int64_t step_bytes[WEFT_AXES + 1]; /* since the last begin of a step */
};

const char *weft_collective_name(weft_collective c) {
    static const char *const names[WEFT_COLLECTIVES] = {"all_reduce", "all_gather", "reduce_scatter",
                                                        "all_to_all", "broadcast",  "send_recv",
                                                        "agree",      "barrier"};
    return c >= 0 && c < WEFT_COLLECTIVES ? names[c] : "unknown";
}

/* ---- shared with the readers ---- */

uint64_t ledger_entry_hash(const struct ledger_entry *e, uint64_t sequence) {
    return weft_hash64(e, sizeof *e, sequence);
}

uint64_t ledger_identity_hash(const struct ledger_identity *i) {
    return weft_hash64(i, sizeof *i, LEDGER_VERSION);
}

void ledger_host_name(char out[LEDGER_HOST]) {
    memset(out, 0, LEDGER_HOST);
    if (gethostname(out, LEDGER_HOST - 1) != 0) snprintf(out, LEDGER_HOST, "unknown");
}

double ledger_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Locks belong to the open file description: they outlive another open and close of the same file in the
 * owner's process, as a reader there does, and end with the process. */
static int lock_command(int fd, int command, struct flock *lock) {
    *lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, command, lock);
}

bool ledger_lock_is_free(int fd) {
    struct flock lock;
    return lock_command(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

/* ---- open and close ---- */

/* The file that stands there is replaced, unless its owner lives: then a job is running in this directory. */
static weft_status refuse_live(const char *path) {
    struct ledger_identity i;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return WEFT_OK;
    bool live = !ledger_lock_is_free(fd);
    bool known = pread(fd, &i, sizeof i, 0) == sizeof i && memchr(i.host, 0, sizeof i.host);
    close(fd);
    if (!live) return WEFT_OK;
    WEFT_FAIL(WEFT_EINPUT,
              "%s: its owner, process %lld on %s, is running: another job uses this run directory", path,
              known ? (long long)i.pid : -1LL, known ? i.host : "?");
}

/* What an earlier job left that this one does not replace: its verdict, and files of ranks that are no more.
 */
static weft_status remove_old(const char *dir, int ranks) {
    char path[WEFT_PATH_SIZE];
    DIR *d = opendir(dir);
    if (!d) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", dir, strerror(errno));
    weft_status st = WEFT_OK;
    for (struct dirent *e; st == WEFT_OK && (e = readdir(d));) {
        int rank, end = 0;
        bool extra = sscanf(e->d_name, "rank_%d.ledger%n", &rank, &end) == 1 && end > 0 && !e->d_name[end] &&
                     rank >= ranks;
        if (!extra && strcmp(e->d_name, LEDGER_VERDICT) != 0) continue;
        WEFT_GOTO(st, done, weft_fs_path(path, "%s/%s", dir, e->d_name));
        if (unlink(path) != 0 && errno != ENOENT)
            st = weft_fail(WEFT_EIO, "%s: cannot be removed: %s", path, strerror(errno));
    }
done:
    closedir(d);
    return st;
}

static void fill_header(ledger_file *f, const weft_mesh *mesh, int kv_ranks) {
    ledger_header *h = &f->header;
    struct ledger_identity *i = &h->identity;
    memcpy(i->magic, LEDGER_MAGIC, sizeof i->magic);
    i->version = LEDGER_VERSION;
    i->header_bytes = LEDGER_HEADER_BYTES;
    i->record_bytes = sizeof(ledger_record);
    i->records = WEFT_LEDGER_RECORDS;
    i->ranks = mesh->ranks;
    i->rank = mesh->rank;
    i->kv_ranks = kv_ranks;
    for (int a = 0; a < WEFT_AXES; a++) i->size[a] = mesh->size[a];
    i->pid = getpid();
    i->started = ledger_now();
    ledger_host_name(i->host);
    h->hash = ledger_identity_hash(i);
    h->steps.begun = h->steps.whole = -1;
}

/* A file under a temporary name, locked and mapped. Its blocks are taken now: a full disk later would kill
 * the process. */
static weft_status make_file(weft_ledger *l, const char *path) {
    struct flock lock;
    unlink(path); /* of a job that was killed right here */
    l->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (l->fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be created: %s", path, strerror(errno));
    int code = posix_fallocate(l->fd, 0, sizeof(ledger_file));
    if (code != 0)
        WEFT_FAIL(WEFT_EIO, "%s: cannot be given %zu bytes: %s", path, sizeof(ledger_file), strerror(code));
    if (lock_command(l->fd, F_OFD_SETLK, &lock) != 0)
        WEFT_FAIL(WEFT_EIO,
                  "%s: cannot be locked: %s; the run directory must lie on a file system with locks", path,
                  strerror(errno));
    void *map = mmap(NULL, sizeof(ledger_file), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, l->fd, 0);
    if (map == MAP_FAILED) WEFT_FAIL(WEFT_EIO, "%s: cannot be mapped: %s", path, strerror(errno));
    l->file = map;
    return WEFT_OK;
}

static void release(weft_ledger *l) {
    if (l->file) munmap(l->file, sizeof *l->file);
    if (l->fd >= 0) close(l->fd);
    free(l);
}

weft_status weft_ledger_open(weft_ledger **out, const char *dir, const weft_mesh *mesh, int kv_ranks) {
    char path[WEFT_PATH_SIZE], temporary[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/" LEDGER_NAME, dir, mesh->rank));
    WEFT_TRY(weft_fs_path(temporary, "%s/." LEDGER_NAME ".tmp", dir, mesh->rank));
    WEFT_TRY(refuse_live(path));
    if (mesh->rank == 0) WEFT_TRY(remove_old(dir, mesh->ranks));
    weft_ledger *l = calloc(1, sizeof *l);
    if (!l) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for the ledger", path);
    l->fd = -1;
    l->mesh = *mesh;
    for (int k = 0; k < WEFT_GROUPS; k++) {
        weft_axis axis = weft_group_axis(mesh, (weft_group_kind)k);
        l->axis[k] = axis == WEFT_AXIS_NONE ? WEFT_AXES : axis;
    }
    weft_status st = make_file(l, temporary);
    if (st == WEFT_OK) {
        fill_header(l->file, mesh, kv_ranks);
        /* A reader finds the old file or the new one, whole and locked. */
        if (rename(temporary, path) != 0)
            st = weft_fail(WEFT_EIO, "%s: cannot be replaced: %s", path, strerror(errno));
    }
    if (st != WEFT_OK) {
        unlink(temporary);
        release(l);
        return st;
    }
    *out = l;
    return WEFT_OK;
}

void weft_ledger_close(weft_ledger *l) {
    if (!l) return;
    __atomic_store_n(&l->file->header.finished, 1, __ATOMIC_RELEASE);
    release(l);
}

/* ---- records ---- */

static ledger_record *slot_of(weft_ledger *l, uint64_t sequence) {
    return &l->file->ring[(sequence - 1) % WEFT_LEDGER_RECORDS];
}

static void copy_text(char *to, size_t room, const char *from) {
    size_t n = from ? strnlen(from, room - 1) : 0;
    memcpy(to, from ? from : "", n);
    memset(to + n, 0, room - n);
}

/* The record, unless newer ones have taken its place. */
static ledger_record *record_of(weft_ledger *l, uint64_t sequence) {
    if (!l || sequence == 0) return NULL;
    ledger_record *r = slot_of(l, sequence);
    return r->sequence == sequence ? r : NULL;
}

/* What the watchdog's thread reads. */
static void set_number(uint64_t *to, uint64_t x) {
    __atomic_store_n(to, x, __ATOMIC_RELAXED);
}

uint64_t weft_ledger_enter(weft_ledger *l, weft_group_kind group, weft_collective op, const char *tensor,
                           int64_t bytes) {
    if (!l) return 0;
    uint64_t sequence = ++l->last;
    ledger_record *r = slot_of(l, sequence);
    __atomic_store_n(&r->sequence, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    r->entry.group_sequence = ++l->group_last[group];
    r->entry.bytes = bytes;
    r->entry.entered = ledger_now();
    r->entry.group = (uint32_t)group;
    r->entry.op = (uint32_t)op;
    copy_text(r->entry.tensor, sizeof r->entry.tensor, tensor);
    r->hash = ledger_entry_hash(&r->entry, sequence);
    r->waited = r->left = 0;
    r->state = WEFT_RECORD_STARTED;
    __atomic_store_n(&r->sequence, sequence, __ATOMIC_RELEASE);
    l->step_bytes[l->axis[group]] += bytes;
    return sequence;
}

void weft_ledger_wait(weft_ledger *l, uint64_t record) {
    ledger_record *r = record_of(l, record);
    if (!r) return;
    r->waited = ledger_now();
    __atomic_store_n(&r->state, WEFT_RECORD_WAITING, __ATOMIC_RELEASE);
    set_number(&l->waits_in, record);
}

void weft_ledger_wait_device(weft_ledger *l, uint64_t record) {
    if (!record_of(l, record) || l->waits_in == record) return;
    if (l->device_in == record)
        set_number(&l->waits_in, record); /* the host waited elsewhere in between */
    else
        weft_ledger_wait(l, record);
    l->device_in = record;
}

/* The host does something else than to wait for its device. */
static void forget_device(weft_ledger *l) {
    ledger_record *r = record_of(l, l->device_in);
    if (l->waits_in == l->device_in) set_number(&l->waits_in, 0);
    l->device_in = 0;
    if (r) __atomic_store_n(&r->state, WEFT_RECORD_STARTED, __ATOMIC_RELEASE);
}

void weft_ledger_leave(weft_ledger *l, uint64_t record) {
    if (l && l->waits_in == record) set_number(&l->waits_in, 0);
    if (l && l->device_in == record) l->device_in = 0;
    ledger_record *r = record_of(l, record);
    if (!r) return;
    r->left = ledger_now();
    __atomic_store_n(&r->state, WEFT_RECORD_COMPLETE, __ATOMIC_RELEASE);
}

/* ---- activity and steps ---- */

static void begin_change(uint64_t *version) {
    __atomic_store_n(version, *version + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}
static void end_change(uint64_t *version) {
    __atomic_store_n(version, *version + 1, __ATOMIC_RELEASE);
}

void weft_ledger_activity(weft_ledger *l, const char *fmt, ...) {
    struct ledger_activity a = {0};
    va_list ap;
    if (!l) return;
    forget_device(l);
    va_start(ap, fmt);
    vsnprintf(a.text, sizeof a.text, fmt, ap);
    va_end(ap);
    a.since = ledger_now();
    ledger_header *h = &l->file->header;
    begin_change(&h->activity_version);
    h->activity = a;
    end_change(&h->activity_version);
}

void weft_ledger_step_begin(weft_ledger *l, int64_t step) {
    if (!l) return;
    ledger_header *h = &l->file->header;
    memset(l->step_bytes, 0, sizeof l->step_bytes);
    l->in_step = true;
    begin_change(&h->steps_version);
    h->steps.begun = step;
    end_change(&h->steps_version);
}

void weft_ledger_step_end(weft_ledger *l) {
    if (!l || !l->in_step) return;
    ledger_header *h = &l->file->header;
    l->in_step = false;
    begin_change(&h->steps_version);
    h->steps.whole = h->steps.begun;
    memcpy(h->steps.bytes, l->step_bytes, sizeof h->steps.bytes);
    end_change(&h->steps_version);
}

void weft_ledger_step_bytes(const weft_ledger *l, int64_t bytes[WEFT_AXES + 1]) {
    memset(bytes, 0, (WEFT_AXES + 1) * sizeof *bytes);
    if (l) memcpy(bytes, l->file->header.steps.bytes, (WEFT_AXES + 1) * sizeof *bytes);
}

/* ---- for the watchdog ---- */

uint64_t ledger_waits_in(const weft_ledger *l) {
    return __atomic_load_n(&l->waits_in, __ATOMIC_RELAXED);
}
const weft_mesh *ledger_mesh(const weft_ledger *l) {
    return &l->mesh;
}
void ledger_show_life(weft_ledger *l) {
    double now = ledger_now();
    __atomic_store(&l->file->header.seen, &now, __ATOMIC_RELAXED);
}
