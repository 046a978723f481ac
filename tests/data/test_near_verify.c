/* data/dedup: how often verification reads a document, and that it does so in order. */
#include "made_data.h"
#include "made_spill.h"
#include "data/dedup/near_edge.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <string.h>

/* Each document is a unit, and one unit is open at a time: asking for a path is reading a document. */
enum { DOCUMENTS = 40, WORDS = 100, SHINGLE = 5, SHINGLES = WORDS - SHINGLE + 1, MOST_READS = 4096 };
static uint64_t g_reads[MOST_READS];
static int g_read_count;

static weft_status path_of(void *dir, uint64_t unit, char path[]) {
    made_must(g_read_count < MOST_READS);
    g_reads[g_read_count++] = unit;
    return weft_fs_path(path, "%s/unit.%llu", (const char *)dir, (unsigned long long)unit);
}

/* The first document has no shingle; of the others, those of equal parity are equal. */
static void write_documents(const char *dir) {
    for (uint64_t unit = 0; unit < DOCUMENTS; unit++) {
        char path[WEFT_PATH_SIZE], text[WORDS * 4];
        weft_docs_writer *w;
        for (size_t i = 0; i < WORDS; i++)
            memcpy(text + 4 * i,
                   (char[]){(char)('a' + unit % 2), (char)('a' + i / 26), (char)('a' + i % 26), ' '}, 4);
        path_of((void *)dir, unit, path);
        ck_assert_int_eq(weft_docs_create(&w, path), WEFT_OK);
        ck_assert_int_eq(weft_docs_add(w, &(weft_docs_row){0}, text, unit ? sizeof text : 15, NULL, 0),
                         WEFT_OK);
        ck_assert_int_eq(weft_docs_finish(w), WEFT_OK);
    }
}

static int by_nothing(const unsigned char *record, const void *arg) {
    (void)record;
    (void)arg;
    return 0;
}

static const char *documents_dir(void) {
    static const char *dir;
    if (!dir) {
        dir = made_dir();
        write_documents(dir);
    }
    return dir;
}

/* Verifies pairs of units with memory for `held` documents at once. */
static weft_verify_counts verify(const unsigned char *pairs, size_t count, size_t held) {
    const char *dir = documents_dir();
    made_spills in = made_spills_named(dir, "pairs", 1, 1), out = made_spills_named(dir, "edges", 1, 1);
    weft_docs_pool *stores;
    weft_verify_counts n;
    size_t each = SHINGLES * sizeof(uint64_t) + 128; /* with what a document and its first pair take */
    weft_dedup_job job = {.partitions = 1, .units = DOCUMENTS, .memory = 2 * held * each};
    made_spills_write(&in, pairs, count, WEFT_PAIR_BYTES, by_nothing, NULL);
    ck_assert_int_eq(weft_docs_pool_new(&stores, 1, path_of, (void *)dir), WEFT_OK);
    g_read_count = 0;
    weft_verify_options o = {.shingle_words = SHINGLE, .threshold = 0.9, .keep = WEFT_KEEP_FIRST};
    ck_assert_int_eq(weft_near_verify(&job, 0, &o, in.paths, 1, stores, out.paths[0], &n), WEFT_OK);
    weft_docs_pool_free(stores);
    made_spills_free(&in);
    made_spills_free(&out);
    return n;
}

static size_t pair_up(unsigned char *pairs, int from, int to, int partners) {
    size_t n = 0;
    for (int u = from; u < to; u++)
        for (int v = u + 1; v <= u + partners && v < DOCUMENTS; v++)
            weft_pair_pack(weft_doc_id_of((uint64_t)u, 0), weft_doc_id_of((uint64_t)v, 0),
                           pairs + n++ * WEFT_PAIR_BYTES);
    return n;
}

START_TEST(with_memory_every_document_is_read_once) {
    static unsigned char pairs[DOCUMENTS * DOCUMENTS * WEFT_PAIR_BYTES];
    size_t count = pair_up(pairs, 1, DOCUMENTS, DOCUMENTS);
    weft_verify_counts n = verify(pairs, count, 10 * DOCUMENTS);
    ck_assert_int_eq(n.pairs, (int64_t)count);
    ck_assert_int_eq(n.verified, 19 * 18 / 2 + 20 * 19 / 2);
    ck_assert_int_eq(g_read_count, DOCUMENTS - 1);
    for (int i = 0; i < g_read_count; i++) ck_assert_uint_eq(g_reads[i], (uint64_t)i + 1);
}
END_TEST

/* Each batch holds some, and reads what they are paired with behind them. */
START_TEST(with_less_the_partners_of_a_batch_are) {
    static unsigned char pairs[DOCUMENTS * DOCUMENTS * WEFT_PAIR_BYTES];
    size_t count = pair_up(pairs, 1, 21, 5);
    weft_verify_counts n = verify(pairs, count, 5);
    ck_assert_int_eq(n.pairs, (int64_t)count);
    ck_assert_int_eq(n.verified, 20 * 2);
    ck_assert_int_gt(g_read_count, 25);
    ck_assert_int_le(g_read_count, 25 + 4 * 6);         /* up to six batches; five partners behind each */
    weft_verify_counts alone = verify(pairs, count, 0); /* one pair at a time */
    ck_assert_int_eq(memcmp(&n, &alone, sizeof n), 0);
    ck_assert_int_eq(g_read_count, 2 * (int)count);
}
END_TEST

START_TEST(documents_without_shingles_are_similar_to_none) {
    unsigned char pair[WEFT_PAIR_BYTES];
    weft_pair_pack(weft_doc_id_of(0, 0), weft_doc_id_of(2, 0), pair);
    weft_verify_counts n = verify(pair, 1, 10);
    ck_assert_int_eq(n.pairs, 1);
    ck_assert_int_eq(n.verified, 0);
    ck_assert_int_eq(n.similarity[0], 1);
}
END_TEST

SUITE_MAIN("near_verify", with_memory_every_document_is_read_once, with_less_the_partners_of_a_batch_are,
           documents_without_shingles_are_similar_to_none)
