/*
 * What the plant measured of this pack, from the vault: how to correct the current, and how far the
 * cells may go. It narrows this firmware's limits and never widens them. Without a good one, the
 * current is taken as it is measured and three quarters of it must do.
 *
 * Value, 16 bytes little-endian (docs/formats/vault.md): gain of the current i32, parts per million;
 * its offset i32, mA; highest and lowest cell voltage u32, mV.
 */
#pragma once

#include <stdint.h>

#include "limits.h"

#define CALIBRATION_SIZE 16u

/* At start, before the self-test. An event where the vault holds no good one: but for a module that is
 * still at the plant, and one that has no keys any more. */
void calibration_load(uint32_t bank);

/* STATUS_OK, or STATUS_LINK_FRAME for what is no calibration. */
uint32_t calibration_check(const uint8_t *value, uint32_t length);

/* The limits in force: this firmware's own until calibration_load. */
const struct limits *limits_now(void);
int32_t calibrated_ma(int32_t measured_ma);
