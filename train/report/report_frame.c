/* Axes, ticks, and numbers as they stand beside them. Drawings are as wide as a phone, so that their texts
 * are readable there; wider screens place several side by side. */
#include "train/report/report_internal.h"

#include <math.h>
#include <string.h>

#define MINUS "\xe2\x88\x92"
#define DASH "\xe2\x80\x93"

const report_axis report_axis_empty = {.low = INFINITY, .high = -INFINITY};

/* ---- numbers ---- */
static weft_page_number with_sign(const char *sign, const char *text) {
    weft_page_number r;
    snprintf(r.text, sizeof r.text, "%s%.40s", sign, text);
    return r;
}

/* Rounded to so many significant digits. */
static double rounded(double x, int digits) {
    char text[48];
    double r = 0;
    snprintf(text, sizeof text, "%.*e", digits - 1, x);
    sscanf(text, "%lf", &r);
    return r;
}

weft_page_number report_number(double x, int digits) {
    static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};
    char text[48];
    double a = rounded(fabs(x), digits);
    int unit = 0;
    if (!isfinite(x)) return with_sign("", DASH);
    if (a == 0 || a < 1e-3 || a >= 1e21) {
        snprintf(text, sizeof text, a == 0 ? "0" : "%.*e", digits - 1, a);
        return with_sign(x < 0 && a > 0 ? MINUS : "", text);
    }
    for (; unit < 6 && a >= (digits <= 3 ? 1000 : 10000); unit++) a /= 1000;
    if (a >= pow(10, digits))
        snprintf(text, sizeof text, "%.0f%s", a, units[unit]);
    else
        snprintf(text, sizeof text, "%.*g%s", digits, a, units[unit]);
    return with_sign(x < 0 ? MINUS : "", text);
}

weft_page_number report_fixed(double x, int decimals) {
    char text[48];
    if (!isfinite(x)) return with_sign("", DASH);
    if (fabs(x) >= 1e6) return report_number(x, 4);
    snprintf(text, sizeof text, "%.*f", decimals, fabs(x));
    return with_sign(x < 0 && strpbrk(text, "123456789") ? MINUS : "", text);
}

weft_page_number report_signed(double x, int decimals) {
    weft_page_number r = report_fixed(x, decimals);
    return isfinite(x) && x > 0 && strpbrk(r.text, "123456789") ? with_sign("+", r.text) : r;
}

/* 1024 -> 1K, 1048576 -> 1M, as lengths are said. */
weft_page_number report_length(double x) {
    static const char *const units[] = {"", "K", "M", "G"};
    weft_page_number r;
    int unit = 0;
    if (!(x > 0 && x < 1e15)) return report_number(x, 3);
    for (; unit < 3 && fmod(x, 1024) == 0; unit++) x /= 1024;
    snprintf(r.text, sizeof r.text, "%.6g%s", x, units[unit]);
    return r;
}

/* ---- an axis ---- */
void report_axis_hold(report_axis *a, double v) {
    if (!isfinite(v) || fabs(v) > 1e100 || (a->log && v < 1e-100)) return;
    if (v < a->low) a->low = v;
    if (v > a->high) a->high = v;
}

bool report_axis_finish(report_axis *a) {
    if (!(a->low <= a->high)) return false;
    if (a->log) {
        double room = a->high > a->low ? pow(a->high / a->low, 0.04) : 1.5;
        a->low /= room;
        a->high *= room;
        return true;
    }
    double room = a->high > a->low ? 0.04 * (a->high - a->low) : fmax(fabs(a->low) * 0.05, 1e-3);
    /* What begins at 0 stays there. */
    a->low = a->low >= 0 && a->low < room ? 0 : a->low - room;
    a->high += room;
    return true;
}

/* What no axis holds stands far outside. */
double report_place(const report_axis *a, double v) {
    double place = a->log ? log(v / a->low) / log(a->high / a->low) : (v - a->low) / (a->high - a->low);
    return fmin(fmax(place, -20), 20);
}

double report_x(const report_frame *f, double x) {
    return f->left + report_place(&f->x, x) * (f->right - f->left);
}

double report_y(const report_frame *f, double y) {
    return f->bottom - report_place(&f->y, y) * (f->bottom - f->top);
}

/* ---- ticks ---- */
enum { MOST_TICKS = 16 };
typedef struct ticks {
    double at[MOST_TICKS];
    int count;
} ticks;

