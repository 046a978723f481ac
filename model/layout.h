/* What a mesh can do with a model: the rules that join the two. Nothing here is collective. */
#ifndef WEFT_LAYOUT_H
#define WEFT_LAYOUT_H

#include "model/config.h"
#include "parallel/mesh.h"

/* WEFT_EINPUT, with the rule that is broken and what would work, unless the mesh can train the model on
 * microbatches of micro_batch sequences of seq_len tokens. `m` is finished (weft_config_finish).
 *
 *   tp  num_attention_heads % tp = 0; num_key_value_heads is a multiple of tp, or tp of it (key/value heads
 * are then held by several ranks each); at most vocab_size, d_inner and intermediate_size, whose parts differ
 * by at most one ep  at most num_experts (parts differ by at most one); 1 without a layer of experts cp
 * seq_len % (2*cp) = 0: zig-zag chunks; a chunk has the mamba_d_conv - 1 tokens that the next one's
 * convolution looks back at rows of the residual stream: micro_batch * seq_len / cp % tp = 0
 *
 * Rules about layers of a kind apply where the model has such layers. */
weft_status weft_layout_check(const weft_model_config *m, int64_t micro_batch, int64_t seq_len,
                              const weft_mesh *mesh);

/* Ranks of tp that hold the same key/value head: tp / num_key_value_heads where that is more than one and the
 * model has attention, else 1. For a mesh that weft_layout_check accepts. */
int weft_layout_kv_ranks(const weft_model_config *m, const weft_mesh *mesh);

#endif
