/* data/text/shingles and data/dedup/minhash: hashes and signatures as datatrove's, and what they estimate. */
#include "data/dedup/minhash.h"
#include "data/text/normalise.h"
#include "data/text/shingles.h"
#include "data/text/words.h"
#include "support/capture.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

enum { BANDS = 14, ROWS = 8, HASHES = BANDS * ROWS };

static const char text[] =
    "The quick brown fox jumps over the lazy dog, and 3.14 foxes (at least!) jump over 27 dogs; "
    "it's a Dog's life.";
/* Of that text, by datatrove 0.6: MinhashDedupSignature with words cut by str.split, xxh64, and 32-bit
 * signatures. */
static const uint64_t text_shingles[] = {
    UINT64_C(0x6c3482ce6d00f490), UINT64_C(0x4285a187da3be44a), UINT64_C(0x6645c4e120ccc4df),
    UINT64_C(0xc1bf7b2ea66d03d4), UINT64_C(0xda6443435154fe7d), UINT64_C(0x580589c7c1da25ad),
    UINT64_C(0xbc439b06092427d3), UINT64_C(0x32e2247bec6662fa), UINT64_C(0x1463be7643b5424e),
    UINT64_C(0x9004e1e7bcdda746), UINT64_C(0xb9f42e7c7b32b8ba), UINT64_C(0xece12635d4453ea3),
    UINT64_C(0x6ef17da18c34e8a),  UINT64_C(0x33368150da955c32), UINT64_C(0x8086d019e33d1ec),
    UINT64_C(0xaf4ec061ccd6b5e2), UINT64_C(0x2add66b6a15f6122), UINT64_C(0x1a38dfd61ef686d6),
    UINT64_C(0xb4d37ee5d9f6750c), UINT64_C(0xf9de41edec7caf11)};
static const uint32_t text_signature[HASHES] = {
    0x854ec3c,  0x2945e51,  0x2f0c82eb, 0x795caf5,  0xc5b8958,  0xf352740, 0x1847522,  0x7ba065e,  0x3efbd35,
    0xf95532d,  0x1f64bd34, 0x5c8a17a,  0x11649650, 0x1ebe3e2,  0xfac94d,  0x106d1264, 0x5e8ccae,  0x1affb85,
    0x5139a76,  0x52d8dd,   0x43b92c8,  0x10567010, 0x1101392c, 0xaa4f64,  0x50599cf,  0x121e1476, 0x31826a1,
    0x5bb79865, 0x14e5e29,  0x10e89ad8, 0x10c34a72, 0x9be9c0e,  0x85dac2,  0x198bcdbc, 0x3b5b786,  0x1cf85d4a,
    0x32699a81, 0xefead9d,  0x10bc4bbf, 0x45c626e,  0x829fda5,  0x176999c, 0xedee45c,  0xc1af06f,  0x6bed9aa,
    0xf7b559e,  0x1b40c0e,  0x3ced6df,  0x1b7fdd8,  0x136bbc3b, 0x2101acf, 0x174b4761, 0x4edda42,  0x2f5eb7d3,
    0xb46d175,  0x9d4b468,  0x14e93592, 0x6f13b30,  0x95fac6a,  0x2b09717, 0x20edc66,  0x11eef5c,  0xceeb0fc,
    0x6417ca,   0x75cfceb,  0xec308ae,  0xa769dd4,  0x1967f0fb, 0x536c2c5, 0x4e94529,  0xa4e50c6,  0x2e2f645,
    0x1a29c8a,  0x49ab362,  0xb3af696,  0x1eef2210, 0x4982647,  0x5653584, 0x1278ecb3, 0x36e86b4,  0x2921bc8,
    0x967d7e0,  0x9931b34,  0x19ac364,  0xf5608a,   0xd16e7dc,  0x94df271, 0xba4ca86,  0x9736c5a,  0xd649e7a,
    0xe0050c,   0x8cd5757,  0x58c7c60,  0x18b7503e, 0xf9ba368,  0xc451fbc, 0x1c74bc88, 0xb8b71c3,  0x12716ef7,
    0x590ad35,  0x7b8e846,  0x5e1b0f8,  0x1812168,  0xa566957,  0x16fa975, 0xe98ccdd,  0xcbd7a18,  0x19850835,
    0x13a15812, 0x4261ebd,  0x4b29bce,  0xc128659};
