/* The mesh: ranks as coordinates along named axes. All arithmetic about who belongs together stands here.
 *
 *   dp    replicas (HSDP's outer axis)
 *   fsdp  sharded parameters (ZeRO-3)
 *   cp    context: parts of each sequence
 *   tp    tensor: parts of each matrix; the residual stream's rows are split over it as well
 *   ep    experts; carved out of dp x fsdp x cp
 *
 * ranks = dp * fsdp * cp * tp.  Rank r = tp + size_tp * q,  q = cp + size_cp * (fsdp + size_fsdp * dp): tp
 * varies fastest, so that a tp group lies on one node. ep = q % size_ep: neighbouring q hold different
 * experts.
 *
 * "Outer" ranks q of one dp replica (fsdp x cp of them) shard each dense parameter among themselves: cp ranks
 * hold the same parameters, so they take part in FSDP. An expert's parameters are sharded by those of them
 * that hold the expert, which are (fsdp*cp)/ep, or one when ep is a multiple of fsdp*cp. */
#ifndef WEFT_MESH_H
#define WEFT_MESH_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum weft_axis {
    WEFT_AXIS_DP,
    WEFT_AXIS_FSDP,
    WEFT_AXIS_CP,
    WEFT_AXIS_TP,
    WEFT_AXIS_EP,
    WEFT_AXES,
    WEFT_AXIS_NONE = -1
} weft_axis;
const char *weft_axis_name(weft_axis a); /* "dp" ... */

/* As the configuration asks for it: 0 is `auto`, the ranks left over. */
typedef struct weft_mesh_sizes {
    int64_t size[WEFT_AXES];
} weft_mesh_sizes;

typedef struct weft_mesh {
    int ranks, rank;
    int size[WEFT_AXES], index[WEFT_AXES]; /* this rank's coordinates */
} weft_mesh;

/* Sizes that multiply to `ranks`. At most one axis of dp, fsdp, cp, tp may be auto; fsdp counts as 1 when
 * another axis is auto as well (its preset is auto). ep is never auto. WEFT_EINPUT with the rule that is
 * broken and the nearest mesh that works: sizes that do not multiply to the ranks; ep that does not divide
 * dp*fsdp*cp, or of which neither ep divides fsdp*cp nor fsdp*cp divides ep. */
weft_status weft_mesh_make(weft_mesh *m, const weft_mesh_sizes *want, int ranks, int rank);
weft_mesh weft_mesh_single(void); /* one rank */
/* Coordinates of another rank of the same mesh. */
weft_mesh weft_mesh_of_rank(const weft_mesh *m, int rank);
/* "dp=2 fsdp=4 cp=1 tp=1 ep=2", axes of size 1 left out, "1 rank" when all are. Returns out. */
const char *weft_mesh_text(const weft_mesh *m, char *out, int size);

/* Groups of ranks that talk to each other; every rank is in one group of each kind. */
typedef enum weft_group_kind {
    WEFT_GROUP_WORLD,
    WEFT_GROUP_TP,
    WEFT_GROUP_KV, /* tp ranks that hold the same key/value head: `kv_ranks` neighbours (tp > G), else one */
    WEFT_GROUP_CP,
    WEFT_GROUP_TOKENS,       /* cp x tp: the ranks that work on the same microbatch */
    WEFT_GROUP_EP,           /* ranks that hold different experts and exchange tokens: same tp */
    WEFT_GROUP_SHARD,        /* fsdp x cp: dense parameters are sharded over it */
    WEFT_GROUP_REPLICA,      /* dp: holds the same shard */
    WEFT_GROUP_EXPERT_SHARD, /* the same two for the parameters of experts */
    WEFT_GROUP_EXPERT_REPLICA,
    WEFT_GROUPS
} weft_group_kind;
const char *weft_group_name(weft_group_kind k); /* "world", "tp", "kv", "cp", "tokens", "ep", "fsdp", "dp",
                                                   "expert fsdp", "expert dp" */
/* The axis that a group's traffic is counted under: kv as tp, tokens as cp where cp > 1 and tp otherwise,
 * SHARD kinds as fsdp, REPLICA kinds as dp, world as NONE. */
weft_axis weft_group_axis(const weft_mesh *m, weft_group_kind k);

/* The members of this rank's group, in the order of their ranks: writes the world ranks to `ranks` (room for
 * m->ranks) unless NULL, and returns how many; *mine (unless NULL) is this rank's place among them. kv_ranks
 * divides tp. */
int weft_mesh_group(const weft_mesh *m, weft_group_kind k, int kv_ranks, int *ranks, int *mine);

/* Part `index` of `parts` of n things: sizes differ by at most one, the larger ones first. */
typedef struct weft_part {
    int64_t start, count;
} weft_part;
static inline weft_part weft_part_of(int64_t n, int parts, int index) {
    int64_t each = n / parts, more = n % parts;
    return (weft_part){index * each + (index < more ? index : more), each + (index < more)};
}

/* Zig-zag (context parallelism): a sequence is 2*cp equal chunks; rank r holds chunks r and 2*cp-1-r, so that
 * every rank has the same share of the causal triangle. Chunk number of a rank's slot (0 or 1); its inverse.
 */
static inline int weft_chunk_of(int cp, int rank, int slot) {
    return cp == 1 ? 0 : slot == 0 ? rank : 2 * cp - 1 - rank;
}
static inline int weft_chunk_owner(int cp, int chunk) {
    return chunk < cp ? chunk : 2 * cp - 1 - chunk;
}
static inline int weft_chunk_slot(int cp, int chunk) {
    return chunk >= cp;
}
/* Chunks of a sequence on a rank: 2, or 1 (the whole sequence) without context parallelism. */
static inline int weft_chunks_held(int cp) {
    return cp == 1 ? 1 : 2;
}

#endif
