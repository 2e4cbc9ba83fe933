/*
 * The boot chain's primitives as a host program, for comparison with Python: one line of words on
 * standard input, one line out (or `?`, and the program ends with 2). Bytes are lower-case hex, `-`
 * none. firmware/README.md lists the commands.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/board.h"
#include "boot/bootcount.h"
#include "boot/kdf.h"
#include "boot/ladder.h"
#include "boot/record.h"
#include "boot/revocation.h"
#include "boot/vaultblock.h"
#include "fake_module.h"
#include "verify/bytes.h"

#define EXIT_USAGE 2
#define WORDS_MAX 12
#define LINE_MAX 65536

const uint32_t board_where = WHERE_ROM;

struct bytes {
    uint8_t *data; /* a heap block of exactly its size, for ASan */
    uint32_t size;
};

static _Noreturn void usage(const char *word)
{
    fprintf(stderr, "boot: cannot use %s\n", word);
    puts("?");
    exit(EXIT_USAGE);
}

static struct bytes hex(const char *word)
{
    const size_t digits = strcmp(word, "-") == 0 ? 0 : strlen(word);
    struct bytes out = {malloc(digits / 2 + 1), (uint32_t)(digits / 2)};
    for (size_t i = 0; i < digits / 2; i++) {
        unsigned byte;
        if (sscanf(word + 2 * i, "%2x", &byte) != 1) {
            usage(word);
        }
        out.data[i] = (uint8_t)byte;
    }
    if (digits % 2 != 0 || out.data == NULL) {
        usage(word);
    }
    return (struct bytes){realloc(out.data, out.size == 0 ? 1 : out.size), out.size};
}

static struct bytes sized(const char *word, uint32_t size)
{
    const struct bytes out = hex(word);
    if (out.size != size) {
        usage(word);
    }
    return out;
}

static uint32_t number(const char *word)
{
    return (uint32_t)strtoul(word, NULL, 0);
}

static void print(const uint8_t *data, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        printf("%02x", data[i]);
    }
    fputs(size == 0 ? "- " : " ", stdout);
}

static void print_status(uint32_t status)
{
#define ROW(word, code)                                                                              \
    if (status == (word)) {                                                                          \
        printf("%s ", code);                                                                         \
        return;                                                                                      \
    }
    STATUS_NAMES(ROW)
#undef ROW
    printf("0x%08" PRIx32 " ", status);
}

static void put_fuses(uint32_t offset, const char *word, uint32_t size)
{
    const struct bytes value = sized(word, size);
    for (uint32_t at = 0; at < size; at += 4) {
        fake.fuses[(offset + at) / 4] = read_u32(value.data + at);
    }
    free(value.data);
}

static void put_level(uint32_t offset, uint32_t level)
{
    for (uint32_t bit = 0; bit < level; bit++) {
        fake.fuses[offset / 4 + bit / 32] |= 1u << (bit % 32);
    }
}

static void put_page(uint32_t page, const char *word)
{
    const struct bytes value = hex(word);
    if (value.size > DATA_PAGE_SIZE) {
        usage(word);
    }
    memcpy(fake.data + page * DATA_PAGE_SIZE, value.data, value.size);
    free(value.data);
}

/* hkdf SALT SECRET INFO SIZE: PRK OUT */
static void do_hkdf(char **words)
{
    const struct bytes salt = hex(words[0]);
    const struct bytes secret = hex(words[1]);
    const struct bytes info = hex(words[2]);
    const uint32_t size = number(words[3]);
    uint8_t prk[DIGEST_SIZE];
    uint8_t *const out = malloc(size);
    hkdf_extract(salt.data, salt.size, secret.data, secret.size, prk);
    hkdf_expand(prk, info.data, info.size, out, size);
    print(prk, sizeof prk);
    print(out, size);
    free(salt.data);
    free(secret.data);
    free(info.data);
    free(out);
}

/* hmac KEY DATA: MAC */
static void do_hmac(char **words)
{
    const struct bytes key = hex(words[0]);
    const struct bytes data = hex(words[1]);
    uint8_t mac[DIGEST_SIZE];
    hmac_sha256(key.data, key.size, data.data, data.size, mac);
    print(mac, sizeof mac);
    free(key.data);
    free(data.data);
}

