#include "integrity.h"

#include "boot/board.h"
#include "handover.h"
#include "hardened.h"
#include "update/hashing.h"
#include "verify/bytes.h"
#include "verify/crypto.h"

#define SLICE 4096u

static struct {
    enum stage stage;
    uint32_t under_way;
    uint32_t failed; /* STATUS_BOOT_INTEGRITY once it has */
    struct hashing hashing;
} state;

static const struct measured *measured(enum stage stage)
{
    return stage == STAGE_LOADER ? &handover.loader : &handover.app;
}

static uint32_t fail(uint32_t bank, uint32_t expected, uint32_t found)
{
    state.failed = STATUS_BOOT_INTEGRITY;
    event(bank, STATUS_BOOT_INTEGRITY, expected, found);
    return state.failed;
}

uint32_t integrity_cycle(uint32_t bank)
{
    const struct measured *const expected = measured(state.stage);
    uint8_t digest[DIGEST_SIZE];
    if (state.failed != 0) {
        return STATUS_BOOT_INTEGRITY;
    }
    if (state.under_way == 0) {
        const uint32_t size = expected->signed_size;
        if (size < IMAGE_HEADER_SIZE || size > slot_size(state.stage)) {
            return fail(bank, slot_size(state.stage), size);
        }
        hashing_begin(&state.hashing, slot_address(ACTIVE_BASE, state.stage), size);
        state.under_way = 1;
    }
    if (hashing_step(&state.hashing, SLICE) != 0) {
        return STATUS_OK;
    }
    state.under_way = 0;
    hashing_out(&state.hashing, digest);
    const verdict same = verdict_of(bytes_differ(digest, expected->digest, DIGEST_SIZE));
    if (verdict_differs(same) != 0) {
        return fail(bank, first_word(expected->digest), first_word(digest));
    }
    state.stage = state.stage == STAGE_LOADER ? STAGE_APP : STAGE_LOADER;
    return STATUS_OK;
}
