/* ECIES-P256 as MCUboot wraps a content key (TLV 0x32). */
#pragma once

#include <stdint.h>

#include "generated/updatelink.h"
#include "handover.h"

#define CONTENT_KEY_SIZE 16u

/* Opens `wrapped` with the module's update scalar: STATUS_OK and `key`, or STATUS_IMAGE_ENCRYPTION and
 * zeros: a point that is not on the curve, a tag that is not right, a scalar that is none (zeroised). */
uint32_t ecies_unwrap(const uint8_t scalar[SECRET_SIZE], const uint8_t wrapped[LINK_WRAPPED_KEY_SIZE],
                      uint8_t key[CONTENT_KEY_SIZE]);
