/* The generator's options, and a document's text and draws. */
#include "data/source/synthetic_private.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[WEFT_SYNTHETIC_TASKS] = {"recall", "copy", "needle", "labels"};

#define AT(member) offsetof(weft_synthetic, member)
const weft_synthetic_field weft_synthetic_fields[] = {
    {"pairs", WEFT_SYNTHETIC_RECALL, AT(pairs), {1, WEFT_SYNTHETIC_WORDS}, {4, 24}},
    {"words", WEFT_SYNTHETIC_COPY, AT(words), {2, 100000}, {8, 64}},
    {"sentences", WEFT_SYNTHETIC_NEEDLE, AT(sentences), {0, 1000000}, {10, 70}},
    {"needles", WEFT_SYNTHETIC_NEEDLE, AT(needles), {1, 64}, {2, 4}},
    {"classes", WEFT_SYNTHETIC_LABELS, AT(classes), {2, WEFT_SYNTHETIC_GROUPS}, {2, 4}},
    {"examples", WEFT_SYNTHETIC_LABELS, AT(examples), {2, 100000}, {8, 24}},
};
const int weft_synthetic_field_count = sizeof weft_synthetic_fields / sizeof *weft_synthetic_fields;

const char *weft_synthetic_name(weft_synthetic_task task) {
    return names[task];
}

int weft_synthetic_task_of(const char *name) {
    for (int i = 0; i < WEFT_SYNTHETIC_TASKS; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

void weft_synthetic_defaults(weft_synthetic *s, weft_synthetic_task task) {
    *s = (weft_synthetic){
        .task = task, .vocabulary = WEFT_SYNTHETIC_WORDS, .depth = -1, .random_labels = true};
    for (int i = 0; i < weft_synthetic_field_count; i++) {
        const weft_synthetic_field *f = &weft_synthetic_fields[i];
        memcpy((char *)s + f->offset, &f->preset, sizeof f->preset);
    }
}

weft_status weft_synthetic_check_range(const weft_synthetic_field *f, weft_range range, const char *where) {
    if (range.low > range.high || range.low < f->bounds.low || range.high > f->bounds.high)
        WEFT_FAIL(WEFT_EINPUT, "%s: %s is %lld-%lld; it must be a range within %lld-%lld", where, f->name,
                  (long long)range.low, (long long)range.high, (long long)f->bounds.low,
                  (long long)f->bounds.high);
    return WEFT_OK;
}

weft_status weft_synthetic_check(const weft_synthetic *s, const char *where) {
    for (int i = 0; i < weft_synthetic_field_count; i++) {
        const weft_synthetic_field *f = &weft_synthetic_fields[i];
        weft_range range;
        memcpy(&range, (const char *)s + f->offset, sizeof range);
        if (f->task == s->task) WEFT_TRY(weft_synthetic_check_range(f, range, where));
    }
    int64_t least = s->task == WEFT_SYNTHETIC_RECALL   ? s->pairs.high
                    : s->task == WEFT_SYNTHETIC_NEEDLE ? 2 * s->needles.high
                                                       : 2;
    if (least < 2) least = 2;
    if (s->vocabulary < least || s->vocabulary > WEFT_SYNTHETIC_WORDS)
        WEFT_FAIL(WEFT_EINPUT, "%s: vocabulary is %lld; for these documents it must be from %lld to %d",
                  where, (long long)s->vocabulary, (long long)least, WEFT_SYNTHETIC_WORDS);
    if (s->task == WEFT_SYNTHETIC_NEEDLE && !(s->depth <= 1))
        WEFT_FAIL(WEFT_EINPUT, "%s: depth is %g; it must be from 0 to 1, or below 0 to be drawn", where,
                  s->depth);
    return WEFT_OK;
}

/* ---- draws ---- */

uint64_t weft_making_below(weft_making *m, uint64_t bound) {
    return weft_rng_below(m->rng, m->next++, bound);
}

int64_t weft_making_from(weft_making *m, weft_range range) {
    return range.low + (int64_t)weft_making_below(m, (uint64_t)(range.high - range.low) + 1);
}

void weft_making_choose(weft_making *m, int count, int of, int *out) {
    int all[WEFT_SYNTHETIC_WORDS];
    for (int i = 0; i < of; i++) all[i] = i;
    for (int i = 0; i < count; i++) {
        int at = i + (int)weft_making_below(m, (uint64_t)(of - i));
        out[i] = all[at];
        all[at] = all[i];
    }
}

/* ---- text ---- */

/* Memory for one element more at least; NULL: there is none. */
static void *grow(void *data, size_t *capacity, size_t need, size_t size) {
    size_t more = *capacity ? 2 * *capacity : 1024;
    if (need <= *capacity) return data;
    if (more < need) more = need;
    data = realloc(data, more * size);
    if (data) *capacity = more;
    return data;
}

static weft_status append(weft_synthetic_document *d, const char *text) {
    size_t bytes = strlen(text);
    char *data = grow(d->text, &d->text_capacity, d->bytes + bytes + 1, 1);
    if (!data) WEFT_FAIL(WEFT_ENOMEM, "no memory for a synthetic document of %zu bytes", d->bytes + bytes);
    d->text = data;
    memcpy(d->text + d->bytes, text, bytes + 1);
    d->bytes += bytes;
    return WEFT_OK;
}

weft_status weft_making_text(weft_making *m, const char *text) {
    return append(m->d, text);
}

weft_status weft_making_word(weft_making *m, const char *word, bool answer) {
    weft_synthetic_document *d = m->d;
    size_t begin = d->bytes;
    WEFT_TRY(append(d, " "));
    WEFT_TRY(append(d, word));
    if (!answer) return WEFT_OK;
    weft_answer *answers = grow(d->answers, &d->answers_capacity, d->answers_count + 1, sizeof *answers);
    if (!answers) WEFT_FAIL(WEFT_ENOMEM, "no memory for %zu synthetic answers", d->answers_count + 1);
    d->answers = answers;
    d->answers[d->answers_count++] = (weft_answer){begin, d->bytes};
    return WEFT_OK;
}

/* A stream of random numbers for each document: its key is a draw from the stream of the task, the seed and
 * of what is held out. */
weft_status weft_synthetic_make(const weft_synthetic *s, uint64_t number, weft_synthetic_document *d) {
    static weft_status (*const tasks[WEFT_SYNTHETIC_TASKS])(weft_making *) = {
        weft_making_recall, weft_making_copy, weft_making_needle, weft_making_labels};
    weft_rng all = weft_rng_make(s->seed, s->held_out ? "synthetic, held out" : "synthetic");
    weft_rng task = weft_rng_make(all.key, names[s->task]);
    weft_making m = {.s = s, .d = d, .rng = {weft_rng_u64(task, number)}};
    d->bytes = d->answers_count = 0;
    d->choices_count = 0;
    return tasks[s->task](&m);
}

void weft_synthetic_free(weft_synthetic_document *d) {
    free(d->text);
    free(d->answers);
    *d = (weft_synthetic_document){0};
}
