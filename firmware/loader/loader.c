/* The second stage: verify the app of the active bank, close the flash and jump; or, where the app asked
 * for it, take an update into the other bank. */
#include "boot/board.h"
#include "boot/ladder.h"
#include "boot/record.h"
#include "boot/wipe.h"
#include "update/engine.h"
#include "verify/bytes.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const uint32_t board_where = WHERE_LOADER;

__attribute__((section(".ident"), used)) static const char ident[] = "cellward loader " TEXT(VERSION);

/* What the app gets: its keys and the measured boot. The loader's own keys are gone; all are zeros
 * where the secret is. */
static void hand_over(const struct verified *app, uint32_t bank)
{
    uint8_t record_key[SECRET_SIZE] = {0};
    if (handover.lifecycle < LIFECYCLE_TAMPERED) {
        ladder_loader(&handover, record_key);
    }
    record_measured(RECORD_BY_LOADER, bank, app, record_key, handover.loader_record);
    wipe(record_key, sizeof record_key);
    handover.app.signed_size = app->signed_size;
    copy_bytes(handover.app.digest, app->digest, DIGEST_SIZE);
}

int main(void)
{
    struct verified app;
    struct refusal why = {0};

    milestone(MILESTONE_LOADER_ENTERED);
    const uint32_t bank = reg_read(REG_SYS_BANK);
    if (reg_read(REG_SYS_RETAIN) == RETAIN_UPDATE) {
        reg_write(REG_SYS_RETAIN, 0);
        wipe(handover.stage_key, sizeof handover.stage_key);
        update_run(&(struct update_world){.where = WHERE_LOADER, .scalar = handover.update_scalar});
    }
    const uint32_t status = verify_active(STAGE_APP, &app, &why);
    if (status != STATUS_OK) {
        event(bank, status, why.expected, why.found);
        reg_write(REG_SYS_RETAIN, RETAIN_REFUSED | (bank & 1u));
        reset();
    }
    reg_write(REG_FLASH_PROTECT, FLASH_PROTECT_ACTIVE | FLASH_PROTECT_INACTIVE);
    hand_over(&app, bank);
    jump(STAGE_APP, bank, &app, status);
}
