/*
 * The running bank's images, hashed again and again while the app runs, a slice a cycle: what ROM and
 * loader verified is compared with what the flash holds now. A flash that changes under a running app
 * is a fault or an attack, and either way not what was verified.
 */
#pragma once

#include <stdint.h>

#include "verify/image.h"

/* STATUS_OK, or STATUS_BOOT_INTEGRITY from the first mismatch until the reset; it is told once. */
uint32_t integrity_cycle(uint32_t bank);
