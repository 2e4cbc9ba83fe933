/* What the pack may do, per firmware version; kept in its own flash page (.calibration). */
#pragma once

#include <stdint.h>

struct limits {
    uint32_t cell_over_mv;
    uint32_t cell_under_mv;
    int32_t over_temperature_dc; /* tenths of a degree Celsius */
    int32_t under_temperature_dc;
    int32_t discharge_ma;
    int32_t charge_ma; /* as a positive number */
    uint32_t sum_tolerance_mv; /* sum of the cells against the pack's own measurement */
};

extern const struct limits limits;
