/* ECDSA P-256 over a digest, of a bare point and a bare r || s, as the root quorum signs. */
#pragma once

#include <stdint.h>

#include "generated/image_format.h"
#include "hardened.h"

#define P256_POINT_SIZE 65u
#define P256_RAW_SIZE 64u

/* GOOD for a signature by `point` (04, x, y); BAD for any other, for r or s outside [1, n-1], and for
 * a point that is not on the curve. */
verdict p256_verify_raw(const uint8_t point[P256_POINT_SIZE], const uint8_t digest[DIGEST_SIZE],
                        const uint8_t raw[P256_RAW_SIZE]);