enum { SHINGLES = sizeof text_shingles / sizeof *text_shingles };

static weft_shingler *shingler(void) {
    static weft_shingler *s;
    if (!s) ck_assert_int_eq(weft_shingler_new(&s, 5), WEFT_OK);
    return s;
}

static weft_minhash *minhash(int bands, int rows, uint32_t seed) {
    weft_minhash *m;
    ck_assert_int_eq(weft_minhash_new(&m, bands, rows, seed), WEFT_OK);
    return m;
}

static uint64_t state = 1;
static uint64_t random_u64(void) { /* splitmix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---- shingles ---- */

START_TEST(shingles_of_datatrove) {
    const uint64_t *hashes;
    size_t count;
    ck_assert_int_eq(weft_shingles(shingler(), text, sizeof text - 1, &hashes, &count), WEFT_OK);
    ck_assert_uint_eq(count, SHINGLES);
    ck_assert_mem_eq(hashes, text_shingles, sizeof text_shingles);
}
END_TEST

/* The definition: words of the compared form, joined. */
static size_t by_definition(const char *t, size_t bytes, size_t words, uint64_t *hashes) {
    static weft_words *splitter;
    static weft_text form;
    const weft_word *found;
    size_t n, count = 0;
    if (!splitter && weft_words_new(&splitter) != WEFT_OK) ck_abort();
    if (weft_normalise_compared(t, bytes, &form) != WEFT_OK) ck_abort();
    if (weft_words_split(splitter, form.data, form.bytes, &found, &n) != WEFT_OK) ck_abort();
    for (size_t i = 0; i + words <= n; i++) {
        char joined[4096];
        size_t at = 0;
        for (size_t k = i; k < i + words; k++) {
            if (k > i) joined[at++] = ' ';
            memcpy(joined + at, form.data + found[k].start, found[k].bytes);
            at += found[k].bytes;
        }
        hashes[count++] = XXH64(joined, at, 0);
    }
    return count;
}

START_TEST(shingles_by_definition) {
    static const char *const kinds[] = {"a",      "Bc", "1.5",    " ",          " ",      " ",
                                        " ",      ",",  "é",      "‘",          "\u0301", "\u200b",
                                        "\u00ad", "日", "本語は", "\U0001f600", "°",      "•"};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    weft_shingler *s[3];
    static const int words[] = {1, 2, 5};
    for (int k = 0; k < 3; k++) ck_assert_int_eq(weft_shingler_new(&s[k], words[k]), WEFT_OK);
    for (int t = 0; t < 60000; t++) {
        char mixed[512];
        size_t bytes = 0, count, want_count;
        for (uint64_t i = random_u64() % 30; i > 0; i--) {
            const char *kind = kinds[random_u64() % KINDS];
            memcpy(mixed + bytes, kind, strlen(kind));
            bytes += strlen(kind);
        }
        uint64_t want[512];
        const uint64_t *hashes;
        want_count = by_definition(mixed, bytes, (size_t)words[t % 3], want);
        if (weft_shingles(s[t % 3], mixed, bytes, &hashes, &count) != WEFT_OK) ck_abort();
        if (count != want_count || memcmp(hashes, want, count * sizeof *want) != 0)
            ck_abort_msg("%d-word shingles of \"%.*s\"", words[t % 3], (int)bytes, mixed);
    }
    for (int k = 0; k < 3; k++) weft_shingler_free(s[k]);
}
END_TEST

START_TEST(few_words_have_no_shingles) {
    static const char *const texts[] = {"", "  ", "one two three four", "one, two. three! four?", "\u0301"};
    const uint64_t *hashes;
    size_t count;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ck_assert_int_eq(weft_shingles(shingler(), texts[i], strlen(texts[i]), &hashes, &count), WEFT_OK);
        ck_assert_uint_eq(count, 0);
        ck_assert_int_eq(weft_shingle_set(shingler(), texts[i], strlen(texts[i]), &hashes, &count), WEFT_OK);
        ck_assert_uint_eq(count, 0);
    }
    ck_assert_int_eq(weft_shingles(shingler(), "a b c d e", 9, &hashes, &count), WEFT_OK);
    ck_assert_uint_eq(count, 1);
    weft_shingler *s;
    capture();
    weft_status none = weft_shingler_new(&s, 0), many = weft_shingler_new(&s, 1025);
    release();
    ck_assert_int_eq(none, WEFT_EINPUT);
    ck_assert_int_eq(many, WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "shingles of 0 words: 1 to 1024 are possible"));
}
END_TEST

