/* Selective scan against the reference; the reference against finite differences; parts against the whole. */
#include "kernels/seq_case.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

static const scan_shape shapes[] = {
    /* B, T, E, N, state, documents, forward, gradient */
    {1, 1, 8, 16, 0, 0, 2e-6, 1e-5},     {2, 1, 24, 4, 1, 1, 2e-6, 1e-5},
    {2, 37, 24, 16, 1, 0, 2e-6, 1e-5},   {1, 65, 100, 16, 0, 9, 2e-6, 1e-5},
    {3, 32, 8, 1, 1, 0, 2e-6, 1e-5},     {1, 257, 24, 20, 1, 30, 2e-6, 1e-5},
    {2, 64, 100, 4, 0, 0, 2e-6, 1e-5},   {1, 300, 130, 16, 1, 50, 2e-6, 1e-5},
    {2, 4500, 5, 3, 1, 700, 4e-6, 2e-5}, {3, 61, 70, 16, 2, 40, 2e-6, 1e-5},
    {2, 37, 24, 5, 2, 300, 2e-6, 1e-5},
};

START_TEST(scan) {
    for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++) seq_scan(&shapes[i]);
}
END_TEST

static double loss(void *argument) {
    const ref_scan *a = argument;
    double sum = 0;
    ref_scan_fwd(a);
    for (int64_t i = 0; i < a->B * a->T * a->E; i++) sum += a->out[i] * a->dout[i];
    for (int64_t i = 0; i < a->B * a->E * a->N; i++) sum += a->hT[i] * a->dhT[i];
    return sum;
}

START_TEST(reference_has_its_gradient) {
    enum { B = 2, T = 9, E = 3, N = 2, M = B * T };
    seq_case c = {.seed = 40};
    int32_t *documents = seq_documents(41, B, T, 4, 5);
    ref_scan a = {.B = B, .T = T, .E = E, .N = N, .pos0 = 4, .doc_start = documents};
    seq_input(&c, &a.u, M, E, E, -1, 1);
    seq_input(&c, &a.dt, M, E, E, -2, 2);
    seq_input(&c, &a.z, M, E, E, -2, 2);
    seq_input(&c, &a.Bm, M, N, N, -1, 1);
    seq_input(&c, &a.Cm, M, N, N, -1, 1);
    seq_input(&c, &a.dt_bias, 1, E, E, -1, 1);
    a.dt_bias[2] = 25;
    seq_input(&c, &a.A_log, E, N, N, -2, 1);
    seq_input(&c, &a.D, 1, E, E, -1, 1);
    seq_input(&c, &a.h0, B * E, N, N, -1, 1);
    seq_input(&c, &a.dout, M, E, E, -1, 1);
    seq_input(&c, &a.dhT, B * E, N, N, -1, 1);
    double **outputs[] = {&a.y,  &a.out,      &a.du,     &a.ddt, &a.dz,  &a.dB,
                          &a.dC, &a.ddt_bias, &a.dA_log, &a.dD,  &a.dh0, &a.hT};
    for (int i = 0; i < 12; i++)
        seq_output(&c, "", outputs[i], M, E * N, E * N, 0); /* large enough for each */
    ref_scan_fwd(&a);
    ref_scan_bwd(&a);
    seq_finite_difference(loss, &a, a.u, a.du, M * E, "u");
    seq_finite_difference(loss, &a, a.dt, a.ddt, M * E, "dt");
    seq_finite_difference(loss, &a, a.z, a.dz, M * E, "z");
    seq_finite_difference(loss, &a, a.Bm, a.dB, M * N, "B");
    seq_finite_difference(loss, &a, a.Cm, a.dC, M * N, "C");
    seq_finite_difference(loss, &a, a.dt_bias, a.ddt_bias, E, "dt_bias");
    seq_finite_difference(loss, &a, a.A_log, a.dA_log, E * N, "A_log");
    seq_finite_difference(loss, &a, a.D, a.dD, E, "D");
    seq_finite_difference(loss, &a, a.h0, a.dh0, B * E * N, "h0");
    seq_free(&c);
    free(documents);
}
END_TEST

/* Tokens 0 .. CUT and CUT .. T, the state handed on, against all T at once. */
enum { T = 150, CUT = 70, E = 40, N = 16 };

static weft_real *random_rows(seq_case *c, int64_t rows, int64_t width, double low, double high) {
    double *unused;
    return seq_input(c, &unused, rows, width, width, low, high);
}

