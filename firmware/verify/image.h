/*
 * The MCUboot image: bounded decoding and verification. One library, linked into the ROM, the
 * loader and the host verifier; it gives the verdict that src/cellward/core/image.py gives.
 *
 *   1 structure   every length inside the slot, TLVs on MCUboot's allow-list, none twice
 *   2 digest      SHA-256 over header, payload and protected TLVs, read from the flash
 *   3 key         PUBKEY hashes to KEYHASH, and that is a slot key of the fuses
 *   4 revocation  that slot is not revoked
 *   5 signature   of that key's algorithm, over the digest: ECDSA P-256 or RSA-3072-PSS
 *   6 counter     not below the fuses' security counter
 *   7 hardware    vendor and class UUID are this device's, for this stage
 *
 * The result is a word of generated/status.h, never a truth value. Steps 2 to 7 run twice, over one
 * digest, and each adds its share to an unlock word (generated/unlock.h): only the sum of all of them
 * opens the slot for execution, so that a step or a branch that was jumped over opens nothing.
 */
#pragma once

#include <stdint.h>

#include "generated/image_format.h"
#include "generated/slots.h"
#include "generated/status.h"

/* Slots lie far below this; every sum of offsets in the decoder then stays below 2^32. */
#define SLOT_SIZE_MAX 0x40000000u

struct image_version {
    uint8_t major;
    uint8_t minor;
    uint16_t revision;
    uint32_t build;
};

/* A TLV's value: `length` bytes at `offset` of the slot. Absent: offset 0, where the header is. */
struct tlv {
    uint32_t offset;
    uint16_t type;
    uint16_t length;
};

/* What an image claims. Claims are claims until image_verify has returned STATUS_OK. */
struct image {
    const uint8_t *slot;
    uint32_t header_size;
    uint32_t payload_size;
    uint32_t signed_size; /* header, payload and protected TLVs */
    uint32_t flags;
    struct image_version version;
    struct tlv keyhash;
    struct tlv pubkey;
    struct tlv sha256;
    struct tlv ecdsa;
    struct tlv rsa;
    struct tlv counter;
    struct tlv vendor;
    struct tlv klass;
};

/* What the fuses hold against an image. A slot key of zeros is not burned and matches nothing. */
struct trust {
    uint8_t slot_keys[OTP_SLOT_KEY_COUNT][DIGEST_SIZE];
    uint32_t revoked; /* bit n: slot n */
    uint32_t counter;
    uint8_t vendor[OTP_VENDOR_ID_SIZE];
    uint8_t klass[OTP_APP_CLASS_SIZE];
};

/* The two sides of the check that failed, as words for the event. */
struct refusal {
    uint32_t status;
    uint32_t expected;
    uint32_t found;
};

/* Filled only when verification returns STATUS_OK. */
struct verified {
    uint32_t unlock; /* the shares so far */
    uint32_t payload_offset; /* in the slot */
    uint32_t payload_size;
    uint32_t counter;
    struct image_version version;
    uint32_t signed_size;
    uint8_t digest[DIGEST_SIZE];
    uint8_t key_hash[DIGEST_SIZE]; /* of the slot key that signed it */
};

#define VERIFY_PASSES 2u

/* Record the refusal and return its status. */
uint32_t refuse(struct refusal *why, uint32_t status, uint32_t expected, uint32_t found);

/* Step 1. `slot_size` at least IMAGE_HEADER_SIZE bytes are readable at `slot`. */
uint32_t image_decode(const uint8_t *slot, uint32_t slot_size, struct image *out, struct refusal *why);

/* The header alone, IMAGE_HEADER_SIZE bytes at `slot`: every size in it fits `slot_size`, which then
 * need not be readable. */
uint32_t image_decode_header(const uint8_t *slot, uint32_t slot_size, struct image *out,
                             uint32_t *protected_size, struct refusal *why);

/* The security counter an image claims, 0 without one. */
uint32_t image_counter(const struct image *image);

/* Negative, 0 or positive, field by field. */
int32_t image_version_compare(const struct image_version *a, const struct image_version *b);

/* Step 1 and the digest of step 2, which costs most and is computed once. `out` is zeroed first. */
uint32_t image_measure(const uint8_t *slot, uint32_t slot_size, struct verified *out, struct refusal *why);

/* Steps 1 to 7 over that digest. `pass` 0, then 1, each with fuses that were read anew. */
uint32_t image_check(const uint8_t *slot, uint32_t slot_size, const struct trust *trust, uint32_t pass,
                     struct verified *out, struct refusal *why);

/* Adds `share` to the unlock word, unless something differed. Without a branch. */
void unlock_add(struct verified *out, uint32_t share, uint32_t differ);

/* All of the above with one copy of the fuses. `out` is zeroed first; `why` is filled on a refusal. */
uint32_t image_verify(const uint8_t *slot, uint32_t slot_size, const struct trust *trust,
                      struct verified *out, struct refusal *why);
