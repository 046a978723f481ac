/* data/dedup: exact duplicates of documents, of lines and of paragraphs. */
#include "made_data.h"
#include "made_memory.h"
#include "made_spill.h"
#include "data/dedup/exact.h"
#include "runtime/rng.h"
#include "support/capture.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

enum { UNITS = 7 };

static weft_dedup_job job_of(int partitions, size_t memory) {
    return (weft_dedup_job){.partitions = partitions, .units = UNITS, .memory = memory};
}

/* ---- policy and records ---- */
static uint32_t order(weft_keep keep, uint32_t bytes, float quality) {
    return weft_keep_order(keep, &(weft_docs_row){.text_bytes = bytes, .quality = quality});
}

START_TEST(the_policy_orders_documents) {
    static const float worst_to_best[] = {NAN, -INFINITY, -3.5f, -1e-20f, 0, 1e-20f, 0.25f, 7, INFINITY};
    for (size_t i = 1; i < sizeof worst_to_best / sizeof *worst_to_best; i++)
        ck_assert_uint_lt(order(WEFT_KEEP_BEST, 9, worst_to_best[i]),
                          order(WEFT_KEEP_BEST, 9, worst_to_best[i - 1]));
    ck_assert_uint_eq(order(WEFT_KEEP_BEST, 1, 0.0f), order(WEFT_KEEP_BEST, 2, -0.0f));
    ck_assert_uint_lt(order(WEFT_KEEP_LONGEST, 100, 0), order(WEFT_KEEP_LONGEST, 99, 1));
    ck_assert_uint_eq(order(WEFT_KEEP_FIRST, 100, 0), order(WEFT_KEEP_FIRST, 3, 5));
}
END_TEST

START_TEST(drops_survive_packing) {
    weft_drop d = {
        .id = 0x0102030405060708, .kept = 3, .cluster = UINT64_MAX, .size = 77, .similarity = 0.8125f};
    weft_drop back;
    unsigned char packed[WEFT_DROP_BYTES], later[WEFT_DROP_BYTES];
    weft_drop_pack(&d, packed);
    weft_drop_unpack(packed, &back);
    ck_assert(back.id == d.id && back.kept == d.kept && back.cluster == d.cluster && back.size == d.size &&
              back.similarity == d.similarity);
    d.id += 0x100;
    weft_drop_pack(&d, later);
    ck_assert_int_lt(memcmp(packed, later, sizeof packed), 0);
}
END_TEST

static weft_hash128 key_of(const char *text, int64_t *characters) {
    weft_text scratch = {0};
    weft_hash128 key;
    ck_assert_int_eq(weft_exact_key(text, strlen(text), &scratch, &key, characters), WEFT_OK);
    weft_text_free(&scratch);
    return key;
}

static bool same_key(const char *a, const char *b) {
    weft_hash128 x = key_of(a, NULL), y = key_of(b, NULL);
    return x.hi == y.hi && x.lo == y.lo;
}

START_TEST(the_key_ignores_layout_and_case) {
    int64_t characters;
    ck_assert(same_key("The  Quick\r\n\tfox", " the quick FOX \n"));
    ck_assert(!same_key("thequick fox", "the quick fox"));
    ck_assert(!same_key("the quick fox.", "the quick fox"));
    ck_assert(!same_key("[", "{")); /* lower case by letters, not by one bit */
    ck_assert(!same_key("\xc3\x89t\xc3\xa9", "\xc3\xa9t\xc3\xa9"));
    weft_hash128 key = key_of(" A\xc3\xa9\n \n b  ", &characters), plain = weft_hash128_of("a\xc3\xa9 b", 5);
    ck_assert(key.hi == plain.hi && key.lo == plain.lo);
    ck_assert_int_eq(characters, 4);
    key_of(" \n\t", &characters);
    ck_assert_int_eq(characters, 0);
}
END_TEST

/* ---- documents ---- */
enum { DOCUMENTS = 3000, KEYS = 700 };
typedef struct made_copy {
    weft_hash128 key;
    uint32_t order;
    weft_doc_id id;
} made_copy;

static int by_high_half(const unsigned char *record, const void *partitions) {
    return weft_spill_partition(weft_get_u64(record), *(const int *)partitions);
}

