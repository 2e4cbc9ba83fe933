/*
 * The registers of vbms/registers.py for the firmware on mps2-an505. Each stage is linked with it.
 * The watchdog counts nothing here; the link never has a request.
 */
#include "boards/an505/core.h"
#include "boards/an505/module.h"
#include "mmio.h"

#define TICK_MS 10u
#define IDLE_MAX 1000u /* ticks without an outcome */
#define NOTHING_ANSWERS 0x70000000u

extern uint32_t STAGE_BASE[];

_Static_assert(sizeof(struct module) <= 0x10000, "as the MPU has it");

/* Before anything else of a stage: power, its own vectors, its memory protection. */
static void attend(void)
{
    if (MODULE->awake != AWAKE || MODULE->due != DUE_NOTHING) {
        power();
    }
    if (core_read(SCB_VTOR) != (uint32_t)STAGE_BASE) {
        core_write(SCB_VTOR, (uint32_t)STAGE_BASE);
    }
    if (core_read(MPU_CTRL) != MPU_ON) {
        guard();
    }
}

static uint32_t bus_fault(void)
{
    return core_read(NOTHING_ANSWERS);
}

static uint32_t in(uint32_t address, uint32_t first, uint32_t last)
{
    return address >= first && address <= last && address % 4u == 0;
}

static uint32_t word_of(const uint32_t *words, uint32_t address, uint32_t first)
{
    return words[(address - first) / 4u];
}

static uint32_t fuse(uint32_t offset)
{
    const uint32_t secret = offset - OTP_DEVICE_SECRET_OFFSET < OTP_DEVICE_SECRET_SIZE;
    if (secret && (MODULE->secret_hidden || MODULE->file.tamper_latch != 0)) {
        return 0;
    }
    return MODULE->file.fuses[offset / 4u];
}

static uint32_t entropy(void)
{
    uint32_t x = MODULE->file.entropy;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    MODULE->file.entropy = x;
    return x;
}

static uint32_t pack_read(uint32_t address)
{
    if (in(address, REG_PACK_CELL_MV, REG_PACK_CELL_MV + 4u * (CELLS - 1u))) {
        return 3700u;
    }
    if (in(address, REG_PACK_TEMPERATURE_DC, REG_PACK_TEMPERATURE_DC + 4u * (TEMPERATURES - 1u))) {
        return 250u;
    }
    if (in(address, REG_PACK_LIMIT_OV_MV, REG_PACK_LIMIT_OT_DC)) {
        return word_of(MODULE->limits, address, REG_PACK_LIMIT_OV_MV);
    }
    switch (address) {
    case REG_PACK_FRONT_END_ID:
        return FRONT_END_ID_VALUE;
    case REG_PACK_CELL_COUNT:
        return CELLS;
    case REG_PACK_PACK_MV:
        return 3700u * CELLS;
    case REG_PACK_CURRENT_MA:
        return 0;
    case REG_PACK_CONTACTOR_STATE:
        return MODULE->contactors;
    case REG_PACK_CLOSE_REQUEST:
        return MODULE->file.close_request;
    case REG_PACK_TICK:
        return MODULE->ticks * TICK_MS;
    default:
        return bus_fault();
    }
}

static uint32_t system_read(uint32_t address)
{
    switch (address) {
    case REG_SYS_RETAIN:
        return MODULE->retain;
    case REG_SYS_RESET_CAUSE:
        return MODULE->cause;
    case REG_SYS_REMAP:
    case REG_SYS_BANK:
        return MODULE->shown;
    case REG_SYS_LOCK:
        return MODULE->locked;
    default:
        return bus_fault();
    }
}

