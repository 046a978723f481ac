/* Lists of the user: URLs that are not wanted, and words that are not. Entries are compared by 64-bit hashes,
 * which leaves 8 to 24 bytes an entry; among 10^9 documents and 10^6 entries a wrong match is as likely as 1
 * in 10^4. */
#include "data/filter/signals.h"
#include "runtime/fs.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>

#define OURS "our own: datatrove's URLFilter and C4's list of bad words are of this kind"

/* FNV-1a (Fowler, Noll, Vo) over symbols, so that every prefix has its hash on the way; mixed at the end. */
#define FNV_START 0xcbf29ce484222325u
static uint64_t hash_step(uint64_t h, uint32_t symbol) {
    return (h ^ symbol) * 0x100000001b3u;
}
static uint64_t hash_end(uint64_t h) {
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 33;
}

/* The next line that is no comment, stripped; entries of both kinds of list. */
static bool next_entry(weft_span *rest, weft_span *entry) {
    while (weft_next_piece(rest, 1, entry)) {
        *entry = weft_strip(*entry);
        if (entry->bytes > 0 && *entry->at != '#') return true;
    }
    return false;
}

/* ---- url_list ---- */

enum { LISTED, WORD, NO_URL, URL_RULES };
enum { LIST, WORDS, URL_OPTIONS };
enum { MAX_HOST = 255 };

static const weft_rule url_rules[URL_RULES] = {
    [LISTED] = {"listed", WEFT_RULE_FLAG, 0, WEFT_SCALE_COUNT,
                "the list names the host, a domain above it, or the beginning of the URL", OURS},
    [WORD] = {"word", WEFT_RULE_FLAG, 0, WEFT_SCALE_COUNT, "the URL holds one of the words", OURS},
    [NO_URL] = {"no_url", WEFT_RULE_FLAG, 0, WEFT_SCALE_COUNT,
                "the document has no URL, and nothing can be looked up", OURS},
};
static const char *const url_options[URL_OPTIONS] = {
    [LIST] = "list",   /* file: a domain or the beginning of a URL a line; # begins a comment */
    [WORDS] = "words", /* parts of URLs, separated by commas; case does not matter */
};

typedef struct urls {
    weft_hash_set domains,
        beginnings; /* a beginning: host and what follows it, without scheme, user and port */
    char **words;
    int word_count;
} urls;

typedef struct url {
    char host[MAX_HOST + 1]; /* in lower case */
    size_t host_bytes;
    weft_span path; /* from the first / ? or # */
} url;

/* False when there is no host, or one longer than hosts can be. */
static bool split_url(weft_span s, url *out) {
    const char *p = s.at, *end = p + s.bytes;
    for (const char *q = p; q < end && !strchr("/?#", *q); q++)
        if (*q == ':' && end - q > 2 && q[1] == '/' && q[2] == '/') p = q + 3;
    if (p == s.at && weft_starts(s, "//")) p += 2;
    const char *stop = p;
    while (stop < end && !strchr("/?#", *stop)) stop++;
    out->path = (weft_span){stop, (size_t)(end - stop)};
    const char *user = memrchr(p, '@', (size_t)(stop - p));
    if (user) p = user + 1;
    const char *bracket =
        memchr(p, ']', (size_t)(stop - p)); /* of an IPv6 address, whose colons are no port's */
    const char *port = memchr(bracket ? bracket : p, ':', (size_t)(stop - (bracket ? bracket : p)));
    if (port) stop = port;
    if (stop > p && stop[-1] == '.') stop--;
    out->host_bytes = (size_t)(stop - p);
    if (stop == p || out->host_bytes > MAX_HOST) return false;
    for (size_t i = 0; i < out->host_bytes; i++) out->host[i] = weft_lower(p[i]);
    return true;
}

static uint64_t hash_bytes(uint64_t h, const char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) h = hash_step(h, (unsigned char)p[i]);
    return h;
}

