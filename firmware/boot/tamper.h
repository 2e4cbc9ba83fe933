/*
 * After a tamper event. ROM only, called by the start code before it sets up .data and .bss:
 *
 *     if (tamper_pending() != 0) {
 *         tamper_zeroise();
 *     }
 *
 * In order: every bit of the device secret is burned; the whole RAM is wiped, handover and stack with
 * it; contactors open; the lifecycle is tampered; event and milestone; the latch is cleared; reset.
 * A cut anywhere leaves the latch set, and the next boot does it all again. The boot after it finds
 * the lifecycle and runs with keys of zeros.
 */
#pragma once

#include <stdint.h>

/* The latch's sources; also not 0 where the lifecycle is tampered and the secret reads as anything but
 * all ones. Needs neither .data nor .bss. */
uint32_t tamper_pending(void);

#ifdef CELLWARD_HOST
/* The two halves of tamper_zeroise, before and after the RAM is wiped. */
void tamper_burn_secret(void);
uint32_t tamper_finish(void);
#else
_Noreturn void tamper_zeroise(void);
#endif
