#include "update/hashing.h"

#include "mmio.h"

void hashing_begin(struct hashing *hashing, uint32_t address, uint32_t size)
{
    br_sha256_init(&hashing->context);
    hashing->next = address;
    hashing->left = size;
}

uint32_t hashing_step(struct hashing *hashing, uint32_t most)
{
    const uint32_t size = hashing->left < most ? hashing->left : most;
    if (size != 0) {
        br_sha256_update(&hashing->context, flash_at(hashing->next), size);
    }
    hashing->next += size;
    hashing->left -= size;
    return hashing->left;
}

void hashing_out(const struct hashing *hashing, uint8_t digest[DIGEST_SIZE])
{
    br_sha256_out(&hashing->context, digest);
}
