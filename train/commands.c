#include "train/commands.h"

const weft_command weft_commands[] = {
    {"train", "pretrain a model, or go on from its newest checkpoint", weft_cmd_train, true},
    {"data", "make shards of tokens from text: filters, deduplication; statistics, samples", weft_cmd_data,
     true},
    {"tokenizer", "train a tokenizer, encode, decode", weft_cmd_tokenizer, false},
    {"eval", "bits per byte on held-out text, recall, copying, needles and other tasks", weft_cmd_eval, true},
    {"ablate", "train, evaluate and compare a family of variants on the same data", weft_cmd_ablate, true},
    {"report", "one HTML page about runs: curves, tables, heat maps", weft_cmd_report, false},
    {"logprob", "log-probability of each token of given sequences", weft_cmd_logprob, false},
    {"generate", "continue a text", weft_cmd_generate, false},
    {"export", "write a checkpoint as a Hugging Face directory", weft_cmd_export, false},
    {"import", "read a Hugging Face directory into a checkpoint", weft_cmd_import, false},
    {"ckpt", "list and verify checkpoints", weft_cmd_ckpt, false},
    {"parity", "compare a step on several ranks with one rank's, tensor by tensor", weft_cmd_parity, true},
    {"ledger", "what each rank of a job did last, and which one the others wait for", weft_cmd_ledger, false},
    {"plan", "parameters, caches, memory, traffic and step time of a configuration; the best meshes",
     weft_cmd_plan, false},
    {"bench", "measure this machine, or a configuration's training step", weft_cmd_bench, true},
    {"config", "show a configuration, document every key", weft_cmd_config, false},
};
const int weft_commands_count = (int)(sizeof weft_commands / sizeof *weft_commands);
