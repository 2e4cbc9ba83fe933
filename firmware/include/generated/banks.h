/* Generated from src/cellward/core/banks.py by firmware/gen_headers.py: change it there. */
#pragma once

#include <stdint.h>

#define BANK_COUNT 2u
#define STATE_EMPTY 0u
#define STATE_PENDING 1u
#define STATE_TRIAL 2u
#define STATE_CONFIRMED 3u
#define ACTION_SKIP 0u
#define ACTION_START 1u
#define ACTION_RUN 2u
#define NEWER_A 0u
#define NEWER_B 1u
#define NEWER_SAME 2u
#define NO_BANK 0xffu

/* [magic][copy_done][image_ok] */
static const uint8_t BANK_STATES[3][3][3] = {
    {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}},
    {{1, 3, 2}, {2, 3, 2}, {2, 3, 2}},
    {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}},
};

static const uint8_t BANK_ACTIONS[4] = {
    0, 1, 0, 2
};

/* [state of a][state of b][newer]: banks to try, best first */
static const uint8_t BANK_ORDER[4][4][3][2] = {
    {
        {{NO_BANK, NO_BANK}, {NO_BANK, NO_BANK}, {NO_BANK, NO_BANK}},
        {{1, NO_BANK}, {1, NO_BANK}, {1, NO_BANK}},
        {{NO_BANK, NO_BANK}, {NO_BANK, NO_BANK}, {NO_BANK, NO_BANK}},
        {{1, NO_BANK}, {1, NO_BANK}, {1, NO_BANK}},
    },
    {
        {{0, NO_BANK}, {0, NO_BANK}, {0, NO_BANK}},
        {{0, 1}, {1, 0}, {0, 1}},
        {{0, NO_BANK}, {0, NO_BANK}, {0, NO_BANK}},
        {{0, 1}, {0, 1}, {0, 1}},
    },
    {
        {{NO_BANK, NO_BANK}, {NO_BANK, NO_BANK}, {NO_BANK, NO_BANK}},
        {{1, NO_BANK}, {1, NO_BANK}, {1, NO_BANK}},
        {{NO_BANK, NO_BANK}, {NO_BANK, NO_BANK}, {NO_BANK, NO_BANK}},
        {{1, NO_BANK}, {1, NO_BANK}, {1, NO_BANK}},
    },
    {
        {{0, NO_BANK}, {0, NO_BANK}, {0, NO_BANK}},
        {{1, 0}, {1, 0}, {1, 0}},
        {{0, NO_BANK}, {0, NO_BANK}, {0, NO_BANK}},
        {{0, 1}, {1, 0}, {0, 1}},
    },
};
