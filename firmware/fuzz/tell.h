/* What a fuzz target found out about one input, for the Python that judges the same input (judge.py). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "boot/board.h"

/* `words` and the input to the pipe CELLWARD_FUZZ_PIPE names; nowhere without it. Waits for the reader. */
void tell(const uint8_t *input, size_t size, const uint32_t *words, uint32_t count);

/* The file that CELLWARD_FUZZ_WORLD names: fuses, then loader and app of bank a, each with its length
 * before it, then the update scalar. Into the fake module; ends the program where it cannot. */
void world_load(uint8_t scalar[32]);

/* The fake module as world_load left it. */
void world_restore(void);

/* A seed of the mutators' own choices. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
