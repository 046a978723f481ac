/* The drawings of the report's page, as SVG. Heights grow with the square root of the number, so that what is
 * rare is seen beside what is frequent. */
#include "data/build/report_html_parts.h"

#include <math.h>

static double height_of(int64_t n, int64_t most, double full) {
    double h = most > 0 && n > 0 ? full * sqrt((double)n / (double)most) : 0;
    return n > 0 && h < 1.5 ? 1.5 : h;
}

static int64_t bin_at(const json_t *bins, size_t i) {
    int64_t n = (int64_t)json_integer_value(json_array_get(bins, i));
    return n > 0 ? n : 0;
}

/* 950, 16k, 1M: of powers of two, and of round numbers. */
static weft_page_number rounded(double n) {
    static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};
    weft_page_number r;
    int unit = 0;
    for (; n >= 999.5 && unit < 6; unit++) n /= 1000;
    snprintf(r.text, sizeof r.text, "%.0f%s", n, units[unit]);
    return r;
}

/* ---- a signal ---- */
/* Bins as build/pass_clean.c fills them: shares by 1/30, then 1 and more; counts by powers of two; the last:
 * no number. */
enum { NO_NUMBER = 31, WIDTH = 320, HEIGHT = 46 };

typedef struct signal {
    const json_t *bins;
    bool share;
    int shown; /* bins drawn */
    int64_t most;
    bool bounded, above; /* rejects above the bound, or below it */
    double at;           /* the bound, in bins */
} signal;

static double place(bool share, double value) {
    if (!(value > 0)) return 0;
    if (share) return value > 1 ? 30.5 : value * 30;
    return value < 1 ? value : fmin(log2(value) + 1, 30.5);
}

static signal signal_of(const json_t *rule) {
    const json_t *bound = json_object_get(rule, "bound");
    signal s = {.bins = json_object_get(rule, "histogram"), .share = page_is(rule, "scale", "share")};
    bool flag = page_is(rule, "kind", "flag");
    int last = 0;
    for (int i = 0; i < NO_NUMBER; i++) {
        int64_t n = bin_at(s.bins, (size_t)i);
        if (n > s.most) s.most = n;
        if (n > 0) last = i;
    }
    s.bounded = json_is_number(bound);
    s.above = flag || page_is(rule, "kind", "max");
    s.at = s.bounded && !flag ? place(s.share, json_number_value(bound)) : 0;
    if (s.above && !s.share && s.at == 0) s.at = 1; /* 0 stays: in its bin are counts below 1 */
    if (last < (int)s.at + 1) last = (int)s.at + 1;
    s.shown = s.share || last > NO_NUMBER - 1 ? NO_NUMBER : last < 7 ? 8 : last + 1;
    return s;
}

static double edge_of(const signal *s, int bin) {
    return s->share ? bin / 30.0 : bin == 0 ? 0 : ldexp(1, bin - 1);
}

static weft_page_number edge_text(const signal *s, int bin) {
    weft_page_number r;
    if (!s->share) return weft_page_count((int64_t)edge_of(s, bin));
    snprintf(r.text, sizeof r.text, "%.3g", edge_of(s, bin));
    return r;
}

static void signal_bins(FILE *out, const signal *s, double width) {
    for (int i = 0; i < s->shown; i++) {
        int64_t n = bin_at(s->bins, (size_t)i);
        double h = height_of(n, s->most, HEIGHT - 4);
        bool gone = s->bounded && (s->above ? i + 0.5 > s->at : i + 0.5 < s->at);
        if (n == 0) continue;
        fprintf(out, "<rect class=\"bin%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>",
                gone ? " gone" : "", i * width + 0.5, HEIGHT - h, width - 1, h);
        if (i == NO_NUMBER - 1)
            fprintf(out, "%s and more", edge_text(s, i).text);
        else
            fprintf(out, "%s to below %s", edge_text(s, i).text, edge_text(s, i + 1).text);
        fprintf(out, ": %s documents</title></rect>\n", weft_page_count(n).text);
    }
}

static void signal_axis(FILE *out, const signal *s, double width) {
    fprintf(out, "<path class=\"axis\" d=\"M0 %d.5H%d\"/>", HEIGHT, WIDTH);
    if (s->share) {
        for (int i = 0; i <= 30; i += 6)
            fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%.1f</text>", i * width, HEIGHT + 13,
                    i == 0 ? "start" : "middle", i / 30.0);
        return;
    }
    int each = (s->shown + 6) / 7;
    fprintf(out, "<text x=\"0\" y=\"%d\">0</text>", HEIGHT + 13);
    for (int i = each; i < s->shown; i += each)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", i * width, HEIGHT + 13,
                rounded(edge_of(s, i)).text);
}

