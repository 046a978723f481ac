#include "data/loader/loader_streams.h"

#include <stdlib.h>

static weft_status open_stream(weft_stream *s, const char *dir, const weft_manifest *m,
                               const weft_manifest_domain *domain, const weft_manifest_split *files) {
    s->shards = calloc((size_t)files->count + 1, sizeof *s->shards);
    s->start = calloc((size_t)files->count + 1, sizeof *s->start);
    if (!s->shards || !s->start) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", dir);
    for (int f = 0; f < files->count; f++) {
        WEFT_TRY(weft_manifest_open_shard(m, dir, domain, &files->files[f], &s->shards[f]));
        s->start[f + 1] = s->start[f] + weft_shard_about(s->shards[f])->tokens;
        s->count++;
    }
    return WEFT_OK;
}

weft_status weft_streams_open(weft_streams *s, const char *dir, const weft_manifest *m, int split) {
    *s = (weft_streams){.vocab_size = m->vocab_size};
    for (int d = 0; d < m->domain_count; d++) {
        s->count++;
        WEFT_TRY(open_stream(&s->of[d], dir, m, &m->domains[d], &m->domains[d].split[split]));
    }
    return WEFT_OK;
}

void weft_streams_close(weft_streams *s) {
    for (int d = 0; d < s->count; d++) {
        weft_stream *stream = &s->of[d];
        for (int i = 0; i < stream->count; i++) weft_shard_close(stream->shards[i]);
        free(stream->shards);
        free(stream->start);
    }
    *s = (weft_streams){0};
}

/* The last one that starts at or before `at`: a shard has at least one token. */
int weft_stream_shard(const weft_stream *s, int64_t at) {
    int low = 0, high = s->count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (s->start[middle] <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}
