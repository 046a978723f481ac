/* The part of NCCL that weft uses, on MPI, so that ranks with emulated GPUs can talk to each other.
 *
 * What is queued runs with its stream, late, and then waits for the other members as NCCL's kernels do. While
 * a rank waits inside MPI for a host of another, though, its own streams stand still, which a GPU's do not.
 * So the blocking functions of MPI that the project calls are defined here as well: they run first what is
 * queued (PMPI_ are the library's own). Two ranks can then only wait for each other if they would on GPUs.
 *
 * Stricter than the library: members that pass different sizes or call different functions, memory that is
 * not the device's, buffers that overlap, and communicators destroyed while they are in use end the process.
 *
 * WEFT_EMULATED_NCCL_ERROR=RANK:N: on that rank of the job nothing moves after N groups of operations, and
 * the communicators tell of an error. */
#include "emulation/sanitizers.h"
#include "emulation/streams.h"

#define OMPI_SKIP_MPICXX 1 /* its C++ classes need a library more */
#include <mpi.h>
#include <nccl.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

struct ncclComm {
    MPI_Comm mpi = MPI_COMM_NULL;
    int rank = 0, size = 1;
    int queued = 0; /* operations that have not run */
    bool aborted = false;
    uint64_t collectives = 0;
};

namespace {

enum kind { ALL_GATHER, BROADCAST, ALL_REDUCE, SEND, RECV };
const char *const names[] = {"ncclAllGather", "ncclBroadcast", "ncclAllReduce", "ncclSend", "ncclRecv"};

struct operation {
    kind what;
    ncclComm *comm;
    const char *from; /* NULL: nothing is read */
    char *to;         /* NULL: nothing is written */
    size_t bytes;     /* of a member's block */
    int peer;         /* root, or the other end; else -1 */
};

struct queued_group {
    cudaStream_t stream;
    std::vector<operation> operations;
};

int depth;                        /* of ncclGroupStart */
std::vector<queued_group> groups; /* since the first of them, by stream */
uint64_t groups_run;

/* ---- an error on purpose ---- */

int job_rank() {
    int rank = 0;
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

bool broken() {
    const char *text = getenv("WEFT_EMULATED_NCCL_ERROR");
    int rank = 0;
    unsigned long long after = 0;
    if (!text) return false;
    if (sscanf(text, "%d:%llu", &rank, &after) != 2)
        emu_fail("WEFT_EMULATED_NCCL_ERROR=%s: write RANK:N", text);
    return rank == job_rank() && groups_run >= after;
}

/* ---- what moves ---- */

/* MPI's own memory is not for TSan to see: the streams, which are threads to it, share it unordered. */
#define CHECK_MPI(call)                                                                                      \
    do {                                                                                                     \
        tsan_quiet quiet_;                                                                                   \
        if ((call) != MPI_SUCCESS) emu_fail("%s fails beneath the emulated NCCL", #call);                    \
    } while (0)

int as_count(size_t bytes) {
    if (bytes > INT32_MAX) emu_fail("%zu bytes at once are too many for the emulated NCCL", bytes);
    return static_cast<int>(bytes);
}

/* All members are in the same collective? */
void check_members(const operation &o) {
    struct header {
        uint64_t number, what, bytes;
        int64_t peer;
    };
    const header mine = {++o.comm->collectives, o.what, o.bytes, o.peer};
    std::vector<header> all(static_cast<size_t>(o.comm->size));
    CHECK_MPI(PMPI_Allgather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine, MPI_BYTE, o.comm->mpi));
    tsan_quiet quiet;
    for (int r = 0; r < o.comm->size; r++) {
        const header &h = all[static_cast<size_t>(r)];
        if (memcmp(&h, &mine, sizeof mine) != 0)
            emu_fail(
                "member %d of %d is in %s of %zu bytes (root %d, number %llu), member %d in %s of %llu bytes "
                "(root %d, number %llu)",
                o.comm->rank, o.comm->size, names[o.what], o.bytes, o.peer,
                static_cast<unsigned long long>(mine.number), r, h.what <= RECV ? names[h.what] : "?",
                static_cast<unsigned long long>(h.bytes), static_cast<int>(h.peer),
                static_cast<unsigned long long>(h.number));
    }
}

/* Through memory of its own: MPI's accesses are invisible to sanitizers. */
void run_collective(const operation &o) {
    check_members(o);
    const size_t blocks = o.what == ALL_GATHER ? static_cast<size_t>(o.comm->size) : 1;
    std::vector<char> mine(o.bytes), all(blocks * o.bytes);
    if (o.from) memcpy(mine.data(), o.from, o.bytes);
    if (o.what == ALL_GATHER)
        CHECK_MPI(PMPI_Allgather(mine.data(), as_count(o.bytes), MPI_BYTE, all.data(), as_count(o.bytes),
                                 MPI_BYTE, o.comm->mpi));
    else if (o.what == ALL_REDUCE)
        CHECK_MPI(PMPI_Allreduce(mine.data(), all.data(), as_count(o.bytes / sizeof(int64_t)), MPI_INT64_T,
                                 MPI_SUM, o.comm->mpi));
    else {
        all = mine;
        CHECK_MPI(PMPI_Bcast(all.data(), as_count(o.bytes), MPI_BYTE, o.peer, o.comm->mpi));
    }
    if (o.to) memcpy(o.to, all.data(), all.size());
}

enum { TAG = 1 };

void receive(const operation &o) {
    MPI_Status status;
    int count = 0;
    CHECK_MPI(PMPI_Probe(o.peer, TAG, o.comm->mpi, &status));
    CHECK_MPI(PMPI_Get_count(&status, MPI_BYTE, &count));
    if (static_cast<size_t>(count) != o.bytes)
        emu_fail("member %d of %d receives %zu bytes from member %d, which sends %d", o.comm->rank,
                 o.comm->size, o.bytes, o.peer, count);
    std::vector<char> data(o.bytes);
    CHECK_MPI(PMPI_Recv(data.data(), count, MPI_BYTE, o.peer, TAG, o.comm->mpi, MPI_STATUS_IGNORE));
    memcpy(o.to, data.data(), data.size());
}

void run_group(const std::vector<operation> &operations) {
    std::vector<std::vector<char>> sent;
    std::vector<MPI_Request> requests;
    const bool dead = broken();
    groups_run++;
    for (const operation &o : operations) o.comm->queued--;
    if (dead) return;
    for (const operation &o : operations)
        if (o.what < SEND) run_collective(o);
    for (const operation &o : operations)
        if (o.what == SEND) {
            sent.emplace_back(o.from, o.from + o.bytes);
            requests.emplace_back();
            CHECK_MPI(PMPI_Isend(sent.back().data(), as_count(o.bytes), MPI_BYTE, o.peer, TAG, o.comm->mpi,
                                 &requests.back()));
        }
    for (const operation &o : operations)
        if (o.what == RECV) receive(o);
    CHECK_MPI(PMPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE));
}

/* ---- what is queued ---- */

size_t read_bytes(const operation &o) {
    return o.from ? o.bytes : 0;
}
size_t written_bytes(const operation &o) {
    return !o.to ? 0 : o.what == ALL_GATHER ? o.bytes * static_cast<size_t>(o.comm->size) : o.bytes;
}
bool overlap(const char *a, size_t m, const char *b, size_t n) {
    return m > 0 && n > 0 && a < b + n && b < a + m;
}

/* What one operation of a group writes no other may touch, nor may it itself but in its place. */
void check_buffers(const std::vector<operation> &operations) {
    for (const operation &o : operations) {
        const char *place = o.what == ALL_GATHER ? o.to + static_cast<size_t>(o.comm->rank) * o.bytes : o.to;
        if (o.from != place && overlap(o.to, written_bytes(o), o.from, read_bytes(o)))
            emu_fail("%s reads and writes the same memory, not in place", names[o.what]);
        for (const operation &p : operations)
            if (&p != &o && (overlap(o.to, written_bytes(o), p.from, read_bytes(p)) ||
                             overlap(o.to, written_bytes(o), p.to, written_bytes(p))))
                emu_fail("%s writes what %s of the same group uses", names[o.what], names[p.what]);
    }
}

void queue_groups() {
    std::vector<queued_group> now;
    now.swap(groups);
    for (const queued_group &g : now) {
        check_buffers(g.operations);
        emu_enqueue(g.stream, names[g.operations[0].what], [g] { run_group(g.operations); });
    }
}

ncclResult_t queue(const operation &o, cudaStream_t stream) {
    if (!o.comm || o.comm->aborted) return ncclInvalidArgument;
    if (o.peer >= o.comm->size || o.peer < -1) return ncclInvalidArgument;
    if (o.from && !emu_on_device(o.from, read_bytes(o)))
        emu_fail("%s reads %zu bytes at %p, which is not memory of the device", names[o.what], read_bytes(o),
                 static_cast<const void *>(o.from));
    if (o.to && !emu_on_device(o.to, written_bytes(o)))
        emu_fail("%s writes %zu bytes at %p, which is not memory of the device", names[o.what],
                 written_bytes(o), static_cast<void *>(o.to));
    o.comm->queued++;
    size_t g = 0;
    while (g < groups.size() && groups[g].stream != stream) g++;
    if (g == groups.size()) groups.push_back({stream, {}});
    groups[g].operations.push_back(o);
    if (depth == 0) queue_groups();
    return ncclSuccess;
}

size_t size_of(ncclDataType_t type) {
    switch (type) {
    case ncclUint8:
        return 1;
    case ncclInt64:
        return 8;
    default:
        emu_fail("the emulated NCCL moves bytes and sums int64, not type %d", static_cast<int>(type));
    }
}

const char *bytes_at(const void *p) {
    return static_cast<const char *>(p);
}
char *bytes_at(void *p) {
    return static_cast<char *>(p);
}

/* ---- who belongs together ---- */

struct rendezvous {
    int host, number; /* where the others come together, and to which communicator of its */
};

struct introduction {
    int rank, size, job_rank;
};

enum { MEET = 16000, TELL = 24000, NUMBERS = 8000 }; /* tags */

/* The members' ranks in the job, in order. */
std::vector<int> meet(const rendezvous &at, const introduction &me) {
    const int tag = at.number % NUMBERS;
    std::vector<int> members(static_cast<size_t>(me.size), -1);
    if (at.host != me.job_rank) {
        CHECK_MPI(PMPI_Send(&me, sizeof me, MPI_BYTE, at.host, MEET + tag, MPI_COMM_WORLD));
        CHECK_MPI(PMPI_Recv(members.data(), me.size, MPI_INT, at.host, TELL + tag, MPI_COMM_WORLD,
                            MPI_STATUS_IGNORE));
        return members;
    }
    introduction who = me;
    for (int i = 0; i < me.size; i++) {
        if (i > 0)
            CHECK_MPI(PMPI_Recv(&who, sizeof who, MPI_BYTE, MPI_ANY_SOURCE, MEET + tag, MPI_COMM_WORLD,
                                MPI_STATUS_IGNORE));
        if (who.size != me.size || who.rank < 0 || who.rank >= me.size ||
            members[static_cast<size_t>(who.rank)] >= 0)
            emu_fail("a communicator of %d: member %d of %d comes twice, or does not belong to it", me.size,
                     who.rank, who.size);
        members[static_cast<size_t>(who.rank)] = who.job_rank;
    }
    for (int r : members)
        if (r != me.job_rank)
            CHECK_MPI(PMPI_Send(members.data(), me.size, MPI_INT, r, TELL + tag, MPI_COMM_WORLD));
    return members;
}

} // namespace

