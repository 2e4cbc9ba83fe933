/* Fuses: a word is read whole, a bit is burned once. */
#include "boot/board.h"

uint32_t otp_word(uint32_t offset)
{
    return reg_read(OTP_BASE + offset);
}

void otp_copy(uint32_t offset, uint8_t *out, uint32_t size)
{
    for (uint32_t i = 0; i < size; i += 4u) {
        const uint32_t word = otp_word(offset + i);
        out[i] = (uint8_t)word;
        out[i + 1u] = (uint8_t)(word >> 8);
        out[i + 2u] = (uint8_t)(word >> 16);
        out[i + 3u] = (uint8_t)(word >> 24);
    }
}

uint32_t otp_thermometer(uint32_t offset, uint32_t size)
{
    uint32_t level = 0;
    while (level < size * 8u) {
        if (((otp_word(offset + level / 32u * 4u) >> (level % 32u)) & 1u) == 0) {
            break;
        }
        level++;
    }
    return level;
}

uint32_t otp_counter(void)
{
    return otp_thermometer(OTP_COUNTER_OFFSET, OTP_COUNTER_SIZE);
}

/* A byte a state; the highest that is not 0 counts, so that a torn burn is a step or none. */
uint32_t otp_lifecycle(void)
{
    const uint32_t word = otp_word(OTP_LIFECYCLE_OFFSET);
    uint32_t state = LIFECYCLE_BLANK;
    while (state < LIFECYCLE_RETIRED && (word >> (8u * state)) != 0) {
        state++;
    }
    return state;
}

/* A key that signed a development image must not be good for a pack in the field (attacks, row 16). */
uint32_t otp_revoked(void)
{
    const uint32_t development = otp_word(OTP_DEVELOPMENT_OFFSET);
    const uint32_t revoked = otp_word(OTP_REVOKED_OFFSET);
    return otp_lifecycle() >= LIFECYCLE_PRODUCTION ? revoked | development : revoked;
}

void otp_trust(enum stage stage, struct trust *out)
{
    for (uint32_t slot = 0; slot < OTP_SLOT_KEY_COUNT; slot++) {
        otp_copy(OTP_SLOT_KEYS_OFFSET + slot * DIGEST_SIZE, out->slot_keys[slot], DIGEST_SIZE);
    }
    out->revoked = otp_revoked();
    out->counter = otp_counter();
    otp_copy(OTP_VENDOR_ID_OFFSET, out->vendor, sizeof out->vendor);
    otp_copy(stage == STAGE_LOADER ? OTP_LOADER_CLASS_OFFSET : OTP_APP_CLASS_OFFSET, out->klass,
             sizeof out->klass);
}

uint32_t otp_burn(uint32_t offset, uint32_t bits)
{
    reg_write(REG_OTP_CTRL_OFFSET, offset);
    reg_write(REG_OTP_CTRL_UNLOCK, OTP_KEY);
    reg_write(REG_OTP_CTRL_BURN, bits);
    return reg_read(REG_OTP_CTRL_STATUS);
}

/*
 * One fuse at a time, upwards: a cut leaves a value between old and new. Several bits of a word in
 * one burn could leave a hole, and a later, smaller raise would fill it and land above its target.
 */
uint32_t otp_raise(uint32_t offset, uint32_t size, uint32_t target)
{
    if (target > size * 8u) {
        return STATUS_OTP_ONE_WAY;
    }
    for (uint32_t level = otp_thermometer(offset, size); level < target; level++) {
        const uint32_t status = otp_burn(offset + level / 32u * 4u, 1u << (level % 32u));
        if (status != STATUS_OK) {
            return status;
        }
    }
    return otp_thermometer(offset, size) >= target ? STATUS_OK : STATUS_OTP_ONE_WAY;
}

uint32_t otp_raise_counter(uint32_t target)
{
    return otp_raise(OTP_COUNTER_OFFSET, OTP_COUNTER_SIZE, target);
}
