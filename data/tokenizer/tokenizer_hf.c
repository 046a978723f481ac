/* The files beside tokenizer.model with which transformers loads the tokenizer without SentencePiece.
 *
 * tokenizer.json describes the same BPE to the `tokenizers` library. SentencePiece merges the neighbours that
 * make the piece of the highest score, the leftmost first; `tokenizers` merges the pair of the lowest rank,
 * the leftmost first. So every way to make a piece out of two pieces is a merge, ranked by the score of the
 * piece made. */
#include "data/tokenizer/tokenizer_pieces.h"
#include "runtime/fs.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define SPACE "\xe2\x96\x81" /* U+2581 */

typedef struct merge {
    int32_t made;
    size_t left_bytes;
    float score; /* of the piece made */
} merge;

typedef struct merges {
    merge *list;
    size_t count, capacity;
} merges;

/* The better score first. The order of the ways to make one piece has shown in no text; the longer left part
 * goes first, since SentencePiece, from left to right, leaves the short rest of a run at the right. */
static int by_rank(const void *a, const void *b) {
    const merge *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->made != y->made) return x->made < y->made ? -1 : 1;
    return x->left_bytes > y->left_bytes ? -1 : x->left_bytes < y->left_bytes;
}

static bool is_normal(const weft_tokenizer *t, const json_t *vocab, const char *text, size_t bytes) {
    const json_t *id = json_object_getn(vocab, text, bytes);
    return id && weft_tokenizer_piece(t, (int32_t)json_integer_value(id)).kind == WEFT_PIECE_NORMAL;
}

static bool add_merge(merges *m, int32_t made, size_t left_bytes, float score) {
    if (m->count == m->capacity) {
        size_t capacity = m->capacity * 2 + 1024;
        merge *list = realloc(m->list, capacity * sizeof *list);
        if (!list) return false;
        m->list = list;
        m->capacity = capacity;
    }
    m->list[m->count++] = (merge){made, left_bytes, score};
    return true;
}

static bool find_merges(merges *m, const weft_tokenizer *t, const json_t *vocab) {
    for (int32_t id = 0; id < weft_tokenizer_vocab_size(t); id++) {
        weft_piece p = weft_tokenizer_piece(t, id);
        if (p.kind != WEFT_PIECE_NORMAL) continue;
        for (size_t left = 1; left < p.bytes; left++) {
            if ((p.text[left] & 0xc0) == 0x80) continue; /* inside a character */
            if (is_normal(t, vocab, p.text, left) && is_normal(t, vocab, p.text + left, p.bytes - left) &&
                !add_merge(m, id, left, p.score))
                return false;
        }
    }
    if (m->count > 0) qsort(m->list, m->count, sizeof *m->list, by_rank);
    return true;
}

static json_t *vocab_json(const weft_tokenizer *t) {
    json_t *vocab = json_object();
    for (int32_t id = 0; vocab && id < weft_tokenizer_vocab_size(t); id++) {
        weft_piece p = weft_tokenizer_piece(t, id);
        if (json_object_setn_new(vocab, p.text, p.bytes, json_integer(id)) != 0) {
            json_decref(vocab);
            return NULL;
        }
    }
    return vocab;
}

