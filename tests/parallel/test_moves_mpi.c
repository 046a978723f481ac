/* Every move against a whole tensor that each rank computes by formula, and every dual by the adjoint
 * identity <y, move(x)> = <dual(y), x>, summed over the ranks. Values are small integers: nothing rounds. */
#include "ops.h"
#include "parallel/moves.h"
#include "parallel/world.h"
#include "runtime/rng.h"
#include "support/ranks.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

#define UNTOUCHED ((weft_real)1234)

static weft_world g_world;
static weft_comm g_layout[3]; /* tp = ranks; cp = ranks; with four ranks cp = tp = 2 */
static int g_layouts;
static weft_device g_device, g_dry;
static const int64_t SEQUENCES[] = {1, 3};

/* Element i of a tensor that is one for each `key`. */
static weft_real value(const char *tensor, int64_t key, int64_t i) {
    return (weft_real)weft_rng_below(weft_rng_make((uint64_t)key, tensor), (uint64_t)i, 15) - 7;
}
static int size_of(const weft_comm *c, weft_axis a) {
    return c->mesh.size[a];
}
static int index_of(const weft_comm *c, weft_axis a) {
    return c->mesh.index[a];
}

static weft_real *array(int64_t n) {
    weft_real *x = malloc((size_t)n * sizeof *x + 1);
    ck_assert_ptr_nonnull(x);
    for (int64_t i = 0; i < n; i++) x[i] = UNTOUCHED;
    return x;
}
/* One for each rank of the job. */
static weft_real *random_array(const char *tensor, int64_t n) {
    weft_real *x = array(n);
    for (int64_t i = 0; i < n; i++) x[i] = value(tensor, g_world.rank, i);
    return x;
}
static int64_t dot(const weft_real *x, const weft_real *y, int64_t n) {
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (int64_t)x[i] * (int64_t)y[i];
    return sum;
}
static void check_adjoint(const char *what, const weft_comm *c, int64_t left, int64_t right) {
    char mesh[64];
    left = weft_world_sum_i64(left), right = weft_world_sum_i64(right);
    expect(left == right, "%s, %s: <y, move(x)> = %lld, <dual(y), x> = %lld", what,
           weft_mesh_text(&c->mesh, mesh, sizeof mesh), (long long)left, (long long)right);
}
static void check_value(const char *what, const weft_comm *c, int64_t i, weft_real got, weft_real want) {
    char mesh[64];
    if (got == want) return;
    expect(false, "%s, %s, element %lld: %g, wanted %g", what, weft_mesh_text(&c->mesh, mesh, sizeof mesh),
           (long long)i, (double)got, (double)want);
}
/* A real run counts the bytes and needs the workspace that a dry one does; the workspace is given back. */
static void check_costs(const char *what, const weft_comm *c, const weft_comm *dry) {
    for (int a = 0; a <= WEFT_AXES; a++)
        expect(c->bytes[a] == dry->bytes[a], "%s: %lld bytes on axis %d, planned %lld", what,
               (long long)c->bytes[a], a, (long long)dry->bytes[a]);
    expect(g_device.act.peak == g_dry.act.peak, "%s: %zu bytes of workspace, planned %zu", what,
           g_device.act.peak, g_dry.act.peak);
    expect(g_device.act.top == 0 && g_dry.act.top == 0, "%s: %zu and %zu bytes of workspace are left", what,
           g_device.act.top, g_dry.act.top);
}

#define NOWHERE ((weft_act *)g_dry.act.base) /* faults when touched */
/* The communicator's dry twin, with all counts at zero. */
static weft_comm fresh_dry(weft_comm *c) {
    weft_comm dry;
    ck_assert_int_eq(weft_comm_open(&dry, &c->mesh, 1, true, &g_dry), WEFT_OK);
    memset(c->bytes, 0, sizeof c->bytes);
    memset(dry.bytes, 0, sizeof dry.bytes);
    g_device.act.peak = g_dry.act.peak = 0;
    return dry;
}

/* ---- tp --------------------------------------------------------------------------------------------- */

