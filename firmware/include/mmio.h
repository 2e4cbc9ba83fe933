/*
 * Registers, fuses and mapped flash. The one seam of the tests: a host build supplies the three
 * functions, the target reads and writes the bus.
 */
#pragma once

#include <stdint.h>

#ifdef CELLWARD_HOST
uint32_t reg_read(uint32_t address);
void reg_write(uint32_t address, uint32_t value);
const uint8_t *flash_at(uint32_t address);
#else
static inline uint32_t reg_read(uint32_t address)
{
    return *(const volatile uint32_t *)address;
}

static inline void reg_write(uint32_t address, uint32_t value)
{
    *(volatile uint32_t *)address = value;
}

static inline const uint8_t *flash_at(uint32_t address)
{
    return (const uint8_t *)address;
}
#endif
