#include "train/plan/machine_file.h"
#include "runtime/fs.h"
#include "runtime/text.h"
#include "runtime/yaml.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_BYTES ((size_t)1 << 20)

/* ---- rates -------------------------------------------------------------------------------------- */

double weft_rates_at(const weft_rates *r, double size) {
    int above = 0;
    if (!r->count) return 0;
    while (above < r->count && r->at[above] < size) above++;
    if (above == 0) return r->rate[0];
    if (above == r->count) return r->rate[r->count - 1];
    const int below = above - 1;
    double share = log(size / r->at[below]) / log(r->at[above] / r->at[below]);
    return r->rate[below] * pow(r->rate[above] / r->rate[below], share);
}

double weft_rates_most(const weft_rates *r) {
    double most = 0;
    for (int i = 0; i < r->count; i++) most = fmax(most, r->rate[i]);
    return most;
}

bool weft_rates_add(weft_rates *r, double at, double rate) {
    int place = r->count;
    for (int i = 0; i < r->count; i++)
        if (r->at[i] == at || r->at[i] == 0 || at == 0) return false;
    if (r->count == WEFT_RATE_POINTS) return false;
    for (; place > 0 && r->at[place - 1] > at; place--) {
        r->at[place] = r->at[place - 1];
        r->rate[place] = r->rate[place - 1];
    }
    r->at[place] = at;
    r->rate[place] = rate;
    r->count++;
    return true;
}

/* ---- the keys ----------------------------------------------------------------------------------- */

static const char *const types[] = {"fp32", "tf32", "bf16"};
const char *weft_product_type_name(weft_product_type t) {
    return types[t];
}

