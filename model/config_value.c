/* One value of the configuration: text -> value, value -> text, range. */
#include "model/config_fields.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers as text ---------------------------------------------------------------------------- */

void weft_real_text(double x, char *buffer) {
    if (fabs(x) < 1e15 && x == floor(x)) {
        snprintf(buffer, 32, "%.0f", x);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(buffer, 32, "%.*g", digits, x);
        if (strtod(buffer, NULL) == x) break;
    }
    /* 1e-06 becomes 1.0e-06: without the point, YAML 1.1 readers take it for text. */
    char *e = strchr(buffer, 'e');
    if (e && !strchr(buffer, '.')) {
        memmove(e + 2, e, strlen(e) + 1);
        memcpy(e, ".0", 2);
    }
}

/* Copies a number without its underscores, which may stand between digits only. False: not a number's
 * characters, or too long for one. */
static bool strip_number(const char *text, const char *allowed, char *out, size_t size) {
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        bool digit = *p >= '0' && *p <= '9';
        if (*p == '_') {
            if (p == text || p[-1] < '0' || p[-1] > '9' || p[1] < '0' || p[1] > '9') return false;
            continue;
        }
        if ((!digit && !strchr(allowed, *p)) || n + 1 >= size) return false;
        out[n++] = *p;
    }
    out[n] = '\0';
    return n > 0;
}

static bool parse_int(const char *text, int64_t *out) {
    char digits[64], *end;
    if (!strip_number(text, "+-", digits, sizeof digits)) return false;
    errno = 0;
    long long v = strtoll(digits, &end, 10);
    if (*end || errno) return false;
    *out = v;
    return true;
}

static bool parse_real(const char *text, double *out) {
    char digits[256], *end;
    if (!strip_number(text, "+-.eE", digits, sizeof digits)) return false;
    double v = strtod(digits, &end);
    if (*end || end == digits || !isfinite(v)) return false;
    *out = v;
    return true;
}

/* ---- what text may hold ------------------------------------------------------------------------- */

/* Length of the UTF-8 character at s, 0 when it is malformed or one that YAML cannot carry on one line
 * unescaped (control characters, line separators, byte order mark, non-characters). */
static int printable_character(const unsigned char *s) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    int n = s[0] < 0x80 ? 1 : (s[0] >> 5) == 6 ? 2 : (s[0] >> 4) == 14 ? 3 : (s[0] >> 3) == 30 ? 4 : 0;
    if (n == 0) return 0;
    uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    bool fine = (c >= 0x20 && c <= 0x7e) || (c >= 0xa0 && c <= 0xd7ff && c != 0x2028 && c != 0x2029) ||
                (c >= 0xe000 && c <= 0xfffd && c != 0xfeff) || (c >= 0x10000 && c <= 0x10ffff);
    return fine && c >= smallest[n] ? n : 0;
}

static bool printable(const char *text) {
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        int n = printable_character(s);
        if (n == 0) return false;
        s += n;
    }
    return true;
}

/* ---- messages ----------------------------------------------------------------------------------- */

const char *weft_field_type_name(const weft_field *f) {
    switch (f->type) {
    case WEFT_FIELD_INT:
        return f->has_auto ? "an integer or auto" : "an integer";
    case WEFT_FIELD_REAL:
        return "a number";
    case WEFT_FIELD_BOOL:
        return "true or false";
    case WEFT_FIELD_TEXT:
        return "text";
    case WEFT_FIELD_CHOICE:
        return "a choice";
    default:
        return "a mapping of names to numbers";
    }
}

void weft_field_range_text(const weft_field *f, char *buffer, size_t bytes) {
    const weft_field_range *r = &f->range;
    char low[32], high[32];
    size_t n = 0;
    buffer[0] = '\0';
    if (f->type == WEFT_FIELD_CHOICE) {
        for (int i = 0; f->choices[i] && n < bytes; i++)
            n += (size_t)snprintf(buffer + n, bytes - n, "%s%s",
                                  i == 0              ? ""
                                  : f->choices[i + 1] ? ", "
                                                      : " or ",
                                  f->choices[i]);
        return;
    }
    if (f->type != WEFT_FIELD_INT && f->type != WEFT_FIELD_REAL && f->type != WEFT_FIELD_WEIGHTS) return;
    weft_real_text(r->low, low);
    weft_real_text(r->high, high);
    if (isfinite(r->high))
        snprintf(buffer, bytes, "from %s to %s%s", low, r->high_open ? "below " : "", high);
    else
        snprintf(buffer, bytes, "%s %s", r->low_open ? "greater than" : "at least", low);
}