static void tokens_case(weft_comm *c, int64_t rows, int64_t width) {
    int tp = size_of(c, WEFT_AXIS_TP), me = index_of(c, WEFT_AXIS_TP), cp = index_of(c, WEFT_AXIS_CP);
    int64_t n = rows * width;
    weft_real *x = array(n), *out = array(n), *y = random_array("y", tp * n);
    for (int64_t i = 0; i < n; i++) x[i] = value("x", cp, me * n + i);

    const weft_real *all = weft_gather_tokens(c, &g_device, "x", x, rows, width);
    expect((tp == 1) == (all == x), "gather_tokens copies without need, or not at all");
    for (int64_t i = 0; i < tp * n; i++) check_value("gather_tokens", c, i, all[i], value("x", cp, i));
    int64_t left = dot(y, all, tp * n);
    expect(tp == 1 || (const char *)all == g_device.act.base,
           "gather_tokens left workspace below its result");
    weft_arena_release(&g_device.act, 0);

    weft_real *partial = weft_partial_rows(c, &g_device, out, rows, width);
    expect((tp == 1) == (partial == out), "partial_rows pushes without need, or not at all");
    memcpy(partial, y, (size_t)(tp * n) * sizeof *y);
    weft_scatter_tokens(c, &g_device, "y", out, partial, rows, width);
    weft_arena_release(&g_device.act, 0);
    for (int64_t i = 0; i < n; i++) {
        weft_real sum = 0;
        for (int r = 0; r < tp; r++) sum += value("y", g_world.rank - me + r, me * n + i);
        check_value("scatter_tokens", c, i, out[i], sum);
    }
    check_adjoint("gather_tokens", c, left, dot(out, x, n));
    free(x);
    free(out);
    free(y);
}

static void tokens_dry(weft_comm *c, int64_t rows, int64_t width) {
    weft_gather_tokens(c, &g_dry, "x", NOWHERE, rows, width);
    weft_arena_release(&g_dry.act, 0);
    weft_act *all = weft_partial_rows(c, &g_dry, NOWHERE, rows, width);
    weft_scatter_tokens(c, &g_dry, "y", NOWHERE, all, rows, width);
    weft_arena_release(&g_dry.act, 0);
}

START_TEST(rows_are_gathered_and_scattered) {
    const int64_t shapes[][2] = {{1, 1}, {3, 5}, {7, 129}};
    for (int l = 0; l < g_layouts; l++)
        for (int s = 0; s < 3; s++) {
            weft_comm dry = fresh_dry(&g_layout[l]);
            tokens_case(&g_layout[l], shapes[s][0], shapes[s][1]);
            tokens_dry(&dry, shapes[s][0], shapes[s][1]);
            check_costs("tokens", &g_layout[l], &dry);
            weft_comm_close(&dry);
        }
    none_is_wrong();
}
END_TEST

/* x and the sum's gradient y, which is whole on every rank: <y, sum of x> once is <y, x> summed over the
 * ranks. */
START_TEST(partial_sums_are_added) {
    const int64_t n = 1003;
    for (int l = 0; l < g_layouts; l++) {
        weft_comm *c = &g_layout[l], dry = fresh_dry(c);
        int tp = size_of(c, WEFT_AXIS_TP), me = index_of(c, WEFT_AXIS_TP);
        weft_real *x = random_array("x", n), *y = array(n);
        for (int64_t i = 0; i < n; i++) y[i] = value("y", g_world.rank - me, i);
        int64_t right = dot(y, x, n);
        weft_sum_partial(c, &g_device, "x", x, n);
        weft_sum_partial(&dry, &g_dry, "x", NOWHERE, n);
        for (int64_t i = 0; i < n; i++) {
            weft_real sum = 0;
            for (int r = 0; r < tp; r++) sum += value("x", g_world.rank - me + r, i);
            check_value("sum_partial", c, i, x[i], sum);
        }
        check_adjoint("sum_partial", c, me == 0 ? dot(y, x, n) : 0, right);
        check_costs("sum_partial", c, &dry);
        weft_comm_close(&dry);
        free(x);
        free(y);
    }
    none_is_wrong();
}
END_TEST

/* ---- cp --------------------------------------------------------------------------------------------- */

/* Row of the whole sequences [B, 2*cp*L] that this rank's local row is. */
static int64_t whole_row(const weft_comm *c, int64_t row, int64_t L) {
    int cp = size_of(c, WEFT_AXIS_CP), slot = (int)(row / L % 2);
    int64_t b = row / (2 * L), chunk = weft_chunk_of(cp, index_of(c, WEFT_AXIS_CP), slot);
    return (b * 2 * cp + chunk) * L + row % L;
}

