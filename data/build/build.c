#include "data/build/build.h"
#include "data/build/build_encode.h"
#include "data/build/build_split.h"
#include "data/source/source_json.h"
#include "runtime/fs.h"
#include "runtime/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct build {
    const weft_build_options *o;
    weft_tokenizer *tokenizer;
    char *out;  /* without slashes at the end */
    char *temp; /* NULL until it exists */
    weft_encoder *encoder;
    weft_encode_batch *batch; /* being filled, or NULL */
    weft_splitter splitter;
    weft_manifest manifest;
    weft_source_tally tally;
    uint64_t heldout_below;
    weft_build_progress progress;
} build;

/* ---- documents ---- */
static weft_status write_batch(build *b) {
    const weft_encode_batch *done;
    WEFT_TRY(weft_encoder_take(b->encoder, &done));
    for (int i = 0; i < done->count; i++) {
        const weft_encode_document *d = &done->documents[i];
        int split = d->hash < b->heldout_below ? WEFT_SPLIT_HELDOUT : WEFT_SPLIT_TRAIN;
        WEFT_TRY(weft_splitter_add(&b->splitter, d->domain, split, done->ids + d->ids, d->count, d->bytes));
        b->progress.documents++;
        b->progress.tokens += (int64_t)d->count + 2;
        b->progress.bytes += (int64_t)d->bytes;
    }
    if (b->o->progress) b->o->progress(&b->progress);
    return WEFT_OK;
}

static void submit(build *b) {
    if (!b->batch) return;
    weft_encoder_submit(b->encoder);
    b->batch = NULL;
}

static weft_status add_document(build *b, const weft_build_input *input, const weft_document *doc) {
    int domain;
    const char *name = input->domain[0] ? input->domain : doc->domain[0] ? doc->domain : WEFT_BUILD_DOMAIN;
    WEFT_TRY(weft_splitter_domain(&b->splitter, name, doc->file, &domain));
    if (!b->batch) {
        while (weft_encoder_full(b->encoder)) WEFT_TRY(write_batch(b));
        b->batch = weft_encoder_batch(b->encoder);
    }
    WEFT_TRY(weft_encode_batch_add(b->batch, domain, doc->text, doc->bytes));
    if (b->batch->text_bytes >= WEFT_ENCODE_BATCH_BYTES || b->batch->count == WEFT_ENCODE_BATCH_DOCUMENTS)
        submit(b);
    return WEFT_OK;
}

static weft_status read_input(build *b, const weft_build_input *input, weft_manifest_source *note) {
    weft_status st;
    weft_source *s;
    weft_document doc;
    bool end;
    weft_source_tally before = b->tally;
    WEFT_TRY(weft_source_open(&s, input->file, &b->tally));
    b->progress.file = input->file;
    for (;;) {
        WEFT_GOTO(st, done, weft_source_next(s, &doc, &end));
        if (end) break;
        weft_source_progress(s, &b->progress.done_bytes, &b->progress.total_bytes);
        WEFT_GOTO(st, done, add_document(b, input, &doc));
    }
    note->documents = b->tally.documents - before.documents;
    note->bytes = b->tally.bytes - before.bytes;
    note->malformed = b->tally.malformed - before.malformed;
    note->empty = b->tally.empty - before.empty;
    if (note->documents == 0) weft_warn("%s: no document in it", input->file);
done:
    weft_source_close(s);
    return st;
}

static weft_status read_inputs(build *b) {
    b->manifest.sources = calloc((size_t)b->o->input_count, sizeof *b->manifest.sources);
    if (!b->manifest.sources) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of files");
    for (int i = 0; i < b->o->input_count; i++) {
        const char *file = b->o->inputs[i].file;
        weft_manifest_source *note = &b->manifest.sources[b->manifest.source_count++];
        /* JSON is UTF-8; a file's name may be anything. */
        note->file =
            weft_format("%s", weft_utf8_valid(file, strlen(file)) ? file : "(a name that is not UTF-8)");
        if (!note->file) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of files");
        WEFT_TRY(read_input(b, &b->o->inputs[i], note));
    }
    submit(b);
    while (!weft_encoder_empty(b->encoder)) WEFT_TRY(write_batch(b));
    if (b->tally.documents == 0)
        WEFT_FAIL(WEFT_EINPUT, "the corpus is empty: no document in the %d file(s) given", b->o->input_count);
    return WEFT_OK;
}

/* ---- before and after ---- */
static weft_status check_options(const weft_build_options *o) {
    if (!(o->heldout >= 0 && o->heldout < 1))
        WEFT_FAIL(WEFT_EINPUT, "the held-out share is %g; it must be at least 0 and below 1", o->heldout);
    if (o->max_malformed < 0 || o->shard_tokens < 1 || o->threads < 1 || o->threads > 1024)
        WEFT_FAIL(WEFT_EINPUT, "the limit of malformed lines must not be negative, a shard has at least 1 "
                               "token, and there are 1 to 1024 threads");
    if (o->input_count < 1) WEFT_FAIL(WEFT_EINPUT, "no file of text is given");
    /* All names first: a mistyped one should not be found after an hour. */
    for (int i = 0; i < o->input_count; i++) {
        weft_source_tally none = {0};
        weft_source *s;
        WEFT_TRY(weft_source_open(&s, o->inputs[i].file, &none));
        weft_source_close(s);
    }
    return WEFT_OK;
}

