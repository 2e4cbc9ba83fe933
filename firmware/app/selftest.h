/* Does this firmware fit this pack, and does the pack answer? Run before anything is switched. */
#pragma once

#include "pack.h"

/* STATUS_OK or a STATUS_SELFTEST_ word; leaves the contactors open. */
uint32_t selftest(struct refusal *why);
