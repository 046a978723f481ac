/* Changes of layout, each with its dual for the backward pass. A forward move and its dual stand side by
 * side; a layer calls one in forward and the other in backward, and nothing moves data elsewhere.
 *
 *   forward                          dual (backward)
 *   gather_tokens   (all-gather)     scatter_tokens  (reduce-scatter)      tp: rows of the residual stream
 *   scatter_tokens  (reduce-scatter) gather_tokens   (all-gather)
 *   sum_partial     (all-reduce)     none: the gradient is whole on every rank
 *   none                             sum_partial     (all-reduce)
 *   gather_sequence (all-gather)     scatter_sequence (reduce-scatter)     cp: keys and values
 *   pass_halo       (send, recv)     return_halo      (send, recv)         cp: convolution
 *   gather_states   (all-gather)     gather_states, read in reverse order  cp: Mamba's state
 *   weft_all_to_all                  weft_all_to_all, counts exchanged     ep: tokens (comm.h)
 *
 * `rows`, `width` etc. are elements of the device's activation type. All is collective on the named axis; on
 * a dry communicator only workspace and bytes are counted. Without that axis (size 1) nothing is copied. */
#ifndef WEFT_MOVES_H
#define WEFT_MOVES_H

#include "ops.h"
#include "parallel/comm.h"

/* ---- tp: rows. Member r of tp holds rows [r*rows, (r+1)*rows) of `rows`*tp -------------------------------
 */

/* All rows. x itself without tp; otherwise pushed on d->act (the caller releases it). */
const weft_act *weft_gather_tokens(weft_comm *c, weft_device *d, const char *tensor, const weft_act *x,
                                   int64_t rows, int64_t width);
/* Where a block writes partial results for all rows: `out` itself without tp, otherwise pushed on d->act. */
weft_act *weft_partial_rows(weft_comm *c, weft_device *d, weft_act *out, int64_t rows, int64_t width);
/* out[rows,width] = this rank's rows of the sum over tp of all[rows*tp,width]; all == out without tp. */
void weft_scatter_tokens(weft_comm *c, weft_device *d, const char *tensor, weft_act *out, weft_act *all,
                         int64_t rows, int64_t width);
/* x[n] <- sum over tp. */
void weft_sum_partial(weft_comm *c, weft_device *d, const char *tensor, weft_act *x, int64_t n);

/* ---- cp: zig-zag chunks (mesh.h). Local rows: for each of B sequences chunk slot 0, then slot 1, L tokens
 * each -- */

/* out[B, 2*cp*L, width] in the order of the sequence, from local[B*2*L rows, width] (row stride ld). Only
 * with cp > 1. */
void weft_gather_sequence(weft_comm *c, weft_device *d, const char *tensor, weft_act *out,
                          const weft_act *local, int64_t ld, int64_t B, int64_t L, int64_t width);
/* The dual: local <- this rank's chunks of the sum over cp of all[B, 2*cp*L, width]. Assigned. */
void weft_scatter_sequence(weft_comm *c, weft_device *d, const char *tensor, weft_act *local, int64_t ld,
                           const weft_act *all, int64_t B, int64_t L, int64_t width);

/* Tails and halos [B*2, n] ([B, n] without cp: one chunk): n elements that chunk k hands to chunk k+1 of its
 * sequence (n = (K-1)*E). halo of chunk 0: zeros. */
void weft_pass_halo(weft_comm *c, weft_device *d, const char *tensor, weft_act *halo, const weft_act *tail,
                    int64_t B, int64_t n);
/* The dual: dtail of chunk k = dhalo of chunk k+1; of the last chunk: zeros. */
void weft_return_halo(weft_comm *c, weft_device *d, const char *tensor, weft_act *dtail,
                      const weft_act *dhalo, int64_t B, int64_t n);

/* all[cp][n] <- every member's block [n] of weft_real, block `rank` filled by the caller (n = 2*B*E*(N+1):
 * states, then sums of delta; see scan_carry in ops.h). */
void weft_gather_states(weft_comm *c, const char *tensor, weft_real *all, int64_t n);

#endif
