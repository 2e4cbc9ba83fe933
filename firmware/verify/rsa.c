#include "rsa.h"

#include <bearssl_rsa.h>

#include "bytes.h"

/* RFC 8017, 9.1: EM = maskedDB | H | 0xbc, DB = zeros | 0x01 | salt. emBits is 3071: one bit unused. */
#define EM_SIZE RSA3072_SIGNATURE_SIZE
#define DB_SIZE (EM_SIZE - DIGEST_SIZE - 1u)
#define SALT_SIZE DIGEST_SIZE
#define ZEROS_SIZE (DB_SIZE - SALT_SIZE - 1u)
#define UNUSED_BITS 0x80u
#define TRAILER 0xBCu
#define PRIME_SIZE 8u
#define SUFFIX_OFFSET (RSA3072_PKCS1_SIZE - RSA3072_PKCS1_SUFFIX_SIZE)
#define EXPONENT_SIZE 3u

_Static_assert(RSA3072_PKCS1_PREFIX_SIZE + EM_SIZE == SUFFIX_OFFSET, "the modulus fills the key");

static const uint8_t suffix[RSA3072_PKCS1_SUFFIX_SIZE] = RSA3072_PKCS1_SUFFIX;

uint32_t rsa3072_key_differs(const uint8_t *pkcs1)
{
    static const uint8_t prefix[RSA3072_PKCS1_PREFIX_SIZE] = RSA3072_PKCS1_PREFIX;
    const uint8_t *const modulus = pkcs1 + RSA3072_PKCS1_PREFIX_SIZE;
    uint32_t differ = bytes_differ(pkcs1, prefix, sizeof prefix);
    differ |= bytes_differ(pkcs1 + SUFFIX_OFFSET, suffix, sizeof suffix);
    differ |= (modulus[0] & 0x80u) ^ 0x80u;
    differ |= (modulus[EM_SIZE - 1u] & 1u) ^ 1u;
    return differ;
}

/* B.2.1: XOR the mask that `seed` generates over the DB_SIZE bytes at `db`. Out of line, as the next
 * one: their frames take turns on the stack. */
__attribute__((noinline)) static void unmask(uint8_t *db, const uint8_t seed[DIGEST_SIZE])
{
    uint8_t block[DIGEST_SIZE + 4u] = {0}; /* seed | counter u32, big-endian; it stays below 256 */
    uint8_t mask[DIGEST_SIZE] = {0};
    copy_bytes(block, seed, DIGEST_SIZE);
    for (uint32_t at = 0; at < DB_SIZE; at++) {
        const uint32_t in_block = at % DIGEST_SIZE;
        if (in_block == 0) {
            block[sizeof block - 1u] = (uint8_t)(at / DIGEST_SIZE);
            sha256(block, sizeof block, mask);
        }
        db[at] ^= mask[in_block];
    }
}

/* 9.1.2, steps 12 and 13: 0 when H is the hash of zeros | digest | salt. */
__attribute__((noinline)) static uint32_t hash_differs(const uint8_t *h, const uint8_t *digest, const uint8_t *salt)
{
    uint8_t message[PRIME_SIZE + DIGEST_SIZE + SALT_SIZE] = {0};
    uint8_t hash[DIGEST_SIZE];
    copy_bytes(message + PRIME_SIZE, digest, DIGEST_SIZE);
    copy_bytes(message + PRIME_SIZE + DIGEST_SIZE, salt, SALT_SIZE);
    sha256(message, sizeof message, hash);
    return bytes_differ(h, hash, DIGEST_SIZE);
}

/* 9.1.2: 0 when EM is an encoding of `digest`. EM is unmasked in place. */
static uint32_t encoding_differs(uint8_t em[EM_SIZE], const uint8_t *digest)
{
    const uint8_t *const h = em + DB_SIZE;
    uint32_t differ = (uint32_t)em[0] & UNUSED_BITS;
    differ |= (uint32_t)em[EM_SIZE - 1u] ^ TRAILER;
    unmask(em, h);
    differ |= (uint32_t)em[0] & (0xFFu ^ UNUSED_BITS);
    for (uint32_t i = 1; i < ZEROS_SIZE; i++) {
        differ |= em[i];
    }
    differ |= (uint32_t)em[ZEROS_SIZE] ^ 0x01u;
    return differ | hash_differs(h, digest, em + ZEROS_SIZE + 1u);
}

verdict rsa3072_pss_verify(const uint8_t *pkcs1, const uint8_t digest[DIGEST_SIZE],
                           const uint8_t signature[EM_SIZE])
{
    uint8_t em[EM_SIZE];
    /* The casts: BearSSL declares them writable and only reads them. */
    const br_rsa_public_key key = {
        .n = (unsigned char *)(pkcs1 + RSA3072_PKCS1_PREFIX_SIZE),
        .nlen = EM_SIZE,
        .e = (unsigned char *)(suffix + sizeof suffix - EXPONENT_SIZE),
        .elen = EXPONENT_SIZE,
    };

    copy_bytes(em, signature, EM_SIZE);
    /* 0 for a signature that is not below the modulus. */
    uint32_t differ = br_rsa_i31_public(em, sizeof em, &key) ^ 1u;
    /* A fault that leaves the exponentiation out leaves the signature, and anybody can write an EM. */
    differ |= ~spread(bytes_differ(em, signature, EM_SIZE));
    differ |= encoding_differs(em, digest);
    return verdict_of(differ);
}
