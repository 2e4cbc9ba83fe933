/* A test is a function; a failed check is a line, and the program goes on. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "fake_module.h"

static const char *running;
static uint32_t failures;

#define CHECK(condition)                                                                             \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, running, #condition);                      \
            failures++;                                                                              \
        }                                                                                            \
    } while (0)

static inline uint32_t all_are(const void *data, uint8_t byte, uint32_t size)
{
    const uint8_t *const bytes = data;
    for (uint32_t i = 0; i < size; i++) {
        if (bytes[i] != byte) {
            return 0;
        }
    }
    return 1;
}

struct test {
    const char *name;
    void (*run)(void);
};

#define TEST(function) {#function, function}

/* Each on a module of its own. The exit status. */
static inline int run_tests(const struct test *tests, uint32_t count)
{
    uint32_t failed = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t before = failures;
        running = tests[i].name;
        fake_reset();
        tests[i].run();
        failed += failures != before;
    }
    printf("%u passed, %u failed\n", count - failed, failed);
    return failed != 0;
}
