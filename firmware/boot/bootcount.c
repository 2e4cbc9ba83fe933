#include "boot/bootcount.h"

#include "boot/board.h"

#define PAGES 2u
#define ENTRIES (DATA_PAGE_SIZE / WRITE_SIZE)
#define ERASED_WORD 0xFFFFFFFFu

/* The highest count that is stored, and where the next one goes. */
struct place {
    uint32_t count; /* 0: none of this epoch or the next */
    uint32_t page;
    uint32_t next; /* first entry behind the last one of the page that is not erased */
};

static uint32_t offset_of(uint32_t page, uint32_t entry)
{
    return (DATA_PAGE_BOOT_COUNT + page) * DATA_PAGE_SIZE + entry * WRITE_SIZE;
}

/*
 * Only counts from this epoch's first to the next one's last are believed: lower ones were there
 * before the pages were lost once, higher ones no boot has written. An entry that was torn is not
 * its own complement: both halves lack zeros.
 */
static void scan(uint32_t page, uint32_t first, struct place *out)
{
    uint32_t next = 0;
    uint32_t best = 0; /* none: the first epoch of all gives no count */
    for (uint32_t entry = 0; entry < ENTRIES; entry++) {
        const uint32_t count = flash_word(DATA_BASE + offset_of(page, entry));
        const uint32_t complement = flash_word(DATA_BASE + offset_of(page, entry) + 4u);
        if ((count & complement) != ERASED_WORD) {
            next = entry + 1u;
        }
        if (count == ~complement && count - first < 2u * BOOTS_PER_EPOCH && count > best) {
            best = count;
        }
    }
    if (best > out->count) {
        *out = (struct place){.count = best, .page = page, .next = next};
    }
}

/* STATUS_OK when the entry reads back. */
static uint32_t store(uint32_t count, const struct place *place)
{
    uint32_t page = place->page;
    uint32_t entry = place->next;
    if (entry == ENTRIES) {
        page = (page + 1u) % PAGES;
        entry = 0;
    }
    if (entry == 0) {
        const uint32_t status = flash_erase(DATA_BANK, offset_of(page, 0));
        if (status != STATUS_OK) {
            return status;
        }
    }
    const uint32_t offset = offset_of(page, entry);
    const uint32_t status = flash_program(DATA_BANK, offset, count, ~count);
    if (status != STATUS_OK) {
        return status;
    }
    const uint32_t differ =
        (flash_word(DATA_BASE + offset) ^ count) | (flash_word(DATA_BASE + offset + 4u) ^ ~count);
    return differ == 0 ? STATUS_OK : STATUS_FLASH_READBACK;
}

/* A fuse that does not burn now is asked again at the next boot: the count is stored all the same. */
static void raise_epoch(uint32_t epoch)
{
    (void)otp_raise(OTP_BOOT_EPOCH_OFFSET, OTP_BOOT_EPOCH_SIZE, epoch);
}

/* The flash cannot be relied on: the fuse first, so that the count is new even if nothing is stored. */
static uint32_t next_epoch(uint32_t epoch)
{
    static const struct place fresh = {.page = 0, .next = 0};
    if (epoch >= OTP_BOOT_EPOCH_SIZE * 8u) {
        return BOOT_COUNT_LAST;
    }
    const uint32_t count = (epoch + 1u) * BOOTS_PER_EPOCH;
    raise_epoch(epoch + 1u);
    (void)store(count, &fresh);
    return count;
}

uint32_t boot_count_next(void)
{
    const uint32_t epoch = otp_thermometer(OTP_BOOT_EPOCH_OFFSET, OTP_BOOT_EPOCH_SIZE);
    struct place place = {0};
    for (uint32_t page = 0; page < PAGES; page++) {
        scan(page, epoch * BOOTS_PER_EPOCH, &place);
    }
    if (place.count == 0) {
        return next_epoch(epoch);
    }
    if (place.count >= BOOT_COUNT_LAST) {
        return BOOT_COUNT_LAST;
    }
    const uint32_t count = place.count + 1u;
    if (store(count, &place) != STATUS_OK) {
        return next_epoch(count / BOOTS_PER_EPOCH);
    }
    /* The first count of an epoch is stored before the fuse is burned: a cut between the two loses
     * neither, and the boot that was cut has told nobody its count. */
    raise_epoch(count / BOOTS_PER_EPOCH);
    return count;
}
