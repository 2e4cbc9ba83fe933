/* What the compiler and BearSSL call. Four words at a time where all is aligned: each instruction of these
 * loops is a place for a fault, and most that a boot executes outside the cryptography are here. */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);

typedef uint32_t __attribute__((may_alias)) word;

/* Copied by one LDM and one STM. */
struct __attribute__((may_alias)) words {
    uint32_t word[4];
};

static int aligned(const void *a, const void *b)
{
    return (((uintptr_t)a | (uintptr_t)b) % sizeof(word)) == 0;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (aligned(t, f)) {
        for (; size >= sizeof(struct words);
             size -= sizeof(struct words), t += sizeof(struct words), f += sizeof(struct words)) {
            *(struct words *)(void *)t = *(const struct words *)(const void *)f;
        }
        for (; size >= sizeof(word); size -= sizeof(word), t += sizeof(word), f += sizeof(word)) {
            *(word *)(void *)t = *(const word *)(const void *)f;
        }
    }
    for (; size != 0; size--) {
        *t++ = *f++;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((uintptr_t)t <= (uintptr_t)f) {
        for (size_t i = 0; i < size; i++) {
            t[i] = f[i];
        }
    } else {
        for (size_t i = size; i != 0; i--) {
            t[i - 1] = f[i - 1];
        }
    }
    return to;
}

void *memset(void *to, int value, size_t size)
{
    uint8_t *t = to;
    const uint32_t same = ((uint32_t)value & 0xFFu) * 0x01010101u;
    if (aligned(t, t)) {
        const struct words filled = {{same, same, same, same}};
        for (; size >= sizeof filled; size -= sizeof filled, t += sizeof filled) {
            *(struct words *)(void *)t = filled;
        }
        for (; size >= sizeof(word); size -= sizeof(word), t += sizeof(word)) {
            *(word *)(void *)t = same;
        }
    }
    for (; size != 0; size--) {
        *t++ = (uint8_t)value;
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *const x = a;
    const uint8_t *const y = b;
    for (size_t i = 0; i < size; i++) {
        if (x[i] != y[i]) {
            return x[i] < y[i] ? -1 : 1;
        }
    }
    return 0;
}
