/*
 * A small battery management application: self-test, then monitor cells, temperatures and current
 * and drive the contactors. On trial it only tests itself, confirms and resets; contactors close
 * only for an app that is confirmed and committed, in a module that is neither tampered with nor
 * retired, and while its own bank reads as it was verified.
 */
#include "calibration.h"
#include "integrity.h"
#include "link.h"
#include "monitor.h"
#include "selftest.h"

const uint32_t board_where = WHERE_APP;

__attribute__((section(".ident"), used)) static const char ident[] = "cellward app " APP_VERSION;

__attribute__((section(".calibration"))) const struct limits limits = APP_LIMITS;

/* Instructions a cycle may take, contactor polls included, before the core is reset: it took over
 * from the ROM's bound for booting and cannot be widened again. */
#define WATCHDOG_CYCLE 5000000u

static struct monitor monitor = {
    .release = STATUS_IMAGE_COUNTER, .tripped = STATUS_OK, .welded = STATUS_OK};

/* The trial ends here, either way: the ROM takes the next step. */
static _Noreturn void end_trial(uint32_t bank, uint32_t tested)
{
    if (tested == STATUS_OK) {
        const uint32_t status = flash_set_flag(bank, IMAGE_OK_FROM_END);
        const uint32_t state = bank_state(ACTIVE_BASE);
        if (status == STATUS_OK && state == STATE_CONFIRMED) {
            milestone(MILESTONE_CONFIRMED);
        } else {
            event(bank, status == STATUS_OK ? STATUS_FLASH_READBACK : status, STATE_CONFIRMED, state);
        }
    }
    reset();
}

/* Committed: nothing is left for the ROM to raise, so no older image than these boots again. */
static uint32_t release(uint32_t bank, uint32_t tested)
{
    const uint32_t target = commit_target(ACTIVE_BASE);
    const uint32_t counter = otp_counter();
    const uint32_t lifecycle = otp_lifecycle();
    if (tested != STATUS_OK) {
        return tested;
    }
    if (lifecycle == LIFECYCLE_BLANK) { /* cut on the plant's line: it finishes before a pack is switched */
        event(bank, STATUS_LIFECYCLE_OPEN, LIFECYCLE_PROVISIONED, lifecycle);
        return STATUS_LIFECYCLE_OPEN;
    }
    if (lifecycle >= LIFECYCLE_TAMPERED) { /* the ROM has told it */
        return lifecycle == LIFECYCLE_TAMPERED ? STATUS_TAMPER : STATUS_LIFECYCLE_CLOSED;
    }
    if (target > counter) {
        event(bank, STATUS_IMAGE_COUNTER, target, counter);
        return STATUS_IMAGE_COUNTER;
    }
    return STATUS_OK;
}

int main(void)
{
    struct refusal why = {0};

    contactors_open();
    milestone(MILESTONE_APP_ENTERED);
    const uint32_t bank = reg_read(REG_SYS_BANK);
    calibration_load(bank);
    const uint32_t tested = selftest(&why);
    if (tested == STATUS_OK) {
        milestone(MILESTONE_SELFTEST_PASSED);
    } else {
        event(bank, tested, why.expected, why.found);
        milestone(MILESTONE_SELFTEST_FAILED);
    }
    if (bank_state(ACTIVE_BASE) != STATE_CONFIRMED) {
        end_trial(bank, tested);
    }
    monitor.release = release(bank, tested);
    monitor.bank = bank;
    milestone(MILESTONE_RUNNING);
    reg_write(REG_WATCHDOG_LOAD, WATCHDOG_CYCLE);
    for (;;) {
        if (integrity_cycle(bank) != STATUS_OK) {
            monitor.release = STATUS_BOOT_INTEGRITY; /* until the reset */
        }
        monitor_cycle(&monitor);
        link_cycle();
        reg_write(REG_WATCHDOG_FEED, WATCHDOG_KEY);
        reg_write(REG_SYS_IDLE, 0);
    }
}
