/* The files of a recipe, and the first stage: each file's documents into units. */
#include "data/build/build_internal.h"
#include "data/source/source_json.h"
#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the list of files ---- */
static weft_status add_files(build *b, int source) {
    const weft_recipe_source *s = &b->r->sources[source];
    char **paths;
    int count;
    WEFT_TRY(weft_source_list(s->path, s->options.format, &paths, &count));
    build_file *more = realloc(b->files, (size_t)(b->file_count + count) * sizeof *more);
    weft_status st = more ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for a list of %d files", count);
    if (more) b->files = more;
    for (int i = 0; st == WEFT_OK && i < count; i++) {
        more[b->file_count] = (build_file){.path = strdup(paths[i]), .source = source};
        build_file *f = &more[b->file_count];
        f->shown =
            f->path && weft_utf8_valid(f->path, strlen(f->path)) ? f->path : "(a name that is not UTF-8)";
        if (!f->path)
            st = weft_fail(WEFT_ENOMEM, "no memory for a list of %d files", count);
        else
            b->file_count++;
    }
    weft_source_list_free(paths, count);
    return st;
}

/* A mistyped name should not be found after an hour; so each is opened here. */
weft_status build_find_files(build *b) {
    for (int i = 0; i < b->r->source_count; i++) WEFT_TRY(add_files(b, i));
    for (int i = 0; i < b->file_count; i++) {
        weft_source_tally none = {0};
        weft_source *s;
        WEFT_TRY(weft_source_open(&s, b->files[i].path, &b->r->sources[b->files[i].source].options, &none));
        weft_source_close(s);
    }
    return WEFT_OK;
}

/* ---- one file ---- */
typedef struct reader {
    build *b;
    int64_t file;
    char domains[WEFT_LOADER_MAX_DOMAINS][WEFT_DOMAIN_NAME];
    int domain_count;
    weft_docs_writer *unit;
    int64_t units, rows, documents, bytes;
} reader;

static weft_status domain_of(reader *r, const weft_document *doc, uint32_t *out) {
    const weft_recipe_source *s = &r->b->r->sources[r->b->files[r->file].source];
    const char *name = *s->domain      ? s->domain
                       : *doc->domain  ? doc->domain
                       : *s->otherwise ? s->otherwise
                                       : s->name;
    for (int i = 0; i < r->domain_count; i++)
        if (strcmp(r->domains[i], name) == 0) {
            *out = (uint32_t)i;
            return WEFT_OK;
        }
    if (r->domain_count == WEFT_LOADER_MAX_DOMAINS)
        WEFT_FAIL(WEFT_EINPUT, "%s:%lld: '%s' would be domain number %d; at most %d are possible", doc->file,
                  (long long)doc->line, name, r->domain_count + 1, WEFT_LOADER_MAX_DOMAINS);
    *out = (uint32_t)r->domain_count;
    snprintf(r->domains[r->domain_count++], WEFT_DOMAIN_NAME, "%s", name);
    return WEFT_OK;
}

static weft_status unit_path(const build *b, int64_t file, int64_t unit, char path[WEFT_PATH_SIZE]) {
    return weft_fs_path(path, "%s/read/%05lld-%05lld.docs", b->work.dir, (long long)file, (long long)unit);
}

static weft_status take_document(reader *r, const weft_document *doc) {
    char path[WEFT_PATH_SIZE];
    weft_docs_row about = {.file = (uint32_t)r->file, .place = (uint64_t)doc->line};
    WEFT_TRY(domain_of(r, doc, &about.domain));
    if (r->unit &&
        (weft_docs_text_bytes(r->unit) >= r->b->r->unit_kib << 10 || r->rows > (int64_t)WEFT_DOC_MAX_INDEX)) {
        WEFT_TRY(weft_docs_finish(r->unit));
        r->unit = NULL;
    }
    if (!r->unit) {
        WEFT_TRY(unit_path(r->b, r->file, r->units, path));
        WEFT_TRY(weft_docs_create(&r->unit, path));
        r->units++;
        r->rows = 0;
    }
    about.index = (uint32_t)r->rows++;
    WEFT_TRY(weft_docs_add(r->unit, &about, doc->text, doc->bytes, doc->url, strlen(doc->url)));
    r->documents++;
    r->bytes += (int64_t)doc->bytes;
    return WEFT_OK;
}