static void sequence_case(weft_comm *c, weft_comm *dry, int64_t B, int64_t L, int64_t width) {
    int cp = size_of(c, WEFT_AXIS_CP), tp = index_of(c, WEFT_AXIS_TP);
    int64_t ld = width + 3, rows = B * 2 * L, whole = rows * cp * width;
    weft_real *x = array(rows * ld), *dx = array(rows * ld), *out = array(whole),
              *y = random_array("y", whole);
    for (int64_t m = 0; m < rows; m++)
        for (int64_t j = 0; j < width; j++) x[m * ld + j] = value("x", tp, whole_row(c, m, L) * width + j);

    weft_gather_sequence(c, &g_device, "x", out, x, ld, B, L, width);
    weft_gather_sequence(dry, &g_dry, "x", NOWHERE, NOWHERE, ld, B, L, width);
    for (int64_t i = 0; i < whole; i++) check_value("gather_sequence", c, i, out[i], value("x", tp, i));

    weft_scatter_sequence(c, &g_device, "y", dx, ld, y, B, L, width);
    weft_scatter_sequence(dry, &g_dry, "y", NOWHERE, ld, NOWHERE, B, L, width);
    int64_t right = 0;
    for (int64_t m = 0; m < rows; m++) {
        for (int64_t j = 0; j < width; j++) {
            weft_real sum = 0;
            for (int r = 0; r < cp; r++) {
                int rank = g_world.rank + (r - index_of(c, WEFT_AXIS_CP)) * size_of(c, WEFT_AXIS_TP);
                sum += value("y", rank, whole_row(c, m, L) * width + j);
            }
            check_value("scatter_sequence", c, m * ld + j, dx[m * ld + j], sum);
        }
        for (int64_t j = width; j < ld; j++)
            check_value("between the rows", c, m * ld + j, dx[m * ld + j], UNTOUCHED);
        right += dot(dx + m * ld, x + m * ld, width);
    }
    check_adjoint("gather_sequence", c, dot(y, out, whole), right);
    free(x);
    free(dx);
    free(out);
    free(y);
}

START_TEST(sequences_are_gathered_and_scattered) {
    const int64_t shapes[][2] = {{1, 1}, {5, 7}, {16, 65}};
    for (int l = 0; l < g_layouts; l++)
        for (int s = 0; s < 6; s++) {
            if (size_of(&g_layout[l], WEFT_AXIS_CP) == 1) continue;
            weft_comm dry = fresh_dry(&g_layout[l]);
            sequence_case(&g_layout[l], &dry, SEQUENCES[s % 2], shapes[s / 2][0], shapes[s / 2][1]);
            check_costs("sequence", &g_layout[l], &dry);
            weft_comm_close(&dry);
        }
    none_is_wrong();
}
END_TEST

/* What chunk k of sequence b hands on, or gets back. */
static weft_real of_chunk(const char *tensor, const weft_comm *c, int64_t b, int chunk, int64_t n,
                          int64_t i) {
    int chunks = size_of(c, WEFT_AXIS_CP) * weft_chunks_held(size_of(c, WEFT_AXIS_CP));
    if (chunk < 0 || chunk >= chunks) return 0;
    return value(tensor, index_of(c, WEFT_AXIS_TP), (b * chunks + chunk) * n + i);
}

