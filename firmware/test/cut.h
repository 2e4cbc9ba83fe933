/* Power cuts on the fake module. */
#pragma once

#include <setjmp.h>
#include <stdint.h>

#include "check.h"
#include "fake_module.h"

/* Runs `act` with the cut after `operations` of it; 1 when it was cut, 0 when it had fewer. */
static inline uint32_t cut_at(uint32_t operations, uint32_t torn, void (*act)(void))
{
    volatile uint32_t was_cut = 1;
    fake.operations = 0;
    fake.cut_after = operations;
    fake.torn = torn;
    if (setjmp(fake.cut) == 0) {
        act();
        was_cut = 0;
    }
    fake.cut_after = UINT32_MAX;
    return was_cut;
}
