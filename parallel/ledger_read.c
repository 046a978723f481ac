/* Reading the ledger files of a job: checks, and an index of each file's records by group. */
#include "parallel/ledger_read.h"
#include "parallel/ledger_file.h"
#include "runtime/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct entry {
    uint64_t number, sequence;
} entry;

typedef struct reader {
    const ledger_file *file;
    weft_ledger_rank rank;
    entry *index; /* by group, then by number */
    int group_start[WEFT_GROUPS + 1];
} reader;

struct weft_ledger_job {
    weft_mesh mesh;
    int kv_ranks;
    double time;
    reader *reader;
};

/* Where the message of a failure goes; see weft_ledger_job_open. */
typedef struct reporter {
    char *text;
    size_t size;
} reporter;

static weft_status fail(const reporter *r, weft_status st, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static weft_status fail(const reporter *r, weft_status st, const char *fmt, ...) {
    char message[WEFT_PATH_SIZE + 512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (!r->text) return weft_fail(st, "%s", message);
    snprintf(r->text, r->size, "%s", message);
    return st;
}

const char *weft_rank_state_name(weft_rank_state s) {
    static const char *const names[] = {"alive", "died", "finished", "elsewhere"};
    return names[s];
}

/* ---- one record ---- */

enum { EMPTY, WHOLE, DAMAGED };

static void public_record(const ledger_record *r, weft_ledger_record *out) {
    *out = (weft_ledger_record){.sequence = r->sequence,
                                .group_sequence = r->entry.group_sequence,
                                .group = (weft_group_kind)r->entry.group,
                                .op = (weft_collective)r->entry.op,
                                .bytes = r->entry.bytes,
                                .state = (weft_record_state)r->state,
                                .entered = r->entry.entered,
                                .waited = r->state >= WEFT_RECORD_WAITING ? r->waited : 0,
                                .left = r->state == WEFT_RECORD_COMPLETE ? r->left : 0};
    memcpy(out->tensor, r->entry.tensor, sizeof out->tensor);
}

static int check_record(const ledger_record *r, int slot) {
    const struct ledger_entry *e = &r->entry;
    bool sound = (int)((r->sequence - 1) % WEFT_LEDGER_RECORDS) == slot &&
                 r->hash == ledger_entry_hash(e, r->sequence) && e->group < WEFT_GROUPS &&
                 e->op < WEFT_COLLECTIVES && r->state <= WEFT_RECORD_COMPLETE && e->group_sequence > 0 &&
                 e->group_sequence <= r->sequence && memchr(e->tensor, 0, sizeof e->tensor);
    return sound ? WHOLE : DAMAGED;
}

/* A copy of a slot that its owner may be writing. An owner that was killed while writing leaves it empty. */
static int read_slot(const ledger_file *f, int slot, weft_ledger_record *out) {
    enum { TRIES = 100 };
    const ledger_record *from = &f->ring[slot];
    for (int i = 0; i < TRIES; i++) {
        uint64_t before = __atomic_load_n(&from->sequence, __ATOMIC_ACQUIRE);
        if (before == 0) continue;
        ledger_record r;
        uint32_t state = __atomic_load_n(&from->state, __ATOMIC_ACQUIRE);
        memcpy(&r, from, sizeof r);
        r.state = state;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&from->sequence, __ATOMIC_RELAXED) != before) continue;
        r.sequence = before;
        public_record(&r, out);
        return check_record(&r, slot);
    }
    return EMPTY;
}

/* ---- the header ---- */

/* A copy of a part that has a version. An owner that was killed while writing leaves it as far as it came. */
static void read_versioned(const uint64_t *version, const void *from, void *to, size_t bytes) {
    enum { TRIES = 100 };
    for (int i = 0; i < TRIES; i++) {
        uint64_t before = __atomic_load_n(version, __ATOMIC_ACQUIRE);
        memcpy(to, from, bytes);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (before % 2 == 0 && __atomic_load_n(version, __ATOMIC_RELAXED) == before) return;
    }
}

static bool is_stopped(int64_t pid) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool known = fscanf(f, "%*d (%*[^)]) %c", &state) == 1;
    fclose(f);
    return known && (state == 'T' || state == 't');
}

static weft_rank_state state_of(const ledger_header *h, int fd) {
    char host[LEDGER_HOST];
    bool unlocked = ledger_lock_is_free(fd); /* before the mark: the owner marks first, then unlocks */
    ledger_host_name(host);
    if (__atomic_load_n(&h->finished, __ATOMIC_ACQUIRE)) return WEFT_RANK_FINISHED;
    if (!unlocked) return WEFT_RANK_ALIVE;
    return strcmp(host, h->identity.host) == 0 ? WEFT_RANK_DIED : WEFT_RANK_ELSEWHERE;
}