static bool in_range(const weft_field *f, double x) {
    const weft_field_range *r = &f->range;
    return (r->low_open ? x > r->low : x >= r->low) && (r->high_open ? x < r->high : x <= r->high);
}

static weft_status range_failure(const weft_field *f, const char *domain, const char *text,
                                 const char *where) {
    char range[128];
    weft_field_range_text(f, range, sizeof range);
    WEFT_FAIL(WEFT_EINPUT, "%s: %s%s%s is %s; it must be %s%s%s%s", where, f->key, domain ? "." : "",
              domain ? domain : "", text, range, f->unit ? " (" : "", f->unit ? f->unit : "",
              f->unit ? ")" : "");
}

static weft_status type_failure(const weft_field *f, const char *domain, const char *text, bool quoted,
                                const char *where) {
    char range[256];
    const char *quote = quoted ? "\"" : "'";
    const char *hint = quoted ? "; leave the quotes out" : "";
    if (f->type == WEFT_FIELD_CHOICE) {
        weft_field_range_text(f, range, sizeof range);
        WEFT_FAIL(WEFT_EINPUT, "%s: %s is %s%.200s%s; it must be %s", where, f->key, quote, text, quote,
                  range);
    }
    const char *wants = domain ? "a number" : weft_field_type_name(f);
    WEFT_FAIL(WEFT_EINPUT, "%s: %s%s%s wants %s, not %s%.200s%s%s", where, f->key, domain ? "." : "",
              domain ? domain : "", wants, quote, text, quote, hint);
}

/* ---- text -> value ---- */

static weft_status set_text(weft_config *c, const weft_field *f, const char *text, bool quoted,
                            const char *where) {
    size_t n = strlen(text);
    if (n >= f->size)
        WEFT_FAIL(WEFT_EINPUT, "%s: %s has %zu bytes; at most %zu fit", where, f->key, n, f->size - 1);
    if (!printable(text))
        WEFT_FAIL(WEFT_EINPUT, "%s: %s must be UTF-8 text on one line, without control characters", where,
                  f->key);
    /* A key with nothing behind it is more often forgotten than meant. */
    if (!quoted && (n == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0))
        WEFT_FAIL(WEFT_EINPUT, "%s: %s has no value; write \"\" for none, or leave the key out", where,
                  f->key);
    char *value = (char *)c + f->offset;
    memset(value, 0, f->size); /* two equal configurations are equal bytes */
    memcpy(value, text, n);
    return WEFT_OK;
}

static weft_status set_weight(weft_config *c, const weft_field *f, const char *domain, double weight,
                              const char *where) {
    weft_domain_weight *w = c->data.weights;
    size_t n = strlen(domain);
    int64_t i = 0;
    if (n == 0 || n >= sizeof w->name || !printable(domain))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: %s: a domain's name has 1 to %zu bytes of UTF-8 text without control characters",
                  where, f->key, sizeof w->name - 1);
    while (i < c->data.weights_count && strcmp(w[i].name, domain) != 0) i++;
    if (i == WEFT_MAX_DOMAINS)
        WEFT_FAIL(WEFT_EINPUT, "%s: %s.%s is one domain too many; at most %d", where, f->key, domain,
                  WEFT_MAX_DOMAINS);
    if (i == c->data.weights_count) {
        memcpy(w[i].name, domain, n);
        c->data.weights_count++;
    }
    w[i].weight = weight;
    return WEFT_OK;
}

