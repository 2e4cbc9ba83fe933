#include "selftest.h"

#include "calibration.h"

/* What a healthy sensor can show at all; the operating limits are narrower. */
#define CELL_PLAUSIBLE_MIN_MV 1000u
#define CELL_PLAUSIBLE_MAX_MV 5000u
#define TEMPERATURE_PLAUSIBLE_MIN_DC (-400)
#define TEMPERATURE_PLAUSIBLE_MAX_DC 1000

static uint32_t test_front_end(struct refusal *why)
{
    const uint32_t id = reg_read(REG_PACK_FRONT_END_ID);
    if (id != FRONT_END_ID_VALUE) {
        return refuse(why, STATUS_SELFTEST_FRONT_END, FRONT_END_ID_VALUE, id);
    }
    const uint32_t cells = reg_read(REG_PACK_CELL_COUNT);
    if (cells != APP_CELLS) {
        return refuse(why, STATUS_SELFTEST_FRONT_END, APP_CELLS, cells);
    }
    return STATUS_OK;
}

static uint32_t test_cells(const struct measurements *now, struct refusal *why)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < now->cells; i++) {
        const uint32_t mv = now->cell_mv[i];
        if (mv < CELL_PLAUSIBLE_MIN_MV) {
            return refuse(why, STATUS_SELFTEST_CELL_RANGE, CELL_PLAUSIBLE_MIN_MV, mv);
        }
        if (mv > CELL_PLAUSIBLE_MAX_MV) {
            return refuse(why, STATUS_SELFTEST_CELL_RANGE, CELL_PLAUSIBLE_MAX_MV, mv);
        }
        sum += mv;
    }
    const uint32_t off = sum > now->pack_mv ? sum - now->pack_mv : now->pack_mv - sum;
    if (off > limits_now()->sum_tolerance_mv) {
        return refuse(why, STATUS_SELFTEST_CELL_SUM, now->pack_mv, sum);
    }
    return STATUS_OK;
}

static uint32_t test_temperatures(const struct measurements *now, struct refusal *why)
{
    for (uint32_t i = 0; i < TEMPERATURES; i++) {
        const int32_t dc = now->temperature_dc[i];
        if (dc < TEMPERATURE_PLAUSIBLE_MIN_DC) {
            return refuse(why, STATUS_SELFTEST_TEMPERATURE, (uint32_t)TEMPERATURE_PLAUSIBLE_MIN_DC,
                          (uint32_t)dc);
        }
        if (dc > TEMPERATURE_PLAUSIBLE_MAX_DC) {
            return refuse(why, STATUS_SELFTEST_TEMPERATURE, TEMPERATURE_PLAUSIBLE_MAX_DC, (uint32_t)dc);
        }
    }
    return STATUS_OK;
}

/* The front end guards these without us; it must hold what it was told. */
static uint32_t test_limits(struct refusal *why)
{
    const struct {
        uint32_t address;
        uint32_t value;
    } registers[] = {
        {REG_PACK_LIMIT_OV_MV, limits_now()->cell_over_mv},
        {REG_PACK_LIMIT_UV_MV, limits_now()->cell_under_mv},
        {REG_PACK_LIMIT_OT_DC, (uint32_t)limits_now()->over_temperature_dc},
    };
    for (uint32_t i = 0; i < sizeof registers / sizeof registers[0]; i++) {
        reg_write(registers[i].address, registers[i].value);
    }
    for (uint32_t i = 0; i < sizeof registers / sizeof registers[0]; i++) {
        const uint32_t held = reg_read(registers[i].address);
        if (held != registers[i].value) {
            return refuse(why, STATUS_SELFTEST_LIMITS, registers[i].value, held);
        }
    }
    return STATUS_OK;
}

static uint32_t test_contactors(struct refusal *why)
{
    contactors_open();
    if (contactors_are_open() != STATUS_OK) {
        return refuse(why, STATUS_SELFTEST_CONTACTORS, 0, reg_read(REG_PACK_CONTACTOR_STATE));
    }
    return STATUS_OK;
}

uint32_t selftest(struct refusal *why)
{
    struct measurements now;
    uint32_t status = test_contactors(why);
    if (status != STATUS_OK) {
        return status;
    }
    status = test_front_end(why); /* before the cells: a wrong count would read past them */
    if (status != STATUS_OK) {
        return status;
    }
    pack_measure(&now);
    status = test_cells(&now, why);
    if (status != STATUS_OK) {
        return status;
    }
    status = test_temperatures(&now, why);
    if (status != STATUS_OK) {
        return status;
    }
    return test_limits(why);
}