/* Keys that differ in the low half only are among them; ids come in no order. */
static void make_copies(made_copy *copies, unsigned char *records) {
    weft_rng r = weft_rng_make(4, "copies");
    for (size_t i = 0; i < DOCUMENTS; i++) {
        uint64_t k = weft_rng_below(r, 2 * i, KEYS);
        copies[i] = (made_copy){.key = {weft_rng_u64(weft_rng_make(1, "key"), k / 2), k},
                                .order = (uint32_t)weft_rng_below(r, 2 * i + 1, 4),
                                .id = weft_doc_id_of(i * 5 % DOCUMENTS % UNITS, i)};
        weft_exact_pack(copies[i].key, copies[i].order, copies[i].id, records + i * WEFT_EXACT_BYTES);
    }
}

/* The record of a document of a cluster; whether it goes. */
static bool expected_drop(const made_copy *copies, size_t of, weft_drop *d) {
    size_t kept = of;
    *d = (weft_drop){.id = copies[of].id, .cluster = copies[of].id, .similarity = 1};
    for (size_t i = 0; i < DOCUMENTS; i++) {
        if (copies[i].key.hi != copies[of].key.hi || copies[i].key.lo != copies[of].key.lo) continue;
        d->size++;
        if (copies[i].id < d->cluster) d->cluster = copies[i].id;
        if (copies[i].order < copies[kept].order ||
            (copies[i].order == copies[kept].order && copies[i].id < copies[kept].id))
            kept = i;
    }
    d->kept = copies[kept].id;
    return kept != of;
}

static unsigned char *reduce_copies(const unsigned char *records, int partitions, int files, size_t memory,
                                    size_t *count, weft_exact_counts *total) {
    const char *dir = made_dir();
    weft_dedup_job job = job_of(partitions, memory);
    made_spills keys = made_spills_named(dir, "keys", files, partitions);
    made_spills drops = made_spills_named(dir, "drops", partitions, partitions);
    made_spills_write(&keys, records, DOCUMENTS, WEFT_EXACT_BYTES, by_high_half, &partitions);
    *total = (weft_exact_counts){0};
    for (int p = 0; p < partitions; p++) {
        weft_exact_counts n;
        ck_assert_int_eq(weft_exact_reduce(&job, p, keys.paths, keys.count, drops.paths[p], &n), WEFT_OK);
        total->documents += n.documents;
        total->clusters += n.clusters;
        total->dropped += n.dropped;
    }
    unsigned char *out = made_spills_read(&drops, WEFT_DROP_BYTES, count);
    made_spills_free(&keys);
    made_spills_free(&drops);
    return out;
}

START_TEST(of_equal_documents_the_policys_first_stays) {
    static made_copy copies[DOCUMENTS];
    static unsigned char records[DOCUMENTS * WEFT_EXACT_BYTES];
    make_copies(copies, records);
    for (int c = 0; c < 3; c++) {
        static const struct {
            int partitions, files;
            size_t memory;
        } cases[] = {{1, 1, 1 << 24}, {5, 3, 1 << 24}, {3, 7, 1 << 14}};
        size_t count, seen = 0;
        weft_exact_counts n;
        unsigned char *drops =
            reduce_copies(records, cases[c].partitions, cases[c].files, cases[c].memory, &count, &n);
        int64_t clusters = 0, dropped = 0;
        for (size_t i = 0; i < DOCUMENTS; i++) {
            weft_drop want, got;
            bool goes = expected_drop(copies, i, &want);
            clusters += !goes && want.size > 1;
            dropped += goes;
            if (want.size == 1) continue;
            unsigned char packed[WEFT_DROP_BYTES];
            weft_drop_pack(&want, packed);
            size_t at = 0;
            while (at < count && memcmp(drops + at * WEFT_DROP_BYTES, packed, 8) != 0) at++;
            made_must(at < count);
            weft_drop_unpack(drops + at * WEFT_DROP_BYTES, &got);
            made_must(got.kept == want.kept && got.cluster == want.cluster);
            made_must(got.size == want.size && got.similarity == 1);
            seen++;
        }
        ck_assert_uint_eq(seen, count);
        for (size_t i = 1; i < count; i++) /* partitions by unit, sorted: ascending throughout */
            made_must(memcmp(drops + (i - 1) * WEFT_DROP_BYTES, drops + i * WEFT_DROP_BYTES, 8) < 0);
        ck_assert_int_eq(n.documents, DOCUMENTS);
        ck_assert_int_eq(n.dropped, dropped);
        ck_assert_int_eq(n.clusters, clusters);
        free(drops);
    }
}
END_TEST

/* ---- lines and paragraphs ---- */
static int by_key(const unsigned char *record, const void *partitions) {
    return weft_spill_partition(weft_get_u64(record), *(const int *)partitions);
}

