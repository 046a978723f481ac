/* Source files: the thresholds of The Stack and StarCoder. The language, which decides how comments look, is
 * told from the file's name; a file of no known language has no share of comments, and the rules about them
 * do not apply. The share is of all characters of the file, marks of comments included; strings are passed
 * over, so that what looks like a comment in one does not count. */
#include "data/filter/signals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>

#define STACK "bigcode-dataset, preprocessing (The Stack, StarCoder: Li et al. 2023)"

enum { MAX_LINE, MEAN_LINE, ALPHANUMERIC, MIN_COMMENTS, MAX_COMMENTS, XML, VISIBLE, RULES };

static const weft_rule rules[RULES] = {
    [MAX_LINE] = {"max_line", WEFT_RULE_MAX, 1000, WEFT_SCALE_COUNT, "characters of the longest line", STACK},
    [MEAN_LINE] = {"max_mean_line", WEFT_RULE_MAX, 100, WEFT_SCALE_COUNT, "mean characters of a line", STACK},
    [ALPHANUMERIC] = {"min_alphanumeric", WEFT_RULE_MIN, 0.25, WEFT_SCALE_SHARE,
                      "share of characters that are letters or digits", STACK},
    [MIN_COMMENTS] = {"min_comments", WEFT_RULE_MIN, 0.01, WEFT_SCALE_SHARE,
                      "share of characters in comments, where the language is known", STACK},
    [MAX_COMMENTS] = {"max_comments", WEFT_RULE_MAX, 0.8, WEFT_SCALE_SHARE,
                      "share of characters in comments, where the language is known", STACK},
    [XML] = {"xml", WEFT_RULE_FLAG, 0, WEFT_SCALE_COUNT, "<?xml version= in the first 100 characters", STACK},
    [VISIBLE] = {"min_visible", WEFT_RULE_MIN, 0.2, WEFT_SCALE_SHARE,
                 "share of characters outside tags, scripts and styles, in HTML files", STACK},
};

/* ---- languages ---- */

enum {
    SPACED = 1,     /* a line comment begins a word: $# and ${x#y} are none in a shell */
    DOCSTRINGS = 2, /* triple quotes at the beginning of a statement are a comment, elsewhere a string */
    POD = 4,        /* a line that begins with = and a letter begins a comment that =cut ends */
    HTML = 8,
};

typedef struct language {
    const char *endings;      /* each between spaces */
    const char *quotes;       /* of strings, which end with their line at the latest */
    const char *line[2];      /* what begins a comment that ends with its line; NULL: nothing */
    const char *open, *close; /* of a comment over lines; NULL: there is none */
    unsigned traits;
} language;

static const language languages[] = {
    {" c h cc cpp cxx c++ hh hpp hxx inl ipp cu cuh m mm cl glsl vert frag hlsl metal ",
     "\"'",
     {"//"},
     "/*",
     "*/",
     0},
    {" java cs go rs swift kt kts scala groovy gradle dart d vala zig ", "\"'`", {"//"}, "/*", "*/", 0},
    {" js jsx mjs cjs ts tsx scss less proto thrift idl v sv svh ", "\"'`", {"//"}, "/*", "*/", 0},
    {" css ", "\"'", {NULL}, "/*", "*/", 0},
    {" php ", "\"'", {"//", "#"}, "/*", "*/", 0},
    {" py pyi pyx pyw ", "\"'", {"#"}, NULL, NULL, DOCSTRINGS},
    {" pl pm t pod ", "\"'", {"#"}, NULL, NULL, SPACED | POD},
    {" sh bash zsh ksh rb rake r mk cmake tcl awk ex exs nim coffee ", "\"'", {"#"}, NULL, NULL, SPACED},
    {" jl ", "\"", {"#"}, "#=", "=#", 0},
    {" sql ", "\"'", {"--"}, "/*", "*/", 0},
    {" lua ", "\"'", {"--"}, "--[[", "]]", 0},
    {" hs elm ", "\"", {"--"}, "{-", "-}", 0},
    {" adb ads ada vhd vhdl ", "\"", {"--"}, NULL, NULL, 0},
    {" html htm xhtml ", "", {NULL}, "<!--", "-->", HTML},
    {" xml xsl xslt svg ", "", {NULL}, "<!--", "-->", 0},
    {" el lisp lsp scm ss rkt clj cljs ", "\"", {";"}, NULL, NULL, 0},
    {" tex sty ", "", {"%"}, NULL, NULL, 0},
    {" erl hrl ", "\"", {"%"}, NULL, NULL, 0},
    {" f90 f95 f03 f08 ", "\"'", {"!"}, NULL, NULL, 0},
    {" ml mli ", "\"", {NULL}, "(*", "*)", 0},
    {" pas ", "'", {"//"}, "(*", "*)", 0},
};

