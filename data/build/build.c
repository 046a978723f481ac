#include "data/build/build_internal.h"
#include "runtime/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- stages ---- */
weft_status build_stage_of(build *b, const char *name, const weft_stage *s, void *arg, int64_t *total,
                           int64_t *each) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    WEFT_TRY(weft_stage_run(&b->work, s, arg, total, each));
    clock_gettime(CLOCK_MONOTONIC, &end);
    int last = b->stage_count - 1;
    if (last < 0 || strcmp(b->stage_names[last], name) != 0) {
        if (b->stage_count == (int)(sizeof b->seconds / sizeof *b->seconds)) return WEFT_OK;
        last = b->stage_count++;
        b->stage_names[last] = name;
    }
    b->seconds[last] += (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9;
    return WEFT_OK;
}

weft_status build_stage(build *b, const weft_stage *s, void *arg, int64_t *total, int64_t *each) {
    return build_stage_of(b, s->name, s, arg, total, each);
}

weft_status build_paths(const build *b, const char *folder, const char *ending, int64_t count, char ***out) {
    char **paths = calloc((size_t)count + 1, sizeof *paths), path[WEFT_PATH_SIZE];
    weft_status st = paths ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for a list of files");
    for (int64_t i = 0; st == WEFT_OK && i < count; i++) {
        st = weft_work_path(&b->work, path, folder, i, ending);
        if (st == WEFT_OK && !(paths[i] = strdup(path)))
            st = weft_fail(WEFT_ENOMEM, "no memory for a list of files");
    }
    if (st != WEFT_OK) {
        build_paths_free(paths, count);
        return st;
    }
    *out = paths;
    return WEFT_OK;
}

void build_paths_free(char **paths, int64_t count) {
    for (int64_t i = 0; paths && i < count; i++) free(paths[i]);
    free(paths);
}

weft_status build_discard(build *b, const char *folder, const char *ending) {
    char path[WEFT_PATH_SIZE];
    weft_status st = WEFT_OK;
    if (b->team->rank == 0 && !b->r->keep_work) {
        bool units = strcmp(ending, "docs") == 0;
        int64_t count = units || strcmp(ending, "bands") == 0 ? b->units : b->job.partitions;
        const char *texts = b->texts;
        if (units) b->texts = folder;
        for (int64_t i = 0; st == WEFT_OK && i < count; i++) {
            st = units ? build_text_path(b, (uint64_t)i, path)
                       : weft_work_path(&b->work, path, folder, i, ending);
            if (st == WEFT_OK && unlink(path) != 0 && errno != ENOENT)
                st = weft_fail(WEFT_EIO, "%s: %s", path, strerror(errno));
        }
        b->texts = texts;
    }
    return b->team->agree(st);
}

/* ---- documents ---- */
void build_drop(int64_t *counters, int step, uint32_t domain, build_passage *p) {
    int64_t *flow = count_flow(counters, step, domain);
    flow[FLOW_DROPPED]++;
    flow[FLOW_DROPPED_BYTES] += (int64_t)p->bytes;
    *p = (build_passage){"", 0};
}

void build_change(int64_t *counters, int step, uint32_t domain, build_passage *p, const weft_text *to) {
    int64_t *flow = count_flow(counters, step, domain);
    if (p->bytes != to->bytes || memcmp(p->text, to->data, to->bytes) != 0) {
        flow[FLOW_CHANGED]++;
        flow[FLOW_GAINED_BYTES] += (int64_t)to->bytes - (int64_t)p->bytes;
    }
    *p = (build_passage){to->data, to->bytes};
}

