/*
 * The same check as in ../naive, so that no single fault of the laboratory's models gets past it.
 *
 * The way into the image is not decided but computed: the image is checked twice, and both times what
 * differs is spread over all bits and taken into the address that is jumped to. A check that is skipped
 * leaves the other one's; a verdict that is flipped is one bit of many. The image lies where no other
 * code is, and 0x00020000 can only be reached by way of that address.
 */
#include <stdint.h>

#define IMAGE ((const volatile uint8_t *)0x00020000u)
#define SIZE 256u
#define TAG_SIZE 4u
#define KEY 0x5EC2E701u
#define ENTRY 0x00020001u /* with its Thumb bit */
#define SPREAD_1 0xA53C5AC3u
#define SPREAD_2 0x3CA5C35Au

extern uint32_t __stack_top[];
_Noreturn void start(void);
_Noreturn void refuse(void);

__attribute__((section(".vectors"), used)) static const void *const vectors[2] = {__stack_top, (void *)start};

/* The optimiser does not know the value any more, and cannot fold two equal checks into one. */
static inline uint32_t opaque(uint32_t value)
{
    __asm volatile("" : "+r"(value));
    return value;
}

/* 0 where nothing differs; otherwise `pattern`. */
static inline uint32_t spread(uint32_t differ, uint32_t pattern)
{
    return pattern & (0u - ((differ | (0u - differ)) >> 31));
}

/* What the image's tag differs in. */
__attribute__((noinline)) static uint32_t difference(const volatile uint8_t *image)
{
    uint32_t tag = opaque(KEY);
    uint32_t stated = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < SIZE - TAG_SIZE; i++, count++) {
        tag = (tag ^ image[i]) * 16777619u;
    }
    for (uint32_t i = SIZE; i > SIZE - TAG_SIZE; i--) {
        stated = stated << 8 | image[i - 1u];
    }
    return (tag ^ stated) | (count ^ (SIZE - TAG_SIZE));
}

__attribute__((noinline)) _Noreturn void refuse(void)
{
    for (;;) {
        __asm volatile("wfi");
    }
}

static volatile uint32_t first, second;

_Noreturn void start(void)
{
    first = ~0u;
    second = ~0u;
    first = difference((const volatile uint8_t *)opaque((uint32_t)IMAGE));
    second = difference((const volatile uint8_t *)opaque((uint32_t)IMAGE));
    if (first != 0 || second != 0) {
        refuse();
    }
    uint32_t entry = opaque(ENTRY) ^ spread(opaque(first), SPREAD_1);
    __asm volatile("nop\nnop\nnop" : "+r"(entry));
    entry ^= spread(opaque(second), SPREAD_2);
    __asm volatile("bx %0" : : "r"(entry));
    __builtin_unreachable();
}
