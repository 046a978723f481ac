/* Second stage: each unit's documents normalised and judged by the filters, in the recipe's order. Writes the
 * unit of those that stay, their keys for the exact step, and a few examples of those that go. */
#include "data/build/build_internal.h"
#include "runtime/hash.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EXAMPLES = 2, EXCERPT = 240 };

typedef struct cleaner {
    build *b;
    int64_t unit;
    int64_t *counters;
    weft_docs_writer *out;
    weft_spill *exact;
    weft_words *words;
    weft_text normal, changed, key;
    json_t *examples; /* rule -> list */
} cleaner;

/* ---- signals ---- */
/* Shares in bins of 1/30 from 0 to 1, 1 and more in bin 30; counts by their power of two; what is no number
 * in the last. */
static int bin_of(weft_signal_scale scale, double value) {
    if (!(value >= 0)) return HISTOGRAM_BINS - 1;
    if (scale == WEFT_SCALE_SHARE) return value > 1 ? 30 : (int)(value * 30);
    int bin = value < 1 ? 0 : ilogb(value) + 1;
    return bin > 30 ? 30 : bin;
}

static weft_status keep_example(cleaner *c, const weft_recipe_filter *f, int rule, double value,
                                const weft_docs_row *about, const weft_filter_input *in) {
    char key[160];
    size_t bytes = in->bytes < EXCERPT ? in->bytes : EXCERPT;
    snprintf(key, sizeof key, "%s.%s", f->kind->name, f->kind->rules[rule].name);
    json_t *list = json_object_get(c->examples, key);
    if (list && json_array_size(list) >= EXAMPLES) return WEFT_OK;
    while (bytes > 0 && bytes < in->bytes && ((unsigned char)in->text[bytes] & 0xc0) == 0x80) bytes--;
    json_t *one = json_pack("{s:i, s:I, s:s%}", "file", (int)about->file, "place", (json_int_t)about->place,
                            "text", in->text, bytes);
    if (one) json_object_set_new(one, "value", isfinite(value) ? json_real(value) : json_null());
    if (one && !list) {
        list = json_array();
        if (!list || json_object_set_new(c->examples, key, list) != 0) one = (json_decref(one), NULL);
    }
    if (!one || json_array_append_new(list, one) != 0) WEFT_FAIL(WEFT_ENOMEM, "no memory for an example");
    return WEFT_OK;
}

/* ---- one document ---- */
static weft_status normalise(cleaner *c, uint32_t domain, build_passage *p) {
    WEFT_TRY(weft_normalise(&c->b->r->normalise, p->text, p->bytes, &c->normal));
    if (c->normal.bytes == 0)
        build_drop(c->counters, STEP_NORMALISE, domain, p);
    else
        build_change(c->counters, STEP_NORMALISE, domain, p, &c->normal);
    return WEFT_OK;
}

static void reject(cleaner *c, int filter, int rule, const weft_docs_row *about, build_passage *p) {
    int64_t *counts = count_rule(c->counters, filter, rule);
    counts[0]++;
    counts[1] += (int64_t)p->bytes;
    if (!c->b->r->filters[filter].tag) build_drop(c->counters, STEP_FILTERS + filter, about->domain, p);
}

/* One filter; *p is empty when the document goes. A filter that changes the text leaves it in `normal`. */
static weft_status judge(cleaner *c, int filter, weft_docs_row *about, weft_filter_input *in,
                         build_passage *p) {
    const weft_recipe_filter *f = &c->b->r->filters[filter];
    double values[WEFT_FILTER_MAX_RULES];
    bool changed = false;
    WEFT_TRY(f->kind->signals(c->b->filter_state[filter], in, values, &c->changed, &changed));
    for (int i = 0; i < f->kind->rule_count; i++)
        count_signal(c->counters, filter, i)[bin_of(f->kind->rules[i].scale, values[i])]++;
    int rule = weft_filter_verdict(f->kind, f->bounds, values);
    if (rule >= 0) {
        WEFT_TRY(keep_example(c, f, rule, values[rule], about, in));
        reject(c, filter, rule, about, p);
        if (f->tag) about->tags |= 1u << filter;
        return WEFT_OK;
    }
    if (!changed || f->tag) return WEFT_OK;
    if (c->changed.bytes == 0) {
        build_drop(c->counters, STEP_FILTERS + filter, about->domain, p);
        return WEFT_OK;
    }
    build_change(c->counters, STEP_FILTERS + filter, about->domain, p, &c->changed);
    weft_text t = c->normal;
    c->normal = c->changed;
    c->changed = t;
    in->text = p->text;
    in->bytes = p->bytes;
    return weft_words_split(c->words, in->text, in->bytes, &in->words, &in->word_count);
}

