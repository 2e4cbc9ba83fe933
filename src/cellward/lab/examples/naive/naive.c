/*
 * A boot check as it is often written, for the laboratory to break: one comparison, one truth value,
 * one branch. The "signature" is a keyed checksum; what matters is what happens to its verdict.
 */
#include <stdint.h>

#define IMAGE ((const uint8_t *)0x00010000u)
#define SIZE 256u
#define TAG_SIZE 4u
#define KEY 0x5EC2E701u

extern uint32_t __stack_top[];
_Noreturn void start(void);
_Noreturn void boot(void);
_Noreturn void refuse(void);

__attribute__((section(".vectors"), used)) static const void *const vectors[2] = {__stack_top, (void *)start};

__attribute__((noinline)) static uint32_t tag_of(const uint8_t *data, uint32_t size)
{
    uint32_t tag = KEY;
    for (uint32_t i = 0; i < size; i++) {
        tag = (tag ^ data[i]) * 16777619u;
    }
    return tag;
}

/* Not even early out: whoever wrote this had heard of timing. */
__attribute__((noinline)) static int same(const uint8_t *a, const uint8_t *b, uint32_t size)
{
    uint8_t differ = 0;
    for (uint32_t i = 0; i < size; i++) {
        differ |= (uint8_t)(a[i] ^ b[i]);
    }
    return differ == 0;
}

__attribute__((noinline)) static int verify(const uint8_t *image)
{
    const uint32_t tag = tag_of(image, SIZE - TAG_SIZE);
    return same((const uint8_t *)&tag, image + SIZE - TAG_SIZE, TAG_SIZE);
}

__attribute__((noinline)) _Noreturn void boot(void)
{
    for (;;) {
        __asm volatile("nop");
    }
}

__attribute__((noinline)) _Noreturn void refuse(void)
{
    for (;;) {
        __asm volatile("wfi");
    }
}

_Noreturn void start(void)
{
    if (verify(IMAGE)) {
        boot();
    }
    refuse();
}
