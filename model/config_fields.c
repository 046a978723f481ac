/* The field table: every key of the configuration. Loading, overrides, validation of single values, `weft
 * config show` and `weft config doc` all follow it; rules that join several keys stand in config_finish.c. */
#include "model/config_fields.h"

#include <math.h>
#include <string.h>

#define MEMBER(m) (((weft_config *)0)->m)
/* The offset of a member; a member whose type is not the one the row reads and writes does not compile. */
#define AT(type_, m) (offsetof(weft_config, m) + 0 * sizeof(_Generic(MEMBER(m), type_ : 1)))

#define AT_LEAST(a)                                                                                          \
    { a, INFINITY, false, false }
#define ABOVE(a)                                                                                             \
    { a, INFINITY, true, false }
#define FROM_TO(a, b)                                                                                        \
    { a, b, false, false }
#define FROM_BELOW(a, b)                                                                                     \
    { a, b, false, true }

#define INT(k, m, d, r, u, t)                                                                                \
    {                                                                                                        \
        .key = k, .type = WEFT_FIELD_INT, .offset = AT(int64_t, m), .preset = d, .range = r, .unit = u,      \
        .doc = t                                                                                             \
    }
#define INT_AUTO(k, m, d, r, u, t)                                                                           \
    {                                                                                                        \
        .key = k, .type = WEFT_FIELD_INT, .offset = AT(int64_t, m), .preset = d, .range = r,                 \
        .has_auto = true, .unit = u, .doc = t                                                                \
    }
#define REAL(k, m, d, r, u, t)                                                                               \
    {                                                                                                        \
        .key = k, .type = WEFT_FIELD_REAL, .offset = AT(double, m), .preset = d, .range = r, .unit = u,      \
        .doc = t                                                                                             \
    }
#define BOOL(k, m, d, t)                                                                                     \
    { .key = k, .type = WEFT_FIELD_BOOL, .offset = AT(bool, m), .preset = d, .doc = t }
#define TEXT(k, m, d, t)                                                                                     \
    {                                                                                                        \
        .key = k, .type = WEFT_FIELD_TEXT, .offset = AT(char *, m), .size = sizeof MEMBER(m), .preset = d,   \
        .doc = t                                                                                             \
    }
#define CHOICE(k, m, e, c, d, t)                                                                             \
    { .key = k, .type = WEFT_FIELD_CHOICE, .offset = AT(e, m), .preset = d, .choices = c, .doc = t }

static const char *const devices[] = {
    [WEFT_DEVICE_AUTO] = "auto", [WEFT_DEVICE_CPU] = "cpu", [WEFT_DEVICE_CUDA] = "cuda", NULL};
static const char *const precisions[] = {
    [WEFT_PRECISION_FP32] = "fp32", [WEFT_PRECISION_BF16] = "bf16", NULL};
static const char *const attentions[] = {
    [WEFT_ATTENTION_AUTO] = "auto", [WEFT_ATTENTION_CUDNN] = "cudnn", [WEFT_ATTENTION_WEFT] = "weft", NULL};
static const char *const positions[] = {[WEFT_POS_NONE] = "none", [WEFT_POS_ROPE] = "rope", NULL};
static const char *const schedules[] = {
    [WEFT_SCHED_COSINE] = "cosine", [WEFT_SCHED_WSD] = "wsd", [WEFT_SCHED_CONSTANT] = "constant", NULL};
static const char *const packings[] = {
    [WEFT_PACKING_CONCAT] = "concat", [WEFT_PACKING_WHOLE] = "whole", NULL};
static const char *const recomputes[] = {[WEFT_RECOMPUTE_NONE] = "none",
                                         [WEFT_RECOMPUTE_MIXER] = "mixer",
                                         [WEFT_RECOMPUTE_FFN] = "ffn",
                                         [WEFT_RECOMPUTE_ALL] = "all",
                                         NULL};
