/* HMAC-SHA256 (RFC 2104) and HKDF-SHA256 (RFC 5869) over BearSSL: constant time, no heap. */
#pragma once

#include <stdint.h>

#include "generated/image_format.h"

void hmac_sha256(const uint8_t *key, uint32_t key_size, const void *data, uint32_t size,
                 uint8_t out[DIGEST_SIZE]);

void hkdf_extract(const void *salt, uint32_t salt_size, const uint8_t *ikm, uint32_t size,
                  uint8_t prk[DIGEST_SIZE]);

/* `size` up to 255 * DIGEST_SIZE. */
void hkdf_expand(const uint8_t prk[DIGEST_SIZE], const void *info, uint32_t info_size, uint8_t *out,
                 uint32_t size);
