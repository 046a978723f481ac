/* What export, import and the configuration of Hugging Face directories share; used by train/hf_*.c only. */
#ifndef WEFT_HF_FILES_H
#define WEFT_HF_FILES_H

#include "train/hf.h"

#include <jansson.h>

#define WEFT_HF_CONFIG "config.json"
#define WEFT_HF_SINGLE "model.safetensors"
#define WEFT_HF_INDEX "model.safetensors.index.json"

/* One tensor of the Hugging Face file: rows of the parameter table, in the order of hf_row. */
typedef struct weft_hf_tensor {
    const char *name;
    int ndim;
    int64_t shape[WEFT_PARAM_DIMS];
    int64_t numel;
    const weft_param **rows;
    int64_t count;
} weft_hf_tensor;

typedef struct weft_hf_tensors {
    weft_hf_tensor *list; /* in the order of the table */
    int64_t count;
    const weft_param **rows; /* what the lists of rows point into */
} weft_hf_tensors;

/* Groups the rows of the table by hf_name. A table whose rows do not cover each tensor exactly is
 * WEFT_EINTERNAL. */
weft_status weft_hf_group(weft_hf_tensors *out, const weft_params *p);
void weft_hf_tensors_free(weft_hf_tensors *t);

/* One error line for each thing that JambaForCausalLM cannot express; WEFT_EINPUT when there is any. */
weft_status weft_hf_check_model(const weft_model_config *m);
/* config.json and generation_config.json of a model that passed weft_hf_check_model, in the directory `dir`.
 */
weft_status weft_hf_write_config(const char *dir, const weft_model_config *m, weft_dtype dtype);

/* Writes `value` (taken; NULL means that there was no memory for it) as DIR/NAME, synced. */
weft_status weft_hf_write_json(const char *dir, const char *name, json_t *value);
/* The JSON object in DIR/NAME; the caller frees it with json_decref. */
weft_status weft_hf_read_json(const char *dir, const char *name, json_t **out);

#endif
