#include "data/source/html_text.h"

#include <stdio.h>
#include <string.h>

static void append(weft_layout *l, const char *text, size_t bytes) {
    if (l->status == WEFT_OK && bytes > 0) l->status = weft_text_append(l->out, text, bytes);
}

/* ---- between texts ---- */

void weft_layout_break(weft_layout *l, int breaks) {
    if (!l->fresh && l->breaks < breaks) l->breaks = breaks;
}

void weft_layout_br(weft_layout *l) {
    if (l->breaks < 2) l->breaks++;
}

void weft_layout_list(weft_layout *l, bool ordered, long first) {
    weft_layout_break(l, l->lists == 0 ? 2 : 1);
    int i = l->lists++;
    if (i >= WEFT_HTML_LISTS) return;
    l->list[i].ordered = ordered;
    l->list[i].number = first;
}

void weft_layout_list_end(weft_layout *l) {
    if (l->lists > 0) l->lists--;
    l->marker = false;
    weft_layout_break(l, l->lists == 0 ? 2 : 1);
}

void weft_layout_item(weft_layout *l) {
    l->fresh = false;
    weft_layout_break(l, 1);
    l->marker = l->fresh = true;
}

void weft_layout_row(weft_layout *l) {
    l->fresh = false;
    weft_layout_break(l, 1);
    l->row = WEFT_HTML_EMPTY_ROW;
    l->tab = false;
}

/* Blocks at the ends of a cell begin no lines as long as the row is on one line. */
void weft_layout_cell(weft_layout *l) {
    l->fresh = false;
    if (l->row == l->lines) {
        l->breaks = 0;
        l->tab = true;
    } else {
        weft_layout_break(l, 1);
    }
    l->fresh = true;
}

void weft_layout_table_end(weft_layout *l) {
    l->fresh = false;
    l->row = WEFT_HTML_NO_ROW;
    l->tab = false;
    weft_layout_break(l, 2);
}

static void item_mark(weft_layout *l) {
    char mark[32];
    int depth = l->lists < WEFT_HTML_LISTS ? l->lists : WEFT_HTML_LISTS, n = 2;
    for (int i = 1; i < depth; i++) append(l, "  ", 2);
    memcpy(mark, "- ", 2);
    if (depth > 0 && l->list[depth - 1].ordered)
        n = snprintf(mark, sizeof mark, "%ld. ", l->list[depth - 1].number++);
    append(l, mark, (size_t)n);
}

/* Puts what comes before a text. */
static void begin_text(weft_layout *l) {
    if (l->out->bytes > 0) {
        if (l->breaks > 0) {
            append(l, "\n\n", (size_t)l->breaks);
            l->lines += l->breaks;
        } else if (l->tab) {
            append(l, "\t", 1);
        } else if (l->space) {
            append(l, " ", 1);
        }
    }
    if (l->marker) item_mark(l);
    if (l->row == WEFT_HTML_EMPTY_ROW) l->row = l->lines;
    l->breaks = 0;
    l->space = l->tab = l->marker = l->fresh = false;
}

/* ---- texts ---- */

/* U+0080 to U+009F are no characters of a page: they stand for those of windows-1252 (whatwg.org, "HTML",
 * numeric character references). 0: stays away. */
static const unsigned short windows_1252[32] = {
    0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017d, 0,      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178};

/* What a character of two bytes, C2 and `second`, is shown as; its length in *bytes. */
static const char *shown(unsigned char second, char out[4], size_t *bytes) {
    unsigned c = second < 0xa0 ? windows_1252[second - 0x80] : second;
    *bytes = 0;
    if (c == 0 || c == 0xad) return out; /* a soft hyphen: seen at the end of a line only */
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        *bytes = 2;
    } else {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        *bytes = 3;
    }
    return out;
}

static bool is_space(unsigned char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f';
}

/* A run of bytes that stay as they are. */
static size_t plain(const unsigned char *p, size_t bytes, bool pre) {
    size_t n = 0;
    while (n < bytes && p[n] != 0xc2 && (pre || !is_space(p[n]))) n++;
    return n;
}

static void put(weft_layout *l, const char *text, size_t bytes, bool pre) {
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = 0; i < bytes;) {
        size_t n = plain(p + i, bytes - i, pre);
        char made[4];
        if (n > 0) {
            begin_text(l);
            append(l, text + i, n);
            i += n;
        } else if (p[i] != 0xc2 || i + 1 == bytes) {
            l->space = true;
            i++;
        } else if (p[i + 1] == 0xa0) { /* a space that does not end a line */
            if (pre) begin_text(l);
            if (pre) append(l, " ", 1);
            l->space = !pre;
            i += 2;
        } else {
            const char *c = shown(p[i + 1], made, &n);
            if (n > 0) begin_text(l);
            append(l, c, n);
            i += 2;
        }
    }
}

void weft_layout_text(weft_layout *l, const char *text, size_t bytes) {
    put(l, text, bytes, false);
}

void weft_layout_pre(weft_layout *l, const char *text, size_t bytes) {
    put(l, text, bytes, true);
    for (size_t i = 0; i < bytes; i++) l->lines += text[i] == '\n';
}

void weft_layout_pre_end(weft_layout *l) {
    while (l->out->bytes > 0 && l->out->data[l->out->bytes - 1] == '\n') l->out->bytes--;
}