void page_histogram(FILE *out, const json_t *rule) {
    signal s = signal_of(rule);
    int64_t none = bin_at(s.bins, NO_NUMBER);
    double width = (double)WIDTH / s.shown, at = s.at * width;
    if (s.most > 0) {
        fprintf(out,
                "<svg class=\"histogram\" viewBox=\"-4 0 %d %d\" role=\"img\" aria-label=\"histogram of the "
                "signal\">\n",
                WIDTH + 8, HEIGHT + 17);
        if (s.bounded)
            fprintf(out, "<rect class=\"wash\" x=\"%.1f\" y=\"0\" width=\"%.1f\" height=\"%d\"/>\n",
                    s.above ? at : 0, s.above ? WIDTH - at : at, HEIGHT);
        signal_bins(out, &s, width);
        if (s.bounded) fprintf(out, "<path class=\"mark\" d=\"M%.1f 0V%d\"/>\n", at, HEIGHT);
        signal_axis(out, &s, width);
        fputs("</svg>", out);
    }
    if (none > 0)
        fprintf(out, "<small class=\"none\">without a value: %s</small>", weft_page_count(none).text);
}

/* ---- candidates by similarity ---- */
enum { LEFT = 46, RIGHT = 444, TOP = 34, BOTTOM = 214 };

static double x_of(double similarity) {
    return LEFT + similarity * (RIGHT - LEFT);
}

/* Lines at 1, 2 and 5 times powers of ten, where there is room. */
static void pair_ticks(FILE *out, int64_t most) {
    double above = 0;
    for (int i = 56; i >= 0; i--) {
        double tick = pow(10, i / 3) * (i % 3 == 0 ? 1 : i % 3 == 1 ? 2 : 5);
        double y = BOTTOM - (BOTTOM - TOP) * sqrt(tick / (double)most);
        if (tick > (double)most || y - above < 26 || BOTTOM - y < 16) continue;
        fprintf(out,
                "<path class=\"axis\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%s</text>\n",
                LEFT, y, RIGHT, LEFT - 5, y + 4, rounded(tick).text);
        above = y;
    }
}

static void similarity_axes(FILE *out) {
    fprintf(out, "<path class=\"axis\" d=\"M%d %d.5H%d\"/>\n", LEFT, BOTTOM, RIGHT);
    for (int i = 0; i <= 10; i += 2)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.1f</text>\n", x_of(i / 10.0),
                BOTTOM + 15, i / 10.0);
    for (int i = 0; i <= 2; i++)
        fprintf(out, "<text class=\"curve\" x=\"%d\" y=\"%.1f\">%d %%</text>\n", RIGHT + 5,
                BOTTOM - i / 2.0 * (BOTTOM - TOP) + 4, i * 50);
    fprintf(out,
            "<text x=\"4\" y=\"12\">pairs</text><text class=\"curve\" x=\"%d\" y=\"12\" "
            "text-anchor=\"end\">chance to become a candidate</text><text x=\"%d\" y=\"%d\" "
            "text-anchor=\"middle\">Jaccard similarity of the pair</text>\n",
            RIGHT + 36, (LEFT + RIGHT) / 2, BOTTOM + 31);
}

static void s_curve(FILE *out, const json_t *points) {
    size_t i;
    const json_t *point;
    if (json_array_size(points) == 0) return;
    fprintf(out, "<path class=\"curve\" d=\"M%d %d", LEFT, BOTTOM);
    json_array_foreach(points, i, point) {
        double x = fmin(fmax(json_number_value(json_array_get(point, 0)), 0), 1);
        double y = fmin(fmax(json_number_value(json_array_get(point, 1)), 0), 1);
        fprintf(out, "L%.1f %.1f", x_of(x), BOTTOM - y * (BOTTOM - TOP));
    }
    fprintf(out, "L%d %d\"/>\n", RIGHT, TOP);
}

void page_similarity(FILE *out, const json_t *near) {
    const json_t *bins = json_object_get(near, "similarity");
    int count = (int)json_array_size(bins);
    double threshold = page_real(near, "threshold"), width = count > 0 ? (double)(RIGHT - LEFT) / count : 0;
    int64_t most = 0;
    for (int i = 0; i < count; i++)
        if (bin_at(bins, (size_t)i) > most) most = bin_at(bins, (size_t)i);
    if (most == 0) return;
    fprintf(out,
            "<svg class=\"chart\" viewBox=\"0 0 484 %d\" role=\"img\" aria-label=\"candidate pairs by "
            "similarity\">\n",
            BOTTOM + 38);
    pair_ticks(out, most);
    similarity_axes(out);
    for (int i = 0; i < count; i++) {
        int64_t n = bin_at(bins, (size_t)i);
        double h = height_of(n, most, BOTTOM - TOP);
        if (n == 0) continue;
        fprintf(out,
                "<rect class=\"bin%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>%.2f to "
                "%.2f: %s pairs</title></rect>\n",
                (i + 0.5) / count > threshold ? " gone" : "", LEFT + i * width + 1, BOTTOM - h, width - 2, h,
                (double)i / count, (i + 1.0) / count, weft_page_count(n).text);
    }
    s_curve(out, json_object_get(near, "s_curve"));
    fprintf(out,
            "<path class=\"mark\" d=\"M%.1f %dV%d\"/><text class=\"mark\" x=\"%.1f\" y=\"%d\" "
            "text-anchor=\"%s\">threshold %.3g</text>\n</svg>\n",
            x_of(threshold), TOP - 6, BOTTOM, x_of(threshold), TOP - 9, threshold > 0.8 ? "end" : "middle",
            threshold);
}
