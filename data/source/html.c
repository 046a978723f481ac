#include "data/source/html.h"
#include "data/source/html_text.h"
#include "data/source/source_charset.h"

#include <libxml/HTMLparser.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The parser is driven by events, without a tree: its own stack is on the heap and nothing here recurses, so
 * that no nesting is too deep. */

/* The parser looks through all open elements for an end tag without its start, and through all attributes of
 * a tag for each further one. Both are quadratic, and the web has such pages. */
enum {
    MOST_DEPTH = 512,       /* of open elements: in one deeper, the next ends it (as in Chromium) */
    MOST_ATTRIBUTES = 1000, /* of a tag, which then ends */
};

typedef struct page {
    xmlParserCtxt *parser;
    weft_layout layout;
    int64_t depth;  /* of open elements */
    int64_t hidden; /* the depth at which what is left out began; 0: nothing is left out */
    int64_t pre;    /* open <pre> */
    bool pre_begun; /* no text of it yet */
    int64_t parts;  /* open <article> and <main> */
} page;

/* ---- elements ---- */

typedef enum kind {
    INLINE,
    LINE,
    PARAGRAPH,
    HIDDEN,
    BREAK,
    PRE,
    UNORDERED,
    ORDERED,
    ITEM,
    TABLE,
    ROW,
    CELL,
    PART,
    EDGE, /* the page's header or footer, or a part's */
    NAVIGATION,
    ROOT,
    DIALOG
} kind;

static const struct element {
    const char *name;
    kind kind;
} elements[] = {
    /* In the order of their names. */
    {"address", LINE},    {"applet", HIDDEN},    {"article", PART},
    {"aside", LINE},      {"audio", HIDDEN},     {"blockquote", PARAGRAPH},
    {"body", ROOT},       {"br", BREAK},         {"button", HIDDEN},
    {"canvas", HIDDEN},   {"caption", LINE},     {"center", LINE},
    {"datalist", HIDDEN}, {"dd", LINE},          {"details", LINE},
    {"dialog", DIALOG},   {"dir", UNORDERED},    {"div", LINE},
    {"dl", PARAGRAPH},    {"dt", LINE},          {"fieldset", LINE},
    {"figcaption", LINE}, {"figure", PARAGRAPH}, {"footer", EDGE},
    {"form", LINE},       {"h1", PARAGRAPH},     {"h2", PARAGRAPH},
    {"h3", PARAGRAPH},    {"h4", PARAGRAPH},     {"h5", PARAGRAPH},
    {"h6", PARAGRAPH},    {"header", EDGE},      {"hgroup", LINE},
    {"hr", PARAGRAPH},    {"html", ROOT},        {"iframe", HIDDEN},
    {"label", HIDDEN},    {"legend", HIDDEN},    {"li", ITEM},
    {"listing", PRE},     {"main", PART},        {"menu", UNORDERED},
    {"nav", NAVIGATION},  {"noframes", HIDDEN},  {"noscript", HIDDEN},
    {"object", HIDDEN},   {"ol", ORDERED},       {"optgroup", HIDDEN},
    {"option", HIDDEN},   {"p", PARAGRAPH},      {"pre", PRE},
    {"rp", HIDDEN},       {"script", HIDDEN},    {"section", LINE},
    {"select", HIDDEN},   {"style", HIDDEN},     {"summary", LINE},
    {"svg", HIDDEN},      {"table", TABLE},      {"tbody", LINE},
    {"td", CELL},         {"template", HIDDEN},  {"textarea", HIDDEN},
    {"tfoot", LINE},      {"th", CELL},          {"thead", LINE},
    {"title", HIDDEN},    {"tr", ROW},           {"ul", UNORDERED},
    {"video", HIDDEN},    {"xmp", PRE}};

static int by_name(const void *name, const void *element) {
    return strcmp(name, ((const struct element *)element)->name);
}

static kind kind_of(const xmlChar *name) {
    const struct element *e =
        bsearch(name, elements, sizeof elements / sizeof *elements, sizeof *elements, by_name);
    return e ? e->kind : INLINE;
}

/* ---- what is left out ---- */

/* NULL: it is not there; "": it is, without a value. */
static const char *attribute(const xmlChar **attributes, const char *name) {
    for (; attributes && attributes[0]; attributes += 2)
        if (strcmp((const char *)attributes[0], name) == 0)
            return attributes[1] ? (const char *)attributes[1] : "";
    return NULL;
}

