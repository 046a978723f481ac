/* The same tests in the reference build, where a layout must agree with one rank to 1e-10. */
#include "test_layouts_mpi8.c"
