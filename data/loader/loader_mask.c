#include "data/loader/loader_mask.h"

#include <stdlib.h>

static weft_status append(weft_mask *m, const weft_shard_range *ranges, size_t count, uint64_t start) {
    weft_shard_range *more = realloc(m->ranges, (m->count + count) * sizeof *more);
    if (!more) WEFT_FAIL(WEFT_ENOMEM, "no memory for %zu masked ranges", m->count + count);
    m->ranges = more;
    for (size_t i = 0; i < count; i++)
        m->ranges[m->count++] =
            (weft_shard_range){.first = start + ranges[i].first, .count = ranges[i].count};
    return WEFT_OK;
}

weft_status weft_mask_read(weft_mask *m, const weft_stream *s) {
    *m = (weft_mask){0};
    for (int i = 0; i < s->count; i++) {
        weft_shard_range *ranges;
        size_t count;
        WEFT_TRY(weft_shard_read_masked(s->shards[i], &ranges, &count));
        weft_status st = count > 0 ? append(m, ranges, count, (uint64_t)s->start[i]) : WEFT_OK;
        free(ranges);
        WEFT_TRY(st);
    }
    return WEFT_OK;
}

void weft_mask_free(weft_mask *m) {
    free(m->ranges);
    *m = (weft_mask){0};
}

int64_t weft_mask_apply(const weft_mask *m, int64_t first, int64_t count, int32_t *targets) {
    uint64_t from = (uint64_t)first, to = from + (uint64_t)count;
    size_t low = 0, high = m->count; /* the first range that ends behind `from` */
    int64_t masked = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (m->ranges[middle].first + m->ranges[middle].count > from)
            high = middle;
        else
            low = middle + 1;
    }
    for (; low < m->count && m->ranges[low].first < to; low++) {
        uint64_t end = m->ranges[low].first + m->ranges[low].count;
        uint64_t at = m->ranges[low].first > from ? m->ranges[low].first : from;
        for (; at < end && at < to; at++) {
            masked += targets[at - from] >= 0;
            targets[at - from] = -1;
        }
    }
    return masked;
}