static bool is_one_of(const char *value, const char *const *words) {
    for (; value && *words; words++)
        if (xmlStrcasecmp((const xmlChar *)value, (const xmlChar *)*words) == 0) return true;
    return false;
}

static bool style_hides(const char *style) {
    char plain[512];
    size_t n = 0;
    for (; style && *style && n < sizeof plain - 1; style++) {
        if (*style == ' ' || *style == '\t' || *style == '\n') continue;
        plain[n++] = *style >= 'A' && *style <= 'Z' ? (char)(*style | 0x20) : *style;
    }
    plain[n] = 0;
    return strstr(plain, "display:none") || strstr(plain, "visibility:hidden");
}

static bool left_out(const page *p, kind k, const xmlChar **attributes) {
    static const char *const roles[] = {"navigation", "banner",  "contentinfo", "search",
                                        "menu",       "menubar", NULL};
    if (k == HIDDEN || k == NAVIGATION) return true;
    if (k == EDGE && p->parts == 0) return true;
    if (k == ROOT) return false; /* hidden by its own style until a script shows it */
    if (k == DIALOG && !attribute(attributes, "open")) return true;
    return attribute(attributes, "hidden") || is_one_of(attribute(attributes, "role"), roles) ||
           style_hides(attribute(attributes, "style"));
}

/* ---- events ---- */

static void begin_visible(page *p, kind k, const xmlChar **attributes) {
    weft_layout *l = &p->layout;
    const char *start = k == ORDERED ? attribute(attributes, "start") : NULL;
    switch (k) {
    case INLINE:
    case ROOT:
    case NAVIGATION:
    case HIDDEN:
        break;
    case LINE:
    case DIALOG:
    case EDGE:
        weft_layout_break(l, 1);
        break;
    case PART:
        p->parts++;
        weft_layout_break(l, 1);
        break;
    case PARAGRAPH:
    case TABLE:
        weft_layout_break(l, 2);
        break;
    case PRE:
        weft_layout_break(l, 2);
        p->pre_begun = p->pre++ == 0;
        break;
    case BREAK:
        if (p->pre)
            weft_layout_pre(l, "\n", 1);
        else
            weft_layout_br(l);
        break;
    case UNORDERED:
        weft_layout_list(l, false, 0);
        break;
    case ORDERED:
        weft_layout_list(l, true, start ? strtol(start, NULL, 10) : 1);
        break;
    case ITEM:
        weft_layout_item(l);
        break;
    case ROW:
        weft_layout_row(l);
        break;
    case CELL:
        weft_layout_cell(l);
        break;
    }
}

static void end_visible(page *p, kind k) {
    weft_layout *l = &p->layout;
    switch (k) {
    case INLINE:
    case ROOT:
    case NAVIGATION:
    case HIDDEN:
    case BREAK:
    case CELL:
        break;
    case PARAGRAPH:
        weft_layout_break(l, 2);
        break;
    case PRE:
        if (--p->pre == 0) weft_layout_pre_end(l);
        weft_layout_break(l, 2);
        break;
    case UNORDERED:
    case ORDERED:
        weft_layout_list_end(l);
        break;
    case TABLE:
        weft_layout_table_end(l);
        break;
    case PART:
        p->parts--;
        weft_layout_break(l, 1);
        break;
    case LINE:
    case DIALOG:
    case EDGE:
    case ITEM:
    case ROW:
        weft_layout_break(l, 1);
        break;
    }
}

static void on_end(void *data, const xmlChar *name) {
    page *p = data;
    if (!p->hidden) end_visible(p, kind_of(name));
    if (p->hidden == p->depth) p->hidden = 0;
    p->depth--;
}

/* Called with the element on top of the parser's stack: takes the one below it away. */
static void keep_shallow(page *p) {
    xmlParserCtxt *parser = p->parser;
    if (parser->nameNr <= MOST_DEPTH) return;
    on_end(p, parser->nameTab[parser->nameNr - 2]);
    parser->nameTab[parser->nameNr - 2] = parser->nameTab[parser->nameNr - 1];
    parser->nameNr--;
}

static void on_start(void *data, const xmlChar *name, const xmlChar **attributes) {
    page *p = data;
    kind k = kind_of(name);
    keep_shallow(p);
    p->depth++;
    if (p->hidden) return;
    if (!left_out(p, k, attributes)) {
        begin_visible(p, k, attributes);
        return;
    }
    p->hidden = p->depth;
    if (k != INLINE && k != HIDDEN)
        weft_layout_break(&p->layout, 1); /* the text around a block is not one line */
}