/* ---- before ---- */
static weft_status check_out(build *b) {
    struct stat info;
    b->out = strdup(b->r->out);
    if (!b->out) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory", b->r->out);
    for (size_t n = strlen(b->out); n > 1 && b->out[n - 1] == '/'; n--) b->out[n - 1] = 0;
    if (lstat(b->out, &info) == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: exists already; remove it or choose another name", b->out);
    if (errno != ENOENT) WEFT_FAIL(WEFT_EIO, "%s: %s", b->out, strerror(errno));
    return WEFT_OK;
}

static weft_status identify_file(const char *path, FILE *f) {
    struct stat info;
    if (stat(path, &info) != 0) WEFT_FAIL(WEFT_EIO, "%s: %s", path, strerror(errno));
    fprintf(f, "%s %lld %lld.%09ld\n", path, (long long)info.st_size, (long long)info.st_mtim.tv_sec,
            info.st_mtim.tv_nsec);
    return WEFT_OK;
}

/* Those of a list separated by commas that are files; other words of it are in the recipe. */
static weft_status identify_files(const char *list, FILE *f) {
    char path[WEFT_PATH_SIZE];
    weft_status st = WEFT_OK;
    for (const char *p = list; st == WEFT_OK && *p; p += strspn(p, ",")) {
        size_t n = strcspn(p, ",");
        st = weft_fs_path(path, "%.*s", (int)n, p);
        if (st == WEFT_OK && access(path, F_OK) == 0) st = identify_file(path, f);
        p += n;
    }
    return st;
}

/* What a build that goes on must find unchanged: the recipe, the sizes and times of all files that it reads,
 * the tokenizer. */
static weft_status identity_of(build *b, char **out) {
    char *text = NULL, hex[WEFT_HASH128_HEX];
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) WEFT_FAIL(WEFT_ENOMEM, "no memory for the recipe");
    weft_hash128_hex(weft_tokenizer_digest(b->tokenizer), hex);
    fprintf(f, "weft build %d\ntokenizer %s\n", WEFT_MANIFEST_VERSION, hex);
    weft_status st = weft_recipe_print(b->r, f);
    for (int i = 0; st == WEFT_OK && i < b->file_count; i++) st = identify_file(b->files[i].path, f);
    for (int i = 0; st == WEFT_OK && i < b->r->filter_count; i++) {
        const weft_recipe_filter *k = &b->r->filters[i];
        for (int o = 0; st == WEFT_OK && o < k->kind->option_count; o++)
            if (k->options[o]) st = identify_files(k->options[o], f);
    }
    if (st == WEFT_OK && b->r->has_decontaminate) st = identify_files(b->r->decontaminate_files, f);
    if (fclose(f) != 0 && st == WEFT_OK) st = weft_fail(WEFT_ENOMEM, "no memory for the recipe");
    if (st != WEFT_OK) {
        free(text);
        return st;
    }
    *out = text;
    return WEFT_OK;
}

/* The recipe as the data have it: without where it was made and how it was worked, which change no byte of
 * them. */
static weft_status recipe_text(const build *b, bool with_sources, char **text, size_t *bytes) {
    weft_recipe r = *b->r;
    char empty[] = "";
    FILE *f = open_memstream(text, bytes);
    if (!f) WEFT_FAIL(WEFT_ENOMEM, "no memory for the recipe");
    r.out = r.tokenizer = empty;
    r.memory_mib = WEFT_RECIPE_MEMORY_MIB;
    r.keep_work = false;
    if (!with_sources) r.source_count = 0;
    weft_status st = weft_recipe_print(&r, f);
    if (fclose(f) != 0 && st == WEFT_OK) st = weft_fail(WEFT_ENOMEM, "no memory for the recipe");
    return st;
}

static weft_status describe(build *b) {
    weft_manifest *m = &b->manifest;
    char *text = NULL;
    size_t bytes = 0;
    weft_status st = recipe_text(b, false, &text, &bytes);
    if (st == WEFT_OK) m->pipeline = weft_hash128_of(text, bytes);
    free(text);
    m->vocab_size = weft_tokenizer_vocab_size(b->tokenizer);
    m->bos = weft_tokenizer_bos(b->tokenizer);
    m->eos = weft_tokenizer_eos(b->tokenizer);
    m->tokenizer = weft_tokenizer_digest(b->tokenizer);
    m->heldout = b->r->heldout;
    b->heldout_below = (uint64_t)(b->r->heldout * 0x1p64);
    return st;
}

/* As many partitions as make one some 64 MiB of text; never less than eight, for the ranks to share. */
static void size_job(build *b) {
    int64_t wanted = b->text_bytes >> 26;
    b->job = (weft_dedup_job){.partitions = (int)(wanted < 8      ? 8
                                                  : wanted > 1024 ? 1024
                                                                  : wanted),
                              .units = (uint64_t)b->units,
                              .memory = ((size_t)b->r->memory_mib << 20) / (size_t)b->work.threads};
}

