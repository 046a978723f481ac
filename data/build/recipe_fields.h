/* The keys of a recipe: one table parses, prints and explains them. Private to data/build/recipe*.c. */
#ifndef WEFT_RECIPE_FIELDS_H
#define WEFT_RECIPE_FIELDS_H

#include "data/build/recipe.h"

typedef enum weft_field_type { FIELD_TEXT, FIELD_INT, FIELD_REAL, FIELD_BOOL, FIELD_CHOICE } weft_field_type;

typedef struct weft_recipe_field {
    const char *key;
    weft_field_type type;
    size_t offset;
    const char *preset;
    double low, high;    /* of numbers */
    const char *choices; /* "first|longest|best": the value is the choice's number */
    const char *doc;
} weft_recipe_field;

typedef struct weft_recipe_section {
    const char *name; /* "" : keys of the recipe itself */
    size_t present;   /* offset of its bool; 0: always there */
    const char *doc;
    const weft_recipe_field *fields;
    int count;
} weft_recipe_section;

/* Keys of each source; the recipe's own keys (section 0) and its steps'. */
extern const weft_recipe_field weft_recipe_source_fields[];
extern const int weft_recipe_source_field_count;
extern const weft_recipe_section weft_recipe_sections[];
extern const int weft_recipe_section_count;

weft_status weft_recipe_field_set(const weft_recipe_field *f, void *base, const char *value,
                                  const char *where);
weft_status weft_recipe_fields_preset(const weft_recipe_field *fields, int count, void *base);
void weft_recipe_fields_free(const weft_recipe_field *fields, int count, void *base);
weft_status weft_recipe_text_set(char **at, const char *value);
bool weft_recipe_number(const char *text, double *out); /* the whole of `text`, finite */
/* The text of a choice's number; *length: of it. */
const char *weft_recipe_choice(const char *choices, int64_t number, int *length);

#endif
