/* Small models and batches for the tests of model/. */
#ifndef WEFT_TEST_TOY_H
#define WEFT_TEST_TOY_H

#include "model/model.h"

typedef struct toy {
    weft_config config;
    weft_model model;
    weft_device device;
    weft_real *params, *grads;
    int32_t *tokens, *targets, *doc_start;
    weft_microbatch mb;
    weft_objective objective;
} toy;

/* Builds a model from "key=value" overrides of a small hybrid (4 layers, D 24), all parameters random (norms,
 * biases, A_log and D as well), and a batch of B sequences of T tokens, some targets left out; with `packed`,
 * several documents a sequence. Sizes the device. Ends the test on failure. */
void toy_open(toy *t, const char *const *overrides, int count, int64_t B, int64_t T, bool packed);
void toy_close(toy *t);

/* The objective's value; gradients (zeroed first) in t->grads. */
double toy_loss(toy *t);

#endif