static void halo_case(weft_comm *c, weft_comm *dry, int64_t B, int64_t n) {
    int cp = size_of(c, WEFT_AXIS_CP), held = weft_chunks_held(cp);
    int64_t all = B * held * n;
    weft_real *tail = array(all), *halo = array(all), *dtail = array(all), *dhalo = array(all);
    for (int64_t i = 0; i < all; i++) {
        int chunk = weft_chunk_of(cp, index_of(c, WEFT_AXIS_CP), (int)(i / n % held));
        tail[i] = of_chunk("tail", c, i / n / held, chunk, n, i % n);
        dhalo[i] = of_chunk("dhalo", c, i / n / held, chunk, n, i % n);
    }
    weft_pass_halo(c, &g_device, "x", halo, tail, B, n);
    weft_pass_halo(dry, &g_dry, "x", NOWHERE, NOWHERE, B, n);
    weft_return_halo(c, &g_device, "dx", dtail, dhalo, B, n);
    weft_return_halo(dry, &g_dry, "dx", NOWHERE, NOWHERE, B, n);
    for (int64_t i = 0; i < all; i++) {
        int chunk = weft_chunk_of(cp, index_of(c, WEFT_AXIS_CP), (int)(i / n % held));
        check_value("pass_halo", c, i, halo[i], of_chunk("tail", c, i / n / held, chunk - 1, n, i % n));
        check_value("return_halo", c, i, dtail[i], of_chunk("dhalo", c, i / n / held, chunk + 1, n, i % n));
    }
    check_adjoint("pass_halo", c, dot(dhalo, halo, all), dot(dtail, tail, all));
    free(tail);
    free(halo);
    free(dtail);
    free(dhalo);
}

START_TEST(halos_are_passed_and_returned) {
    const int64_t sizes[] = {1, 3 * 11, 3 * 333};
    for (int l = 0; l < g_layouts; l++)
        for (int s = 0; s < 6; s++) {
            weft_comm dry = fresh_dry(&g_layout[l]);
            halo_case(&g_layout[l], &dry, SEQUENCES[s % 2], sizes[s / 2]);
            check_costs("halo", &g_layout[l], &dry);
            weft_comm_close(&dry);
        }
    none_is_wrong();
}
END_TEST

START_TEST(states_are_gathered) {
    const int64_t n = 2 * 3 * 7 * (5 + 1);
    for (int l = 0; l < g_layouts; l++) {
        weft_comm *c = &g_layout[l], dry = fresh_dry(c);
        int cp = size_of(c, WEFT_AXIS_CP), me = index_of(c, WEFT_AXIS_CP), tp = index_of(c, WEFT_AXIS_TP);
        weft_real *all = array(cp * n);
        for (int64_t i = me * n; i < (me + 1) * n; i++) all[i] = value("state", tp, i);
        weft_gather_states(c, "state", all, n);
        weft_gather_states(&dry, "state", NOWHERE, n);
        for (int64_t i = 0; i < cp * n; i++)
            check_value("gather_states", c, i, all[i], value("state", tp, i));
        check_costs("gather_states", c, &dry);
        weft_comm_close(&dry);
        free(all);
    }
    none_is_wrong();
}
END_TEST

static weft_status open_layout(int cp, int tp) {
    weft_mesh_sizes want = {{[WEFT_AXIS_DP] = 1,
                             [WEFT_AXIS_FSDP] = 1,
                             [WEFT_AXIS_CP] = cp,
                             [WEFT_AXIS_TP] = tp,
                             [WEFT_AXIS_EP] = 1}};
    weft_mesh mesh;
    WEFT_TRY(weft_mesh_make(&mesh, &want, g_world.size, g_world.rank));
    return weft_comm_open(&g_layout[g_layouts++], &mesh, 1, false, &g_device);
}
static weft_status set_up(int *argc, char ***argv) {
    WEFT_TRY(weft_world_init(argc, argv, &g_world));
    WEFT_TRY(weft_device_open_cpu(&g_device));
    WEFT_TRY(weft_device_size(&g_device, 8 << 20));
    WEFT_TRY(weft_device_open_cpu(&g_dry));
    WEFT_TRY(weft_device_measure(&g_dry));
    WEFT_TRY(open_layout(1, g_world.size));
    WEFT_TRY(open_layout(g_world.size, 1));
    return g_world.size == 4 ? open_layout(2, 2) : WEFT_OK;
}

int main(int argc, char **argv) {
    const TTest *const tests[] = {rows_are_gathered_and_scattered, partial_sums_are_added,
                                  sequences_are_gathered_and_scattered, halos_are_passed_and_returned,
                                  states_are_gathered};
    if (set_up(&argc, &argv) != WEFT_OK) return 1;
    int code = weft_world_exit_code(suite_run("moves", tests, 5));
    for (int l = 0; l < g_layouts; l++) weft_comm_close(&g_layout[l]);
    weft_device_close(&g_device);
    weft_device_close(&g_dry);
    weft_world_finalize();
    return code;
}
