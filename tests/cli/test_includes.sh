# Includes run downwards only, and each foreign library is behind its one file.
source "$CLI_DIR/lib.sh"
cd "$SRC"

# FOLDER allowed-folders...: its sources include project headers of these folders only.
only() {
    local folder=$1 bad
    shift
    bad=$(grep -rnoE '#include "[a-z_0-9]+/[^"]*"' "$folder" --include=*.c --include=*.h --include=*.cpp --include=*.cu --include=*.cuh |
        grep -vE "#include \"($(IFS='|' && echo "$*"))/" || true)
    check "$folder includes only: $*" test -z "$bad" || printf '%s\n' "$bad"
}
only kernels runtime cpu cuda emulation
only parallel runtime parallel cuda
only model runtime parallel model
only data runtime data
only train runtime parallel model data train
check "kernels/runtime includes nothing above it" test -z "$(grep -rln '"cpu/\|"ops.h"' kernels/runtime)"

behind() { # HEADER files...
    local header=$1 found
    shift
    found=$(grep -rlE "#include [<\"]$header[>\"]" kernels parallel model data train | sort | tr '\n' ' ')
    check "$header is included by: $*" test "${found% }" = "$*"
}
behind mpi.h parallel/comm_mpi.c
behind hdf5.h data/shard/h5z_zstd.c data/shard/shard_hdf5.c train/ckpt_hdf5.c train/version.c
behind yaml.h kernels/runtime/yaml.c
behind cblas.h kernels/cpu/blas.h
behind nccl.h parallel/comm_nccl.c
check "the headers of CUDA, cuBLAS and cuDNN are included in kernels/cuda" test -z "$(
    grep -rlE '#include [<"](cuda|cublas|cudnn)[A-Za-z0-9_]*\.h[>"]' kernels parallel model data train | grep -v '^kernels/cuda/')"
check "kernels/cuda and kernels/cpu do not know each other" test -z "$(
    grep -rlE '#include "cpu/' kernels/cuda; grep -rlE '#include "cuda/' kernels/cpu)"
check "of kernels/cuda only the stream is known above" test "$(
    grep -roE '#include "cuda/[^"]*"' parallel model data train)" = 'parallel/comm_nccl.c:#include "cuda/stream.h"'
check "the emulation is included by cuda.cuh only" test "$(grep -rl '"emulation/' kernels)" = kernels/cuda/cuda.cuh
finish
