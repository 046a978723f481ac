/* The zstd filter of HDF5 (registered id 32015): h5py with hdf5plugin, or any HDF5 that finds that filter
 * through HDF5_PLUGIN_PATH, reads what it wrote. Its one parameter is the compression level. Frames carry a
 * checksum. */
#ifndef WEFT_H5Z_ZSTD_H
#define WEFT_H5Z_ZSTD_H

#include "runtime/status.h"

#define WEFT_H5Z_ZSTD 32015

/* Makes the filter known to this process's HDF5 library; may be called any number of times. */
weft_status weft_h5z_zstd_register(void);

#endif
