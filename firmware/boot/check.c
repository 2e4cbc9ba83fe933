/* Verification as a boot stage does it: where the image will run, twice, with fuses read anew. */
#include "boot/board.h"
#include "generated/unlock.h"
#include "hardened.h"

/* A glitch that is timed for one pass misses the other. */
static void random_delay(void)
{
    for (volatile uint32_t left = reg_read(REG_TRNG) & 0xFFu; left != 0; left--) {
    }
}

uint32_t verify_active(enum stage stage, struct verified *out, struct refusal *why)
{
    struct trust trust;
    const uint8_t *const slot = flash_at(slot_address(ACTIVE_BASE, stage));

    uint32_t status = image_measure(slot, slot_size(stage), out, why);
    for (uint32_t pass = 0; pass < VERIFY_PASSES && status == STATUS_OK; pass++) {
        random_delay();
        trust = (struct trust){0};
        otp_trust(stage, &trust);
        status = image_check(slot, slot_size(stage), &trust, pass, out, why);
    }
    if (status == STATUS_OK) {
        status = entry_check(ACTIVE_BASE, stage, out, why);
    }
    unlock_add(out, UNLOCK_SHARE_ENTRY, status ^ STATUS_OK);
    return status;
}