/* For the progress line: how many stages there will be, but for the rounds of the components. */
static int expected_stages(const weft_recipe *r) {
    return 4 + r->has_exact + 2 * r->has_lines + (r->has_exact || r->has_lines || r->has_near) +
           5 * r->has_near + 2 * r->has_substring + (r->has_exact || r->has_near);
}

static weft_status begin(build *b, const weft_build_options *o) {
    char *identity = NULL, dir[WEFT_PATH_SIZE];
    weft_status st = check_out(b);
    if (st == WEFT_OK) st = weft_tokenizer_open(&b->tokenizer, b->r->tokenizer);
    if (st == WEFT_OK) st = build_find_files(b);
    if (st == WEFT_OK) st = build_open_tools(b);
    if (st == WEFT_OK) st = describe(b);
    if (st == WEFT_OK) st = identity_of(b, &identity);
    if (st == WEFT_OK) st = weft_fs_path(dir, "%s.work", b->out);
    st = b->team->agree(st);
    if (st == WEFT_OK) st = weft_work_begin(&b->work, dir, identity, b->team, o->threads, o->progress);
    b->work.stages = expected_stages(b->r);
    free(identity);
    return st;
}

/* ---- after ---- */
static weft_status check_splits(const build *b) {
    int64_t documents[WEFT_SPLITS] = {0};
    for (int d = 0; d < b->manifest.domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++) documents[s] += b->manifest.domains[d].split[s].documents;
    if (documents[WEFT_SPLIT_TRAIN] == 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "no document is left for training: %lld are held out, all others are dropped (%s.work "
                  "keeps what was "
                  "done)",
                  (long long)documents[WEFT_SPLIT_HELDOUT], b->out);
    if (documents[WEFT_SPLIT_HELDOUT] == 0 && b->r->heldout > 0)
        weft_warn("none of the %lld documents is held out: there is nothing to evaluate on",
                  (long long)documents[WEFT_SPLIT_TRAIN]);
    return WEFT_OK;
}

static weft_status list_sources(build *b) {
    weft_manifest *m = &b->manifest;
    m->sources = calloc((size_t)b->file_count, sizeof *m->sources);
    if (!m->sources) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of files");
    for (int i = 0; i < b->file_count; i++) {
        const build_file *f = &b->files[i];
        m->sources[i] = (weft_manifest_source){.file = strdup(f->shown),
                                               .documents = f->counts[READ_DOCUMENTS],
                                               .bytes = f->counts[READ_BYTES],
                                               .malformed = f->counts[READ_MALFORMED],
                                               .empty = f->counts[READ_EMPTY]};
        if (!m->sources[i].file) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of files");
        m->source_count++;
    }
    return WEFT_OK;
}

static weft_status write_recipe(const build *b, const char *dir) {
    char path[WEFT_PATH_SIZE], *text = NULL;
    size_t bytes = 0;
    weft_status st = recipe_text(b, true, &text, &bytes);
    if (st == WEFT_OK) st = weft_fs_path(path, "%s/recipe.yaml", dir);
    if (st == WEFT_OK) st = weft_fs_replace_file(path, text, bytes);
    free(text);
    return st;
}

static weft_status write_tokenizer(const build *b, const char *dir) {
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/tokenizer", dir));
    weft_fs_remove_tree(path); /* of a job that was killed here */
    WEFT_TRY(weft_fs_mkdir(path));
    WEFT_TRY(weft_tokenizer_write_hf(b->tokenizer, path));
    return weft_fs_sync_dir(path);
}

