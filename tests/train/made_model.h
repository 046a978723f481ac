/* A small model without a file, and one of attention alone computed by hand. */
#ifndef WEFT_MADE_MODEL_H
#define WEFT_MADE_MODEL_H

#include "train/modelfile.h"

/* As weft_modelfile_open leaves it, of "key=value" words over a small base (D 24, 4 heads, 2 key/value heads
 * of 8, 23 words, 4 experts, sequences of 19 tokens); all weights random, none at its start value. */
weft_modelfile *made_model(const char *words);
void made_model_close(weft_modelfile *f);

/* ---- a model whose layers 0 and 2 have attention, in double precision, from the formulas ---------- */

#define ATTENTION_ALONE "model.num_hidden_layers=3 model.mixer_pattern=A.A model.ffn_pattern=..."
enum { D = 24, H = 4, G = 2, d = 8, LAYERS = 3, MOST = 32 };

typedef struct hand {
    double stream[MOST][D], out[MOST][D];         /* before a layer's attention; what it adds */
    double attention[LAYERS][H][MOST][MOST];      /* of query i to key j */
    double residual_max[LAYERS], out_max[LAYERS]; /* max |x| of all sequences so far */
    double residual_sum[LAYERS], out_sum[LAYERS]; /* of squares */
} hand;
/* Computes a sequence; what it shows is added to the maxima and sums. */
void by_hand(hand *w, const weft_modelfile *f, const int32_t *tokens, int T);

#endif
