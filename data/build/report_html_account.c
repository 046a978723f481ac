/* The report's page: the account step by step, for all documents and for each domain. Reports hold what each
 * step took and what is left at the end; what came in is their sum. */
#include "data/build/report_html_parts.h"

#include <string.h>

typedef struct flow {
    int64_t documents, bytes, dropped, dropped_bytes, changed, gained; /* documents and bytes: that came in */
} flow;

static bool of_domain(const json_t *one, const char *domain) {
    return !domain || page_is(one, "domain", domain);
}

/* What a step did, without what came in. */
static flow step_flow(const json_t *step, const char *domain) {
    flow f = {0};
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(step, "domains"), i, one) {
        if (!of_domain(one, domain)) continue;
        f.dropped += page_integer(one, "dropped");
        f.dropped_bytes += page_integer(one, "dropped_bytes");
        f.changed += page_integer(one, "changed");
        f.gained += page_integer(one, "gained_bytes");
    }
    return f;
}

page_totals page_account_totals(const json_t *report, const char *domain) {
    page_totals t = {0};
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(report, "domains"), i, one) {
        if (!of_domain(one, domain)) continue;
        t.kept += page_integer(one, "documents");
        t.kept_bytes += page_integer(one, "bytes");
        t.tokens += page_integer(one, "tokens");
    }
    t.read = t.kept;
    t.read_bytes = t.kept_bytes;
    json_array_foreach(json_object_get(report, "steps"), i, one) {
        flow f = step_flow(one, domain);
        t.read += f.dropped;
        t.read_bytes += f.dropped_bytes - f.gained;
    }
    return t;
}

