#include "fake_module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_module fake;

static uint32_t in(uint32_t address, uint32_t base, uint32_t size)
{
    return address - base < size;
}

uint32_t *fake_pack(uint32_t address)
{
    return &fake.pack[(address - REG_PACK_FRONT_END_ID) / 4];
}

void fake_reset(void)
{
    memset(&fake, 0, sizeof fake);
    memset(fake.banks, 0xFF, sizeof fake.banks);
    fake.burn_limit = UINT32_MAX;
    *fake_pack(REG_PACK_FRONT_END_ID) = FRONT_END_ID_VALUE;
    *fake_pack(REG_PACK_CELL_COUNT) = CELLS;
    for (uint32_t i = 0; i < CELLS; i++) {
        *fake_pack(REG_PACK_CELL_MV + 4 * i) = 3700;
    }
    *fake_pack(REG_PACK_PACK_MV) = 3700 * CELLS;
    for (uint32_t i = 0; i < TEMPERATURES; i++) {
        *fake_pack(REG_PACK_TEMPERATURE_DC + 4 * i) = 250;
    }
}

const uint8_t *flash_at(uint32_t address)
{
    if (in(address, ACTIVE_BASE, BANK_SIZE)) {
        return fake.banks[0] + (address - ACTIVE_BASE);
    }
    if (in(address, INACTIVE_BASE, BANK_SIZE)) {
        return fake.banks[1] + (address - INACTIVE_BASE);
    }
    fprintf(stderr, "flash_at 0x%08x\n", address);
    abort();
}

/* A cell or sensor that this pack does not have is a bus fault, as on the module. */
static void check_pack(uint32_t address)
{
    if ((address >= REG_PACK_CELL_MV + 4 * CELLS && address < REG_PACK_TEMPERATURE_DC) ||
        address >= REG_PACK_TEMPERATURE_DC + 4 * TEMPERATURES) {
        fake.faults++;
    }
}

uint32_t reg_read(uint32_t address)
{
    if (in(address, OTP_BASE, sizeof fake.fuses)) {
        return fake.fuses[(address - OTP_BASE) / 4];
    }
    if (in(address, REG_FLASH_UNLOCK, sizeof fake.flash)) {
        return fake.flash[(address - REG_FLASH_UNLOCK) / 4];
    }
    if (in(address, REG_OTP_CTRL_UNLOCK, sizeof fake.otp)) {
        return fake.otp[(address - REG_OTP_CTRL_UNLOCK) / 4];
    }
    if (in(address, REG_PACK_FRONT_END_ID, FAKE_REGISTERS)) {
        check_pack(address);
        return address == REG_PACK_CONTACTOR_STATE && fake.welded ? 1 : *fake_pack(address);
    }
    fake.faults++;
    return 0;
}

static void program(void)
{
    const uint32_t bank = fake.flash[(REG_FLASH_BANK - REG_FLASH_UNLOCK) / 4];
    const uint32_t offset = fake.flash[(REG_FLASH_OFFSET - REG_FLASH_UNLOCK) / 4];
    uint32_t *const status = &fake.flash[(REG_FLASH_STATUS - REG_FLASH_UNLOCK) / 4];
    const uint32_t data[2] = {fake.flash[(REG_FLASH_DATA0 - REG_FLASH_UNLOCK) / 4],
                              fake.flash[(REG_FLASH_DATA1 - REG_FLASH_UNLOCK) / 4]};
    if (!fake.unlocked) {
        *status = STATUS_FLASH_LOCKED;
    } else if (bank >= BANK_COUNT || offset % WRITE_SIZE != 0 || offset > BANK_SIZE - WRITE_SIZE) {
        *status = STATUS_FLASH_RANGE;
    } else {
        uint8_t *const cell = fake.banks[bank] + offset;
        *status = STATUS_OK;
        for (uint32_t i = 0; i < WRITE_SIZE; i++) {
            if (cell[i] != FLAG_ERASED) {
                *status = STATUS_FLASH_UNERASED;
            }
        }
        for (uint32_t i = 0; i < WRITE_SIZE && *status == STATUS_OK && !fake.flash_broken; i++) {
            cell[i] = (uint8_t)(data[i / 4] >> (8 * (i % 4)));
        }
    }
    fake.unlocked = 0;
}

static void burn(uint32_t bits)
{
    const uint32_t offset = fake.otp[(REG_OTP_CTRL_OFFSET - REG_OTP_CTRL_UNLOCK) / 4];
    uint32_t *const status = &fake.otp[(REG_OTP_CTRL_STATUS - REG_OTP_CTRL_UNLOCK) / 4];
    const uint32_t count = (uint32_t)__builtin_popcount(bits);
    fake.burn_bits_max = count > fake.burn_bits_max ? count : fake.burn_bits_max;
    if (!fake.unlocked || offset % 4 != 0 || offset >= sizeof fake.fuses) {
        *status = STATUS_FLASH_LOCKED;
    } else if (fake.burns == fake.burn_limit) {
        *status = STATUS_OTP_ONE_WAY;
    } else {
        fake.fuses[offset / 4] |= bits;
        fake.burns++;
        *status = STATUS_OK;
    }
    fake.unlocked = 0;
}

static void record(uint32_t found)
{
    if (fake.events == FAKE_EVENTS) {
        fprintf(stderr, "too many events\n");
        abort();
    }
    fake.event[fake.events++] = (struct fake_event){fake.pending[0], fake.pending[1], fake.pending[2], found};
}

static void write_pack(uint32_t address, uint32_t value)
{
    switch (address) {
    case REG_PACK_CONTACTOR_CONTROL:
        if (value == CONTACTOR_CLOSE || value == CONTACTOR_OPEN) {
            *fake_pack(REG_PACK_CONTACTOR_STATE) = value == CONTACTOR_CLOSE;
        }
        break;
    case REG_PACK_LIMIT_OV_MV:
    case REG_PACK_LIMIT_UV_MV:
    case REG_PACK_LIMIT_OT_DC:
        *fake_pack(address) = fake.limits_stuck ? *fake_pack(address) : value;
        break;
    default:
        fake.faults++;
    }
}

void reg_write(uint32_t address, uint32_t value)
{
    if (address == REG_FLASH_UNLOCK || address == REG_OTP_CTRL_UNLOCK) {
        fake.unlocked = value == (address == REG_FLASH_UNLOCK ? FLASH_KEY : OTP_KEY);
    } else if (address == REG_FLASH_COMMAND && value == FLASH_COMMAND_PROGRAM) {
        program();
    } else if (address == REG_OTP_CTRL_BURN) {
        burn(value);
    } else if (address == REG_SYS_EVENT_FOUND) {
        record(value);
    } else if (in(address, REG_SYS_EVENT_WHAT, sizeof fake.pending)) {
        fake.pending[(address - REG_SYS_EVENT_WHAT) / 4] = value;
    } else if (in(address, REG_FLASH_UNLOCK, sizeof fake.flash)) {
        fake.flash[(address - REG_FLASH_UNLOCK) / 4] = value;
    } else if (in(address, REG_OTP_CTRL_UNLOCK, sizeof fake.otp)) {
        fake.otp[(address - REG_OTP_CTRL_UNLOCK) / 4] = value;
    } else if (in(address, REG_PACK_FRONT_END_ID, FAKE_REGISTERS)) {
        write_pack(address, value);
    } else if (address != REG_SYS_MILESTONE) {
        fake.faults++;
    }
}