static const char *const reshards[] = {[WEFT_RESHARD_ALWAYS] = "always",
                                       [WEFT_RESHARD_AFTER_BACKWARD] = "after_backward",
                                       [WEFT_RESHARD_NEVER] = "never",
                                       NULL};
static const char *const determinisms[] = {[WEFT_DET_LAYOUT] = "layout", [WEFT_DET_RUN] = "run", NULL};
/* An enum is read and written as an int. */
_Static_assert(sizeof(weft_device_kind) == sizeof(int) && sizeof(weft_positions) == sizeof(int) &&
                   sizeof(weft_schedule_kind) == sizeof(int) && sizeof(weft_recompute) == sizeof(int) &&
                   sizeof(weft_deterministic) == sizeof(int) && sizeof(weft_reshard) == sizeof(int) &&
                   sizeof(weft_precision) == sizeof(int) && sizeof(weft_attention_kernel) == sizeof(int) &&
                   sizeof(weft_packing) == sizeof(int),
               "enums of the configuration have the size of int");

const weft_section weft_sections[] = {
    {"", "Top-level keys. A file may also have `include: other.yaml` here: that file, relative to this one, "
         "is read "
         "first, and the keys of this one win."},
    {"model", "The architecture. Names follow Hugging Face's JambaConfig where it has one; the defaults are "
              "Jamba v0.1 "
              "(52B)."},
    {"data", "What to train on."},
    {"train", "Steps, batch, memory and determinism."},
    {"optim",
     "AdamW (Loshchilov and Hutter, arXiv 1711.05101) and the learning rate. Norms, biases, A_log and D have "
     "no weight decay."},
    {"mesh", "How the ranks share the work: dp * fsdp * cp * tp of them, and ep carved out of dp * fsdp * "
             "cp. It decides memory, traffic and speed; the model that is trained does not depend on it. "
             "One axis at most can be auto: the ranks that the others leave over (fsdp is 1 where another "
             "axis is auto too)."},
    {"checkpoint", "When to save, and what to keep."},
    {"log", "The console. metrics.jsonl in the run directory always has every step."},
};
const int weft_sections_count = sizeof weft_sections / sizeof *weft_sections;

