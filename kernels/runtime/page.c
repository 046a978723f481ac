/* The small parts of pages: escaped texts, numbers with their units, cells, bars. */
#include "runtime/page.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* ---- texts ---- */
/* Bytes of the character at `at`, 0 where they are no UTF-8: cut off, too long for what it says, a surrogate
 * or beyond U+10FFFF. */
static size_t character(const unsigned char *at, size_t left, uint32_t *code) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char c = at[0];
    size_t n = c < 0x80 ? 1 : c < 0xc0 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf8 ? 4 : 0;
    if (n == 0 || n > left) return 0;
    *code = n == 1 ? c : c & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
        *code = *code << 6 | (at[i] & 0x3fu);
    }
    return *code < least[n] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff) ? 0 : n;
}

/* Neither HTML nor XML may hold them: C1 controls, U+FFFE and U+FFFF. */
static bool forbidden(uint32_t code) {
    return (code >= 0x80 && code <= 0x9f) || code == 0xfffe || code == 0xffff;
}

static void put_ascii(FILE *out, unsigned char c) {
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

void weft_page_text(FILE *out, const char *text, size_t bytes) {
    const unsigned char *at = (const unsigned char *)text, *end = at + bytes;
    uint32_t code = 0;
    for (size_t n; at < end; at += n) {
        n = character(at, (size_t)(end - at), &code);
        if (n == 1)
            put_ascii(out, *at);
        else if (n == 0 || forbidden(code))
            fputs("\xef\xbf\xbd", out);
        else
            fwrite(at, 1, n, out);
        if (n == 0) n = 1;
    }
}

void weft_page_string(FILE *out, const char *text) {
    if (text) weft_page_text(out, text, strlen(text));
}

/* ---- numbers ---- */
static weft_page_number grouped(const char *sign, uint64_t n) {
    weft_page_number r = {""};
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
weft_page_number weft_page_count(int64_t n) {
    return n < 0 ? grouped(MINUS, 0 - (uint64_t)n) : grouped("", (uint64_t)n);
}

weft_page_number weft_page_signed(int64_t n) {
    return n > 0 ? grouped("+", (uint64_t)n) : weft_page_count(n);
}

weft_page_number weft_page_bytes(int64_t n) {
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    weft_page_number r;
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

weft_page_number weft_page_share(int64_t part, int64_t whole) {
    weft_page_number r;
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

weft_page_number weft_page_seconds(double seconds) {
    weft_page_number r;
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
void weft_page_begin(FILE *out, const char *title, const char *style) {
    fputs("<!DOCTYPE html>\n"
          "<html lang=\"en\">\n"
          "<head>\n"
          "<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
          "<meta name=\"color-scheme\" content=\"light dark\"/>\n"
          "<title>",
          out);
    weft_page_string(out, title);
    fprintf(out, "</title>\n<style>\n%s%s</style>\n</head>\n<body>\n<header>\n<h1>", weft_page_style, style);
    weft_page_string(out, title);
    fputs("</h1>\n", out);
}

void weft_page_section(FILE *out, const char *id, const char *title) {
    fprintf(out, "<section id=\"%s\">\n<h2>%s</h2>\n", id, title);
}

void weft_page_cell(FILE *out, int64_t n) {
    fprintf(out, "<td class=\"n%s\">%s</td>", n == 0 ? " z" : "", weft_page_count(n).text);
}

void weft_page_tile(FILE *out, const char *name, const char *value, const char *note) {
    fprintf(out, "<div class=\"tile\"><span>%s</span><b>%s</b><small>%s</small></div>\n", name, value, note);
}

void weft_page_tile_count(FILE *out, const char *name, int64_t n, const char *note) {
    weft_page_tile(out, name, weft_page_count(n).text, note);
}

static double within(double x, double most) {
    return x > 0 ? (x < most ? x : most) : 0;
}

void weft_page_bar(FILE *out, double first, double second) {
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
