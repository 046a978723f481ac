/* The small parts of the report's page: escaped texts, numbers with their units, cells, bars. */
#include "data/build/report_html_parts.h"

#include <math.h>
#include <string.h>

/* ---- members ---- */
int64_t page_integer(const json_t *object, const char *key) {
    return (int64_t)json_integer_value(json_object_get(object, key));
}

double page_real(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

bool page_is(const json_t *object, const char *key, const char *value) {
    const char *s = json_string_value(json_object_get(object, key));
    return s && strcmp(s, value) == 0;
}

int64_t page_sum(const json_t *objects, const char *key) {
    int64_t sum = 0;
    size_t i;
    const json_t *one;
    json_array_foreach(objects, i, one) sum += page_integer(one, key);
    return sum;
}

/* ---- texts ---- */
/* Bytes of a character at `at` that neither HTML nor XML may hold: C1 controls, U+FFFE and U+FFFF. */
static size_t forbidden(const unsigned char *at, size_t left) {
    if (left >= 2 && at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f) return 2;
    if (left >= 3 && at[0] == 0xef && at[1] == 0xbf && at[2] >= 0xbe) return 3;
    return 0;
}

void page_text(FILE *out, const char *text, size_t bytes) {
    const unsigned char *at = (const unsigned char *)text, *end = at + bytes;
    for (size_t n; at < end; at += n) {
        unsigned char c = *at;
        n = forbidden(at, (size_t)(end - at));
        if (n > 0) {
            fputs("\xef\xbf\xbd", out);
            continue;
        }
        n = 1;
        if (c == '<')
            fputs("&lt;", out);
        else if (c == '>')
            fputs("&gt;", out);
        else if (c == '&')
            fputs("&amp;", out);
        else if (c == '"')
            fputs("&quot;", out);
        else if (c == '\'')
            fputs("&#39;", out);
        else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) /* U+2400 and on: their pictures */
            fprintf(out, "\xe2\x90%c", c == 0x7f ? 0xa1 : 0x80 + c);
        else
            putc(c, out);
    }
}

void page_string(FILE *out, const json_t *string) {
    if (json_is_string(string)) page_text(out, json_string_value(string), json_string_length(string));
}

void page_member(FILE *out, const json_t *object, const char *key) {
    page_string(out, json_object_get(object, key));
}

/* ---- numbers ---- */
static page_number grouped(const char *sign, uint64_t n) {
    page_number r = {""};
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    size_t at = (size_t)snprintf(r.text, sizeof r.text, "%s", sign);
    for (int i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0) r.text[at++] = ',';
        r.text[at++] = digits[i];
    }
    r.text[at] = '\0';
    return r;
}

#define MINUS "\xe2\x88\x92"
page_number page_count(int64_t n) {
    return n < 0 ? grouped(MINUS, 0 - (uint64_t)n) : grouped("", (uint64_t)n);
}

page_number page_signed(int64_t n) {
    return n > 0 ? grouped("+", (uint64_t)n) : page_count(n);
}

page_number page_bytes(int64_t n) {
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    page_number r;
    double value = (double)n / 1000;
    int unit = 0;
    if (n > -1000 && n < 1000) {
        snprintf(r.text, sizeof r.text, "%d %s", (int)n, n == 1 ? "byte" : "bytes");
        return r;
    }
    for (; fabs(value) >= 999.95 && unit < 5; unit++) value /= 1000;
    snprintf(r.text, sizeof r.text, "%.*f %s", fabs(value) < 9.995 ? 2 : 1, value, units[unit]);
    return r;
}

page_number page_share(int64_t part, int64_t whole) {
    page_number r;
    double percent = whole > 0 ? 100.0 * (double)part / (double)whole : 0;
    if (whole <= 0)
        snprintf(r.text, sizeof r.text, "\xe2\x80\x93");
    else if (part <= 0 || part >= whole)
        snprintf(r.text, sizeof r.text, "%.0f %%", percent);
    else if (percent < 0.01)
        snprintf(r.text, sizeof r.text, "&lt;0.01 %%");
    else if (percent > 99.99)
        snprintf(r.text, sizeof r.text, "&gt;99.99 %%");
    else
        snprintf(r.text, sizeof r.text, "%.*f %%", percent < 1 || percent > 99 ? 2 : 1, percent);
    return r;
}

page_number page_seconds(double seconds) {
    page_number r;
    if (!(seconds < 1e15)) seconds = 1e15; /* also what is no number: the page must be written */
    long long whole = (long long)(seconds + 0.5);
    if (seconds < 9.995)
        snprintf(r.text, sizeof r.text, "%.2f s", seconds);
    else if (seconds < 59.95)
        snprintf(r.text, sizeof r.text, "%.1f s", seconds);
    else if (whole < 3600)
        snprintf(r.text, sizeof r.text, "%lld min %02lld s", whole / 60, whole % 60);
    else
        snprintf(r.text, sizeof r.text, "%lld h %02lld min", (whole + 30) / 3600, (whole + 30) / 60 % 60);
    return r;
}

/* ---- blocks ---- */
void page_section(FILE *out, const char *id, const char *title) {
    fprintf(out, "<section id=\"%s\">\n<h2>%s</h2>\n", id, title);
}

void page_cell(FILE *out, int64_t n) {
    fprintf(out, "<td class=\"n%s\">%s</td>", n == 0 ? " z" : "", page_count(n).text);
}

void page_tile(FILE *out, const char *name, const char *value, const char *note) {
    fprintf(out, "<div class=\"tile\"><span>%s</span><b>%s</b><small>%s</small></div>\n", name, value, note);
}

void page_tile_count(FILE *out, const char *name, int64_t n, const char *note) {
    page_tile(out, name, page_count(n).text, note);
}

static double within(double x, double most) {
    return x > 0 ? (x < most ? x : most) : 0;
}

void page_bar(FILE *out, double first, double second) {
    double a = 100 * within(first, 1), b = within(100 * second, 100 - a);
    if (first > 0 && a < 0.5) a = 0.5; /* what is there is seen */
    fprintf(out,
            "<svg class=\"bar\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" "
            "aria-hidden=\"true\"><rect class=\"track\" width=\"100\" height=\"10\"/><rect class=\"kept\" "
            "width=\"%.2f\" height=\"10\"/>",
            a);
    if (second > 0)
        fprintf(out, "<rect class=\"gone\" x=\"%.2f\" width=\"%.2f\" height=\"10\"/>", a, b < 0.5 ? 0.5 : b);
    fputs("</svg>", out);
}
