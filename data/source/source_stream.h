/* The bytes of a file, or of what a .gz or .zst file holds. Private to data/source. */
#ifndef WEFT_SOURCE_STREAM_H
#define WEFT_SOURCE_STREAM_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

typedef enum weft_packing { WEFT_PLAIN, WEFT_GZIP, WEFT_ZSTD } weft_packing;

typedef struct weft_stream weft_stream;

weft_status weft_stream_open(weft_stream **out, const char *path, weft_packing packing);
void weft_stream_close(weft_stream *s); /* NULL is allowed */
/* Up to `capacity` bytes; fewer only at the end of the data. Several gzip members or zstd frames in a row are
 * one stream. Where packed data are damaged or end too early, and where the file cannot be read on, the data
 * end. */
size_t weft_stream_read(weft_stream *s, void *data, size_t capacity);
/* NULL, or why the data ended before their end, with the byte of the file; *status: WEFT_EINPUT, or WEFT_EIO
 * for a read error. */
const char *weft_stream_damage(const weft_stream *s, weft_status *status);

#endif
