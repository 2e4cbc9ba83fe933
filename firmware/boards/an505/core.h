/* What the board needs of the Cortex-M33 and of QEMU: MPU, vector table, reset, semihosting. */
#pragma once

#include <stdint.h>

#define SCB_VTOR 0xE000ED08u
#define SCB_AIRCR 0xE000ED0Cu
#define AIRCR_SYSRESETREQ 0x05FA0004u
#define MPU_CTRL 0xE000ED94u
#define MPU_RNR 0xE000ED98u
#define MPU_RBAR 0xE000ED9Cu
#define MPU_RLAR 0xE000EDA0u
#define MPU_ON 1u
#define MPU_NEVER_EXECUTE 1u
#define MPU_READ_WRITE 0u
#define MPU_READ_ONLY (2u << 1)
#define MPU_REGION_ON 1u

enum semihosting {
    SYS_OPEN = 0x01,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT = 0x18,
};
#define OPEN_READ_BINARY 1u
#define OPEN_WRITE_BINARY 5u
#define APPLICATION_EXIT 0x20026u

static inline uint32_t core_read(uint32_t address)
{
    return *(volatile uint32_t *)address;
}

static inline void core_write(uint32_t address, uint32_t value)
{
    *(volatile uint32_t *)address = value;
    __asm volatile("dsb\nisb" : : : "memory");
}

static inline uint32_t semihosting(enum semihosting what, uint32_t argument)
{
    register uint32_t r0 __asm("r0") = what;
    register uint32_t r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