static void read_header(const ledger_header *h, int fd, weft_ledger_rank *r) {
    struct ledger_activity activity;
    struct ledger_steps steps;
    r->state = state_of(h, fd);
    r->pid = h->identity.pid;
    r->stopped = r->state == WEFT_RANK_ALIVE && is_stopped(r->pid);
    r->started = h->identity.started;
    __atomic_load(&h->seen, &r->seen, __ATOMIC_RELAXED);
    memcpy(r->host, h->identity.host, sizeof r->host);
    read_versioned(&h->activity_version, &h->activity, &activity, sizeof activity);
    memcpy(r->activity, activity.text, sizeof r->activity);
    r->activity[sizeof r->activity - 1] = '\0';
    r->activity_since = activity.since;
    read_versioned(&h->steps_version, &h->steps, &steps, sizeof steps);
    r->step = steps.begun;
    r->whole_step = steps.whole;
    memcpy(r->bytes, steps.bytes, sizeof r->bytes);
}

static weft_status check_identity(const struct ledger_identity *i, uint64_t hash, const char *path,
                                  const reporter *to) {
    if (memcmp(i->magic, LEDGER_MAGIC, sizeof i->magic) != 0)
        return fail(to, WEFT_EINPUT, "%s: is no ledger file", path);
    if (i->version != LEDGER_VERSION)
        return fail(to, WEFT_EINPUT, "%s: has format version %u; this binary reads version %d", path,
                    i->version, LEDGER_VERSION);
    int64_t product = 1;
    for (int a = WEFT_AXIS_DP; a <= WEFT_AXIS_TP; a++)
        product *= i->size[a] > 0 && i->size[a] <= i->ranks ? i->size[a] : 0;
    if (hash != ledger_identity_hash(i) || i->header_bytes != LEDGER_HEADER_BYTES ||
        i->record_bytes != sizeof(ledger_record) || i->records != WEFT_LEDGER_RECORDS || product != i->ranks)
        return fail(to, WEFT_EINPUT, "%s: is damaged: its header does not match its checksum", path);
    return WEFT_OK;
}

/* ---- one file ---- */

static weft_status map_file(reader *r, const char *path, int *fd, const reporter *to) {
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return fail(to, errno == ENOENT ? WEFT_EINPUT : WEFT_EIO, "%s: cannot be opened: %s", path,
                    strerror(errno));
    if (fstat(*fd, &info) != 0) return fail(to, WEFT_EIO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode) || info.st_size != (off_t)sizeof(ledger_file))
        return fail(to, WEFT_EINPUT, "%s: is damaged: it has %lld bytes, a ledger file has %zu", path,
                    (long long)info.st_size, sizeof(ledger_file));
    void *map = mmap(NULL, sizeof(ledger_file), PROT_READ, MAP_SHARED, *fd, 0);
    if (map == MAP_FAILED) return fail(to, WEFT_EIO, "%s: cannot be mapped: %s", path, strerror(errno));
    r->file = map;
    return WEFT_OK;
}

/* All records, by slot; sequence 0 where there is none. */
static weft_status read_ring(reader *r, weft_ledger_record *all, const char *path, const reporter *to) {
    weft_ledger_rank *rank = &r->rank;
    for (int i = 0; i < WEFT_LEDGER_RECORDS; i++) {
        int found = read_slot(r->file, i, &all[i]);
        if (found == DAMAGED)
            return fail(to, WEFT_EINPUT, "%s: is damaged: record %d of %d does not match its checksum", path,
                        i, WEFT_LEDGER_RECORDS);
        if (found == EMPTY) all[i].sequence = 0;
        if (all[i].sequence > rank->last) rank->last = all[i].sequence;
    }
    rank->first = rank->last > WEFT_LEDGER_RECORDS ? rank->last - WEFT_LEDGER_RECORDS + 1 : 1;
    for (uint64_t s = rank->first; s <= rank->last; s++) {
        weft_ledger_record *a = &all[(s - 1) % WEFT_LEDGER_RECORDS];
        if (a->sequence == s) continue;
        /* The oldest may be under replacement; of a live owner's, others were replaced while they were read.
         */
        bool ended = rank->state == WEFT_RANK_DIED || rank->state == WEFT_RANK_FINISHED;
        if (ended && s != rank->last + 1 - WEFT_LEDGER_RECORDS)
            return fail(to, WEFT_EINPUT, "%s: is damaged: record number %llu is missing", path,
                        (unsigned long long)s);
        a->sequence = 0;
    }
    return WEFT_OK;
}

