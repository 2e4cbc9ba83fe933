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

/* By stage: the word opens the slot of the stage that was verified here, not of the one that the jump
 * believes in (a flipped `stage` verified one image and ran the other). No table: 0x40000000, which is no
 * loader elsewhere, would be an index of the loader's share. */
static uint32_t entry_share(enum stage stage)
{
    const uint32_t not_loader = spread(opaque((uint32_t)stage) ^ (uint32_t)STAGE_LOADER);
    return UNLOCK_SHARE_LOADER ^ (not_loader & (UNLOCK_SHARE_LOADER ^ UNLOCK_SHARE_APP));
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
    unlock_add(out, entry_share(stage), status ^ STATUS_OK);
    return status;
}
