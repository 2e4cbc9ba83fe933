/*
 * revocation_decode and revocation_apply on the world's fuses. Input: a byte of circumstances, then the
 * revocation. Bit 0: production; bits 1 to 4: slots that are revoked already; bit 5: slot 0's key is in use.
 */
#include <stdlib.h>
#include <string.h>

#include "boot/revocation.h"
#include "fuzz/tell.h"
#include "test/fake_module.h"

const uint32_t board_where = WHERE_ROM;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t scalar[32];
    static uint32_t ready;
    struct refusal why = {0};
    uint8_t in_use[1][DIGEST_SIZE];
    if (size == 0) {
        return 0;
    }
    if (ready == 0) {
        world_load(scalar);
        ready = 1;
    }
    world_restore();
    const uint32_t lifecycle = data[0] & 1u ? LIFECYCLE_PRODUCTION_FUSES : LIFECYCLE_PROVISIONED_FUSES;
    const uint32_t before = (data[0] >> 1) & 15u;
    fake.fuses[OTP_LIFECYCLE_OFFSET / 4] = lifecycle;
    fake.fuses[OTP_REVOKED_OFFSET / 4] = before;
    memcpy(in_use[0], (const uint8_t *)fake.fuses + OTP_SLOT_KEYS_OFFSET, DIGEST_SIZE);
    uint8_t *const exact = malloc(size); /* one byte too many, which is not read: malloc(0) is no block */
    memcpy(exact + 1, data + 1, size - 1);
    const uint32_t status = revocation_apply(exact + 1, (uint32_t)size - 1u, (const uint8_t(*)[DIGEST_SIZE])in_use,
                                             (data[0] >> 5) & 1u, &why);
    free(exact);
    const uint32_t after = fake.fuses[OTP_REVOKED_OFFSET / 4];
    if (fake.faults != 0 || (after & before) != before || (status != STATUS_OK && after != before)) {
        abort();
    }
    const uint32_t words[] = {status, after};
    tell(data, size, words, 2);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    (void)seed;
    return LLVMFuzzerMutate(data, size, max_size);
}