static weft_status read_urls(urls *u, const char *path) {
    char *text;
    size_t bytes, entries = 0;
    WEFT_TRY(weft_fs_read_file(path, SIZE_MAX / 2, &text, &bytes));
    size_t lines = 1 + weft_count_byte(text, bytes, '\n');
    weft_status st = weft_hash_set_clear(&u->domains, lines);
    if (st == WEFT_OK) st = weft_hash_set_clear(&u->beginnings, lines);
    weft_span rest = {text, bytes}, entry;
    while (st == WEFT_OK && next_entry(&rest, &entry)) {
        url e;
        if (weft_starts(entry, "*.")) entry = (weft_span){entry.at + 2, entry.bytes - 2};
        if (!split_url(entry, &e)) {
            st = weft_fail(WEFT_EINPUT, "filter url_list: %s: \"%.*s\" is no domain and no URL", path,
                           (int)(entry.bytes < 60 ? entry.bytes : 60), entry.at);
            break;
        }
        uint64_t h = hash_bytes(FNV_START, e.host, e.host_bytes);
        bool whole = e.path.bytes == 0 || (e.path.bytes == 1 && *e.path.at == '/');
        if (!whole) h = hash_bytes(h, e.path.at, e.path.bytes);
        weft_hash_set_add(whole ? &u->domains : &u->beginnings, hash_end(h));
        entries++;
    }
    free(text);
    if (st == WEFT_OK && entries == 0) WEFT_FAIL(WEFT_EINPUT, "filter url_list: %s holds no entry", path);
    return st;
}

static weft_status parse_words(urls *u, const char *value) {
    u->words = calloc(1 + weft_count_byte(value, strlen(value), ','), sizeof *u->words);
    if (!u->words) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filter url_list");
    weft_span rest = {value, strlen(value)}, word;
    while (weft_next_part(&rest, &word)) {
        if (word.bytes == 0)
            WEFT_FAIL(WEFT_EINPUT, "filter url_list: words: \"%s\" holds an empty word, which every URL has",
                      value);
        char *copy = strndup(word.at, word.bytes);
        if (!copy) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filter url_list");
        u->words[u->word_count++] = copy;
    }
    return WEFT_OK;
}

static void close_urls(void *state) {
    urls *u = state;
    if (!u) return;
    for (int i = 0; i < u->word_count; i++) free(u->words[i]);
    free(u->words);
    weft_hash_set_free(&u->domains);
    weft_hash_set_free(&u->beginnings);
    free(u);
}

static weft_status open_urls(void **state, const char *const *values) {
    if (!values[LIST] && !values[WORDS])
        WEFT_FAIL(WEFT_EINPUT, "filter url_list: give it a file, list: FILE, or words: a,b");
    urls *u = calloc(1, sizeof *u);
    if (!u) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filter url_list");
    weft_status st = WEFT_OK;
    if (values[LIST]) st = read_urls(u, values[LIST]);
    if (st == WEFT_OK && values[WORDS]) st = parse_words(u, values[WORDS]);
    if (st != WEFT_OK) {
        close_urls(u);
        return st;
    }
    *state = u;
    return WEFT_OK;
}

static bool has_beginning(const urls *u, const url *x, size_t host_from) {
    uint64_t h = hash_bytes(FNV_START, x->host + host_from, x->host_bytes - host_from);
    for (size_t i = 0; i < x->path.bytes; i++) {
        h = hash_step(h, (unsigned char)x->path.at[i]);
        if (weft_hash_set_has(&u->beginnings, hash_end(h))) return true;
    }
    return false;
}

static bool is_listed(const urls *u, const char *text) {
    url x;
    if (!u->domains.slots || !split_url((weft_span){text, strlen(text)}, &x)) return false;
    for (size_t from = 0; from < x.host_bytes;) {
        uint64_t h = hash_bytes(FNV_START, x.host + from, x.host_bytes - from);
        if (weft_hash_set_has(&u->domains, hash_end(h))) return true;
        const char *dot = memchr(x.host + from, '.', x.host_bytes - from);
        from = dot ? (size_t)(dot - x.host) + 1 : x.host_bytes;
    }
    bool www = x.host_bytes > 4 && memcmp(x.host, "www.", 4) == 0;
    return has_beginning(u, &x, 0) || (www && has_beginning(u, &x, 4));
}

static weft_status url_signals(void *state, const weft_filter_input *in, double *values, weft_text *changed,
                               bool *has_changed) {
    (void)changed;
    *has_changed = false;
    const urls *u = state;
    bool word = false;
    for (int i = 0; i < u->word_count && !word; i++) word = strcasestr(in->url, u->words[i]) != NULL;
    values[LISTED] = is_listed(u, in->url);
    values[WORD] = word;
    values[NO_URL] = *in->url == '\0';
    return WEFT_OK;
}

const weft_filter_kind weft_filter_url_list = {
    .name = "url_list",
    .summary = "documents from listed domains and URLs, and with certain words in their URL",
    .rules = url_rules,
    .rule_count = URL_RULES,
    .options = url_options,
    .option_count = URL_OPTIONS,
    .open = open_urls,
    .close = close_urls,
    .signals = url_signals,
};

/* ---- word_list ---- */

