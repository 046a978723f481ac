/* Small run directories for the tests of reports. Of this process, below a directory that is removed at its
 * end. */
#ifndef WEFT_TEST_REPORT_FIXTURE_H
#define WEFT_TEST_REPORT_FIXTURE_H

#include "support/json.h"

/* A path below the tests' directory; of static memory, eight at a time. */
const char *fixture_path(const char *name);
void fixture_directory(const char *name);
void fixture_file(const char *name, const char *text); /* name: "RUN/eval.json" */
void fixture_remove(const char *name);

typedef struct fixture_run {
    const char *name, *eval; /* eval: as for json_of, NULL: none */
    const char *config;      /* NULL: none */
    int steps;               /* -1: no metrics.jsonl */
    double offset;           /* loss of step t: 4 - t / 100 + offset */
    double second;           /* a step takes so long */
    int spike, skipped;      /* a step whose loss is greater by 5; one without update; 0: none */
} fixture_run;
void fixture_run_write(const fixture_run *r);

/* The whole evaluation of a run whose accuracies are greater by `more`, with ' for "; static memory. */
const char *fixture_eval(double more);

#endif
