/* A trained model from wherever it lies: a run directory (its newest checkpoint), a checkpoint, or a Hugging
 * Face directory. For eval, logprob, generate, export. */
#ifndef WEFT_MODELFILE_H
#define WEFT_MODELFILE_H

#include "data/tokenizer/tokenizer.h"
#include "model/config.h"
#include "model/model.h"
#include "parallel/world.h"
#include "runtime/fs.h"

typedef struct weft_modelfile {
    char path[WEFT_PATH_SIZE];      /* the checkpoint or directory that was read */
    char tokenizer[WEFT_PATH_SIZE]; /* its tokenizer.model, "" when there is none */
    weft_hash128 tokenizer_digest;  /* of the one that the model was trained with; zero: unknown */
    bool is_hf;
    int64_t step; /* of the checkpoint; 0 for a Hugging Face directory */
    weft_config config;
    weft_model model;
    weft_device device;
    weft_arena arena;
    weft_real *params;
} weft_modelfile;

/* Collective; the status is agreed. Reads weights and configuration and opens the device; its arena is left
 * to the caller to size. A checkpoint must hold the tokenizer that it names. */
weft_status weft_modelfile_open(weft_modelfile *f, const weft_world *w, const char *path);
void weft_modelfile_close(weft_modelfile *f); /* also of a zeroed struct */

/* Whether the tokenizer of this digest is the model's; true when that is not known. */
bool weft_modelfile_fits(const weft_modelfile *f, weft_hash128 digest);

/* Opens the model's tokenizer; WEFT_EINPUT with advice when it has none or one of another vocabulary size.
 * Not collective. */
weft_status weft_modelfile_tokenizer(const weft_modelfile *f, weft_tokenizer **out);

/* Sizes the device's arena for weft_model_losses of B sequences of T tokens. */
weft_status weft_modelfile_size(weft_modelfile *f, int64_t B, int64_t T);

#endif
