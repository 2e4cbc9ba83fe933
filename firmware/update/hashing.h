/* SHA-256 over mapped flash, a slice at a time, so that the watchdog and the cells are not forgotten
 * meanwhile. */
#pragma once

#include <stdint.h>

#include <bearssl_hash.h>

#include "generated/image_format.h"

struct hashing {
    br_sha256_context context;
    uint32_t next; /* address */
    uint32_t left;
};

void hashing_begin(struct hashing *hashing, uint32_t address, uint32_t size);
/* Up to `most` bytes; how many are left. */
uint32_t hashing_step(struct hashing *hashing, uint32_t most);
void hashing_out(const struct hashing *hashing, uint8_t digest[DIGEST_SIZE]);
