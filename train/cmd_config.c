/* `weft config show CONFIG [key=value ...]` and `weft config doc`. */
#include "train/commands.h"
#include "train/options.h"
#include "train/output.h"

#include "model/config.h"
#include "runtime/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The layers that periods or patterns give, as a YAML comment. */
static void print_layers(const weft_model_config *m) {
    static const char mixers[] = {
        [WEFT_MIXER_NONE] = '.', [WEFT_MIXER_ATTENTION] = 'A', [WEFT_MIXER_MAMBA] = 'M'};
    static const char ffns[] = {[WEFT_FFN_NONE] = '.', [WEFT_FFN_DENSE] = 'D', [WEFT_FFN_MOE] = 'E'};
    printf("# mixers        ");
    for (int64_t i = 0; i < m->num_hidden_layers; i++) putchar(mixers[m->mixer[i]]);
    printf("   (A attention, M Mamba, . none)\n# feed-forwards ");
    for (int64_t i = 0; i < m->num_hidden_layers; i++) putchar(ffns[m->ffn[i]]);
    printf("   (D dense, E experts, . none)\n");
}

static weft_status show(int argc, char **argv) {
    bool json = false, help;
    int count;
    const weft_option options[] = {{"json", WEFT_OPT_FLAG, &json, NULL, "JSON instead of YAML"}};
    const weft_usage usage = {
        "weft config show", "CONFIG.yaml [key=value ...]",
        "Prints the configuration that a run with these arguments has: defaults, the file and what\n"
        "it includes, overrides, checked. The YAML can be used as a configuration itself.",
        1, -1};
    WEFT_TRY(weft_options_parse(&usage, options, 1, argc, argv, &count, &help));
    if (help) return WEFT_OK;
    weft_config c;
    WEFT_TRY(weft_config_read(&c, argv[1], count - 1, argv + 2));
    if (json) {
        char *text = weft_config_to_json(&c);
        if (!text) WEFT_FAIL(WEFT_ENOMEM, "out of memory while writing the configuration");
        puts(text);
        free(text);
    } else {
        print_layers(&c.model);
        weft_config_print_yaml(&c, stdout);
    }
    return weft_output_finish();
}

static weft_status doc(int argc, char **argv) {
    bool help;
    int count;
    const weft_usage usage = {"weft config doc", "",
                              "Prints the reference of all configuration keys, as Markdown.", 0, 0};
    WEFT_TRY(weft_options_parse(&usage, NULL, 0, argc, argv, &count, &help));
    if (help) return WEFT_OK;
    weft_config_print_doc(stdout);
    return weft_output_finish();
}

weft_status weft_cmd_config(const weft_world *w, int argc, char **argv) {
    static const char *const names[] = {"show", "doc"};
    (void)w; /* one rank: see weft_commands */
    if (argc >= 2 && strcmp(argv[1], "show") == 0) return show(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "doc") == 0) return doc(argc - 1, argv + 1);
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf("usage: weft config show CONFIG.yaml [key=value ...] [--json]   the configuration of a run, "
               "checked\n"
               "       weft config doc                                         reference of all keys\n");
        return WEFT_OK;
    }
    if (argc < 2)
        WEFT_FAIL(WEFT_EINPUT, "weft config: say what: `weft config show CONFIG.yaml` or `weft config doc`");
    int near = weft_nearest(argv[1], names, 2);
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "weft config: unknown '%s'; did you mean '%s'?", argv[1], names[near]);
    WEFT_FAIL(WEFT_EINPUT,
              "weft config: unknown '%s'; it is `weft config show CONFIG.yaml` or `weft config doc`",
              argv[1]);
}