/* By the name's ending, of a packed file the one before that; NULL: not known. */
static const language *language_of(const char *file) {
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file, *end = name + strlen(name);
    weft_span whole = {name, (size_t)(end - name)};
    if (weft_ends(whole, ".gz")) end -= strlen(".gz");
    if (weft_ends(whole, ".zst")) end -= strlen(".zst");
    char ending[16] = " ";
    const char *dot = memrchr(name, '.', (size_t)(end - name));
    if (!dot || (size_t)(end - dot) >= sizeof ending - 1) return NULL;
    size_t n = 1;
    for (const char *p = dot + 1; p < end; p++) ending[n++] = weft_lower(*p);
    ending[n] = ' ';
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++)
        if (n > 1 && strstr(languages[i].endings, ending)) return &languages[i];
    return NULL;
}

/* ---- comments ---- */

/* A place in the text; moving on counts its characters or not. */
typedef struct scanner {
    const char *p, *end;
    const language *lang;
    char before;      /* the byte before p; '\n' at the beginning */
    bool line_begins; /* only white space stands before p in its line */
} scanner;

static bool at(const scanner *s, const char *mark) {
    return mark && weft_starts((weft_span){s->p, (size_t)(s->end - s->p)}, mark);
}

/* Behind the next `mark`, or the end. */
static const char *behind(const char *from, const char *end, const char *mark) {
    size_t n = strlen(mark);
    const char *found = from < end ? memmem(from, (size_t)(end - from), mark, n) : NULL;
    return found ? found + n : end;
}

static const char *end_of_string(const scanner *s) {
    char quote = *s->p;
    const char *p = s->p + 1;
    for (; p < s->end && *p != '\n' && *p != quote; p++)
        if (*p == '\\' && p + 1 < s->end) p++;
    return p < s->end && *p == quote ? p + 1 : p;
}

static bool at_line_comment(const scanner *s) {
    if (s->lang->traits & SPACED && !strchr(" \t\n;", s->before)) return false;
    return at(s, s->lang->line[0]) || at(s, s->lang->line[1]);
}

static bool at_pod(const scanner *s) {
    if (!(s->lang->traits & POD) || *s->p != '=' || s->before != '\n' || s->end - s->p < 2) return false;
    char c = weft_lower(s->p[1]);
    return c >= 'a' && c <= 'z';
}

/* Where what begins at s->p ends: a comment, a string, or one byte of neither. */
static const char *next_part(const scanner *s, bool *comment) {
    *comment = true;
    if (at(s, s->lang->open)) return behind(s->p + strlen(s->lang->open), s->end, s->lang->close);
    if (at_line_comment(s)) {
        const char *stop = memchr(s->p, '\n', (size_t)(s->end - s->p));
        return stop ? stop : s->end;
    }
    if (s->lang->traits & DOCSTRINGS && (at(s, "\"\"\"") || at(s, "'''"))) {
        *comment = s->line_begins;
        return behind(s->p + 3, s->end, *s->p == '"' ? "\"\"\"" : "'''");
    }
    if (at_pod(s)) return behind(s->p, s->end, "\n=cut");
    *comment = false;
    return strchr(s->lang->quotes, *s->p) ? end_of_string(s) : s->p + 1;
}

static size_t comment_characters(const language *lang, const char *text, size_t bytes) {
    scanner s = {text, text + bytes, lang, '\n', true};
    size_t n = 0;
    while (s.p < s.end) {
        bool comment;
        const char *next = next_part(&s, &comment);
        if (comment) n += weft_characters(s.p, (size_t)(next - s.p));
        s.before = next[-1];
        s.line_begins = s.before == '\n' || (s.line_begins && (s.before == ' ' || s.before == '\t'));
        s.p = next;
    }
    return n;
}

