#include "fake_module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handover.h"

struct fake_module fake;
struct handover handover;

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
    memset(fake.data, 0xFF, sizeof fake.data);
    fake.cut_after = UINT32_MAX;
    fake.trng = 0x1234567;
    fake.trng_words = UINT32_MAX;
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
        return fake.banks[fake.active] + (address - ACTIVE_BASE);
    }
    if (in(address, INACTIVE_BASE, BANK_SIZE)) {
        return fake.banks[1 - fake.active] + (address - INACTIVE_BASE);
    }
    if (in(address, DATA_BASE, sizeof fake.data)) {
        return fake.data + (address - DATA_BASE);
    }
    fprintf(stderr, "flash_at 0x%08x\n", address);
    abort();
}

_Noreturn void reset(void)
{
    longjmp(fake.restart, 1);
}

static uint32_t rx_word(uint32_t offset)
{
    return (uint32_t)fake.rx[offset] | (uint32_t)fake.rx[offset + 1] << 8 | (uint32_t)fake.rx[offset + 2] << 16 |
           (uint32_t)fake.rx[offset + 3] << 24;
}

static uint32_t misc_read(uint32_t address)
{
    switch (address) {
    case REG_SYS_BANK:
        return fake.active;
    case REG_SYS_RETAIN:
        return fake.retain;
    case REG_LINK_RX_LENGTH:
        return fake.rx_length;
    default:
        if (in(address, LINK_RX_BASE, LINK_BUFFER_SIZE - 3) && address % 4 == 0) {
            return rx_word(address - LINK_RX_BASE);
        }
        fake.faults++;
        return 0;
    }
}

static void misc_write(uint32_t address, uint32_t value)
{
    switch (address) {
    case REG_SYS_RETAIN:
        fake.retain = value;
        break;
    case REG_SYS_IDLE:
        *fake_pack(REG_PACK_TICK) += 10;
        if (fake.idle != NULL) {
            fake.idle();
        }
        break;
    case REG_WATCHDOG_FEED:
        fake.feeds += value == WATCHDOG_KEY;
        break;
    case REG_LINK_RX_DONE:
        fake.rx_length = value == 1 ? 0 : fake.rx_length;
        memset(fake.rx, 0xDD, sizeof fake.rx); /* the next request overwrites what was not copied */
        break;
    case REG_LINK_TX_LENGTH:
        fake.faults += value == 0 || value > LINK_BUFFER_SIZE;
        fake.tx_length = value;
        fake.answers++;
        break;
    default:
        if (in(address, LINK_TX_BASE, LINK_BUFFER_SIZE - 3) && address % 4 == 0) {
            for (uint32_t i = 0; i < 4; i++) {
                fake.tx[address - LINK_TX_BASE + i] = (uint8_t)(value >> (8 * i));
            }
        } else {
            fake.faults++;
        }
    }
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
    if (in(address, OTP_BASE + OTP_DEVICE_SECRET_OFFSET, OTP_DEVICE_SECRET_SIZE) && fake.tamper) {
        return 0;
    }
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
    if (address == REG_TRNG) {
        if (fake.trng_words != 0) {
            fake.trng = fake.trng * 1664525u + 1013904223u;
            fake.trng_words--;
        }
        return fake.trng;
    }
    if (address == REG_TAMPER_LATCH) {
        return fake.tamper;
    }
    return misc_read(address);
}

/* Whether this operation is the one that the power cut tears. */
static uint32_t cut_now(void)
{
    return fake.operations++ == fake.cut_after;
}

static uint8_t torn_byte(uint32_t i, uint32_t size, uint8_t before, uint8_t after)
{
    const uint8_t mask = (uint8_t)(0x5Au + 0x35u * i);
    switch (fake.torn) {
    case FAKE_TORN_HALF:
        return i < size / 2u ? after : before;
    case FAKE_TORN_GARBAGE:
        return (uint8_t)((before & mask) | (after & ~mask));
    default:
        return before;
    }
}

static void change(uint8_t *cell, const uint8_t *wanted, uint32_t size)
{
    const uint32_t cut = cut_now();
    const uint32_t works = fake.flash_broken == 0 ? size : fake.flash_broken == FAKE_HALF_BROKEN ? size / 2 : 0;
    if (!cut) {
        memcpy(cell, wanted, works);
    }
    for (uint32_t i = 0; cut && i < works; i++) {
        cell[i] = torn_byte(i, size, cell[i], wanted[i]);
    }
    if (cut) {
        fake.unlocked = 0;
        longjmp(fake.cut, 1);
    }
}

