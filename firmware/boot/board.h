/* What ROM, loader and app share: events, fuses, flash controller, trailers, the jump. */
#pragma once

#include <stdint.h>

#include "generated/banks.h"
#include "generated/registers.h"
#include "generated/slots.h"
#include "generated/status.h"
#include "mmio.h"
#include "verify/image.h"

/* Who reports: WHERE_ROM, WHERE_LOADER or WHERE_APP. Each of the three defines its own. */
extern const uint32_t board_where;

enum stage { STAGE_LOADER, STAGE_APP };

/* --- event.c --- */
void milestone(uint32_t which);
/* `bank` is an index of core.slots.BANKS; `status` a word of generated/status.h. */
void event(uint32_t bank, uint32_t status, uint32_t expected, uint32_t found);
void contactors_open(void);
_Noreturn void reset(void);
/* For code that has nothing left to do: contactors are open, nothing is executed. */
_Noreturn void idle_forever(void);

/* --- otp.c --- */
uint32_t otp_word(uint32_t offset);
/* `size` bytes of fuses, whole words. */
void otp_copy(uint32_t offset, uint8_t *out, uint32_t size);
/* Burn `bits` of the word at `offset`; the controller's status. Read back what matters. */
uint32_t otp_burn(uint32_t offset, uint32_t bits);
/* How many fuses are burned from bit 0 upwards without a gap. */
uint32_t otp_thermometer(uint32_t offset, uint32_t size);
/* Burn a thermometer up to `target`, one fuse at a time. Does nothing at or above it. */
uint32_t otp_raise(uint32_t offset, uint32_t size, uint32_t target);
/* LIFECYCLE_ of generated/slots.h. */
uint32_t otp_lifecycle(void);
/* Bit n: slot n signs nothing, revoked or, from production on, a development key's. */
uint32_t otp_revoked(void);
/* Copies the fuses that verification of `stage` needs. */
void otp_trust(enum stage stage, struct trust *out);
uint32_t otp_counter(void);
uint32_t otp_raise_counter(uint32_t target);

/* --- flash.c --- */
/* The page that holds `offset`; a phrase of two words. `bank` 0, 1 or DATA_BANK. Controller's status. */
uint32_t flash_erase(uint32_t bank, uint32_t offset);
uint32_t flash_program(uint32_t bank, uint32_t offset, uint32_t low, uint32_t high);
/* A word as it reads now: never one that the compiler remembers from before a command. */
uint32_t flash_word(uint32_t address);
/* Program a flag of the bank's trailer, `from_end` its distance from the bank's end. */
uint32_t flash_set_flag(uint32_t bank, uint32_t from_end);
/* State of core.banks, from the trailer of the bank mapped at `base`. */
uint32_t bank_state(uint32_t base);
uint32_t slot_address(uint32_t base, enum stage stage);
uint32_t slot_size(enum stage stage);

/* --- commit.c --- */
/* The counter a confirmed bank may raise the fuses to: the lower of its two images' claims, so
 * that a commit never locks out the loader that made it. 0 where an image does not decode. */
uint32_t commit_target(uint32_t base);

/* --- check.c --- */
/* Verify the image of `stage` in the bank that is mapped active: all steps, each but the digest twice,
 * and its entry. Adds all shares of `out->unlock` but the bank's. */
uint32_t verify_active(enum stage stage, struct verified *out, struct refusal *why);

/* --- jump.c --- */
/* A verified image's vector table is the start of its payload. STATUS_IMAGE_HEADER unless that is
 * aligned, the stack is in RAM and the entry is inside the verified payload, as linked for
 * ACTIVE_BASE. `base` is where the bank is mapped now. */
uint32_t entry_check(uint32_t base, enum stage stage, const struct verified *image, struct refusal *why);
/* Wipe the RAM and run `stage` of the active bank. `status` is what its verification returned: anything
 * but STATUS_OK resets. `bank` is the one that was to be mapped; another one does not unlock. */
_Noreturn void jump(enum stage stage, uint32_t bank, struct verified *image, uint32_t status);
