/* The look of the report's page, behind what all pages share. */
#include "data/build/report_html_parts.h"

/* clang-format off */
const char page_style[] =
":root{--bin:#8fa9cf;--curve:#b8730a}\n"
"@media (prefers-color-scheme:dark){:root{--bin:#58749f;--curve:#e8ad4a}}\n"
"th.file{min-width:17rem;max-width:34rem;overflow-wrap:anywhere}\n"
".rules{width:100%}\n"
".rules td{vertical-align:top}\n"
".rules th[scope=row]{position:static;vertical-align:top;min-width:14rem}\n"
".rules td.n,.rules th.n{width:6.4rem}"
".rules td:nth-child(2),.rules td:nth-child(5),.rules th:nth-child(2),.rules th:nth-child(5){width:4.6rem}"
"\n"
".rules td.signal{width:21rem}\n"
".histogram{width:20rem;max-width:100%;height:auto}\n"
".histogram text{font-size:10px}\n"
".none{color:var(--soft)}\n"
".bin{fill:var(--bin)}.bin.gone{fill:var(--gone)}\n"
".curve{stroke:var(--curve);stroke-width:2;fill:none}\n"
"svg text.curve{stroke:none;fill:var(--curve)}\n"
"@media (max-width:44rem){\n"
"th.file{min-width:11rem}.histogram{width:100%}\n"
".rules,.rules tbody{display:block;min-width:0}\n"
".rules thead{display:none}\n"
".rules tr{display:grid;grid-template-columns:repeat(4,auto);justify-content:space-between;"
"column-gap:.7rem;border-bottom:1px solid var(--line);padding:.5rem 0}\n"
".rules th[scope=row],.rules td.signal{grid-column:1/-1;max-width:none;width:auto;min-width:0}\n"
".rules th,.rules td{border:0!important;padding:.12rem 0}\n"
".rules td.n{text-align:left;white-space:normal}\n"
".rules td.n::before{content:attr(data-name);display:block;color:var(--soft);font-size:.76rem}\n"
"}\n";
/* clang-format on */
