/* Checkpoints in one process: damage is found, older ones are fallen back to, nothing foreign is removed. */
#include "runtime/log.h"
#include "support/suite.h"
#include "train/commands.h"
#include "train/made_ckpt.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static weft_world g_w;
static char g_run[256], g_found[512];
static const made_cut g_cut = {2, 2};
static const weft_ckpt_options keep_all = {.keep = 1000};

/* ---- helpers ---- */

static const char *in_run(const char *fmt, int64_t step) {
    static char path[4][512];
    static int turn;
    char *p = path[turn++ % 4];
    int n = snprintf(p, 512, "%s/checkpoints/step_%08d", g_run, (int)step);
    snprintf(p + n, (size_t)(512 - n), "%s", fmt);
    return p;
}

static weft_status save(int64_t step, int salt, const weft_ckpt_options *options) {
    weft_ckpt_state state = made_state(step);
    made_fragments f = made_new(g_cut, 0, 1, salt);
    weft_status st = weft_ckpt_save(&g_w, g_run, &state, f.list, f.count, options);
    made_free(f);
    return st;
}

/* -1: fails; 0: none; else the step */
static int64_t find(void) {
    bool found;
    weft_ckpt_state s;
    if (weft_ckpt_find(&g_w, g_run, &found, g_found, sizeof g_found) != WEFT_OK) return -1;
    if (!found) return 0;
    ck_assert_int_eq(weft_ckpt_read_state(&g_w, g_found, &s), WEFT_OK);
    weft_ckpt_state_free(&s);
    return s.step;
}

static weft_status load(const char *path, int salt, bool *equal) {
    made_fragments g = made_new((made_cut){1, 1}, 0, 1, -1);
    weft_status st = weft_ckpt_load(&g_w, path, g.list, g.count);
    *equal = made_equals(g, salt);
    made_free(g);
    return st;
}

static weft_status verify(const char *path) {
    char *argv[] = {"ckpt", "verify", (char *)path, NULL};
    return weft_cmd_ckpt(&g_w, 3, argv);
}

static void silence(bool on) {
    weft_log_set_level(on ? (weft_log_level)(WEFT_LOG_ERROR + 1) : WEFT_LOG_INFO);
}

/* Standard output and error go to a file between the two. */
static int g_kept[2];
static void capture_begin(void) {
    fflush(stdout);
    FILE *f = tmpfile();
    for (int i = 0; i < 2; i++) {
        g_kept[i] = dup(i + 1);
        dup2(fileno(f), i + 1);
    }
    fclose(f);
}
static char *capture_end(void) {
    static char text[1 << 16];
    fflush(stdout);
    off_t end = lseek(1, 0, SEEK_END);
    size_t size = end < (off_t)sizeof text - 1 ? (size_t)end : sizeof text - 1;
    ssize_t n = pread(1, text, size, 0);
    text[n > 0 ? n : 0] = '\0';
    for (int i = 0; i < 2; i++) {
        dup2(g_kept[i], i + 1);
        close(g_kept[i]);
    }
    return text;
}
#define SAYS(text, what)                                                                                     \
    ck_assert_msg(strstr((text), (what)) != NULL, "not said: %s\nbut: %s", (what), (text))

static void put(const char *path, const char *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, bytes, f), bytes);
    ck_assert_int_eq(fclose(f), 0);
}

static char *get(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    char *data = calloc(1, *bytes + 1);
    ck_assert_uint_eq(fread(data, 1, *bytes, f), *bytes);
    fclose(f);
    return data;
}

static void flip(const char *path, long at, int bit) {
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ (1 << bit), f);
    ck_assert_int_eq(fclose(f), 0);
}

/* Writes a manifest's text, without its last line, with the hash that fits it. */
static const char trailer_head[] = "\"manifest_xxh3_128\":\"";
static void put_signed(const char *path, const char *text) {
    char hex[WEFT_HASH128_HEX];
    weft_hash128_hex(weft_hash128_of(text, strlen(text)), hex);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "%s%s%s\"}\n", text, trailer_head, hex);
    ck_assert_int_eq(fclose(f), 0);
}

