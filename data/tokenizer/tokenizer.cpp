// Opening, encoding and decoding: SentencePiece behind a C interface.
//
// SentencePiece encodes about 4 MB/s, and less the longer the line. Here a text is cut wherever no piece of
// the vocabulary reaches across: between two bytes that stand side by side in no piece, as a letter and the
// space or newline behind it. No merge crosses such a place, so the ids are those of the whole text. The ids
// of short parts are kept in a small table, so that most of a text never reaches SentencePiece.
#include <sentencepiece_processor.h>

#include <bitset>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>

extern "C" {
#include "data/tokenizer/tokenizer_pieces.h"
#include "runtime/fs.h"
#include "runtime/log.h"
}

namespace {

constexpr std::string_view kSpace = "\xe2\x96\x81"; // U+2581, SentencePiece's mark for a space
constexpr size_t kMaxModel = size_t(1) << 30;
constexpr size_t kMaxText = size_t(1) << 30; // SentencePiece counts in int

// Words lately encoded, one slot a hash value. One cache serves one call at a time.
struct word_cache {
    static constexpr size_t kSlots = 1 << 15, kMaxText = 30, kMaxIds = 8;
    struct slot {
        uint8_t bytes = 0, count = 0; // bytes 0: empty
        char text[kMaxText];
        int32_t ids[kMaxIds];
    };
    std::vector<slot> slots = std::vector<slot>(kSlots);

    slot &of(std::string_view word) { return slots[weft_hash64(word.data(), word.size(), 0) & (kSlots - 1)]; }
};

// The ids of one call, in the caller's realloc'ed array.
struct id_buffer {
    int32_t *ids;
    size_t count, capacity;

    int32_t *grow(size_t n) {
        if (capacity - count < n) {
            size_t want = capacity + capacity / 2 + n + 64;
            auto *p = (int32_t *)realloc(ids, want * sizeof *ids);
            if (!p) throw std::bad_alloc();
            ids = p;
            capacity = want;
        }
        count += n;
        return ids + count - n;
    }
};

// Length of the UTF-8 character at s[0], 0 where there is none (RFC 3629: no overlong forms, no surrogates).
size_t utf8_length(const unsigned char *s, size_t n) {
    auto trail = [&](size_t i) { return i < n && (s[i] & 0xc0) == 0x80; };
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xc2) return 0;
    if (s[0] < 0xe0) return trail(1) ? 2 : 0;
    if (s[0] < 0xf0) {
        if (!trail(1) || !trail(2)) return 0;
        if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
        return 3;
    }
    if (s[0] > 0xf4 || !trail(1) || !trail(2) || !trail(3)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return 4;
}

// The text that a piece stands for.
std::string surface_of(std::string_view piece) {
    std::string text;
    for (size_t i = 0; i < piece.size();) {
        bool space = piece.substr(i, kSpace.size()) == kSpace;
        text += space ? ' ' : piece[i];
        i += space ? kSpace.size() : 1;
    }
    return text;
}

} // namespace

struct weft_tokenizer {
    sentencepiece::SentencePieceProcessor sp;
    std::string model;
    weft_hash128 digest = {};
    int32_t vocab_size = 0;
    int32_t byte_id[256];
    std::vector<std::string> surface; // by id: the text, empty for control tokens
    std::bitset<65536> joined;        // byte pairs that stand side by side in some piece
    mutable std::mutex lock;          // of idle
    mutable std::vector<std::unique_ptr<word_cache>> idle;

    weft_status load(const char *path, const void *data, size_t bytes);
    weft_status read_pieces(const char *path);
    weft_status check_round_trip(const char *path) const;
    void encode(std::string_view text, id_buffer &out) const;

  private:
    size_t part_end(std::string_view text, size_t from) const;
    void encode_part(std::string_view text, std::vector<int> &scratch, id_buffer &out) const;
    void encode_word(std::string_view word, word_cache &cache, std::vector<int> &scratch,
                     id_buffer &out) const;
};

static size_t pair_of(char first, char second) {
    return size_t((unsigned char)first) << 8 | (unsigned char)second;
}

// End of the part at `from` that is encoded on its own; `from` itself when a byte that is no UTF-8 or U+2581
// stands there.
size_t weft_tokenizer::part_end(std::string_view text, size_t from) const {
    size_t i = from;
    while (i < text.size() && (i == from || joined[pair_of(text[i - 1], text[i])])) {
        size_t length = utf8_length((const unsigned char *)text.data() + i, text.size() - i);
        if (length == 0 || text.substr(i, length) == kSpace) break;
        i += length;
    }
    return i;
}

