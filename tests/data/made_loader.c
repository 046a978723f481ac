#include "made_loader.h"
#include "support/suite.h"

#include <string.h>

const made_domain made_domains[DOMAINS] = {
    {"books", 400, 900, 150, false}, {"code", 60, 900, 1000, false}, {"web", 900, 40, 300, false}};
const made_domain made_domains_masked[DOMAINS] = {
    {"books", 400, 900, 150, true}, {"code", 60, 900, 1000, false}, {"web", 900, 40, 300, true}};

static const char *once(const char **dir, const made_domain *domains) {
    if (!*dir) {
        *dir = made_dir();
        made_write(*dir, VOCAB, domains, DOMAINS);
    }
    return *dir;
}

const char *made_shared_dir(void) {
    static const char *dir;
    return once(&dir, made_domains);
}

const char *made_masked_dir(void) {
    static const char *dir;
    return once(&dir, made_domains_masked);
}

weft_loader_options made_options(const char *path) {
    return (weft_loader_options){.path = path,
                                 .split = "train",
                                 .seed = 5,
                                 .seq_len = T,
                                 .max_batch = BATCH,
                                 .cache_bytes = 1 << 20,
                                 .vocab_size = VOCAB};
}

weft_loader *made_loader(const weft_loader_options *o) {
    weft_loader *l = NULL;
    ck_assert_int_eq(weft_loader_open(&l, o), WEFT_OK);
    return l;
}

weft_batch made_batch(weft_loader *l, const uint64_t *samples, int64_t count) {
    weft_batch b;
    double waited = -1;
    ck_assert_int_eq(weft_loader_request(l, samples, count), WEFT_OK);
    ck_assert_int_eq(weft_loader_take(l, &b, &waited), WEFT_OK);
    ck_assert_int_eq(b.count, count);
    ck_assert_double_ge(waited, 0);
    return b;
}

void made_try_open(void *opening) {
    made_opening *t = opening;
    weft_loader *l;
    t->status = weft_loader_open(&l, &t->o);
    if (t->status == WEFT_OK) weft_loader_close(l);
}

void made_loader_refused(const weft_loader_options *o, const char *why) {
    made_opening t = {.o = *o};
    const char *text = made_errors(made_try_open, &t);
    ck_assert_int_eq(t.status, WEFT_EINPUT);
    ck_assert_msg(strstr(text, why) != NULL, "'%s' lacks '%s'", text, why);
    ck_assert_msg(strstr(strstr(text, "error:") + 1, "error:") == NULL, "reported twice: %s", text);
}