/* The text that put_signed takes. */
static char *get_unsigned(const char *path) {
    size_t bytes;
    char *text = get(path, &bytes), *trailer = strstr(text, trailer_head);
    ck_assert_ptr_nonnull(trailer);
    *trailer = '\0';
    return text;
}

static bool is_there(const char *path) {
    return access(path, F_OK) == 0;
}

static void begin(void) {
    made_run(&g_w, g_run);
}
static void end(void) {
    silence(false);
    made_remove(g_run);
}

/* ---- damage ---- */

START_TEST(every_flipped_bit_is_found) {
    const char *files[] = {"/MANIFEST", "/rank_00000.h5", "/tokenizer.model"};
    weft_ckpt_options o = keep_all;
    char tokenizer[300];
    uint64_t seed = 42;
    begin();
    snprintf(tokenizer, sizeof tokenizer, "%s/t", g_run);
    put(tokenizer, "a small model", 13);
    o.tokenizer_model = tokenizer;
    for (int compress = 0; compress < 2; compress++) {
        o.compress = compress;
        ck_assert_int_eq(save(1, 3, &o), WEFT_OK);
        for (int i = 0; i < 100; i++) {
            struct stat s;
            bool equal;
            const char *path = in_run(files[i % 3], 1);
            ck_assert_int_eq(stat(path, &s), 0);
            seed = weft_hash64(&i, sizeof i, seed);
            long at = (long)(seed % (uint64_t)s.st_size);
            int bit = (int)(seed >> 60 & 7);
            silence(true);
            flip(path, at, bit);
            capture_begin();
            weft_status deep = verify(in_run("", 1));
            capture_end();
            ck_assert_msg(deep == WEFT_EINPUT, "%s byte %ld bit %d", files[i % 3], at, bit);
            ck_assert_int_eq(find(), -1);
            /* The tokenizer is not needed to load; all else is. */
            weft_status st = load(in_run("", 1), 3, &equal);
            ck_assert_msg(i % 3 == 2 ? equal : st == WEFT_EINPUT, "%s byte %ld bit %d", files[i % 3], at,
                          bit);
            flip(path, at, bit);
            silence(false);
        }
        ck_assert_int_eq(find(), 1);
    }
    end();
}
END_TEST

START_TEST(cut_and_missing_files_fall_back_with_a_warning) {
    size_t bytes;
    begin();
    for (int s = 1; s <= 5; s++) ck_assert_int_eq(save(s, s, &keep_all), WEFT_OK);
    ck_assert_int_eq(find(), 5);
    free(get(in_run("/rank_00000.h5", 5), &bytes));
    ck_assert_int_eq(truncate(in_run("/rank_00000.h5", 5), (off_t)bytes - 1), 0);
    ck_assert_int_eq(unlink(in_run("/rank_00000.h5", 4)), 0);
    ck_assert_int_eq(unlink(in_run("/MANIFEST", 3)), 0);
    capture_begin();
    int64_t step = find();
    char *said = capture_end();
    ck_assert_int_eq(step, 2);
    SAYS(said, "step_00000005 cannot be used: its file rank_00000.h5 has");
    SAYS(said, "step_00000004 cannot be used: its file rank_00000.h5 is missing");
    SAYS(said, "step_00000003 cannot be used: it has no MANIFEST");
    SAYS(said, "falling back to an older checkpoint");
    SAYS(said, "latest names step_00000005");
    /* A manifest that is cut at any place, or empty. */
    free(get(in_run("/MANIFEST", 2), &bytes));
    ck_assert_int_eq(truncate(in_run("/MANIFEST", 2), (off_t)bytes / 2), 0);
    ck_assert_int_eq(truncate(in_run("/MANIFEST", 1), 0), 0);
    capture_begin();
    step = find();
    said = capture_end();
    ck_assert_int_eq(step, -1);
    SAYS(said, "none of its 5 checkpoints is valid");
    end();
}
END_TEST

