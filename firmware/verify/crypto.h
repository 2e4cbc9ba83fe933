/* SHA-256 and ECDSA P-256 over BearSSL (constant time, no heap). */
#pragma once

#include <stdint.h>

#include "image.h"

void sha256(const uint8_t *data, uint32_t size, uint8_t digest[DIGEST_SIZE]);

/*
 * `spki` is P256_SPKI_SIZE bytes that start with P256_SPKI_PREFIX. STATUS_OK;
 * STATUS_IMAGE_KEY_MALFORMED for a point that is not on the curve; STATUS_IMAGE_SIGNATURE for a
 * signature that is not the one DER form (RFC 3279, 2.2.3) of (r, s) or does not verify.
 */
uint32_t p256_verify(const uint8_t *spki, const uint8_t digest[DIGEST_SIZE], const uint8_t *der,
                     uint32_t der_size);

/* 0 when equal. Reads all of both: which byte differs does not show in the time taken. */
uint32_t bytes_differ(const uint8_t *a, const uint8_t *b, uint32_t size);
