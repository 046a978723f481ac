/* Shards: token ids of one domain in an HDF5 file, made once and read at random.
 *
 * Datasets
 *   tokens       [tokens] u16 (vocabulary up to 65536) or u32. Each document is BOS, its ids, EOS; neither
 *                id occurs elsewhere. Chunks of 65536 tokens, the last filled up with zeros; each chunk is
 *                one zstd frame with a checksum (filter 32015, so that any HDF5 with that filter reads the
 *                dataset too).
 *   chunk_index  [chunks, 3] u64: offset in the file, stored bytes, XXH3-64 of the stored bytes.
 *   doc_end      [documents] u64: index in tokens one past the document's EOS.
 *   doc_bytes    [documents] u32: bytes of the document's text.
 *   doc_origin   [documents, 4] u64: number of the source file in the manifest's list; place in it (line
 *                of jsonl, record of WARC, 0: the whole file); the document's id in the build; its
 *                near-duplicate cluster plus 1, or 0.
 *   masked       [ranges, 2] u64: first token, count, ascending: tokens that are read but no target
 *                (repeated substrings). May be empty. Ranges lie inside documents, never over BOS or EOS.
 * Attributes of the root: format, version, vocab_size, bos, eos, token_count, doc_count, byte_count, domain,
 * dtype, tokenizer, pipeline and content (32 hexadecimal digits each).
 *
 * The file starts with a user block (HDF5's room for others' bytes) that repeats the attributes and says
 * where all datasets but the tokens lie and what their XXH3-64 is. weft reads shards through it with pread
 * and zstd alone: damaged HDF5 structures can crash the HDF5 library, which is therefore used for writing
 * only. Little-endian throughout. */
#ifndef WEFT_SHARD_H
#define WEFT_SHARD_H

#include "data/source/source.h"
#include "runtime/hash.h"
#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

#define WEFT_SHARD_VERSION 2
#define WEFT_SHARD_CHUNK_TOKENS 65536

typedef struct weft_shard_info {
    char domain[WEFT_DOMAIN_NAME];
    int64_t vocab_size;
    int32_t bos, eos;       /* different, both below vocab_size */
    weft_hash128 tokenizer; /* digest of the tokenizer's model file */
    weft_hash128 pipeline;  /* digest of the options that made the shard */
    /* Set by weft_shard_writer_finish: */
    int64_t tokens, documents; /* tokens with BOS and EOS */
    int64_t bytes;             /* of text */
    int64_t chunks;
    /* XXH3-128 of each chunk's XXH3-64 (of the tokens, not of the frame), then doc_end, then masked: all that
     * training depends on. */
    weft_hash128 content;
} weft_shard_info;

typedef struct weft_shard_origin {
    uint64_t file, place, id, cluster; /* as in doc_origin */
} weft_shard_origin;

typedef struct weft_shard_range {
    uint64_t first, count; /* as in masked */
} weft_shard_range;

static inline size_t weft_shard_token_bytes(int64_t vocab_size) {
    return vocab_size <= 65536 ? 2 : 4;
}
static inline size_t weft_shard_chunk_bytes(int64_t vocab_size) {
    return WEFT_SHARD_CHUNK_TOKENS * weft_shard_token_bytes(vocab_size);
}

/* ---- writing ---- */
typedef struct weft_shard_writer weft_shard_writer;

/* Creates `path`, which must not exist. Uses the first five members of `info`. The bytes of the file depend
 * on the documents and `info` only, not on time or machine. One thread at a time for all writers together. */
weft_status weft_shard_writer_open(weft_shard_writer **out, const char *path, const weft_shard_info *info);
/* Appends BOS, ids, EOS. `masked`: ranges of its ids (0: the first behind BOS), ascending, without overlap,
 * none empty. WEFT_EINTERNAL for an id out of range or equal to BOS or EOS, and for other ranges. */
weft_status weft_shard_writer_add(weft_shard_writer *w, const int32_t *ids, size_t count, size_t text_bytes,
                                  const weft_shard_origin *origin, const weft_shard_range *masked,
                                  size_t masked_count);
/* Writes the rest, syncs, reads every chunk back and compares hashes. Frees the writer on success only; after
 * a failure of any of these, call weft_shard_writer_abandon. */
weft_status weft_shard_writer_finish(weft_shard_writer *w, weft_shard_info *info);
void weft_shard_writer_abandon(weft_shard_writer *w); /* removes the file; NULL is allowed */

/* ---- reading ---- */
typedef struct weft_shard weft_shard;

/* Reads and checks the user block and the chunk index. WEFT_EINPUT, with the file's name, when it is no
 * shard, or is truncated or damaged. The file is opened anew for each read, so that any number of shards
 * needs no descriptors. */
weft_status weft_shard_open(weft_shard **out, const char *path);
void weft_shard_close(weft_shard *s); /* NULL is allowed */
const weft_shard_info *weft_shard_about(const weft_shard *s);

/* What reading chunks needs besides the shard: one per thread, sized for any shard of that vocabulary. */
typedef struct weft_shard_decoder weft_shard_decoder;
weft_status weft_shard_decoder_new(weft_shard_decoder **out, int64_t vocab_size);
void weft_shard_decoder_free(weft_shard_decoder *d);

/* Decodes chunk `chunk` into `tokens`: weft_shard_chunk_bytes() bytes of u16 or u32. Its hash is checked
 * first. Allocates nothing. */
weft_status weft_shard_read_chunk(const weft_shard *s, int64_t chunk, weft_shard_decoder *d, void *tokens);

/* doc_end and doc_bytes in new memory, [documents] each; the caller frees. `bytes` NULL: only doc_end. */
weft_status weft_shard_read_documents(const weft_shard *s, uint64_t **ends, uint32_t **bytes);
/* doc_origin, [documents], in new memory; the caller frees. */
weft_status weft_shard_read_origins(const weft_shard *s, weft_shard_origin **origins);
/* Ranges in new memory; *count may be 0 (then *ranges is NULL). The caller frees. Ascending, without overlap,
 * none empty, none behind the last token. */
weft_status weft_shard_read_masked(const weft_shard *s, weft_shard_range **ranges, size_t *count);

/* The document that token `token` is of, its first token and its origin: a binary search in doc_end by pread,
 * so that it needs neither memory nor time in proportion to the shard. For the same reason hashes are not
 * checked here, only that the answer can be right. */
weft_status weft_shard_find(const weft_shard *s, uint64_t token, int64_t *document, uint64_t *first,
                            weft_shard_origin *origin);
/* The same by the document's number; *end: one past its last token. */
weft_status weft_shard_document(const weft_shard *s, int64_t document, uint64_t *first, uint64_t *end,
                                weft_shard_origin *origin);

#endif
