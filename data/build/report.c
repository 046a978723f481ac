/* report.json and report.html of a data directory: what every step did to every domain, why documents went,
 * with examples, clusters by size, candidates by similarity, signals as histograms, and the time that stages
 * took. */
#include "data/build/build_internal.h"
#include "data/build/report_html.h"
#include "runtime/log.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHOWN_EXAMPLES = 3 };

/* ---- the account ---- */
static const char *step_name(const build *b, int step) {
    if (step >= STEP_FILTERS && step < STEP_EXACT) return b->r->filters[step - STEP_FILTERS].kind->name;
    switch (step) {
    case STEP_NORMALISE:
        return "normalise";
    case STEP_EXACT:
        return "exact";
    case STEP_LINES:
        return "lines";
    case STEP_NEAR:
        return "near";
    case STEP_SUBSTRING:
        return "substring";
    case STEP_DECONTAMINATE:
        return "decontaminate";
    default:
        return "scrub";
    }
}

static bool step_taken(const build *b, int step) {
    const weft_recipe *r = b->r;
    if (step >= STEP_FILTERS && step < STEP_EXACT) return step - STEP_FILTERS < r->filter_count;
    switch (step) {
    case STEP_NORMALISE:
        return r->has_normalise;
    case STEP_EXACT:
        return r->has_exact;
    case STEP_LINES:
        return r->has_lines;
    case STEP_NEAR:
        return r->has_near;
    case STEP_SUBSTRING:
        return r->has_substring;
    case STEP_DECONTAMINATE:
        return r->has_decontaminate;
    default:
        return r->has_scrub;
    }
}

weft_status build_check_flows(const build *b) {
    int64_t documents = 0, bytes = 0, dropped = 0, dropped_bytes = 0, gained = 0, kept = 0, kept_bytes = 0;
    for (int i = 0; i < b->file_count; i++) {
        documents += b->files[i].counts[READ_DOCUMENTS];
        bytes += b->files[i].counts[READ_BYTES];
    }
    for (int step = 0; step < STEPS; step++)
        for (int d = 0; d < b->domain_count; d++) {
            const int64_t *flow =
                b->counters + COUNT_FLOW + ((int64_t)step * WEFT_LOADER_MAX_DOMAINS + d) * FLOWS;
            dropped += flow[FLOW_DROPPED];
            dropped_bytes += flow[FLOW_DROPPED_BYTES];
            gained += flow[FLOW_GAINED_BYTES];
        }
    for (int d = 0; d < b->domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++) {
            kept += b->finished[(d * WEFT_SPLITS + s) * 2];
            kept_bytes += b->finished[(d * WEFT_SPLITS + s) * 2 + 1];
        }
    if (documents - dropped != kept || bytes - dropped_bytes + gained != kept_bytes)
        WEFT_FAIL(WEFT_EINTERNAL,
                  "the account does not close: %lld documents read, %lld dropped, %lld left; %lld bytes "
                  "read, %lld dropped, "
                  "%lld gained by changes, %lld left",
                  (long long)documents, (long long)dropped, (long long)kept, (long long)bytes,
                  (long long)dropped_bytes, (long long)gained, (long long)kept_bytes);
    return WEFT_OK;
}

/* ---- parts of the object ---- */
static json_t *numbers(const int64_t *x, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_integer((json_int_t)x[i]));
    return list;
}

static json_t *read_json(const build *b) {
    json_t *files = json_array();
    for (int i = 0; i < b->file_count; i++) {
        const int64_t *c = b->files[i].counts;
        json_array_append_new(
            files,
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "file", b->files[i].shown,
                      "documents", (json_int_t)c[READ_DOCUMENTS], "bytes", (json_int_t)c[READ_BYTES],
                      "malformed", (json_int_t)c[READ_MALFORMED], "empty", (json_int_t)c[READ_EMPTY],
                      "oversize", (json_int_t)c[READ_OVERSIZE], "invalid", (json_int_t)c[READ_INVALID],
                      "repaired", (json_int_t)c[READ_REPAIRED], "other", (json_int_t)c[READ_OTHER], "damaged",
                      (json_int_t)c[READ_DAMAGED], "skipped_bytes", (json_int_t)c[READ_SKIPPED_BYTES]));
    }
    return files;
}

