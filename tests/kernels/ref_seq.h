/* References in double precision for the operations along the sequence and for linear layers: plain loops
 * written from the formulas of ops.h. All arrays are dense; letters and meanings as there. Gradients are
 * assigned. */
#ifndef WEFT_TEST_REF_SEQ_H
#define WEFT_TEST_REF_SEQ_H

#include <stdint.h>

typedef struct ref_conv {
    int64_t B, T, E, K, pos0;
    const int32_t *doc_start;
    double *x, *w, *bias, *halo; /* bias, halo: or NULL */
    double *y, *halo_out;
    double *dy, *dx, *dhalo, *dw, *dbias; /* dhalo, dbias: only with halo, bias */
} ref_conv;
void ref_conv_fwd(const ref_conv *a);
void ref_conv_bwd(const ref_conv *a);

typedef struct ref_scan {
    int64_t B, T, E, N, pos0;
    const int32_t *doc_start;
    double *u, *dt, *z, *Bm, *Cm, *dt_bias, *A_log, *D, *h0; /* h0: or NULL */
    double *y, *out, *hT, *sigma;                            /* sigma: or NULL */
    double *dout, *dhT;                                      /* dhT: or NULL */
    double *du, *ddt, *dz, *dB, *dC, *ddt_bias, *dA_log, *dD, *dh0;
} ref_scan;
void ref_scan_fwd(const ref_scan *a);
void ref_scan_bwd(const ref_scan *a);

/* What scan_carry gives to all ranks: chunks in the order of the sequence. */
typedef struct ref_carry {
    int64_t B, E, N, chunks;
    int reverse;
    const double *S, *sigma, *A_log; /* [chunks,B,E,N], [chunks,B,E], [E,N] */
    double *out;                     /* [chunks,B,E,N] */
} ref_carry;
void ref_scan_carry(const ref_carry *a);

typedef struct ref_attention {
    int64_t B, Tq, Tk, H, G, d, q_pos0;
    const int32_t *doc_start;
    double scale;
    double *q, *k, *v, *o, *lse;
    double *dout, *dq, *dk, *dv;
} ref_attention;
void ref_attention_fwd(const ref_attention *a);
void ref_attention_bwd(const ref_attention *a);

/* x [B,T,heads,d] turned in place. */
void ref_rope(double *x, int64_t B, int64_t T, int64_t heads, int64_t d, double theta, int64_t pos0,
              const int32_t *doc_start, double sign);

/* c[m,n] += sum_k a[m,k] b[k,n], element (i,j) of a at a[i*a_row + j*a_col], of b likewise. */
void ref_matmul(double *c, const double *a, int64_t a_row, int64_t a_col, const double *b, int64_t b_row,
                int64_t b_col, int64_t m, int64_t n, int64_t k);

#endif