/* Layout, case, punctuation, accents and the digits of numbers do not show in a shingle. */
START_TEST(shingles_are_of_the_compared_form) {
    static const char *const same[] = {"The café has 12 rooms, not 3.5!",
                                       "the  CAFE\u0301 has 7 (rooms) not\n99"};
    const uint64_t *hashes;
    size_t count, first_count;
    ck_assert_int_eq(weft_shingles(shingler(), same[0], strlen(same[0]), &hashes, &first_count), WEFT_OK);
    uint64_t first[16];
    memcpy(first, hashes, first_count * sizeof *hashes);
    ck_assert_int_eq(weft_shingles(shingler(), same[1], strlen(same[1]), &hashes, &count), WEFT_OK);
    ck_assert_uint_eq(count, 3);
    ck_assert_uint_eq(first_count, 3);
    ck_assert_mem_eq(hashes, first, 3 * sizeof *hashes);
}
END_TEST

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Texts of few different words repeat shingles; short and long ones are sorted differently. */
START_TEST(sets) {
    enum { MOST = 3000 };
    for (size_t words = 5; words < MOST; words += words / 5 + 1) {
        char *t = malloc(2 * words);
        for (size_t i = 0; i < words; i++) {
            t[2 * i] = (char)('a' + random_u64() % 3);
            t[2 * i + 1] = ' ';
        }
        const uint64_t *hashes;
        size_t n, count;
        static uint64_t want[MOST];
        ck_assert_int_eq(weft_shingles(shingler(), t, 2 * words, &hashes, &n), WEFT_OK);
        ck_assert_uint_eq(n, words - 4);
        memcpy(want, hashes, n * sizeof *want);
        qsort(want, n, sizeof *want, by_value);
        size_t distinct = 0;
        for (size_t i = 0; i < n; i++)
            if (i == 0 || want[i] != want[i - 1]) want[distinct++] = want[i];
        ck_assert_int_eq(weft_shingle_set(shingler(), t, 2 * words, &hashes, &count), WEFT_OK);
        ck_assert_uint_eq(count, distinct);
        ck_assert_mem_eq(hashes, want, count * sizeof *want);
        free(t);
    }
}
END_TEST

START_TEST(jaccard) {
    static const uint64_t a[] = {1, 2, 3, 9}, b[] = {0, 2, 3, 4, 5, 9};
    ck_assert_double_eq(weft_jaccard(a, 4, b, 6), 3.0 / 7);
    ck_assert_double_eq(weft_jaccard(b, 6, a, 4), 3.0 / 7);
    ck_assert_double_eq(weft_jaccard(a, 4, a, 4), 1);
    ck_assert_double_eq(weft_jaccard(a, 1, b, 1), 0);
    ck_assert_double_eq(weft_jaccard(a, 4, NULL, 0), 0);
    ck_assert_double_eq(weft_jaccard(NULL, 0, NULL, 0), 0);
}
END_TEST

/* ---- signatures ---- */

