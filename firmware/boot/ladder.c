#include "boot/ladder.h"

#include <bearssl_ec.h>

#include "boot/kdf.h"
#include "boot/wipe.h"
#include "hardened.h"

#define LABEL(text) (text), (uint32_t)(sizeof(text) - 1u)
#define ATTEMPTS 256u

static const char SALT[] = "cellward v1";
static const uint8_t P256_ORDER[SECRET_SIZE] = {
    0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
    0xBC, 0xE6, 0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51};

uint32_t scalar_in_range(const uint8_t scalar[SECRET_SIZE])
{
    uint32_t borrow = 0; /* of scalar - n */
    uint32_t any = 0;
    for (uint32_t i = SECRET_SIZE; i-- > 0;) {
        borrow = ((uint32_t)scalar[i] - P256_ORDER[i] - borrow) >> 31;
        any |= scalar[i];
    }
    return spread(any) & (0u - borrow);
}

/* The first candidate in range. The next is asked for once in 2^32 devices, and says nothing about
 * the one that is taken. */
static void derive_scalar(const uint8_t prk[DIGEST_SIZE], uint8_t scalar[SECRET_SIZE])
{
    uint8_t label[] = {'u', 'p', 'd', 'a', 't', 'e', 0};
    for (uint32_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        label[sizeof label - 1u] = (uint8_t)attempt;
        hkdf_expand(prk, label, sizeof label, scalar, SECRET_SIZE);
        if (scalar_in_range(scalar) != 0) {
            return;
        }
    }
    wipe(scalar, SECRET_SIZE);
}

void ladder_rom(const uint8_t secret[SECRET_SIZE], struct handover *out, uint8_t rom_record_key[SECRET_SIZE])
{
    uint8_t prk[DIGEST_SIZE];
    hkdf_extract(SALT, sizeof SALT - 1u, secret, SECRET_SIZE, prk);
    derive_scalar(prk, out->update_scalar);
    hkdf_expand(prk, LABEL("record rom"), rom_record_key, SECRET_SIZE);
    hkdf_expand(prk, LABEL("stage"), out->stage_key, SECRET_SIZE);
    wipe(prk, sizeof prk);
}

void ladder_loader(struct handover *keys, uint8_t loader_record_key[SECRET_SIZE])
{
    hkdf_expand(keys->stage_key, LABEL("record loader"), loader_record_key, SECRET_SIZE);
    hkdf_expand(keys->stage_key, LABEL("report"), keys->report_key, SECRET_SIZE);
    vault_key_from_stage(keys->stage_key, keys->vault_key);
    wipe(keys->stage_key, SECRET_SIZE);
    wipe(keys->update_scalar, SECRET_SIZE);
}

void vault_key_from_stage(const uint8_t stage_key[SECRET_SIZE], uint8_t vault_key[SECRET_SIZE])
{
    hkdf_expand(stage_key, LABEL("vault"), vault_key, SECRET_SIZE);
}

void update_public_key(const uint8_t scalar[SECRET_SIZE], uint8_t point[P256_POINT_SIZE])
{
    uint32_t any = 0;
    (void)br_ec_p256_m31.mulgen(point, scalar, SECRET_SIZE, BR_EC_secp256r1);
    for (uint32_t i = 0; i < SECRET_SIZE; i++) {
        any |= scalar[i];
    }
    for (uint32_t i = 0; i < P256_POINT_SIZE; i++) {
        point[i] = (uint8_t)(point[i] & spread(any));
    }
}