static weft_status index_ring(reader *r, const weft_ledger_record *all, const char *path,
                              const reporter *to) {
    weft_ledger_rank *rank = &r->rank;
    int next[WEFT_GROUPS];
    for (int i = 0; i < WEFT_LEDGER_RECORDS; i++)
        if (all[i].sequence) r->group_start[all[i].group + 1]++;
    for (int k = 0; k < WEFT_GROUPS; k++) r->group_start[k + 1] += next[k] = r->group_start[k];
    for (uint64_t s = rank->first; s <= rank->last; s++) {
        const weft_ledger_record *a = &all[(s - 1) % WEFT_LEDGER_RECORDS];
        if (!a->sequence) continue;
        weft_group_kind k = a->group;
        if (a->group_sequence <= rank->group_last[k])
            return fail(to, WEFT_EINPUT, "%s: is damaged: the numbers of %s do not rise", path,
                        weft_group_name(k));
        if (!rank->group_last[k]) rank->group_first[k] = a->group_sequence;
        rank->group_last[k] = a->group_sequence;
        r->index[next[k]++] = (entry){a->group_sequence, s};
        if (a->state == WEFT_RECORD_WAITING) rank->waits_in = s;
        if (a->state == WEFT_RECORD_COMPLETE) rank->complete = s;
    }
    return WEFT_OK;
}

static weft_status open_reader(reader *r, const char *path, weft_ledger_record *all, const reporter *to) {
    int fd = -1;
    weft_status st;
    WEFT_GOTO(st, done, map_file(r, path, &fd, to));
    const ledger_header *h = &r->file->header;
    WEFT_GOTO(st, done, check_identity(&h->identity, h->hash, path, to));
    r->index = malloc(WEFT_LEDGER_RECORDS * sizeof *r->index);
    if (!r->index) {
        st = fail(to, WEFT_ENOMEM, "%s: no memory for its index", path);
        goto done;
    }
    read_header(h, fd, &r->rank);
    WEFT_GOTO(st, done, read_ring(r, all, path, to));
    st = index_ring(r, all, path, to);
done:
    if (fd >= 0) close(fd);
    return st;
}

/* ---- the job ---- */

/* Path of the lowest rank's file there is: it says how many ranks there were. */
static weft_status first_file(const char *dir, char path[WEFT_PATH_SIZE], const reporter *to) {
    int lowest = -1;
    DIR *d = opendir(dir);
    if (!d)
        return fail(to, errno == ENOENT || errno == ENOTDIR ? WEFT_EINPUT : WEFT_EIO,
                    "%s: cannot be opened: %s", dir, strerror(errno));
    for (struct dirent *e; (e = readdir(d));) {
        int rank, end = 0;
        if (sscanf(e->d_name, "rank_%d.ledger%n", &rank, &end) != 1 || end == 0 || e->d_name[end] || rank < 0)
            continue;
        if (lowest < 0 || rank < lowest) lowest = rank;
    }
    closedir(d);
    if (lowest < 0) return fail(to, WEFT_EINPUT, "%s: holds no ledger (files rank_00000.ledger ...)", dir);
    return weft_fs_path(path, "%s/" LEDGER_NAME, dir, lowest);
}

static bool same_job(const struct ledger_identity *a, const struct ledger_identity *b) {
    return a->ranks == b->ranks && a->kv_ranks == b->kv_ranks &&
           memcmp(a->size, b->size, sizeof a->size) == 0;
}

static weft_status open_readers(weft_ledger_job *j, const char *dir, const reporter *to) {
    char path[WEFT_PATH_SIZE];
    reader first = {0};
    int fd = -1;
    WEFT_TRY(first_file(dir, path, to));
    weft_ledger_record *all = malloc(WEFT_LEDGER_RECORDS * sizeof *all);
    weft_status st = all ? map_file(&first, path, &fd, to) : fail(to, WEFT_ENOMEM, "%s: no memory", path);
    if (fd >= 0) close(fd);
    if (st != WEFT_OK) goto done;
    const struct ledger_identity *id = &first.file->header.identity;
    WEFT_GOTO(st, done, check_identity(id, first.file->header.hash, path, to));
    j->reader = calloc((size_t)id->ranks, sizeof *j->reader);
    if (!j->reader) {
        st = fail(to, WEFT_ENOMEM, "%s: no memory for %d ranks", path, id->ranks);
        goto done;
    }
    j->mesh.ranks = id->ranks;
    for (int a = 0; a < WEFT_AXES; a++) j->mesh.size[a] = id->size[a];
    j->mesh = weft_mesh_of_rank(&j->mesh, 0);
    j->kv_ranks = id->kv_ranks;
    for (int r = 0; r < j->mesh.ranks; r++) {
        WEFT_GOTO(st, done, weft_fs_path(path, "%s/" LEDGER_NAME, dir, r));
        if (access(path, F_OK) != 0) {
            st = fail(to, WEFT_EINPUT, "%s: is missing: the job had %d ranks", path, j->mesh.ranks);
            goto done;
        }
        WEFT_GOTO(st, done, open_reader(&j->reader[r], path, all, to));
        const struct ledger_identity *other = &j->reader[r].file->header.identity;
        if (other->rank != r || !same_job(id, other)) {
            st = fail(to, WEFT_EINPUT, "%s: is of another job (rank %d of %d, another mesh)", path,
                      other->rank, other->ranks);
            goto done;
        }
    }
done:
    if (first.file) munmap((void *)first.file, sizeof *first.file);
    free(all);
    return st;
}