static void on_text(void *data, const xmlChar *text, int bytes) {
    page *p = data;
    if (p->hidden || bytes <= 0) return;
    if (!p->pre) {
        weft_layout_text(&p->layout, (const char *)text, (size_t)bytes);
        return;
    }
    bool dropped = p->pre_begun && text[0] == '\n'; /* HTML: the first line end of <pre> is none */
    p->pre_begun = false;
    weft_layout_pre(&p->layout, (const char *)text + dropped, (size_t)bytes - dropped);
}

/* ---- the page ---- */

typedef struct tag {
    bool inside;
    char quote;     /* inside a value's quotes: which; otherwise 0 */
    char last;      /* that was no white space */
    int attributes; /* at most: what looks like the end of one */
} tag;

/* Follows the tags; false: `c` is one attribute too many. */
static bool follow(tag *t, char c, char next) {
    if (!t->inside) {
        if (c == '<' && ((next | 0x20) >= 'a' && (next | 0x20) <= 'z')) *t = (tag){.inside = true};
        return true;
    }
    bool blank = c == ' ' || c == '\n' || c == '\t' || c == '\f';
    if (t->quote) {
        if (c == t->quote) t->quote = 0, t->attributes++;
    } else if (c == '>' || (t->attributes > MOST_ATTRIBUTES && (unsigned char)c < 0x80)) {
        t->inside = false;
        return c == '>';
    } else if ((c == '"' || c == '\'') && t->last == '=') {
        t->quote = c;
    } else {
        t->attributes += blank || c == '/';
    }
    if (!blank) t->last = c;
    return true;
}

/* UTF-8 without NUL (the parser ends there), with LF alone, and without tags of too many attributes. */
static weft_status decode(const char *html, size_t bytes, const char *charset, weft_text *out) {
    tag t = {0};
    WEFT_TRY(weft_charset_decode(weft_charset_of(html, bytes, charset), html, bytes, out));
    size_t kept = 0;
    for (size_t i = 0; i < out->bytes; i++) {
        char c = out->data[i], next = i + 1 < out->bytes ? out->data[i + 1] : 0;
        if (c == 0 || (c == '\r' && next == '\n')) continue;
        if (c == '\r') c = '\n';
        out->data[kept++] = follow(&t, c, next) ? c : '>';
    }
    out->bytes = kept;
    return WEFT_OK;
}

static weft_status parse(page *p, const weft_text *html) {
    const int options = HTML_PARSE_RECOVER | HTML_PARSE_NONET | HTML_PARSE_NODEFDTD | HTML_PARSE_IGNORE_ENC |
                        (int)XML_PARSE_HUGE;
    p->parser = htmlNewParserCtxt();
    if (!p->parser) WEFT_FAIL(WEFT_ENOMEM, "no memory to parse a page of %zu bytes", html->bytes);
    *p->parser->sax = (xmlSAXHandler){.startElement = on_start,
                                      .endElement = on_end,
                                      .characters = on_text,
                                      .ignorableWhitespace = on_text,
                                      .initialized = 1};
    p->parser->userData = p;
    htmlDocPtr none = htmlCtxtReadMemory(p->parser, html->data, (int)html->bytes, NULL, "UTF-8", options);
    if (none) xmlFreeDoc(none);
    bool starved = p->parser->errNo == XML_ERR_NO_MEMORY;
    htmlFreeParserCtxt(p->parser);
    if (starved) WEFT_FAIL(WEFT_ENOMEM, "no memory to parse a page of %zu bytes", html->bytes);
    return p->layout.status;
}

weft_status weft_html_text(const char *html, size_t bytes, const char *charset, weft_text *out) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    weft_text utf8 = {0};
    page p = {.layout = {.out = out, .row = WEFT_HTML_NO_ROW}};
    pthread_once(&once, xmlInitParser);
    out->bytes = 0;
    if (bytes == 0) return WEFT_OK;
    weft_status st = decode(html, bytes, charset, &utf8);
    if (st == WEFT_OK && utf8.bytes > INT32_MAX)
        st = weft_fail(WEFT_EINPUT, "a page of %zu bytes; the parser takes 2 GiB at most", utf8.bytes);
    if (st == WEFT_OK && utf8.bytes > 0) st = parse(&p, &utf8);
    weft_text_free(&utf8);
    return st;
}
