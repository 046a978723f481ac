/* SentencePiece BPE tokenizer: byte fallback, digits as single tokens, no dummy prefix. */
#ifndef WEFT_TOKENIZER_H
#define WEFT_TOKENIZER_H

#include "runtime/hash.h"
#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weft_tokenizer weft_tokenizer;

/* `path`: a tokenizer.model, or a directory that holds one. Not collective. */
weft_status weft_tokenizer_open(weft_tokenizer **out, const char *path);
void weft_tokenizer_close(weft_tokenizer *t);

int64_t weft_tokenizer_vocab_size(const weft_tokenizer *t);
int32_t weft_tokenizer_bos(const weft_tokenizer *t);
int32_t weft_tokenizer_eos(const weft_tokenizer *t);
int32_t weft_tokenizer_pad(const weft_tokenizer *t);
/* XXH3-128 of the model file: shards, checkpoints and exports name it. */
weft_hash128 weft_tokenizer_digest(const weft_tokenizer *t);
/* The model file's bytes (borrowed). */
const void *weft_tokenizer_model(const weft_tokenizer *t, size_t *bytes);

/* Ids of `text`, without BOS and EOS. *ids is grown with realloc as needed (*capacity elements); the caller frees.
 * Thread-safe on one tokenizer. */
weft_status weft_tokenizer_encode(const weft_tokenizer *t, const char *text, size_t bytes, int32_t **ids,
                                  size_t *count, size_t *capacity);
/* Text of ids, control tokens left out; malloc'ed, zero-terminated, *bytes without the zero. */
weft_status weft_tokenizer_decode(const weft_tokenizer *t, const int32_t *ids, size_t count, char **text,
                                  size_t *bytes);
/* Bytes of text that token `id` stands for: 0 for control tokens, 1 for byte tokens. */
int32_t weft_tokenizer_piece_bytes(const weft_tokenizer *t, int32_t id);

typedef struct weft_tokenizer_training {
    int64_t vocab_size;         /* including 4 special tokens and 256 bytes */
    int64_t max_sample_bytes;   /* text that the trainer sees: documents drawn evenly up to this */
    uint64_t seed;
    int threads;
} weft_tokenizer_training;

/* Trains on the documents of the given files (any source that data/source.h reads) and writes into `out_dir`
 * (must not exist): tokenizer.model, tokenizer.json, tokenizer_config.json, special_tokens_map.json, all loadable
 * by transformers. Deterministic. */
weft_status weft_tokenizer_train(const weft_tokenizer_training *options, const char *const *files, int count,
                                 const char *out_dir);
/* Writes the four files of a trained tokenizer into an existing directory (export, checkpoints). */
weft_status weft_tokenizer_write_hf(const weft_tokenizer *t, const char *dir);

#endif
