/* The module's registers on QEMU's mps2-an505, which has none of them: board.c is the hardware. */
#pragma once

#include <stdint.h>

uint32_t reg_read(uint32_t address);
void reg_write(uint32_t address, uint32_t value);

/* Both windows are memory; REMAP exchanges what is in them. */
static inline const uint8_t *flash_at(uint32_t address)
{
    return (const uint8_t *)address;
}
