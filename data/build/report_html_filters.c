/* The report's page: why documents went. Each filter's rules with their bounds and the histograms of their
 * signals, and the beginnings of a few texts. */
#include "data/build/report_html_parts.h"

#include <math.h>
#include <string.h>

/* ---- rules ---- */
static int64_t judged(const json_t *rule) {
    int64_t sum = 0;
    size_t i;
    const json_t *bin;
    json_array_foreach(json_object_get(rule, "histogram"), i, bin) sum += (int64_t)json_integer_value(bin);
    return sum;
}

static void bound(FILE *out, const json_t *rule) {
    const json_t *bound = json_object_get(rule, "bound");
    double value = json_number_value(bound);
    fputs("<td class=\"n\" data-name=\"keeps\">", out);
    if (!json_is_number(bound))
        fputs("off", out);
    else if (page_is(rule, "kind", "flag"))
        fputs("0", out);
    else {
        fputs(page_is(rule, "kind", "min") ? "\xe2\x89\xa5 " : "\xe2\x89\xa4 ", out);
        if (fabs(value) < 1e15 && value == floor(value))
            fputs(weft_page_count((int64_t)value).text, out);
        else
            fprintf(out, "%.6g", value);
    }
    fputs("</td>", out);
}

static void counted(FILE *out, const char *name, int64_t n) {
    fprintf(out, "<td class=\"n%s\" data-name=\"%s\">%s</td>", n == 0 ? " z" : "", name,
            weft_page_count(n).text);
}

static void rule_row(FILE *out, const json_t *rule) {
    int64_t documents = page_integer(rule, "documents");
    fputs("<tr><th scope=\"row\"><code>", out);
    page_member(out, rule, "rule");
    fputs("</code><small>", out);
    page_member(out, rule, "meaning");
    fputs("</small><small><i>", out);
    page_member(out, rule, "source");
    fputs("</i></small></th>", out);
    bound(out, rule);
    counted(out, "documents", documents);
    counted(out, "bytes", page_integer(rule, "bytes"));
    fprintf(out, "<td class=\"n%s\" data-name=\"share\">%s</td><td class=\"signal\">",
            documents == 0 ? " z" : "", weft_page_share(documents, judged(rule)).text);
    page_histogram(out, rule);
    fputs("</td></tr>\n", out);
}

/* What the filter's step dropped beyond its rules: texts of which its changes left nothing. */
static void emptied_row(FILE *out, const json_t *report, const json_t *filter) {
    const char *name = json_string_value(json_object_get(filter, "filter"));
    const json_t *rules = json_object_get(filter, "rules"), *steps = json_object_get(report, "steps"), *step;
    size_t i;
    if (!name || json_is_true(json_object_get(filter, "tag"))) return;
    json_array_foreach(steps, i, step) {
        const json_t *domains = json_object_get(step, "domains");
        int64_t documents = page_sum(domains, "dropped") - page_sum(rules, "documents");
        if (!page_is(step, "step", name) || documents <= 0) continue;
        fputs("<tr><th scope=\"row\">nothing left<small>the filter took out all of the "
              "text</small></th><td></td>",
              out);
        counted(out, "documents", documents);
        counted(out, "bytes", page_sum(domains, "dropped_bytes") - page_sum(rules, "bytes"));
        fputs("<td></td><td></td></tr>\n", out);
    }
}

/* ---- examples ---- */
static void example(FILE *out, const json_t *one) {
    int64_t place = page_integer(one, "place");
    const json_t *value = json_object_get(one, "value");
    fputs("<p class=\"from\"><bdi>", out);
    page_member(out, one, "file");
    fputs("</bdi>", out);
    if (place > 0) fprintf(out, ", line or record %s", weft_page_count(place).text);
    if (json_is_number(value)) fprintf(out, "; signal %.4g", json_number_value(value));
    fputs("</p>\n<pre dir=\"auto\">", out);
    page_member(out, one, "text");
    fputs("</pre>\n", out);
}

/* Of the rule, in the report's "examples"; key is FILTER.RULE. */
static const json_t *examples_of(const json_t *report, const json_t *filter, const json_t *rule) {
    char key[256];
    const char *name = json_string_value(json_object_get(filter, "filter"));
    const char *of = json_string_value(json_object_get(rule, "rule"));
    if (!name || !of) return NULL;
    snprintf(key, sizeof key, "%s.%s", name, of);
    return json_object_get(json_object_get(report, "examples"), key);
}

static void examples(FILE *out, const json_t *report, const json_t *filter) {
    const json_t *rules = json_object_get(filter, "rules"), *rule, *one;
    size_t count = 0, i, j;
    json_array_foreach(rules, i, rule) count += json_array_size(examples_of(report, filter, rule));
    if (count == 0) return;
    fprintf(out,
            "<details><summary>%s of the texts that %s <small>(their beginnings)</small></summary><div>\n",
            weft_page_count((int64_t)count).text,
            json_is_true(json_object_get(filter, "tag")) ? "were tagged" : "were dropped");
    json_array_foreach(rules, i, rule) {
        const json_t *list = examples_of(report, filter, rule);
        if (json_array_size(list) == 0) continue;
        fputs("<h4><code>", out);
        page_member(out, rule, "rule");
        fputs("</code></h4>\n", out);
        json_array_foreach(list, j, one) example(out, one);
    }
    fputs("</div></details>\n", out);
}

/* ---- the section ---- */
static void heading(FILE *out, const json_t *filter, size_t number) {
    const json_t *rules = json_object_get(filter, "rules"), *domains = json_object_get(filter, "domains");
    bool tag = json_is_true(json_object_get(filter, "tag"));
    fprintf(out, "<h3 id=\"filter-%zu\"><code>", number);
    page_member(out, filter, "filter");
    fprintf(out, "</code></h3>\n<p class=\"note\">%s documents (%s) %s",
            weft_page_count(page_sum(rules, "documents")).text,
            weft_page_bytes(page_sum(rules, "bytes")).text,
            tag ? "tagged by its rules; none is dropped." : "dropped by its rules.");
    if (json_string_length(domains) > 0) {
        fputs(" Looks at documents of ", out);
        page_string(out, domains);
        fputs(" only.", out);
    }
    fputs("</p>\n", out);
}

void page_filters(FILE *out, const json_t *report) {
    const json_t *filters = json_object_get(report, "filters"), *filter, *rule;
    size_t i, j;
    if (json_array_size(filters) == 0) return;
    weft_page_section(out, "filters", "Why documents went");
    fputs("<p class=\"note\">A document counts for the first rule that it breaks; shares are of the "
          "documents that reached the filter. The histograms show the signal of all of these, at heights "
          "that grow with the square root of their number, so that tails are seen; what a rule's bound "
          "rejects is red.</p>\n",
          out);
    json_array_foreach(filters, i, filter) {
        heading(out, filter, i);
        fputs("<div class=\"wide\"><table class=\"rules\">\n"
              "<thead><tr><th>Rule</th><th class=\"n\">keeps</th><th class=\"n\">documents</th><th "
              "class=\"n\">bytes</th><th class=\"n\">share</th><th>signal</th></tr></thead>\n<tbody>\n",
              out);
        json_array_foreach(json_object_get(filter, "rules"), j, rule) rule_row(out, rule);
        emptied_row(out, report, filter);
        fputs("</tbody></table></div>\n", out);
        examples(out, report, filter);
    }
    fputs("</section>\n", out);
}
