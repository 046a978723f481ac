/* Configurations of tests. */
#ifndef MADE_CONFIG_H
#define MADE_CONFIG_H

#include "model/config.h"

/* The defaults under `base` and `overrides`, "key=value" each, finished; the caller frees it. */
weft_config *made_config(const char *const *base, int base_count, const char *const *overrides, int count);

#endif
