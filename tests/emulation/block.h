/* The block that runs. */
#ifndef WEFT_EMULATION_BLOCK_H
#define WEFT_EMULATION_BLOCK_H

#include "emulation/fiber.h"
#include "emulation/sanitizers.h"

#include <utility>
#include <vector>

namespace simt {

struct warp {
    unsigned exited;         /* lanes that have left the kernel */
    exchange *meeting[WARP]; /* with lanes still to come */
    int meetings;
};

struct block_state {
    int threads, exited;
    warp warps[MOST_WARPS];
    /* Of the barrier where threads wait: how many, the first, and the votes; those of the one before are
     * read while threads come to the next. */
    int waiting;
    const fiber *first_waiting;
    int votes[2];
    tsan_point barriers[2];

    void *dynamic;
    std::vector<std::pair<const void *, void *>> shared; /* place, memory */
    size_t shared_bytes;
};
extern block_state block;

/* The current lane leaves the kernel. */
void exit_warp();
/* What lane f waits for. */
unsigned awaited_mask(const fiber &f);

bool same_site(site a, site b);

} // namespace simt

#endif
