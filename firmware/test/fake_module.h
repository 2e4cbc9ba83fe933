/* Registers, fuses and flash for the unit tests: as strict as the silicon. */
#pragma once

#include <setjmp.h>
#include <stdint.h>

#include "app/pack.h"

enum { FAKE_HALF_BROKEN = 2 };
enum { FAKE_EVENTS = 16, FAKE_REGISTERS = 0x100 };

/* What a cut leaves of an operation: nothing of it, the first half, or some of its bits. */
enum { FAKE_TORN_NONE, FAKE_TORN_HALF, FAKE_TORN_GARBAGE, FAKE_TORN_COUNT };

struct fake_event {
    uint32_t what;
    uint32_t status;
    uint32_t expected;
    uint32_t found;
};

struct fake_module {
    uint8_t banks[BANK_COUNT][BANK_SIZE];
    uint8_t data[DATA_SIZE];
    uint32_t active;     /* bank mapped at ACTIVE_BASE; the other is at INACTIVE_BASE */
    uint32_t retain;
    uint8_t rx[LINK_BUFFER_SIZE];
    uint32_t rx_length;
    uint8_t tx[LINK_BUFFER_SIZE];
    uint32_t tx_length;  /* of the answer, 0 until one is sent */
    uint32_t answers;
    uint32_t feeds;
    void (*idle)(void);  /* called with every tick that is idled away */
    jmp_buf restart;     /* where reset() goes */
    uint32_t touched[BANK_COUNT + 1]; /* flash commands that were carried out, by bank */
    uint32_t data_touched; /* bit n: page n of the data flash */
    uint32_t operations; /* flash commands and burns that were carried out */
    uint32_t cut_after;  /* this many; the next one is torn, then fake.cut is jumped to */
    uint32_t torn;       /* FAKE_TORN_ */
    jmp_buf cut;
    uint32_t trng;       /* next word; steps unless it is stuck */
    uint32_t trng_words; /* that are drawn before it is stuck */
    uint32_t tamper;
    uint32_t milestones; /* bit n: milestone n was reported */
    uint32_t fuses[0x200 / 4];
    uint32_t burns; /* successful ones */
    uint32_t burn_limit;
    uint32_t burn_bits_max; /* in one burn */
    uint32_t unlocked;
    uint32_t flash[8];
    uint32_t otp[8];
    uint32_t flash_broken; /* commands say yes and do nothing, or half (FAKE_HALF_BROKEN) */
    uint32_t flash_closed; /* commands are refused */
    uint32_t otp_broken;   /* burns say yes and do nothing */
    uint32_t pack[FAKE_REGISTERS / 4];
    uint32_t welded;
    uint32_t limits_stuck;
    uint32_t events;
    struct fake_event event[FAKE_EVENTS];
    uint32_t pending[3];
    uint32_t faults; /* accesses that are a bus fault on the module */
};

extern struct fake_module fake;

/* A good pack of 12 cells at 3.7 V and 25 °C, erased flash, virgin fuses. */
void fake_reset(void);
uint32_t *fake_pack(uint32_t address);
