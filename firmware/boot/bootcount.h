/* A number for every boot that is never given twice (docs/formats/boot-record.md). ROM only. */
#pragma once

#include <stdint.h>

/* At the end of the last epoch. */
#define BOOT_COUNT_LAST ((OTP_BOOT_EPOCH_SIZE * 8u + 1u) * BOOTS_PER_EPOCH - 1u)

/* The count of this boot, stored before it is returned. Without a page that can be written, every
 * boot burns an epoch. Stays at BOOT_COUNT_LAST. */
uint32_t boot_count_next(void);
