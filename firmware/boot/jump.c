#include "boot/board.h"
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

#ifndef CELLWARD_HOST
static inline uint32_t opaque(uint32_t value)
{
    __asm volatile("" : "+r"(value));
    return value;
}

_Noreturn void jump(enum stage stage, const struct verified *image, uint32_t status)
{
    const struct vectors vectors = vectors_at(slot_address(ACTIVE_BASE, stage) + image->payload_offset);
    /* The status also is the key: any other word turns the entry into an address where nothing is,
     * so that skipping the question leads nowhere. Copied before the question, or the compiler would
     * know the answer and drop the key. */
    const uint32_t key = opaque(status) ^ STATUS_OK;
    if (opaque(status) != STATUS_OK) {
        reset();
    }
    if (stage == STAGE_LOADER) {
        reg_write(REG_SYS_EXEC_LOADER, EXEC_LOADER_KEY);
    } else {
        reg_write(REG_SYS_EXEC_APP, EXEC_APP_KEY);
    }
    __asm volatile("movs r2, #0\n"
                   "msr msplim, r2\n"
                   "msr msp, %0\n"
                   "dsb\n"
                   "isb\n"
                   "bx %1\n"
                   :
                   : "r"(vectors.stack), "r"(vectors.entry ^ key)
                   : "r2", "memory");
    __builtin_unreachable();
}
#endif
