#include "update/identity.h"

#include "verify/bytes.h"

enum identity_offset {
    AT_PROTOCOL = 0,
    AT_WHERE = 1,
    AT_BANK = 2,
    AT_LIFECYCLE = 3,
    AT_COUNTER = 4,
    AT_REVOKED = 8,
    AT_LARGEST_DATA = 12,
    AT_SERIAL = 16,
    AT_POINT = AT_SERIAL + OTP_SERIAL_SIZE,
};

_Static_assert(AT_POINT + UPDATE_POINT_SIZE == LINK_IDENTITY_SIZE, "the point ends it");

uint32_t identify(struct exchange *exchange, uint32_t where, const uint8_t *point)
{
    uint8_t *const out = exchange->answer;
    out[AT_PROTOCOL] = LINK_PROTOCOL;
    out[AT_WHERE] = (uint8_t)where;
    out[AT_BANK] = (uint8_t)reg_read(REG_SYS_BANK);
    out[AT_LIFECYCLE] = (uint8_t)otp_lifecycle();
    write_u32(out + AT_COUNTER, otp_counter());
    write_u32(out + AT_REVOKED, otp_word(OTP_REVOKED_OFFSET));
    write_u32(out + AT_LARGEST_DATA, LINK_MAX_DATA);
    otp_copy(OTP_SERIAL_OFFSET, out + AT_SERIAL, OTP_SERIAL_SIZE);
    for (uint32_t i = 0; i < UPDATE_POINT_SIZE; i++) {
        out[AT_POINT + i] = point == (const uint8_t *)0 ? 0 : point[i];
    }
    exchange->answer_length = LINK_IDENTITY_SIZE;
    return STATUS_OK;
}

uint32_t inventory_begin(const struct exchange *exchange, struct inventory *out)
{
    const uint8_t *const asked = exchange->payload;
    struct refusal why;
    if (asked[0] > 1u || asked[1] > (uint32_t)STAGE_APP || link_zeros(asked + 2, 2) == 0) {
        return STATUS_LINK_FRAME;
    }
    const uint32_t base = asked[0] == 0 ? ACTIVE_BASE : INACTIVE_BASE;
    const enum stage stage = asked[1] == 0 ? STAGE_LOADER : STAGE_APP;
    const uint32_t address = slot_address(base, stage);
    const uint8_t *const slot = flash_at(address);
    if (image_decode(slot, slot_size(stage), &out->image, &why) != STATUS_OK) {
        return STATUS_BANK_NOT_BOOTABLE;
    }
    /* The decoder has seen the TLV area behind what is signed; its total stands in its second half. */
    out->length = out->image.signed_size + read_u16(slot + out->image.signed_size + 2u);
    hashing_begin(&out->hashing, address, out->length);
    return STATUS_OK;
}

void inventory_end(const struct inventory *inventory, struct exchange *exchange)
{
    uint8_t *const out = exchange->answer;
    const struct image_version *const version = &inventory->image.version;
    write_u32(out, inventory->length);
    hashing_out(&inventory->hashing, out + 4);
    uint8_t *const rest = out + 4u + DIGEST_SIZE;
    rest[0] = version->major;
    rest[1] = version->minor;
    rest[2] = (uint8_t)version->revision;
    rest[3] = (uint8_t)(version->revision >> 8);
    write_u32(rest + 4, version->build);
    write_u32(rest + 8, image_counter(&inventory->image));
    exchange->answer_length = 4u + DIGEST_SIZE + 8u + 4u;
}
