/* A tokenizer as its other files see it: pieces as SentencePiece stores them. Used by tokenizer*.c(pp) only.
 */
#ifndef WEFT_TOKENIZER_PIECES_H
#define WEFT_TOKENIZER_PIECES_H

#include "data/tokenizer/tokenizer.h"

typedef enum weft_piece_kind {
    WEFT_PIECE_NORMAL,
    WEFT_PIECE_CONTROL, /* pad, BOS, EOS, unknown: stand for no text */
    WEFT_PIECE_BYTE,
} weft_piece_kind;

typedef struct weft_piece {
    const char *text; /* UTF-8, a space as U+2581; borrowed from the tokenizer */
    size_t bytes;
    weft_piece_kind kind;
    float score; /* of two possible merges the one that makes the piece of higher score comes first */
} weft_piece;

weft_piece weft_tokenizer_piece(const weft_tokenizer *t, int32_t id);
int32_t weft_tokenizer_unk(const weft_tokenizer *t);

/* As weft_tokenizer_open, from a model's bytes (copied); `name` is for messages. */
weft_status weft_tokenizer_open_model(weft_tokenizer **out, const char *name, const void *model,
                                      size_t bytes);

#endif
