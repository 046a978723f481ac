/* The runs as a Slurm array. */
#include "runtime/fs.h"
#include "train/ablate/ablation_internal.h"
#include "train/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One word of a shell, whatever it holds. */
static void print_word(const char *text) {
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*text);
    }
    putchar('\'');
}

/* The command as it was given, behind `srun`; then more of the shell. */
static void print_command(const weft_ablation *a, const char *binary, int count, char **overrides,
                          const char *more) {
    fputs("srun ", stdout);
    print_word(binary);
    fputs(" ablate ", stdout);
    print_word(a->path);
    for (int i = 0; i < count; i++) {
        putchar(' ');
        print_word(overrides[i]);
    }
    printf(" %s\n", more);
}

/* "#SBATCH --job-name=": letters that no reader of it minds. */
static void print_name(const weft_ablation *a) {
    const char *slash = strrchr(a->out, '/');
    fputs("#SBATCH --job-name=", stdout);
    for (const char *p = slash ? slash + 1 : a->out; *p; p++)
        putchar(strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", *p) ? *p : '_');
}

weft_status weft_ablation_slurm(const weft_ablation *a, int count, char **overrides) {
    char binary[WEFT_PATH_SIZE];
    ssize_t n = readlink("/proc/self/exe", binary, sizeof binary - 1);
    snprintf(binary + (n > 0 ? n : 0), sizeof binary - (size_t)(n > 0 ? n : 0), "%s", n > 0 ? "" : "weft");
    printf("#!/bin/bash\n"
           "# %d runs of %s as a Slurm array, and the report behind them. Submit with: bash THIS [options of "
           "sbatch],\n"
           "# as --partition=gpu --nodes=1 --ntasks-per-node=8 --gpus-per-node=8 --time=12:00:00: each run "
           "gets them.\n"
           "# USR1, five minutes before the time is up, makes a run save and end with status 75; it is "
           "queued again.\n"
           "set -e\n"
           "array=$(sbatch --parsable \"$@\" <<'RUNS'\n"
           "#!/bin/bash\n",
           a->run_count, a->path);
    print_name(a);
    printf("\n#SBATCH --array=0-%d\n#SBATCH --signal=USR1@300\n#SBATCH --requeue\n", a->run_count - 1);
    print_command(a, binary, count, overrides, "--run \"$SLURM_ARRAY_TASK_ID\"");
    printf("status=$?\n"
           "[ $status -eq 75 ] && scontrol requeue \"$SLURM_JOB_ID\"\n"
           "exit $status\n"
           "RUNS\n"
           ")\n"
           "sbatch --dependency=afterok:\"${array%%%%;*}\" <<'REPORT'\n"
           "#!/bin/bash\n");
    print_name(a);
    printf("-report\n#SBATCH --ntasks=1\n");
    print_command(a, binary, count, overrides, "--report");
    printf("REPORT\n");
    return weft_output_finish();
}