static json_t *flow_json(const build *b, int step) {
    json_t *domains = json_array();
    for (int d = 0; d < b->domain_count; d++) {
        const int64_t *f = b->counters + COUNT_FLOW + ((int64_t)step * WEFT_LOADER_MAX_DOMAINS + d) * FLOWS;
        json_array_append_new(domains, json_pack("{s:s, s:I, s:I, s:I, s:I}", "domain", b->domains[d],
                                                 "dropped", (json_int_t)f[FLOW_DROPPED], "dropped_bytes",
                                                 (json_int_t)f[FLOW_DROPPED_BYTES], "changed",
                                                 (json_int_t)f[FLOW_CHANGED], "gained_bytes",
                                                 (json_int_t)f[FLOW_GAINED_BYTES]));
    }
    return json_pack("{s:s, s:o}", "step", step_name(b, step), "domains", domains);
}

static json_t *rules_json(const build *b, int filter) {
    const weft_recipe_filter *f = &b->r->filters[filter];
    json_t *rules = json_array();
    for (int i = 0; i < f->kind->rule_count; i++) {
        const weft_rule *rule = &f->kind->rules[i];
        int64_t at = (int64_t)filter * WEFT_FILTER_MAX_RULES + i;
        const int64_t *counts = b->counters + COUNT_RULES + at * 2;
        json_t *one = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o}", "rule", rule->name, "meaning",
                                rule->meaning, "source", rule->source, "kind",
                                rule->kind == WEFT_RULE_MIN   ? "min"
                                : rule->kind == WEFT_RULE_MAX ? "max"
                                                              : "flag",
                                "scale", rule->scale == WEFT_SCALE_SHARE ? "share" : "count", "documents",
                                (json_int_t)counts[0], "bytes", (json_int_t)counts[1], "histogram",
                                numbers(b->counters + COUNT_SIGNALS + at * HISTOGRAM_BINS, HISTOGRAM_BINS));
        if (one)
            json_object_set_new(one, "bound", isnan(f->bounds[i]) ? json_null() : json_real(f->bounds[i]));
        json_array_append_new(rules, one);
    }
    return json_pack("{s:s, s:b, s:s, s:o}", "filter", f->kind->name, "tag", f->tag, "domains", f->domains,
                     "rules", rules);
}

static json_t *final_json(const build *b) {
    json_t *domains = json_array();
    for (int d = 0; d < b->manifest.domain_count; d++) {
        const weft_manifest_domain *m = &b->manifest.domains[d];
        for (int s = 0; s < WEFT_SPLITS; s++)
            json_array_append_new(
                domains, json_pack("{s:s, s:s, s:I, s:I, s:I, s:i}", "domain", m->name, "split",
                                   weft_split_names[s], "documents", (json_int_t)m->split[s].documents,
                                   "bytes", (json_int_t)m->split[s].bytes, "tokens",
                                   (json_int_t)m->split[s].tokens, "shards", m->split[s].count));
    }
    return domains;
}

static json_t *near_json(const build *b) {
    json_t *curve = json_array();
    for (int i = 1; i <= 19; i++)
        json_array_append_new(curve, json_pack("[f, f]", 0.05 * i,
                                               weft_minhash_probability((int)b->r->near_bands,
                                                                        (int)b->r->near_rows, 0.05 * i)));
    return json_pack("{s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:o, s:i, s:o}",
                     "bands", (json_int_t)b->r->near_bands, "rows", (json_int_t)b->r->near_rows, "threshold",
                     b->r->near_threshold, "groups", (json_int_t)b->candidates.groups, "largest_group",
                     (json_int_t)b->candidates.largest, "pairs_with_repeats", (json_int_t)b->candidates.pairs,
                     "pairs", (json_int_t)b->verify.pairs, "verified", (json_int_t)b->verify.verified,
                     "similarity", numbers(b->verify.similarity, WEFT_SIMILARITY_BINS), "clusters",
                     (json_int_t)b->resolve.clusters, "documents", (json_int_t)b->resolve.documents,
                     "dropped", (json_int_t)b->resolve.dropped, "largest", (json_int_t)b->resolve.largest,
                     "sizes", numbers(b->resolve.sizes, 32), "rounds", b->component_rounds, "s_curve", curve);
}

