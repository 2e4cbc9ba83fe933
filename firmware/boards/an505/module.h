/*
 * The module that board.c plays: its registers, fuses and latches. All of it lies in RAM that the
 * firmware does not have, so that it outlives the stages and their resets.
 */
#pragma once

#include <stdint.h>

#include "generated/registers.h"
#include "generated/slots.h"
#include "generated/status.h"

/* A fault of the stage that passes a milestone; INJECT_ of tests/firmware/qemu.py. */
enum inject {
    INJECT_NOTHING,
    INJECT_UNDEFINED,   /* an instruction that is none */
    INJECT_BUS,         /* a register that is not listed */
    INJECT_STACK,       /* below the stack's reserve */
    INJECT_RAM_CODE,    /* a jump into RAM */
    INJECT_FLASH_STORE, /* a store into the flash, past its controller */
    INJECT_OTHER_BANK,  /* a jump into the bank that does not run */
};

/* One module as tests/firmware/qemu.py writes it: this, then `areas` times {bank, offset, length}
 * and the bytes. All the rest of the flash is erased. */
struct module_file {
    uint32_t exec_loader; /* the words that the EXEC registers take */
    uint32_t exec_app;
    uint32_t entropy; /* not 0 */
    uint32_t tamper_latch;
    uint32_t close_request;
    uint32_t boots; /* at most so many */
    uint32_t inject;
    uint32_t inject_at; /* milestone */
    uint32_t fuses[0x200 / 4];
    uint32_t areas;
};

/* What the ROM's first access does after a reset: it runs from other memory than the banks, which are
 * exchanged or filled anew then. */
enum due { DUE_NOTHING, DUE_BOOT, DUE_MODULE };

struct module {
    uint32_t awake; /* AWAKE: there is power */
    uint32_t due;
    uint32_t input;
    uint32_t output;
    struct module_file file;
    /* until the power goes */
    uint32_t retain;
    uint32_t cause;
    uint32_t boots;
    uint32_t ticks;
    uint32_t shown; /* the bank whose bytes are in the active window */
    /* until a reset */
    uint32_t executable;
    uint32_t locked;
    uint32_t secret_hidden;
    uint32_t settled; /* milestone that ends the boot, 0 before it */
    uint32_t idle;
    uint32_t event[3];
    uint32_t flash_unlocked;
    uint32_t flash_protected;
    uint32_t flash[(REG_FLASH_PROTECT - REG_FLASH_UNLOCK) / 4 + 1];
    uint32_t otp_unlocked;
    uint32_t otp_offset;
    uint32_t otp_status;
    uint32_t watchdog;
    uint32_t contactors;
    uint32_t limits[3];
};

#define AWAKE 0x0A3A6E11u
#define MODULE ((struct module *)0x38300000u)
#define EXECUTE_LOADER 1u
#define EXECUTE_APP 2u

/* --- power.c: files, boots, outcomes --- */
void power(void);
void say(const char *what, const uint32_t *values, uint32_t count);
_Noreturn void reset_core(uint32_t cause);
_Noreturn void boot_ends(const char *outcome);
void inject_fault(uint32_t milestone);

/* --- flash.c: banks, controller, what the core may do with them --- */
void flash_lose_all(void);
uint8_t *flash_bank(uint32_t bank);
void flash_show(uint32_t bank);
void flash_command(uint32_t what);
void guard(void);
void unguard(void);
