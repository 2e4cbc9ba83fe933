/* Fuses: a word is read whole, a bit is burned once. */
#include "boot/board.h"

static uint32_t otp_word(uint32_t offset)
{
    return reg_read(OTP_BASE + offset);
}

static void otp_copy(uint32_t offset, uint8_t *out, uint32_t size)
{
    for (uint32_t i = 0; i < size; i += 4u) {
        const uint32_t word = otp_word(offset + i);
        out[i] = (uint8_t)word;
        out[i + 1u] = (uint8_t)(word >> 8);
        out[i + 2u] = (uint8_t)(word >> 16);
        out[i + 3u] = (uint8_t)(word >> 24);
    }
}

uint32_t otp_counter(void)
{
    uint32_t counter = 0;
    while (counter < COUNTER_MAX) {
        const uint32_t word = otp_word(OTP_COUNTER_OFFSET + counter / 32u * 4u);
        if (((word >> (counter % 32u)) & 1u) == 0) {
            break;
        }
        counter++;
    }
    return counter;
}

void otp_trust(enum stage stage, struct trust *out)
{
    for (uint32_t slot = 0; slot < OTP_SLOT_KEY_COUNT; slot++) {
        otp_copy(OTP_SLOT_KEYS_OFFSET + slot * DIGEST_SIZE, out->slot_keys[slot], DIGEST_SIZE);
    }
    out->revoked = otp_word(OTP_REVOKED_OFFSET);
    out->counter = otp_counter();
    otp_copy(OTP_VENDOR_ID_OFFSET, out->vendor, sizeof out->vendor);
    otp_copy(stage == STAGE_LOADER ? OTP_LOADER_CLASS_OFFSET : OTP_APP_CLASS_OFFSET, out->klass,
             sizeof out->klass);
}

/*
 * One fuse at a time, upwards: a cut leaves a value between old and new. Several bits of a word in
 * one burn could leave a hole, and a later, smaller raise would fill it and land above its target.
 */
uint32_t otp_raise_counter(uint32_t target)
{
    if (target > COUNTER_MAX) {
        return STATUS_OTP_ONE_WAY;
    }
    for (uint32_t counter = otp_counter(); counter < target; counter++) {
        reg_write(REG_OTP_CTRL_OFFSET, OTP_COUNTER_OFFSET + counter / 32u * 4u);
        reg_write(REG_OTP_CTRL_UNLOCK, OTP_KEY);
        reg_write(REG_OTP_CTRL_BURN, 1u << (counter % 32u));
        const uint32_t status = reg_read(REG_OTP_CTRL_STATUS);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return otp_counter() >= target ? STATUS_OK : STATUS_OTP_ONE_WAY;
}
