"""Readable text from an HTML page: headings, paragraphs, lists, listings; no navigation, no scripts."""

import re
from html.parser import HTMLParser

_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
_SKIP_TAGS = frozenset(
    "script style nav head form button select textarea svg template iframe noscript object footer".split()
)
# Words in class, id or role that mark what surrounds the page proper.
_SKIP_WORDS = frozenset(
    "headerlink sphinxsidebar related navheader navfooter docnav nosearch toc book-navigation page-links "
    "breadcrumbs footer menu indexterm navbar sidebar-nav rst-footer-buttons fancytoc contents "
    "toctree-wrapper banner navigation search contentinfo footer-text".split()
)
# A new line before and after; those in _SPACED, an empty line.
_BLOCK = frozenset(
    "address article aside body caption center dd details div dl dt fieldset figcaption figure header hr "
    "html legend li main menu ol section summary table tbody tfoot thead tr ul".split()
)
_SPACED = frozenset("h1 h2 h3 h4 h5 h6 p pre blockquote dl table".split())
# Where the page proper begins, if the page says so; what lies outside need not even be parsed.
_MAIN = re.compile(
    r"<main\b[^>]*>|<(?:div|section|article)\b[^>]*\b"
    r"(?:role=[\"']main[\"']|id=[\"']content[\"']|class=[\"']body[\"'])[^>]*>",
    re.IGNORECASE,
)
_SPACE = re.compile(r"[ \t\r\n\f\u00a0]+")
_ATTRIBUTE_WORDS = ("class", "id", "role")


class _EndOfMain(Exception):
    pass


class _Text(HTMLParser):
    def __init__(self, stop_with: str | None):
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.breaks = 2  # line ends owed before the next text
        self.after_space = True
        self.pre = 0
        self.skipping: str | None = None  # the element being left out, and how deep it nests in itself
        self.skip_depth = 0
        self.main = stop_with
        self.main_depth = 0
        self.counters: list[int | None] = []  # one for each open list: the next number, or None for bullets
        self.cells = 0

    def handle_starttag(self, tag, attrs):
        if self.skipping:
            if tag == self.skipping:
                self.skip_depth += 1
            return
        if tag == self.main:
            self.main_depth += 1
        if tag in _VOID:
            if tag in ("br", "hr"):
                self.owe(2 if tag == "hr" else 1)
            return
        if tag in _SKIP_TAGS or self.is_furniture(attrs):
            self.skipping = tag
            self.skip_depth = 1
            return
        if tag in _SPACED:
            self.owe(2)
        elif tag in _BLOCK:
            self.owe(1)
        if tag == "pre":
            self.pre += 1
        elif tag == "ul":
            self.counters.append(None)
        elif tag == "ol":
            self.counters.append(1)
        elif tag == "li":
            self.item_mark()
        elif tag == "tr":
            self.cells = 0
        elif tag in ("td", "th"):
            if self.cells and not self.breaks:
                self.emit(" | ")
                self.after_space = True
            self.cells += 1

    def handle_endtag(self, tag):
        if self.skipping:
            if tag == self.skipping:
                self.skip_depth -= 1
                if not self.skip_depth:
                    self.skipping = None
                    self.left(tag)
            return
        if tag == "pre" and self.pre:
            self.pre -= 1
        elif tag in ("ul", "ol") and self.counters:
            self.counters.pop()
        if tag in _SPACED or (tag in ("ul", "ol") and not self.counters):
            self.owe(2)
        elif tag in _BLOCK:
            self.owe(1)
        self.left(tag)

    def left(self, tag):
        if tag == self.main:
            self.main_depth -= 1
            if self.main_depth <= 0:
                raise _EndOfMain

    def handle_data(self, data):
        if self.skipping:
            return
        if self.pre:
            if self.breaks:
                data = data.lstrip("\n") if not data.isspace() else ""
            if data:
                self.emit(data.replace("\u00a0", " "))
                self.after_space = data[-1] in " \n"
            return
        data = _SPACE.sub(" ", data)
        if self.breaks or self.after_space:
            data = data.lstrip(" ")
        if data:
            self.emit(data)
            self.after_space = data[-1] == " "

    def is_furniture(self, attrs) -> bool:
        for name, value in attrs:
            if name in _ATTRIBUTE_WORDS and value and not _SKIP_WORDS.isdisjoint(value.lower().split()):
                return True
        return False

    def item_mark(self):
        number = self.counters[-1] if self.counters else None
        if number is None:
            self.emit("- ")
        else:
            self.emit(f"{number}. ")
            self.counters[-1] = number + 1
        self.after_space = True

    def owe(self, lines: int):
        # A mark with nothing after it yet ("- " and then a paragraph) stays on the line of its text.
        if self.parts and not self.breaks and re.fullmatch(r"- |\d+\. ", self.parts[-1]):
            return
        self.breaks = max(self.breaks, lines)

    def emit(self, text: str):
        if self.breaks:
            if self.parts:
                self.parts.append("\n" * self.breaks)
            self.breaks = 0
        self.parts.append(text)


def html_to_text(page: str) -> str:
    start = _MAIN.search(page)
    tag = None
    if start:
        tag = re.match(r"<(\w+)", start.group()).group(1).lower()
        page = page[start.start() :]
    parser = _Text(tag)
    try:
        parser.feed(page)
        parser.close()
    except _EndOfMain:
        pass
    return "".join(parser.parts)
