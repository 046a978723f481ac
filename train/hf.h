/* Hugging Face directories: config.json, (sharded) safetensors, tokenizer. See facts of the format in
 * hf_config.c and safetensors.c. Not collective: one rank does it. */
#ifndef WEFT_HF_H
#define WEFT_HF_H

#include "model/config.h"
#include "model/params.h"

/* Writes DIR (must not exist) whole or not at all: config.json (JambaForCausalLM), model.safetensors or,
 * above max_shard_bytes, model-0000i-of-0000n.safetensors with model.safetensors.index.json,
 * generation_config.json, and the tokenizer's files when `tokenizer_dir` is not NULL. `flat` is the flat
 * parameter array (weft_real), rows joined to HF tensors by the table's hf_* fields. Stored as dtype F32,
 * BF16 or F64 (the reference build). Refused, with the reason, what JambaForCausalLM cannot express: patterns
 * that no period and offset gives, layers without mixer or feed-forward, RoPE, no inner norms, renormalised
 * top-k, head_dim other than D/H. Other errors: DIR exists, max_shard_bytes < 1, a tokenizer with more tokens
 * than the model (WEFT_EINPUT); disk full (WEFT_EIO). */
weft_status weft_hf_export(const char *dir, const weft_model_config *m, const weft_params *p,
                           const weft_real *flat, weft_dtype dtype, int64_t max_shard_bytes,
                           const char *tokenizer_dir);

/* Fills the model section of `c` from DIR/config.json (and finishes it). */
weft_status weft_hf_read_config(const char *dir, weft_config *c);

/* Fills `flat` from DIR's safetensors (F32, F16, BF16 or F64). Missing, extra and misshapen tensors are
 * errors, all of them by name (the first 20, then their number). Untrusted input: header size, offsets and
 * coverage are checked before use. `flat` (p->flat elements, padding zero) is written only once everything
 * fits; a read error after that leaves it partly filled. Experts may also be fused as transformers 5 keeps
 * them in memory: experts.gate_up_proj [X,2F,D], experts.down_proj [X,D,F]. */
weft_status weft_hf_read_weights(const char *dir, const weft_params *p, weft_real *flat);

/* Does DIR look like a Hugging Face directory (config.json inside)? */
bool weft_hf_is_dir(const char *dir);

#endif
