/* The same tests in the reference build. */
#include "test_mixers_mpi.c"