START_TEST(a_checkpoint_under_another_step_is_not_taken) {
    begin();
    ck_assert_int_eq(save(1, 1, &keep_all), WEFT_OK);
    ck_assert_int_eq(save(2, 2, &keep_all), WEFT_OK);
    ck_assert_int_eq(rename(in_run("", 2), in_run("", 9)), 0);
    silence(true);
    ck_assert_int_eq(find(), 1);
    end();
}
END_TEST

/* A manifest that was changed by someone who knows how to sign it. */
START_TEST(manifests_are_not_trusted) {
    static const struct {
        const char *from, *to, *said;
    } cases[] = {
        {"\"version\":1", "\"version\":2", "newer weft"},
        {"\"format\":\"weft", "\"format\":\"woof", "not one of weft"},
        {"\"step\":1", "\"step\":-1", "step"},
        {"\"step\":1", "\"step\":1.0", "step"},
        {"\"samples\":64", "\"samples\":\"99999999999999999999\"", "samples"},
        {"\"seed\":\"1844", "\"seed\":\"-1844", "seed"},
        {"\"world_size\":1", "\"world_size\":0", "world_size"},
        {"layers: 8", "layers: 9", "configuration"},
        {"\"files\":[", "\"files\":7,\"f\":[", "files"},
        {"rank_00000.h5\",\"bytes\":", "rank_00000.h5\",\"bytes\":-", "size"},
        {"\"rank_00000.h5\"", "\"../rank_00000.h5\"", "names file"},
        {"\"rank_00000.h5\"", "\"/etc/passwd\"", "names file"},
        {"\"fragments\":[", "\"fragments\":{},\"f\":[", "fragments"},
        {"\"param/embedding\"", "\"param//embedding\"", "name"},
        {"\"param/embedding\"", "\"../embedding\"", "name"},
        {"\"float32\"", "\"float31\"", "badly"},
        {"\"shape\":[37,19]", "\"shape\":[36,19]", "embedding"},
        {"\"shape\":[37,19]", "\"shape\":[37,19,1,1,1]", "embedding"},
        {"\"shape\":[37,19]", "\"shape\":[]", "embedding"},
        {"\"shape\":[37,19]", "\"shape\":[9223372036854775807,9223372036854775807]", "embedding"},
        {"\"shape\":[37,19]", "\"shape\":[37,99999999999999999999]", "JSON"},
        {"\"offset\":[0,0],\"extent\":[18,9]", "\"offset\":[-1,0],\"extent\":[18,9]", "not inside"},
        {"\"offset\":[0,0],\"extent\":[18,9]", "\"offset\":[0,0],\"extent\":[-18,-9]", "not inside"},
        {"\"offset\":[0,0],\"extent\":[18,9]", "\"offset\":[9223372036854775807,0],\"extent\":[18,9]",
         "not inside"},
        {"\"offset\":[0,0],\"extent\":[18,9]", "\"offset\":[0,0],\"extent\":[9223372036854775807,9]",
         "not inside"},
        {"\"offset\":[0,0],\"extent\":[18,9]", "\"offset\":[0,1],\"extent\":[18,9]", "overlap"},
        {"\"offset\":[0,0],\"extent\":[18,9]", "\"offset\":[0,0],\"extent\":[17,9]", "do not fill"},
        {"\"offset\":[0,0],\"extent\":[18,9]", "\"offset\":[0,0],\"extent\":[0,9]", "not inside"},
        {"\"file\":0", "\"file\":1", "badly"},
        {"\"file\":0", "\"file\":-1", "badly"},
        {"\"config\":", "\"step\":3,\"config\":", "JSON"},
    };
    begin();
    ck_assert_int_eq(save(1, 3, &keep_all), WEFT_OK);
    char *text = get_unsigned(in_run("/MANIFEST", 1));
    for (int i = -1; i < (int)(sizeof cases / sizeof *cases); i++) {
        size_t size = strlen(text) + 256;
        char *changed = malloc(size);
        weft_ckpt_state s;
        snprintf(changed, size, "%s", text);
        if (i >= 0) {
            char *at = strstr(text, cases[i].from);
            ck_assert_msg(at != NULL, "case %d: %s is not there", i, cases[i].from);
            snprintf(changed + (at - text), size - (size_t)(at - text), "%s%s", cases[i].to,
                     at + strlen(cases[i].from));
        }
        put_signed(in_run("/MANIFEST", 1), changed);
        free(changed);
        capture_begin();
        weft_status st = weft_ckpt_read_state(&g_w, in_run("", 1), &s);
        char *said = capture_end();
        if (i < 0) { /* unchanged but signed anew: the signing is right */
            ck_assert_int_eq(st, WEFT_OK);
            weft_ckpt_state_free(&s);
            continue;
        }
        ck_assert_msg(st == WEFT_EINPUT, "case %d: %s was taken", i, cases[i].to);
        SAYS(said, cases[i].said);
    }
    free(text);
    end();
}
END_TEST