typedef enum kind { TEXT, FLAG, NUMBER, RATES, ALL_RATES, BOTH } kind;
typedef struct field {
    const char *key;
    kind kind;
    bool needed;
    size_t offset, room; /* room: of a text */
} field;
#define AT(member) offsetof(weft_machine, member)
#define EFFICIENCY(what)                                                                                     \
    { "efficiency." #what, NUMBER, false, AT(efficiency.what), 0 }
#define DIRECTION(type, index, name, direction)                                                              \
    { "products." type "." name, RATES, false, AT(products[index][direction]), 0 }
#define PRODUCTS(type, index)                                                                                \
    {"products." type, ALL_RATES, false, AT(products[index]), 0},                                            \
        DIRECTION(type, index, "forward", WEFT_FORWARD), DIRECTION(type, index, "data", WEFT_BACKWARD_DATA), \
        DIRECTION(type, index, "weights", WEFT_BACKWARD_WEIGHTS)
#define LINK(name, reach)                                                                                    \
    {"link." name ".bandwidth", BOTH, false, AT(link[reach]), 0},                                            \
        {"link." name ".gather", NUMBER, false, AT(link[reach].gather), 0},                                  \
        {"link." name ".reduce", NUMBER, false, AT(link[reach].reduce), 0}, {                                \
        "link." name ".latency", NUMBER, false, AT(link[reach].latency), 0                                   \
    }
static const field fields[] = {
    {"name", TEXT, true, AT(name), sizeof((weft_machine *)0)->name},
    {"source", TEXT, false, AT(source), sizeof((weft_machine *)0)->source},
    {"overlap", FLAG, false, AT(overlap), 0},
    {"memory", NUMBER, false, AT(memory), 0},
    {"node", NUMBER, false, AT(node), 0},
    {"launch", NUMBER, false, AT(launch), 0},
    {"bandwidth", NUMBER, true, AT(bandwidth), 0},
    {"special", NUMBER, true, AT(special), 0},
    {"vector", NUMBER, true, AT(vector), 0},
    PRODUCTS("fp32", WEFT_PRODUCT_FP32),
    PRODUCTS("tf32", WEFT_PRODUCT_TF32),
    PRODUCTS("bf16", WEFT_PRODUCT_BF16),
    {"attention.forward", RATES, false, AT(attention[0]), 0},
    {"attention.backward", RATES, false, AT(attention[1]), 0},
    {"scan.forward", RATES, false, AT(scan[0]), 0},
    {"scan.backward", RATES, false, AT(scan[1]), 0},
    {"conv.forward", RATES, false, AT(conv[0]), 0},
    {"conv.backward", RATES, false, AT(conv[1]), 0},
    LINK("node", WEFT_NODE),
    LINK("network", WEFT_NETWORK),
    EFFICIENCY(products),
    EFFICIENCY(attention),
    EFFICIENCY(bandwidth),
    EFFICIENCY(special),
    EFFICIENCY(vector),
    EFFICIENCY(links),
};
enum { FIELDS = sizeof fields / sizeof *fields };

static void *place(weft_machine *m, const field *f) {
    return (char *)m + f->offset;
}

/* ---- reading ------------------------------------------------------------------------------------ */

#define WHERE "%s:%zu:%zu: "
#define OF_KEY(path, e) (path), (e)->line, (e)->column
#define OF_VALUE(path, e) (path), (e)->value_line, (e)->value_column

static weft_status number(const char *path, const weft_yaml_entry *e, double *out) {
    char *end;
    double x = strtod(e->value, &end);
    if (end == e->value || *end || !isfinite(x) || x <= 0)
        WEFT_FAIL(WEFT_EINPUT, WHERE "%s: '%s' is not a number above 0", OF_VALUE(path, e), e->key, e->value);
    *out = x;
    return WEFT_OK;
}

static weft_status flag(const char *path, const weft_yaml_entry *e, bool *out) {
    *out = strcmp(e->value, "true") == 0;
    if (!*out && strcmp(e->value, "false") != 0)
        WEFT_FAIL(WEFT_EINPUT, WHERE "%s: '%s' is neither true nor false", OF_VALUE(path, e), e->key,
                  e->value);
    return WEFT_OK;
}

static weft_status text(const char *path, const weft_yaml_entry *e, const field *f, char *out) {
    if (strlen(e->value) >= f->room)
        WEFT_FAIL(WEFT_EINPUT, WHERE "%s: longer than %zu characters", OF_VALUE(path, e), e->key,
                  f->room - 1);
    memcpy(out, e->value, strlen(e->value) + 1);
    return WEFT_OK;
}

/* `size` is what stands behind the field's key: "" for a rate of all sizes. */
static weft_status rate(const char *path, const weft_yaml_entry *e, const field *f, const char *size,
                        weft_rates *out) {
    char *end = (char *)(uintptr_t)size;
    double x = 0, at = *size ? strtod(size, &end) : 0;
    if (*size && (end == size || *end || !(at >= 1) || !isfinite(at)))
        WEFT_FAIL(WEFT_EINPUT, WHERE "%s: '%s' is not a size, which is a number from 1 on", OF_KEY(path, e),
                  e->key, size);
    WEFT_TRY(number(path, e, &x));
    for (int i = 0; i < (f->kind == ALL_RATES ? (int)WEFT_DIRECTIONS : 1); i++)
        if (!weft_rates_add(&out[i], at, x))
            WEFT_FAIL(WEFT_EINPUT, WHERE "%s: a rate of this size is there already, or %d others are",
                      OF_KEY(path, e), e->key, (int)WEFT_RATE_POINTS);
    return WEFT_OK;
}

static weft_status set(weft_machine *m, const char *path, const weft_yaml_entry *e, const field *f,
                       const char *rest) {
    void *to = place(m, f);
    double *both = to;
    if (f->kind == RATES || f->kind == ALL_RATES) return rate(path, e, f, rest, to);
    if (f->kind == TEXT) return text(path, e, f, to);
    if (f->kind == FLAG) return flag(path, e, to);
    WEFT_TRY(number(path, e, both));
    if (f->kind == BOTH) both[1] = both[0]; /* gather, reduce */
    return WEFT_OK;
}

/* The field of a key; of rates by size, what stands behind the field's own key is the size. */
static const field *field_of(const char *key, const char **rest) {
    const field *found = NULL;
    for (int i = 0; i < FIELDS; i++) {
        size_t n = strlen(fields[i].key);
        if (strncmp(key, fields[i].key, n) != 0) continue;
        bool rates = fields[i].kind == RATES || fields[i].kind == ALL_RATES;
        if (!key[n] || (rates && key[n] == '.' && strchr("0123456789", key[n + 1]) && key[n + 1])) {
            found = &fields[i];
            *rest = key + n + (key[n] == '.');
        }
    }
    return found;
}

static weft_status unknown(const char *path, const weft_yaml_entry *e) {
    const char *names[FIELDS];
    for (int i = 0; i < FIELDS; i++) names[i] = fields[i].key;
    int near = weft_nearest(e->key, names, FIELDS);
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, WHERE "unknown key '%s'; did you mean '%s'?", OF_KEY(path, e), e->key,
                  names[near]);
    WEFT_FAIL(WEFT_EINPUT, WHERE "unknown key '%s'", OF_KEY(path, e), e->key);
}

static weft_status check(const weft_machine *m, const weft_yaml *y, const char *path) {
    bool some = false;
    for (int i = 0; i < FIELDS; i++) {
        bool there = !fields[i].needed;
        for (int j = 0; j < y->count && !there; j++)
            there = strncmp(y->entries[j].key, fields[i].key, strlen(fields[i].key)) == 0;
        if (!there) WEFT_FAIL(WEFT_EINPUT, "%s: has no key '%s'", path, fields[i].key);
    }
    for (int t = 0; t < WEFT_PRODUCT_TYPES; t++) {
        const weft_rates *r = m->products[t];
        some |= r[0].count > 0;
        if (!r[0].count != !r[1].count || !r[0].count != !r[2].count)
            WEFT_FAIL(WEFT_EINPUT, "%s: products.%s wants forward, data and weights", path, types[t]);
    }
    if (!some)
        WEFT_FAIL(WEFT_EINPUT, "%s: has no rate of matrix products: products.fp32, .tf32 or .bf16", path);
    for (int i = 0; i < WEFT_REACHES; i++)
        if (!m->link[i].gather != !m->link[i].reduce)
            WEFT_FAIL(WEFT_EINPUT, "%s: link.%s wants bandwidth, or both gather and reduce", path,
                      i ? "network" : "node");
    if (m->node < 1 || m->node != floor(m->node))
        WEFT_FAIL(WEFT_EINPUT, "%s: node is a number of ranks", path);
    return WEFT_OK;
}