uint32_t reg_read(uint32_t address)
{
    attend();
    if (in(address, OTP_BASE, OTP_BASE + sizeof MODULE->file.fuses - 4u)) {
        return fuse(address - OTP_BASE);
    }
    if (in(address, REG_SYS_RESET, REG_SYS_EXEC_APP)) {
        return system_read(address);
    }
    if (in(address, REG_FLASH_BANK, REG_FLASH_STATUS) && address != REG_FLASH_COMMAND) {
        return word_of(MODULE->flash, address, REG_FLASH_UNLOCK);
    }
    if (in(address, REG_PACK_FRONT_END_ID, REG_PACK_TEMPERATURE_DC + 4u * TEMPERATURES)) {
        return pack_read(address);
    }
    switch (address) {
    case REG_FLASH_PROTECT:
        return MODULE->flash_protected;
    case REG_OTP_CTRL_OFFSET:
        return MODULE->otp_offset;
    case REG_OTP_CTRL_STATUS:
        return MODULE->otp_status;
    case REG_WATCHDOG_LOAD:
        return MODULE->watchdog;
    case REG_TRNG:
        return entropy();
    case REG_TAMPER_LATCH:
        return MODULE->file.tamper_latch;
    case REG_LINK_RX_LENGTH:
        return 0;
    default:
        return bus_fault();
    }
}

static void burn(uint32_t bits)
{
    const uint32_t unlocked = MODULE->otp_unlocked;
    MODULE->otp_unlocked = 0;
    if (!unlocked || MODULE->locked) {
        MODULE->otp_status = STATUS_FLASH_LOCKED;
    } else if (MODULE->otp_offset % 4u != 0 || MODULE->otp_offset >= sizeof MODULE->file.fuses) {
        MODULE->otp_status = STATUS_FLASH_RANGE;
    } else {
        MODULE->file.fuses[MODULE->otp_offset / 4u] |= bits;
        MODULE->otp_status = STATUS_OK;
    }
}

static void otp_write(uint32_t address, uint32_t value)
{
    switch (address) {
    case REG_OTP_CTRL_UNLOCK:
        MODULE->otp_unlocked = value == OTP_KEY;
        MODULE->otp_status = 0;
        break;
    case REG_OTP_CTRL_OFFSET:
        MODULE->otp_offset = value;
        break;
    case REG_OTP_CTRL_BURN:
        burn(value);
        break;
    case REG_OTP_CTRL_HIDE_SECRET:
        MODULE->secret_hidden |= value == 1u;
        break;
    default:
        (void)bus_fault();
    }
}

static void flash_write(uint32_t address, uint32_t value)
{
    switch (address) {
    case REG_FLASH_UNLOCK:
        MODULE->flash_unlocked = value == FLASH_KEY;
        MODULE->flash[(REG_FLASH_STATUS - REG_FLASH_UNLOCK) / 4u] = 0;
        break;
    case REG_FLASH_COMMAND:
        flash_command(value);
        break;
    case REG_FLASH_PROTECT:
        MODULE->flash_protected |= value & (FLASH_PROTECT_ACTIVE | FLASH_PROTECT_INACTIVE |
                                            FLASH_PROTECT_BOOT_COUNT | FLASH_PROTECT_REVOCATION);
        break;
    case REG_FLASH_STATUS:
        (void)bus_fault();
        break;
    default:
        MODULE->flash[(address - REG_FLASH_UNLOCK) / 4u] = value;
    }
}

static void permit(uint32_t which, uint32_t key, uint32_t value)
{
    MODULE->executable = value == key ? MODULE->executable | which : 0;
    guard();
}

static void remap(uint32_t bank)
{
    if (bank >= 2u) {
        (void)bus_fault();
    } else if (!MODULE->locked && (bank != MODULE->shown || MODULE->executable != 0)) {
        MODULE->executable = 0;
        flash_show(bank);
        guard();
    }
}

static void event_found(uint32_t found)
{
    const uint32_t *const said = MODULE->event;
    const uint32_t where = said[0] >> 8;
    const uint32_t bank = said[0] & 0xFFu;
    if (where < WHERE_ROM || where > WHERE_APP || bank > 1u) {
        (void)bus_fault();
    }
    say("event", (const uint32_t[]){where, bank, said[1], said[2], found}, 5);
}