/* ladder SECRET: update scalar, update point, ROM record, stage, loader record, report, vault */
static void do_ladder(char **words)
{
    const struct bytes secret = sized(words[0], SECRET_SIZE);
    struct handover keys = {0};
    uint8_t rom_record[SECRET_SIZE];
    uint8_t loader_record[SECRET_SIZE];
    uint8_t point[P256_POINT_SIZE];
    ladder_rom(secret.data, &keys, rom_record);
    update_public_key(keys.update_scalar, point);
    print(keys.update_scalar, SECRET_SIZE);
    print(point, sizeof point);
    print(rom_record, SECRET_SIZE);
    print(keys.stage_key, SECRET_SIZE);
    ladder_loader(&keys, loader_record);
    print(loader_record, SECRET_SIZE);
    print(keys.report_key, SECRET_SIZE);
    print(keys.vault_key, SECRET_SIZE);
    free(secret.data);
}

/* record BY LIFECYCLE BANK BOOT_COUNT COUNTER VERSION DIGEST KEY: the record */
static void do_record(char **words)
{
    const struct bytes version = sized(words[5], 8);
    const struct bytes digest = sized(words[6], DIGEST_SIZE);
    const struct bytes key = sized(words[7], SECRET_SIZE);
    const uint8_t *const v = version.data;
    const struct record record = {number(words[0]),          number(words[1]),
                                  number(words[2]),          number(words[3]),
                                  number(words[4]),          {v[0], v[1], read_u16(v + 2), read_u32(v + 4)},
                                  digest.data};
    uint8_t out[RECORD_SIZE];
    memset(out, 0xA5, sizeof out);
    record_make(&record, key.data, out);
    print(out, sizeof out);
    free(version.data);
    free(digest.data);
    free(key.data);
}

static uint32_t vault_page(uint32_t name)
{
    return name == VAULT_CALIBRATION ? DATA_PAGE_VAULT_CALIBRATION : DATA_PAGE_VAULT_KEYS;
}

static uint32_t put_vault(char **words)
{
    const uint32_t name = number(words[0]);
    put_level(name == VAULT_CALIBRATION ? OTP_VAULT_CALIBRATION_OFFSET : OTP_VAULT_KEYS_OFFSET, number(words[2]));
    put_page(vault_page(name), words[3]);
    put_page(vault_page(name) + 1, words[4]);
    return name;
}

/* open NAME KEY COMMITTED PAGE PAGE: status, version, counter, value */
static void do_open(char **words)
{
    const uint32_t name = put_vault(words);
    const struct bytes key = sized(words[1], SECRET_SIZE);
    struct vault_value value;
    print_status(vault_open(name, key.data, &value));
    printf("%" PRIu32 " %" PRIu32 " ", value.version, value.counter);
    print(value.bytes, value.length);
    free(key.data);
}

/* write NAME KEY COMMITTED PAGE PAGE VERSION VALUE: status and the two pages */
static void do_write(char **words)
{
    const uint32_t name = put_vault(words);
    const struct bytes key = sized(words[1], SECRET_SIZE);
    const struct bytes value = hex(words[6]);
    print_status(vault_write(name, key.data, number(words[5]), value.data, value.size));
    print(fake.data + vault_page(name) * DATA_PAGE_SIZE, DATA_PAGE_SIZE);
    print(fake.data + (vault_page(name) + 1) * DATA_PAGE_SIZE, DATA_PAGE_SIZE);
    free(key.data);
    free(value.data);
}

/* revoke DATA QUORUM SLOTS REVOKED DEVELOPMENT LIFECYCLE IN_USE: status and the revoked fuses.
 * revoke_stuck: fuses that say yes and do not burn; revoke_locked: that say no. */
