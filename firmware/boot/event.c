#include "boot/board.h"

void milestone(uint32_t which)
{
    reg_write(REG_SYS_MILESTONE, which);
}

void event(uint32_t bank, uint32_t status, uint32_t expected, uint32_t found)
{
    reg_write(REG_SYS_EVENT_WHAT, (board_where << 8) | (bank & 0xFFu));
    reg_write(REG_SYS_EVENT_STATUS, status);
    reg_write(REG_SYS_EVENT_EXPECTED, expected);
    reg_write(REG_SYS_EVENT_FOUND, found); /* records it */
}

void contactors_open(void)
{
    reg_write(REG_PACK_CONTACTOR_CONTROL, CONTACTOR_OPEN);
}

#ifndef CELLWARD_HOST
_Noreturn void reset(void)
{
    for (;;) {
        reg_write(REG_SYS_RESET, RESET_KEY);
    }
}

_Noreturn void idle_forever(void)
{
    for (;;) {
        contactors_open();
        reg_write(REG_SYS_IDLE, 0);
    }
}
#endif
