#include "cpu/cpu.h"

#define CPU_STR2(x) #x
#define CPU_STR(x) CPU_STR2(x)
#define CPU_FIELD(op) .op = CPU_OP(op),

extern const weft_ops CPU_SYM(weft_ops_cpu);
const weft_ops CPU_SYM(weft_ops_cpu) = {.name = "cpu-" CPU_STR(WEFT_ISA), WEFT_OPS_LIST(CPU_FIELD)};
