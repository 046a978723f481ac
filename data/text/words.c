#include "data/text/words.h"
#include "data/text/word_class.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/ubrk.h>
#include <unicode/ustring.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

/* Text is taken token by token, a token being what stands between ASCII white space: no segment of UAX #29
 * reaches across, but that marks after a space belong to it, and words have their blanks at the start cut
 * off. A token with a character whose rules are not known here goes to ICU as a whole. */

struct weft_words {
    const uint8_t *classes;
    UBreakIterator *breaks;
    UText text;
    weft_word *words;
    size_t count, capacity;
};

/* The annex's rules for ICU (RBBI). ICU's own differ: by version and language '@' is a letter, a colon joins
 * nothing, Hangul stands apart from digits. Scripts written without spaces are gathered for ICU's
 * dictionaries, as there. */
static const char RULES[] =
    "!!chain;"
    "$CR=[\\p{Word_Break=CR}]; $LF=[\\p{Word_Break=LF}]; $Line=[$CR $LF \\p{Word_Break=Newline}];"
    "$ZWJ=[\\p{Word_Break=ZWJ}]; $Ex=[\\p{Word_Break=Extend} \\p{Word_Break=Format} $ZWJ];"
    "$RI=[\\p{Word_Break=Regional_Indicator}]; $Space=[\\p{Word_Break=WSegSpace}];"
    "$Hebrew=[\\p{Word_Break=Hebrew_Letter}]; $Kata=[\\p{Word_Break=Katakana}];"
    "$SQ=[\\p{Word_Break=Single_Quote}]; $DQ=[\\p{Word_Break=Double_Quote}];"
    "$MidQ=[\\p{Word_Break=MidNumLet} $SQ]; $MidL=[\\p{Word_Break=MidLetter} $MidQ];"
    "$MidN=[\\p{Word_Break=MidNum} $MidQ]; $Num=[\\p{Word_Break=Numeric}];"
    "$Join=[\\p{Word_Break=ExtendNumLet}];"
    "$Ideo=[\\p{Script=Han} \\p{Script=Hiragana} \\p{Script=Katakana} $Kata];"
    "$dictionary=[$Ideo \\p{Line_Break=SA}];"
    "$Letter=[\\p{Word_Break=ALetter} $Hebrew \\p{Line_Break=SA}-$Ideo-$Ex-$Line];"
    "$CR $LF;"                               /* WB3 */
    "$ZWJ [\\p{Extended_Pictographic}];"     /* WB3c */
    "$Space $Space;"                         /* WB3d */
    "[^$Line] $Ex*;"                         /* WB4 */
    "$Letter $Ex* $Letter;"                  /* WB5 */
    "$Letter $Ex* $MidL $Ex* $Letter;"       /* WB6, WB7 */
    "$Hebrew $Ex* $SQ;"                      /* WB7a */
    "$Hebrew $Ex* $DQ $Ex* $Hebrew;"         /* WB7b, WB7c */
    "$Num $Ex* $Num;"                        /* WB8 */
    "$Letter $Ex* $Num;"                     /* WB9 */
    "$Num $Ex* $Letter;"                     /* WB10 */
    "$Num $Ex* $MidN $Ex* $Num;"             /* WB11, WB12 */
    "$Kata $Ex* $Kata;"                      /* WB13 */
    "[$Letter $Num $Kata $Join] $Ex* $Join;" /* WB13a */
    "$Join $Ex* [$Letter $Num $Kata];"       /* WB13b */
    "^$RI $Ex* $RI $Ex*;"                    /* WB15, WB16 */
    "$Ideo $Ideo;";

static weft_status failed(UErrorCode error) {
    WEFT_FAIL(error == U_MEMORY_ALLOCATION_ERROR ? WEFT_ENOMEM : WEFT_EINTERNAL,
              "word segmentation (ICU): %s", u_errorName(error));
}

weft_status weft_words_new(weft_words **out) {
    weft_words *w = calloc(1, sizeof *w);
    if (!w) WEFT_FAIL(WEFT_ENOMEM, "no memory for word segmentation");
    UErrorCode error = U_ZERO_ERROR;
    UParseError where;
    UChar rules[sizeof RULES];
    u_charsToUChars(RULES, rules, sizeof RULES);
    w->classes = weft_word_classes();
    w->text = (UText)UTEXT_INITIALIZER;
    w->breaks = ubrk_openRules(rules, sizeof RULES - 1, NULL, 0, &where, &error);
    if (U_FAILURE(error)) {
        weft_words_free(w);
        return failed(error);
    }
    *out = w;
    return WEFT_OK;
}

