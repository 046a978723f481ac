#include "data/filter/filter.h"
#include "data/filter/personal.h"
#include "runtime/text.h"

#include <stdlib.h>
#include <string.h>

static const char *const kind_names[WEFT_PERSONAL_KINDS] = {"email", "ip", "phone"};
/* Of no person: an example (RFC 2606), an address that nobody answers at (datatrove's), a number for fiction.
 */
static const char *const stand_ins[WEFT_PERSONAL_KINDS] = {"email@example.com", "22.214.171.124",
                                                           "+1 555 0100"};

struct weft_scrubber {
    bool wanted[WEFT_PERSONAL_KINDS];
    weft_patterns *patterns;
};

static weft_status take_kind(weft_scrubber *s, const char *name, size_t bytes) {
    char copy[32];
    while (bytes > 0 && *name == ' ') name++, bytes--;
    while (bytes > 0 && name[bytes - 1] == ' ') bytes--;
    if (bytes >= sizeof copy) bytes = sizeof copy - 1;
    memcpy(copy, name, bytes);
    copy[bytes] = '\0';
    for (int k = 0; k < WEFT_PERSONAL_KINDS; k++) {
        if (strcmp(copy, kind_names[k]) != 0) continue;
        s->wanted[k] = true;
        return WEFT_OK;
    }
    int near = weft_nearest(copy, kind_names, WEFT_PERSONAL_KINDS);
    WEFT_FAIL(WEFT_EINPUT, "personal data to scrub: '%s' is none of email, ip, phone%s%s%s", copy,
              near < 0 ? "" : "; did you mean '", near < 0 ? "" : kind_names[near], near < 0 ? "" : "'?");
}

weft_status weft_scrubber_new(weft_scrubber **out, const char *kinds) {
    weft_scrubber *s = calloc(1, sizeof *s);
    if (!s) WEFT_FAIL(WEFT_ENOMEM, "no memory to scrub personal data");
    weft_status st = WEFT_OK;
    for (const char *name = kinds; st == WEFT_OK && name;) {
        const char *comma = strchr(name, ',');
        st = take_kind(s, name, comma ? (size_t)(comma - name) : strlen(name));
        name = comma ? comma + 1 : NULL;
    }
    if (st == WEFT_OK) st = weft_patterns_new(&s->patterns);
    if (st != WEFT_OK) {
        weft_scrubber_free(s);
        return st;
    }
    *out = s;
    return WEFT_OK;
}

void weft_scrubber_free(weft_scrubber *s) {
    if (!s) return;
    weft_patterns_free(s->patterns);
    free(s);
}

/* A text on its way from `search.text` to `out`. */
typedef struct scrubbing {
    weft_search search;
    weft_text *out;
    size_t done; /* of the text is in `out` */
    size_t *map, map_count, moved;
    size_t next[WEFT_PERSONAL_SORTS]; /* the mark to look at */
} scrubbing;

/* `out` grows by the text up to `end`; so do positions before it, and with `last` all that are left. */
static weft_status take_text(scrubbing *s, size_t end, bool last) {
    for (; s->moved < s->map_count && (s->map[s->moved] < end || last); s->moved++)
        s->map[s->moved] = s->map[s->moved] - s->done + s->out->bytes;
    WEFT_TRY(weft_text_append(s->out, s->search.text + s->done, end - s->done));
    s->done = end;
    return WEFT_OK;
}

static weft_status replace(scrubbing *s, weft_span found, weft_personal_kind kind) {
    WEFT_TRY(take_text(s, found.start, false));
    for (; s->moved < s->map_count && s->map[s->moved] < found.end; s->moved++)
        s->map[s->moved] = s->out->bytes;
    WEFT_TRY(weft_text_append(s->out, stand_ins[kind], strlen(stand_ins[kind])));
    s->done = found.end;
    return WEFT_OK;
}

static size_t next_mark(const weft_search *s, int sort, size_t from) {
    const char *at =
        from < s->bytes ? memchr(s->text + from, weft_personal_marks[sort], s->bytes - from) : NULL;
    return at ? (size_t)(at - s->text) : s->bytes;
}

static weft_status scrub(const weft_scrubber *with, scrubbing *s, int64_t counts[WEFT_PERSONAL_KINDS]) {
    for (int i = 0; i < WEFT_PERSONAL_SORTS; i++)
        s->next[i] = with->wanted[weft_personal_kind_of[i]] ? next_mark(&s->search, i, 0) : s->search.bytes;
    for (;;) {
        int sort = 0;
        for (int i = 1; i < WEFT_PERSONAL_SORTS; i++)
            if (s->next[i] < s->next[sort]) sort = i;
        size_t at = s->next[sort];
        if (at == s->search.bytes) break;
        weft_span found;
        WEFT_TRY(weft_search_at(&s->search, (weft_personal_sort)sort, at, s->done, &found));
        s->next[sort] = next_mark(&s->search, sort, at + 1);
        if (found.start == found.end) continue;
        weft_personal_kind kind = weft_personal_kind_of[sort];
        WEFT_TRY(replace(s, found, kind));
        counts[kind]++;
        for (int i = 0; i < WEFT_PERSONAL_SORTS; i++)
            if (s->next[i] < s->done) s->next[i] = next_mark(&s->search, i, s->done);
    }
    return take_text(s, s->search.bytes, true);
}

weft_status weft_scrub(const weft_scrubber *s, const char *text, size_t bytes, weft_text *out,
                       int64_t counts[3], size_t *map, size_t map_count) {
    scrubbing state = {.search = {.patterns = s->patterns, .text = text, .bytes = bytes},
                       .out = out,
                       .map = map,
                       .map_count = map ? map_count : 0};
    int64_t found[WEFT_PERSONAL_KINDS] = {0};
    out->bytes = 0;
    weft_status st = scrub(s, &state, found);
    weft_search_end(&state.search);
    if (st == WEFT_OK) memcpy(counts, found, sizeof found);
    return st;
}