/* Who was written: what a test holds against what may be. */
static void note_touch(uint32_t bank, uint32_t offset)
{
    fake.touched[bank]++;
    fake.data_touched |= bank == DATA_BANK ? 1u << (offset / DATA_PAGE_SIZE) : 0u;
}

static uint8_t *bank_memory(uint32_t bank, uint32_t *size, uint32_t *page)
{
    *size = bank == DATA_BANK ? DATA_SIZE : BANK_SIZE;
    *page = bank == DATA_BANK ? DATA_PAGE_SIZE : FLASH_PAGE_SIZE;
    return bank == DATA_BANK ? fake.data : bank < BANK_COUNT ? fake.banks[bank] : NULL;
}

static void erase(void)
{
    static uint8_t erased[FLASH_PAGE_SIZE];
    const uint32_t offset = fake.flash[(REG_FLASH_OFFSET - REG_FLASH_UNLOCK) / 4];
    uint32_t *const status = &fake.flash[(REG_FLASH_STATUS - REG_FLASH_UNLOCK) / 4];
    uint32_t size;
    uint32_t page;
    uint8_t *const memory = bank_memory(fake.flash[(REG_FLASH_BANK - REG_FLASH_UNLOCK) / 4], &size, &page);
    if (!fake.unlocked || fake.flash_closed) {
        *status = STATUS_FLASH_LOCKED;
    } else if (memory == NULL || offset >= size) {
        *status = STATUS_FLASH_RANGE;
    } else {
        *status = STATUS_OK;
        memset(erased, FLAG_ERASED, sizeof erased);
        note_touch(fake.flash[(REG_FLASH_BANK - REG_FLASH_UNLOCK) / 4], offset);
        change(memory + offset / page * page, erased, page);
    }
    fake.unlocked = 0;
}

static void program(void)
{
    const uint32_t offset = fake.flash[(REG_FLASH_OFFSET - REG_FLASH_UNLOCK) / 4];
    uint32_t *const status = &fake.flash[(REG_FLASH_STATUS - REG_FLASH_UNLOCK) / 4];
    const uint32_t data[2] = {fake.flash[(REG_FLASH_DATA0 - REG_FLASH_UNLOCK) / 4],
                              fake.flash[(REG_FLASH_DATA1 - REG_FLASH_UNLOCK) / 4]};
    uint32_t size;
    uint32_t page;
    uint8_t *const memory = bank_memory(fake.flash[(REG_FLASH_BANK - REG_FLASH_UNLOCK) / 4], &size, &page);
    if (!fake.unlocked || fake.flash_closed) {
        *status = STATUS_FLASH_LOCKED;
    } else if (memory == NULL || offset % WRITE_SIZE != 0 || offset > size - WRITE_SIZE) {
        *status = STATUS_FLASH_RANGE;
    } else {
        uint8_t *const cell = memory + offset;
        uint8_t wanted[WRITE_SIZE];
        *status = STATUS_OK;
        for (uint32_t i = 0; i < WRITE_SIZE; i++) {
            wanted[i] = (uint8_t)(data[i / 4] >> (8 * (i % 4)));
            *status = cell[i] == FLAG_ERASED ? *status : STATUS_FLASH_UNERASED;
        }
        if (*status == STATUS_OK) {
            note_touch(fake.flash[(REG_FLASH_BANK - REG_FLASH_UNLOCK) / 4], offset);
            change(cell, wanted, sizeof wanted);
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
        const uint32_t cut = cut_now();
        const uint32_t torn = fake.torn == FAKE_TORN_NONE ? 0u : fake.torn == FAKE_TORN_HALF ? 0xFFFFu : 0x5A5A5A5Au;
        fake.fuses[offset / 4] |= fake.otp_broken ? 0u : bits & (cut ? torn : UINT32_MAX);
        fake.burns++;
        *status = STATUS_OK;
        if (cut) {
            fake.unlocked = 0;
            longjmp(fake.cut, 1);
        }
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
    } else if (address == REG_FLASH_COMMAND && value == FLASH_COMMAND_ERASE) {
        erase();
    } else if (address == REG_SYS_MILESTONE) {
        fake.milestones |= 1u << value;
    } else if (address == REG_TAMPER_CLEAR) {
        const uint32_t closed = fake.fuses[OTP_LIFECYCLE_OFFSET / 4] >> 16; /* tampered or later */
        fake.tamper = value == TAMPER_KEY && closed != 0 ? 0 : fake.tamper;
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
    } else {
        misc_write(address, value);
    }
}