weft_status weft_field_set(weft_config *c, const weft_field *f, const char *domain, const char *text,
                           bool quoted, const char *where) {
    void *value = (char *)c + f->offset;
    int64_t i = 0;
    double x = 0;
    switch (f->type) {
    case WEFT_FIELD_TEXT:
        return set_text(c, f, text, quoted, where);
    case WEFT_FIELD_INT:
        if (quoted || (!parse_int(text, &i) && !(f->has_auto && strcmp(text, "auto") == 0)))
            return type_failure(f, NULL, text, quoted, where);
        if (!in_range(f, (double)i)) return range_failure(f, NULL, text, where);
        *(int64_t *)value = i;
        if (value == &c->train.global_batch) c->train.global_batch_tokens = 0; /* the one given last counts */
        return WEFT_OK;
    case WEFT_FIELD_REAL:
        if (quoted || !parse_real(text, &x)) return type_failure(f, NULL, text, quoted, where);
        if (!in_range(f, x)) return range_failure(f, NULL, text, where);
        *(double *)value = x;
        return WEFT_OK;
    case WEFT_FIELD_BOOL:
        if (quoted || (strcmp(text, "true") != 0 && strcmp(text, "false") != 0))
            return type_failure(f, NULL, text, quoted, where);
        *(bool *)value = text[0] == 't';
        return WEFT_OK;
    case WEFT_FIELD_CHOICE:
        for (int k = 0; f->choices[k]; k++)
            if (strcmp(text, f->choices[k]) == 0) {
                *(int *)value = k;
                return WEFT_OK;
            }
        return type_failure(f, NULL, text, quoted, where);
    default:
        if (!domain && !quoted && strcmp(text, "{}") == 0) {
            memset(c->data.weights, 0, sizeof c->data.weights);
            c->data.weights_count = 0;
            return WEFT_OK;
        }
        if (!domain)
            WEFT_FAIL(WEFT_EINPUT, "%s: %s is a mapping; write %s.NAME for one weight, {} for none", where,
                      f->key, f->key);
        if (quoted || !parse_real(text, &x)) return type_failure(f, domain, text, quoted, where);
        if (!in_range(f, x)) return range_failure(f, domain, text, where);
        return set_weight(c, f, domain, x, where);
    }
}

weft_status weft_field_check(const weft_config *c, const weft_field *f, const char *where) {
    const void *value = (const char *)c + f->offset;
    char text[WEFT_FIELD_VALUE];
    bool fine = true;
    switch (f->type) {
    case WEFT_FIELD_INT:
        fine = in_range(f, (double)*(const int64_t *)value);
        break;
    case WEFT_FIELD_REAL:
        fine = in_range(f, *(const double *)value);
        break;
    case WEFT_FIELD_CHOICE: {
        int count = 0;
        while (f->choices[count]) count++;
        if (*(const int *)value < 0 || *(const int *)value >= count)
            WEFT_FAIL(WEFT_EINTERNAL, "%s: %s holds %d, which is no choice", where, f->key,
                      *(const int *)value);
        break;
    }
    default:
        break;
    }
    if (fine) return WEFT_OK;
    weft_field_get(c, f, text);
    return range_failure(f, NULL, text, where);
}

/* ---- value -> text ---- */

void weft_field_get(const weft_config *c, const weft_field *f, char *buffer) {
    const void *value = (const char *)c + f->offset;
    switch (f->type) {
    case WEFT_FIELD_INT:
        if (f->has_auto && *(const int64_t *)value == 0)
            snprintf(buffer, WEFT_FIELD_VALUE, "auto");
        else
            snprintf(buffer, WEFT_FIELD_VALUE, "%lld", (long long)*(const int64_t *)value);
        break;
    case WEFT_FIELD_REAL:
        weft_real_text(*(const double *)value, buffer);
        break;
    case WEFT_FIELD_BOOL:
        snprintf(buffer, WEFT_FIELD_VALUE, "%s", *(const bool *)value ? "true" : "false");
        break;
    case WEFT_FIELD_TEXT:
        snprintf(buffer, WEFT_FIELD_VALUE, "%s", (const char *)value);
        break;
    case WEFT_FIELD_CHOICE:
        snprintf(buffer, WEFT_FIELD_VALUE, "%s", f->choices[*(const int *)value]);
        break;
    default:
        buffer[0] = '\0';
    }
}
