/* Banks, data flash and their controller in PSRAM, as strict as vbms/nor.py; and the MPU, which holds
 * the core to what the module's bus allows it. */
#include "boards/an505/core.h"
#include "boards/an505/module.h"

#define ALL_ONES 0xFFFFFFFFu
#define MODULE_AREA_SIZE 0x10000u

static uint32_t size_of(uint32_t bank)
{
    return bank == DATA_BANK ? DATA_SIZE : BANK_SIZE;
}

static uint32_t window_of(uint32_t bank)
{
    return bank == DATA_BANK ? DATA_BASE : bank == MODULE->shown ? ACTIVE_BASE : INACTIVE_BASE;
}

uint8_t *flash_bank(uint32_t bank)
{
    return (uint8_t *)window_of(bank);
}

void flash_lose_all(void)
{
    for (uint32_t bank = 0; bank <= DATA_BANK; bank++) {
        uint32_t *const words = (uint32_t *)window_of(bank);
        for (uint32_t i = 0; i < size_of(bank) / 4u; i++) {
            words[i] = ALL_ONES;
        }
    }
}

/* REMAP: exchange what is in the two windows. Only where the MPU is off. */
void flash_show(uint32_t bank)
{
    uint32_t *const a = (uint32_t *)ACTIVE_BASE;
    uint32_t *const b = (uint32_t *)INACTIVE_BASE;
    if (bank == MODULE->shown) {
        return;
    }
    unguard();
    for (uint32_t i = 0; i < BANK_SIZE / 4u; i++) {
        const uint32_t word = a[i];
        a[i] = b[i];
        b[i] = word;
    }
    MODULE->shown = bank;
}

static uint32_t *flash_register(uint32_t address)
{
    return &MODULE->flash[(address - REG_FLASH_UNLOCK) / 4u];
}

static uint32_t touches(uint32_t offset, uint32_t size, uint32_t start, uint32_t end)
{
    return offset < end && start < offset + size;
}

/* What the bits of PROTECT lock. */
static uint32_t is_locked(uint32_t bank, uint32_t offset, uint32_t size)
{
    const uint32_t bits = MODULE->flash_protected;
    const uint32_t image_ok = BANK_SIZE - IMAGE_OK_FROM_END;
    const uint32_t page = offset / DATA_PAGE_SIZE;
    if (bank == DATA_BANK) {
        return ((bits & FLASH_PROTECT_BOOT_COUNT) != 0 && page - DATA_PAGE_BOOT_COUNT < 2u) ||
               ((bits & FLASH_PROTECT_REVOCATION) != 0 && page == DATA_PAGE_REVOCATION);
    }
    if (bank != MODULE->shown) {
        return (bits & FLASH_PROTECT_INACTIVE) != 0;
    }
    return (bits & FLASH_PROTECT_ACTIVE) != 0 &&
           (touches(offset, size, 0, image_ok) || touches(offset, size, image_ok + WRITE_SIZE, BANK_SIZE));
}

static uint32_t execute(uint32_t what)
{
    const uint32_t bank = *flash_register(REG_FLASH_BANK);
    const uint32_t data[2] = {*flash_register(REG_FLASH_DATA0), *flash_register(REG_FLASH_DATA1)};
    const uint32_t page = bank == DATA_BANK ? DATA_PAGE_SIZE : FLASH_PAGE_SIZE;
    const uint32_t unit = what == FLASH_COMMAND_ERASE ? page : WRITE_SIZE;
    uint32_t offset = *flash_register(REG_FLASH_OFFSET);
    if (what == FLASH_COMMAND_ERASE) {
        offset -= offset % page;
    }
    if (bank > DATA_BANK || offset % unit != 0 || offset > size_of(bank) - unit) {
        return STATUS_FLASH_RANGE;
    }
    if (is_locked(bank, offset, unit)) {
        return STATUS_FLASH_LOCKED;
    }
    uint32_t *const words = (uint32_t *)(window_of(bank) + offset);
    if (what == FLASH_COMMAND_PROGRAM) {
        if ((words[0] & words[1]) != ALL_ONES) {
            return STATUS_FLASH_UNERASED;
        }
        words[0] = data[0];
        words[1] = data[1];
        return STATUS_OK;
    }
    for (uint32_t i = 0; i < page / 4u; i++) {
        words[i] = ALL_ONES;
    }
    return STATUS_OK;
}

void flash_command(uint32_t what)
{
    const uint32_t unlocked = MODULE->flash_unlocked;
    MODULE->flash_unlocked = 0;
    if (what != FLASH_COMMAND_ERASE && what != FLASH_COMMAND_PROGRAM) {
        (void)core_read(0x70000000u);
    }
    if (!unlocked) {
        *flash_register(REG_FLASH_STATUS) = STATUS_FLASH_LOCKED;
        return;
    }
    unguard();
    *flash_register(REG_FLASH_STATUS) = execute(what);
    guard();
}

static void region(uint32_t number, uint32_t base, uint32_t size, uint32_t access)
{
    core_write(MPU_RNR, number);
    core_write(MPU_RBAR, base | access);
    core_write(MPU_RLAR, (base + size - 32u) | MPU_REGION_ON);
}

void unguard(void)
{
    core_write(MPU_CTRL, 0);
}

/* RAM and everything but the opened slots is never executed, flash and ROM are never written, and
 * what is not listed is a fault. The last region is where nothing answers: an error of the bus. */
void guard(void)
{
    const uint32_t loader = MODULE->executable & EXECUTE_LOADER ? 0 : MPU_NEVER_EXECUTE;
    const uint32_t app = MODULE->executable & EXECUTE_APP ? 0 : MPU_NEVER_EXECUTE;
    const uint32_t data = MPU_READ_ONLY | MPU_NEVER_EXECUTE;
    unguard();
    region(0, ROM_BASE, ROM_SIZE, MPU_READ_ONLY);
    region(1, RAM_BASE, RAM_SIZE, MPU_READ_WRITE | MPU_NEVER_EXECUTE);
    region(2, (uint32_t)MODULE, MODULE_AREA_SIZE, MPU_READ_WRITE | MPU_NEVER_EXECUTE);
    region(3, ACTIVE_BASE + LOADER_OFFSET, LOADER_SIZE, MPU_READ_ONLY | loader);
    region(4, ACTIVE_BASE + APP_OFFSET, APP_SIZE, MPU_READ_ONLY | app);
    region(5, ACTIVE_BASE + TRAILER_OFFSET, INACTIVE_BASE + BANK_SIZE - (ACTIVE_BASE + TRAILER_OFFSET), data);
    region(6, 0x70000000u, 32u, MPU_READ_WRITE | MPU_NEVER_EXECUTE);
    core_write(MPU_CTRL, MPU_ON);
}
