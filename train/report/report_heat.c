/* Tables of numbers as coloured cells. The colours (viridis, Smith and van der Walt 2015) grow evenly in
 * lightness, for all eyes and on paper; the same in light and dark, each number in what reads on it. */
#include "train/report/report_internal.h"

#include <math.h>

enum { LEFT = 46, TOP = 20, COLOURS = 10, SCALE_PARTS = 24, SCALE_WIDTH = 120, MOST_ROW_NAMES = 20 };

static const unsigned char colours[COLOURS][3] = {
    {0x44, 0x01, 0x54}, {0x48, 0x28, 0x78}, {0x3e, 0x4a, 0x89}, {0x31, 0x68, 0x8e}, {0x26, 0x82, 0x8e},
    {0x1f, 0x9e, 0x89}, {0x35, 0xb7, 0x79}, {0x6e, 0xce, 0x58}, {0xb5, 0xde, 0x2b}, {0xfd, 0xe7, 0x25}};

static void put_colour(FILE *out, double t) {
    double at = fmin(fmax(t, 0), 1) * (COLOURS - 1);
    int i = at >= COLOURS - 1 ? COLOURS - 2 : (int)at;
    fputc('#', out);
    for (int c = 0; c < 3; c++)
        fprintf(out, "%02x", (int)(colours[i][c] + (at - i) * (colours[i + 1][c] - colours[i][c]) + 0.5));
}

/* Black on the upper half of the scale, white on the lower. */
static const char *ink(double t) {
    return t > 0.47 ? "#000" : "#fff";
}

static double cell_width(const report_heat *h) {
    return fmin(48, (REPORT_WIDTH - LEFT - 2.0) / (double)h->columns);
}

static double cell_height(const report_heat *h) {
    return h->rows > MOST_ROW_NAMES ? 12 : 22;
}

static void cell(FILE *out, const report_heat *h, int64_t row, int64_t column) {
    int64_t at = row * h->columns + column;
    double w = cell_width(h), t = h->values[at] / h->most, v = h->values[at] * h->shown_scale;
    double x = LEFT + (double)column * w, y = TOP + (double)row * cell_height(h);
    if (!isfinite(h->values[at])) return;
    fprintf(out, "<g><title>%s %s, %s %s: %s%s", h->row_label, h->row_names[row].text, h->column_label,
            h->column_names[column].text, report_number(v, 3).text, h->unit);
    if (h->low && h->low[at] < h->high[at])
        fprintf(out, " (%s to %s over the seeds)", report_number(h->low[at] * h->shown_scale, 3).text,
                report_number(h->high[at] * h->shown_scale, 3).text);
    fprintf(out, "</title><rect class=\"cell\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"",
            x, y, w, cell_height(h));
    put_colour(out, t);
    fputs("\"/>", out);
    if (w >= 17 && cell_height(h) > 14)
        fprintf(out,
                "<text class=\"in\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" style=\"fill:%s\">%s</text>",
                x + w / 2, y + 15, ink(t), report_fixed(v, w < 24 ? 0 : h->decimals).text);
    fputs("</g>\n", out);
}

static void names(FILE *out, const report_heat *h) {
    double w = cell_width(h), height = cell_height(h), bottom = TOP + (double)h->rows * height,
           free_from = -1e9;
    int64_t each = (h->rows + MOST_ROW_NAMES - 1) / MOST_ROW_NAMES;
    fprintf(out, "<text class=\"name\" x=\"2\" y=\"12\">%s</text>\n", h->row_label);
    for (int64_t i = 0; i < h->rows; i += each)
        fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT - 5,
                TOP + ((double)i + 0.5) * height + 4, h->row_names[i].text);
    for (int64_t i = 0; i < h->columns; i++) {
        double x = LEFT + ((double)i + 0.5) * w, half = 3.4 * report_columns(h->column_names[i].text);
        if (x - half < free_from) continue;
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x, bottom + 14,
                h->column_names[i].text);
        free_from = x + half + 4;
    }
    fprintf(out, "<text class=\"name\" x=\"%d\" y=\"%.1f\">%s</text>\n", LEFT, bottom + 30, h->column_label);
}

/* What the colours mean, at the right below. */
static void scale(FILE *out, const report_heat *h) {
    double y = TOP + (double)h->rows * cell_height(h) + 38, x = REPORT_WIDTH - SCALE_WIDTH - 48,
           part = (double)SCALE_WIDTH / SCALE_PARTS;
    for (int i = 0; i < SCALE_PARTS; i++) {
        fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"9\" fill=\"", x + i * part, y,
                part + 0.3);
        put_colour(out, (i + 0.5) / SCALE_PARTS);
        fputs("\"/>", out);
    }
    fprintf(
        out,
        "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">0</text><text x=\"%.1f\" y=\"%.1f\">%s%s</text>\n",
        x - 4, y + 9, x + SCALE_WIDTH + 4, y + 9, report_number(h->most * h->shown_scale, 3).text, h->unit);
    if (!isfinite(h->level) || h->level > h->most) return;
    double at = x + SCALE_WIDTH * h->level / h->most;
    fprintf(out,
            "<path class=\"rim\" d=\"M%.1f %.1fv15\"/><text x=\"%.1f\" y=\"%.1f\" "
            "text-anchor=\"middle\">even: %s%s</text>\n",
            at, y - 3, at, y + 23, report_number(h->level * h->shown_scale, 3).text, h->unit);
}

void report_heat_write(FILE *out, const report_heat *h) {
    if (h->rows < 1 || h->columns < 1 || !(h->most > 0)) return;
    fprintf(out, "<svg class=\"chart\" viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"", REPORT_WIDTH,
            TOP + (double)h->rows * cell_height(h) + (isfinite(h->level) ? 66 : 52));
    weft_page_string(out, h->label);
    fputs("\">\n", out);
    for (int64_t i = 0; i < h->rows; i++)
        for (int64_t j = 0; j < h->columns; j++) cell(out, h, i, j);
    names(out, h);
    scale(out, h);
    report_frame_close(out);
}
