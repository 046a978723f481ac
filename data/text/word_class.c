#include "data/text/word_class.h"

#include <pthread.h>
#include <stdbool.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>

enum { PLANE = 0x10000 };

static uint8_t classes[PLANE];
static pthread_once_t made = PTHREAD_ONCE_INIT;

static uint8_t segmented_as(UChar32 c) {
    switch (u_getIntPropertyValue(c, UCHAR_WORD_BREAK)) {
    case U_WB_OTHER:
    case U_WB_DOUBLE_QUOTE: /* joins Hebrew letters only, which are HARD themselves */
        return WEFT_WORD_SINGLE;
    case U_WB_WSEGSPACE:
    case U_WB_CR:
    case U_WB_LF:
    case U_WB_NEWLINE:
        return WEFT_WORD_SPACE;
    case U_WB_ALETTER:
        return WEFT_WORD_LETTER;
    case U_WB_NUMERIC:
        return WEFT_WORD_NUMERIC;
    case U_WB_EXTENDNUMLET:
        return WEFT_WORD_CONNECTOR;
    case U_WB_MIDLETTER:
        return WEFT_WORD_MIDLETTER;
    case U_WB_MIDNUM:
        return WEFT_WORD_MIDNUM;
    case U_WB_MIDNUMLET:
    case U_WB_SINGLE_QUOTE:
        return WEFT_WORD_MIDNUMLET;
    default:
        return WEFT_WORD_HARD;
    }
}

/* Scripts that ICU cuts by a dictionary. */
static bool in_dictionary(UChar32 c) {
    UErrorCode error = U_ZERO_ERROR;
    UScriptCode script = uscript_getScript(c, &error);
    return script == USCRIPT_HAN || script == USCRIPT_HIRAGANA || script == USCRIPT_KATAKANA ||
           u_getIntPropertyValue(c, UCHAR_LINE_BREAK) == U_LB_COMPLEX_CONTEXT;
}

uint8_t weft_word_class_of(int32_t c) {
    uint8_t class = in_dictionary(c) ? WEFT_WORD_HARD : segmented_as(c);
    if (u_isUWhiteSpace(c) || u_charType(c) == U_CONTROL_CHAR ||
        u_hasBinaryProperty(c, UCHAR_DEFAULT_IGNORABLE_CODE_POINT)) {
        /* Blanks that join something are not for the fast path: U+202F is a connector. */
        class = class == WEFT_WORD_SINGLE || class == WEFT_WORD_SPACE ? WEFT_WORD_SPACE : WEFT_WORD_HARD;
        class |= WEFT_WORD_BLANK;
    }
    if (u_isUAlphabetic(c)) class |= WEFT_WORD_ALPHABETIC;
    if (u_isdigit(c)) class |= WEFT_WORD_DIGIT;
    return class;
}

static void make(void) {
    for (UChar32 c = 0; c < PLANE; c++) classes[c] = weft_word_class_of(c);
}

const uint8_t *weft_word_classes(void) {
    pthread_once(&made, make);
    return classes;
}
