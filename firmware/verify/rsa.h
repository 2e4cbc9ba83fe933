/* RSASSA-PSS (RFC 8017, 8.1.2) with 3072 bits, e = 65537, SHA-256, MGF1-SHA-256 and 32 bytes of salt. */
#pragma once

#include <stdint.h>

#include "crypto.h"
#include "hardened.h"

/*
 * 0 when the RSA3072_PKCS1_SIZE bytes are the one encoding of a key that is taken: RSAPublicKey
 * (RFC 8017, A.1.1) with an odd modulus of 3072 bits and the exponent 65537.
 */
uint32_t rsa3072_key_differs(const uint8_t *pkcs1);

/*
 * GOOD when `signature` over `digest` is that of the key, which rsa3072_key_differs has let pass.
 * All conditions go into one word: nothing is decided before the last of them is known.
 */
verdict rsa3072_pss_verify(const uint8_t *pkcs1, const uint8_t digest[DIGEST_SIZE],
                           const uint8_t signature[RSA3072_SIGNATURE_SIZE]);