/* What is left of the documents once repeated pieces are cut out. */
static void cut_repeated(const weft_lines_options *o, int64_t copies, int partitions,
                         const char *const *texts, size_t count, char **left, weft_lines_counts *total) {
    const char *dir = made_dir();
    weft_dedup_job job = job_of(partitions, 1 << 22);
    made_spills keys = made_spills_named(dir, "keys", 1, partitions);
    made_spills drops = made_spills_named(dir, "drops", partitions, partitions);
    weft_spill *out;
    weft_text scratch = {0};
    ck_assert_int_eq(weft_spill_create(&out, keys.paths[0], partitions, WEFT_LINES_BYTES, 4096), WEFT_OK);
    for (size_t i = count; i-- > 0;) /* the order of arrival decides nothing */
        ck_assert_int_eq(weft_lines_emit(o, out, partitions, weft_doc_id_of(i % UNITS, i), texts[i],
                                         strlen(texts[i]), &scratch),
                         WEFT_OK);
    ck_assert_int_eq(weft_spill_finish(out), WEFT_OK);
    *total = (weft_lines_counts){0};
    for (int p = 0; p < partitions; p++) {
        weft_lines_counts n;
        ck_assert_int_eq(weft_lines_reduce(&job, p, copies, keys.paths, 1, drops.paths[p], &n), WEFT_OK);
        total->pieces += n.pieces;
        total->dropped += n.dropped;
    }
    size_t dropped;
    unsigned char *records = made_spills_read(&drops, WEFT_LINE_DROP_BYTES, &dropped);
    ck_assert_int_eq((int64_t)dropped, total->dropped);
    for (size_t i = 0; i < count; i++) {
        uint32_t numbers[64];
        size_t n = 0;
        for (size_t k = 0; k < dropped; k++) {
            weft_line_drop d;
            weft_line_drop_unpack(records + k * WEFT_LINE_DROP_BYTES, &d);
            if (weft_doc_index(d.id) == i) numbers[n++] = d.number;
        }
        ck_assert_int_eq(weft_lines_cut(o, texts[i], strlen(texts[i]), numbers, n, &scratch), WEFT_OK);
        left[i] = strndup(scratch.bytes ? scratch.data : "", scratch.bytes);
    }
    free(records);
    weft_text_free(&scratch);
    made_spills_free(&keys);
    made_spills_free(&drops);
}

static void expect_left(const weft_lines_options *o, int64_t copies, const char *const *texts,
                        const char *const *want, size_t count, int64_t pieces, int64_t dropped) {
    for (int partitions = 1; partitions <= 4; partitions += 3) {
        char *left[16];
        weft_lines_counts n;
        cut_repeated(o, copies, partitions, texts, count, left, &n);
        for (size_t i = 0; i < count; i++) {
            ck_assert_str_eq(left[i], want[i]);
            free(left[i]);
        }
        ck_assert_int_eq(n.pieces, pieces);
        ck_assert_int_eq(n.dropped, dropped);
    }
}

START_TEST(repeated_lines_go_but_the_first) {
    static const char *const texts[] = {"Read more here\none\n\ntwo\n", "three\n  read MORE  here \nfour",
                                        "five\n\nsix\nRead more here", "Read more here",
                                        "ok\nok\nRead more here\n"};
    static const char *const all[] = {"Read more here\none\n\ntwo\n", "three\nfour", "five\n\nsix", "",
                                      "ok\n"};
    static const char *const three[] = {"Read more here\none\n\ntwo\n", "three\nfour", "five\n\nsix", "",
                                        "ok\nok\n"};
    static const char *const long_ones[] = {"Read more here\none\n\ntwo\n", "three\nfour", "five\n\nsix", "",
                                            "ok\nok\n"};
    expect_left(&(weft_lines_options){0}, 2, texts, all, 5, 13, 5);
    expect_left(&(weft_lines_options){0}, 3, texts, three, 5, 13, 4);
    expect_left(&(weft_lines_options){0}, 5, texts, three, 5, 13, 4);
    expect_left(&(weft_lines_options){0}, 6, texts, texts, 5, 13, 0);
    expect_left(&(weft_lines_options){.min_characters = 3}, 2, texts, long_ones, 5, 11, 4);
    expect_left(&(weft_lines_options){.min_characters = 14}, 2, texts, long_ones, 5, 5, 4);
    expect_left(&(weft_lines_options){.min_characters = 15}, 2, texts, texts, 5, 0, 0);
}
END_TEST