START_TEST(parts_make_the_whole) {
    weft_device d;
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, 8 << 20), WEFT_OK);
    seq_case c = {.seed = 42};
    int32_t *documents = seq_documents(43, 1, T, 0, 100);
    const weft_real *u = random_rows(&c, T, E, -1, 1), *dt = random_rows(&c, T, E, -4, 1);
    const weft_real *z = random_rows(&c, T, E, -2, 2), *Bm = random_rows(&c, T, N, -1, 1);
    const weft_real *Cm = random_rows(&c, T, N, -1, 1), *dout = random_rows(&c, T, E, -1, 1);
    weft_scan a = {.B = 1,
                   .T = T,
                   .E = E,
                   .N = N,
                   .ldu = E,
                   .lddt = E,
                   .ldz = E,
                   .ldbc = N,
                   .ldy = E,
                   .u = u,
                   .dt = dt,
                   .z = z,
                   .Bm = Bm,
                   .Cm = Cm,
                   .dout = dout,
                   .doc_start = documents};
    a.dt_bias = random_rows(&c, 1, E, -1, 1);
    a.A_log = random_rows(&c, E, N, -1, 2);
    a.D = random_rows(&c, 1, E, -1, 1);
    weft_scan w = a, p = a, q = a; /* whole, first part, second part */
    static weft_real y[2][T * E], out[2][T * E], states[3][(T / WEFT_SCAN_CHUNK + 1) * E * N], h[E * N],
        hT[2][E * N];
    static weft_real du[2][T * E], ddt[2][T * E], dz[2][T * E], dB[2][T * N], dC[2][T * N], dh[E * N];
    static weft_real ddt_bias[2][E], dA_log[2][E * N], dD[2][E];
    w.y = y[0], w.out = out[0], w.states = states[0], w.hT = hT[0];
    p.T = CUT, p.y = y[1], p.out = out[1], p.states = states[1], p.hT = h;
    q.T = T - CUT, q.pos0 = CUT, q.doc_start = documents + CUT, q.h0 = h, q.hT = hT[1], q.states = states[2];
    q.u = u + CUT * E, q.dt = dt + CUT * E, q.z = z + CUT * E, q.Bm = Bm + CUT * N, q.Cm = Cm + CUT * N;
    q.dout = dout + CUT * E, q.y = y[1] + CUT * E, q.out = out[1] + CUT * E;
    d.ops->scan_fwd(&d, &w);
    d.ops->scan_fwd(&d, &p);
    d.ops->scan_fwd(&d, &q);
    ck_assert_mem_eq(y[0], y[1], sizeof y[0]);
    ck_assert_mem_eq(out[0], out[1], sizeof out[0]);
    ck_assert_mem_eq(hT[0], hT[1], sizeof hT[0]);

    w.du = du[0], w.ddt = ddt[0], w.dz = dz[0], w.dB = dB[0], w.dC = dC[0];
    w.ddt_bias = ddt_bias[0], w.dA_log = dA_log[0], w.dD = dD[0];
    p.du = du[1], p.ddt = ddt[1], p.dz = dz[1], p.dB = dB[1], p.dC = dC[1], p.dhT = dh;
    q.du = du[1] + CUT * E, q.ddt = ddt[1] + CUT * E, q.dz = dz[1] + CUT * E, q.dB = dB[1] + CUT * N;
    q.dC = dC[1] + CUT * N, q.dh0 = dh;
    p.ddt_bias = q.ddt_bias = ddt_bias[1], p.dA_log = q.dA_log = dA_log[1], p.dD = q.dD = dD[1];
    d.ops->scan_bwd(&d, &w);
    d.ops->scan_bwd(&d, &q);
    d.ops->scan_bwd(&d, &p);
    ck_assert_mem_eq(du[0], du[1], sizeof du[0]);
    ck_assert_mem_eq(ddt[0], ddt[1], sizeof ddt[0]);
    ck_assert_mem_eq(dz[0], dz[1], sizeof dz[0]);
    ck_assert_mem_eq(dB[0], dB[1], sizeof dB[0]);
    ck_assert_mem_eq(dC[0], dC[1], sizeof dC[0]);
    for (int i = 0; i < E; i++) { /* summed in another order */
        ck_assert_double_le(fabs((double)(ddt_bias[0][i] - ddt_bias[1][i])), 1e-4);
        ck_assert_double_le(fabs((double)(dD[0][i] - dD[1][i])), 1e-4);
    }
    for (int i = 0; i < E * N; i++) ck_assert_double_le(fabs((double)(dA_log[0][i] - dA_log[1][i])), 1e-4);
    seq_free(&c);
    free(documents);
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("scan", scan, reference_has_its_gradient, parts_make_the_whole)