START_TEST(signature_of_datatrove) {
    weft_minhash *m = minhash(BANDS, ROWS, 1);
    uint32_t signature[HASHES];
    weft_minhash_sign(m, text_shingles, SHINGLES, signature);
    ck_assert_mem_eq(signature, text_signature, sizeof signature);
    uint64_t twice[2 * SHINGLES]; /* in another order */
    for (size_t i = 0; i < SHINGLES; i++) twice[i] = twice[2 * SHINGLES - 1 - i] = text_shingles[i];
    weft_minhash_sign(m, twice, 2 * SHINGLES, signature);
    ck_assert_mem_eq(signature, text_signature, sizeof signature);
    weft_minhash_free(m);
}
END_TEST

/* Hash i of 0 is b_i, of 1 it is a_i + b_i: numpy's draws, also of more hashes than 16 divides, and other
 * seeds. */
START_TEST(parameters_of_numpy) {
    static const struct {
        int bands, rows, hash;
        uint32_t seed, of_zero, of_one;
    } cases[] = {{14, 8, 0, 1, 0x3124088d, 0x306b8979},
                 {14, 8, 1, 1, 0x76dd1e74, 0x659932be},
                 {14, 8, 111, 1, 0x88ccf401, 0x46f2c9f3},
                 {20, 13, 259, 0, 0x45ce8f85, 0x8f41d337},
                 {20, 13, 259, UINT32_MAX, 0x00cdc1c0, 0x1cd3f666}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weft_minhash *m = minhash(cases[i].bands, cases[i].rows, cases[i].seed);
        /* As long as the signature, for the sanitizer. */
        uint32_t *signature = malloc((size_t)(cases[i].bands * cases[i].rows) * sizeof *signature);
        for (uint64_t x = 0; x < 2; x++) {
            weft_minhash_sign(m, &x, 1, signature);
            ck_assert_uint_eq(signature[cases[i].hash], x ? cases[i].of_one : cases[i].of_zero);
        }
        free(signature);
        weft_minhash_free(m);
    }
}
END_TEST

/* Shingles for which a_1 x + b_1, of seed 1, is at an edge of the two moduli. */
START_TEST(edges_of_the_prime) {
    static const struct {
        uint64_t shingle;
        uint32_t hash;
    } cases[] = {{0x2770ca4ded861f33, 7},           /* 2^64 - 1 is 8 (2^61 - 1) + 7 */
                 {0xa1c98ffd07094d64, 0},           /* 2^64 - 8 */
                 {0x458d19f178652f6b, 4294967294},  /* 2^64 - 9 */
                 {0x4770ca4ded861f33, 0},           /* 2^61 - 1 */
                 {0xeb3454425ee2013a, 4294967294},  /* 2^61 - 2 */
                 {0xb3454425ee2013a, 0},            /* 2 (2^61 - 1) */
                 {0xaef7de36d03de341, 4294967294}}; /* 2 (2^61 - 1) - 1 */
    weft_minhash *m = minhash(BANDS, ROWS, 1);
    uint32_t signature[HASHES];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weft_minhash_sign(m, &cases[i].shingle, 1, signature);
        ck_assert_uint_eq(signature[1], cases[i].hash);
    }
    weft_minhash_free(m);
}
END_TEST

