#include "monitor.h"

#include "calibration.h"

/* STATUS_OK, or the first limit that is violated. The words are the self-test's: same quantities. */
static uint32_t judge(const struct measurements *seen, struct refusal *why)
{
    const struct limits *const may = limits_now();
    for (uint32_t i = 0; i < seen->cells; i++) {
        const uint32_t mv = seen->cell_mv[i];
        if (mv > may->cell_over_mv) {
            return refuse(why, STATUS_SELFTEST_CELL_RANGE, may->cell_over_mv, mv);
        }
        if (mv < may->cell_under_mv) {
            return refuse(why, STATUS_SELFTEST_CELL_RANGE, may->cell_under_mv, mv);
        }
    }
    for (uint32_t i = 0; i < TEMPERATURES; i++) {
        const int32_t dc = seen->temperature_dc[i];
        if (dc > may->over_temperature_dc) {
            return refuse(why, STATUS_SELFTEST_TEMPERATURE, (uint32_t)may->over_temperature_dc, (uint32_t)dc);
        }
        if (dc < may->under_temperature_dc) {
            return refuse(why, STATUS_SELFTEST_TEMPERATURE, (uint32_t)may->under_temperature_dc,
                          (uint32_t)dc);
        }
    }
    if (seen->current_ma > may->discharge_ma) {
        return refuse(why, STATUS_SELFTEST_LIMITS, (uint32_t)may->discharge_ma, (uint32_t)seen->current_ma);
    }
    if (seen->current_ma < -may->charge_ma) {
        return refuse(why, STATUS_SELFTEST_LIMITS, (uint32_t)-may->charge_ma, (uint32_t)seen->current_ma);
    }
    return STATUS_OK;
}

static void trip(struct monitor *monitor, uint32_t status, const struct refusal *why)
{
    contactors_open();
    if (monitor->tripped == STATUS_OK) {
        event(monitor->bank, status, why->expected, why->found);
    }
    monitor->tripped = status;
}

static void check_welded(struct monitor *monitor)
{
    const uint32_t seen = contactors_are_open();
    if (seen != STATUS_OK && monitor->welded == STATUS_OK) {
        event(monitor->bank, seen, 0, reg_read(REG_PACK_CONTACTOR_STATE));
    }
    monitor->welded = seen;
}

/* The last cycle's values stay in RAM for whoever looks at a stopped core. */
static struct measurements now;

/* After a trip the vehicle must withdraw its request and make it anew: no closing by itself the
 * moment a sagging cell recovers. */
void monitor_cycle(struct monitor *monitor)
{
    struct refusal why = {0};

    pack_measure(&now);
    const uint32_t status = judge(&now, &why);
    const uint32_t request = reg_read(REG_PACK_CLOSE_REQUEST);
    if (status != STATUS_OK) {
        trip(monitor, status, &why);
    } else if (request == 0) {
        contactors_open();
        monitor->tripped = STATUS_OK;
    } else if (monitor->tripped == STATUS_OK && monitor->release == STATUS_OK) {
        contactors_close();
        return;
    } else {
        contactors_open();
    }
    check_welded(monitor);
}
