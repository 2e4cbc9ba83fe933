/* The pack as the analogue front end shows it. */
#pragma once

#include <stdint.h>

#include "boot/board.h"
#include "variant.h"

struct measurements {
    uint32_t cells; /* read: those this firmware is for, but none the front end does not have */
    uint32_t cell_mv[APP_CELLS];
    int32_t temperature_dc[TEMPERATURES];
    int32_t current_ma; /* positive discharges */
    uint32_t pack_mv;
};

/* Read every channel once; all decisions of a cycle are made on this copy. */
void pack_measure(struct measurements *out);

void contactors_close(void);

/* STATUS_OK when the auxiliary contacts show open within CONTACTOR_POLLS reads. */
uint32_t contactors_are_open(void);
