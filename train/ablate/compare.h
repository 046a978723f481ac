/* What runs are compared by: of an ablation, and of any runs that a report is about. */
#ifndef WEFT_COMPARE_H
#define WEFT_COMPARE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What a run left. */
typedef struct weft_ablation_record {
    double *loss; /* of each step; NaN where it was not finite */
    int64_t steps, not_finite;
    json_t *eval;
} weft_ablation_record;

/* Mean of the finite losses of the last tenth of the steps; NaN without any. */
double weft_ablation_final_loss(const weft_ablation_record *r);
/* Is the loss of step i above the median of the 50 steps before it by more than 6 times their median
 * deviation? Not where there are fewer before it. */
bool weft_ablation_spike(const double *loss, int64_t i);
int64_t weft_ablation_spikes(const weft_ablation_record *r);

json_t *weft_ablation_heldout(const weft_ablation_record *runs, int seeds);
json_t *weft_ablation_tasks(const weft_ablation_record *runs, int seeds);
double weft_ablation_activation_max(const weft_ablation_record *runs, int seeds);

/* The three differences of a variant's runs to the baseline's; `same_batches`: they may be paired by step. */
json_t *weft_ablation_difference(const weft_ablation_record *x, const weft_ablation_record *base, int seeds,
                                 bool same_batches);

#endif
