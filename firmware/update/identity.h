/* What ROM, loader and app answer alike. */
#pragma once

#include "update/frame.h"
#include "update/hashing.h"

#define UPDATE_POINT_SIZE 65u

/* IDENTIFY. `where` is who answers; `point` is the update public key, null where this stage does not hold it. */
uint32_t identify(struct exchange *exchange, uint32_t where, const uint8_t *point);

/* DIGEST in three parts: the request into `out`, slices of it, the answer. */
struct inventory {
    struct hashing hashing;
    struct image image;
    uint32_t length; /* of the whole image, TLVs included */
};

uint32_t inventory_begin(const struct exchange *exchange, struct inventory *out);
void inventory_end(const struct inventory *inventory, struct exchange *exchange);
