/*
 * The module's keys, all from the device secret (docs/formats/boot-record.md). No key is used on
 * two kinds of input, and the secret on one input only: what leaks from many observed uses of a key
 * is not the secret.
 */
#pragma once

#include <stdint.h>

#include "handover.h"
#include "verify/p256raw.h"

/* Fills `update_scalar` and `stage_key` of `out`. `secret` and `rom_record_key` are the caller's to
 * wipe. A module whose secret is gone (lifecycle tampered) does not call this: its keys are zeros. */
void ladder_rom(const uint8_t secret[SECRET_SIZE], struct handover *out, uint8_t rom_record_key[SECRET_SIZE]);

/* Fills `report_key` and `vault_key` and wipes `update_scalar` and `stage_key`, which the app must
 * not hold. `loader_record_key` is the caller's to wipe. */
void ladder_loader(struct handover *keys, uint8_t loader_record_key[SECRET_SIZE]);

/* For the ROM's commit of the vault. */
void vault_key_from_stage(const uint8_t stage_key[SECRET_SIZE], uint8_t vault_key[SECRET_SIZE]);

/* The uncompressed point; all zeros for a scalar of zeros. 6 M instructions. */
void update_public_key(const uint8_t scalar[SECRET_SIZE], uint8_t point[P256_POINT_SIZE]);

/* All ones where the big-endian number is in [1, n-1] of P-256, else 0. */
uint32_t scalar_in_range(const uint8_t scalar[SECRET_SIZE]);
