/* SentencePiece BPE tokenizer: byte fallback, digits as single tokens, no dummy prefix, no normalisation.
 *
 * decode(encode(x)) == x for every string of bytes x, valid UTF-8 or not. Newlines, tabs, characters outside
 * the vocabulary, bytes that are no UTF-8, and the character U+2581 (SentencePiece's own mark for a space)
 * become byte tokens. No text yields a control token. On valid UTF-8 without U+2581 the ids are those of
 * SentencePiece and of transformers; there, U+2581 reads as a space. */
#ifndef WEFT_TOKENIZER_H
#define WEFT_TOKENIZER_H

#include "runtime/hash.h"
#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weft_tokenizer weft_tokenizer;

/* `path`: a tokenizer.model, or a directory that holds one. Refused with WEFT_EINPUT: a model that changes
 * text (dummy prefix, normalisation), or lacks the 256 bytes or one of pad, BOS, EOS. Not collective. */
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

/* Ids of `text` (at most 1 GiB), without BOS and EOS. *ids is grown with realloc as needed (*capacity
 * elements); the caller frees. Thread-safe on one tokenizer. With a tokenizer that weft trained, the parts of
 * a text that end at newlines encode, one after the other, to the ids of the whole. */
weft_status weft_tokenizer_encode(const weft_tokenizer *t, const char *text, size_t bytes, int32_t **ids,
                                  size_t *count, size_t *capacity);
/* Text of ids, control tokens left out; malloc'ed, zero-terminated, *bytes without the zero. An id outside
 * the vocabulary is WEFT_EINPUT. */
weft_status weft_tokenizer_decode(const weft_tokenizer *t, const int32_t *ids, size_t count, char **text,
                                  size_t *bytes);
/* Bytes of text that token `id` stands for: 0 for control tokens, 1 for byte tokens. Over the ids of a text
 * they sum to the text's bytes. `id` must lie in the vocabulary. */
int32_t weft_tokenizer_piece_bytes(const weft_tokenizer *t, int32_t id);

typedef struct weft_tokenizer_training {
    int64_t vocab_size;       /* including 4 special tokens and 256 bytes */
    int64_t max_sample_bytes; /* text that the trainer sees: documents are cut into blocks of a few lines, and
                               * blocks drawn evenly up to this */
    uint64_t seed;            /* of the draw */
} weft_tokenizer_training;

#define WEFT_TOKENIZER_SAMPLE_BYTES (INT64_C(16) << 20) /* a good max_sample_bytes for a small vocabulary */

/* Trains on the documents of the given files (any source that data/source/source.h reads) and writes into
 * `out_dir` (must not exist): tokenizer.model, tokenizer.json, tokenizer_config.json,
 * special_tokens_map.json, all loadable by transformers. Deterministic: the same model, byte for byte,
 * whatever the machine and the order of the documents. */
weft_status weft_tokenizer_train(const weft_tokenizer_training *options, const char *const *files, int count,
                                 const char *out_dir);
/* Writes the four files, synced, into an existing directory that has none of them (export, checkpoints); the
 * caller publishes or removes the directory. */
weft_status weft_tokenizer_write_hf(const weft_tokenizer *t, const char *dir);

#endif