static weft_status prepare(build *b) {
    static const char *const parts[] = {"tokenizer", "train", "heldout"};
    const weft_build_options *o = b->o;
    struct stat info;
    b->out = weft_format("%s", o->out);
    if (!b->out) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory", o->out);
    for (size_t n = strlen(b->out); n > 1 && b->out[n - 1] == '/'; n--) b->out[n - 1] = 0;
    if (lstat(b->out, &info) == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: exists already; remove it or choose another name", b->out);
    if (errno != ENOENT) WEFT_FAIL(WEFT_EIO, "%s: %s", b->out, strerror(errno));
    WEFT_TRY(weft_tokenizer_open(&b->tokenizer, o->tokenizer));
    char *temp = weft_format("%s.tmp.%ld", b->out, (long)getpid());
    if (!temp) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory", b->out);
    weft_status st = weft_fs_mkdir(temp);
    if (st != WEFT_OK) {
        free(temp);
        return st;
    }
    b->temp = temp;
    for (int i = 0; i < 3; i++) {
        char *path = weft_format("%s/%s", temp, parts[i]);
        st = path ? weft_fs_mkdir(path) : weft_fail(WEFT_ENOMEM, "%s: no memory", temp);
        if (st == WEFT_OK && i == 0) st = weft_tokenizer_write_hf(b->tokenizer, path);
        free(path);
        WEFT_TRY(st);
    }
    return WEFT_OK;
}

static weft_status describe(build *b) {
    weft_manifest *m = &b->manifest;
    char *pipeline = weft_format(
        "weft data %d; shard %d; BOS ids EOS; heldout %.17g of XXH3-64 seed %u; %lld tokens a shard",
        WEFT_MANIFEST_VERSION, WEFT_SHARD_VERSION, b->o->heldout, WEFT_ENCODE_SEED,
        (long long)b->o->shard_tokens);
    if (!pipeline) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory", b->out);
    m->vocab_size = weft_tokenizer_vocab_size(b->tokenizer);
    m->bos = weft_tokenizer_bos(b->tokenizer);
    m->eos = weft_tokenizer_eos(b->tokenizer);
    m->tokenizer = weft_tokenizer_digest(b->tokenizer);
    m->heldout = b->o->heldout;
    m->pipeline = weft_hash128_of(pipeline, strlen(pipeline));
    free(pipeline);
    int64_t *counts = calloc((size_t)m->vocab_size, sizeof *counts);
    if (!counts) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to count tokens", b->out);
    b->splitter = (weft_splitter){.dir = b->temp,
                                  .about = {.vocab_size = m->vocab_size,
                                            .bos = m->bos,
                                            .eos = m->eos,
                                            .tokenizer = m->tokenizer,
                                            .pipeline = m->pipeline},
                                  .shard_tokens = b->o->shard_tokens,
                                  .counts = counts,
                                  .manifest = m};
    b->heldout_below = (uint64_t)(b->o->heldout * 0x1p64);
    return WEFT_OK;
}

static weft_status check_splits(const build *b) {
    int64_t documents[WEFT_SPLITS] = {0};
    for (int d = 0; d < b->manifest.domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++) documents[s] += b->manifest.domains[d].split[s].documents;
    if (documents[WEFT_SPLIT_TRAIN] == 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "all %lld documents would be held out; give more documents or a smaller --heldout",
                  (long long)documents[WEFT_SPLIT_HELDOUT]);
    if (documents[WEFT_SPLIT_HELDOUT] == 0 && b->o->heldout > 0)
        weft_warn("none of the %lld documents is held out: there is nothing to evaluate on",
                  (long long)documents[WEFT_SPLIT_TRAIN]);
    return WEFT_OK;
}

static weft_status publish(build *b) {
    WEFT_TRY(weft_manifest_content(&b->manifest, &b->manifest.content));
    for (int s = 0; s < WEFT_SPLITS; s++) {
        char *path = weft_format("%s/%s", b->temp, weft_split_names[s]);
        weft_status st = path ? weft_fs_sync_dir(path) : weft_fail(WEFT_ENOMEM, "%s: no memory", b->temp);
        free(path);
        WEFT_TRY(st);
    }
    WEFT_TRY(weft_manifest_write(&b->manifest, b->temp));
    WEFT_TRY(weft_fs_sync_dir(b->temp));
    WEFT_TRY(weft_fs_publish_dir(b->temp, b->out));
    free(b->temp);
    b->temp = NULL;
    return WEFT_OK;
}

static weft_status run(build *b) {
    WEFT_TRY(check_options(b->o));
    WEFT_TRY(prepare(b));
    WEFT_TRY(describe(b));
    WEFT_TRY(weft_encoder_open(&b->encoder, b->tokenizer, b->o->threads));
    WEFT_TRY(read_inputs(b));
    WEFT_TRY(weft_splitter_finish(&b->splitter));
    WEFT_TRY(check_splits(b));
    return publish(b);
}

weft_status weft_data_build(const weft_build_options *o) {
    build b = {.o = o, .tally = {.max_malformed = o->max_malformed}};
    weft_status st = run(&b);
    weft_encoder_close(b.encoder);
    weft_splitter_abandon(&b.splitter);
    if (b.temp) weft_fs_remove_tree(b.temp);
    weft_manifest_free(&b.manifest);
    weft_tokenizer_close(b.tokenizer);
    free(b.splitter.counts);
    free(b.temp);
    free(b.out);
    return st;
}
