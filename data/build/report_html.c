/* The page of a data directory's report: its frame and headline. The sections stand in report_html_account.c
 * (the account, files, what is left, time), report_html_filters.c and report_html_duplicates.c, their
 * drawings in report_html_charts.c. It is HTML that is also well-formed XML, so that tools can take it apart.
 */
#include "data/build/report_html.h"
#include "data/build/report_html_parts.h"

#include <stdlib.h>

static bool has(const json_t *report, const char *key) {
    const json_t *member = json_object_get(report, key);
    return json_array_size(member) > 0 || json_object_size(member) > 0;
}

static void links(FILE *out, const json_t *report, const json_t *times) {
    const struct {
        const char *id, *title;
        bool there;
    } sections[] = {
        {"account", "Step by step", has(report, "steps")},
        {"files", "What was read", has(report, "files")},
        {"filters", "Why documents went", has(report, "filters")},
        {"duplicates", "Duplicates", has(report, "exact") || has(report, "lines") || has(report, "near")},
        {"kept", "What is left", has(report, "domains")},
        {"times", "Time", json_array_size(times) > 0}};
    fputs("<nav>", out);
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        if (sections[i].there) fprintf(out, "<a href=\"#%s\">%s</a> ", sections[i].id, sections[i].title);
    fputs("</nav>\n", out);
}

static void headline(FILE *out, const json_t *report) {
    const json_t *files = json_object_get(report, "files");
    page_totals t = page_account_totals(report, NULL);
    int64_t read = t.read, read_bytes = t.read_bytes;
    char note[160], ratio[32];
    if (json_is_array(files)) read = page_sum(files, "documents"), read_bytes = page_sum(files, "bytes");
    fprintf(
        out,
        "<p class=\"lead\">Of <b>%s</b> documents (%s) that were read, <b>%s</b> (%s) are left: %s of the "
        "documents, %s of the bytes, <b>%s</b> tokens.</p>\n<div class=\"tiles\">\n",
        weft_page_count(read).text, weft_page_bytes(read_bytes).text, weft_page_count(t.kept).text,
        weft_page_bytes(t.kept_bytes).text, weft_page_share(t.kept, read).text,
        weft_page_share(t.kept_bytes, read_bytes).text, weft_page_count(t.tokens).text);
    snprintf(note, sizeof note, "%s of %s read", weft_page_share(t.kept, read).text,
             weft_page_count(read).text);
    weft_page_tile_count(out, "Documents kept", t.kept, note);
    snprintf(note, sizeof note, "%s of %s read", weft_page_share(t.kept_bytes, read_bytes).text,
             weft_page_bytes(read_bytes).text);
    weft_page_tile(out, "Text kept", weft_page_bytes(t.kept_bytes).text, note);
    snprintf(note, sizeof note, "%s a document",
             weft_page_count(t.kept > 0 ? (int64_t)((double)t.tokens / (double)t.kept + 0.5) : 0).text);
    weft_page_tile_count(out, "Tokens", t.tokens, note);
    snprintf(ratio, sizeof ratio, "%.2f", t.tokens > 0 ? (double)t.kept_bytes / (double)t.tokens : 0.0);
    weft_page_tile(out, "Bytes a token", t.tokens > 0 ? ratio : "\xe2\x80\x93", "of the text that was kept");
    fputs("</div>\n", out);
    if (read != t.read || read_bytes != t.read_bytes)
        fprintf(out,
                "<p class=\"warning\">The account does not close: the files held %s documents and %s bytes, "
                "the steps and what is left add up to %s and %s.</p>\n",
                weft_page_count(read).text, weft_page_count(read_bytes).text, weft_page_count(t.read).text,
                weft_page_count(t.read_bytes).text);
}

static void write_page(FILE *out, const json_t *report, const json_t *times) {
    weft_page_begin(out, "Data report", page_style);
    headline(out, report);
    links(out, report, times);
    fputs("</header>\n<main>\n", out);
    page_account(out, report);
    page_files(out, report);
    page_filters(out, report);
    page_duplicates(out, report);
    page_changes(out, report);
    page_final(out, report);
    page_times(out, times);
    fputs("</main>\n"
          "<footer>Made by <code>weft data build</code>. For programs, the same figures (without times) "
          "stand in <code>report.json</code> beside this page.</footer>\n</body>\n</html>\n",
          out);
}

weft_status weft_report_html(const json_t *report, const json_t *times, char **html, size_t *bytes) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) WEFT_FAIL(WEFT_ENOMEM, "no memory for the report's page");
    write_page(out, report, times);
    int failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the report's page");
    }
    *html = text;
    *bytes = size;
    return WEFT_OK;
}