START_TEST(a_file_that_is_not_what_the_manifest_says_is_refused) {
    bool equal;
    begin();
    /* Two float32 tensors of the same size change places in a signed manifest: the fragment's own hash tells.
     */
    float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8};
    weft_fragment f[] = {{.name = "a", .dtype = WEFT_F32, .ndim = 1, .shape = {4}, .extent = {4}, .data = a},
                         {.name = "b", .dtype = WEFT_F32, .ndim = 1, .shape = {4}, .extent = {4}, .data = b}};
    weft_ckpt_state state = made_state(1);
    ck_assert_int_eq(weft_ckpt_save(&g_w, g_run, &state, f, 2, &keep_all), WEFT_OK);
    char *text = get_unsigned(in_run("/MANIFEST", 1));
    char *first = strstr(text, "\"tensor\":\"a\""), *second = strstr(text, "\"tensor\":\"b\"");
    first[10] = 'b';
    second[10] = 'a';
    put_signed(in_run("/MANIFEST", 1), text);
    free(text);
    capture_begin();
    weft_status st = weft_ckpt_load(&g_w, in_run("", 1), f, 2), deep = verify(in_run("", 1));
    SAYS(capture_end(), "has not the hash that MANIFEST states");
    ck_assert_int_eq(st, WEFT_EINPUT);
    ck_assert_int_eq(deep, WEFT_EINPUT);
    /* What is no checkpoint at all. */
    silence(true);
    ck_assert_int_eq(load("/nonexistent", 1, &equal), WEFT_EINPUT);
    ck_assert_int_eq(load("/", 1, &equal), WEFT_EINPUT);
    ck_assert_int_eq(verify("/"), WEFT_EINPUT);
    end();
}
END_TEST

/* ---- what is asked for ---- */