static void do_revoke(char **words)
{
    const struct bytes data = hex(words[0]);
    const struct bytes in_use = hex(words[6]);
    struct refusal why = {0};
    put_fuses(OTP_ROOT_QUORUM_OFFSET, words[1], OTP_ROOT_QUORUM_SIZE);
    put_fuses(OTP_SLOT_KEYS_OFFSET, words[2], OTP_SLOT_KEYS_SIZE);
    fake.fuses[OTP_REVOKED_OFFSET / 4] = number(words[3]);
    fake.fuses[OTP_DEVELOPMENT_OFFSET / 4] = number(words[4]);
    fake.fuses[OTP_LIFECYCLE_OFFSET / 4] = number(words[5]);
    print_status(revocation_apply(data.data, data.size, (const uint8_t(*)[DIGEST_SIZE])(void *)in_use.data,
                                  in_use.size / DIGEST_SIZE, &why));
    printf("0x%" PRIx32, fake.fuses[OTP_REVOKED_OFFSET / 4]);
    free(data.data);
    free(in_use.data);
}

static void do_revoke_stuck(char **words)
{
    fake.otp_broken = 1;
    do_revoke(words);
}

static void do_revoke_locked(char **words)
{
    fake.burn_limit = 0;
    do_revoke(words);
}

/* carry (words as revoke): the same from the page; status, revoked fuses, whether the page still waits.
 * carry_closed: a flash that cannot be erased. */
static void do_carry(char **words)
{
    const struct bytes data = hex(words[0]);
    struct refusal why = {0};
    uint8_t *const page = fake.data + DATA_PAGE_REVOCATION * DATA_PAGE_SIZE;
    put_fuses(OTP_ROOT_QUORUM_OFFSET, words[1], OTP_ROOT_QUORUM_SIZE);
    put_fuses(OTP_SLOT_KEYS_OFFSET, words[2], OTP_SLOT_KEYS_SIZE);
    write_u32(page, data.size);
    memcpy(page + 4, data.data, data.size);
    print_status(revocation_carry_out(NULL, 0, &why));
    printf("0x%" PRIx32 " %" PRIu32, fake.fuses[OTP_REVOKED_OFFSET / 4], revocation_waits());
    free(data.data);
}

static void do_carry_closed(char **words)
{
    fake.flash_closed = 1;
    do_carry(words);
}

/* decode DATA: status of the revocation's format */
static void do_decode(char **words)
{
    const struct bytes data = hex(words[0]);
    struct revocation out;
    struct refusal why = {0};
    print_status(revocation_decode(data.data, data.size, &out, &why));
    free(data.data);
}

/* count EPOCH PAGE PAGE: the boot's count and the epoch after it */
static void do_count(char **words)
{
    put_level(OTP_BOOT_EPOCH_OFFSET, number(words[0]));
    put_page(DATA_PAGE_BOOT_COUNT, words[1]);
    put_page(DATA_PAGE_BOOT_COUNT + 1, words[2]);
    printf("%" PRIu32 " ", boot_count_next());
    printf("%" PRIu32, otp_thermometer(OTP_BOOT_EPOCH_OFFSET, OTP_BOOT_EPOCH_SIZE));
}

static const struct {
    const char *name;
    void (*run)(char **words);
    int words;
} commands[] = {
    {"hkdf", do_hkdf, 4}, {"hmac", do_hmac, 2},   {"ladder", do_ladder, 1}, {"record", do_record, 8},
    {"open", do_open, 5}, {"write", do_write, 7}, {"revoke", do_revoke, 7}, {"decode", do_decode, 1},
    {"count", do_count, 3},
    {"revoke_stuck", do_revoke_stuck, 7}, {"revoke_locked", do_revoke_locked, 7},
    {"carry", do_carry, 7}, {"carry_closed", do_carry_closed, 7},
};

static void answer(char *line)
{
    char *words[WORDS_MAX] = {0};
    int count = 0;
    for (char *word = strtok(line, " \n"); word != NULL && count < WORDS_MAX; word = strtok(NULL, " \n")) {
        words[count++] = word;
    }
    for (size_t i = 0; count != 0 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(words[0], commands[i].name) == 0 && count - 1 == commands[i].words) {
            fake_reset();
            commands[i].run(words + 1);
            putchar('\n');
            fflush(stdout);
            return;
        }
    }
    usage(count == 0 ? "an empty line" : words[0]);
}

int main(void)
{
    static char line[LINE_MAX];
    while (fgets(line, sizeof line, stdin) != NULL) {
        answer(line);
    }
    return EXIT_SUCCESS;
}