/* The first examples of each rule in input order. */
static weft_status add_examples(const build *b, int64_t unit, json_t *all) {
    char path[WEFT_PATH_SIZE], *text = NULL;
    size_t bytes, i;
    const char *rule;
    json_t *list, *one;
    WEFT_TRY(weft_work_path(&b->work, path, "examples", unit, "json"));
    WEFT_TRY(weft_work_get_text(path, &text, &bytes));
    if (!text) return WEFT_OK;
    json_t *found = json_loadb(text, bytes, 0, NULL);
    free(text);
    if (!json_is_object(found)) {
        json_decref(found);
        WEFT_FAIL(WEFT_EINPUT, "%s: damaged; remove %s and build again", path, b->work.dir);
    }
    json_object_foreach(found, rule, list) {
        json_t *to = json_object_get(all, rule);
        if (!to) json_object_set_new(all, rule, to = json_array());
        json_array_foreach(list, i, one) {
            json_int_t file = json_integer_value(json_object_get(one, "file"));
            if (json_array_size(to) >= SHOWN_EXAMPLES || file < 0 || file >= b->file_count) continue;
            json_object_set_new(one, "file", json_string(b->files[file].shown));
            json_array_append(to, one);
        }
    }
    json_decref(found);
    return WEFT_OK;
}

static weft_status make_object(const build *b, json_t **out) {
    json_t *steps = json_array(), *filters = json_array(), *examples = json_object();
    json_t *all = json_pack("{s:o, s:o, s:o, s:o, s:o}", "files", read_json(b), "steps", steps, "filters",
                            filters, "examples", examples, "domains", final_json(b));
    if (!all) WEFT_FAIL(WEFT_ENOMEM, "no memory for the report");
    weft_status st = WEFT_OK;
    for (int i = 0; i < STEPS; i++)
        if (step_taken(b, i)) json_array_append_new(steps, flow_json(b, i));
    for (int i = 0; i < b->r->filter_count; i++) json_array_append_new(filters, rules_json(b, i));
    for (int64_t u = 0; st == WEFT_OK && u < b->units; u++) st = add_examples(b, u, examples);
    if (b->r->has_exact)
        json_object_set_new(all, "exact",
                            json_pack("{s:I, s:I, s:I}", "documents", (json_int_t)b->exact.documents,
                                      "clusters", (json_int_t)b->exact.clusters, "dropped",
                                      (json_int_t)b->exact.dropped));
    if (b->r->has_lines)
        json_object_set_new(all, "lines",
                            json_pack("{s:I, s:I}", "pieces", (json_int_t)b->lines.pieces, "dropped",
                                      (json_int_t)b->lines.dropped));
    if (b->r->has_near) json_object_set_new(all, "near", near_json(b));
    if (b->r->has_substring)
        json_object_set_new(all, "substring",
                            json_pack("{s:i, s:b, s:I}", "parts", b->substring_parts, "cut",
                                      b->r->substring_cut, "masked_tokens", (json_int_t)b->masked));
    if (b->r->has_decontaminate)
        json_object_set_new(all, "contaminated_places", json_integer(b->contaminated));
    if (b->r->has_scrub)
        json_object_set_new(all, "scrubbed",
                            json_pack("{s:I, s:I, s:I}", "email", (json_int_t)b->scrubbed[0], "ip",
                                      (json_int_t)b->scrubbed[1], "phone", (json_int_t)b->scrubbed[2]));
    if (st != WEFT_OK) {
        json_decref(all);
        return st;
    }
    *out = all;
    return WEFT_OK;
}

/* Times are in the page only: report.json is as reproducible as the shards. */
static json_t *times_json(const build *b) {
    json_t *stages = json_array();
    for (int i = 0; i < b->stage_count; i++)
        json_array_append_new(stages, json_pack("[s, f]", b->stage_names[i], b->seconds[i]));
    return stages;
}

weft_status build_report(const build *b, const char *dir) {
    json_t *all = NULL, *times = NULL;
    char path[WEFT_PATH_SIZE], *text = NULL, *html = NULL;
    size_t bytes;
    WEFT_TRY(make_object(b, &all));
    weft_status st = WEFT_OK;
    if (!(text = json_dumps(all, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9))))
        st = weft_fail(WEFT_ENOMEM, "no memory for the report");
    if (st == WEFT_OK) st = weft_fs_path(path, "%s/report.json", dir);
    if (st == WEFT_OK) st = weft_fs_replace_file(path, text, strlen(text));
    if (st == WEFT_OK && !(times = times_json(b))) st = weft_fail(WEFT_ENOMEM, "no memory for the report");
    if (st == WEFT_OK) st = weft_report_html(all, times, &html, &bytes);
    if (st == WEFT_OK) st = weft_fs_path(path, "%s/report.html", dir);
    if (st == WEFT_OK) st = weft_fs_replace_file(path, html, bytes);
    json_decref(times);
    json_decref(all);
    free(text);
    free(html);
    return st;
}
