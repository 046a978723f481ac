/* Writes a Hugging Face directory: everything into DIR.tmp.<pid>, synced, then one rename. */
#include "data/tokenizer/tokenizer.h"
#include "runtime/fs.h"
#include "train/hf_files.h"
#include "train/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHARD_NAME = 64 };

/* ---- weights ------------------------------------------------------------------------------------------ */

static int64_t tensor_bytes(const weft_hf_tensor *t, weft_dtype dtype) {
    return t->numel * (int64_t)weft_dtype_size(dtype);
}

/* How many tensors from `first` on fit into one file; one is always taken. */
static int64_t shard_length(const weft_hf_tensors *t, int64_t first, weft_dtype dtype, int64_t max_bytes) {
    int64_t bytes = 0, i = first;
    for (; i < t->count; i++) {
        bytes += tensor_bytes(&t->list[i], dtype);
        if (bytes > max_bytes && i > first) break;
    }
    return i - first;
}

static weft_status write_rows(weft_st_writer *w, const weft_hf_tensor *list, int64_t count,
                              const weft_real *flat) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < list[i].count; k++) {
            const weft_param *row = list[i].rows[k];
            WEFT_TRY(weft_st_append(w, flat + row->at, row->numel));
        }
    return WEFT_OK;
}

static weft_status write_shard(const char *path, const weft_hf_tensor *list, int64_t count,
                               const weft_real *flat, weft_dtype dtype) {
    weft_st_decl *decls = calloc((size_t)count + 1, sizeof *decls);
    if (!decls) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for its list of tensors", path);
    for (int64_t i = 0; i < count; i++) {
        decls[i].name = list[i].name;
        decls[i].ndim = list[i].ndim;
        memcpy(decls[i].shape, list[i].shape, sizeof list[i].shape);
    }
    weft_st_writer *w = NULL;
    weft_status status = weft_st_create(&w, path, dtype, decls, count);
    free(decls);
    WEFT_TRY(status);
    status = write_rows(w, list, count, flat);
    if (status != WEFT_OK) {
        weft_st_abandon(w);
        return status;
    }
    return weft_st_finish(w);
}

/* Adds the shard's tensors to the index. */
static bool index_shard(json_t *map, const weft_hf_tensor *list, int64_t count, const char *name) {
    for (int64_t i = 0; i < count; i++)
        if (json_object_set_new(map, list[i].name, json_string(name)) != 0) return false;
    return true;
}

static weft_status write_weights(const char *dir, const weft_hf_tensors *t, const weft_real *flat,
                                 weft_dtype dtype, int64_t max_bytes) {
    int64_t shards = 0, total = 0;
    for (int64_t first = 0; first < t->count; shards++) first += shard_length(t, first, dtype, max_bytes);
    for (int64_t i = 0; i < t->count; i++) total += tensor_bytes(&t->list[i], dtype);
    json_t *map = json_object();
    weft_status status = WEFT_OK;
    int64_t first = 0;
    for (int64_t s = 1; s <= shards && status == WEFT_OK; s++) {
        char name[SHARD_NAME] = WEFT_HF_SINGLE;
        int64_t count = shard_length(t, first, dtype, max_bytes);
        if (shards > 1)
            snprintf(name, sizeof name, "model-%05lld-of-%05lld.safetensors", (long long)s,
                     (long long)shards);
        char *path = weft_format("%s/%s", dir, name);
        if (!path || !map || !index_shard(map, t->list + first, count, name))
            status = weft_fail(WEFT_ENOMEM, "%s/%s: no memory to write it", dir, name);
        else
            status = write_shard(path, t->list + first, count, flat, dtype);
        free(path);
        first += count;
    }
    if (status == WEFT_OK && shards > 1)
        status = weft_hf_write_json(
            dir, WEFT_HF_INDEX,
            json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)total, "weight_map", map));
    json_decref(map);
    return status;
}

static weft_status write_tokenizer(const char *dir, const weft_model_config *m, const char *tokenizer_dir) {
    weft_tokenizer *t = NULL;
    WEFT_TRY(weft_tokenizer_open(&t, tokenizer_dir));
    weft_status status = WEFT_OK;
    if (weft_tokenizer_vocab_size(t) > m->vocab_size)
        status = weft_fail(WEFT_EINPUT,
                           "%s: has %lld tokens, the model's vocabulary only %lld; is it another model's?",
                           tokenizer_dir, (long long)weft_tokenizer_vocab_size(t), (long long)m->vocab_size);
    if (status == WEFT_OK) status = weft_tokenizer_write_hf(t, dir);
    weft_tokenizer_close(t);
    return status;
}

/* ---- the directory ------------------------------------------------------------------------------------ */

static weft_status fill(const char *temp, const weft_model_config *m, const weft_hf_tensors *tensors,
                        const weft_real *flat, weft_dtype dtype, int64_t max_shard_bytes,
                        const char *tokenizer_dir) {
    WEFT_TRY(weft_hf_write_config(temp, m, dtype));
    if (tokenizer_dir) WEFT_TRY(write_tokenizer(temp, m, tokenizer_dir));
    WEFT_TRY(write_weights(temp, tensors, flat, dtype, max_shard_bytes));
    return weft_fs_sync_dir(temp);
}

static weft_status export_to(const char *dir, const weft_model_config *m, const weft_hf_tensors *tensors,
                             const weft_real *flat, weft_dtype dtype, int64_t max_shard_bytes,
                             const char *tokenizer_dir) {
    struct stat st;
    if (lstat(dir, &st) == 0) WEFT_FAIL(WEFT_EINPUT, "%s: exists; remove it or choose another", dir);
    char *temp = weft_format("%s.tmp.%ld", dir, (long)getpid());
    if (!temp) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", dir);
    weft_status status = WEFT_OK;
    if (mkdir(temp, 0777) != 0) {
        status = weft_fail(WEFT_EIO, "%s: cannot be created: %s%s", temp, strerror(errno),
                           errno == EEXIST ? "; remove what an earlier export left" : "");
    } else {
        status = fill(temp, m, tensors, flat, dtype, max_shard_bytes, tokenizer_dir);
        if (status == WEFT_OK) status = weft_fs_publish_dir(temp, dir);
        if (status != WEFT_OK && lstat(temp, &st) == 0) weft_fs_remove_tree(temp);
    }
    free(temp);
    return status;
}

weft_status weft_hf_export(const char *dir, const weft_model_config *m, const weft_params *p,
                           const weft_real *flat, weft_dtype dtype, int64_t max_shard_bytes,
                           const char *tokenizer_dir) {
    if (dtype != WEFT_F32 && dtype != WEFT_BF16 && dtype != WEFT_F64)
        WEFT_FAIL(WEFT_EINPUT, "%s: weights are exported as float32, bfloat16 or float64, not %s", dir,
                  weft_dtype_name(dtype));
    if (max_shard_bytes < 1)
        WEFT_FAIL(WEFT_EINPUT, "%s: files of at most %lld bytes cannot be written", dir,
                  (long long)max_shard_bytes);
    WEFT_TRY(weft_hf_check_model(m));
    size_t length = strlen(dir);
    while (length > 1 && dir[length - 1] == '/') length--;
    char *plain = strndup(dir, length);
    if (!plain) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", dir);
    weft_hf_tensors tensors;
    weft_status status = weft_hf_group(&tensors, p);
    if (status == WEFT_OK) {
        status = export_to(plain, m, &tensors, flat, dtype, max_shard_bytes, tokenizer_dir);
        weft_hf_tensors_free(&tensors);
    }
    free(plain);
    return status;
}
