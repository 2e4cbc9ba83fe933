/* The module's registers, with the memories where mps2-an505 has some. memory.ld beside it says the
 * same to the linker. */
#pragma once

#include "include/generated/registers.h"

#undef ACTIVE_BASE
#undef INACTIVE_BASE
#undef DATA_BASE
#undef RAM_BASE
#define ACTIVE_BASE 0x80000000u /* PSRAM, 16 MiB; ROM_BASE is the board's code RAM */
#define DATA_BASE 0x80700000u
#define INACTIVE_BASE 0x80C00000u
#define RAM_BASE 0x38000000u /* SSRAM2 and 3, 4 MiB */
