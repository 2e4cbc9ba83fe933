#include "p256raw.h"

#include <bearssl_ec.h>

#include "bytes.h"

#define SCALAR_SIZE (P256_RAW_SIZE / 2u)
#define SAID_GOOD 1u

static uint32_t is_zero(const uint8_t *scalar)
{
    uint32_t any = 0;
    for (uint32_t i = 0; i < SCALAR_SIZE; i++) {
        any |= scalar[i];
    }
    return ~spread(any);
}

verdict p256_verify_raw(const uint8_t point[P256_POINT_SIZE], const uint8_t digest[DIGEST_SIZE],
                        const uint8_t raw[P256_RAW_SIZE])
{
    uint8_t copy[P256_POINT_SIZE]; /* BearSSL's key is not const */
    const br_ec_public_key key = {BR_EC_secp256r1, copy, sizeof copy};
    copy_bytes(copy, point, P256_POINT_SIZE);
    const uint32_t said =
        br_ecdsa_i31_vrfy_raw(&br_ec_p256_m31, digest, DIGEST_SIZE, &key, raw, P256_RAW_SIZE);
    return verdict_of((said ^ SAID_GOOD) | is_zero(raw) | is_zero(raw + SCALAR_SIZE));
}
