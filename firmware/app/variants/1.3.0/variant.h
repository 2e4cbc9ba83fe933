/* App 1.3.0: NMC, 12 in series. */
#pragma once

#define APP_VERSION "1.3.0"
#ifndef APP_CELLS
#define APP_CELLS 12u
#endif

#define APP_LIMITS                                                                                   \
    {                                                                                                \
        .cell_over_mv = 4250, .cell_under_mv = 2700, .over_temperature_dc = 600,                     \
        .under_temperature_dc = -200, .discharge_ma = 250000, .charge_ma = 120000,                   \
        .sum_tolerance_mv = 240,                                                                     \
    }
