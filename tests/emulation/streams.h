/* The emulated streams, for the emulated runtime and libraries: work is queued and runs as late as its
 * ordering allows (streams.cpp). */
#ifndef WEFT_EMULATION_STREAMS_H
#define WEFT_EMULATION_STREAMS_H

#include <cstdint>
#include <cuda_runtime_api.h>
#include <functional>

/* Queues host code as if it were a kernel. `what` is kept by reference, for messages. */
void emu_enqueue(cudaStream_t stream, const char *what, std::function<void()> work);
/* Runs all that is queued on all streams, in the order in which it was queued, on this thread. */
void emu_run_all();
/* A small number, which no other open stream has. */
unsigned emu_stream_number(cudaStream_t stream);

/* `what` of the queued work that runs, or NULL. */
const char *emu_running();

/* Does the range lie within one allocation of cudaMalloc? An address at its end counts, of 0 bytes. */
bool emu_on_device(const void *p, size_t bytes);

/* From WEFT_SIMT_SEED. */
uint64_t emu_random_below(uint64_t n);

/* Ends the process with status 86 after "SIMT error: ", where it happened, and the message. */
[[noreturn]] void emu_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
