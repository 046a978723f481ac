/* `weft --version`: what this binary was built from and runs on. */
#include "train/commands.h"

#include <hdf5.h>
#include <stdio.h>
#include <zstd.h>

#include "parallel/world.h"
#include "runtime/device.h"

void weft_version_print(void) {
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    printf("weft %s (commit %s)\n", WEFT_VERSION, WEFT_COMMIT);
    printf("  compiler  %s\n",
#ifdef __clang__
           "clang " __clang_version__
#else
           "gcc " __VERSION__
#endif
    );
    printf("  BLAS      %s\n", WEFT_BLAS_NAME);
    printf("  MPI       %s\n", weft_world_library());
    printf("  HDF5      %u.%u.%u\n", major, minor, release);
    printf("  zstd      %s\n", ZSTD_versionString());
    printf("  CUDA      %s\n", *weft_cuda_version() ? weft_cuda_version() : "not built in");
}
