/* The scoring engine: documents with answers through forward passes. */
#include "train/suite/suite_quiz.h"

#include <stdlib.h>
#include <string.h>

/* ---- sheets ------------------------------------------------------------------------------------- */

static weft_status room_for_answers(weft_suite_sheet *s, size_t count) {
    if (count <= s->answers_capacity) return WEFT_OK;
    void *more = realloc(s->answers, count * sizeof *s->answers);
    if (!more) WEFT_FAIL(WEFT_ENOMEM, "no memory for %zu answers", count);
    s->answers = more;
    s->answers_capacity = count;
    return WEFT_OK;
}

weft_status weft_suite_sheet_fill(weft_suite_sheet *s, const weft_tokenizer *t, const char *text,
                                  size_t bytes, const weft_answer *answers, size_t count) {
    size_t tokens = 0, at = 0; /* at: bytes before token i */
    WEFT_TRY(room_for_answers(s, count));
    WEFT_TRY(weft_tokenizer_encode(t, text, bytes, &s->ids, &tokens, &s->ids_capacity));
    s->tokens = (int64_t)tokens;
    s->count = 0;
    s->answers_count = (int64_t)count;
    s->tag = 0;
    int64_t i = 0;
    for (size_t a = 0; a < count; a++) {
        while (i < s->tokens && at + (size_t)weft_tokenizer_piece_bytes(t, s->ids[i]) <= answers[a].begin)
            at += (size_t)weft_tokenizer_piece_bytes(t, s->ids[i++]);
        int64_t behind = i;
        for (size_t p = at; behind < s->tokens && p < answers[a].end; behind++)
            p += (size_t)weft_tokenizer_piece_bytes(t, s->ids[behind]);
        WEFT_CHECK(behind > i, "answer %zu of a document has no token", a);
        s->answers[a] = (weft_suite_answer){.first = i, .behind = behind};
        if (behind > s->count) s->count = behind;
    }
    return WEFT_OK;
}

static void free_sheets(weft_suite_sheet *sheets, int64_t count) {
    for (int64_t i = 0; sheets && i < count; i++) {
        free(sheets[i].ids);
        free(sheets[i].answers);
    }
    free(sheets);
}

/* ---- passes ------------------------------------------------------------------------------------- */

typedef struct scorer {
    weft_suite_job *job;
    int64_t sized_B, sized_T; /* what the device's arena was sized for */
    int64_t capacity;         /* of the following, in tokens */
    int32_t *tokens, *targets, *likeliest;
    weft_real *loss;
    weft_suite_sheet *sheets; /* [group, quiz's sheets] */
    int64_t *counts;          /* [group] sheets of each document */
    weft_suite_sheet **list;  /* those that are there, one behind the other */
} scorer;

static void scorer_free(scorer *s, const weft_suite_quiz *q) {
    free(s->tokens);
    free(s->targets);
    free(s->likeliest);
    free(s->loss);
    free_sheets(s->sheets, q->group * q->sheets);
    free(s->counts);
    free(s->list);
}

static weft_status scorer_init(scorer *s, weft_suite_job *j, const weft_suite_quiz *q) {
    size_t sheets = (size_t)q->group * (size_t)q->sheets;
    *s = (scorer){.job = j,
                  .sheets = calloc(sheets, sizeof *s->sheets),
                  .counts = calloc((size_t)q->group, sizeof *s->counts),
                  .list = calloc(sheets, sizeof(weft_suite_sheet *))};
    if (!s->sheets || !s->counts || !s->list)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for %zu documents at a time", sheets);
    return WEFT_OK;
}

/* Buffers and the device's arena for B sequences of T tokens. */
static weft_status scorer_size(scorer *s, int64_t B, int64_t T) {
    if (B * T > s->capacity) {
        size_t n = (size_t)(B * T);
        free(s->tokens), free(s->targets), free(s->likeliest), free(s->loss);
        s->tokens = malloc(n * sizeof *s->tokens);
        s->targets = malloc(n * sizeof *s->targets);
        s->likeliest = malloc(n * sizeof *s->likeliest);
        s->loss = malloc(n * sizeof *s->loss);
        s->capacity = 0;
        if (!s->tokens || !s->targets || !s->likeliest || !s->loss)
            WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld sequences of %lld tokens", (long long)B, (long long)T);
        s->capacity = B * T;
    }
    if (B <= s->sized_B && T <= s->sized_T) return WEFT_OK;
    int64_t rounded = (T + 255) / 256 * 256; /* the next documents are a little longer, or shorter */
    s->sized_B = s->sized_T = 0;
    WEFT_TRY(weft_modelfile_size(s->job->file, B, rounded));
    s->sized_B = B, s->sized_T = rounded;
    return WEFT_OK;
}

/* The likeliest token of each row that an answer needs. */
static void see_logits(void *of, const weft_block *b, const char *name, const weft_act *x, int64_t ld,
                       int64_t first, int64_t rows, int64_t width) {
    const scorer *s = of;
    if (b || strcmp(name, "logits") != 0) return;
    for (int64_t r = 0; r < rows; r++) {
        const weft_real *logits = (const weft_real *)x + r * ld;
        int32_t best = 0;
        if (s->targets[first + r] < 0) continue;
        for (int64_t v = 1; v < width; v++)
            if (logits[v] > logits[best]) best = (int32_t)v;
        s->likeliest[first + r] = best;
    }
}