/* ---- one table ---- */
static const char *explained(const char *step) {
    static const struct {
        const char *step, *what;
    } known[] = {{"normalise", "white space, Unicode"},
                 {"exact", "exact copies"},
                 {"lines", "repeated pieces"},
                 {"near", "near duplicates"},
                 {"substring", "repeated passages"},
                 {"decontaminate", "evaluation texts"},
                 {"scrub", "personal data"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (step && strcmp(step, known[i].step) == 0) return known[i].what;
    return "";
}

/* The number of the filter of that name, or -1. */
static int filter_of(const json_t *filters, const char *step) {
    for (size_t i = 0; step && i < json_array_size(filters); i++)
        if (page_is(json_array_get(filters, i), "filter", step)) return (int)i;
    return -1;
}

static void step_name(FILE *out, const json_t *report, const json_t *step) {
    const json_t *filters = json_object_get(report, "filters");
    const char *name = json_string_value(json_object_get(step, "step"));
    int number = filter_of(filters, name);
    if (number < 0) {
        fputs("<tr><th scope=\"row\">", out);
        page_member(out, step, "step");
        fprintf(out, "<small>%s</small></th>", explained(name));
        return;
    }
    bool tag = json_is_true(json_object_get(json_array_get(filters, (size_t)number), "tag"));
    fprintf(out, "<tr><th scope=\"row\"><a href=\"#filter-%d\">", number);
    page_member(out, step, "step");
    fprintf(out, "</a><small>%s</small></th>", tag ? "filter; tags only" : "filter");
}

static void step_row(FILE *out, const json_t *report, const json_t *step, const flow *f, int64_t read) {
    int64_t left = f->documents - f->dropped;
    step_name(out, report, step);
    fputs("<td>", out);
    weft_page_bar(out, read > 0 ? (double)left / (double)read : 0,
                  read > 0 ? (double)f->dropped / (double)read : 0);
    fputs("</td>", out);
    weft_page_cell(out, f->documents);
    weft_page_cell(out, f->dropped);
    fprintf(out, "<td class=\"n%s\">%s</td>", f->dropped == 0 ? " z" : "",
            weft_page_share(f->dropped, f->documents).text);
    weft_page_cell(out, f->changed);
    fprintf(out, "<td class=\"n edge\">%s</td>", weft_page_count(f->bytes).text);
    weft_page_cell(out, f->dropped_bytes);
    fprintf(out, "<td class=\"n%s\">%s</td>", f->gained == 0 ? " z" : "", weft_page_signed(f->gained).text);
    weft_page_cell(out, f->bytes - f->dropped_bytes + f->gained);
    fputs("</tr>\n", out);
}

static void sum_row(FILE *out, const page_totals *t, const flow *sum) {
    fprintf(out,
            "<tr class=\"sum\"><th scope=\"row\">all steps</th><td>%s</td><td class=\"n\">%s</td><td "
            "class=\"n\">%s</td><td class=\"n\">%s</td>",
            weft_page_share(t->kept, t->read).text, weft_page_count(t->read).text,
            weft_page_count(sum->dropped).text, weft_page_share(sum->dropped, t->read).text);
    fprintf(out,
            "<td></td><td class=\"n edge\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td "
            "class=\"n\">%s</td></tr>\n",
            weft_page_count(t->read_bytes).text, weft_page_count(sum->dropped_bytes).text,
            weft_page_signed(sum->gained).text, weft_page_count(t->kept_bytes).text);
}

static void account_table(FILE *out, const json_t *report, const char *domain) {
    page_totals t = page_account_totals(report, domain);
    flow at = {.documents = t.read, .bytes = t.read_bytes}, sum = {0};
    size_t i;
    const json_t *step;
    fputs("<div class=\"wide\"><table>\n"
          "<thead><tr class=\"groups\"><th></th><th></th><th colspan=\"4\">Documents</th><th class=\"edge\" "
          "colspan=\"4\">Bytes</th></tr>\n"
          "<tr><th>Step</th><th>left</th><th class=\"n\">in</th><th class=\"n\">dropped</th><th "
          "class=\"n\">share</th><th class=\"n\">changed</th><th class=\"n edge\">in</th><th "
          "class=\"n\">dropped</th><th class=\"n\">by changes</th><th class=\"n\">out</th></tr></thead>\n"
          "<tbody>\n",
          out);
    json_array_foreach(json_object_get(report, "steps"), i, step) {
        flow f = step_flow(step, domain);
        f.documents = at.documents;
        f.bytes = at.bytes;
        step_row(out, report, step, &f, t.read);
        at.documents -= f.dropped;
        at.bytes += f.gained - f.dropped_bytes;
        sum.dropped += f.dropped;
        sum.dropped_bytes += f.dropped_bytes;
        sum.gained += f.gained;
    }
    sum_row(out, &t, &sum);
    fputs("</tbody></table></div>\n", out);
}

/* ---- the section ---- */
static void domain_account(FILE *out, const json_t *report, const json_t *name) {
    const char *domain = json_string_value(name);
    page_totals t = page_account_totals(report, domain);
    fputs("<details><summary><b>", out);
    page_string(out, name);
    fprintf(out, "</b> <small>%s of %s documents left (%s), %s</small></summary><div>\n",
            weft_page_count(t.kept).text, weft_page_count(t.read).text, weft_page_share(t.kept, t.read).text,
            weft_page_bytes(t.kept_bytes).text);
    account_table(out, report, domain);
    fputs("</div></details>\n", out);
}

void page_account(FILE *out, const json_t *report) {
    const json_t *steps = json_object_get(report, "steps");
    const json_t *domains =
        json_object_get(json_array_get(steps, 0), "domains"); /* each step lists them all */
    size_t i;
    const json_t *one;
    if (json_array_size(steps) == 0) return;
    weft_page_section(out, "account", "Step by step");
    fputs("<p class=\"note\">Each step sees what the one before it left. A step takes whole documents, or "
          "changes their text; the bar shows what is left of the documents that were read, and what this "
          "step took.</p>\n",
          out);
    account_table(out, report, NULL);
    if (json_array_size(domains) > 1) fputs("<h3>For each domain</h3>\n", out);
    json_array_foreach(domains, i, one) {
        const json_t *name = json_object_get(one, "domain");
        if (json_array_size(domains) > 1 && json_is_string(name)) domain_account(out, report, name);
    }
    fputs("</section>\n", out);
}
