/*
 * The vault: one small value a name, encrypted and authenticated in two pages of the data flash that
 * are written in turn, and bound to a fuse thermometer, so that an old block is no good.
 *
 * Block, little-endian: magic "CWVB" | name u8 | 3 zeros | version u32 | counter u32 | length u32 |
 * nonce 16 | ciphertext (AES-128-CTR from the nonce, its last 4 bytes counting big-endian) |
 * HMAC-SHA256 over all before it. Good: the tag is right, and the counter is the thermometer's
 * (committed) or one above (to be committed at the next boot); the higher one wins.
 */
#pragma once

#include <stdint.h>

#include "generated/updatelink.h"
#include "handover.h"
#include "verify/image.h"

#define VAULT_CALIBRATION 0u
#define VAULT_KEYS 1u
#define VAULT_NAMES 2u

struct vault_value {
    uint32_t version;
    uint32_t counter;
    uint32_t length;
    uint8_t bytes[LINK_MAX_VALUE];
};

/* STATUS_OK and `out`; else `out` is zeros and the result is STATUS_VAULT_SEAL (a block with a wrong
 * tag, name or form), STATUS_VAULT_COUNTER (none but old ones) or STATUS_VAULT_MISSING. `name` must be
 * below VAULT_NAMES. The caller wipes `out` after use where it is secret. */
uint32_t vault_open(uint32_t name, const uint8_t vault_key[SECRET_SIZE], struct vault_value *out);

/* 1 to LINK_MAX_VALUE bytes into the page that does not hold the good block; the phrase with the magic
 * last, so that a cut leaves no block. STATUS_LINK_FRAME for a name or length outside its range,
 * STATUS_LINK_STATE while a block waits for its commit, STATUS_OTP_ONE_WAY when all fuses are burned,
 * STATUS_MODULE_FAULT for a TRNG that repeats itself, or the flash controller's word. */
uint32_t vault_write(uint32_t name, const uint8_t vault_key[SECRET_SIZE], uint32_t version,
                     const uint8_t *value, uint32_t length);

/* ROM: burns the fuse of a good block that waits for it; `*committed` is then 1. The statuses of
 * vault_open, or the fuse controller's. */
uint32_t vault_commit(uint32_t name, const uint8_t vault_key[SECRET_SIZE], uint32_t *committed);
