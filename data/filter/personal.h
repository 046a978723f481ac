/* What the scrubber takes for personal data. Private to data/filter/scrub.c. */
#ifndef WEFT_PERSONAL_H
#define WEFT_PERSONAL_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum weft_personal_kind { WEFT_EMAIL, WEFT_IP, WEFT_PHONE, WEFT_PERSONAL_KINDS } weft_personal_kind;

/* What is looked for, by the byte without which there is none. Each of one kind. */
typedef enum weft_personal_sort {
    WEFT_PERSONAL_EMAIL,
    WEFT_PERSONAL_IPV4,
    WEFT_PERSONAL_IPV6,
    WEFT_PERSONAL_PHONE,
    WEFT_PERSONAL_SORTS
} weft_personal_sort;
extern const char weft_personal_marks[WEFT_PERSONAL_SORTS];
extern const weft_personal_kind weft_personal_kind_of[WEFT_PERSONAL_SORTS];

typedef struct weft_patterns weft_patterns; /* compiled; read-only: shared by threads */
weft_status weft_patterns_new(weft_patterns **out);
void weft_patterns_free(weft_patterns *p); /* NULL is allowed */

/* A text that is searched; one per thread. */
typedef struct weft_search {
    const weft_patterns *patterns;
    const char *text;
    size_t bytes;
    void *match; /* pcre2's memory, made when it is first needed */
} weft_search;
void weft_search_end(weft_search *s);

typedef struct weft_span {
    size_t start, end; /* start == end: nothing */
} weft_span;
/* The e-mail address whose @ is at `at`, or the address or number whose first mark is there, unless it is one
 * that stays. It begins at `floor` or behind. Looks back no further than to the mark before and, but for
 * e-mail, a few bytes. */
weft_status weft_search_at(weft_search *s, weft_personal_sort sort, size_t at, size_t floor,
                           weft_span *found);

#endif
