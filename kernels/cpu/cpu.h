/* Inside of the CPU backend. Its sources are compiled once per instruction set (WEFT_ISA), so every external
 * name carries the set's name; these macros put it there. */
#ifndef WEFT_CPU_H
#define WEFT_CPU_H

#include "ops.h"

#ifndef WEFT_ISA
#error "WEFT_ISA is set by the build: native, v2, v3 or v4"
#endif
#define CPU_SYM3(a, b) a##_##b
#define CPU_SYM2(a, b) CPU_SYM3(a, b)
#define CPU_SYM(name) CPU_SYM2(name, WEFT_ISA)

/* cpu_linear_fwd -> cpu_linear_fwd_native, and so on: sources define plain `CPU_OP(linear_fwd)(...)`. */
#define CPU_OP(name) CPU_SYM(cpu_##name)

/* The types of the functions are those of the table. */
#define CPU_DECLARE(name) __typeof__(*((weft_ops *)0)->name) CPU_OP(name);
WEFT_OPS_LIST(CPU_DECLARE)
#undef CPU_DECLARE

/* A slice [*begin, *end) of n items for thread `who` of `of`, cut at multiples of `grain`. */
static inline void cpu_slice(int64_t n, int64_t grain, int who, int of, int64_t *begin, int64_t *end) {
    int64_t grains = (n + grain - 1) / grain;
    int64_t a = grains * who / of * grain, b = grains * (who + 1) / of * grain;
    *begin = a < n ? a : n;
    *end = b < n ? b : n;
}

#endif
