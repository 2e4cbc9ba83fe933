#include "boot/board.h"

static uint32_t claimed_counter(uint32_t base, enum stage stage)
{
    struct image image;
    struct refusal why;
    const uint8_t *const slot = flash_at(slot_address(base, stage));
    return image_decode(slot, slot_size(stage), &image, &why) == STATUS_OK ? image_counter(&image) : 0;
}

uint32_t commit_target(uint32_t base)
{
    const uint32_t loader = claimed_counter(base, STAGE_LOADER);
    const uint32_t app = claimed_counter(base, STAGE_APP);
    return loader < app ? loader : app;
}
