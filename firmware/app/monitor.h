/* The main loop's one cycle: measure, judge, switch. */
#pragma once

#include "pack.h"

/* Whether this app may ever close the contactors: STATUS_OK, or the word that says why not. */
struct monitor {
    uint32_t release;
    uint32_t bank;
    uint32_t tripped; /* the violation that opened them, STATUS_OK without one */
    uint32_t welded;  /* told once that open was commanded and closed was seen */
};

void monitor_cycle(struct monitor *monitor);
