/* From files of text to a data directory, as a recipe says: read, normalise, filter, deduplicate,
 * decontaminate, scrub, tokenise, shuffle, write shards, manifest, evidence and report.
 *
 * The steps' files lie in OUT.work; a build that was stopped at any moment goes on from there. The directory
 * OUT appears, by a rename, when all is written and synced. Its bytes depend on the recipe and the input
 * only: not on ranks, threads, memory, time or interruptions.
 *
 *   read       each file's documents into units of some MiB of text            piece: a file
 *   clean      normalise, filters; keys for the exact step                     piece: a unit
 *   exact      which copies go                                                 piece: a partition of the keys
 *   lines      which lines go
 *   sign       takes out what exact and lines decided; MinHash band keys       piece: a unit
 *   near-*     candidates, verify, components, label, resolve                  piece: a partition
 *   tokens, substring   tokenise what is left; search each pair of parts       piece: a unit; a pair
 *   finish     takes out, cuts or masks; decontaminates, scrubs, tokenises     piece: a unit
 *   shards     sorts a range of documents and writes it                        piece: a shard
 *
 * Memory of a rank: threads * (unit + 2 * largest document + 48 MiB) + memory_mib + the tokenizer + 32 MiB.
 * Disk in OUT.work: about twice the packed text, and per document 28 bytes (exact) and 20 * bands (near). */
#ifndef WEFT_BUILD_H
#define WEFT_BUILD_H

#include "data/build/recipe.h"
#include "data/work/stage.h"

#include <stdbool.h>

#define WEFT_BUILD_DOMAIN "default"

typedef struct weft_build_options {
    int threads;                                  /* of this rank */
    void (*progress)(const weft_work_progress *); /* rank 0; may be NULL */
} weft_build_options;

/* Collective: all ranks with the same recipe, checked. WEFT_EINPUT when `out` exists, when an input is bad,
 * and when no document is left for training. */
weft_status weft_data_build(const weft_recipe *r, const weft_team *team, const weft_build_options *o);

#endif