void weft_words_free(weft_words *w) {
    if (!w) return;
    if (w->breaks) ubrk_close(w->breaks);
    utext_close(&w->text);
    free(w->words);
    free(w);
}

static weft_status grow(weft_words *w) {
    size_t more = w->capacity ? 2 * w->capacity : 1024;
    weft_word *words = realloc(w->words, more * sizeof *words);
    if (!words) WEFT_FAIL(WEFT_ENOMEM, "no memory for the %zu words of a text", more);
    w->words = words;
    w->capacity = more;
    return WEFT_OK;
}

static inline weft_status add(weft_words *w, weft_word word) {
    if (w->count == w->capacity) WEFT_TRY(grow(w));
    w->words[w->count++] = word;
    return WEFT_OK;
}

/* ---- by our own rules ---- */

typedef struct cursor {
    const uint8_t *classes, *text, *end;
} cursor;

/* Class and length of the character at `p`. */
static inline unsigned class_at(const cursor *c, const uint8_t *p, unsigned *bytes) {
    if (*p < 0x80) {
        *bytes = 1;
        return c->classes[*p];
    }
    if (*p < 0xe0) {
        *bytes = 2;
        return c->classes[(*p & 0x1fu) << 6 | (p[1] & 0x3fu)];
    }
    if (*p < 0xf0) {
        *bytes = 3;
        return c->classes[(*p & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu)];
    }
    *bytes = 4;
    return WEFT_WORD_HARD;
}

static inline bool joins(unsigned class) {
    return class >= WEFT_WORD_LETTER && class <= WEFT_WORD_CONNECTOR;
}

/* WB6, WB7, WB11, WB12: punctuation between two letters, or between two digits. */
static inline bool bridges(unsigned before, unsigned middle, unsigned after) {
    if (before != after) return false;
    return before == WEFT_WORD_LETTER    ? middle == WEFT_WORD_MIDLETTER || middle == WEFT_WORD_MIDNUMLET
           : before == WEFT_WORD_NUMERIC ? middle == WEFT_WORD_MIDNUM || middle == WEFT_WORD_MIDNUMLET
                                         : false;
}

/* End of the word that starts at `p` with a letter, digit or connector; *all gathers its characters'
 * properties. */
static const uint8_t *joined_end(const cursor *c, const uint8_t *p, unsigned *all, uint32_t *characters) {
    unsigned bytes, before = WEFT_WORD_CONNECTOR;
    while (p < c->end) {
        unsigned found = class_at(c, p, &bytes), class = found & WEFT_WORD_CLASS;
        if (!joins(class)) {
            if (class < WEFT_WORD_MIDLETTER || class > WEFT_WORD_MIDNUMLET || p + bytes >= c->end) break;
            unsigned more, next = class_at(c, p + bytes, &more);
            if (!bridges(before, class, next & WEFT_WORD_CLASS)) break;
        }
        *all |= found;
        before = class;
        p += bytes;
        ++*characters;
    }
    return p;
}

/* End of the run of the character at `p`, of `bytes` bytes. */
static const uint8_t *run_end(const cursor *c, const uint8_t *p, unsigned bytes, uint32_t *characters) {
    const uint8_t *q = p;
    bool same;
    do {
        q += bytes;
        ++*characters;
        same = (size_t)(c->end - q) >= bytes;
        for (unsigned i = 0; same && i < bytes; i++) same = p[i] == q[i];
    } while (same);
    return q;
}

/* Cuts up to the next ASCII white space or the end; *hard when a character is not for these rules. */
static weft_status simple_token(weft_words *w, const cursor *c, const uint8_t **at, bool *hard) {
    const uint8_t *p = *at;
    while (p < c->end && *p != ' ' && (*p < '\t' || *p > '\r')) {
        unsigned bytes, all = class_at(c, p, &bytes), class = all & WEFT_WORD_CLASS;
        if (class == WEFT_WORD_HARD) {
            *hard = true;
            return WEFT_OK;
        }
        if (class == WEFT_WORD_SPACE) {
            p += bytes;
            continue;
        }
        uint32_t characters = 0;
        const uint8_t *stop;
        if (joins(class))
            stop = joined_end(c, p, &all, &characters);
        else if (all & (WEFT_WORD_ALPHABETIC | WEFT_WORD_DIGIT)) {
            stop = p + bytes;
            characters = 1;
        } else
            stop = run_end(c, p, bytes, &characters);
        WEFT_TRY(add(w, (weft_word){.start = (uint32_t)(p - c->text),
                                    .bytes = (uint32_t)(stop - p),
                                    .characters = characters,
                                    .letters = (all & WEFT_WORD_ALPHABETIC) != 0,
                                    .symbol = (all & (WEFT_WORD_ALPHABETIC | WEFT_WORD_DIGIT)) == 0}));
        p = stop;
    }
    *at = p;
    return WEFT_OK;
}

