/* Pieces of work over spills, as a build runs them: every piece writes one file, and reads its partition out
 * of all files of the stage before. */
#ifndef WEFT_TEST_MADE_SPILL_H
#define WEFT_TEST_MADE_SPILL_H

#include "data/work/spill.h"

#include <check.h>

/* For loops over many records: ck_assert writes to a file each time. */
#define made_must(x)                                                                                         \
    do {                                                                                                     \
        if (!(x)) ck_abort_msg("%s does not hold", #x);                                                      \
    } while (0)

enum { MADE_MAX_FILES = 16 };
typedef struct made_spills {
    char *paths[MADE_MAX_FILES];
    int count, partitions;
} made_spills;

/* Names for `count` files of a stage below `dir`. */
made_spills made_spills_named(const char *dir, const char *stage, int count, int partitions);
void made_spills_free(made_spills *s);
/* The same files in the opposite order. */
void made_spills_reverse(made_spills *s);

/* Deals records out to the files; partition_of(record, arg) says where each belongs. */
void made_spills_write(const made_spills *s, const void *records, size_t count, size_t record_bytes,
                       int (*partition_of)(const unsigned char *record, const void *arg), const void *arg);
/* All records, partition by partition, each sorted; the caller frees. */
unsigned char *made_spills_read(const made_spills *s, size_t record_bytes, size_t *count);

#endif
