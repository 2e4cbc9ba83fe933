#include "pack.h"

#include "calibration.h"

#define CONTACTOR_POLLS 1000u

void pack_measure(struct measurements *out)
{
    const uint32_t present = reg_read(REG_PACK_CELL_COUNT);
    out->cells = present < APP_CELLS ? present : APP_CELLS;
    for (uint32_t i = 0; i < out->cells; i++) {
        out->cell_mv[i] = reg_read(REG_PACK_CELL_MV + 4u * i);
    }
    for (uint32_t i = 0; i < TEMPERATURES; i++) {
        out->temperature_dc[i] = (int32_t)reg_read(REG_PACK_TEMPERATURE_DC + 4u * i);
    }
    out->current_ma = calibrated_ma((int32_t)reg_read(REG_PACK_CURRENT_MA));
    out->pack_mv = reg_read(REG_PACK_PACK_MV);
}

void contactors_close(void)
{
    reg_write(REG_PACK_CONTACTOR_CONTROL, CONTACTOR_CLOSE);
}

uint32_t contactors_are_open(void)
{
    for (uint32_t poll = 0; poll < CONTACTOR_POLLS; poll++) {
        if (reg_read(REG_PACK_CONTACTOR_STATE) == 0) {
            return STATUS_OK;
        }
    }
    return STATUS_SELFTEST_CONTACTORS;
}
