/*
 * What one stage leaves to the next, at a fixed place in RAM (docs/formats/boot-record.md). All the
 * rest of the RAM is wiped before a jump; here, whatever the next stage must not hold is zeroed.
 */
#pragma once

#include <stdint.h>

#include "generated/image_format.h"

#define RECORD_SIZE 88u
#define SECRET_SIZE 32u

struct measured {
    uint32_t signed_size; /* header, payload and protected TLVs of the active bank's image */
    uint8_t digest[DIGEST_SIZE];
};

struct handover {
    uint32_t lifecycle; /* LIFECYCLE_ of generated/slots.h */
    uint32_t boot_count;
    uint8_t update_scalar[SECRET_SIZE]; /* ROM to loader: opens wrapped content keys */
    uint8_t stage_key[SECRET_SIZE];     /* ROM to loader: parent of the three below */
    uint8_t report_key[SECRET_SIZE];    /* loader to app */
    uint8_t vault_key[SECRET_SIZE];     /* loader to app */
    uint8_t rom_record[RECORD_SIZE];    /* written by the ROM, forwarded by the app */
    uint8_t loader_record[RECORD_SIZE]; /* written by the loader */
    struct measured loader;             /* for the app's check of its own bank while it runs */
    struct measured app;
};

_Static_assert(sizeof(struct handover) == 384u, "HANDOVER_SIZE of link/stage.ld");

/* RAM_BASE; reserved by link/stage.ld, not cleared at start. */
extern struct handover handover;