/* ---- NCCL ---- */

ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    static int number;
    const rendezvous at = {job_rank(), number++};
    memset(id, 0, sizeof *id);
    memcpy(id->internal, &at, sizeof at);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    rendezvous at;
    memcpy(&at, id.internal, sizeof at);
    if (config && config->blocking != 1) emu_fail("the emulated NCCL opens communicators blocking only");
    emu_run_all();
    auto c = std::make_unique<ncclComm>();
    c->rank = rank;
    c->size = size;
    const std::vector<int> members = meet(at, {rank, size, job_rank()});
    MPI_Group job, group;
    CHECK_MPI(PMPI_Comm_group(MPI_COMM_WORLD, &job));
    CHECK_MPI(PMPI_Group_incl(job, size, members.data(), &group));
    CHECK_MPI(PMPI_Comm_create_group(MPI_COMM_WORLD, group, at.number % NUMBERS, &c->mpi));
    PMPI_Group_free(&group);
    PMPI_Group_free(&job);
    *out = c.release();
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t c) {
    if (c->queued > 0) emu_fail("ncclCommDestroy: %d operations are still queued", c->queued);
    CHECK_MPI(PMPI_Comm_free(&c->mpi));
    delete c;
    return ncclSuccess;
}

/* Its memory stays: what is queued refers to it. */
ncclResult_t ncclCommAbort(ncclComm_t c) {
    c->aborted = true;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state) {
    if (!c || c->aborted) return ncclInvalidArgument;
    *state = broken() ? ncclRemoteError : ncclSuccess;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t code) {
    switch (code) {
    case ncclSuccess:
        return "no error";
    case ncclInvalidArgument:
        return "invalid argument";
    case ncclRemoteError:
        return "remote process exited or there was a network error";
    default:
        return "unknown result code";
    }
}

