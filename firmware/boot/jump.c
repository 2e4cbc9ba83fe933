#include "boot/board.h"
#include "generated/unlock.h"
#include "handover.h"
#include "hardened.h"
#include "verify/bytes.h"

#define VECTOR_ALIGNMENT 0x80u /* of VTOR on ARMv8-M */
#define THUMB 1u

struct vectors {
    uint32_t stack;
    uint32_t entry;
};

static struct vectors vectors_at(uint32_t address)
{
    const uint8_t *const bytes = flash_at(address);
    return (struct vectors){read_u32(bytes), read_u32(bytes + 4)};
}

uint32_t entry_check(uint32_t base, enum stage stage, const struct verified *image, struct refusal *why)
{
    const uint32_t linked = slot_address(ACTIVE_BASE, stage) + image->payload_offset;
    if (image->payload_size < sizeof(struct vectors) || linked % VECTOR_ALIGNMENT != 0) {
        return refuse(why, STATUS_IMAGE_HEADER, VECTOR_ALIGNMENT, linked);
    }
    const struct vectors vectors = vectors_at(slot_address(base, stage) + image->payload_offset);
    const uint32_t inside = (vectors.entry & ~THUMB) - linked;
    if ((vectors.entry & THUMB) == 0 || inside >= image->payload_size) {
        return refuse(why, STATUS_IMAGE_HEADER, linked, vectors.entry);
    }
    if (vectors.stack <= RAM_BASE || vectors.stack > RAM_BASE + RAM_SIZE || vectors.stack % 8u != 0) {
        return refuse(why, STATUS_IMAGE_HEADER, RAM_BASE + RAM_SIZE, vectors.stack);
    }
    return STATUS_OK;
}

_Static_assert((RAM_SIZE - sizeof(struct handover)) % 32u == 0, "wiped by eight words");

#ifndef CELLWARD_HOST
/* The word that the hardware wants, made of what verification found: it is nowhere in this firmware, and
 * opens nothing in the register of a stage that was not the one verified. */
static void unlock(enum stage stage, uint32_t bank, struct verified *image)
{
    unlock_add(image, UNLOCK_SHARE_BANK, reg_read(REG_SYS_BANK) ^ bank);
    const uint32_t word = image->unlock ^ UNLOCK_REST;
    if (stage == STAGE_LOADER) {
        reg_write(REG_SYS_EXEC_LOADER, word);
    } else {
        reg_write(REG_SYS_EXEC_APP, word);
    }
}

/* Nothing of this stage is left but the handover: all other RAM, its stack, and every register. */
static _Noreturn void leave(uint32_t stack, uint32_t entry)
{
    register uint32_t first __asm("r0") = stack;
    register uint32_t second __asm("r1") = entry;
    __asm volatile("mov r12, r1\n"
                   "movs r1, #0\n"
                   "msr msplim, r1\n"
                   "msr msp, r0\n"
                   "ldr r2, =%c2\n"
                   "ldr r3, =%c3\n"
                   "movs r0, #0\n"
                   "movs r4, #0\n"
                   "movs r5, #0\n"
                   "movs r6, #0\n"
                   "movs r7, #0\n"
                   "mov r8, r0\n"
                   "mov r9, r0\n"
                   "1: stmia r2!, {r0, r1, r4-r9}\n"
                   "cmp r2, r3\n"
                   "bne 1b\n"
                   "movs r2, #0\n"
                   "movs r3, #0\n"
                   "mov r10, r0\n"
                   "mov r11, r0\n"
                   "mov lr, r0\n"
                   "dsb\n"
                   "isb\n"
                   "bx r12\n"
                   ".ltorg\n"
                   :
                   : "r"(first), "r"(second), "i"(RAM_BASE + sizeof(struct handover)),
                     "i"(RAM_BASE + RAM_SIZE)
                   : "r2", "r3", "r4", "memory");
    __builtin_unreachable();
}

_Noreturn void jump(enum stage stage, uint32_t bank, struct verified *image, uint32_t status)
{
    const struct vectors vectors = vectors_at(slot_address(ACTIVE_BASE, stage) + image->payload_offset);
    /* The status also is the key: any other word turns the entry into an address where nothing is,
     * so that skipping the question leads nowhere. Made before the question, or the compiler would
     * know the answer and drop the key: seen in the binary (tests/firmware/test_binary.py). */
    const uint32_t key = opaque(opaque(status) ^ STATUS_OK);
    if (opaque(status) != STATUS_OK) {
        reset();
    }
    unlock(stage, bank, image);
    if (opaque(status) != STATUS_OK) {
        reset();
    }
    leave(vectors.stack, vectors.entry ^ key);
}
#endif
