/* What an estimate says of a run, and what it takes for granted. */
#include "train/plan/plan.h"
#include "runtime/fs.h"

#include <stdlib.h>

double weft_plan_tokens_per_second(const weft_config *c, const weft_estimate *e) {
    return (double)c->train.global_batch * (double)c->train.seq_len / e->step;
}

double weft_plan_mfu(const weft_config *c, const weft_estimate *e, double flops_per_token, int ranks) {
    return weft_plan_tokens_per_second(c, e) * flops_per_token / (e->peak * ranks);
}

static bool has_experts(const weft_config *c) {
    for (int64_t i = 0; i < c->model.num_hidden_layers; i++)
        if (c->model.ffn[i] == WEFT_FFN_MOE) return true;
    return false;
}
static bool has_attention(const weft_config *c) {
    for (int64_t i = 0; i < c->model.num_hidden_layers; i++)
        if (c->model.mixer[i] == WEFT_MIXER_ATTENTION) return true;
    return false;
}

static bool reaches_all(const weft_machine *m) {
    const double share[] = {m->efficiency.products, m->efficiency.attention, m->efficiency.bandwidth,
                            m->efficiency.special,  m->efficiency.vector,    m->efficiency.links};
    for (size_t i = 0; i < sizeof share / sizeof *share; i++)
        if (share[i] != 1) return false;
    return true;
}

int weft_plan_assumptions(const weft_config *c, const weft_machine *m, const weft_mesh *mesh, char **lines) {
    int n = 0;
    lines[n++] = weft_format("rates of %s: %s", m->name, *m->source ? m->source : "of unknown source");
    if (!reaches_all(m))
        lines[n++] = weft_format(
            "of these rates are reached: products %.2f, attention %.2f, bandwidth %.2f, special functions "
            "%.2f, other arithmetic %.2f, links %.2f",
            m->efficiency.products, m->efficiency.attention, m->efficiency.bandwidth, m->efficiency.special,
            m->efficiency.vector, m->efficiency.links);
    lines[n++] = weft_format(
        "an operation takes %.2g s and the longest of its products, bytes, special functions and other "
        "arithmetic; nothing is left in a cache from one to the next",
        m->launch);
    if (has_attention(c))
        lines[n++] = weft_format("a sequence is one document: attention sees all tokens before");
    if (has_experts(c)) lines[n++] = weft_format("experts get equal numbers of tokens");
    if (mesh->ranks > 1) {
        lines[n++] = weft_format(
            "%.0f ranks to a node, neighbours of tp next to each other; no other traffic on the links",
            m->node);
        lines[n++] = weft_format(!m->overlap ? "all collectives are waited for"
                                 : c->mesh.prefetch
                                     ? "weights are gathered and gradients reduced over fsdp beside the "
                                       "computing, at no cost to it; all other collectives are waited for"
                                     : "gradients are reduced over fsdp beside the computing, at no cost to "
                                       "it; all other collectives are waited for");
    }
    lines[n++] = weft_format("no time for reading data, saving checkpoints, starting again");
    for (int i = 0; i < n; i++) {
        if (lines[i]) continue;
        for (int j = 0; j < n; j++) free(lines[j]);
        return -1;
    }
    return n;
}
