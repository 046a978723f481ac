/* Pieces of the pages that weft writes: each page is complete in itself, and HTML that is also well-formed
 * XML, so that tools can take it apart. Errors of writing show in the stream. */
#ifndef WEFT_PAGE_H
#define WEFT_PAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The look that all pages share: light or dark as the reader's system is, narrow screens, paper. */
extern const char weft_page_style[];

/* ---- texts: of anywhere, never markup ---- */
/* Text of UTF-8 as HTML and as XML have it. Control characters become pictures of themselves, newline and
 * tab stay, and what is no UTF-8 becomes U+FFFD. */
void weft_page_text(FILE *out, const char *text, size_t bytes);
void weft_page_string(FILE *out, const char *text); /* the same of a C string; nothing for NULL */

/* ---- numbers: printf("%s", weft_page_count(n).text) ---- */
typedef struct weft_page_number {
    char text[48]; /* markup */
} weft_page_number;
weft_page_number weft_page_count(int64_t n);                   /* 1,234,567 */
weft_page_number weft_page_signed(int64_t n);                  /* the same with its sign */
weft_page_number weft_page_bytes(int64_t n);                   /* 12.3 GB */
weft_page_number weft_page_share(int64_t part, int64_t whole); /* 12.3 %; 0 % and 100 % are exact */
weft_page_number weft_page_seconds(double seconds);            /* 1 h 02 min */

/* ---- blocks ---- */
/* A page up to its first heading, in the open <header>; `title` is a text, `style` the page's own rules
 * behind the shared ones. The page is closed by "</body>\n</html>\n". */
void weft_page_begin(FILE *out, const char *title, const char *style);
void weft_page_section(FILE *out, const char *id, const char *title); /* closed by "</section>" */
void weft_page_cell(FILE *out, int64_t n);                            /* of a table */
/* A figure with its name and a note, all markup; between <div class="tiles"> and </div>. */
void weft_page_tile(FILE *out, const char *name, const char *value, const char *note);
void weft_page_tile_count(FILE *out, const char *name, int64_t n, const char *note);
/* A bar: `first` of it in one colour, `second` behind that in the colour of what goes. Shares. */
void weft_page_bar(FILE *out, double first, double second);

#endif
