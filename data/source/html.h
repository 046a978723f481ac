/* The text of a web page, by libxml2's HTML parser: what a reader sees, block elements on lines of their own,
 * paragraphs and headings separated by an empty line; list items begin with "- " or their number, two spaces
 * in for each list around theirs; table cells are separated by a tab, or by lines when they have several;
 * <pre> as it stands; entities resolved (the 253 of HTML 4, and numbers). Left out: scripts, styles, the
 * title, navigation, the page's header and footer (those of an <article> or <main> stay), hidden elements,
 * frames and players, comments, and of forms the controls and their labels (the rest of a form stays: it may
 * be around the whole page). */
#ifndef WEFT_HTML_H
#define WEFT_HTML_H

#include "data/text/normalise.h"
#include "runtime/status.h"

/* `charset`: of the HTTP header, or NULL; otherwise the page's own <meta>, otherwise UTF-8 if it is,
 * otherwise windows-1252. A byte-order mark goes before all of them. `out` is replaced, valid UTF-8 without
 * NUL, may be empty. Broken HTML is no error. Thread-safe. At most 1 GiB of HTML. */
weft_status weft_html_text(const char *html, size_t bytes, const char *charset, weft_text *out);

#endif