void weft_tokenizer::encode_part(std::string_view text, std::vector<int> &scratch, id_buffer &out) const {
    auto status = sp.Encode(text, &scratch);
    WEFT_CHECK(status.ok(), "SentencePiece cannot encode %zu bytes: %s", text.size(), status.error_message());
    int32_t *ids = out.grow(scratch.size());
    for (size_t i = 0; i < scratch.size(); i++) ids[i] = scratch[i];
}

void weft_tokenizer::encode_word(std::string_view word, word_cache &cache, std::vector<int> &scratch,
                                 id_buffer &out) const {
    if (word.size() > word_cache::kMaxText) return encode_part(word, scratch, out);
    word_cache::slot &slot = cache.of(word);
    if (slot.bytes != word.size() || memcmp(slot.text, word.data(), word.size()) != 0) {
        size_t first = out.count;
        encode_part(word, scratch, out);
        if (out.count - first > word_cache::kMaxIds) return;
        slot.bytes = (uint8_t)word.size();
        slot.count = (uint8_t)(out.count - first);
        memcpy(slot.text, word.data(), word.size());
        memcpy(slot.ids, out.ids + first, slot.count * sizeof *slot.ids);
        return;
    }
    memcpy(out.grow(slot.count), slot.ids, slot.count * sizeof *slot.ids);
}

void weft_tokenizer::encode(std::string_view text, id_buffer &out) const {
    std::unique_ptr<word_cache> cache;
    std::vector<int> scratch;
    {
        std::lock_guard<std::mutex> guard(lock);
        if (!idle.empty()) {
            cache = std::move(idle.back());
            idle.pop_back();
        }
    }
    if (!cache) cache = std::make_unique<word_cache>();
    for (size_t i = 0; i < text.size();) {
        size_t end = part_end(text, i);
        if (end > i) {
            encode_word(text.substr(i, end - i), *cache, scratch, out);
            i = end;
        } else {
            size_t bytes = text.substr(i, kSpace.size()) == kSpace ? kSpace.size() : 1;
            for (size_t last = i + bytes; i < last; i++) *out.grow(1) = byte_id[(unsigned char)text[i]];
        }
    }
    std::lock_guard<std::mutex> guard(lock);
    idle.push_back(std::move(cache));
}

// Fills the tables, and refuses a model that lacks what weft needs.
weft_status weft_tokenizer::read_pieces(const char *path) {
    vocab_size = sp.GetPieceSize();
    if (sp.pad_id() < 0 || sp.bos_id() < 0 || sp.eos_id() < 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: the tokenizer lacks a padding, begin or end token; weft tokenizer train makes one "
                  "that has them",
                  path);
    for (int32_t &id : byte_id) id = -1;
    surface.resize((size_t)vocab_size);
    for (int32_t id = 0; id < vocab_size; id++) {
        const std::string &piece = sp.IdToPiece(id);
        if (sp.IsByte(id)) {
            unsigned value = (unsigned)strtoul(piece.c_str() + 3, nullptr, 16) & 255; // "<0x41>"
            byte_id[value] = id;
            surface[(size_t)id] = (char)value;
        } else if (!sp.IsControl(id) && !sp.IsUnknown(id)) {
            surface[(size_t)id] = surface_of(piece);
            const std::string &text = surface[(size_t)id];
            for (size_t i = 1; i < text.size(); i++) joined.set(pair_of(text[i - 1], text[i]));
        }
    }
    for (int value = 0; value < 256; value++)
        if (byte_id[value] < 0)
            WEFT_FAIL(WEFT_EINPUT,
                      "%s: the tokenizer has no piece for byte 0x%02X (it was trained without byte "
                      "fallback); weft tokenizer train makes one that has all 256",
                      path, value);
    return WEFT_OK;
}

// A dummy prefix, stripped spaces and normalisation show in these texts.
weft_status weft_tokenizer::check_round_trip(const char *path) const {
    static const char *const probes[] = {"a", " a", "  a  b  ", "\t a",
                                         "A\xcc\x8a \xef\xac\x81 \xe2\x84\xab \xef\xbc\xa1"};
    for (const char *probe : probes) {
        std::vector<int> ids;
        std::string back;
        if (sp.Encode(probe, &ids).ok())
            for (int id : ids) back += surface[(size_t)id];
        if (back != probe)
            WEFT_FAIL(WEFT_EINPUT,
                      "%s: the tokenizer changes text: \"%s\" comes back as \"%s\" (a prefix, stripped "
                      "spaces or normalisation); weft tokenizer train makes one that does not",
                      path, probe, back.c_str());
    }
    return WEFT_OK;
}

