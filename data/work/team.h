/* What the ranks of a build need of each other. data/ knows no MPI: the command fills this in. */
#ifndef WEFT_TEAM_H
#define WEFT_TEAM_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct weft_team {
    int rank, size;
    /* Collective, as in parallel/world.h: OK when every rank passes OK, otherwise a failure on every rank. */
    weft_status (*agree)(weft_status mine);
    void (*bcast)(void *data, size_t bytes, int root);
} weft_team;

#endif
