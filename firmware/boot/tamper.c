#include "boot/tamper.h"

#include "boot/board.h"

#define ALL_ONES 0xFFFFFFFFu

#ifdef CELLWARD_HOST
#define STEP
#else
#define STEP static
STEP void tamper_burn_secret(void);
STEP uint32_t tamper_finish(void);
#endif

static uint32_t is_tampered(void)
{
    return (otp_word(OTP_LIFECYCLE_OFFSET) & LIFECYCLE_TAMPERED_FUSES) != 0;
}

/* While the latch is set the secret reads as zeros: nothing is told about it then. */
static uint32_t secret_left(void)
{
    uint32_t all = ALL_ONES;
    for (uint32_t at = 0; at < OTP_DEVICE_SECRET_SIZE; at += 4u) {
        all &= otp_word(OTP_DEVICE_SECRET_OFFSET + at);
    }
    return all != ALL_ONES;
}

uint32_t tamper_pending(void)
{
    const uint32_t latch = reg_read(REG_TAMPER_LATCH);
    return latch != 0 ? latch : is_tampered() != 0 && secret_left() != 0;
}

/* The controller's word is not asked: whatever it says, the next word is burned too. */
STEP void tamper_burn_secret(void)
{
    for (uint32_t at = 0; at < OTP_DEVICE_SECRET_SIZE; at += 4u) {
        (void)otp_burn(OTP_DEVICE_SECRET_OFFSET + at, ALL_ONES);
    }
}

/* STATUS_OK: the next boot finds nothing pending. */
STEP uint32_t tamper_finish(void)
{
    contactors_open();
    const uint32_t sources = reg_read(REG_TAMPER_LATCH);
    if (is_tampered() == 0) {
        (void)otp_burn(OTP_LIFECYCLE_OFFSET, LIFECYCLE_TAMPERED_FUSES);
    }
    milestone(MILESTONE_ZEROISED);
    event(reg_read(REG_SYS_BANK), STATUS_TAMPER, 0, sources);
    reg_write(REG_TAMPER_CLEAR, TAMPER_KEY);
    return tamper_pending() == 0 ? STATUS_OK : STATUS_TAMPER;
}

#ifndef CELLWARD_HOST
extern uint32_t __stack_top[];

/* A module whose fuses do not burn stays here, contactors open; the next power-on tries again. */
__attribute__((used)) static _Noreturn void zeroised(void)
{
    if (tamper_finish() != STATUS_OK) {
        idle_forever();
    }
    reset();
}

/*
 * The loop that wipes runs in registers alone: the stack it was called on is wiped too, so nothing
 * returns from it, and what follows starts on a stack of zeros. The registers may hold what the core
 * was reset from.
 */
_Noreturn void tamper_zeroise(void)
{
    tamper_burn_secret();
    __asm volatile("mov r0, %0\n"
                   "mov r1, %1\n"
                   "mov r2, %2\n"
                   "movs r3, #0\n"
                   "1: str r3, [r0], #4\n"
                   "cmp r0, r1\n"
                   "bne 1b\n"
                   "msr msp, r2\n"
                   "mov r4, r3\n"
                   "mov r5, r3\n"
                   "mov r6, r3\n"
                   "mov r7, r3\n"
                   "mov r8, r3\n"
                   "mov r9, r3\n"
                   "mov r10, r3\n"
                   "mov r11, r3\n"
                   "mov r12, r3\n"
                   "b zeroised\n"
                   :
                   : "r"(RAM_BASE), "r"(RAM_BASE + RAM_SIZE), "r"(__stack_top)
                   : "r0", "r1", "r2", "r3", "memory");
    __builtin_unreachable();
}
#endif