weft_status weft_tokenizer::load(const char *path, const void *data, size_t bytes) {
    model.assign((const char *)data, bytes);
    digest = weft_hash128_of(model.data(), model.size());
    if (bytes == 0) WEFT_FAIL(WEFT_EINPUT, "%s: empty, not a SentencePiece model", path);
    auto status = sp.LoadFromSerializedProto(model);
    if (!status.ok()) WEFT_FAIL(WEFT_EINPUT, "%s: not a SentencePiece model, or a damaged one", path);
    WEFT_TRY(read_pieces(path));
    return check_round_trip(path);
}

// No exception leaves the C interface: SentencePiece throws none of its own, but memory may run out.
extern "C" {

weft_status weft_tokenizer_open_model(weft_tokenizer **out, const char *name, const void *model,
                                      size_t bytes) {
    try {
        auto t = std::make_unique<weft_tokenizer>();
        WEFT_TRY(t->load(name, model, bytes));
        *out = t.release();
        return WEFT_OK;
    } catch (const std::exception &e) {
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for the tokenizer (%s)", name, e.what());
    }
}

weft_status weft_tokenizer_open(weft_tokenizer **out, const char *path) {
    struct stat info;
    bool is_dir = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    char *file = weft_format(is_dir ? "%s/tokenizer.model" : "%s", path), *data = nullptr;
    size_t bytes = 0;
    if (!file) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for a name", path);
    weft_status st = weft_fs_read_file(file, kMaxModel, &data, &bytes);
    if (st == WEFT_OK) st = weft_tokenizer_open_model(out, file, data, bytes);
    free(data);
    free(file);
    return st;
}

void weft_tokenizer_close(weft_tokenizer *t) {
    delete t;
}

int64_t weft_tokenizer_vocab_size(const weft_tokenizer *t) {
    return t->vocab_size;
}
int32_t weft_tokenizer_bos(const weft_tokenizer *t) {
    return t->sp.bos_id();
}
int32_t weft_tokenizer_eos(const weft_tokenizer *t) {
    return t->sp.eos_id();
}
int32_t weft_tokenizer_pad(const weft_tokenizer *t) {
    return t->sp.pad_id();
}
int32_t weft_tokenizer_unk(const weft_tokenizer *t) {
    return t->sp.unk_id();
}
weft_hash128 weft_tokenizer_digest(const weft_tokenizer *t) {
    return t->digest;
}

const void *weft_tokenizer_model(const weft_tokenizer *t, size_t *bytes) {
    *bytes = t->model.size();
    return t->model.data();
}

weft_status weft_tokenizer_encode(const weft_tokenizer *t, const char *text, size_t bytes, int32_t **ids,
                                  size_t *count, size_t *capacity) {
    if (bytes > kMaxText)
        WEFT_FAIL(WEFT_EINPUT, "a text of %zu bytes is too long to encode at once; the limit is %zu", bytes,
                  kMaxText);
    id_buffer out = {*ids, 0, *ids ? *capacity : 0};
    weft_status st = WEFT_OK;
    try {
        t->encode(std::string_view(text, bytes), out);
        *count = out.count;
    } catch (const std::exception &e) {
        st = weft_fail(WEFT_ENOMEM, "no memory to encode a text of %zu bytes (%s)", bytes, e.what());
    }
    *ids = out.ids; // realloc may have moved it, also when it failed later
    *capacity = out.capacity;
    return st;
}

weft_status weft_tokenizer_decode(const weft_tokenizer *t, const int32_t *ids, size_t count, char **text,
                                  size_t *bytes) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab_size)
            WEFT_FAIL(WEFT_EINPUT, "token id %d is outside the tokenizer's vocabulary of %d", (int)ids[i],
                      (int)t->vocab_size);
        total += t->surface[(size_t)ids[i]].size();
    }
    char *p = (char *)malloc(total + 1);
    if (!p) WEFT_FAIL(WEFT_ENOMEM, "no memory for a text of %zu bytes", total);
    *text = p;
    *bytes = total;
    for (size_t i = 0; i < count; i++) {
        const std::string &piece = t->surface[(size_t)ids[i]];
        memcpy(p, piece.data(), piece.size());
        p += piece.size();
    }
    *p = 0;
    return WEFT_OK;
}

int32_t weft_tokenizer_piece_bytes(const weft_tokenizer *t, int32_t id) {
    return (int32_t)t->surface[(size_t)id].size();
}

weft_piece weft_tokenizer_piece(const weft_tokenizer *t, int32_t id) {
    const std::string &piece = t->sp.IdToPiece(id);
    weft_piece_kind kind = t->sp.IsByte(id)                             ? WEFT_PIECE_BYTE
                           : t->sp.IsControl(id) || t->sp.IsUnknown(id) ? WEFT_PIECE_CONTROL
                                                                        : WEFT_PIECE_NORMAL;
    return {piece.c_str(), piece.size(), kind, t->sp.GetScore(id)};
}

} // extern "C"
