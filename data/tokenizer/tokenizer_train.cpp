// Training a tokenizer: an even sample of the documents' text, given to SentencePiece line by line.
//
// A newline is never part of a piece: lines are what SentencePiece trains on, and in a text a newline becomes
// the byte token 0x0A. Runs of up to 16 spaces can be pieces, as indented code needs.
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <unistd.h>

extern "C" {
#include "data/source/source.h"
#include "data/tokenizer/tokenizer_pieces.h"
#include "runtime/fs.h"
#include "runtime/log.h"
}

namespace {

constexpr size_t kBlock = 4096;       // a document is cut at the first line end behind this many bytes ...
constexpr size_t kMaxBlock = 65536;   // ... or here
constexpr size_t kMaxSentence = 4096; // SentencePiece drops longer ones (its max_sentence_length)
constexpr int64_t kMinVocab = 4 + 256 + 1, kMaxVocab = 1 << 20;

struct block {
    uint64_t key;
    std::string text;
    bool operator<(const block &other) const { return key < other.key; }
};

// `at`, moved back to where a UTF-8 character begins.
size_t character_start(std::string_view text, size_t at) {
    while (at > 0 && at < text.size() && (text[at] & 0xc0) == 0x80) at--;
    return at;
}

// SentencePiece drops or misreads sentences that hold one of its own marks: they end a sentence here.
void cut_at(std::string &text, std::string_view mark) {
    for (size_t i = 0; (i = text.find(mark, i)) != std::string::npos;) text.replace(i, mark.size(), "\n");
}

// The blocks with the smallest keys that fit. A key is a hash of the block, its document and the seed, so
// that the choice depends neither on the order of the documents nor on how long ones and short ones mix.
class text_sample {
  public:
    text_sample(size_t limit, uint64_t seed) : limit_(limit), seed_(seed) {}

    void add_document(std::string_view text) {
        uint64_t seed = seed_ ^ weft_hash64(text.data(), text.size(), 0);
        while (!text.empty()) {
            size_t end = text.size() > kBlock ? text.find('\n', kBlock) : std::string_view::npos;
            end = end == std::string_view::npos ? text.size() : end + 1;
            if (end > kMaxBlock) end = character_start(text, kMaxBlock);
            add_block(text.substr(0, end), seed);
            text.remove_prefix(end);
        }
    }

    // In the order of the keys.
    const std::vector<block> &blocks() {
        std::sort(blocks_.begin(), blocks_.end());
        return blocks_;
    }
    size_t bytes() const { return bytes_; }

  private:
    void add_block(std::string_view text, uint64_t seed) {
        uint64_t key = weft_hash64(text.data(), text.size(), seed);
        if (key >= refused_) return;
        blocks_.push_back({key, std::string(text)});
        std::push_heap(blocks_.begin(), blocks_.end());
        bytes_ += text.size();
        while (bytes_ > limit_) {
            std::pop_heap(blocks_.begin(), blocks_.end());
            bytes_ -= blocks_.back().text.size();
            refused_ = blocks_.back().key;
            blocks_.pop_back();
        }
    }

    size_t limit_, bytes_ = 0;
    uint64_t seed_, refused_ = UINT64_MAX; // the smallest key that did not fit
    std::vector<block> blocks_;            // a heap, the largest key first
};

// The lines of the blocks, long ones in parts, as SentencePiece asks for them.
class line_iterator : public sentencepiece::SentenceIterator {
  public:
    explicit line_iterator(const std::vector<block> &blocks) : blocks_(blocks) { Next(); }

    bool done() const override { return done_; }
    const std::string &value() const override { return line_; }
    sentencepiece::util::Status status() const override { return {}; }

    void Next() override {
        line_.clear();
        while (line_.empty()) {
            while (at_ == text_.size()) {
                if (next_ == blocks_.size()) {
                    done_ = true;
                    return;
                }
                text_ = blocks_[next_++].text;
                for (std::string_view mark : {"\xe2\x96\x81" /* space */, "\xe2\x96\x85" /* unknown */})
                    cut_at(text_, mark);
                cut_at(text_, std::string_view("\0", 1));
                at_ = 0;
            }
            std::string_view rest = std::string_view(text_).substr(at_);
            size_t end = std::min(rest.find('\n'), rest.size()), behind = end < rest.size() ? 1 : 0;
            if (end > kMaxSentence) {
                size_t space = rest.rfind(' ', kMaxSentence);
                bool cut_there = space != std::string_view::npos && space > kMaxSentence / 2;
                end = cut_there ? space : character_start(rest, kMaxSentence);
                behind = 0;
            }
            line_ = rest.substr(0, end);
            at_ += end + behind;
        }
    }

