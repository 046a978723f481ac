/* One small training run on any mesh, and the same on one rank. */
#ifndef WEFT_TEST_LAYOUTS_H
#define WEFT_TEST_LAYOUTS_H

#include "train/trainer.h"

#define LAYOUT_STEPS 20

/* What is trained: overrides of a small model, and whether a sequence packs several documents. */
typedef struct layout_model {
    const char *name;
    const char *overrides[12]; /* NULL behind the last */
    bool packed;
} layout_model;
extern const layout_model layout_hybrid, layout_attention, layout_mamba, layout_packed;

typedef struct layout_curve {
    double loss[LAYOUT_STEPS], norm[LAYOUT_STEPS], aux[LAYOUT_STEPS];
} layout_curve;

/* Configuration of a model with the words of `more` ("mesh.tp=2 train.recompute=all", may be ""); malloc'ed.
 */
weft_config *layout_config(const layout_model *m, const char *more);

/* A trainer over its batches: the batch is a function of the global sample numbers. */
typedef struct layout_run {
    weft_config *config;
    weft_trainer trainer;
    uint64_t *samples;
    int32_t *tokens, *targets, *doc_start;
    bool packed;
} layout_run;
/* Collective for all ranks of `w` (one rank: for nobody else). */
void layout_open(layout_run *r, const layout_model *m, const char *more, const weft_world *w);
void layout_close(layout_run *r);
void layout_step(layout_run *r, weft_step_result *out);
/* The batch that the next step takes. */
weft_batch layout_batch(layout_run *r);

/* Trains `steps` steps from the beginning. */
void layout_train(layout_curve *out, const layout_model *m, const char *more, const weft_world *w, int steps);
/* The curve of one rank; rank 0 computes it, the others are told. Collective. */
void layout_reference(layout_curve *out, const layout_model *m, const char *more, const weft_world *w,
                      int steps);
/* Ends the test with the first step at which two curves differ by more than `tolerance` (relative). */
void layout_same(const layout_curve *got, const layout_curve *want, int steps, double tolerance,
                 const char *what);

#endif
