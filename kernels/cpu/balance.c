/* Load-balance loss: a few numbers, one thread. */
#include "cpu/cpu.h"

void CPU_OP(moe_balance)(weft_device *d, weft_real *dprob, double *loss, const int64_t *counts,
                         const weft_real *prob_sum, int64_t L, int64_t k, int64_t X, int64_t M,
                         weft_real coef) {
    if (d->dry) return;
    double rows = (double)L * (double)M, sum = 0;
    for (int64_t x = 0; x < X; x++) {
        double f = 0, p = 0;
        for (int64_t l = 0; l < L; l++) {
            for (int64_t s = 0; s < k; s++) f += (double)counts[(l * k + s) * X + x];
            p += (double)prob_sum[l * X + x];
        }
        f /= rows, p /= rows;
        sum += f * p;
        dprob[x] = (weft_real)((double)coef * (double)X * f / rows);
    }
    *loss = (double)X * sum;
}
