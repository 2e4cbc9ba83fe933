/* A boot record: what a stage measured, under its own key (docs/formats/boot-record.md). */
#pragma once

#include <stdint.h>

#include "handover.h"
#include "verify/image.h"

#define RECORD_BY_ROM 1u
#define RECORD_BY_LOADER 2u

struct record {
    uint32_t by;        /* RECORD_BY_ */
    uint32_t lifecycle; /* LIFECYCLE_ */
    uint32_t bank;
    uint32_t boot_count;
    uint32_t counter; /* of the fuses */
    struct image_version version;
    const uint8_t *digest; /* DIGEST_SIZE bytes */
};

void record_make(const struct record *record, const uint8_t key[SECRET_SIZE], uint8_t out[RECORD_SIZE]);

/* The record of this boot (lifecycle and count are `handover`'s) for `image`, which `bank` holds and
 * this stage has verified. */
void record_measured(uint32_t by, uint32_t bank, const struct verified *image, const uint8_t key[SECRET_SIZE],
                     uint8_t out[RECORD_SIZE]);
