/* The same tests in the reference build. */
#include "test_comm_mpi.c"
