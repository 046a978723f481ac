/* The page: reads the runs, groups them, and writes each section that has something to say. */
#include "train/report/report.h"
#include "runtime/fs.h"
#include "train/report/report_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- runs and groups ---- */
static int find_group(const report *r, const char *name) {
    for (int g = 0; *name && g < r->group_count; g++)
        if (strcmp(r->groups[g].name, name) == 0) return g;
    return -1;
}

static weft_status add_to_group(report *r, int run) {
    const weft_report_run *of = r->runs[run].of;
    int g = find_group(r, of->group);
    if (g < 0) {
        g = r->group_count++;
        r->groups[g] = (report_group){.name = *of->group ? of->group : of->name};
    }
    report_group *group = &r->groups[g];
    int *runs = realloc(group->runs, (size_t)(group->count + 1) * sizeof *runs);
    if (!runs) WEFT_FAIL(WEFT_ENOMEM, "no memory for the report");
    group->runs = runs;
    group->runs[group->count++] = run;
    return WEFT_OK;
}

static weft_status read_runs(report *r, const weft_report_run *runs, int count) {
    r->runs = calloc((size_t)count, sizeof *r->runs);
    r->groups = calloc((size_t)count, sizeof *r->groups);
    if (!r->runs || !r->groups) WEFT_FAIL(WEFT_ENOMEM, "no memory for %d runs", count);
    for (int i = 0; i < count; i++) {
        r->run_count = i + 1; /* what a failure leaves is freed */
        WEFT_TRY(report_read(&r->runs[i], &runs[i], !r->results));
        WEFT_TRY(add_to_group(r, i));
    }
    const char *baseline = report_string(r->results, "baseline");
    r->baseline = *baseline ? find_group(r, baseline) : r->group_count > 1 ? 0 : -1;
    r->rows = r->results ? json_incref(json_object_get(r->results, "variants")) : report_rows(r);
    if (!r->rows && !r->results) WEFT_FAIL(WEFT_ENOMEM, "no memory for the report's table");
    return WEFT_OK;
}

static void free_all(report *r) {
    report_pool_free(r);
    for (int i = 0; i < r->run_count; i++) report_run_free(&r->runs[i]);
    for (int g = 0; g < r->group_count; g++) free(r->groups[g].runs);
    free(r->runs);
    free(r->groups);
    json_decref(r->rows);
}

/* ---- the page ---- */
static const struct {
    const char *id, *title;
    void (*write)(FILE *out, report *r);
} sections[] = {{"results", "Results", report_results},
                {"loss", "Loss", report_loss},
                {"bits", "Bits per byte", report_bits},
                {"tasks", "Tasks", report_tasks},
                {"needle", "Needle in a haystack", report_needle},
                {"induction", "Induction heads", report_induction},
                {"stability", "Stability", report_stability},
                {"experts", "Load of the experts", report_experts},
                {"measured", "Measured", report_measured},
                {"configuration", "Configuration", report_configuration}};
enum { SECTIONS = sizeof sections / sizeof *sections };

/* Sections are written first: the links say which there are. */
static void write_section(report *r, int i, char **text) {
    size_t size = 0;
    FILE *out = open_memstream(text, &size);
    if (out) sections[i].write(out, r);
    if (!out || fclose(out) != 0) r->no_memory = true;
    report_pool_free(r);
}

static void write_page(FILE *out, report *r, const char *title) {
    char *texts[SECTIONS] = {NULL};
    for (int i = 0; i < SECTIONS; i++) write_section(r, i, &texts[i]);
    weft_page_begin(out, title, report_style);
    report_header(out, r);
    fputs("<nav>", out);
    for (int i = 0; i < SECTIONS; i++)
        if (texts[i] && *texts[i]) fprintf(out, "<a href=\"#%s\">%s</a> ", sections[i].id, sections[i].title);
    fputs("</nav>\n</header>\n<main>\n", out);
    for (int i = 0; i < SECTIONS; i++) {
        if (texts[i] && *texts[i]) {
            weft_page_section(out, sections[i].id, sections[i].title);
            fprintf(out, "%s</section>\n", texts[i]);
        }
        free(texts[i]);
    }
    fputs("</main>\n<footer>Made by <code>weft report</code> of the runs' config.yaml, metrics.jsonl and "
          "eval.json.</footer>\n</body>\n</html>\n",
          out);
}

static weft_status write_file(const char *path, report *r, const char *title) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out) write_page(out, r, title);
    bool failed = !out || r->no_memory || ferror(out);
    if (out && fclose(out) != 0) failed = true;
    weft_status st = failed ? weft_fail(WEFT_ENOMEM, "%s: no memory for the page", path)
                            : weft_fs_replace_file(path, text, size);
    free(text);
    return st;
}

weft_status weft_report_write(const char *path, const char *title, const weft_report_run *runs, int count,
                              const json_t *results) {
    report r = {.results = results, .baseline = -1};
    if (count < 1) WEFT_FAIL(WEFT_EINPUT, "%s: a report needs a run", path);
    weft_status st = read_runs(&r, runs, count);
    if (st == WEFT_OK) st = write_file(path, &r, title);
    free_all(&r);
    return st;
}
