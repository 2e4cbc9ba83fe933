/*
 * The update engine: takes images over the update link into the bank that does not run, and makes it
 * bootable once both verify in the flash. One library, in the ROM for recovery and in the loader for
 * normal updates. Safe on any bytes; it writes nothing but the other bank's slots and trailer page and
 * the revocation's page.
 *
 * The ROM chooses the bank by mapping the other one active before the call, and calls it with fuse
 * burns still open: a revocation is carried out at once there.
 */
#pragma once

#include "boot/board.h"
#include "handover.h"

struct update_world {
    uint32_t where;        /* WHERE_ROM or WHERE_LOADER */
    const uint8_t *scalar; /* SECRET_SIZE bytes; zeros open no wrapped key */
};

/* Never returns: RESTART resets, and so do 30 s without a request, but in the ROM. */
_Noreturn void update_run(const struct update_world *world);

/* The bank that recovery writes: not one that calls itself confirmed, if the other does not. Its
 * images were good once; what failed may be one bit, or a key that was revoked. */
uint32_t update_recovery_bank(uint32_t state_a, uint32_t state_b);
