#include "train/signals.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

static volatile sig_atomic_t g_signal;

static void on_signal(int number) {
    if (number == SIGINT) signal(SIGINT, SIG_DFL);
    g_signal = number;
}

void weft_signals_install(void) {
    const int numbers[] = {SIGUSR1, SIGUSR2, SIGTERM, SIGINT};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaction(numbers[i], &action, NULL);
}

const char *weft_signals_pending(void) {
    switch (g_signal) {
    case 0:
        return NULL;
    case SIGUSR1:
        return "SIGUSR1";
    case SIGUSR2:
        return "SIGUSR2";
    case SIGTERM:
        return "SIGTERM";
    default:
        return "SIGINT";
    }
}
