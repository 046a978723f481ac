"""Fixtures from an implementation that is not ours: transformers' JambaForCausalLM in float32, slow path, eager
attention.

    python hf_fixture.py OUT [--seed N] [--count N]

makes OUT/case_00, OUT/case_01, ... Each is a random small model with random weights and one batch of token ids:

    model/              save_pretrained: config.json, model.safetensors
    ids.txt             one sequence a line, ids separated by spaces; all of one length, no padding, no pad token
    logits.bin          float32, little-endian, [batch, tokens, vocab] (the shape is in expect.json)
    grads.safetensors   gradient of total_loss for every parameter, under the parameter's Hugging Face name
    expect.json         batch, tokens, vocab, logits_shape
                        logprobs    per sequence: natural log-probability of tokens 1.. given those before
                        loss        cross entropy: mean over all batch * (tokens - 1) targets
                        aux_loss    load-balance loss, null without experts
                        router_aux_loss_coef, total_loss = loss + router_aux_loss_coef * aux_loss
                        top_k_gap   smallest distance in probability between a chosen and a rejected expert
                        logits_move, grads_move     how far rounding-sized changes of the weights move them, relative
                        config      what was drawn, in words

The load-balance loss there: the router logits of ALL expert layers are concatenated over tokens (layers * batch *
tokens rows), p = softmax of a row, and with f[s][e] the share of rows whose s-th choice is expert e and P[e] the mean
of p[e] over all rows, aux = experts * sum over s, e of f[s][e] * P[e]; the gradient flows through P only. So a mean is
taken over layers before the product, not after it: it is not the mean of the layers' own losses. Uniform routing
gives top_k.

Every parameter is random, norms and biases too, so that no gradient is zero by construction: a wrong factor in any
backward formula shows. Sizes, weights and ids are drawn again until no router is nearly undecided (another order of
additions must not choose other experts) and until the results are well-conditioned: some draws lose half of float32's
digits in transformers itself, a norm over a nearly zero vector being the usual cause, and would test nothing.
"""

import argparse
import json
import math
import os
import random
import sys

import torch
from safetensors.torch import save_file
from transformers import JambaConfig, JambaForCausalLM

MIN_GAP = 1e-4  # in probability; float32 differs by about 1e-6
# A weight moved by some roundings of float32 must not move the results by more: then two correct implementations
# agree within 1e-5 (logits) and 1e-4 (gradients).
PERTURBATION = 2.0**-22
MAX_MOVE_LOGITS, MAX_MOVE_GRADS = 3e-6, 2e-5
PAD = 0  # transformers gives its embedding row no gradient, so it is not used as a token

# What the first cases must cover; the rest of each is drawn. Pure Mamba: an offset that no layer reaches.
CASES = [
    ("Jamba's own schedule, two of four experts", dict(num_hidden_layers=8, attn_layer_period=8, attn_layer_offset=4,
        expert_layer_period=2, expert_layer_offset=1, num_experts=4, num_experts_per_tok=2, batch=2, tokens=19)),
    ("tied, dense, biases in the projections", dict(num_experts=1, tie_word_embeddings=True, mamba_proj_bias=True,
        attn_layer_period=3, attn_layer_offset=1, num_hidden_layers=4)),
    ("pure Mamba, tied", dict(num_hidden_layers=3, attn_layer_period=4, attn_layer_offset=3,
        tie_word_embeddings=True, num_experts=1)),
    ("pure attention, experts in every layer, one chosen", dict(num_hidden_layers=2, attn_layer_period=1,
        attn_layer_offset=0, expert_layer_period=1, expert_layer_offset=0, num_experts=3, num_experts_per_tok=1)),
    ("all experts chosen", dict(num_experts=3, num_experts_per_tok=3, expert_layer_period=2, expert_layer_offset=0)),
    ("no convolution bias, one state, no expansion", dict(mamba_conv_bias=False, mamba_d_state=1, mamba_expand=1,
        mamba_proj_bias=True)),
    ("long sequence, sixteen states", dict(mamba_d_state=16, batch=1, tokens=70, num_hidden_layers=3,
        attn_layer_period=3, attn_layer_offset=2)),
    ("attention first, experts last of three", dict(num_hidden_layers=6, attn_layer_period=3, attn_layer_offset=0,
        expert_layer_period=3, expert_layer_offset=2, num_experts=4, num_experts_per_tok=2)),
    ("six heads, one for keys and values", dict(num_attention_heads=6, num_key_value_heads=1, head=5,
        attn_layer_period=2, attn_layer_offset=1)),
    ("dt rank one, three times the width, two taps", dict(mamba_dt_rank=1, mamba_expand=3, mamba_d_conv=2)),
    ("short sequences", dict(batch=3, tokens=5, mamba_d_conv=5)),
    ("more experts than slots of tokens", dict(num_experts=16, num_experts_per_tok=2, batch=1, tokens=6,
        num_hidden_layers=2, expert_layer_period=1, expert_layer_offset=0)),
    ("automatic dt rank, as many heads for keys as for queries", dict(mamba_dt_rank="auto", num_attention_heads=3,
        num_key_value_heads=3, head=11)),
    ("one tap, one head", dict(mamba_d_conv=1, num_attention_heads=1, num_key_value_heads=1, attn_layer_period=2,
        attn_layer_offset=0)),
]