/* ---- by ICU ---- */

/* One more of the run of a symbol that the last word is. Its first and last character are looked at: a
 * segment of characters of the same length between two equal ones does not exist. */
static bool continues_run(weft_words *w, const char *text, size_t first_word, const weft_word *next) {
    if (w->count == first_word || !next->symbol || next->characters != 1) return false;
    weft_word *last = &w->words[w->count - 1];
    const char *one = text + next->start;
    bool run = last->symbol && last->start + last->bytes == next->start &&
               last->bytes == next->bytes * last->characters &&
               memcmp(one, text + last->start, next->bytes) == 0 &&
               memcmp(one, one - next->bytes, next->bytes) == 0;
    if (!run) return false;
    last->bytes += next->bytes;
    last->characters++;
    return true;
}

/* The segment [start, end) of text; words from first_word on are of the same token. */
static weft_status add_segment(weft_words *w, const char *text, size_t start, size_t end, size_t first_word) {
    weft_word word = {0};
    unsigned all = 0;
    bool begun = false;
    for (size_t i = start; i < end;) {
        size_t from = i;
        UChar32 c;
        U8_NEXT(text, i, end, c);
        unsigned found = c >= 0 && c < 0x10000 ? w->classes[c] : weft_word_class_of(c);
        if (!begun) {
            if (found & WEFT_WORD_BLANK) continue;
            begun = true;
            word.start = (uint32_t)from;
        }
        all |= found;
        word.characters++;
    }
    if (!begun) return WEFT_OK;
    word.bytes = (uint32_t)(end - word.start);
    word.letters = (all & WEFT_WORD_ALPHABETIC) != 0;
    word.symbol = (all & (WEFT_WORD_ALPHABETIC | WEFT_WORD_DIGIT)) == 0;
    if (continues_run(w, text, first_word, &word)) return WEFT_OK;
    return add(w, word);
}

static weft_status hard_token(weft_words *w, const char *text, size_t start, size_t end) {
    if (end - start > INT32_MAX)
        WEFT_FAIL(WEFT_EINPUT,
                  "word segmentation: a text has %zu bytes without white space; the limit is %d (split it)",
                  end - start, INT32_MAX);
    UErrorCode error = U_ZERO_ERROR;
    utext_openUTF8(&w->text, text + start, (int64_t)(end - start), &error);
    ubrk_setUText(w->breaks, &w->text, &error);
    if (U_FAILURE(error)) return failed(error);
    size_t first_word = w->count;
    int32_t from = ubrk_first(w->breaks), to;
    while ((to = ubrk_next(w->breaks)) != UBRK_DONE) {
        WEFT_TRY(add_segment(w, text, start + (size_t)from, start + (size_t)to, first_word));
        from = to;
    }
    return WEFT_OK;
}

weft_status weft_words_split(weft_words *w, const char *text, size_t bytes, const weft_word **words,
                             size_t *count) {
    if (bytes > UINT32_MAX)
        WEFT_FAIL(WEFT_EINPUT, "word segmentation: a text of %zu bytes; the limit is 4 GiB (split it)",
                  bytes);
    const uint8_t *start = (const uint8_t *)text, *p = start;
    cursor c = {.classes = w->classes, .text = start, .end = start + bytes};
    w->count = 0;
    while (p < c.end) {
        if (*p == ' ' || (*p >= '\t' && *p <= '\r')) {
            p++;
            continue;
        }
        size_t before = w->count;
        bool hard = false;
        const uint8_t *token = p;
        WEFT_TRY(simple_token(w, &c, &p, &hard));
        if (!hard) continue;
        w->count = before;
        while (p < c.end && *p != ' ' && (*p < '\t' || *p > '\r')) p++;
        WEFT_TRY(hard_token(w, text, (size_t)(token - start), (size_t)(p - start)));
    }
    *words = w->words;
    *count = w->count;
    return WEFT_OK;
}
