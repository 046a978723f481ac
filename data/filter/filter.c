#include "data/filter/signals.h"

#include <math.h>

const weft_filter_kind *const weft_filter_kinds[] = {
    &weft_filter_url_list, &weft_filter_language, &weft_filter_gopher_repetition, &weft_filter_gopher_quality,
    &weft_filter_c4,       &weft_filter_fineweb,  &weft_filter_word_list,         &weft_filter_code,
};
const int weft_filter_kind_count = sizeof weft_filter_kinds / sizeof *weft_filter_kinds;

static bool broken(weft_rule_kind kind, double bound, double value) {
    if (isnan(value)) return true;
    switch (kind) {
    case WEFT_RULE_MIN:
        return value < bound;
    case WEFT_RULE_MAX:
        return value > bound;
    case WEFT_RULE_FLAG:
        break;
    }
    return value != 0;
}

int weft_filter_verdict(const weft_filter_kind *k, const double *bounds, const double *values) {
    for (int i = 0; i < k->rule_count; i++)
        if (!isnan(bounds[i]) && broken(k->rules[i].kind, bounds[i], values[i])) return i;
    return -1;
}