def draw_config(rng, wanted):
    """Sizes of one case: what `wanted` fixes, the rest drawn; odd sizes on purpose."""
    c = dict(wanted)

    def default(key, values):
        c.setdefault(key, rng.choice(values))

    default("num_attention_heads", [1, 2, 3, 4, 6])
    heads = c["num_attention_heads"]
    default("num_key_value_heads", [g for g in range(1, heads + 1) if heads % g == 0])
    default("head", [4, 5, 7, 8, 9, 12])
    c["hidden_size"] = heads * c.pop("head")
    default("intermediate_size", range(9, 50))
    default("vocab_size", range(17, 98))
    default("num_hidden_layers", [2, 3, 4, 5])
    # Offsets that some layer reaches, and from two layers on both mixers, unless a case says otherwise.
    default("attn_layer_period", [2, 3, 4])
    default("attn_layer_offset", range(min(c["attn_layer_period"], c["num_hidden_layers"])))
    default("num_experts", [1, 2, 3, 4, 5, 8])
    default("num_experts_per_tok", range(1, min(3, c["num_experts"]) + 1))
    default("expert_layer_period", [1, 2, 3])
    default("expert_layer_offset", range(min(c["expert_layer_period"], c["num_hidden_layers"])))
    default("mamba_d_state", [2, 3, 5, 8])
    default("mamba_d_conv", [2, 3, 4])
    default("mamba_expand", [1, 2, 3])
    default("mamba_dt_rank", [1, 2, 3, 5])
    default("mamba_conv_bias", [True, True, False])
    default("mamba_proj_bias", [True, False])
    default("tie_word_embeddings", [True, False])
    # A norm over one or two numbers is nearly a jump at zero; a large epsilon makes it smooth.
    narrow = c["mamba_d_state"] <= 2 or c["mamba_dt_rank"] in (1, 2)
    default("rms_norm_eps", [1e-2] if narrow else [1e-6, 1e-5, 1e-3])
    default("router_aux_loss_coef", [0.001, 0.01, 0.05])
    default("batch", [1, 2, 3])
    default("tokens", range(5, 41))
    return c


def randomise(model, generator):
    """Scales under which every part matters: logits of order one, states that live for several tokens."""

    def normal(p):
        return torch.randn(p.shape, generator=generator)

    for name, p in model.named_parameters():
        if name.endswith("A_log"):
            states = torch.arange(1, p.shape[1] + 1, dtype=torch.float32)
            value = torch.log(states)[None, :] + 0.2 * normal(p)
        elif name.endswith("mamba.D"):
            value = 1 + 0.3 * normal(p)
        elif name.endswith("layernorm.weight"):
            value = 1 + 0.2 * normal(p)
        elif name.endswith("dt_proj.bias"):
            step = torch.exp(torch.rand(p.shape, generator=generator) * math.log(50) + math.log(0.01))
            value = step + torch.log(-torch.expm1(-step))
        elif name.endswith("bias"):
            value = 0.3 * normal(p)
        elif name.endswith("embed_tokens.weight"):
            value = normal(p)
        else:  # [out, in] or [channels, 1, taps]
            value = normal(p) / math.sqrt(p[0].numel())
        with torch.no_grad():
            p.copy_(value)


def smallest_gap(router_logits, chosen):
    """The least distance between the last chosen and the first rejected probability; 1 if none is rejected."""
    gap = 1.0
    for logits in router_logits:
        p = torch.softmax(logits.double(), dim=-1).sort(dim=-1, descending=True).values
        if chosen < p.shape[-1]:
            gap = min(gap, float((p[:, chosen - 1] - p[:, chosen]).min()))
    return gap


def run(model, ids, experts):
    """The model's output, and all gradients by name; an expert that got no token may have none."""
    model.zero_grad(set_to_none=True)
    out = model(input_ids=ids, labels=ids, output_router_logits=experts, use_cache=False, return_dict=True)
    out.loss.backward()
    grads = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    return out, grads


