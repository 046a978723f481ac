/* Words of a text by UAX #29 (Unicode text segmentation): what the quality filters count and what shingles
 * are made of. Our own code cuts what the annex's simple rules are enough for; ICU, given the same rules,
 * cuts the rest: combining marks, Hebrew, emoji, and by its dictionaries Chinese, Japanese, Thai, Lao, Khmer
 * and Burmese. */
#ifndef WEFT_WORDS_H
#define WEFT_WORDS_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weft_word {
    uint32_t start, bytes; /* in the text */
    uint32_t characters;   /* code points */
    bool letters;          /* holds a letter (Unicode Alphabetic) */
    bool symbol;           /* holds neither letter nor digit: punctuation and symbols */
} weft_word;

/* One per thread: ICU's iterator and the memory that words are put in. */
typedef struct weft_words weft_words;
weft_status weft_words_new(weft_words **out);
void weft_words_free(weft_words *w); /* NULL is allowed */

/* The segments of `text` (valid UTF-8, below 4 GiB) in order, but for white space, control and invisible
 * characters, alone or at a segment's start; a run of one and the same punctuation character ("...", "---")
 * is one word. *words is valid until the next call. */
weft_status weft_words_split(weft_words *w, const char *text, size_t bytes, const weft_word **words,
                             size_t *count);

#endif