/* ---- HTML ---- */

static bool opens(const char *p, const char *end, const char *tag) {
    for (; *tag; p++, tag++)
        if (p == end || weft_lower(*p) != *tag) return false;
    return p == end || !((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z'));
}

/* Behind the tag, comment, or whole script or style that begins at p. */
static const char *end_of_tag(const char *p, const char *end) {
    if (end - p >= 4 && memcmp(p, "<!--", 4) == 0) return behind(p + 4, end, "-->");
    bool script = opens(p, end, "<script"), style = opens(p, end, "<style");
    const char *stop = behind(p, end, ">");
    if (!script && !style) return stop;
    for (const char *close; (close = memmem(stop, (size_t)(end - stop), "</", 2)) != NULL; stop = close + 2)
        if (opens(close, end, script ? "</script" : "</style")) return behind(close, end, ">");
    return end;
}

/* Characters outside of tags; a reference such as &amp; is one. */
static size_t visible_characters(const char *p, size_t bytes) {
    const char *end = p + bytes;
    size_t n = 0;
    while (p < end) {
        if (*p == '<') {
            p = end_of_tag(p, end);
            continue;
        }
        size_t name = 1;
        while (*p == '&' && name < 10 && p + name < end && p[name] > ' ' && p[name] != ';') name++;
        bool reference = name > 1 && p + name < end && p[name] == ';';
        n += ((unsigned char)*p & 0xc0) != 0x80;
        p += reference ? name + 1 : 1;
    }
    return n;
}

/* ---- the filter ---- */

static bool alphanumeric(uint32_t c) {
    if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    return (U_MASK(u_charType((UChar32)c)) & (U_GC_L_MASK | U_GC_N_MASK)) != 0;
}

static size_t count_alphanumeric(const char *text, size_t bytes) {
    size_t n = 0, each;
    for (const char *p = text, *end = text + bytes; p < end; p += each)
        n += alphanumeric(weft_character(p, &each));
    return n;
}

static bool is_xml(const char *text, size_t bytes) {
    const char *p = text, *end = text + bytes;
    for (size_t characters = 0; p < end && characters < 100; characters++) {
        size_t each;
        weft_character(p, &each);
        p += each;
    }
    return memmem(text, (size_t)(p - text), "<?xml version=", strlen("<?xml version=")) != NULL;
}

static void look_at_lines(const weft_filter_input *in, double *values) {
    size_t lines = 0, sum = 0, longest = 0;
    weft_span rest = {in->text, in->bytes}, line;
    while (weft_next_line(&rest, &line)) {
        size_t n = weft_characters(line.at, line.bytes);
        lines++;
        sum += n;
        if (n > longest) longest = n;
    }
    values[MAX_LINE] = (double)longest;
    values[MEAN_LINE] = (double)sum / (double)lines;
}

static weft_status signals(void *state, const weft_filter_input *in, double *values, weft_text *changed,
                           bool *has_changed) {
    (void)state, (void)changed;
    *has_changed = false;
    double characters = (double)weft_characters(in->text, in->bytes);
    const language *lang = language_of(in->file);
    look_at_lines(in, values);
    values[ALPHANUMERIC] = (double)count_alphanumeric(in->text, in->bytes) / characters;
    values[MIN_COMMENTS] = INFINITY;
    values[MAX_COMMENTS] = -INFINITY;
    if (lang)
        values[MIN_COMMENTS] = values[MAX_COMMENTS] =
            (double)comment_characters(lang, in->text, in->bytes) / characters;
    values[XML] = is_xml(in->text, in->bytes);
    values[VISIBLE] =
        lang && lang->traits & HTML ? (double)visible_characters(in->text, in->bytes) / characters : INFINITY;
    return WEFT_OK;
}

const weft_filter_kind weft_filter_code = {
    .name = "code",
    .summary = "the length of lines, the shares of letters and comments, XML, and HTML without much to read",
    .rules = rules,
    .rule_count = RULES,
    .signals = signals,
};
