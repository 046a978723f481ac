/* One training run, from its configuration to its last checkpoint. */
#ifndef WEFT_RUN_H
#define WEFT_RUN_H

#include "model/config.h"
#include "parallel/world.h"

/* Collective on w. Trains the configuration's run (c->run must name a directory), or goes on from its newest
 * checkpoint as c->start.resume says: metrics.jsonl, config.yaml, checkpoints and ledger lie there.
 * WEFT_ESTOPPED: a signal asked to stop, and the state is saved. A directory that holds metrics but no
 * checkpoint, of a run that was killed before its first one, is refused, or begun again with `begin_again`.
 */
weft_status weft_run_train(const weft_world *w, const weft_config *c, bool begin_again);

#endif
