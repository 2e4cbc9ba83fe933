#include "fuzz/tell.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test/fake_module.h"

/* Without the banks, which are restored only where they were touched. */
#define TAIL offsetof(struct fake_module, data)

static uint8_t tail[sizeof(struct fake_module) - TAIL];

static void put(int pipe, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size != 0) {
        const ssize_t written = write(pipe, at, size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            _exit(3); /* the reader has seen enough */
        }
        at += written;
        size -= (size_t)written;
    }
}

void tell(const uint8_t *input, size_t size, const uint32_t *words, uint32_t count)
{
    static int pipe = -2;
    const uint32_t head[] = {(uint32_t)size, count};
    if (pipe == -2) {
        const char *const name = getenv("CELLWARD_FUZZ_PIPE");
        pipe = name == NULL ? -1 : atoi(name);
    }
    if (pipe >= 0) {
        put(pipe, head, sizeof head);
        put(pipe, words, count * sizeof *words);
        put(pipe, input, size);
    }
}

static void take(FILE *file, void *to, size_t size)
{
    if (fread(to, 1, size, file) != size) {
        fprintf(stderr, "fuzz: the world is cut short\n");
        exit(2);
    }
}

void world_load(uint8_t scalar[32])
{
    const char *const name = getenv("CELLWARD_FUZZ_WORLD");
    FILE *const file = name == NULL ? NULL : fopen(name, "rb");
    const uint32_t offsets[] = {LOADER_OFFSET, APP_OFFSET};
    if (file == NULL) {
        fprintf(stderr, "fuzz: CELLWARD_FUZZ_WORLD names no file; firmware/fuzz/run.py makes one\n");
        exit(2);
    }
    fake_reset();
    take(file, fake.fuses, sizeof fake.fuses);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t size;
        take(file, &size, sizeof size);
        if (size > LOADER_SIZE) {
            exit(2);
        }
        take(file, fake.banks[0] + offsets[i], size);
    }
    take(file, scalar, 32);
    fclose(file);
    memcpy(tail, (const uint8_t *)&fake + TAIL, sizeof tail);
}

void world_restore(void)
{
    if (fake.touched[1] != 0) {
        memset(fake.banks[1], 0xFF, sizeof fake.banks[1]);
    }
    memcpy((uint8_t *)&fake + TAIL, tail, sizeof tail);
}
