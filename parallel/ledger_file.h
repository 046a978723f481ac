/* The bytes of a ledger file, shared by its writer (ledger.c) and its readers, and what the watchdog sees of
 * the open ledger of its own process. Numbers are in the host's byte order: a file is read where it was
 * written.
 *
 * Nothing is locked between writer and readers. A record's sequence number is 0 while the record is being
 * written and is stored last; a reader that finds the same number before and after its copy has a whole
 * record. The header's two changing parts have a version each, odd while being written. */
#ifndef WEFT_LEDGER_FILE_H
#define WEFT_LEDGER_FILE_H

#include "parallel/ledger.h"

#define LEDGER_MAGIC "weftledg"
#define LEDGER_VERSION 1
#define LEDGER_NAME "rank_%05d.ledger"
#define LEDGER_VERDICT "verdict.txt"

enum { LEDGER_TENSOR = 48, LEDGER_ACTIVITY = 64, LEDGER_HOST = 64, LEDGER_HEADER_BYTES = 4096 };

typedef struct ledger_record {
    uint64_t sequence;
    struct ledger_entry { /* as written by enter; `hash` is of these bytes, seeded with the sequence number */
        uint64_t group_sequence;
        int64_t bytes;
        double entered;
        uint32_t group, op;
        char tensor[LEDGER_TENSOR];
    } entry;
    uint64_t hash;
    double waited, left; /* seconds since the epoch; 0: not yet */
    uint32_t state;      /* as in weft_ledger_record; stored after `waited` or `left` */
    uint32_t unused[3];
} ledger_record;
_Static_assert(sizeof(ledger_record) == 128, "records are fixed in size");

typedef struct ledger_header {
    struct ledger_identity { /* as written by open; `hash` is of these bytes */
        char magic[8];
        uint32_t version, header_bytes, record_bytes, records;
        int32_t ranks, rank, kv_ranks, size[WEFT_AXES];
        int64_t pid;
        double started; /* seconds since the epoch */
        char host[LEDGER_HOST];
    } identity;
    uint64_t hash;
    double seen;       /* the watchdog's last look; 0: none yet */
    uint64_t finished; /* 1: closed in order */
    uint64_t activity_version;
    struct ledger_activity {
        double since;
        char text[LEDGER_ACTIVITY];
    } activity;
    uint64_t steps_version;
    struct ledger_steps {
        int64_t begun;                /* number of the last step begun, -1: none */
        int64_t whole;                /* of the last one ended, -1: none */
        int64_t bytes[WEFT_AXES + 1]; /* of that one */
    } steps;
} ledger_header;
_Static_assert(sizeof(ledger_header) <= LEDGER_HEADER_BYTES, "the header fits into its page");

typedef struct ledger_file {
    union {
        ledger_header header;
        char page[LEDGER_HEADER_BYTES];
    };
    ledger_record ring[WEFT_LEDGER_RECORDS]; /* record s lies in slot (s - 1) % WEFT_LEDGER_RECORDS */
} ledger_file;

uint64_t ledger_entry_hash(const struct ledger_entry *e, uint64_t sequence);
uint64_t ledger_identity_hash(const struct ledger_identity *i);
/* The same in every process of a host, for as long as it is up; zero-filled. */
void ledger_host_name(char out[LEDGER_HOST]);
double ledger_now(void); /* seconds since the epoch */

/* Whether nobody holds the owner's lock on the file of this descriptor (of another open() than the owner's).
 */
bool ledger_lock_is_free(int fd);

/* For the watchdog's thread: the record that this process waits in (0: none), its mesh, and its sign of life.
 */
uint64_t ledger_waits_in(const weft_ledger *l);
const weft_mesh *ledger_mesh(const weft_ledger *l);
void ledger_show_life(weft_ledger *l);

#endif