static weft_status filter(cleaner *c, weft_docs_row *about, const char *url, build_passage *p) {
    build *b = c->b;
    weft_filter_input in = {
        .text = p->text, .bytes = p->bytes, .url = url, .file = b->files[about->file].path};
    bool split = false;
    for (int i = 0; p->bytes > 0 && i < b->r->filter_count; i++) {
        if (!b->applies[i * WEFT_LOADER_MAX_DOMAINS + (int)about->domain]) continue;
        if (!split) WEFT_TRY(weft_words_split(c->words, in.text, in.bytes, &in.words, &in.word_count));
        split = true;
        WEFT_TRY(judge(c, i, about, &in, p));
    }
    return WEFT_OK;
}

static weft_status clean_document(cleaner *c, const weft_docs_row *row, const char *text, const char *url) {
    build *b = c->b;
    weft_docs_row about = *row;
    build_passage p = {text, row->text_bytes};
    about.domain = b->files[row->file].domains[row->domain];
    if (b->r->has_normalise) WEFT_TRY(normalise(c, about.domain, &p));
    WEFT_TRY(filter(c, &about, url, &p));
    if (p.bytes == 0) return WEFT_OK;
    about.hash = weft_hash64(p.text, p.bytes, WEFT_SPLIT_SEED);
    about.text_bytes = (uint32_t)p.bytes;
    about.quality = -(float)__builtin_popcount(about.tags);
    int64_t *kept = count_kept(c->counters, about.domain, build_split_of(b, about.hash));
    kept[0]++;
    kept[1] += (int64_t)p.bytes;
    if (c->exact) {
        unsigned char record[WEFT_EXACT_BYTES];
        weft_hash128 key;
        WEFT_TRY(weft_exact_key(p.text, p.bytes, &c->key, &key, NULL));
        weft_exact_pack(key, weft_keep_order((weft_keep)b->r->exact_keep, &about),
                        weft_doc_id_of((uint64_t)c->unit, about.index), record);
        WEFT_TRY(
            weft_spill_add(c->exact, weft_spill_partition(key.hi, b->job.partitions), record, sizeof record));
    }
    return weft_docs_add(c->out, &about, p.text, p.bytes, NULL, 0);
}

/* ---- a unit ---- */
static weft_status clean_unit(cleaner *c) {
    build *b = c->b;
    char path[WEFT_PATH_SIZE], url[4096];
    weft_docs *in = NULL;
    weft_status st;
    WEFT_TRY(build_text_path(b, (uint64_t)c->unit, path));
    WEFT_TRY(weft_docs_open(&in, path));
    for (int64_t i = 0; i < weft_docs_count(in); i++) {
        const weft_docs_row *row = weft_docs_about(in, i);
        const char *text;
        const void *extra;
        WEFT_GOTO(st, done, weft_docs_read(in, i, &text, &extra));
        snprintf(url, sizeof url, "%.*s", (int)(row->extra_bytes < 4095 ? row->extra_bytes : 4095),
                 row->extra_bytes ? (const char *)extra : "");
        WEFT_GOTO(st, done, clean_document(c, row, text, url));
    }
    st = WEFT_OK;
done:
    weft_docs_close(in);
    return st;
}

static weft_status begin(cleaner *c) {
    build *b = c->b;
    char path[WEFT_PATH_SIZE];
    size_t buffer = (size_t)b->r->memory_mib << 20;
    WEFT_TRY(weft_work_path(&b->work, path, "clean", c->unit, "docs"));
    WEFT_TRY(weft_docs_create(&c->out, path));
    if (b->r->has_exact) {
        WEFT_TRY(weft_work_path(&b->work, path, "clean", c->unit, "exact"));
        WEFT_TRY(weft_spill_create(&c->exact, path, b->job.partitions, WEFT_EXACT_BYTES,
                                   buffer / 8 / (size_t)b->work.threads));
    }
    c->examples = json_object();
    if (!c->examples) WEFT_FAIL(WEFT_ENOMEM, "no memory for examples");
    return weft_words_new(&c->words);
}

