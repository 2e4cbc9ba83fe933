/* Revocation of a slot key by the root quorum (docs/formats/revocation.md). */
#pragma once

#include <stdint.h>

#include "verify/image.h"

#define REVOCATION_SIZE_MAX 560u /* four keys, four signatures */

/* Pointers into the bytes that were decoded. */
struct revocation {
    uint32_t threshold;
    uint32_t keys;
    uint32_t signatures;
    const uint8_t *bytes;
    const uint8_t *key_hash;
    const uint8_t *points;  /* `keys` points */
    const uint8_t *entries; /* `signatures` times: index, r, s */
};

/* Exactly this format, or STATUS_REVOCATION_FORMAT. Says nothing about who signed. */
uint32_t revocation_decode(const uint8_t *data, uint32_t size, struct revocation *out, struct refusal *why);

/* For the update link: checks the format and writes the page, the phrase with the length last, so that
 * a cut leaves none. STATUS_REVOCATION_FORMAT or the flash controller's word. */
uint32_t revocation_store(const uint8_t *data, uint32_t size);

/* Whether the page holds something for the ROM: 0 for no. */
uint32_t revocation_waits(void);

/*
 * ROM: every check of the format's page in its order, then the burn, read back. `in_use` holds
 * `in_use_count` key hashes that the bank which is about to run is signed by; none in recovery.
 * STATUS_OK: the key is revoked (again). Otherwise the refusal, also in `why`; nothing was burned.
 */
uint32_t revocation_apply(const uint8_t *data, uint32_t size, const uint8_t (*in_use)[DIGEST_SIZE],
                          uint32_t in_use_count, struct refusal *why);

/* ROM: revocation_apply on the page, which is erased whatever came of it. */
uint32_t revocation_carry_out(const uint8_t (*in_use)[DIGEST_SIZE], uint32_t in_use_count,
                              struct refusal *why);
