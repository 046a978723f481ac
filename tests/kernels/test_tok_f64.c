/* The reference build (weft_real is double): the same checks as in float, to 1e-12. */
#include "kernels/ref_tok.h"

_Static_assert(sizeof(weft_real) == sizeof(double), "this test belongs to the double build");
static const double tol = 1e-12;

START_TEST(norm) {
    ref_tok_check_norm(&(ref_tok_norm_case){3, 65, 7, true, false, true, tol});
    ref_tok_check_norm(&(ref_tok_norm_case){257, 131, 0, false, true, false, tol});
}
END_TEST

START_TEST(swiglu) {
    ref_tok_check_swiglu(&(ref_tok_swiglu_case){3, 65, 10, true, tol});
    ref_tok_check_swiglu(&(ref_tok_swiglu_case){257, 130, 1, false, tol});
}
END_TEST

START_TEST(router) {
    ref_tok_check_router(&(ref_tok_router_case){3, 17, 17, false, true, 0.2, 1, tol});
    ref_tok_check_router(&(ref_tok_router_case){3000, 11, 2, true, true, 0.1, 2, tol});
}
END_TEST

START_TEST(moe) {
    ref_tok_check_moe(&(ref_tok_moe_case){257, 3, 17, 65, REF_TOK_EVEN_ONLY, true, true, tol});
    ref_tok_check_moe(&(ref_tok_moe_case){3, 2, 4, 7, REF_TOK_ANY, false, false, tol});
    ref_tok_check_regroup(3, 4, 9);
}
END_TEST

START_TEST(loss) {
    ref_tok_check_loss(&(ref_tok_loss_case){257, 1000, 3, 0, true, tol});
    ref_tok_check_loss(&(ref_tok_loss_case){3, 65537, 2, 0, false, tol});
    const int64_t whole[] = {0, 1000}, uneven[] = {0, 17, 17, 400, 999, 1000};
    ref_tok_check_loss_parts(&(ref_tok_loss_case){257, 1000, 3, 0, true, tol}, whole, 1);
    ref_tok_check_loss_parts(&(ref_tok_loss_case){257, 1000, 3, 0, true, tol}, uneven, 5);
    ref_tok_check_loss_parts(&(ref_tok_loss_case){5, 1000, 30, -200, false, tol}, uneven, 5);
}
END_TEST

START_TEST(embedding) {
    ref_tok_check_embedding(&(ref_tok_embedding_case){257, 65, 3, 0, 3, tol});
    ref_tok_check_embedding(&(ref_tok_embedding_case){257, 256, 1000, 300, 1900, tol});
}
END_TEST

START_TEST(elementwise) {
    ref_tok_check_elementwise(65, tol);
    ref_tok_check_elementwise(70001, tol);
}
END_TEST

START_TEST(adamw) {
    ref_tok_check_adamw(&(ref_tok_adamw_case){70001, {1e-3, 0.9, 0.999, 1e-8, 0.1, 10, NULL}, 0.5, tol});
    ref_tok_check_adamw(&(ref_tok_adamw_case){65, {1e-2, 0.9, 0.95, 1e-8, 0, 1, NULL}, 1, tol});
}
END_TEST

SUITE_MAIN("tok_f64", norm, swiglu, router, moe, loss, embedding, elementwise, adamw)