/* ["left right", ...]: no piece holds a space. */
static json_t *merges_json(const weft_tokenizer *t, const json_t *vocab) {
    merges m = {0};
    json_t *array = find_merges(&m, t, vocab) ? json_array() : NULL;
    for (size_t i = 0; array && i < m.count; i++) {
        weft_piece p = weft_tokenizer_piece(t, m.list[i].made);
        int left = (int)m.list[i].left_bytes;
        if (json_array_append_new(array, json_sprintf("%.*s %s", left, p.text, p.text + left)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    free(m.list);
    return array;
}

/* The control tokens in the form of tokenizer.json: an array whose members carry their id. */
static json_t *added_tokens(const weft_tokenizer *t) {
    json_t *array = json_array();
    for (int32_t id = 0; array && id < weft_tokenizer_vocab_size(t); id++) {
        weft_piece p = weft_tokenizer_piece(t, id);
        if (p.kind != WEFT_PIECE_CONTROL) continue;
        json_t *token = json_pack("{si ss sb sb sb sb sb}", "id", (int)id, "content", p.text, "single_word",
                                  0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
        if (json_array_append_new(array, token) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* The same in the form of tokenizer_config.json: an object with the ids as names. */
static json_t *added_tokens_decoder(const weft_tokenizer *t) {
    json_t *array = added_tokens(t), *object = json_object(), *token;
    size_t i;
    bool good = array && object;
    json_array_foreach(array, i, token) {
        char name[16];
        snprintf(name, sizeof name, "%d", (int)json_integer_value(json_object_get(token, "id")));
        good = good && json_object_set(object, name, token) == 0 && json_object_del(token, "id") == 0;
    }
    json_decref(array);
    if (good) return object;
    json_decref(object);
    return NULL;
}

static const char *text_of(const weft_tokenizer *t, int32_t id) {
    return weft_tokenizer_piece(t, id).text;
}

/* json_pack takes ownership of every "o", and gives NULL when one of them is NULL. */
static json_t *tokenizer_json(const weft_tokenizer *t) {
    const char *bos = text_of(t, weft_tokenizer_bos(t));
    json_t *vocab = vocab_json(t), *merges = vocab ? merges_json(t, vocab) : NULL;
    json_t *model =
        json_pack("{ss sn ss sn sn sb sb sb so so}", "type", "BPE", "dropout", "unk_token",
                  text_of(t, weft_tokenizer_unk(t)), "continuing_subword_prefix", "end_of_word_suffix",
                  "fuse_unk", 1, "byte_fallback", 1, "ignore_merges", 0, "vocab", vocab, "merges", merges);
    json_t *normalizer =
        json_pack("{ss s{ss} ss}", "type", "Replace", "pattern", "String", " ", "content", SPACE);
    json_t *post = json_pack(
        "{ss s[{s{ss si}} {s{ss si}}] s[{s{ss si}} {s{ss si}} {s{ss si}} {s{ss si}}] s{s{ss s[i] s[s]}}}",
        "type", "TemplateProcessing",                      //
        "single", "SpecialToken", "id", bos, "type_id", 0, //
        "Sequence", "id", "A", "type_id", 0,               //
        "pair", "SpecialToken", "id", bos, "type_id", 0,   //
        "Sequence", "id", "A", "type_id", 0,               //
        "SpecialToken", "id", bos, "type_id", 1,           //
        "Sequence", "id", "B", "type_id", 1,               //
        "special_tokens", bos, "id", bos, "ids", (int)weft_tokenizer_bos(t), "tokens", bos);
    json_t *decoder = json_pack("{ss s[{ss s{ss} ss} {ss} {ss}]}", "type", "Sequence", "decoders", //
                                "type", "Replace", "pattern", "String", SPACE, "content", " ",     //
                                "type", "ByteFallback", "type", "Fuse");
    return json_pack("{ss sn sn so so sn so so so}", "version", "1.0", "truncation", "padding",
                     "added_tokens", added_tokens(t), "normalizer", normalizer, "pre_tokenizer",
                     "post_processor", post, "decoder", decoder, "model", model);
}

/* The general class of tokenizer.json: LlamaTokenizer would build a normaliser of its own, which puts a space
 * in front (transformers 5) or wants SentencePiece (transformers 4 with add_prefix_space). */
static json_t *tokenizer_config(const weft_tokenizer *t) {
    return json_pack("{ss sb sb ss ss ss ss sb so}", "tokenizer_class", "PreTrainedTokenizerFast",
                     "add_bos_token", 1, "add_eos_token", 0, "bos_token", text_of(t, weft_tokenizer_bos(t)),
                     "eos_token", text_of(t, weft_tokenizer_eos(t)), "pad_token",
                     text_of(t, weft_tokenizer_pad(t)), "unk_token", text_of(t, weft_tokenizer_unk(t)),
                     "clean_up_tokenization_spaces", 0, "added_tokens_decoder", added_tokens_decoder(t));
}

static json_t *special_tokens_map(const weft_tokenizer *t) {
    return json_pack("{ss ss ss ss}", "bos_token", text_of(t, weft_tokenizer_bos(t)), "eos_token",
                     text_of(t, weft_tokenizer_eos(t)), "pad_token", text_of(t, weft_tokenizer_pad(t)),
                     "unk_token", text_of(t, weft_tokenizer_unk(t)));
}

static weft_status write_file(const char *dir, const char *name, const void *data, size_t bytes) {
    char *path = weft_format("%s/%s", dir, name);
    if (!path) WEFT_FAIL(WEFT_ENOMEM, "%s/%s: no memory to write it", dir, name);
    weft_status st = weft_fs_create_file(path, data, bytes);
    free(path);
    return st;
}

/* Takes `value`; NULL means that there was no memory for it. */
static weft_status write_json(const char *dir, const char *name, json_t *value) {
    char *text = value ? json_dumps(value, JSON_INDENT(1)) : NULL;
    json_decref(value);
    if (!text) WEFT_FAIL(WEFT_ENOMEM, "%s/%s: no memory to write it", dir, name);
    weft_status st = write_file(dir, name, text, strlen(text));
    free(text);
    return st;
}

weft_status weft_tokenizer_write_hf(const weft_tokenizer *t, const char *dir) {
    size_t bytes;
    const void *model = weft_tokenizer_model(t, &bytes);
    WEFT_TRY(write_file(dir, "tokenizer.model", model, bytes));
    WEFT_TRY(write_json(dir, "tokenizer.json", tokenizer_json(t)));
    WEFT_TRY(write_json(dir, "tokenizer_config.json", tokenizer_config(t)));
    WEFT_TRY(write_json(dir, "special_tokens_map.json", special_tokens_map(t)));
    return weft_fs_sync_dir(dir);
}