static void add_tick(ticks *t, const report_axis *a, double v) {
    double place = report_place(a, v);
    if (t->count < MOST_TICKS && place > -1e-6 && place < 1 + 1e-6) t->at[t->count++] = v;
}

/* 1, 2, 5 times a power of ten, at most `want` of them. */
static void even_ticks(ticks *t, const report_axis *a, int want) {
    double rough = (a->high - a->low) / want, power = pow(10, floor(log10(rough)));
    double step = power * (rough <= power * 1.0001 ? 1
                           : rough <= 2 * power    ? 2
                           : rough <= 5 * power    ? 5
                                                   : 10);
    if (a->whole) step = fmax(step, 1);
    double first = ceil(a->low / step - 1e-9);
    for (int i = 0; i < 2 * MOST_TICKS && (first + i) * step <= a->high * (1 + 1e-12); i++)
        add_tick(t, a, (first + i) * step + 0.0); /* no negative zero */
}

static void log_ticks(ticks *t, const report_axis *a, int want) {
    double decades = log10(a->high / a->low);
    int each = decades > want ? (int)ceil(decades / want) : 1;
    for (int e = (int)floor(log10(a->low)); e <= ceil(log10(a->high)); e++) {
        double power = pow(10, e);
        if (e % each == 0) add_tick(t, a, power);
        if (decades < want / 2.5) add_tick(t, a, 2 * power), add_tick(t, a, 5 * power);
    }
    if (t->count < 2) {
        t->count = 0;
        even_ticks(t, a, want);
    }
}

static ticks ticks_of(const report_axis *a, int want) {
    ticks t = {.count = 0};
    int64_t each = a->tick_count > want * 2 ? (a->tick_count + want * 2 - 1) / (want * 2) : 1;
    for (int64_t i = 0; a->ticks && i < a->tick_count; i += each) add_tick(&t, a, a->ticks[i]);
    if (!a->ticks && a->log)
        log_ticks(&t, a, want);
    else if (!a->ticks)
        even_ticks(&t, a, want);
    return t;
}

static weft_page_number tick_text(const report_axis *a, double at) {
    if (a->binary) return report_length(at);
    /* As many digits as it has. */
    for (int digits = 2; digits < 7; digits++)
        if (fabs(rounded(at, digits) - at) <= fabs(at) * 1e-9) return report_number(at, digits);
    return report_number(at, 7);
}

static void x_ticks(FILE *out, const report_frame *f) {
    ticks t = ticks_of(&f->x, f->right - f->left < 240 ? 4 : 5);
    double free_from = -1e9;
    for (int i = 0; i < t.count; i++) {
        double x = report_x(f, t.at[i]);
        weft_page_number text = tick_text(&f->x, t.at[i]);
        double half = 3.4 * report_columns(text.text);
        fprintf(out, "<path class=\"axis\" d=\"M%.1f %.1fv4\"/>", x, f->bottom);
        if (x - half < free_from) continue;
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x, f->bottom + 15,
                text.text);
        free_from = x + half + 5;
    }
}

static void y_ticks(FILE *out, const report_frame *f) {
    ticks t = ticks_of(&f->y, f->bottom - f->top < 110 ? 3 : 5);
    for (int i = 0; i < t.count; i++) {
        double y = report_y(f, t.at[i]);
        fprintf(out,
                "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/><text x=\"%.1f\" y=\"%.1f\" "
                "text-anchor=\"end\">%s</text>\n",
                f->left, y, f->right, f->left - 5, y + 4, tick_text(&f->y, t.at[i]).text);
    }
}

/* ---- the frame ---- */
void report_frame_open(FILE *out, const report_frame *f) {
    fprintf(out, "<svg class=\"chart\" viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"", REPORT_WIDTH,
            f->height);
    weft_page_string(out, f->label);
    fputs("\">\n", out);
    if (f->y.label) y_ticks(out, f);
    x_ticks(out, f);
    fprintf(out, "<path class=\"rim\" d=\"M%.1f %.1fH%.1f\"/>\n", f->left, f->bottom, f->right);
    if (f->y.label) {
        fputs("<text class=\"name\" x=\"2\" y=\"11\">", out);
        weft_page_string(out, f->y.label);
        fputs("</text>\n", out);
    }
    fprintf(out, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
            (f->left + f->right) / 2, f->bottom + 30);
    weft_page_string(out, f->x.label);
    fputs("</text>\n", out);
}

void report_frame_close(FILE *out) {
    fputs("</svg>\n", out);
}