const char *ncclGetLastError(ncclComm_t) {
    return "";
}

ncclResult_t ncclGroupStart() {
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
    if (depth == 0) return ncclInvalidUsage;
    if (--depth == 0) queue_groups();
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t c,
                      cudaStream_t stream) {
    return queue({SEND, c, bytes_at(data), nullptr, count * size_of(type), peer}, stream);
}

ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t c,
                      cudaStream_t stream) {
    return queue({RECV, c, nullptr, bytes_at(data), count * size_of(type), peer}, stream);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t c,
                           cudaStream_t stream) {
    return queue({ALL_GATHER, c, bytes_at(from), bytes_at(to), count * size_of(type), -1}, stream);
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t c, cudaStream_t stream) {
    const bool sends = c && c->rank == root, in_place = from == to;
    return queue({BROADCAST, c, sends ? bytes_at(from) : nullptr, sends && in_place ? nullptr : bytes_at(to),
                  count * size_of(type), root},
                 stream);
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t c, cudaStream_t stream) {
    if (type != ncclInt64 || op != ncclSum) emu_fail("the emulated NCCL sums int64 only");
    return queue({ALL_REDUCE, c, bytes_at(from), bytes_at(to), count * size_of(type), -1}, stream);
}

/* ---- MPI: what a host may wait in ---- */

