/* A device: where arrays live, which table of operations works on them, and how the host and it take turns.
 *
 * Two stacks of memory belong to it: `act`, which holds what the forward pass saves for the backward pass
 * and, on top of it, every workspace. With dry = true no array is touched: operations take their workspace
 * from the measuring arena and return. Running a step against a dry device gives the exact bytes that a step
 * needs; this is how `weft plan` and the trainer size the arenas.
 *
 * Streams. Operations are queued on d->stream and run there in the order in which they were queued; the host
 * goes on at once. The two streams know nothing of each other but what marks tell them: a mark names a point
 * of a stream; what is queued behind weft_wait_mark does not begin before that point is reached. On the CPU
 * everything is done when a call returns, so marks cost nothing and say nothing.
 *
 * The host reads and writes device memory only through weft_upload and weft_download, which are queued as
 * well: the host's array must be pinned (weft_host_memory), must not change before an upload is done, and
 * holds a download only when it is done (a mark tells). */
#ifndef WEFT_DEVICE_H
#define WEFT_DEVICE_H

#include "runtime/arena.h"
#include "runtime/real.h"
#include "runtime/status.h"

#include <stdbool.h>

struct weft_ops;
struct weft_driver;

typedef enum weft_stream { WEFT_STREAM_COMPUTE, WEFT_STREAM_COMM, WEFT_STREAMS } weft_stream;

typedef struct weft_device {
    const char *name;                 /* "cpu", "cuda" */
    const struct weft_ops *ops;       /* kernels/ops.h */
    const struct weft_driver *driver; /* below; NULL: memory is the host's, and nothing is queued */
    void *state;                      /* the driver's own */
    weft_dtype act_dtype;             /* element type behind weft_act */
    weft_stream stream;               /* that operations are queued on */
    int threads;                      /* host threads that the operations use */
    bool dry;
    weft_arena act;
} weft_device;

/* Opens the CPU: picks the widest instruction set that this binary holds and this processor has (WEFT_ISA in
 * the environment asks for a narrower one: "v2", "v3", "v4", "native"), and as many threads as
 * OMP_NUM_THREADS says. The act arena is left empty: see weft_device_size. Fails with WEFT_EINPUT when the
 * wanted ISA is not there. */
weft_status weft_device_open_cpu(weft_device *d);

typedef enum weft_attention_kernel {
    WEFT_ATTENTION_AUTO,  /* cuDNN where its plan builds and agrees with our kernel on a probe */
    WEFT_ATTENTION_CUDNN, /* or an error */
    WEFT_ATTENTION_WEFT
} weft_attention_kernel;

typedef struct weft_cuda_options {
    int local_rank; /* its GPU */
    weft_dtype act; /* WEFT_F32 or WEFT_BF16 */
    bool tf32;      /* products of float matrices in TF32 */
    bool dry;       /* for weft_device_measure only: needs no GPU */
    weft_attention_kernel attention;
} weft_cuda_options;

/* Opens a CUDA GPU (kernels/cuda). Fails with WEFT_EINPUT, saying why, when this binary has no CUDA backend,
 * or there is no GPU for local_rank. */
weft_status weft_device_open_cuda(weft_device *d, const weft_cuda_options *o);
/* How many GPUs this process can use; 0 without a CUDA backend, a driver or a GPU. Reports nothing. */
int weft_cuda_devices(void);
/* The toolkit that this binary was built with, "13.0" say; "emulated"; "" without a CUDA backend. */
const char *weft_cuda_version(void);

/* The act arena: measuring and dry (bytes == 0), or real with that many bytes. Replaces the one before. */
weft_status weft_device_measure(weft_device *d);
weft_status weft_device_size(weft_device *d, size_t act_bytes);
void weft_device_close(weft_device *d); /* also of a zeroed struct */

/* A point of a stream. */
typedef struct weft_mark {
    void *event;
} weft_mark;

/* What a device with memory of its own does for the functions below, which see to what concerns all kinds. */
typedef struct weft_driver {
    bool overlaps;                                                  /* the streams run at the same time */
    weft_status (*alloc)(weft_device *d, size_t bytes, void **out); /* reports nothing */
    void (*free)(weft_device *d, void *p);
    weft_status (*alloc_pinned)(weft_device *d, size_t bytes, void **out);
    void (*free_pinned)(weft_device *d, void *p);
    void (*upload)(weft_device *d, void *to, const void *pinned, size_t bytes);
    void (*download)(weft_device *d, void *pinned, const void *from, size_t bytes);
    weft_status (*mark_make)(weft_device *d, weft_mark *m);
    void (*mark_free)(weft_device *d, weft_mark *m);
    void (*mark)(weft_device *d, weft_mark *m);
    void (*wait_mark)(weft_device *d, const weft_mark *m);
    bool (*reached)(weft_device *d, const weft_mark *m);
    void (*finish)(weft_device *d);
    void (*close)(weft_device *d);
} weft_driver;

/* An arena in device memory, zeroed; WEFT_ENOMEM, reported, when it does not fit. */
weft_status weft_device_arena(weft_device *d, weft_arena *a, const char *name, size_t bytes);
void weft_device_arena_free(weft_device *d, weft_arena *a); /* also of a zeroed one, or a measuring one */
/* Memory of the host, zeroed, that uploads and downloads may use. */
weft_status weft_host_memory(weft_device *d, size_t bytes, void **out);
void weft_host_memory_free(weft_device *d, void *p);

static inline bool weft_device_on_host(const weft_device *d) { /* device memory is the host's */
    return !d->driver;
}
/* At once, of any host memory; slow: not within a step. WEFT_ENOMEM, reported, when there is no room to pass.
 */
weft_status weft_device_write(weft_device *d, void *to, const void *host, size_t bytes);
weft_status weft_device_read(weft_device *d, void *host, const void *from, size_t bytes);

/* Queued. On the CPU copies at once (nothing when both are the same place). On a dry device nothing. */
void weft_upload(weft_device *d, void *to, const void *pinned, size_t bytes);
void weft_download(weft_device *d, void *pinned, const void *from, size_t bytes);

/* Marks: made once, set as often as wanted (the last setting counts; one never set is reached). */
weft_status weft_mark_make(weft_device *d, weft_mark *m);
void weft_mark_free(weft_device *d, weft_mark *m);
void weft_mark_set(weft_device *d, weft_mark *m);        /* at the end of d->stream */
void weft_wait_mark(weft_device *d, const weft_mark *m); /* d->stream waits, not the host */
/* The host waits. While it does, and once after, `poll` (or NULL) is called with `of`: it may end the
 * process.
 */
void weft_host_wait(weft_device *d, const weft_mark *m);
void weft_device_set_poll(void (*poll)(void *of), void *of);
/* The host waits for all that is queued on both streams. */
void weft_device_finish(weft_device *d);

#endif
