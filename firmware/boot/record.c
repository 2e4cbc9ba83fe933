#include "boot/record.h"

#include "boot/board.h"
#include "boot/kdf.h"
#include "verify/bytes.h"

enum record_offset {
    AT_BY = 4,
    AT_LIFECYCLE = 5,
    AT_BANK = 6,
    AT_RESERVED = 7,
    AT_BOOT_COUNT = 8,
    AT_COUNTER = 12,
    AT_MAJOR = 16,
    AT_MINOR = 17,
    AT_REVISION = 18,
    AT_BUILD = 20,
    AT_DIGEST = 24,
    AT_MAC = AT_DIGEST + DIGEST_SIZE,
};

_Static_assert(AT_MAC + DIGEST_SIZE == RECORD_SIZE, "the MAC ends the record");

void record_make(const struct record *record, const uint8_t key[SECRET_SIZE], uint8_t out[RECORD_SIZE])
{
    static const uint8_t magic[] = {'C', 'W', 'B', 'R'};
    copy_bytes(out, magic, sizeof magic);
    out[AT_BY] = (uint8_t)record->by;
    out[AT_LIFECYCLE] = (uint8_t)record->lifecycle;
    out[AT_BANK] = (uint8_t)record->bank;
    out[AT_RESERVED] = 0;
    write_u32(out + AT_BOOT_COUNT, record->boot_count);
    write_u32(out + AT_COUNTER, record->counter);
    out[AT_MAJOR] = record->version.major;
    out[AT_MINOR] = record->version.minor;
    out[AT_REVISION] = (uint8_t)record->version.revision;
    out[AT_REVISION + 1] = (uint8_t)(record->version.revision >> 8);
    write_u32(out + AT_BUILD, record->version.build);
    copy_bytes(out + AT_DIGEST, record->digest, DIGEST_SIZE);
    hmac_sha256(key, SECRET_SIZE, out, AT_MAC, out + AT_MAC);
}

void record_measured(uint32_t by, uint32_t bank, const struct verified *image, const uint8_t key[SECRET_SIZE],
                     uint8_t out[RECORD_SIZE])
{
    const struct record record = {.by = by,
                                  .lifecycle = handover.lifecycle,
                                  .bank = bank,
                                  .boot_count = handover.boot_count,
                                  .counter = otp_counter(),
                                  .version = image->version,
                                  .digest = image->digest};
    record_make(&record, key, out);
}