def sensitivity(model, ids, experts, logits, grads, generator):
    """How far the logits (largest difference over the largest) and the worst gradient (norm of the difference over
    the norm) move when each weight moves by some roundings of float32. Leaves the model as it was."""
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + PERTURBATION * torch.randn(p.shape, generator=generator))
    out, moved = run(model, ids, experts)
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(kept[n])
    worst = max(float((moved[n] - g).norm() / g.norm()) for n, g in grads.items() if g.norm() > 0)
    return float((out.logits - logits).detach().abs().max() / logits.abs().max()), worst


def draw_case(c, experts, seed):
    """A model, ids and results that another float32 implementation can be held to; None if these sizes give none."""
    sizes = {k: v for k, v in c.items() if k not in ("batch", "tokens")}
    config = JambaConfig(**sizes, pad_token_id=PAD, bos_token_id=1, eos_token_id=2, use_mamba_kernels=False,
                         attn_implementation="eager", num_logits_to_keep=1)
    model = JambaForCausalLM(config).float().train()  # no dropout in it: train only lets gradients flow
    generator = torch.Generator().manual_seed(seed)
    for _ in range(30):
        randomise(model, generator)
        ids = torch.randint(PAD + 1, c["vocab_size"], (c["batch"], c["tokens"]), generator=generator)
        out, grads = run(model, ids, experts)
        logits = out.logits.detach()
        gap = smallest_gap(out.router_logits, c["num_experts_per_tok"]) if experts else 1.0
        if gap < MIN_GAP:
            continue
        moved = sensitivity(model, ids, experts, logits, grads, generator)
        if moved[0] < MAX_MOVE_LOGITS and moved[1] < MAX_MOVE_GRADS:
            return model, ids, out, grads, dict(top_k_gap=gap, logits_move=moved[0], grads_move=moved[1])
    return None


def make_case(folder, title, wanted, rng):
    for _ in range(20):
        c = draw_config(rng, wanted)
        experts = c["num_experts"] > 1
        drawn = draw_case(c, experts, rng.getrandbits(48))
        if drawn:
            break
    else:
        sys.exit(f"hf_fixture: {title}: no draw is well-conditioned")
    model, ids, out, grads, condition = drawn
    logits = out.logits.detach()
    for name, grad in grads.items():
        idle = ".experts." in name  # an expert may get no token
        if not torch.isfinite(grad).all() or (not idle and not grad.abs().max() > 0):
            sys.exit(f"hf_fixture: {title}: the gradient of {name} is zero or not finite")

    vocab, coef = c["vocab_size"], c["router_aux_loss_coef"]
    logprobs = torch.log_softmax(logits.double(), dim=-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    loss = -float(logprobs.mean())
    aux = float(out.aux_loss.detach()) if experts else None
    total = loss + (coef * aux if experts else 0)
    if abs(total - float(out.loss.detach())) > 1e-5 * total:
        sys.exit(f"hf_fixture: {title}: the loss is {float(out.loss)}, but its parts make {total}")

    os.makedirs(folder)
    model.save_pretrained(os.path.join(folder, "model"), safe_serialization=True)
    save_file(grads, os.path.join(folder, "grads.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(folder, "ids.txt"), "w") as f:
        for sequence in ids.tolist():
            f.write(" ".join(map(str, sequence)) + "\n")
    logits.numpy().astype("<f4").tofile(os.path.join(folder, "logits.bin"))
    expect = dict(title=title, batch=c["batch"], tokens=c["tokens"], vocab=vocab, logits_shape=list(logits.shape),
                  logprobs=logprobs.tolist(), loss=loss, aux_loss=aux, router_aux_loss_coef=coef, total_loss=total,
                  **condition, config=c)
    with open(os.path.join(folder, "expect.json"), "w") as f:
        json.dump(expect, f, indent=1)
    print(f"{folder}: {title}: D {c['hidden_size']}, {c['num_hidden_layers']} layers, {c['batch']} x {c['tokens']} "
          f"tokens, loss {loss:.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder to make; must not exist")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=len(CASES), help="number of cases (default %(default)s)")
    args = parser.parse_args()
    if os.path.exists(args.out):
        parser.error(f"{args.out} exists; remove it or choose another")
    if args.count < 1:
        parser.error("--count must be at least 1")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for i in range(args.count):
        title, wanted = CASES[i] if i < len(CASES) else ("drawn", {})
        make_case(os.path.join(args.out, f"case_{i:02d}"), title, wanted, random.Random(f"{args.seed}/{i}"))


if __name__ == "__main__":
    main()
