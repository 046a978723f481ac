/* A page taken apart: it must be well-formed XML, and is asked by XPath. */
#ifndef WEFT_TEST_MARKUP_H
#define WEFT_TEST_MARKUP_H

#include <check.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct page {
    char *html;
    size_t bytes;
    xmlDoc *doc;
    xmlXPathContext *paths;
} page;

/* Takes html. */
static inline page page_parse(char *html, size_t bytes) {
    page p = {.html = html, .bytes = bytes};
    ck_assert_uint_eq(strlen(p.html), p.bytes);
    p.doc = xmlReadMemory(p.html, (int)p.bytes, "page.html", "UTF-8", XML_PARSE_NONET | XML_PARSE_HUGE);
    ck_assert_msg(p.doc != NULL, "not well-formed:\n%.4000s", p.html);
    p.paths = xmlXPathNewContext(p.doc);
    ck_assert_ptr_nonnull(p.paths);
    return p;
}

static inline void page_end(page *p) {
    xmlXPathFreeContext(p->paths);
    xmlFreeDoc(p->doc);
    free(p->html);
}

static inline int count(const page *p, const char *path) {
    xmlXPathObject *found = xmlXPathEvalExpression((const xmlChar *)path, p->paths);
    ck_assert_msg(found && found->type == XPATH_NODESET, "%s", path);
    int n = found->nodesetval ? found->nodesetval->nodeNr : 0;
    xmlXPathFreeObject(found);
    return n;
}

/* The text of the one node of that path. */
static inline void says(const page *p, const char *path, const char *expected) {
    xmlXPathObject *found = xmlXPathEvalExpression((const xmlChar *)path, p->paths);
    ck_assert_msg(found && found->nodesetval && found->nodesetval->nodeNr == 1, "%s: %d nodes", path,
                  count(p, path));
    xmlChar *text = xmlNodeGetContent(found->nodesetval->nodeTab[0]);
    ck_assert_msg(strcmp((char *)text, expected) == 0, "%s: '%s', not '%s'", path, (char *)text, expected);
    xmlFree(text);
    xmlXPathFreeObject(found);
}

static inline double number(const page *p, const char *path) {
    xmlXPathObject *found = xmlXPathEvalExpression((const xmlChar *)path, p->paths);
    ck_assert_ptr_nonnull(found);
    double x = xmlXPathCastToNumber(found);
    xmlXPathFreeObject(found);
    return x;
}

/* The texts of a row's cells, joined by |. */
static inline void row_says(const page *p, const char *row, const char *expected) {
    char path[512], text[2048] = "";
    snprintf(path, sizeof path, "%s/*", row);
    int cells = count(p, path);
    for (int i = 1; i <= cells; i++) {
        snprintf(path, sizeof path, "%s/*[%d]", row, i);
        xmlXPathObject *found = xmlXPathEvalExpression((const xmlChar *)path, p->paths);
        xmlChar *cell = xmlXPathCastToString(found);
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%s%s", i > 1 ? "|" : "", (char *)cell);
        xmlFree(cell);
        xmlXPathFreeObject(found);
    }
    ck_assert_msg(strcmp(text, expected) == 0, "%s:\n'%s', not\n'%s'", row, text, expected);
}

#endif
