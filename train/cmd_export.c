/* `weft export MODEL --format hf -o DIR` and `weft import DIR -o RUN`. */
#include "runtime/fs.h"
#include "train/checkpoint.h"
#include "train/commands.h"
#include "train/fragments.h"
#include "train/hf.h"
#include "train/modelfile.h"
#include "train/options.h"
#include "train/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static weft_status print_result(const weft_modelfile *f, const char *to, bool json) {
    int64_t total = weft_params_total(&f->model.table);
    if (!json) {
        printf("%s -> %s: %lld parameters\n", f->path, to, (long long)total);
        return weft_output_finish();
    }
    return weft_output_json(json_pack("{s:s, s:s, s:I, s:I}", "model", f->path, "output", to, "parameters",
                                      (json_int_t)total, "step", (json_int_t)f->step),
                            0);
}

weft_status weft_cmd_export(const weft_world *w, int argc, char **argv) {
    const char *format = "hf", *out = NULL, *dtype = "float32";
    int64_t shard_mib = 5000;
    bool json = false, help = false;
    int n = 0;
    const weft_usage usage = {
        .command = "weft export",
        .positional = "MODEL",
        .text =
            "Writes a model as a Hugging Face directory: config.json, safetensors, tokenizer. MODEL is a\n"
            "run directory, a checkpoint or a Hugging Face directory.",
        .min_positional = 1,
        .max_positional = 1};
    const weft_option options[] = {
        {"format", WEFT_OPT_STRING, &format, "hf", "hf: JambaForCausalLM, as transformers and vLLM load it"},
        {"o", WEFT_OPT_STRING, &out, "DIR", "the directory to make; must not exist"},
        {"dtype", WEFT_OPT_STRING, &dtype, "TYPE", "float32 or bfloat16 (float32)"},
        {"max-shard-size", WEFT_OPT_INT, &shard_mib, "MIB",
         "larger models are cut into files of this size (5000)"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "print one JSON object"},
    };
    WEFT_TRY(weft_options_parse(&usage, options, 5, argc, argv, &n, &help));
    if (help) return WEFT_OK;
    if (!out) WEFT_FAIL(WEFT_EINPUT, "weft export: -o DIR is missing");
    if (strcmp(format, "hf") != 0) WEFT_FAIL(WEFT_EINPUT, "--format %s: only hf is known", format);
    bool bf16 = strcmp(dtype, "bfloat16") == 0;
    if (!bf16 && strcmp(dtype, "float32") != 0)
        WEFT_FAIL(WEFT_EINPUT, "--dtype %s: float32 or bfloat16", dtype);
    if (shard_mib < 1 || shard_mib > INT64_MAX >> 20)
        WEFT_FAIL(WEFT_EINPUT, "--max-shard-size %lld: must be from 1 to %lld", (long long)shard_mib,
                  (long long)(INT64_MAX >> 20));

    weft_modelfile *f = calloc(1, sizeof *f);
    weft_status st = f ? weft_modelfile_open(f, w, argv[1]) : weft_fail(WEFT_ENOMEM, "no memory");
    if (st == WEFT_OK) {
        st = weft_hf_export(out, &f->config.model, &f->model.table, f->params,
                            bf16 ? WEFT_BF16 : WEFT_REAL_DTYPE, shard_mib << 20,
                            *f->tokenizer ? f->tokenizer : NULL);
        if (st == WEFT_OK) st = print_result(f, out, json);
        weft_modelfile_close(f);
    }
    free(f);
    return st;
}

/* A checkpoint of step 0 with the given weights and empty moments. */
static weft_status save_as_run(const weft_world *w, const weft_modelfile *f, const char *run) {
    weft_real *zeros = calloc((size_t)f->model.table.flat, sizeof *zeros);
    weft_real *const flats[WEFT_FRAGMENT_KINDS] = {f->params, zeros, zeros};
    weft_fragment_list list = {0};
    weft_ckpt_state state = {.seed = (uint64_t)f->config.seed,
                             .tokenizer = f->tokenizer_digest,
                             .config_yaml = weft_config_to_yaml(&f->config)};
    weft_ckpt_options options = {.keep = 1, .tokenizer_model = *f->tokenizer ? f->tokenizer : NULL};
    weft_status st = zeros && state.config_yaml ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for %s", run);
    if (st == WEFT_OK) st = weft_fragments_whole(&list, &f->model.table, flats, WEFT_FRAGMENT_KINDS);
    if (st == WEFT_OK) st = weft_ckpt_save(w, run, &state, list.fragments, list.count, &options);
    weft_fragments_free(&list);
    weft_ckpt_state_free(&state);
    free(zeros);
    return st;
}

/* The whole run or nothing. */
static weft_status make_run(const weft_world *w, weft_modelfile *f, const char *run) {
    weft_model_config *m = &f->config.model;
    int64_t rank = m->mamba_dt_rank;
    /* config.json always states the rank; configurations leave the usual one to be derived. */
    m->mamba_dt_rank = 0;
    if (weft_dt_rank(m) != rank) m->mamba_dt_rank = rank;
    WEFT_TRY(weft_fs_mkdir(run));
    weft_status st = save_as_run(w, f, run);
    if (st != WEFT_OK) weft_fs_remove_tree(run);
    return st;
}

weft_status weft_cmd_import(const weft_world *w, int argc, char **argv) {
    const char *out = NULL;
    bool json = false, help = false;
    int n = 0;
    const weft_usage usage = {
        .command = "weft import",
        .positional = "HF_DIR",
        .text =
            "Reads a Hugging Face directory of a Jamba model into a new run: a checkpoint of step 0, from\n"
            "which `weft train` with the same model goes on. Every missing, extra or misshapen tensor is\n"
            "an error, by name.",
        .min_positional = 1,
        .max_positional = 1};
    const weft_option options[] = {
        {"o", WEFT_OPT_STRING, &out, "RUN", "the run directory to make; must not exist"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "print one JSON object"},
    };
    WEFT_TRY(weft_options_parse(&usage, options, 2, argc, argv, &n, &help));
    if (help) return WEFT_OK;
    if (!out) WEFT_FAIL(WEFT_EINPUT, "weft import: -o RUN is missing");
    if (access(out, F_OK) == 0) WEFT_FAIL(WEFT_EINPUT, "%s: exists; remove it or choose another", out);
    weft_modelfile *f = calloc(1, sizeof *f);
    if (!f) WEFT_FAIL(WEFT_ENOMEM, "no memory");
    weft_status st =
        weft_hf_is_dir(argv[1])
            ? WEFT_OK
            : weft_fail(WEFT_EINPUT, "%s: is not a Hugging Face directory: no config.json", argv[1]);
    if (st == WEFT_OK) st = weft_modelfile_open(f, w, argv[1]);
    if (st == WEFT_OK) {
        st = make_run(w, f, out);
        if (st == WEFT_OK) st = print_result(f, out, json);
        weft_modelfile_close(f);
    }
    free(f);
    return st;
}
