/* Spills of random records, and what must come out of them: every record is kept, in the order of files and
 * of adding, and sorted here. */
#ifndef WEFT_TEST_MADE_RECORDS_H
#define WEFT_TEST_MADE_RECORDS_H

#include "made_data.h"
#include "data/work/spill.h"

/* For what is checked millions of times: Check itself notes every check that holds. */
#define MUST(cond)                                                                                           \
    do {                                                                                                     \
        if (!(cond)) ck_abort_msg("not so: %s", #cond);                                                      \
    } while (0)

typedef struct made_record {
    int partition;
    size_t bytes, order;
    char *data;
} made_record;

typedef struct made_records {
    char *dir;
    char **paths;
    int files, partitions;
    size_t record_bytes, key_bytes;
    made_record *records;
    size_t count;
} made_records;

typedef enum made_kind {
    RANDOM,
    EQUAL,
    FEW_KEYS,
    ONE_PARTITION,
    BY_PARTITION,
    LARGE /* some larger than a block, one than the least memory */
} made_kind;

uint64_t made_random(void);

/* Writes `count` records into new files of a new directory; the first of several files is empty. */
made_records made_records_write(made_kind k, size_t record_bytes, size_t key_bytes, int partitions, int files,
                                size_t count, size_t buffer);
void made_records_free(made_records *m);
/* TEMP of weft_spilled_open; the caller frees. */
char *made_records_temp(const made_records *m);
/* Whether the directory holds the spills alone. */
bool made_records_alone(const made_records *m);

/* Reads a partition: the failure, or OK when all records came, in order; the test fails on a wrong one. */
weft_status made_records_check(const made_records *m, int partition, size_t memory);
void made_records_check_all(const made_records *m, size_t memory);

#endif
