/*
 * A verdict that one glitch cannot forge: no truth value, a word far from 0 and from all ones, and
 * made by arithmetic on what differed, so that skipping a branch does not make it good.
 */
#pragma once

#include <stdint.h>

#define VERDICT_GOOD 0x6A5C963Du
#define VERDICT_BAD 0x95B369C2u

/* A struct, so that the compiler refuses `if (verdict)` and a status in its place. */
typedef struct {
    uint32_t word;
} verdict;

/* The value, but the optimiser does not know it any more: it cannot fold two equal checks into one
 * (facts: GCC did). */
static inline uint32_t opaque(uint32_t value)
{
    __asm volatile("" : "+r"(value));
    return value;
}

/* 0 where `differ` is 0, all ones otherwise, without a branch. */
static inline uint32_t spread(uint32_t differ)
{
    return 0u - ((differ | (0u - differ)) >> 31);
}

/* GOOD where nothing differed. */
static inline verdict verdict_of(uint32_t differ)
{
    const uint32_t bad = spread(opaque(differ));
    return (verdict){VERDICT_GOOD ^ (bad & (VERDICT_GOOD ^ VERDICT_BAD))};
}

/* 0 for GOOD and nothing else. */
static inline uint32_t verdict_differs(verdict v)
{
    return opaque(v.word) ^ VERDICT_GOOD;
}