/* Rank 0. The manifest last: what a killed job left of it is replaced. */
static weft_status publish_first(build *b) {
    static const char *const folders[] = {"train", "heldout", "evidence"};
    char dir[WEFT_PATH_SIZE], path[WEFT_PATH_SIZE];
    WEFT_TRY(check_splits(b));
    WEFT_TRY(list_sources(b));
    WEFT_TRY(weft_manifest_content(&b->manifest, &b->manifest.content));
    WEFT_TRY(weft_fs_path(dir, "%s/out", b->work.dir));
    WEFT_TRY(write_tokenizer(b, dir));
    WEFT_TRY(write_recipe(b, dir));
    WEFT_TRY(build_report(b, dir));
    for (int i = 0; i < 3; i++) {
        WEFT_TRY(weft_fs_path(path, "%s/%s", dir, folders[i]));
        WEFT_TRY(weft_fs_sync_dir(path));
    }
    WEFT_TRY(weft_fs_path(path, "%s/manifest.json", dir));
    if (unlink(path) != 0 && errno != ENOENT) WEFT_FAIL(WEFT_EIO, "%s: %s", path, strerror(errno));
    WEFT_TRY(weft_manifest_write(&b->manifest, dir));
    WEFT_TRY(weft_fs_sync_dir(dir));
    return weft_fs_publish_dir(dir, b->out);
}

weft_status build_publish(build *b) {
    weft_status st = b->team->rank == 0 ? publish_first(b) : WEFT_OK;
    WEFT_TRY(b->team->agree(st));
    if (b->team->rank == 0 && !b->r->keep_work) weft_fs_remove_tree(b->work.dir);
    return WEFT_OK;
}

/* Work that was kept, or whose removal was interrupted, says that shards and evidence are done, but they went
 * with OUT. */
static weft_status forget_published(build *b) {
    char path[WEFT_PATH_SIZE];
    weft_status st = weft_fs_path(path, "%s/out", b->work.dir);
    int gone = st == WEFT_OK && b->team->rank == 0 && access(path, F_OK) != 0;
    b->team->bcast(&gone, sizeof gone, 0);
    WEFT_TRY(b->team->agree(st));
    if (!gone) return WEFT_OK;
    WEFT_TRY(weft_stage_forget(&b->work, "shards"));
    return weft_stage_forget(&b->work, "evidence");
}

static weft_status run(build *b, const weft_build_options *o) {
    WEFT_TRY(begin(b, o));
    WEFT_TRY(build_read(b));
    size_job(b);
    WEFT_TRY(build_clean(b));
    WEFT_TRY(build_exact(b));
    WEFT_TRY(build_sign(b));
    WEFT_TRY(build_near(b));
    WEFT_TRY(build_substring(b));
    WEFT_TRY(build_finish(b));
    WEFT_TRY(b->team->agree(build_check_flows(b)));
    WEFT_TRY(forget_published(b));
    WEFT_TRY(build_shards(b));
    WEFT_TRY(build_evidence(b));
    return build_publish(b);
}

static void release(build *b) {
    for (int i = 0; i < b->r->filter_count; i++)
        if (b->filter_state[i] && b->r->filters[i].kind->close)
            b->r->filters[i].kind->close(b->filter_state[i]);
    for (int i = 0; i < b->file_count; i++) free(b->files[i].path);
    weft_minhash_free(b->minhash);
    weft_contaminants_close(b->contaminants);
    weft_scrubber_free(b->scrubber);
    weft_work_end(&b->work);
    weft_manifest_free(&b->manifest);
    weft_tokenizer_close(b->tokenizer);
    free(b->files);
    free(b->domains);
    free(b->unit_file);
    free(b->applies);
    free(b->clean_each);
    free(b->buckets);
    free(b->out);
    free(b);
}

/* What stands in OUT.work serves the same recipe and files only: after an error in these it is of no use. */
static void give_up(build *b, weft_status st) {
    if (b->work.lock < 0 || b->team->rank != 0 || st == WEFT_OK) return;
    if (st == WEFT_EINPUT)
        weft_fs_remove_tree(b->work.dir);
    else
        weft_warn("%s keeps what was done; the same command goes on from there", b->work.dir);
}

weft_status weft_data_build(const weft_recipe *r, const weft_team *team, const weft_build_options *o) {
    build *b = calloc(1, sizeof *b);
    if (!b) WEFT_FAIL(WEFT_ENOMEM, "no memory to build");
    b->r = r;
    b->team = team;
    b->work.lock = -1;
    weft_status st = run(b, o);
    give_up(b, st);
    release(b);
    return st;
}