static double latest(double a, double b) {
    return a > b ? a : b;
}

/* The moment that the files tell of. */
static double time_of(const weft_ledger_job *j) {
    double last = 0;
    for (int r = 0; r < j->mesh.ranks; r++) {
        const weft_ledger_rank *k = &j->reader[r].rank;
        weft_ledger_record record;
        if (k->state == WEFT_RANK_ALIVE) return ledger_now();
        last = latest(last, latest(k->seen, latest(k->started, k->activity_since)));
        if (k->last && weft_ledger_job_record(j, r, k->last, &record))
            last = latest(last, latest(record.entered, latest(record.waited, record.left)));
    }
    return last;
}

weft_status weft_ledger_job_open(weft_ledger_job **out, const char *dir, char *problem, size_t size) {
    reporter to = {problem, size};
    weft_ledger_job *j = calloc(1, sizeof *j);
    if (!j) return fail(&to, WEFT_ENOMEM, "%s: no memory to read the ledger", dir);
    weft_status st = open_readers(j, dir, &to);
    if (st != WEFT_OK) {
        weft_ledger_job_close(j);
        return st;
    }
    j->time = time_of(j);
    *out = j;
    return WEFT_OK;
}

weft_status weft_ledger_job_open_for(weft_ledger_job **out, const char *dir, int rank) {
    weft_ledger_job *j;
    WEFT_TRY(weft_ledger_job_open(&j, dir, NULL, 0));
    int ranks = weft_ledger_job_mesh(j)->ranks;
    if (rank >= ranks) {
        weft_ledger_job_close(j);
        WEFT_FAIL(WEFT_EINPUT, "%s: there is no rank %d: the job had %d", dir, rank, ranks);
    }
    *out = j;
    return WEFT_OK;
}

void weft_ledger_job_close(weft_ledger_job *j) {
    if (!j) return;
    for (int r = 0; j->reader && r < j->mesh.ranks; r++) {
        if (j->reader[r].file) munmap((void *)j->reader[r].file, sizeof *j->reader[r].file);
        free(j->reader[r].index);
    }
    free(j->reader);
    free(j);
}

const weft_mesh *weft_ledger_job_mesh(const weft_ledger_job *j) {
    return &j->mesh;
}
int weft_ledger_job_kv_ranks(const weft_ledger_job *j) {
    return j->kv_ranks;
}
const weft_ledger_rank *weft_ledger_job_rank(const weft_ledger_job *j, int rank) {
    return &j->reader[rank].rank;
}
double weft_ledger_job_time(const weft_ledger_job *j) {
    return j->time;
}

bool weft_ledger_job_record(const weft_ledger_job *j, int rank, uint64_t sequence, weft_ledger_record *out) {
    if (sequence == 0) return false;
    int slot = (int)((sequence - 1) % WEFT_LEDGER_RECORDS);
    return read_slot(j->reader[rank].file, slot, out) == WHOLE && out->sequence == sequence;
}

bool weft_ledger_job_group_record(const weft_ledger_job *j, int rank, weft_group_kind group, uint64_t number,
                                  weft_ledger_record *out) {
    const reader *r = &j->reader[rank];
    int low = r->group_start[group], end = r->group_start[group + 1], high = end;
    while (low < high) {
        int middle = (low + high) / 2;
        if (r->index[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && r->index[low].number == number &&
           weft_ledger_job_record(j, rank, r->index[low].sequence, out);
}

bool weft_ledger_verdict(const char *dir, char *verdict, size_t size) {
    char path[WEFT_PATH_SIZE];
    if (weft_fs_path(path, "%s/" LEDGER_VERDICT, dir) != WEFT_OK) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, verdict, size - 1);
    close(fd);
    if (n <= 0) return false;
    verdict[n] = '\0';
    verdict[strcspn(verdict, "\n")] = '\0';
    return true;
}