static void pass(uint32_t milestone)
{
    if (milestone < MILESTONE_ROM_ENTERED || milestone > MILESTONE_ZEROISED) {
        (void)bus_fault();
    }
    say("milestone", &milestone, 1);
    if (milestone == MILESTONE_RUNNING || milestone == MILESTONE_RECOVERY) {
        MODULE->settled = milestone;
    }
    inject_fault(milestone);
}

/* The outcome is judged a while after the milestone: contactors close in a cycle of the app. */
static void idle(void)
{
    MODULE->ticks++;
    MODULE->idle++;
    if (MODULE->settled == MILESTONE_RUNNING && MODULE->idle > 5u) {
        boot_ends("running");
    }
    if (MODULE->settled == MILESTONE_RECOVERY) {
        boot_ends("recovery");
    }
    if (MODULE->idle > IDLE_MAX) {
        boot_ends("hang");
    }
}

static void system_write(uint32_t address, uint32_t value)
{
    switch (address) {
    case REG_SYS_RESET:
        if (value == RESET_KEY) {
            reset_core(RESET_CAUSE_SOFTWARE);
        }
        break;
    case REG_SYS_RETAIN:
        MODULE->retain = value;
        break;
    case REG_SYS_REMAP:
        remap(value);
        break;
    case REG_SYS_LOCK:
        MODULE->locked |= value == 1u;
        break;
    case REG_SYS_EVENT_WHAT:
    case REG_SYS_EVENT_STATUS:
    case REG_SYS_EVENT_EXPECTED:
        MODULE->event[(address - REG_SYS_EVENT_WHAT) / 4u] = value;
        break;
    case REG_SYS_EVENT_FOUND:
        event_found(value);
        break;
    case REG_SYS_MILESTONE:
        pass(value);
        break;
    case REG_SYS_IDLE:
        idle();
        break;
    case REG_SYS_EXEC_LOADER:
        permit(EXECUTE_LOADER, MODULE->file.exec_loader, value);
        break;
    case REG_SYS_EXEC_APP:
        permit(EXECUTE_APP, MODULE->file.exec_app, value);
        break;
    default:
        (void)bus_fault();
    }
}

static void tamper_clear(uint32_t value)
{
    const uint32_t lifecycle = MODULE->file.fuses[OTP_LIFECYCLE_OFFSET / 4u];
    if (value == TAMPER_KEY && (lifecycle & (LIFECYCLE_TAMPERED_FUSES | LIFECYCLE_RETIRED_FUSES)) != 0) {
        MODULE->file.tamper_latch = 0;
    }
}

static void pack_write(uint32_t address, uint32_t value)
{
    if (in(address, REG_PACK_LIMIT_OV_MV, REG_PACK_LIMIT_OT_DC)) {
        MODULE->limits[(address - REG_PACK_LIMIT_OV_MV) / 4u] = value;
    } else if (address != REG_PACK_CONTACTOR_CONTROL) {
        (void)bus_fault();
    } else if (value == CONTACTOR_CLOSE || value == CONTACTOR_OPEN) {
        MODULE->contactors = value == CONTACTOR_CLOSE;
    }
}

void reg_write(uint32_t address, uint32_t value)
{
    attend();
    if (in(address, REG_SYS_RESET, REG_SYS_EXEC_APP)) {
        system_write(address, value);
    } else if (in(address, REG_FLASH_UNLOCK, REG_FLASH_PROTECT)) {
        flash_write(address, value);
    } else if (in(address, REG_OTP_CTRL_UNLOCK, REG_OTP_CTRL_HIDE_SECRET)) {
        otp_write(address, value);
    } else if (in(address, REG_PACK_FRONT_END_ID, REG_PACK_TEMPERATURE_DC)) {
        pack_write(address, value);
    } else if (address == REG_WATCHDOG_LOAD) {
        MODULE->watchdog = value;
    } else if (address == REG_TAMPER_CLEAR) {
        tamper_clear(value);
    } else if (address != REG_WATCHDOG_FEED && address != REG_LINK_RX_DONE) {
        (void)bus_fault();
    }
}
