/* The report's page: exact copies, repeated lines, near duplicates, repeated passages, and what was changed
 * at last. */
#include "data/build/report_html_parts.h"

#include <math.h>

/* ---- near duplicates ---- */
static void near_tiles(FILE *out, const json_t *near) {
    int64_t pairs = page_integer(near, "pairs"), verified = page_integer(near, "verified");
    char note[160];
    fputs("<div class=\"tiles\">\n", out);
    snprintf(note, sizeof note, "of %s in clusters", weft_page_count(page_integer(near, "documents")).text);
    weft_page_tile_count(out, "Documents dropped", page_integer(near, "dropped"), note);
    snprintf(note, sizeof note, "the largest of %s documents; connected in %s rounds",
             weft_page_count(page_integer(near, "largest")).text,
             weft_page_count(page_integer(near, "rounds")).text);
    weft_page_tile_count(out, "Clusters", page_integer(near, "clusters"), note);
    snprintf(note, sizeof note, "%s before repetitions were removed",
             weft_page_count(page_integer(near, "pairs_with_repeats")).text);
    weft_page_tile_count(out, "Candidate pairs", pairs, note);
    snprintf(note, sizeof note, "%s of the candidates are at the threshold or above",
             weft_page_share(verified, pairs).text);
    weft_page_tile_count(out, "Verified pairs", verified, note);
    snprintf(note, sizeof note, "the largest of %s documents",
             weft_page_count(page_integer(near, "largest_group")).text);
    weft_page_tile_count(out, "Groups of an equal band", page_integer(near, "groups"), note);
    fputs("</div>\n", out);
}

static void near_settings(FILE *out, const json_t *near) {
    double bands = page_real(near, "bands"), rows = page_real(near, "rows"),
           at = page_real(near, "threshold");
    double found = 1 - pow(1 - pow(at, rows), bands);
    fprintf(
        out,
        "<p class=\"note\">A document goes when the exact Jaccard similarity of its shingles and those of a "
        "kept document is %.3g or more. Pairs are found by %.0f MinHash bands of %.0f values: a pair at the "
        "threshold is found with a probability of %.1f %%. In the drawing the heights of the bars grow with "
        "the square root of their number; red pairs are above the threshold.</p>\n",
        at, bands, rows, 100 * found);
}

/* Bin i: clusters of 2^i to 2^(i + 1) - 1 documents. */
static void cluster_sizes(FILE *out, const json_t *sizes) {
    int64_t most = 0;
    size_t i, last = 0;
    const json_t *n;
    json_array_foreach(sizes, i, n) {
        if (json_integer_value(n) > 0) last = i;
        if (json_integer_value(n) > most) most = (int64_t)json_integer_value(n);
    }
    if (most == 0) return;
    fputs("<h3>Clusters by size</h3>\n"
          "<div class=\"wide\"><table>\n"
          "<thead><tr><th>Documents</th><th class=\"n\">clusters</th><th></th></tr></thead>\n<tbody>\n",
          out);
    for (i = 1; i <= last && i < 62; i++) {
        int64_t count = (int64_t)json_integer_value(json_array_get(sizes, i)), from = (int64_t)1 << i;
        fprintf(out, "<tr><th scope=\"row\">%s \xe2\x80\x93 %s</th>", weft_page_count(from).text,
                weft_page_count(2 * from - 1).text);
        weft_page_cell(out, count);
        fputs("<td>", out);
        weft_page_bar(out, (double)count / (double)most, 0);
        fputs("</td></tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
}

static void near_part(FILE *out, const json_t *near) {
    if (!json_is_object(near)) return;
    fputs("<h3 id=\"near\">Near duplicates</h3>\n", out);
    near_settings(out, near);
    near_tiles(out, near);
    page_similarity(out, near);
    cluster_sizes(out, json_object_get(near, "sizes"));
}

/* ---- the others ---- */
static void exact_part(FILE *out, const json_t *exact) {
    int64_t documents = page_integer(exact, "documents"), dropped = page_integer(exact, "dropped");
    char note[120];
    if (!json_is_object(exact)) return;
    snprintf(note, sizeof note, "%s of %s compared", weft_page_share(dropped, documents).text,
             weft_page_count(documents).text);
    fputs("<h3 id=\"exact\">Exact copies</h3>\n<div class=\"tiles\">\n", out);
    weft_page_tile_count(out, "Documents dropped", dropped, note);
    weft_page_tile_count(out, "Texts with copies", page_integer(exact, "clusters"), "one of each was kept");
    fputs("</div>\n", out);
}

static void lines_part(FILE *out, const json_t *lines) {
    int64_t pieces = page_integer(lines, "pieces"), dropped = page_integer(lines, "dropped");
    char note[120];
    if (!json_is_object(lines)) return;
    snprintf(note, sizeof note, "%s of %s compared", weft_page_share(dropped, pieces).text,
             weft_page_count(pieces).text);
    fputs("<h3 id=\"lines\">Repeated lines or paragraphs</h3>\n<div class=\"tiles\">\n", out);
    weft_page_tile_count(out, "Pieces taken out", dropped, note);
    fputs("</div>\n", out);
}

static void substring_part(FILE *out, const json_t *substring) {
    char note[120];
    if (!json_is_object(substring)) return;
    snprintf(note, sizeof note, "searched in %s parts, all against all",
             weft_page_count(page_integer(substring, "parts")).text);
    fputs("<h3 id=\"substring\">Repeated passages</h3>\n<div class=\"tiles\">\n", out);
    weft_page_tile_count(out, "Tokens masked", page_integer(substring, "masked_tokens"), note);
    fputs("</div>\n"
          "<p class=\"note\">Passages that are cut out, not masked, are bytes by changes in the "
          "account.</p>\n",
          out);
}

void page_duplicates(FILE *out, const json_t *report) {
    const json_t *exact = json_object_get(report, "exact"), *lines = json_object_get(report, "lines");
    const json_t *near = json_object_get(report, "near"), *substring = json_object_get(report, "substring");
    if (!exact && !lines && !near && !substring) return;
    weft_page_section(out, "duplicates", "Duplicates");
    exact_part(out, exact);
    lines_part(out, lines);
    near_part(out, near);
    substring_part(out, substring);
    fputs("</section>\n", out);
}

void page_changes(FILE *out, const json_t *report) {
    const json_t *places = json_object_get(report, "contaminated_places"),
                 *scrubbed = json_object_get(report, "scrubbed");
    if (!places && !scrubbed) return;
    weft_page_section(out, "changes", "Evaluation texts and personal data");
    fputs("<div class=\"tiles\">\n", out);
    if (places)
        weft_page_tile_count(out, "Contaminated places", (int64_t)json_integer_value(places),
                             "where words of an evaluation text begin");
    if (scrubbed) {
        weft_page_tile_count(out, "E-mail addresses", page_integer(scrubbed, "email"), "replaced");
        weft_page_tile_count(out, "IP addresses", page_integer(scrubbed, "ip"), "replaced");
        weft_page_tile_count(out, "Telephone numbers", page_integer(scrubbed, "phone"), "replaced");
    }
    fputs("</div>\n</section>\n", out);
}
