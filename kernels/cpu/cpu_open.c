/* Opens the CPU device: which of the compiled instruction sets, how many threads. */
#include "ops.h"
#include "runtime/log.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#ifdef WEFT_NATIVE
extern const weft_ops weft_ops_cpu_native;
#else
extern const weft_ops weft_ops_cpu_v2, weft_ops_cpu_v3, weft_ops_cpu_v4;
#endif

typedef struct isa {
    const char *name;
    const weft_ops *ops;
    bool runs_here;
} isa;

weft_status weft_device_open_cpu(weft_device *d) {
#ifdef WEFT_NATIVE
    const isa isas[] = {{"native", &weft_ops_cpu_native, true}};
#else
    __builtin_cpu_init();
    bool v3 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const isa isas[] = {
        {"v4", &weft_ops_cpu_v4, v4}, {"v3", &weft_ops_cpu_v3, v3}, {"v2", &weft_ops_cpu_v2, true}};
#endif
    const int count = (int)(sizeof isas / sizeof *isas);
    const char *wanted = getenv("WEFT_ISA");
    const isa *chosen = NULL;
    for (int i = 0; i < count && !chosen; i++)
        if (isas[i].runs_here && (!wanted || !*wanted || strcmp(wanted, isas[i].name) == 0))
            chosen = &isas[i];
    if (!chosen)
        WEFT_FAIL(WEFT_EINPUT,
                  "WEFT_ISA=%s: this binary or this processor does not have it; unset it to use \"%s\"",
                  wanted, isas[count - 1].name);
    *d = (weft_device){
        .name = "cpu", .ops = chosen->ops, .act_dtype = WEFT_REAL_DTYPE, .threads = omp_get_max_threads()};
    return WEFT_OK;
}

weft_clip weft_clip_of(double squared_norm, double max_norm) {
    double norm = sqrt(squared_norm);
    return (weft_clip){.norm = norm,
                       .scale = (weft_real)(max_norm > 0 && norm > max_norm ? max_norm / norm : 1),
                       .finite = isfinite(norm)};
}
