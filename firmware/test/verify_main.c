/*
 * The module's image verifier as a host program; firmware/README.md documents it.
 *
 *   verify IMAGE SLOT_SIZE KEY_HASHES REVOKED COUNTER VENDOR CLASS     one image
 *   verify --serve                                                     many, length-prefixed
 *
 * The slot is a heap block of exactly its size, so that ASan sees the first byte read outside it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verify/bytes.h"
#include "verify/image.h"

#define RECORD_SIZE_MAX (64u * 1024u * 1024u)
#define EXIT_USAGE 2

/* What stands before the image bytes of a record, little-endian, without padding. */
enum record {
    AT_SLOT_SIZE = 0,
    AT_REVOKED = 4,
    AT_COUNTER = 8,
    AT_KEYS = 12,
    AT_VENDOR = AT_KEYS + OTP_SLOT_KEYS_SIZE,
    AT_CLASS = AT_VENDOR + OTP_VENDOR_ID_SIZE,
    AT_IMAGE = AT_CLASS + OTP_APP_CLASS_SIZE,
};

static const char *name_of(uint32_t status)
{
    static const struct {
        uint32_t status;
        const char *name;
    } names[] = {
#define ROW(word, code) {word, code},
        STATUS_NAMES(ROW)
#undef ROW
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].status == status) {
            return names[i].name;
        }
    }
    return "unknown";
}

/* Prints: status word, code, and expected and found; of a good image its counter and payload size. */
static int judge(const uint8_t *bytes, size_t size, uint32_t slot_size, const struct trust *trust)
{
    struct verified good = {0};
    struct refusal why = {0};
    uint32_t status;

    if (slot_size == 0) {
        slot_size = (uint32_t)size;
    }
    if (size > slot_size || slot_size > RECORD_SIZE_MAX) {
        status = refuse(&why, STATUS_IMAGE_SIZE, slot_size, (uint32_t)size);
    } else {
        uint8_t *const slot = malloc(slot_size);
        if (slot == NULL && slot_size != 0) {
            fputs("verify: out of memory\n", stderr);
            exit(EXIT_USAGE);
        }
        if (slot_size != 0) {
            memset(slot, FLAG_ERASED, slot_size);
        }
        if (size != 0) {
            memcpy(slot, bytes, size);
        }
        status = image_verify(slot, slot_size, trust, &good, &why);
        free(slot);
    }
    const uint32_t left = status == STATUS_OK ? good.counter : why.expected;
    const uint32_t right = status == STATUS_OK ? good.payload_size : why.found;
    printf("0x%08" PRIx32 " %s 0x%08" PRIx32 " 0x%08" PRIx32 "\n", status, name_of(status), left, right);
    fflush(stdout);
    return status == STATUS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void serve_record(const uint8_t *record, size_t size)
{
    struct trust trust = {
        .revoked = read_u32(record + AT_REVOKED),
        .counter = read_u32(record + AT_COUNTER),
    };
    memcpy(trust.slot_keys, record + AT_KEYS, sizeof trust.slot_keys);
    memcpy(trust.vendor, record + AT_VENDOR, sizeof trust.vendor);
    memcpy(trust.klass, record + AT_CLASS, sizeof trust.klass);
    (void)judge(record + AT_IMAGE, size - AT_IMAGE, read_u32(record + AT_SLOT_SIZE), &trust);
}

static int serve(void)
{
    uint8_t prefix[4];
    while (fread(prefix, 1, sizeof prefix, stdin) == sizeof prefix) {
        const uint32_t size = read_u32(prefix);
        uint8_t *const record = size < AT_IMAGE || size > RECORD_SIZE_MAX ? NULL : malloc(size);
        if (record == NULL || fread(record, 1, size, stdin) != size) {
            free(record);
            fputs("verify: a record is cut short or out of bounds\n", stderr);
            return EXIT_USAGE;
        }
        serve_record(record, size);
        free(record);
    }
    return EXIT_SUCCESS;
}

/* `size` bytes of hex; anything else ends the program with a line. */
static void hex(const char *text, size_t length, uint8_t *out, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    int good = length == 2 * size;
    for (size_t i = 0; good && i < 2 * size; i++) {
        const char *const digit = text[i] == '\0' ? NULL : strchr(digits, text[i]);
        good = digit != NULL;
        if (good) {
            const uint32_t nibble = (uint32_t)(digit - digits);
            out[i / 2] = (uint8_t)(i % 2 == 0 ? nibble << 4 : out[i / 2] | nibble);
        }
    }
    if (!good) {
        fprintf(stderr, "verify: expected %zu bytes in lower-case hex, found %.*s\n", size, (int)length, text);
        exit(EXIT_USAGE);
    }
}

static uint32_t number(const char *text)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 0);
    if (*text == '\0' || *end != '\0' || value > UINT32_MAX) {
        fprintf(stderr, "verify: expected a 32-bit number, found %s\n", text);
        exit(EXIT_USAGE);
    }
    return (uint32_t)value;
}

static void keys(const char *list, struct trust *trust)
{
    uint32_t slot = 0;
    while (*list != '\0') {
        const size_t length = strcspn(list, ",");
        if (slot == OTP_SLOT_KEY_COUNT) {
            fprintf(stderr, "verify: expected at most %u key hashes\n", OTP_SLOT_KEY_COUNT);
            exit(EXIT_USAGE);
        }
        hex(list, length, trust->slot_keys[slot], DIGEST_SIZE);
        list += length + (list[length] == ',');
        slot++;
    }
}

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *const file = fopen(path, "rb");
    uint8_t *const bytes = malloc(RECORD_SIZE_MAX);
    if (file == NULL || bytes == NULL) {
        fprintf(stderr, "verify: cannot read %s\n", path);
        exit(EXIT_USAGE);
    }
    *size = fread(bytes, 1, RECORD_SIZE_MAX, file);
    fclose(file);
    return bytes;
}

int main(int argc, char **argv)
{
    struct trust trust = {0};
    size_t size;

    if (argc == 2 && strcmp(argv[1], "--serve") == 0) {
        return serve();
    }
    if (argc != 8) {
        fputs("usage: verify IMAGE SLOT_SIZE KEY_HASHES REVOKED COUNTER VENDOR CLASS | verify --serve\n", stderr);
        return EXIT_USAGE;
    }
    const uint32_t slot_size = number(argv[2]);
    keys(argv[3], &trust);
    trust.revoked = number(argv[4]);
    trust.counter = number(argv[5]);
    hex(argv[6], strlen(argv[6]), trust.vendor, sizeof trust.vendor);
    hex(argv[7], strlen(argv[7]), trust.klass, sizeof trust.klass);
    uint8_t *const bytes = read_file(argv[1], &size);
    const int result = judge(bytes, size, slot_size, &trust);
    free(bytes);
    return result;
}
