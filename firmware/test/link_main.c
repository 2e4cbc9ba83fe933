/*
 * The module's end of the update link on the fake module, driven over stdin and stdout
 * (tests/firmware/host_link.py). A command is u8 what, u32 length, body; its answer u32 length, body.
 * All integers are little-endian.
 *
 *   R           a fresh module, where none runs
 *   O           off: the firmware is stopped, RAM is lost
 *   P           poke: region u8 (0, 1 banks, 2 data flash, 3 fuses), offset u32, bytes
 *   G           peek: region u8, offset u32, size u32 -> bytes
 *   K           pack register: address u32, value u32
 *   C           power cut: after so many operations u32, torn u8
 *   H           the handover that the app finds
 *   S           start: where u8, active bank u8, update scalar 32 -> result
 *   X           exchange: a frame -> result, answer
 *   I           idle so many ticks u32 -> result
 *   V           view: struct view
 *
 * A result is u8: 0 runs, 1 was reset, 2 power was cut, 3 no answer in 5 s.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/calibration.h"
#include "app/integrity.h"
#include "app/link.h"
#include "app/monitor.h"
#include "fake_module.h"
#include "update/engine.h"
#include "verify/bytes.h"

#define BODY_MAX (3u * 1024u * 1024u)
#define PATIENCE_TICKS 500u
#define OFF 2 /* what setjmp returns, beside 1 for a reset */

const uint32_t board_where = WHERE_LOADER;
const struct limits limits = APP_LIMITS;

enum result { RUNS, WAS_RESET, POWER_CUT, SILENT };

static uint8_t body[BODY_MAX];
static struct update_world world;
static uint8_t scalar[SECRET_SIZE];
static uint32_t asked;   /* an exchange is under way: ticks left */
static uint32_t idling;  /* ticks left */

static void say(const void *data, size_t size)
{
    uint8_t prefix[4];
    write_u32(prefix, (uint32_t)size);
    fwrite(prefix, 1, sizeof prefix, stdout);
    fwrite(data, 1, size, stdout);
    fflush(stdout);
}

static void say_result(enum result result)
{
    uint8_t out[1 + LINK_BUFFER_SIZE];
    out[0] = (uint8_t)result;
    memcpy(out + 1, fake.tx, fake.tx_length);
    say(out, 1 + fake.tx_length);
    fake.tx_length = 0;
}

static void die(const char *why)
{
    fprintf(stderr, "link: %s\n", why);
    exit(2);
}

static uint8_t *region(uint32_t which, uint32_t offset, uint32_t size)
{
    uint8_t *const memory = which < BANK_COUNT ? fake.banks[which] : which == 2 ? fake.data : (uint8_t *)fake.fuses;
    const uint32_t whole = which < BANK_COUNT ? BANK_SIZE : which == 2 ? DATA_SIZE : sizeof fake.fuses;
    if (which > 3 || offset > whole || size > whole - offset) {
        die("outside the region");
    }
    return memory + offset;
}

static void view(void)
{
    uint8_t out[4 * (10 + 4 * FAKE_EVENTS)];
    const uint32_t words[] = {fake.touched[0], fake.touched[1], fake.touched[2], fake.data_touched,
                              fake.retain,     fake.faults,     fake.operations, fake.milestones,
                              *fake_pack(REG_PACK_CONTACTOR_STATE), fake.events};
    const uint32_t count = sizeof words / sizeof words[0];
    for (uint32_t i = 0; i < count; i++) {
        write_u32(out + 4 * i, words[i]);
    }
    for (uint32_t i = 0; i < fake.events; i++) {
        const struct fake_event *const event = &fake.event[i];
        uint8_t *const at = out + 4 * (count + 4 * i);
        write_u32(at, event->what);
        write_u32(at + 4, event->status);
        write_u32(at + 8, event->expected);
        write_u32(at + 12, event->found);
    }
    say(out, 4 * (count + 4 * fake.events));
    fake.events = 0;
}

