/*
 * One module after the other from the file "modules": power, boots, outcome. What they tell goes to
 * the file "told", a line each.
 */
#include "boards/an505/core.h"
#include "boards/an505/module.h"

#define LINE 128u

static void put(const char *bytes, uint32_t size)
{
    const uint32_t arguments[] = {MODULE->output, (uint32_t)bytes, size};
    (void)semihosting(SYS_WRITE, (uint32_t)arguments);
}

static uint32_t length_of(const char *text)
{
    uint32_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

static char *hex(char *out, uint32_t value)
{
    for (uint32_t i = 0; i < 8u; i++) {
        *out++ = "0123456789abcdef"[(value >> (28u - 4u * i)) & 15u];
    }
    return out;
}

/* A word and `count` numbers, at most 10, in hexadecimal. */
void say(const char *what, const uint32_t *values, uint32_t count)
{
    char line[LINE];
    char *end = line;
    for (uint32_t i = 0; i < length_of(what); i++) {
        *end++ = what[i];
    }
    for (uint32_t i = 0; i < count; i++) {
        *end++ = ' ';
        end = hex(end, values[i]);
    }
    *end++ = '\n';
    put(line, (uint32_t)(end - line));
}

static uint32_t open(const char *name, uint32_t mode)
{
    const uint32_t arguments[] = {(uint32_t)name, mode, length_of(name)};
    return semihosting(SYS_OPEN, (uint32_t)arguments);
}

/* How many bytes are missing. */
static uint32_t take(void *to, uint32_t size)
{
    const uint32_t arguments[] = {MODULE->input, (uint32_t)to, size};
    return semihosting(SYS_READ, (uint32_t)arguments);
}

static _Noreturn void finish(void)
{
    for (;;) {
        (void)semihosting(SYS_EXIT, APPLICATION_EXIT);
    }
}

static void clear(uint32_t *first, const uint32_t *end)
{
    while (first != end) {
        *first++ = 0;
    }
}

static void begin_boot(void)
{
    clear(&MODULE->executable, (const uint32_t *)(MODULE + 1));
    flash_show(0);
    MODULE->boots++;
    say("boot", &MODULE->cause, 1);
}

/* The next module of the file, its flash and fuses, and power for it. */
static void next_module(void)
{
    unguard();
    clear(&MODULE->retain, (const uint32_t *)(MODULE + 1));
    if (take(&MODULE->file, sizeof MODULE->file) != 0) {
        finish();
    }
    flash_lose_all();
    for (uint32_t i = 0; i < MODULE->file.areas; i++) {
        uint32_t area[3];
        if (take(area, sizeof area) != 0 || take(flash_bank(area[0]) + area[1], area[2]) != 0) {
            finish();
        }
    }
    say("module", (const uint32_t *)0, 0);
}

void power(void)
{
    unguard();
    if (MODULE->awake != AWAKE) {
        clear((uint32_t *)MODULE, (const uint32_t *)(MODULE + 1));
        MODULE->input = open("modules", OPEN_READ_BINARY);
        MODULE->output = open("told", OPEN_WRITE_BINARY);
        MODULE->awake = AWAKE;
        MODULE->due = DUE_MODULE;
    }
    if (MODULE->due == DUE_MODULE) {
        next_module();
    }
    MODULE->due = DUE_NOTHING;
    begin_boot();
}

static _Noreturn void restart(enum due due)
{
    MODULE->due = due;
    for (;;) {
        core_write(SCB_AIRCR, AIRCR_SYSRESETREQ);
    }
}

static void report(const char *outcome)
{
    say(outcome, (const uint32_t[]){MODULE->shown, MODULE->contactors}, 2);
}

/* What RAM may hold at power-on: not what the last module left, nor zeros. */
static void spoil_ram(void)
{
    const uint32_t here = (uint32_t)__builtin_frame_address(0) - 0x100u;
    for (uint32_t at = RAM_BASE; at < here; at += 4u) {
        *(volatile uint32_t *)at = 0xA5A5A5A5u;
    }
}

_Noreturn void boot_ends(const char *outcome)
{
    report(outcome);
    for (uint32_t bank = 0; bank < DATA_BANK; bank++) {
        say("trailer", (const uint32_t *)(flash_bank(bank) + BANK_SIZE - COPY_DONE_FROM_END), 8);
    }
    for (uint32_t at = 0; at < sizeof MODULE->file.fuses / 4u; at += 8u) {
        say("fuses", MODULE->file.fuses + at, 8);
    }
    spoil_ram();
    restart(DUE_MODULE);
}

_Noreturn void reset_core(uint32_t cause)
{
    if (MODULE->boots >= MODULE->file.boots) {
        boot_ends("hang");
    }
    report("reset");
    MODULE->cause = cause;
    restart(DUE_BOOT);
}

static uint32_t deeper(uint32_t depth) /* NOLINT: never ends by itself */
{
    volatile uint32_t frame[64];
    frame[0] = depth;
    return depth == 0 ? 0 : deeper(depth - 1u) + frame[0];
}

static void run(uint32_t address)
{
    ((void (*)(void))(address | 1u))();
}

void inject_fault(uint32_t milestone)
{
    const enum inject what = (enum inject)MODULE->file.inject;
    if (what == INJECT_NOTHING || milestone != MODULE->file.inject_at) {
        return;
    }
    MODULE->file.inject = INJECT_NOTHING;
    switch (what) {
    case INJECT_UNDEFINED:
        __asm volatile("udf #0");
        break;
    case INJECT_BUS:
        (void)core_read(0x70000000u);
        break;
    case INJECT_STACK:
        (void)deeper(1000);
        break;
    case INJECT_RAM_CODE:
        run(RAM_BASE + 0x100u);
        break;
    case INJECT_FLASH_STORE:
        core_write(ACTIVE_BASE + TRAILER_OFFSET, 0);
        break;
    case INJECT_OTHER_BANK:
        run(INACTIVE_BASE + LOADER_OFFSET + HEADER_SIZE + 0x40u);
        break;
    default:
        break;
    }
}
