/*
 * image_decode and image_verify. Input: the record of `verify --serve` (firmware/README.md) without its
 * length: slot size, revoked, counter, slot keys, vendor, class, image; of the slot size only the low
 * bits count, as erased bytes behind the image.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz/tell.h"
#include "verify/bytes.h"
#include "verify/crypto.h"

#define AT_KEYS 12u
#define AT_VENDOR (AT_KEYS + OTP_SLOT_KEYS_SIZE)
#define AT_CLASS (AT_VENDOR + OTP_VENDOR_ID_SIZE)
#define AT_IMAGE (AT_CLASS + OTP_APP_CLASS_SIZE)
#define ERASED_MAX 0x7FFu

const uint32_t board_where = WHERE_ROM;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trust trust;
    struct verified good;
    struct refusal why;
    if (size < AT_IMAGE) {
        return 0;
    }
    const uint32_t stored = (uint32_t)size - AT_IMAGE;
    const uint32_t slot_size = stored + (read_u32(data) & ERASED_MAX);
    uint8_t *const slot = malloc(slot_size == 0 ? 1 : slot_size); /* of exactly its size, for ASan */
    memcpy(slot, data + AT_IMAGE, stored);
    memset(slot + stored, 0xFF, slot_size - stored);
    trust.revoked = read_u32(data + 4);
    trust.counter = read_u32(data + 8);
    memcpy(trust.slot_keys, data + AT_KEYS, sizeof trust.slot_keys);
    memcpy(trust.vendor, data + AT_VENDOR, sizeof trust.vendor);
    memcpy(trust.klass, data + AT_CLASS, sizeof trust.klass);

    const uint32_t status = image_verify(slot, slot_size, &trust, &good, &why);
    if (status == STATUS_OK ? why.status != 0 : (why.status != status || good.payload_size != 0)) {
        abort(); /* a verdict that contradicts what it leaves */
    }
    free(slot);
    const uint32_t words[] = {status, good.payload_offset, good.payload_size, good.counter,
                              good.version.major, good.version.minor, good.version.revision,
                              good.version.build};
    tell(data, size, words, sizeof words / sizeof words[0]);
    return 0;
}

/* Half of the mutants state their right digest, or nothing behind that check would be reached. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    struct image image;
    struct refusal why;
    const size_t made = LLVMFuzzerMutate(data, size, max_size);
    if (made > AT_IMAGE && seed % 2u == 0) {
        uint8_t *const slot = data + AT_IMAGE;
        if (image_decode(slot, (uint32_t)(made - AT_IMAGE), &image, &why) == STATUS_OK &&
            image.sha256.offset != 0) {
            uint8_t digest[DIGEST_SIZE];
            sha256(slot, image.signed_size, digest);
            memcpy(slot + image.sha256.offset, digest, sizeof digest);
        }
    }
    return made;
}
