/* AdamW in one pass over its four arrays. */
#include "cpu/rows.h"

#include <math.h>
#include <omp.h>

V_INLINE vreal v_sqrt(vreal x) {
    for (int64_t i = 0; i < VLEN; i++)
#if WEFT_REAL_IS_DOUBLE
        x[i] = sqrt(x[i]);
#else
        x[i] = sqrtf(x[i]);
#endif
    return x;
}

void CPU_OP(adamw)(weft_device *d, weft_real *p, weft_act *p_act, const weft_real *g, weft_real *m,
                   weft_real *v, int64_t n, const weft_adamw *a) {
    if (d->dry || !a->clip->finite) return;
    WEFT_CHECK(!p_act, "activations are weft_real on the CPU: parameters need no second copy");
    /* In double, once: at step 1 and beta2 = 0.999 float would be off in the fifth digit. */
    double t = (double)a->step, b1 = a->beta1, b2 = a->beta2;
    vreal scale = v_set1(a->clip->scale), beta1 = v_set1(a->beta1), beta2 = v_set1(a->beta2);
    vreal rest1 = v_set1((weft_real)(1 - b1)), rest2 = v_set1((weft_real)(1 - b2));
    vreal fix1 = v_set1((weft_real)(1 / (1 - pow(b1, t)))), fix2 = v_set1((weft_real)(1 / (1 - pow(b2, t))));
    vreal eps = v_set1(a->eps), lr = v_set1(a->lr), decay = v_set1(a->weight_decay);
#pragma omp parallel num_threads(cpu_team(d, n))
    {
        int64_t i, end;
        cpu_slice(n, 1024, omp_get_thread_num(), omp_get_num_threads(), &i, &end);
        V_LOOP(j, l, end - i, {
            vreal grad = scale * v_load_n(g + i + j, l), param = v_load_n(p + i + j, l);
            vreal first = beta1 * v_load_n(m + i + j, l) + rest1 * grad;
            vreal second = beta2 * v_load_n(v + i + j, l) + rest2 * (grad * grad);
            v_store_n(m + i + j, first, l);
            v_store_n(v + i + j, second, l);
            vreal step = first * fix1 / (v_sqrt(second * fix2) + eps) + decay * param;
            v_store_n(p + i + j, param - lr * step, l);
        });
    }
}
