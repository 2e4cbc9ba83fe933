#include "update/ecies.h"

#include <bearssl_block.h>
#include <bearssl_ec.h>

#include "boot/kdf.h"
#include "boot/ladder.h"
#include "boot/wipe.h"
#include "generated/status.h"
#include "hardened.h"
#include "verify/bytes.h"
#include "verify/crypto.h"

#define POINT_SIZE 65u
#define X_OFFSET 1u
#define X_SIZE 32u
#define TAG_SIZE 32u
#define TAG_OFFSET POINT_SIZE
#define SEALED_OFFSET (TAG_OFFSET + TAG_SIZE)

_Static_assert(SEALED_OFFSET + CONTENT_KEY_SIZE == LINK_WRAPPED_KEY_SIZE, "the sealed key ends it");

/* HKDF's output: what the key was sealed with, then the tag's. */
struct derived {
    uint8_t cipher[CONTENT_KEY_SIZE];
    uint8_t tag[TAG_SIZE];
};

_Static_assert(sizeof(struct derived) == CONTENT_KEY_SIZE + TAG_SIZE, "no padding");

/* ECDH and HKDF. 0 where the point is on the curve; BearSSL checks that it is (invalid-curve attack). */
static uint32_t derive(const uint8_t scalar[SECRET_SIZE], const uint8_t *ephemeral, struct derived *out)
{
    static const char info[] = "MCUBoot_ECIES_v1";
    uint8_t point[POINT_SIZE];
    uint8_t prk[DIGEST_SIZE];
    copy_bytes(point, ephemeral, POINT_SIZE);
    const uint32_t said = br_ec_p256_m31.mul(point, sizeof point, scalar, SECRET_SIZE, BR_EC_secp256r1);
    hkdf_extract(info, 0, point + X_OFFSET, X_SIZE, prk);
    hkdf_expand(prk, info, sizeof info - 1u, (uint8_t *)out, sizeof *out);
    wipe(point, sizeof point);
    wipe(prk, sizeof prk);
    return said ^ 1u;
}

static void unseal(const uint8_t cipher[CONTENT_KEY_SIZE], uint8_t key[CONTENT_KEY_SIZE])
{
    static const uint8_t nonce[12];
    br_aes_ct_ctr_keys keys;
    br_aes_ct_ctr_init(&keys, cipher, CONTENT_KEY_SIZE);
    (void)br_aes_ct_ctr_run(&keys, nonce, 0, key, CONTENT_KEY_SIZE);
    wipe(&keys, sizeof keys);
}

uint32_t ecies_unwrap(const uint8_t scalar[SECRET_SIZE], const uint8_t wrapped[LINK_WRAPPED_KEY_SIZE],
                      uint8_t key[CONTENT_KEY_SIZE])
{
    const uint8_t *const sealed = wrapped + SEALED_OFFSET;
    struct derived derived;
    uint8_t tag[TAG_SIZE];

    wipe(key, CONTENT_KEY_SIZE);
    uint32_t differ = ~scalar_in_range(scalar) | derive(scalar, wrapped, &derived);
    hmac_sha256(derived.tag, sizeof derived.tag, sealed, CONTENT_KEY_SIZE, tag);
    differ |= bytes_differ(tag, wrapped + TAG_OFFSET, TAG_SIZE);
    const uint32_t bad = verdict_differs(verdict_of(differ));
    if (bad == 0) {
        copy_bytes(key, sealed, CONTENT_KEY_SIZE);
        unseal(derived.cipher, key);
    }
    wipe(&derived, sizeof derived);
    wipe(tag, sizeof tag);
    return bad == 0 ? STATUS_OK : STATUS_IMAGE_ENCRYPTION;
}