START_TEST(wrong_tensors_are_named) {
    begin();
    ck_assert_int_eq(save(1, 1, &keep_all), WEFT_OK);
    const struct {
        const char *name;
        weft_dtype dtype;
        int ndim;
        int64_t rows;
        const char *said;
    } cases[] = {
        {"param/embeding", WEFT_F32, 2, 37, "has no tensor param/embeding"},
        {"param/embedding", WEFT_F64, 2, 37, "tensor param/embedding has type float32 there, float64 here"},
        {"param/embedding", WEFT_F32, 2, 38,
         "tensor param/embedding has shape [37, 19] there, [38, 19] here"},
        {"param/embedding", WEFT_F32, 1, 37, "tensor param/embedding has shape [37, 19] there, [37] here"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double data[40 * 19];
        weft_fragment f = {.name = cases[i].name,
                           .dtype = cases[i].dtype,
                           .ndim = cases[i].ndim,
                           .data = data,
                           .shape = {cases[i].rows, 19},
                           .extent = {1, 19}};
        capture_begin();
        weft_status st = weft_ckpt_load(&g_w, in_run("", 1), &f, 1);
        char *said = capture_end();
        ck_assert_int_eq(st, WEFT_EINPUT);
        SAYS(said, cases[i].said);
    }
    end();
}
END_TEST

START_TEST(bad_fragments_are_not_saved) {
    float data[8] = {0};
    weft_ckpt_state state = made_state(1);
    const weft_fragment good = {
        .name = "a", .dtype = WEFT_F32, .ndim = 1, .shape = {4}, .extent = {4}, .data = data};
    weft_fragment bad[6];
    for (int i = 0; i < 6; i++) bad[i] = good;
    bad[0].name = "/a";
    bad[1].name = "";
    bad[2].extent[0] = 5;
    bad[3].offset[0] = -1;
    bad[4].ndim = 5;
    bad[5].data = NULL;
    begin();
    silence(true);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(weft_ckpt_save(&g_w, g_run, &state, &bad[i], 1, &keep_all), WEFT_EINTERNAL);
    weft_ckpt_options none = {.keep = 0};
    ck_assert_int_eq(weft_ckpt_save(&g_w, g_run, &state, &good, 1, &none), WEFT_EINPUT);
    ck_assert_int_eq(find(), 0);
    ck_assert_int_eq(weft_ckpt_save(&g_w, g_run, &state, &good, 1, &keep_all), WEFT_OK);
    ck_assert_int_eq(find(), 1);
    end();
}
END_TEST

/* ---- directories ---- */

START_TEST(empty_and_foreign_folders) {
    char path[512];
    begin();
    ck_assert_int_eq(find(), 0); /* no folder */
    snprintf(path, sizeof path, "%s/checkpoints", g_run);
    ck_assert_int_eq(mkdir(path, 0777), 0);
    ck_assert_int_eq(find(), 0); /* an empty one */
    snprintf(path, sizeof path, "%s/checkpoints/.lock", g_run);
    put(path, "", 0);
    ck_assert_int_eq(find(), 0); /* what a save makes first */
    snprintf(path, sizeof path, "%s/checkpoints/notes.txt", g_run);
    put(path, "x", 1);
    capture_begin();
    int64_t step = find();
    char *said = capture_end();
    ck_assert_int_eq(step, -1);
    SAYS(said, "notes.txt");
    ck_assert_int_eq(unlink(path), 0);
    /* A first save that died: no checkpoint, but the run is not new. */
    ck_assert_int_eq(mkdir(in_run(".tmp.0123456789abcdef", 1), 0777), 0);
    silence(true);
    ck_assert_int_eq(find(), -1);
    end();
}
END_TEST

START_TEST(retention_keeps_the_newest_and_every_nth) {
    weft_ckpt_options o = {.keep = 2, .keep_every = 4};
    begin();
    ck_assert_int_eq(save(1, 1, &keep_all), WEFT_OK);
    ck_assert_int_eq(save(2, 2, &keep_all), WEFT_OK);
    ck_assert_int_eq(save(3, 3, &keep_all), WEFT_OK);
    /* The user's: a copy, a checkpoint with notes in it, a link, and one that is broken. */
    ck_assert_int_eq(mkdir(in_run("_copy", 1), 0777), 0);
    put(in_run("_copy/MANIFEST", 1), "x", 1);
    put(in_run("/notes.txt", 2), "x", 1);
    ck_assert_int_eq(rename(in_run("", 3), in_run("_elsewhere", 3)), 0);
    ck_assert_int_eq(symlink(in_run("_elsewhere", 3), in_run("", 3)), 0);
    silence(true);
    for (int s = 4; s <= 11; s++) ck_assert_int_eq(save(s, s, &o), WEFT_OK);
    for (int s = 1; s <= 11; s++) {
        bool want = s == 2 || s == 3 || s == 4 || s == 8 || s == 10 || s == 11;
        ck_assert_msg(is_there(in_run("", s)) == want, "step %d", s);
    }
    ck_assert(is_there(in_run("_copy/MANIFEST", 1)));
    ck_assert(is_there(in_run("/notes.txt", 2)));
    ck_assert(is_there(in_run("_elsewhere/MANIFEST", 3)));
    /* A broken one neither counts nor goes. */
    flip(in_run("/MANIFEST", 11), 5, 1);
    ck_assert_int_eq(save(12, 12, &o), WEFT_OK);
    ck_assert(is_there(in_run("", 10)) && is_there(in_run("", 11)) && is_there(in_run("", 12)));
    /* Taken back to an older step: what was saved last is never what goes. */
    weft_ckpt_options one = {.keep = 1};
    ck_assert_int_eq(save(9, 9, &one), WEFT_OK);
    ck_assert(is_there(in_run("", 9)) && is_there(in_run("", 12)) && !is_there(in_run("", 8)));
    end();
}
END_TEST

START_TEST(leftovers_of_dead_jobs_go_if_they_are_ours) {
    begin();
    ck_assert_int_eq(save(1, 1, &keep_all), WEFT_OK);
    const char *ours[] = {".tmp.0123456789abcdef", ".trash.00000000000000ff"};
    const char *not_ours[] = {".tmp.1", ".tmp.0123456789ABCDEF", ".trash.0123456789abcdef.old", ".bak"};
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(mkdir(in_run(ours[i], 7), 0777), 0);
        char inside[64];
        snprintf(inside, sizeof inside, "%s/rank_00003.h5", ours[i]);
        put(in_run(inside, 7), "x", 1);
    }
    for (int i = 0; i < 4; i++) ck_assert_int_eq(mkdir(in_run(not_ours[i], 7), 0777), 0);
    ck_assert_int_eq(mkdir(in_run(".tmp.aaaaaaaaaaaaaaaa", 7), 0777), 0);
    put(in_run(".tmp.aaaaaaaaaaaaaaaa/thesis.tex", 7), "x", 1);
    put(in_run(".tmp.aaaaaaaaaaaaaaaa/rank_00000.h5", 7), "x", 1);
    ck_assert_int_eq(symlink("/", in_run(".tmp.bbbbbbbbbbbbbbbb", 7)), 0);
    silence(true);
    ck_assert_int_eq(save(2, 2, &keep_all), WEFT_OK);
    for (int i = 0; i < 2; i++) ck_assert(!is_there(in_run(ours[i], 7)));
    for (int i = 0; i < 4; i++) ck_assert(is_there(in_run(not_ours[i], 7)));
    ck_assert(is_there(in_run(".tmp.aaaaaaaaaaaaaaaa/thesis.tex", 7)));
    ck_assert(is_there(in_run(".tmp.aaaaaaaaaaaaaaaa/rank_00000.h5", 7)));
    ck_assert(is_there(in_run(".tmp.bbbbbbbbbbbbbbbb", 7)));
    end();
}
END_TEST