/* Upper bounds are far above any model; config_finish.c checks that their products fit 64 bits. */
const weft_field weft_fields[] = {
    TEXT("run", run, "", "Directory of this run: checkpoints, metrics, logs; `weft train` needs it."),
    INT("seed", seed, "1234", AT_LEAST(0), NULL,
        "Seeds the initial weights and the order of the data; neither depends on the number of ranks."),
    CHOICE(
        "device", device, weft_device_kind, devices, "auto",
        "Where the arithmetic runs; auto takes a GPU when there is one and this binary can use it. One rank "
        "uses one GPU, by its number on its machine."),
    CHOICE(
        "precision", precision, weft_precision, precisions, "fp32",
        "Type of activations and of the parameters' working copies. bf16 needs a GPU; parameters and moments "
        "of the optimizer, gradients, router probabilities, Mamba's states, A_log, D, dt bias and losses "
        "stay "
        "fp32, and every sum runs in fp32."),
    BOOL("tf32", tf32, "false",
         "On a GPU with precision=fp32: matrix products in TF32 (10 bits of mantissa)."),
    CHOICE("attention", attention, weft_attention_kernel, attentions, "auto",
           "On a GPU: cudnn, weft's own kernels, or auto: cuDNN where it supports the shape and agrees with "
           "weft's kernels on a probe (precision=bf16, data.document_mask=false, no context parallelism)."),
    TEXT("resume", start.resume, "auto",
         "auto: go on from the newest valid checkpoint of the run, if there is one; never: start anew, in an "
         "unused run "
         "directory; otherwise the checkpoint directory to go on from."),

    INT("model.vocab_size", model.vocab_size, "65536", FROM_TO(1, 1e8), "tokens",
        "V: rows of the embedding."),
    INT("model.hidden_size", model.hidden_size, "4096", FROM_TO(1, 1e7), "features",
        "D: width of the residual stream."),
    INT("model.intermediate_size", model.intermediate_size, "14336", FROM_TO(0, 1e8), "features",
        "F: inner width of a feed-forward part and of each expert; 0 only where no layer has one."),
    INT("model.num_hidden_layers", model.num_hidden_layers, "32", FROM_TO(1, WEFT_MAX_LAYERS), "layers",
        "Layers; each has a mixer (attention or Mamba) and a feed-forward part (dense or experts)."),
    INT("model.num_attention_heads", model.num_attention_heads, "32", FROM_TO(1, 65536), "heads",
        "H: query heads of an attention layer."),
    INT("model.num_key_value_heads", model.num_key_value_heads, "8", FROM_TO(1, 65536), "heads",
        "G: key/value heads; divides the query heads (grouped-query attention)."),
    INT_AUTO("model.head_dim", model.head_dim, "auto", FROM_TO(0, 65536), "features",
             "Width of one attention head; auto is hidden_size / num_attention_heads."),
    INT("model.attn_layer_period", model.attn_layer_period, "8", FROM_TO(0, WEFT_MAX_LAYERS), "layers",
        "Layer i has attention if i % period == offset, otherwise Mamba; 0: no attention layer."),
    INT("model.attn_layer_offset", model.attn_layer_offset, "4", FROM_TO(0, WEFT_MAX_LAYERS), "layers",
        "See attn_layer_period; smaller than it."),
    INT("model.expert_layer_period", model.expert_layer_period, "2", FROM_TO(0, WEFT_MAX_LAYERS), "layers",
        "Layer i has experts if i % period == offset and num_experts > 1, otherwise a dense feed-forward "
        "part; 0: no "
        "layer with experts."),
    INT("model.expert_layer_offset", model.expert_layer_offset, "1", FROM_TO(0, WEFT_MAX_LAYERS), "layers",
        "See expert_layer_period; smaller than it."),
    TEXT("model.mixer_pattern", model.mixer_pattern, "",
         "Mixers one symbol a layer instead of period and offset: A attention, M Mamba, . none; e.g. "
         "MMMMAMMM for 8 "
         "layers."),
    TEXT("model.ffn_pattern", model.ffn_pattern, "",
         "Feed-forward parts one symbol a layer instead of period and offset: D dense, E experts, . none; "
         "e.g. "
         "DEDEDEDE."),
    INT("model.num_experts", model.num_experts, "16", FROM_TO(1, 65536), "experts",
        "X: experts of an expert layer; 1: every feed-forward part is dense."),
    INT("model.num_experts_per_tok", model.num_experts_per_tok, "2", FROM_TO(1, 65536), "experts",
        "k: experts that each token is sent to; none is dropped."),
    BOOL("model.norm_topk_prob", model.norm_topk_prob, "false",
         "Divide the k chosen router probabilities by their sum (Jamba does not)."),
    REAL("model.router_aux_loss_coef", model.router_aux_loss_coef, "0.001", AT_LEAST(0), NULL,
         "Weight of the load-balance loss, whose value is k when every expert is used alike."),
    REAL("model.router_z_loss_coef", model.router_z_loss_coef, "0", AT_LEAST(0), NULL,
         "Weight of the router's z-loss (Zoph et al., arXiv 2202.08906); 0: off."),
    REAL("model.activation_loss_coef", model.activation_loss_coef, "0", AT_LEAST(0), NULL,
         "Weight of the mean square of activations (Jamba-1.5, arXiv 2408.12570, used 1e-5); 0: off."),
    INT("model.mamba_d_state", model.mamba_d_state, "16", FROM_TO(1, 4096), NULL,
        "N: state per inner channel."),
    INT("model.mamba_d_conv", model.mamba_d_conv, "4", FROM_TO(1, 256), "tokens",
        "K: taps of the causal convolution."),
    INT("model.mamba_expand", model.mamba_expand, "2", FROM_TO(1, 64), NULL,
        "Inner width of Mamba as a multiple of hidden_size."),
    INT_AUTO("model.mamba_dt_rank", model.mamba_dt_rank, "auto", FROM_TO(0, 1e7), "features",
             "R: rank of the projection that gives the time step; auto is ceil(hidden_size / 16)."),
    BOOL("model.mamba_conv_bias", model.mamba_conv_bias, "true", "The convolution has a bias."),
    BOOL("model.mamba_proj_bias", model.mamba_proj_bias, "false",
         "Mamba's in_proj and out_proj have biases."),
    BOOL("model.mamba_inner_norm", model.mamba_inner_norm, "true",
         "RMSNorm on dt, B and C; Jamba needs it against loss spikes at 7B and above (arXiv 2403.19887, "
         "figure 9)."),
    CHOICE("model.positions", model.positions, weft_positions, positions, "none",
           "Position information in attention; Jamba has none, as Mamba layers carry it."),
    REAL("model.rope_theta", model.rope_theta, "10000", ABOVE(0), NULL,
         "Base of rotary embeddings; used with positions: rope."),
    REAL("model.rms_norm_eps", model.rms_norm_eps, "1e-6", ABOVE(0), NULL,
         "Added to the mean square in every RMSNorm."),
    REAL("model.initializer_range", model.initializer_range, "0.02", ABOVE(0), NULL,
         "Standard deviation of the initial weights outside Mamba's own initialisation."),
    BOOL("model.tie_word_embeddings", model.tie_word_embeddings, "false",
         "The output projection is the embedding matrix."),
    INT("model.bos_token_id", model.bos_token_id, "1", FROM_TO(0, 1e8), NULL, "Token before a document."),
    INT("model.eos_token_id", model.eos_token_id, "2", FROM_TO(0, 1e8), NULL, "Token after a document."),
    INT("model.pad_token_id", model.pad_token_id, "0", FROM_TO(0, 1e8), NULL, "Token for padding."),

    TEXT("data.path", data.path, "",
         "Directory of shards made by `weft data`, or random: random tokens, for benchmarks and tests."),
    {.key = "data.weights",
     .type = WEFT_FIELD_WEIGHTS,
     .offset = AT(weft_domain_weight *, data.weights),
     .preset = "{}",
     .range = AT_LEAST(0),
     .doc = "Mixture: a mapping from domain to relative weight, {books: 2, code: 1}; {}: in proportion to "
            "tokens, "
            "otherwise domains that are not named get none. A file adds to the mapping of the file it "
            "includes; {} "
            "empties it. One weight on the command line: data.weights.books=2."},
    CHOICE("data.packing", data.packing, weft_packing, packings, "concat",
           "How documents become sequences. concat: sequences are cut from all documents one behind the "
           "other. whole: each holds whole documents (best fit) and is filled up with EOS, which no "
           "loss counts; a document longer than train.seq_len is cut."),
    INT("data.max_epochs", data.max_epochs, "0", FROM_TO(0, 1e9), "epochs",
        "No domain is repeated more often: when it is used up, its turns go to the others in proportion to "
        "their weights. A run that needs more than there is does not start. 0: no limit."),
    BOOL("data.document_mask", data.document_mask, "true",
         "Documents packed into one sequence do not see each other: attention is masked, Mamba's state and "
         "convolution start anew."),
    INT("data.cache_mib", data.cache_mib, "256", FROM_TO(1, 1e9), "MiB",
        "Decoded chunks of shards kept in memory."),

    INT("train.steps", train.steps, "1000", FROM_TO(1, 1e12), "steps", "Optimizer updates of the whole run."),
    INT("train.global_batch", train.global_batch, "8", FROM_TO(1, 1e9), "sequences",
        "Sequences of one step, over all ranks; a multiple of micro_batch."),
    INT("train.global_batch_tokens", train.global_batch_tokens, "0", FROM_TO(0, 1e15), "tokens",
        "The same in tokens: a multiple of seq_len. Of the two keys the one given last counts; 0: "
        "global_batch."),
    INT("train.micro_batch", train.micro_batch, "1", FROM_TO(1, 1e7), "sequences",
        "Sequences that a rank, or the cp * tp ranks that share them, process at once; the load-balance "
        "loss is computed per microbatch, so it does not depend on the number of ranks."),
    INT("train.seq_len", train.seq_len, "256", FROM_TO(1, 1e9), "tokens", "T: length of a sequence."),
    CHOICE(
        "train.deterministic", train.deterministic, weft_deterministic, determinisms, "layout",
        "layout: gradients are summed in a fixed tree over the global batch: the same bits for all powers of "
        "two "
        "of mesh.dp and mesh.fsdp (other axes alike, and mesh.ep at most fsdp*cp); needs log2(microbatches "
        "per rank) more gradient buffers, and with mesh.dp above 1 a sum over the replicas for each odd part "
        "of the number of microbatches. run: the same bits again on the same mesh."),
    CHOICE("train.recompute", train.recompute, weft_recompute, recomputes, "none",
           "What the backward pass computes again instead of keeping it from the forward pass: less memory, "
           "more "
           "time."),
    TEXT("train.recompute_layers", train.recompute_layers, "",
         "Layers that train.recompute applies to, e.g. 0-3,8; empty: all."),
    INT("train.loss_chunk", train.loss_chunk, "512", FROM_TO(1, 1e9), "tokens",
        "Rows of logits that exist at a time; each takes vocab_size numbers."),

    REAL("optim.lr", optim.lr, "0.001", ABOVE(0), NULL, "Peak learning rate."),
    REAL("optim.min_lr", optim.min_lr, "0.0001", AT_LEAST(0), NULL, "Learning rate at the end; at most lr."),
    REAL("optim.beta1", optim.beta1, "0.9", FROM_BELOW(0, 1), NULL, "Decay of the first moment."),
    REAL("optim.beta2", optim.beta2, "0.95", FROM_BELOW(0, 1), NULL, "Decay of the second moment."),
    REAL("optim.eps", optim.eps, "1e-8", ABOVE(0), NULL, "Added to the root of the second moment."),
    REAL("optim.weight_decay", optim.weight_decay, "0.1", AT_LEAST(0), NULL,
         "Decoupled weight decay, multiplied by the learning rate."),
    REAL("optim.clip", optim.clip, "1", AT_LEAST(0), NULL,
         "Largest global norm of the gradient; 0: no clipping."),
    CHOICE("optim.schedule", optim.schedule, weft_schedule_kind, schedules, "cosine",
           "After the warm-up: cosine to min_lr, wsd (constant, then a final decay to min_lr), or constant."),
    INT("optim.warmup", optim.warmup, "100", FROM_TO(0, 1e12), "steps",
        "Steps of linear warm-up from 0; at most train.steps."),
    INT("optim.decay_steps", optim.decay_steps, "0", FROM_TO(0, 1e12), "steps",
        "wsd: length of the final decay; 0: a tenth of train.steps."),

    INT_AUTO("mesh.dp", mesh.sizes.size[WEFT_AXIS_DP], "1", FROM_TO(0, 1e6), "ranks",
             "Data parallelism over copies of the sharded model (the outer axis of hybrid sharding): each "
             "trains on a part of the global batch, and only gradients move between them."),
    INT_AUTO("mesh.fsdp", mesh.sizes.size[WEFT_AXIS_FSDP], "auto", FROM_TO(0, 1e6), "ranks",
             "Fully sharded data parallelism (ZeRO-3, arXiv 1910.02054): each rank trains on a part of the "
             "global batch and holds a part of the weights, gradients and optimizer state; the weights of "
             "a layer are gathered when it is used."),
    INT_AUTO("mesh.cp", mesh.sizes.size[WEFT_AXIS_CP], "1", FROM_TO(0, 1e6), "ranks",
             "Context parallelism: ranks that share each sequence, for sequences that are too long for one "
             "rank; train.seq_len must be a multiple of 2 * cp."),
    INT_AUTO("mesh.tp", mesh.sizes.size[WEFT_AXIS_TP], "1", FROM_TO(0, 1e6), "ranks",
             "Tensor parallelism: ranks that share each matrix and the rows of the residual stream; needs "
             "the fastest links, so keep it within a node. Divides model.num_attention_heads if any."),
    INT("mesh.ep", mesh.sizes.size[WEFT_AXIS_EP], "1", FROM_TO(1, 1e6), "ranks",
        "Expert parallelism: ranks that hold different experts and send each other the tokens. Divides dp "
        "* fsdp * cp; it also divides fsdp * cp, or is a multiple of it; at most model.num_experts."),
    INT_AUTO("mesh.ep_passes", mesh.ep_passes, "auto", FROM_TO(0, 4096), "passes",
             "With ep above 1: an expert layer takes a microbatch's tokens in so many passes, one part of "
             "them after the other. No token is dropped, so all of a pass may go to the experts of one rank, "
             "and its memory is sized for that: more passes take less of it, and more and smaller messages. "
             "1: what the experts compute is kept for the backward pass. Above 1 nothing of it is kept: the "
             "backward pass sends the tokens again and computes the experts' first product again. auto is "
             "mesh.ep."),
    CHOICE("mesh.reshard", mesh.reshard, weft_reshard, reshards, "always",
           "When gathered weights are freed. always: after a layer's forward and again after its backward "
           "pass, the least memory; after_backward: kept from forward to backward, gathered once a "
           "microbatch; never: kept until the optimizer changes them, gathered once a step."),
    BOOL("mesh.prefetch", mesh.prefetch, "true",
         "true: start to gather the weights of the next layer while this one computes, into a second place "
         "(over "
         "MPI the two overlap where the network moves data by itself); false: gather them when they are "
         "needed."),
    CHOICE(
        "mesh.reduce", mesh.reduce, weft_precision, precisions, "fp32",
        "Type in which gradients travel between the ranks of fsdp; they are summed in fp32 either way. bf16 "
        "needs a GPU."),
    REAL("mesh.timeout", mesh.timeout, "600", AT_LEAST(0), "seconds",
         "A collective that takes longer ends the job, with a report of which rank is missing from it; 0: "
         "never."),

    INT("checkpoint.every", checkpoint.every, "500", FROM_TO(0, 1e12), "steps",
        "Save every so many steps, and at the end; 0: only at the end."),
    INT("checkpoint.keep", checkpoint.keep, "3", FROM_TO(1, 1e9), "checkpoints",
        "Newest checkpoints to keep."),
    INT("checkpoint.keep_every", checkpoint.keep_every, "0", FROM_TO(0, 1e12), "steps",
        "Also keep, for ever, the checkpoints of every so many steps; 0: none."),
    BOOL("checkpoint.compress", checkpoint.compress, "false",
         "Shuffle and zstd on floating-point data: a little smaller, slower to write."),

    INT("log.every", log.every, "10", FROM_TO(1, 1e12), "steps", "Console line every so many steps."),
};
const int weft_fields_count = sizeof weft_fields / sizeof *weft_fields;

bool weft_field_in(const weft_field *f, const char *section, const char **name) {
    size_t n = strlen(section);
    if (n == 0) {
        *name = f->key;
        return strchr(f->key, '.') == NULL;
    }
    *name = f->key + n + 1;
    return strncmp(f->key, section, n) == 0 && f->key[n] == '.';
}

const weft_field *weft_field_find(const char *key, const char **domain) {
    *domain = NULL;
    for (int i = 0; i < weft_fields_count; i++) {
        const weft_field *f = &weft_fields[i];
        size_t n = strlen(f->key);
        if (strncmp(key, f->key, n) != 0) continue;
        if (key[n] == '\0') return f;
        if (f->type == WEFT_FIELD_WEIGHTS && key[n] == '.') {
            *domain = key + n + 1;
            return f;
        }
    }
    return NULL;
}
