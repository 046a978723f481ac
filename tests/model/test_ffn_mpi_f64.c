/* The same tests in the reference build. */
#include "test_ffn_mpi.c"
