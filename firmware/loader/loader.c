/* The second stage: verify the app of the active bank, then close the flash and jump. */
#include "boot/board.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const uint32_t board_where = WHERE_LOADER;

__attribute__((section(".ident"), used)) static const char ident[] = "cellward loader " TEXT(VERSION);

int main(void)
{
    struct verified app;
    struct refusal why = {0};

    milestone(MILESTONE_LOADER_ENTERED);
    const uint32_t bank = reg_read(REG_SYS_BANK);
    const uint32_t status = verify_active(STAGE_APP, &app, &why);
    if (status != STATUS_OK) {
        event(bank, status, why.expected, why.found);
        reg_write(REG_SYS_RETAIN, RETAIN_REFUSED | (bank & 1u));
        reset();
    }
    reg_write(REG_FLASH_PROTECT, FLASH_PROTECT_ACTIVE | FLASH_PROTECT_INACTIVE);
    jump(STAGE_APP, bank, &app, status);
}
