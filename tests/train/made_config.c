#include "made_config.h"
#include "support/suite.h"

#include <stdlib.h>

weft_config *made_config(const char *const *base, int base_count, const char *const *overrides, int count) {
    weft_config *c = malloc(sizeof *c);
    ck_assert_ptr_nonnull(c);
    weft_config_defaults(c);
    for (int i = 0; i < base_count; i++) ck_assert_int_eq(weft_config_override(c, base[i], "test"), WEFT_OK);
    for (int i = 0; i < count; i++) ck_assert_int_eq(weft_config_override(c, overrides[i], "test"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(c), WEFT_OK);
    return c;
}