/* Twice is too few for three copies, whatever the hashes before and behind are of. */
START_TEST(pieces_are_counted_apart) {
    static const char *const texts[] = {"a\nb\nc\nd\ne\nf\ng\nh\n", "a\nb\nc\nd\ne\nf\ng\nh\n", "h\na\ne\n"};
    static const char *const want[] = {"a\nb\nc\nd\ne\nf\ng\nh\n", "b\nc\nd\nf\ng\n", ""};
    expect_left(&(weft_lines_options){0}, 3, texts, want, 3, 19, 6);
}
END_TEST

START_TEST(repeated_paragraphs_go_but_the_first) {
    static const char *const texts[] = {"\n\nA line\nof two\n\n\nB\n \t\nC", "\nC\n\na  Line of two\n\nD\n",
                                        "B", "E\nB\n\nB\n\n\n"};
    static const char *const want[] = {"\n\nA line\nof two\n\n\nB\n \t\nC", "D\n", "", "E\nB\n\n"};
    expect_left(&(weft_lines_options){.paragraphs = true}, 2, texts, want, 4, 9, 4);
}
END_TEST

START_TEST(a_piece_that_is_not_there_is_an_error) {
    weft_text out = {0};
    weft_lines_options o = {0};
    ck_assert_int_eq(weft_lines_cut(&o, "a\nb\n", 4, (uint32_t[]){1}, 1, &out), WEFT_OK);
    ck_assert_uint_eq(out.bytes, 2);
    capture();
    weft_status st = weft_lines_cut(&o, "a\nb\n", 4, (uint32_t[]){2}, 1, &out);
    release();
    ck_assert_int_eq(st, WEFT_EINTERNAL);
    ck_assert_ptr_nonnull(strstr(message, "repeated piece 2 is to be cut out of a text of 2"));
    ck_assert_int_eq(lines(message), 1);
    weft_text_free(&out);
}
END_TEST

/* ---- memory ---- */
START_TEST(memory_does_not_grow_with_repetitions) {
    enum { MANY = 400000, MEMORY = 1 << 20 };
    unsigned char *pieces = malloc((size_t)MANY * WEFT_LINES_BYTES),
                  *keys = malloc((size_t)MANY * WEFT_EXACT_BYTES);
    for (size_t i = 0; i < MANY; i++) {
        unsigned char *line = pieces + i * WEFT_LINES_BYTES;
        weft_put_u64(line, 42);
        weft_put_u64(line + 8, weft_doc_id_of(i % UNITS, i));
        weft_put_u32(line + 16, 3);
        weft_exact_pack((weft_hash128){42, 42}, 0, weft_doc_id_of(i % UNITS, i), keys + i * WEFT_EXACT_BYTES);
    }
    const char *dir = made_dir();
    int partitions = 2;
    weft_dedup_job job = job_of(partitions, MEMORY);
    made_spills line_spills = made_spills_named(dir, "lines", 2, partitions);
    made_spills key_spills = made_spills_named(dir, "keys", 2, partitions);
    made_spills outs = made_spills_named(dir, "out", 2, partitions);
    made_spills_write(&line_spills, pieces, MANY, WEFT_LINES_BYTES, by_key, &partitions);
    made_spills_write(&key_spills, keys, MANY, WEFT_EXACT_BYTES, by_key, &partitions);
    free(pieces);
    free(keys);
    weft_lines_counts l;
    weft_exact_counts e;
    made_memory_reset();
    ck_assert_int_eq(weft_lines_reduce(&job, 0, 100, line_spills.paths, 2, outs.paths[0], &l), WEFT_OK);
    ck_assert_int_eq(weft_exact_reduce(&job, 0, key_spills.paths, 2, outs.paths[1], &e), WEFT_OK);
    ck_assert_uint_le(made_memory_largest, MEMORY);
    ck_assert_int_eq(l.dropped, MANY - 1);
    ck_assert_int_eq(e.dropped, MANY - 1);
    made_spills_free(&line_spills);
    made_spills_free(&key_spills);
    made_spills_free(&outs);
}
END_TEST

SUITE_MAIN("exact", the_policy_orders_documents, drops_survive_packing, the_key_ignores_layout_and_case,
           of_equal_documents_the_policys_first_stays, repeated_lines_go_but_the_first,
           pieces_are_counted_apart, repeated_paragraphs_go_but_the_first,
           a_piece_that_is_not_there_is_an_error, memory_does_not_grow_with_repetitions)
