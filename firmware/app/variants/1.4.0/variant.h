/* App 1.4.0: as 1.3.0, with the cell maker's narrower window. */
#pragma once

#define APP_VERSION "1.4.0"
#ifndef APP_CELLS
#define APP_CELLS 12u
#endif

#define APP_LIMITS                                                                                   \
    {                                                                                                \
        .cell_over_mv = 4200, .cell_under_mv = 2800, .over_temperature_dc = 550,                     \
        .under_temperature_dc = -200, .discharge_ma = 250000, .charge_ma = 100000,                   \
        .sum_tolerance_mv = 240,                                                                     \
    }
