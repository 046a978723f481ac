/* The number types of the arithmetic.
 *
 * weft_real  what is always kept in full precision: parameters' gradients, optimizer state, A_log, D, dt
 * bias, norms' rstd, router probabilities, losses, scan states. float; double in the reference build
 *            (-DWEFT_REAL_IS_DOUBLE=1), which exists to check gradients by finite differences.
 * weft_act   activations and the working copy of the parameters. The element type is a property of the device
 *            (weft_device.act): equal to weft_real on the CPU, bf16 possible on a GPU. Hence `void`. */
#ifndef WEFT_REAL_H
#define WEFT_REAL_H

#include <stddef.h>
#include <stdint.h>

#ifndef WEFT_REAL_IS_DOUBLE
#define WEFT_REAL_IS_DOUBLE 0
#endif

#if WEFT_REAL_IS_DOUBLE
typedef double weft_real;
#define WEFT_REAL_DTYPE WEFT_F64
#else
typedef float weft_real;
#define WEFT_REAL_DTYPE WEFT_F32
#endif

typedef void weft_act;

typedef enum weft_dtype { WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16, WEFT_I32, WEFT_I64, WEFT_U8 } weft_dtype;

static inline size_t weft_dtype_size(weft_dtype t) {
    switch (t) {
    case WEFT_F64:
    case WEFT_I64:
        return 8;
    case WEFT_BF16:
    case WEFT_F16:
        return 2;
    case WEFT_U8:
        return 1;
    default:
        return 4;
    }
}

static inline const char *weft_dtype_name(weft_dtype t) {
    static const char *const names[] = {"float32", "float64", "bfloat16", "float16",
                                        "int32",   "int64",   "uint8"};
    return names[t];
}

/* y as act-typed array, element offset n: pointer arithmetic on weft_act goes through this. */
static inline weft_act *weft_act_at(weft_act *p, weft_dtype t, int64_t n) {
    return (char *)p + n * (int64_t)weft_dtype_size(t);
}
static inline const weft_act *weft_act_cat(const weft_act *p, weft_dtype t, int64_t n) {
    return (const char *)p + n * (int64_t)weft_dtype_size(t);
}

#endif
