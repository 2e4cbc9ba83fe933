/* Zero what must not be found later. */
#pragma once

#include <stdint.h>

/* The optimiser drops a plain store to memory that nobody reads again; it cannot drop this. */
static inline void wipe(void *data, uint32_t size)
{
    uint8_t *const bytes = data;
    for (uint32_t i = 0; i < size; i++) {
        bytes[i] = 0;
    }
    __asm volatile("" : : "r"(bytes) : "memory");
}

/* Zero what calls that have returned left below the stack pointer. Target only. */
void stack_wipe(void);