/* The commands that change nothing about who runs. */
static void handle(uint32_t what, uint32_t size)
{
    switch (what) {
    case 'P':
        memcpy(region(body[0], read_u32(body + 1), size - 5), body + 5, size - 5);
        say("", 0);
        break;
    case 'G':
        say(region(body[0], read_u32(body + 1), read_u32(body + 5)), read_u32(body + 5));
        break;
    case 'H':
        if (size != sizeof handover) {
            die("no handover");
        }
        memcpy(&handover, body, size);
        say("", 0);
        break;
    case 'K':
        *fake_pack(read_u32(body)) = read_u32(body + 4);
        say("", 0);
        break;
    case 'C':
        fake.cut_after = fake.operations + read_u32(body);
        fake.torn = body[4];
        say("", 0);
        break;
    case 'V':
        view();
        break;
    default:
        die("unknown command");
    }
}

/* Commands until one is for the firmware. */
static uint32_t next_command(uint32_t *size)
{
    uint8_t prefix[5];
    for (;;) {
        if (fread(prefix, 1, sizeof prefix, stdin) != sizeof prefix) {
            exit(0);
        }
        *size = read_u32(prefix + 1);
        if (*size > sizeof body || fread(body, 1, *size, stdin) != *size) {
            die("a command is cut short or out of bounds");
        }
        if (strchr("RSXIO", prefix[0]) != NULL) {
            return prefix[0];
        }
        handle(prefix[0], *size);
    }
}

static void put(uint32_t size)
{
    if (size == 0 || size > LINK_BUFFER_SIZE) {
        die("no such frame");
    }
    memcpy(fake.rx, body, size);
    fake.rx_length = size;
    fake.tx_length = 0;
    asked = PATIENCE_TICKS;
}

/* The firmware has nothing to do: answer what was asked, and take the next command. */
static void idle(void)
{
    uint32_t size;
    const uint32_t silent = asked != 0 && fake.tx_length == 0;
    if ((silent != 0 && --asked != 0) || (idling != 0 && --idling != 0)) {
        return;
    }
    say_result(silent != 0 ? SILENT : RUNS);
    asked = 0;
    switch (next_command(&size)) {
    case 'X':
        put(size);
        break;
    case 'I':
        idling = read_u32(body);
        break;
    case 'O':
        longjmp(fake.restart, OFF);
    default:
        die("it runs");
    }
}

/* As app/main.c, confirmed and committed. */
static _Noreturn void app_run(void)
{
    struct monitor monitor = {
        .release = STATUS_OK, .bank = fake.active, .tripped = STATUS_OK, .welded = STATUS_OK};
    calibration_load(fake.active);
    for (;;) {
        if (integrity_cycle(fake.active) != STATUS_OK) {
            monitor.release = STATUS_BOOT_INTEGRITY;
        }
        monitor_cycle(&monitor);
        link_cycle();
        reg_write(REG_SYS_IDLE, 0);
    }
}

static void start(void)
{
    fake.active = body[1];
    memcpy(scalar, body + 2, sizeof scalar);
    world = (struct update_world){.where = body[0], .scalar = scalar};
    fake.idle = idle;
    asked = 0;
    idling = 0;
    const int ended = setjmp(fake.restart);
    if (ended == OFF) {
        say("", 0);
    } else if (ended != 0) {
        say_result(WAS_RESET);
    } else if (setjmp(fake.cut) != 0) {
        fake.cut_after = UINT32_MAX;
        fake.tx_length = 0;
        say_result(POWER_CUT);
    } else if (world.where == WHERE_APP) {
        app_run();
    } else {
        update_run(&world);
    }
}

int main(void)
{
    uint32_t size;
    fake_reset();
    for (;;) {
        switch (next_command(&size)) {
        case 'R':
            fake_reset();
            say("", 0);
            break;
        case 'O':
            say("", 0);
            break;
        case 'S':
            start();
            break;
        default:
            die("nothing runs");
        }
    }
}
