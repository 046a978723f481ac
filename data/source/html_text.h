/* How the text of a page is laid out in lines. Private to data/source/html.c. */
#ifndef WEFT_HTML_TEXT_H
#define WEFT_HTML_TEXT_H

#include "data/text/normalise.h"

enum {
    WEFT_HTML_LISTS = 16,     /* deeper ones are like the one at this depth */
    WEFT_HTML_NO_ROW = -1,    /* weft_layout.row: not in a table's row */
    WEFT_HTML_EMPTY_ROW = -2, /* in one that has no text yet */
};

typedef struct weft_layout {
    weft_text *out;
    weft_status status; /* of the first failure; what follows is ignored */
    int breaks;         /* line ends before the next text: 1 ends a line, 2 a paragraph */
    bool space;         /* a space before it */
    bool tab;           /* the end of a table's cell before it */
    bool marker;        /* the mark of a list's item before it */
    bool fresh;         /* no text of the table's cell or the list's item yet: blocks in it begin no line */
    int64_t lines;      /* ended so far */
    int64_t row;        /* the line of the table's row, or one of the two above */
    int lists;
    struct {
        bool ordered;
        long number; /* of the next item */
    } list[WEFT_HTML_LISTS];
} weft_layout;

void weft_layout_break(weft_layout *l, int breaks); /* at least as many */
void weft_layout_br(weft_layout *l);                /* one more */
void weft_layout_list(weft_layout *l, bool ordered, long first);
void weft_layout_list_end(weft_layout *l);
void weft_layout_item(weft_layout *l);
void weft_layout_row(weft_layout *l);
void weft_layout_cell(weft_layout *l);
void weft_layout_table_end(weft_layout *l);
/* Running text, valid UTF-8: white space is one space. */
void weft_layout_text(weft_layout *l, const char *text, size_t bytes);
void weft_layout_pre(weft_layout *l, const char *text, size_t bytes); /* as it stands */
void weft_layout_pre_end(weft_layout *l);

#endif
