#include "crypto.h"

#include <bearssl_ec.h>
#include <bearssl_hash.h>

#include "bytes.h"

#define SCALAR_SIZE 32u
#define POINT_OFFSET (P256_SPKI_PREFIX_SIZE - 1u) /* the prefix ends in the point's 04 */
#define POINT_SIZE 65u
#define DER_SEQUENCE 0x30u
#define DER_INTEGER 0x02u

_Static_assert(POINT_OFFSET + POINT_SIZE == P256_SPKI_SIZE, "the point ends the key");

void sha256(const uint8_t *data, uint32_t size, uint8_t digest[DIGEST_SIZE])
{
    br_sha256_context context;
    br_sha256_init(&context);
    br_sha256_update(&context, data, size);
    br_sha256_out(&context, digest);
}

uint32_t bytes_differ(const uint8_t *a, const uint8_t *b, uint32_t size)
{
    uint32_t differ = 0;
    for (uint32_t i = 0; i < size; i++) {
        differ |= (uint32_t)(a[i] ^ b[i]);
    }
    return differ;
}

/*
 * The INTEGER at `*at` as SCALAR_SIZE big-endian bytes; moves `*at` behind it. Only the shortest
 * form of a positive number is taken. 0 is taken here and refused by the caller.
 */
static uint32_t der_integer(const uint8_t *der, uint32_t size, uint32_t *at, uint8_t out[SCALAR_SIZE])
{
    if (size - *at < 3u || der[*at] != DER_INTEGER) {
        return STATUS_IMAGE_SIGNATURE;
    }
    uint32_t length = der[*at + 1u];
    uint32_t start = *at + 2u;
    if (length == 0 || length > SCALAR_SIZE + 1u || length > size - start || (der[start] & 0x80u) != 0) {
        return STATUS_IMAGE_SIGNATURE;
    }
    *at = start + length;
    if (der[start] == 0 && length > 1u) {
        if ((der[start + 1u] & 0x80u) == 0) {
            return STATUS_IMAGE_SIGNATURE;
        }
        start++;
        length--;
    }
    if (length > SCALAR_SIZE) {
        return STATUS_IMAGE_SIGNATURE;
    }
    for (uint32_t i = 0; i < SCALAR_SIZE; i++) {
        const uint32_t pad = SCALAR_SIZE - length;
        out[i] = i < pad ? 0 : der[start + i - pad];
    }
    return STATUS_OK;
}

/* r and s, one behind the other. */
static uint32_t der_signature(const uint8_t *der, uint32_t size, uint8_t raw[2u * SCALAR_SIZE])
{
    static const uint8_t zero[SCALAR_SIZE];
    uint32_t at = 2;
    if (size < 2u || der[0] != DER_SEQUENCE || der[1] > 0x7Fu || der[1] != size - 2u) {
        return STATUS_IMAGE_SIGNATURE;
    }
    for (uint32_t half = 0; half < 2u; half++) {
        uint8_t *const scalar = raw + half * SCALAR_SIZE;
        const uint32_t status = der_integer(der, size, &at, scalar);
        if (status != STATUS_OK) {
            return status;
        }
        if (bytes_differ(scalar, zero, SCALAR_SIZE) == 0) {
            return STATUS_IMAGE_SIGNATURE;
        }
    }
    return at == size ? STATUS_OK : STATUS_IMAGE_SIGNATURE;
}

/* STATUS_OK when BearSSL said 1, `refusal` when it said 0, neither word for anything else: a
 * fault that leaves another value in the result register accepts nothing. */
static uint32_t status_of(uint32_t said, uint32_t refusal)
{
    return refusal ^ ((0u - said) & (refusal ^ STATUS_OK));
}

/* A multiple by one finds out whether the point is on the curve. */
static uint32_t on_curve(const uint8_t *point)
{
    static const uint8_t one[1] = {1};
    uint8_t copy[POINT_SIZE];
    copy_bytes(copy, point, POINT_SIZE);
    return status_of(br_ec_p256_m31.mul(copy, sizeof copy, one, sizeof one, BR_EC_secp256r1),
                     STATUS_IMAGE_KEY_MALFORMED);
}

uint32_t p256_verify(const uint8_t *spki, const uint8_t digest[DIGEST_SIZE], const uint8_t *der,
                     uint32_t der_size)
{
    uint8_t point[POINT_SIZE];
    uint8_t raw[2u * SCALAR_SIZE];
    const br_ec_public_key key = {BR_EC_secp256r1, point, sizeof point};

    copy_bytes(point, spki + POINT_OFFSET, POINT_SIZE);
    uint32_t status = der_signature(der, der_size, raw);
    if (status == STATUS_OK) {
        status = status_of(
            br_ecdsa_i31_vrfy_raw(&br_ec_p256_m31, digest, DIGEST_SIZE, &key, raw, sizeof raw),
            STATUS_IMAGE_SIGNATURE);
    }
    if (status == STATUS_IMAGE_SIGNATURE) { /* only a refusal asks whose fault it is: 1 M instructions */
        const uint32_t fault = on_curve(point);
        return fault == STATUS_IMAGE_KEY_MALFORMED ? fault : STATUS_IMAGE_SIGNATURE;
    }
    return status;
}