/* The names of a file's domains, in the order of its own numbers. */
static weft_status write_domains(const reader *r) {
    char path[WEFT_PATH_SIZE], text[WEFT_LOADER_MAX_DOMAINS * (WEFT_DOMAIN_NAME + 1) + 1];
    size_t used = 0;
    for (int i = 0; i < r->domain_count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s\n", r->domains[i]);
    WEFT_TRY(weft_work_path(&r->b->work, path, "read", r->file, "domains"));
    return weft_work_put_text(path, text, used);
}

static weft_status read_documents(reader *r, weft_source_tally *tally) {
    const build_file *f = &r->b->files[r->file];
    weft_status st;
    weft_source *s;
    weft_document doc;
    bool end;
    WEFT_TRY(weft_source_open(&s, f->path, &r->b->r->sources[f->source].options, tally));
    for (;;) {
        WEFT_GOTO(st, done, weft_source_next(s, &doc, &end));
        if (end) break;
        WEFT_GOTO(st, done, take_document(r, &doc));
    }
    if (r->documents == 0) weft_warn("%s: no document in it", f->path);
    if (r->unit) st = weft_docs_finish(r->unit);
    if (st == WEFT_OK) r->unit = NULL;
done:
    weft_source_close(s);
    return st;
}

static weft_status read_piece(void *arg, int64_t piece, int thread, int64_t *counts) {
    (void)thread;
    build *b = arg;
    reader *r = calloc(1, sizeof *r);
    if (!r) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", b->files[piece].path);
    r->b = b;
    r->file = piece;
    weft_source_tally t = {.max_malformed = b->r->max_errors};
    weft_status st = read_documents(r, &t);
    weft_docs_abandon(r->unit);
    if (st == WEFT_OK) st = write_domains(r);
    const int64_t found[READ_COUNTS] = {r->units, r->documents,    r->bytes,       t.malformed,
                                        t.empty,  t.oversize,      t.invalid,      t.repaired,
                                        t.other,  t.damaged_files, t.skipped_bytes};
    memcpy(counts, found, sizeof found);
    free(r);
    return st;
}

/* ---- numbers of domains and units ---- */
static weft_status find_domain(build *b, const char *name, size_t length, uint32_t *out) {
    for (int i = 0; i < b->domain_count; i++)
        if (strlen(b->domains[i]) == length && strncmp(b->domains[i], name, length) == 0) {
            *out = (uint32_t)i;
            return WEFT_OK;
        }
    if (b->domain_count == WEFT_LOADER_MAX_DOMAINS)
        WEFT_FAIL(WEFT_EINPUT, "the files name more than %d domains; '%.*s' is one too many",
                  WEFT_LOADER_MAX_DOMAINS, (int)length, name);
    memcpy(b->domains[b->domain_count], name, length);
    *out = (uint32_t)b->domain_count++;
    return WEFT_OK;
}

static weft_status read_domains(build *b, int64_t file) {
    char path[WEFT_PATH_SIZE], *text = NULL;
    size_t bytes;
    WEFT_TRY(weft_work_path(&b->work, path, "read", file, "domains"));
    WEFT_TRY(weft_work_get_text(path, &text, &bytes));
    if (!text) WEFT_FAIL(WEFT_EINPUT, "%s: it is not there; remove %s and build again", path, b->work.dir);
    weft_status st = WEFT_OK;
    int number = 0;
    for (const char *p = text; st == WEFT_OK && *p && number < WEFT_LOADER_MAX_DOMAINS; number++) {
        size_t n = strcspn(p, "\n");
        if (n >= WEFT_DOMAIN_NAME) n = WEFT_DOMAIN_NAME - 1;
        st = find_domain(b, p, n, &b->files[file].domains[number]);
        p += strcspn(p, "\n");
        p += *p == '\n';
    }
    free(text);
    return st;
}

static weft_status number_units(build *b) {
    int64_t units = 0;
    for (int i = 0; i < b->file_count; i++) {
        b->files[i].first_unit = units;
        b->files[i].units = b->files[i].counts[READ_UNITS];
        units += b->files[i].units;
    }
    if (units > (int64_t)WEFT_DOC_MAX_UNIT)
        WEFT_FAIL(WEFT_EINPUT, "%lld units are too many; a larger unit_kib makes fewer", (long long)units);
    b->units = units;
    b->unit_file = malloc(((size_t)units + 1) * sizeof *b->unit_file);
    if (!b->unit_file) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld units", (long long)units);
    for (int i = 0; i < b->file_count; i++)
        for (int64_t u = 0; u < b->files[i].units; u++) b->unit_file[b->files[i].first_unit + u] = i;
    return WEFT_OK;
}

weft_status build_text_path(void *arg, uint64_t unit, char path[WEFT_PATH_SIZE]) {
    const build *b = arg;
    if (strcmp(b->texts, "read") != 0) return weft_work_path(&b->work, path, b->texts, (int64_t)unit, "docs");
    int file = b->unit_file[unit];
    return unit_path(b, file, (int64_t)unit - b->files[file].first_unit, path);
}

weft_status build_read(build *b) {
    int64_t total[READ_COUNTS];
    int64_t *each = calloc((size_t)b->file_count * READ_COUNTS, sizeof *each);
    weft_stage s = {.name = "read",
                    .pieces = b->file_count,
                    .counters = READ_COUNTS,
                    .each_count = READ_COUNTS,
                    .run = read_piece};
    b->domains = calloc(WEFT_LOADER_MAX_DOMAINS, sizeof *b->domains);
    weft_status st =
        b->team->agree(each && b->domains ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the counts"));
    if (st == WEFT_OK) st = weft_work_folder(&b->work, "read");
    if (st == WEFT_OK) st = build_stage(b, &s, b, total, each);
    for (int i = 0; st == WEFT_OK && i < b->file_count; i++)
        memcpy(b->files[i].counts, each + (int64_t)i * READ_COUNTS, sizeof b->files[i].counts);
    free(each);
    WEFT_TRY(st);
    if (total[READ_MALFORMED] > b->r->max_errors)
        WEFT_FAIL(WEFT_EINPUT, "%lld malformed lines in all files; the limit is %lld (max_errors)",
                  (long long)total[READ_MALFORMED], (long long)b->r->max_errors);
    if (total[READ_DOCUMENTS] == 0)
        WEFT_FAIL(WEFT_EINPUT, "the corpus is empty: no document in the %d file(s) given", b->file_count);
    b->text_bytes = total[READ_BYTES];
    for (int i = 0; st == WEFT_OK && i < b->file_count; i++) st = read_domains(b, i);
    if (st == WEFT_OK) st = number_units(b);
    b->texts = "read";
    return b->team->agree(st);
}
