/*
 * The module's end of the update link (docs/formats/update-link.md): one bounded request, one answer.
 * Linked into ROM, loader and app; each answers its own table of rules.
 */
#pragma once

#include <stdint.h>

#include "boot/board.h"
#include "generated/updatelink.h"

/* The longest answer: two words and a value of the vault. */
#define LINK_MAX_ANSWER (8u + LINK_MAX_VALUE)

/* A request and its answer in the making. The payload is a copy: what was checked does not change. */
struct exchange {
    uint32_t type;
    uint32_t sequence;
    uint32_t length; /* of the payload */
    uint8_t *payload;
    uint8_t *answer; /* LINK_MAX_ANSWER bytes */
    uint32_t answer_length;
    uint32_t last;    /* this request completed what the ones before it belong to */
    uint32_t restart; /* reset once it is answered */
};

#define NO_REQUEST 0u

/* NO_REQUEST; STATUS_OK with `out`; STATUS_LINK_FRAME, also with `out`, which can be answered. */
uint32_t link_receive(struct exchange *out);

/* Send the answer; its payload only with STATUS_OK. Does not return where `restart` is set and the
 * status is STATUS_OK. */
void link_answer(const struct exchange *exchange, uint32_t status);

/* All zero? Reserved fields are. */
uint32_t link_zeros(const uint8_t *bytes, uint32_t size);
