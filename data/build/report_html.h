/* The page of a data directory's report. Private to data/build/. */
#ifndef WEFT_REPORT_HTML_H
#define WEFT_REPORT_HTML_H

#include "runtime/status.h"

#include <jansson.h>
#include <stddef.h>

/* One self-contained page (no scripts, nothing from elsewhere; readable on a phone and in dark mode) of what
 * report.json holds and `times`, pairs of a stage's name and its seconds. *html is malloc'ed. */
weft_status weft_report_html(const json_t *report, const json_t *times, char **html, size_t *bytes);

#endif