static weft_status fill(weft_machine *m, const weft_yaml *y, const char *path) {
    *m = (weft_machine){.node = 1, .efficiency = {1, 1, 1, 1, 1, 1}};
    for (int i = 0; i < y->count; i++) {
        const weft_yaml_entry *e = &y->entries[i];
        const char *rest = "";
        if (!e->value) continue; /* opens a mapping */
        const field *f = field_of(e->key, &rest);
        if (!f) return unknown(path, e);
        WEFT_TRY(set(m, path, e, f, rest));
    }
    return check(m, y, path);
}

weft_status weft_machine_read(weft_machine *m, const char *path) {
    char *data = NULL;
    size_t bytes;
    weft_yaml y = {0};
    WEFT_TRY(weft_fs_read_file(path, MOST_BYTES, &data, &bytes));
    weft_status st = weft_yaml_parse(&y, data, bytes, path);
    if (st == WEFT_OK) st = fill(m, &y, path);
    weft_yaml_free(&y);
    free(data);
    return st;
}

weft_status weft_machine_find(weft_machine *m, const char *which, const char *config) {
    char path[WEFT_PATH_SIZE];
    const char *slash = strrchr(config, '/'), *dot = strrchr(which, '.');
    const int folder = slash ? (int)(slash - config) + 1 : 0;
    if (strchr(which, '/') || (dot && strcmp(dot, ".yaml") == 0)) return weft_machine_read(m, which);
    static const char *const places[] = {"machines", "../machines"};
    for (int i = 0; i < 2; i++) {
        WEFT_TRY(weft_fs_path(path, "%.*s%s/%s.yaml", folder, config, places[i], which));
        if (access(path, F_OK) == 0) return weft_machine_read(m, path);
    }
    WEFT_TRY(weft_fs_path(path, "configs/machines/%s.yaml", which));
    if (access(path, F_OK) == 0) return weft_machine_read(m, path);
    WEFT_FAIL(
        WEFT_EINPUT,
        "--machine %s: there is no %s.yaml in %.*smachines, %.*s../machines or configs/machines; name a file "
        "(`weft bench machine -o FILE.yaml` measures this machine)",
        which, which, folder, config, folder, config);
}

/* ---- writing ------------------------------------------------------------------------------------ */

static void print_rates(const char *indent, const char *name, const weft_rates *r, FILE *out) {
    if (!r->count) return;
    if (r->count == 1 && r->at[0] == 0) {
        fprintf(out, "%s%s: %.4g\n", indent, name, r->rate[0]);
        return;
    }
    fprintf(out, "%s%s:\n", indent, name);
    for (int i = 0; i < r->count; i++) fprintf(out, "%s  %.0f: %.4g\n", indent, r->at[i], r->rate[i]);
}

static void print_both(const char *name, const weft_rates rates[2], FILE *out) {
    if (rates[0].count || rates[1].count) fprintf(out, "%s:\n", name);
    print_rates("  ", "forward", &rates[0], out);
    print_rates("  ", "backward", &rates[1], out);
}

static void print_link(const char *name, const weft_link *l, FILE *out) {
    if (!l->gather) return;
    fprintf(out, "  %s:\n    gather: %.4g\n    reduce: %.4g\n", name, l->gather, l->reduce);
    if (l->latency > 0) fprintf(out, "    latency: %.4g\n", l->latency);
}

static void print_quoted(const char *key, const char *value, FILE *out) {
    fprintf(out, "%s: \"", key);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\') fputc('\\', out);
        fputc(*value, out);
    }
    fprintf(out, "\"\n");
}

void weft_machine_print(const weft_machine *m, FILE *out) {
    static const char *const directions[] = {"forward", "data", "weights"};
    print_quoted("name", m->name, out);
    if (*m->source) print_quoted("source", m->source, out);
    fprintf(out, "overlap: %s\nnode: %.0f\n", m->overlap ? "true" : "false", m->node);
    if (m->memory > 0) fprintf(out, "memory: %.0f\n", m->memory);
    if (m->launch > 0) fprintf(out, "launch: %.4g\n", m->launch);
    fprintf(out, "bandwidth: %.4g\nspecial: %.4g\nvector: %.4g\nproducts:\n", m->bandwidth, m->special,
            m->vector);
    for (int t = 0; t < WEFT_PRODUCT_TYPES; t++) {
        if (m->products[t][0].count) fprintf(out, "  %s:\n", types[t]);
        for (int i = 0; i < WEFT_DIRECTIONS; i++) print_rates("    ", directions[i], &m->products[t][i], out);
    }
    print_both("attention", m->attention, out);
    print_both("scan", m->scan, out);
    print_both("conv", m->conv, out);
    if (m->link[0].gather > 0 || m->link[1].gather > 0) fprintf(out, "link:\n");
    print_link("node", &m->link[WEFT_NODE], out);
    print_link("network", &m->link[WEFT_NETWORK], out);
}