START_TEST(the_same_step_is_replaced) {
    bool equal;
    begin();
    ck_assert_int_eq(save(5, 1, &keep_all), WEFT_OK);
    ck_assert_int_eq(save(5, 2, &keep_all), WEFT_OK);
    ck_assert_int_eq(find(), 5);
    ck_assert_int_eq(load(g_found, 2, &equal), WEFT_OK);
    ck_assert(equal);
    char command[400], line[64] = "";
    snprintf(command, sizeof command, "ls %s/checkpoints | tr '\\n' ' '", g_run);
    FILE *p = popen(command, "r");
    ck_assert_ptr_nonnull(fgets(line, sizeof line, p));
    pclose(p);
    ck_assert_str_eq(line, "latest step_00000005 ");
    /* A file in its place is someone's. */
    put(in_run("", 6), "x", 1);
    silence(true);
    ck_assert_int_eq(save(6, 1, &keep_all), WEFT_EINPUT);
    end();
}
END_TEST

START_TEST(one_job_at_a_time) {
    char path[512];
    begin();
    ck_assert_int_eq(save(1, 1, &keep_all), WEFT_OK);
    snprintf(path, sizeof path, "%s/checkpoints/.lock", g_run);
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    capture_begin();
    weft_status st = save(2, 2, &keep_all);
    char *said = capture_end();
    ck_assert_int_eq(st, WEFT_EINPUT);
    SAYS(said, "another job is saving");
    close(fd);
    ck_assert_int_eq(save(2, 2, &keep_all), WEFT_OK);
    end();
}
END_TEST