/* Row t of a sequence holds the token before number t, and has it as its target. */
static void lay_out(scorer *s, weft_suite_sheet *const *sheets, int64_t B, int64_t T) {
    const weft_tokenizer *t = s->job->tokenizer;
    for (int64_t b = 0; b < B; b++) {
        const weft_suite_sheet *sheet = sheets[b];
        int32_t *tokens = s->tokens + b * T, *targets = s->targets + b * T;
        for (int64_t i = 0; i < T; i++) {
            tokens[i] = i == 0             ? weft_tokenizer_bos(t)
                        : i < sheet->count ? sheet->ids[i - 1]
                                           : weft_tokenizer_eos(t);
            targets[i] = -1;
        }
        for (int64_t a = 0; a < sheet->answers_count; a++)
            for (int64_t i = sheet->answers[a].first; i < sheet->answers[a].behind; i++)
                targets[i] = sheet->ids[i];
    }
}

static void read_off(const scorer *s, weft_suite_sheet *sheet, int64_t row) {
    for (int64_t a = 0; a < sheet->answers_count; a++) {
        weft_suite_answer *answer = &sheet->answers[a];
        answer->nll = 0;
        answer->right = true;
        answer->guess = s->likeliest[row + answer->first];
        for (int64_t i = answer->first; i < answer->behind; i++) {
            answer->nll += (double)s->loss[row + i];
            answer->right &= s->likeliest[row + i] == sheet->ids[i];
        }
    }
}

/* One forward pass. Shorter sequences are filled up behind their ends, which no causal model sees. */
static weft_status pass(scorer *s, weft_suite_sheet *const *sheets, int64_t B) {
    weft_modelfile *f = s->job->file;
    int64_t T = 1;
    for (int64_t b = 0; b < B; b++)
        if (sheets[b]->count > T) T = sheets[b]->count;
    WEFT_TRY(scorer_size(s, B, T));
    lay_out(s, sheets, B, T);
    weft_microbatch mb = {.B = B, .T = T, .tokens = s->tokens, .targets = s->targets};
    weft_watch before = f->model.watch;
    f->model.watch = (weft_watch){.inside = see_logits, .of = s};
    weft_model_losses(&f->model, &f->device, f->params, &mb, f->config.train.loss_chunk, s->loss);
    f->model.watch = before;
    for (int64_t b = 0; b < B; b++) read_off(s, sheets[b], b * T);
    return WEFT_OK;
}

static weft_status score(scorer *s, int64_t count) {
    const weft_suite *suite = s->job->suite;
    int64_t longest = 1;
    for (int64_t i = 0; i < count; i++)
        if (s->list[i]->count > longest) longest = s->list[i]->count;
    int64_t rows = suite->batch * s->job->file->config.train.seq_len / longest;
    rows = rows < 1 ? 1 : rows > suite->batch ? suite->batch : rows;
    for (int64_t at = 0; at < count; at += rows)
        WEFT_TRY(pass(s, s->list + at, count - at < rows ? count - at : rows));
    return WEFT_OK;
}

/* ---- documents ---------------------------------------------------------------------------------- */

static weft_status score_group(scorer *s, const weft_suite_quiz *q, int64_t setting, int64_t first,
                               int64_t documents, double *values) {
    int64_t count = 0;
    for (int64_t d = 0; d < documents; d++) {
        weft_suite_sheet *sheets = s->sheets + d * q->sheets;
        WEFT_TRY(q->fill(q->of, setting, first + d, sheets, &s->counts[d]));
        for (int64_t i = 0; i < s->counts[d]; i++) s->list[count++] = &sheets[i];
    }
    WEFT_TRY(score(s, count));
    for (int64_t d = 0; d < documents; d++)
        q->mark(q->of, setting, first + d, s->sheets + d * q->sheets, s->counts[d], values + d * q->each);
    return WEFT_OK;
}

/* Takes out the places behind the last document of each setting. */
static void close_gaps(double *values, const weft_suite_quiz *q, int64_t padded) {
    size_t bytes = (size_t)(q->documents * q->each) * sizeof *values;
    for (int64_t i = 1; i < q->settings; i++)
        memmove(values + i * q->documents * q->each, values + i * padded * q->each, bytes);
}

weft_status weft_suite_ask(weft_suite_job *j, const weft_suite_quiz *q, double **out) {
    int64_t per = (q->documents + q->group - 1) / q->group, groups = per * q->settings;
    double *values = calloc((size_t)(groups * q->group * q->each), sizeof *values);
    scorer s;
    weft_status st = scorer_init(&s, j, q);
    if (st == WEFT_OK && !values)
        st = weft_fail(WEFT_ENOMEM, "no memory for the results of %lld documents",
                       (long long)(q->settings * q->documents));
    for (int64_t g = j->world->rank; g < groups && st == WEFT_OK; g += j->world->size) {
        int64_t first = g % per * q->group, left = q->documents - first;
        st = score_group(&s, q, g / per, first, left < q->group ? left : q->group,
                         values + g * q->group * q->each);
    }
    scorer_free(&s, q);
    st = weft_world_agree(st);
    if (st == WEFT_OK) st = weft_suite_share(j, values, groups, q->group * q->each);
    if (st != WEFT_OK) {
        free(values);
        return st;
    }
    close_gaps(values, q, per * q->group);
    *out = values;
    return WEFT_OK;
}

/* ---- documents of the generator ----------------------------------------------------------------- */

weft_synthetic weft_suite_synthetic(const weft_suite_job *j, weft_synthetic_task task) {
    weft_synthetic o;
    weft_synthetic_defaults(&o, task);
    o.seed = (uint64_t)j->suite->seed;
    o.held_out = true;
    o.vocabulary = j->suite->vocabulary;
    return o;
}

uint64_t weft_suite_document(int64_t value, int64_t part, int64_t document) {
    return (uint64_t)value << 32 | (uint64_t)part << 24 | (uint64_t)document; /* of at most a million */
}
