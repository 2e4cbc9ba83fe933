/* From the vector table to main, and from any exception to a reset. Target only. */
#include "boot/board.h"
#include "boot/wipe.h"

extern uint32_t __data_load[], __data_start[], __data_end[];
extern uint32_t __bss_start[], __bss_end[];
extern uint32_t __stack_limit[], __stack_top[];

int main(void);
void early(void);
_Noreturn void start(void);
void fault_entry(void);
_Noreturn void fault(uint32_t pc);

#define EXCEPTIONS 16u

/* Every exception but reset is a fault here: nothing in the boot chain uses interrupts. */
__attribute__((section(".vectors"), used)) static void *const vectors[EXCEPTIONS] = {
    __stack_top,         (void *)start,       (void *)fault_entry, (void *)fault_entry,
    (void *)fault_entry, (void *)fault_entry, (void *)fault_entry, (void *)fault_entry,
    (void *)fault_entry, (void *)fault_entry, (void *)fault_entry, (void *)fault_entry,
    (void *)fault_entry, (void *)fault_entry, (void *)fault_entry, (void *)fault_entry,
};

static uint32_t words(const uint32_t *first, const uint32_t *end)
{
    return ((uint32_t)end - (uint32_t)first) / sizeof(uint32_t);
}

/* What a stage does before .data and .bss are set up: the ROM looks for a tamper event. */
__attribute__((weak)) void early(void)
{
}

_Noreturn void start(void)
{
    /* A stack that outgrows its reserve faults instead of running into .bss. */
    __asm volatile("msr msplim, %0" : : "r"(__stack_limit));
    early();
    for (uint32_t i = 0; i < words(__data_start, __data_end); i++) {
        __data_start[i] = __data_load[i];
    }
    for (uint32_t i = 0; i < words(__bss_start, __bss_end); i++) {
        __bss_start[i] = 0;
    }
    (void)main();
    reset();
}

/* BearSSL's HMAC leaves a copy of what it gives on the stack: a derived key, found by the test that
 * searches the memory of a module in recovery. */
__attribute__((naked)) void stack_wipe(void)
{
    __asm volatile("movs r0, #0\n"
                   "mov r1, sp\n"
                   "ldr r2, =__stack_limit\n"
                   "1: str r0, [r2], #4\n"
                   "cmp r2, r1\n"
                   "blo 1b\n"
                   "bx lr\n"
                   ".ltorg\n");
}

/* The handler runs on a fresh stack: the old one may be what faulted. The program counter is taken
 * from the frame (its seventh word of eight) first, which may lie where the fresh stack grows; there
 * is none where the stack pointer is not in RAM. */
__attribute__((naked)) void fault_entry(void)
{
    __asm volatile("mrs r1, msp\n"
                   "movs r0, #0\n"
                   "ldr r2, =__stack_top\n"
                   "subs r3, r2, r1\n"
                   "cmp r3, #32\n"
                   "blo 1f\n"
                   "cmp r3, %0\n"
                   "bhi 1f\n"
                   "ldr r0, [r1, #24]\n"
                   "1: msr msp, r2\n"
                   "b fault\n"
                   :
                   : "i"(RAM_SIZE));
}

/* Contactors first: whatever went wrong, the pack is off before it is told. */
_Noreturn void fault(uint32_t pc)
{
    contactors_open();
    event(reg_read(REG_SYS_BANK), STATUS_MODULE_FAULT, 0, pc);
    reset();
}
