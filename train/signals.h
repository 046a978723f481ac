/* USR1, USR2, TERM and a first Ctrl-C ask the run to finish its step, save and exit 75. */
#ifndef WEFT_SIGNALS_H
#define WEFT_SIGNALS_H

#include <stdbool.h>

void weft_signals_install(void);
/* Name of the signal that asked this rank to stop, or NULL. A second Ctrl-C ends the process at once. */
const char *weft_signals_pending(void);

#endif