static const weft_rule word_rules[] = {
    {"max_listed", WEFT_RULE_MAX, 0, WEFT_SCALE_COUNT,
     "places where a listed word or phrase begins; whole words, case does not matter",
     "C4's bad words (Raffel et al. 2020, section 2.2): one is too many"},
};
static const char *const word_options[] = {"list"}; /* file: a word or phrase a line; # begins a comment */

/* Hashes of phrases, and of the words that a longer phrase begins with. */
typedef struct phrases {
    weft_hash_set whole, beginnings;
} phrases;

static uint64_t hash_word(const char *text, const weft_word *w) {
    uint64_t h = FNV_START;
    size_t each;
    for (const char *p = text + w->start, *end = p + w->bytes; p < end; p += each) {
        uint32_t c = weft_character(p, &each);
        h = hash_step(h, c < 0x80 ? (uint32_t)weft_lower((char)c)
                                  : (uint32_t)u_foldCase((UChar32)c, U_FOLD_CASE_DEFAULT));
    }
    return hash_end(h);
}

static uint64_t hash_join(uint64_t phrase, uint64_t word) {
    return hash_end(phrase * 0x9e3779b97f4a7c15u + word);
}

static void add_phrase(phrases *p, const char *text, const weft_word *words, size_t count) {
    uint64_t h = hash_word(text, &words[0]);
    for (size_t i = 1; i < count; i++) {
        weft_hash_set_add(&p->beginnings, h);
        h = hash_join(h, hash_word(text, &words[i]));
    }
    weft_hash_set_add(&p->whole, h);
}

static weft_status add_phrases(phrases *p, const char *path, weft_span text, weft_words *splitter) {
    const weft_word *words;
    size_t count, at = 0, entries = 0;
    WEFT_TRY(weft_words_split(splitter, text.at, text.bytes, &words, &count));
    WEFT_TRY(weft_hash_set_clear(&p->whole, count));
    WEFT_TRY(weft_hash_set_clear(&p->beginnings, count));
    weft_span rest = text, entry;
    while (next_entry(&rest, &entry)) {
        size_t start = (size_t)(entry.at - text.at), stop = start + entry.bytes;
        while (at < count && words[at].start < start) at++;
        size_t from = at;
        while (at < count && words[at].start < stop) at++;
        if (at > from) add_phrase(p, text.at, &words[from], at - from);
        entries += at > from;
    }
    if (entries == 0) WEFT_FAIL(WEFT_EINPUT, "filter word_list: %s holds no word", path);
    return WEFT_OK;
}

static void close_phrases(void *state) {
    phrases *p = state;
    if (!p) return;
    weft_hash_set_free(&p->whole);
    weft_hash_set_free(&p->beginnings);
    free(p);
}

static weft_status open_phrases(void **state, const char *const *values) {
    if (!values[0]) WEFT_FAIL(WEFT_EINPUT, "filter word_list: give it a file of words: list: FILE");
    weft_span text;
    char *data;
    weft_words *splitter = NULL;
    phrases *p = calloc(1, sizeof *p);
    if (!p) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filter word_list");
    weft_status st = weft_fs_read_file(values[0], UINT32_MAX - 1, &data, &text.bytes);
    if (st != WEFT_OK) goto failed;
    text.at = data;
    st = weft_words_new(&splitter);
    if (st == WEFT_OK) st = add_phrases(p, values[0], text, splitter);
    weft_words_free(splitter);
    free(data);
    if (st != WEFT_OK) goto failed;
    *state = p;
    return WEFT_OK;
failed:
    close_phrases(p);
    return st;
}

static bool begins_phrase(const phrases *p, const weft_filter_input *in, size_t at) {
    uint64_t h = hash_word(in->text, &in->words[at]);
    while (!weft_hash_set_has(&p->whole, h)) {
        if (++at == in->word_count || !weft_hash_set_has(&p->beginnings, h)) return false;
        h = hash_join(h, hash_word(in->text, &in->words[at]));
    }
    return true;
}

static weft_status word_signals(void *state, const weft_filter_input *in, double *values, weft_text *changed,
                                bool *has_changed) {
    (void)changed;
    *has_changed = false;
    size_t n = 0;
    for (size_t i = 0; i < in->word_count; i++) n += begins_phrase(state, in, i);
    values[0] = (double)n;
    return WEFT_OK;
}

const weft_filter_kind weft_filter_word_list = {
    .name = "word_list",
    .summary = "documents with a listed word or phrase",
    .rules = word_rules,
    .rule_count = 1,
    .options = word_options,
    .option_count = 1,
    .open = open_phrases,
    .close = close_phrases,
    .signals = word_signals,
};