  private:
    const std::vector<block> &blocks_;
    size_t next_ = 0, at_ = 0;
    std::string text_, line_;
    bool done_ = false;
};

weft_status read_sample(text_sample &sample, const char *const *files, int count) {
    weft_source_tally tally = {};
    tally.max_malformed = WEFT_SOURCE_MAX_ERRORS;
    for (int i = 0; i < count; i++) {
        weft_source *source;
        weft_document doc;
        bool end = false;
        WEFT_TRY(weft_source_open(&source, files[i], nullptr, &tally));
        weft_status st = WEFT_OK;
        try {
            while ((st = weft_source_next(source, &doc, &end)) == WEFT_OK && !end)
                sample.add_document({doc.text, doc.bytes});
        } catch (const std::exception &e) {
            st = weft_fail(WEFT_ENOMEM, "no memory for the tokenizer's sample of text (%s); make it smaller",
                           e.what());
        }
        weft_source_close(source);
        WEFT_TRY(st);
    }
    if (sample.bytes() == 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "no text to train a tokenizer on: %lld documents in %d file(s), %zu bytes sampled",
                  (long long)tally.documents, count, sample.bytes());
    weft_info("tokenizer: training on %.3g MB, sampled from %.3g MB in %lld documents",
              (double)sample.bytes() * 1e-6, (double)tally.bytes * 1e-6, (long long)tally.documents);
    return WEFT_OK;
}

// What SentencePiece says about the size of the vocabulary, in our words.
weft_status training_failed(const char *message, int64_t vocab_size) {
    long long want, limit;
    const char *at = strstr(message, "Vocabulary size too high");
    if (at &&
        sscanf(at, "Vocabulary size too high (%lld). Please set it to a value <= %lld", &want, &limit) == 2)
        WEFT_FAIL(
            WEFT_EINPUT,
            "a vocabulary of %lld is more than this text can fill: choose at most %lld, or give more text",
            (long long)vocab_size, limit);
    at = strstr(message, "Vocabulary size is smaller than required_chars");
    if (at && sscanf(at, "Vocabulary size is smaller than required_chars. %lld vs %lld", &want, &limit) == 2)
        WEFT_FAIL(WEFT_EINPUT,
                  "a vocabulary of %lld does not hold the characters of this text: choose at least %lld",
                  (long long)vocab_size, limit);
    WEFT_FAIL(WEFT_EINPUT, "SentencePiece cannot train on this text: %s", message);
}

weft_status train_model(text_sample &sample, int64_t vocab_size, std::string &model) {
    line_iterator lines(sample.blocks());
    // The number of threads is written into the model: one, the same everywhere. It would not make training
    // faster.
    const std::unordered_map<std::string, std::string> options = {
        {"model_type", "bpe"},
        {"vocab_size", std::to_string(vocab_size)},
        {"byte_fallback", "true"},
        {"split_digits", "true"},
        {"allow_whitespace_only_pieces", "true"},
        {"add_dummy_prefix", "false"},
        {"remove_extra_whitespaces", "false"},
        {"normalization_rule_name", "identity"},
        {"character_coverage", "0.9995"},
        {"max_sentence_length", std::to_string(kMaxSentence)},
        {"pad_id", "0"},
        {"bos_id", "1"},
        {"eos_id", "2"},
        {"unk_id", "3"},
        {"pad_piece", "<|pad|>"},
        {"bos_piece", "<|startoftext|>"},
        {"eos_piece", "<|endoftext|>"},
        {"unk_piece", "<|unk|>"},
        {"num_threads", "1"},
        {"minloglevel", "3"},
    };
    auto status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &model);
    return status.ok() ? WEFT_OK : training_failed(status.error_message(), vocab_size);
}

weft_status write_directory(const weft_tokenizer *t, const std::string &out_dir) {
    std::string temporary = out_dir + ".tmp-" + std::to_string(getpid());
    WEFT_TRY(weft_fs_mkdir(temporary.c_str()));
    weft_status st = weft_tokenizer_write_hf(t, temporary.c_str());
    if (st == WEFT_OK) st = weft_fs_publish_dir(temporary.c_str(), out_dir.c_str());
    if (st != WEFT_OK) weft_fs_remove_tree(temporary.c_str());
    return st;
}

// Before the work, not after it: `dir` can be made.
weft_status check_out_dir(const std::string &dir) {
    if (access(dir.c_str(), F_OK) == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: exists already; remove it or choose another place for the tokenizer",
                  dir.c_str());
    size_t slash = dir.rfind('/');
    std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : dir.substr(0, slash);
    if (access(parent.c_str(), W_OK) != 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: cannot be made in %s: %s", dir.c_str(), parent.c_str(), strerror(errno));
    return WEFT_OK;
}

weft_status train(const weft_tokenizer_training *o, const char *const *files, int count,
                  const char *out_dir) {
    if (o->vocab_size < kMinVocab || o->vocab_size > kMaxVocab)
        WEFT_FAIL(WEFT_EINPUT,
                  "a vocabulary of %lld: it must lie between %lld (4 special tokens, 256 bytes, and a piece) "
                  "and %lld",
                  (long long)o->vocab_size, (long long)kMinVocab, (long long)kMaxVocab);
    if (o->max_sample_bytes < 1)
        WEFT_FAIL(WEFT_EINPUT, "a tokenizer's sample of %lld bytes of text: it must be positive",
                  (long long)o->max_sample_bytes);
    std::string dir = out_dir;
    while (dir.size() > 1 && dir.back() == '/') dir.pop_back();
    WEFT_TRY(check_out_dir(dir));
    text_sample sample((size_t)o->max_sample_bytes, o->seed);
    std::string model;
    WEFT_TRY(read_sample(sample, files, count));
    WEFT_TRY(train_model(sample, o->vocab_size, model));
    weft_tokenizer *t;
    WEFT_TRY(weft_tokenizer_open_model(&t, "the new tokenizer", model.data(), model.size()));
    weft_status st = write_directory(t, dir);
    weft_tokenizer_close(t);
    return st;
}

} // namespace

extern "C" weft_status weft_tokenizer_train(const weft_tokenizer_training *options, const char *const *files,
                                            int count, const char *out_dir) {
    try {
        return train(options, files, count, out_dir);
    } catch (const std::exception &e) {
        WEFT_FAIL(WEFT_ENOMEM, "no memory to train a tokenizer (%s); make the sample smaller", e.what());
    }
}