START_TEST(limits) {
    static const int wrong[][2] = {{0, 8}, {14, 0}, {1025, 1}, {1, 1025}, {65, 64}, {-1, -1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        weft_minhash *m = NULL;
        capture();
        weft_status st = weft_minhash_new(&m, wrong[i][0], wrong[i][1], 1);
        release();
        ck_assert_int_eq(st, WEFT_EINPUT);
        ck_assert_int_eq(lines(message), 1);
    }
    weft_minhash_free(minhash(64, 64, 1));
    weft_minhash_free(minhash(1024, 4, 1));
    weft_minhash_free(minhash(1, 1, 1));
}
END_TEST

/* ---- what they are for ---- */

/* Two sets of `each` shingles with `common` of them in both. */
static void two_sets(size_t each, size_t common, uint64_t *a, uint64_t *b) {
    for (size_t i = 0; i < each; i++) {
        a[i] = random_u64();
        b[i] = i < common ? a[i] : random_u64();
    }
}

/* Equal values of the signatures estimate the similarity s, with a variance of s (1 - s) / hashes, and
 * documents share a band as often as the curve says; both within five standard deviations. */
START_TEST(similarity_and_candidates) {
    enum { EACH = 120, PAIRS = 300 };
    weft_minhash *m = minhash(BANDS, ROWS, 1);
    for (size_t common = 20; common <= 120; common += 10) {
        double s = (double)common / (double)(2 * EACH - common), equal = 0, candidates = 0;
        for (int p = 0; p < PAIRS; p++) {
            uint64_t a[EACH], b[EACH], keys_a[BANDS], keys_b[BANDS];
            uint32_t of_a[HASHES], of_b[HASHES];
            two_sets(EACH, common, a, b);
            weft_minhash_sign(m, a, EACH, of_a);
            weft_minhash_sign(m, b, EACH, of_b);
            for (int i = 0; i < HASHES; i++) equal += of_a[i] == of_b[i];
            weft_minhash_bands(m, of_a, keys_a);
            weft_minhash_bands(m, of_b, keys_b);
            bool candidate = false;
            for (int i = 0; i < BANDS; i++) {
                bool same = memcmp(of_a + i * ROWS, of_b + i * ROWS, sizeof(uint32_t[ROWS])) == 0;
                ck_assert_int_eq(keys_a[i] == keys_b[i], same);
                candidate |= same;
            }
            candidates += candidate;
        }
        double n = (double)PAIRS * HASHES, chance = weft_minhash_probability(BANDS, ROWS, s);
        ck_assert_double_le(fabs(equal / n - s), 5 * sqrt(s * (1 - s) / n));
        ck_assert_double_le(fabs(candidates / PAIRS - chance), 5 * sqrt(chance * (1 - chance) / PAIRS));
    }
    weft_minhash_free(m);
}
END_TEST

/* Equal values in different bands are different keys. */
START_TEST(bands_are_told_apart) {
    weft_minhash *m = minhash(BANDS, ROWS, 1);
    uint32_t zeros[HASHES] = {0};
    uint64_t keys[BANDS];
    weft_minhash_bands(m, zeros, keys);
    for (int i = 0; i < BANDS; i++) {
        ck_assert_uint_eq(keys[i], XXH3_64bits_withSeed(zeros, ROWS * sizeof *zeros, (uint64_t)i));
        for (int k = 0; k < i; k++) ck_assert_uint_ne(keys[i], keys[k]);
    }
    weft_minhash_free(m);
}
END_TEST

START_TEST(probability_of_candidates) {
    static const double s[] = {.5, .6, .7, .75, .8, .85, .9};
    static const double by14x8[] = {.053, .211, .565, .772, .924, .988, .9996};
    static const double by20x13[] = {.002, .026, .177, .382, .677, .924, .997};
    for (size_t i = 0; i < sizeof s / sizeof *s; i++) {
        ck_assert_double_eq_tol(weft_minhash_probability(14, 8, s[i]), by14x8[i], i == 6 ? 5e-5 : 5e-4);
        ck_assert_double_eq_tol(weft_minhash_probability(20, 13, s[i]), by20x13[i], 5e-4);
    }
    ck_assert_double_eq(weft_minhash_probability(14, 8, 0), 0);
    ck_assert_double_eq(weft_minhash_probability(14, 8, 1), 1);
}
END_TEST

SUITE_MAIN("data/minhash", shingles_of_datatrove, shingles_by_definition, few_words_have_no_shingles,
           shingles_are_of_the_compared_form, sets, jaccard, signature_of_datatrove, parameters_of_numpy,
           edges_of_the_prime, limits, similarity_and_candidates, bands_are_told_apart,
           probability_of_candidates)