#define RUN_FIRST(name, parameters, arguments)                                                               \
    extern "C" int name parameters {                                                                         \
        emu_run_all();                                                                                       \
        return P##name arguments;                                                                            \
    }

RUN_FIRST(MPI_Allgather,
          (const void *from, int n, MPI_Datatype t, void *to, int m, MPI_Datatype u, MPI_Comm c),
          (from, n, t, to, m, u, c))
RUN_FIRST(MPI_Allgatherv,
          (const void *from, int n, MPI_Datatype t, void *to, const int *counts, const int *starts,
           MPI_Datatype u, MPI_Comm c),
          (from, n, t, to, counts, starts, u, c))
RUN_FIRST(MPI_Allreduce, (const void *from, void *to, int n, MPI_Datatype t, MPI_Op op, MPI_Comm c),
          (from, to, n, t, op, c))
RUN_FIRST(MPI_Barrier, (MPI_Comm c), (c))
RUN_FIRST(MPI_Bcast, (void *data, int n, MPI_Datatype t, int root, MPI_Comm c), (data, n, t, root, c))
RUN_FIRST(MPI_Comm_free, (MPI_Comm * c), (c))
RUN_FIRST(MPI_Comm_split, (MPI_Comm c, int color, int key, MPI_Comm *out), (c, color, key, out))
RUN_FIRST(MPI_Comm_split_type, (MPI_Comm c, int type, int key, MPI_Info info, MPI_Comm *out),
          (c, type, key, info, out))
RUN_FIRST(MPI_Finalize, (void), ())
RUN_FIRST(MPI_Wait, (MPI_Request * r, MPI_Status *s), (r, s))
RUN_FIRST(MPI_Waitall, (int n, MPI_Request *r, MPI_Status *s), (n, r, s))
