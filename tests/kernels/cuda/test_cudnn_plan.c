/* cuDNN's plans for our graphs, built for GPUs that are only described: they exist, and they ask for no more
 * workspace than the bound by shape promises. Runs with the null driver on the library path, and so that
 * nothing else does, as a program of its own: test_cudnn_plan DEVICE.json... */
#include "cuda/cudnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const weft_graph_shape shapes[] = {
    /* B, H, G, T, d, ldq, ldk, ldv, ldo */
    {2, 8, 8, 128, 64, 512, 512, 512, 512, 0, 0},
    {1, 8, 2, 1000, 128, 1536, 1536, 1536, 1024, 0, 0}, /* q, k and v side by side; T of no tile */
    {1, 32, 8, 2048, 128, 4096, 1024, 1024, 4096, 0, 0},
    {2, 8, 1, 2048, 64, 512, 64, 64, 512, 0, 0},
    {1, 4, 1, 8192, 128, 768, 768, 768, 512, 0, 0},
    {1, 4, 4, 8192, 64, 256, 256, 256, 256, 0, 0},
    {3, 6, 2, 77, 96, 576, 192, 192, 576, 0, 0},
    {1, 2, 1, 2, 8, 16, 8, 8, 16, 0, 0},
};

static char *file(const char *path) {
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 4096);
    if (!f || !text || fread(text, 1, 4095, f) == 0) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    fclose(f);
    return text;
}

static int plan(weft_cudnn *c, weft_graph_shape s, bool backward) {
    weft_graph g;
    weft_cudnn_reason why;
    struct timespec from, to;
    s.scale = 0.125f;
    s.backward = backward;
    clock_gettime(CLOCK_MONOTONIC, &from);
    weft_graph_attention(&g, &s);
    weft_cudnn_plan *p = weft_cudnn_plan_make(c, &g, &why);
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("  %s B %d H %d G %d T %d d %d: ", backward ? "backward" : "forward ", (int)s.B, (int)s.H,
           (int)s.G, (int)s.T, (int)s.d);
    if (!p) {
        printf("no plan: %s\n", why.text);
        return 1;
    }
    const size_t wants = weft_cudnn_plan_workspace(p), bound = weft_graph_workspace(&s);
    printf("%zu bytes of %zu, %.1f s%s\n", wants, bound,
           (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec),
           wants <= bound ? "" : ": more than the bound");
    weft_cudnn_plan_free(p);
    return wants > bound;
}

/* What cuDNN cannot do comes back as a reason. */
static int refuses(weft_cudnn *c) {
    weft_graph g;
    weft_cudnn_reason why = {"nothing"};
    const weft_graph_shape odd = {1, 2, 2, 128, 20, 40, 40, 40, 40, 1, 0};
    weft_graph_attention(&g, &odd);
    weft_cudnn_plan *p = weft_cudnn_plan_make(c, &g, &why);
    printf("  heads of 20: %s\n", p ? "accepted" : why.text);
    weft_cudnn_plan_free(p);
    return p != NULL || !*why.text;
}

static int device(const char *path) {
    weft_cudnn_reason why;
    int failures = 0;
    char *json = file(path);
    weft_cudnn *c = weft_cudnn_open_described(json, &why);
    free(json);
    printf("%s, %s\n", path, c ? weft_cudnn_version() : why.text);
    if (!c) return 1;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int backward = 0; backward < 2; backward++) failures += plan(c, shapes[i], backward);
    failures += refuses(c);
    weft_cudnn_close(c);
    return failures;
}

int main(int argc, char **argv) {
    int failures = 0;
    for (int i = 1; i < argc; i++) failures += device(argv[i]);
    printf("%d failures\n", failures);
    return failures || argc < 2;
}