static weft_status end(cleaner *c) {
    char path[WEFT_PATH_SIZE];
    weft_status st = WEFT_OK;
    if (json_object_size(c->examples) > 0) {
        char *text = json_dumps(c->examples, JSON_COMPACT | JSON_SORT_KEYS);
        st = text ? weft_work_path(&c->b->work, path, "examples", c->unit, "json")
                  : weft_fail(WEFT_ENOMEM, "no memory for examples");
        if (st == WEFT_OK) st = weft_work_put_text(path, text, strlen(text));
        free(text);
    }
    WEFT_TRY(st);
    if (c->exact) WEFT_TRY(weft_spill_finish(c->exact));
    c->exact = NULL;
    WEFT_TRY(weft_docs_finish(c->out));
    c->out = NULL;
    return WEFT_OK;
}

static weft_status clean_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    cleaner c = {.b = arg, .unit = piece, .counters = counters};
    weft_status st = begin(&c);
    if (st == WEFT_OK) st = clean_unit(&c);
    if (st == WEFT_OK) st = end(&c);
    weft_docs_abandon(c.out);
    weft_spill_abandon(c.exact);
    weft_words_free(c.words);
    weft_text_free(&c.normal);
    weft_text_free(&c.changed);
    weft_text_free(&c.key);
    json_decref(c.examples);
    return st;
}

/* ---- before and after ---- */
/* Is `name` in a list separated by commas? */
static bool listed(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *p = list; *p; p += strspn(p, ", ")) {
        size_t length = strcspn(p, ", ");
        if (length == n && strncmp(p, name, n) == 0) return true;
        p += length;
    }
    return false;
}

static weft_status check_names(const build *b, const weft_recipe_filter *f) {
    char name[WEFT_DOMAIN_NAME];
    for (const char *p = f->domains + strspn(f->domains, ", "); *p; p += strspn(p, ", ")) {
        size_t n = strcspn(p, ", ");
        bool known = false;
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        for (int d = 0; d < b->domain_count; d++) known = known || strcmp(b->domains[d], name) == 0;
        if (!known)
            WEFT_FAIL(WEFT_EINPUT, "filters.%s.domains: no document is of the domain '%s'", f->kind->name,
                      name);
        p += n;
    }
    return WEFT_OK;
}

static weft_status find_domains(build *b) {
    b->applies = calloc((size_t)WEFT_RECIPE_MAX_FILTERS * WEFT_LOADER_MAX_DOMAINS, sizeof *b->applies);
    if (!b->applies) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filters");
    for (int i = 0; i < b->r->filter_count; i++) {
        const weft_recipe_filter *f = &b->r->filters[i];
        WEFT_TRY(check_names(b, f));
        for (int d = 0; d < b->domain_count; d++)
            b->applies[i * WEFT_LOADER_MAX_DOMAINS + d] = !*f->domains || listed(f->domains, b->domains[d]);
    }
    return WEFT_OK;
}

weft_status build_clean(build *b) {
    weft_stage s = {.name = "clean",
                    .pieces = b->units,
                    .counters = COUNT_CLEAN_END,
                    .each_first = COUNT_KEPT,
                    .each_count = COUNT_KEPT_END - COUNT_KEPT,
                    .run = clean_piece};
    int64_t *total = calloc(COUNT_CLEAN_END, sizeof *total);
    b->clean_each = calloc((size_t)b->units * (COUNT_KEPT_END - COUNT_KEPT), sizeof *b->clean_each);
    weft_status st = total && b->clean_each ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the counts");
    if (st == WEFT_OK) st = find_domains(b);
    st = b->team->agree(st);
    if (st == WEFT_OK) st = weft_work_folder(&b->work, "clean");
    if (st == WEFT_OK) st = weft_work_folder(&b->work, "examples");
    if (st == WEFT_OK) st = build_stage(b, &s, b, total, b->clean_each);
    if (st == WEFT_OK) {
        for (int i = 0; i < COUNT_CLEAN_END; i++) b->counters[i] += total[i];
        memcpy(b->kept, total + COUNT_KEPT, sizeof b->kept);
        b->texts = "clean";
        st = build_discard(b, "read", "docs");
    }
    free(total);
    return st;
}
