/* Of each code point of the Basic Multilingual Plane, how words.c treats it. */
#ifndef WEFT_WORD_CLASS_H
#define WEFT_WORD_CLASS_H

#include <stdint.h>

/* Classes of UAX #29, table 3, as far as words.c knows its rules; Single_Quote counts as MidNumLet. */
enum {
    WEFT_WORD_SPACE,  /* stands between words and is of none */
    WEFT_WORD_SINGLE, /* a segment by itself */
    WEFT_WORD_LETTER,
    WEFT_WORD_NUMERIC,
    WEFT_WORD_CONNECTOR, /* ExtendNumLet */
    WEFT_WORD_MIDLETTER,
    WEFT_WORD_MIDNUM,
    WEFT_WORD_MIDNUMLET,
    WEFT_WORD_HARD, /* left to ICU: joins by other rules, or by a dictionary */
    WEFT_WORD_CLASS = 0x0f,
    WEFT_WORD_BLANK = 0x20, /* white space, control, or nothing to see: no word starts with it */
    WEFT_WORD_ALPHABETIC = 0x40,
    WEFT_WORD_DIGIT = 0x80,
};

/* [0x10000], from ICU's properties; made on the first call. */
const uint8_t *weft_word_classes(void);
/* The same of any code point, without the table. */
uint8_t weft_word_class_of(int32_t code_point);

#endif