START_TEST(full_disk_at_any_point_spoils_nothing) {
    static char config[300000];
    struct rlimit before, small;
    begin();
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    memset(config, 'c', sizeof config - 1);
    weft_ckpt_state state = made_state(2);
    state.config_yaml = config; /* the manifest is larger than the data */
    ck_assert_int_eq(save(1, 1, &keep_all), WEFT_OK);
    silence(true);
    static const rlim_t limits[] = {1, 100, 800, 2048, 3000, 4096, 7000, 10000, 20000, 100000, 299000};
    for (int i = 0; i < 22; i++) {
        weft_ckpt_options o = keep_all;
        o.compress = i % 2;
        made_fragments f = made_new(g_cut, 0, 1, 2);
        small.rlim_cur = limits[i / 2];
        setrlimit(RLIMIT_FSIZE, &small);
        weft_status st = weft_ckpt_save(&g_w, g_run, &state, f.list, f.count, &o);
        setrlimit(RLIMIT_FSIZE, &before);
        made_free(f);
        ck_assert_msg(st == WEFT_EIO, "limit %d: status %d", (int)limits[i / 2], st);
        ck_assert_int_eq(find(), 1);
        char command[400], line[64] = "";
        snprintf(command, sizeof command, "ls %s/checkpoints | tr '\\n' ' '", g_run);
        FILE *p = popen(command, "r");
        ck_assert_ptr_nonnull(fgets(line, sizeof line, p));
        pclose(p);
        ck_assert_str_eq(line, "latest step_00000001 ");
    }
    ck_assert_int_eq(save(2, 2, &keep_all), WEFT_OK);
    ck_assert_int_eq(find(), 2);
    end();
}
END_TEST

START_TEST(the_command_reports) {
    char *ls[] = {"ckpt", "ls", g_run, "--json", NULL};
    char *said;
    begin();
    silence(true);
    ck_assert_int_eq(weft_cmd_ckpt(&g_w, 4, ls), WEFT_EINPUT); /* no checkpoints folder */
    silence(false);
    ck_assert_int_eq(save(1, 1, &keep_all), WEFT_OK);
    ck_assert_int_eq(save(2, 2, &keep_all), WEFT_OK);
    capture_begin();
    weft_status st = weft_cmd_ckpt(&g_w, 4, ls), all = verify(g_run);
    said = capture_end();
    ck_assert_int_eq(st, WEFT_OK);
    ck_assert_int_eq(all, WEFT_OK);
    SAYS(said, "\"step\": 2");
    SAYS(said, "\"tokens\": 8192");
    SAYS(said, "\"valid\": true");
    SAYS(said, "every hash is right");
    flip(in_run("/rank_00000.h5", 1), 4000, 3);
    capture_begin();
    all = verify(g_run);
    said = capture_end();
    ck_assert_int_eq(all, WEFT_EINPUT);
    SAYS(said, "INVALID: its file rank_00000.h5 is damaged");
    SAYS(said, "1 of 2 checkpoints are invalid");
    silence(true);
    char *bad[] = {"ckpt", "lst", g_run, NULL}, *few[] = {"ckpt", "ls", NULL};
    ck_assert_int_eq(weft_cmd_ckpt(&g_w, 3, bad), WEFT_EINPUT);
    ck_assert_int_eq(weft_cmd_ckpt(&g_w, 2, few), WEFT_EINPUT);
    end();
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {every_flipped_bit_is_found,
                                  cut_and_missing_files_fall_back_with_a_warning,
                                  a_checkpoint_under_another_step_is_not_taken,
                                  manifests_are_not_trusted,
                                  a_file_that_is_not_what_the_manifest_says_is_refused,
                                  wrong_tensors_are_named,
                                  bad_fragments_are_not_saved,
                                  empty_and_foreign_folders,
                                  retention_keeps_the_newest_and_every_nth,
                                  leftovers_of_dead_jobs_go_if_they_are_ours,
                                  the_same_step_is_replaced,
                                  one_job_at_a_time,
                                  full_disk_at_any_point_spoils_nothing,
                                  the_command_reports};
    if (weft_world_init(&argc, &argv, &g_w) != WEFT_OK) return 1;
    int code = suite_run("ckpt", tests, sizeof tests / sizeof *tests);
    weft_world_finalize();
    return code;
}
