#include "boot/vaultblock.h"

#include <bearssl_block.h>

#include "boot/board.h"
#include "boot/kdf.h"
#include "boot/wipe.h"
#include "hardened.h"
#include "verify/bytes.h"
#include "verify/crypto.h"

#define PAGES 2u
#define NO_PAGE PAGES
#define AES_KEY_SIZE 16u
#define NONCE_SIZE 16u
#define TAG_SIZE DIGEST_SIZE
#define ERASED_WORD 0xFFFFFFFFu

enum block_offset {
    AT_NAME = 4,
    AT_VERSION = 8,
    AT_COUNTER = 12,
    AT_LENGTH = 16,
    AT_NONCE = 20,
    AT_VALUE = AT_NONCE + NONCE_SIZE,
};

#define BLOCK_SIZE_MAX (AT_VALUE + LINK_MAX_VALUE + TAG_SIZE)

_Static_assert(BLOCK_SIZE_MAX <= DATA_PAGE_SIZE, "fits a page");

static const uint8_t MAGIC[] = {'C', 'W', 'V', 'B'};

struct place {
    uint32_t page; /* 0, 1 or NO_PAGE */
    uint32_t counter;
};

static uint32_t page_offset(uint32_t name, uint32_t page)
{
    const uint32_t first = name == VAULT_CALIBRATION ? DATA_PAGE_VAULT_CALIBRATION : DATA_PAGE_VAULT_KEYS;
    return (first + page) * DATA_PAGE_SIZE;
}

static uint32_t fuses_of(uint32_t name)
{
    return name == VAULT_CALIBRATION ? OTP_VAULT_CALIBRATION_OFFSET : OTP_VAULT_KEYS_OFFSET;
}

_Static_assert(OTP_VAULT_CALIBRATION_SIZE == OTP_VAULT_KEYS_SIZE, "one size of thermometer");
#define FUSES_SIZE OTP_VAULT_KEYS_SIZE

static uint32_t committed_counter(uint32_t name)
{
    return otp_thermometer(fuses_of(name), FUSES_SIZE);
}

/* --- keys --- */
static void tag_of(uint32_t name, const uint8_t vault_key[SECRET_SIZE], const uint8_t *block, uint32_t size,
                   uint8_t tag[TAG_SIZE])
{
    uint8_t label[] = "vault authenticate?";
    uint8_t key[DIGEST_SIZE];
    label[sizeof label - 2u] = (uint8_t)name;
    hkdf_expand(vault_key, label, sizeof label - 1u, key, sizeof key);
    hmac_sha256(key, sizeof key, block, size, tag);
    wipe(key, sizeof key);
}

static void crypt(uint32_t name, const uint8_t vault_key[SECRET_SIZE], const uint8_t nonce[NONCE_SIZE],
                  uint8_t *data, uint32_t size)
{
    uint8_t label[] = "vault encrypt?";
    uint8_t key[AES_KEY_SIZE];
    br_aes_ct_ctr_keys cipher;
    label[sizeof label - 2u] = (uint8_t)name;
    hkdf_expand(vault_key, label, sizeof label - 1u, key, sizeof key);
    br_aes_ct_ctr_init(&cipher, key, sizeof key);
    (void)br_aes_ct_ctr_run(&cipher, nonce, first_word(nonce + 12u), data, size);
    wipe(&cipher, sizeof cipher);
    wipe(key, sizeof key);
}

/* --- which block is good --- */
static verdict seal_verdict(uint32_t name, const uint8_t vault_key[SECRET_SIZE], const uint8_t *block,
                            uint32_t length)
{
    uint8_t tag[TAG_SIZE];
    tag_of(name, vault_key, block, AT_VALUE + length, tag);
    const uint32_t other_name = read_u32(block + AT_NAME) ^ name;
    return verdict_of(other_name | bytes_differ(tag, block + AT_VALUE + length, sizeof tag));
}

static uint32_t judge(uint32_t name, const uint8_t vault_key[SECRET_SIZE], const uint8_t *block)
{
    const uint32_t length = read_u32(block + AT_LENGTH);
    const uint32_t committed = committed_counter(name);
    /* The magic alone is what a cut left of the phrase that is written last. */
    if (bytes_differ(block, MAGIC, sizeof MAGIC) != 0 || read_u32(block + AT_NAME) == ERASED_WORD) {
        return STATUS_VAULT_MISSING;
    }
    if (length == 0 || length > LINK_MAX_VALUE) {
        return STATUS_VAULT_SEAL;
    }
    if (verdict_differs(seal_verdict(name, vault_key, block, length)) != 0) {
        return STATUS_VAULT_SEAL;
    }
    return read_u32(block + AT_COUNTER) - committed <= 1u ? STATUS_OK : STATUS_VAULT_COUNTER;
}

/* The good block, and otherwise what is most to be said: an edited one before an old one before none. */
static uint32_t find(uint32_t name, const uint8_t vault_key[SECRET_SIZE], struct place *out)
{
    uint32_t worst = STATUS_VAULT_MISSING;
    *out = (struct place){.page = NO_PAGE};
    for (uint32_t page = 0; page < PAGES; page++) {
        const uint8_t *const block = flash_at(DATA_BASE + page_offset(name, page));
        const uint32_t status = judge(name, vault_key, block);
        const uint32_t counter = read_u32(block + AT_COUNTER);
        if (status == STATUS_OK && (out->page == NO_PAGE || counter > out->counter)) {
            *out = (struct place){page, counter};
        }
        if (status == STATUS_VAULT_SEAL || worst == STATUS_VAULT_MISSING) {
            worst = status;
        }
    }
    return out->page == NO_PAGE ? worst : STATUS_OK;
}

uint32_t vault_open(uint32_t name, const uint8_t vault_key[SECRET_SIZE], struct vault_value *out)
{
    struct place place;
    wipe(out, sizeof *out);
    const uint32_t status = find(name, vault_key, &place);
    if (status != STATUS_OK) {
        return status;
    }
    const uint8_t *const block = flash_at(DATA_BASE + page_offset(name, place.page));
    out->version = read_u32(block + AT_VERSION);
    out->counter = place.counter;
    out->length = read_u32(block + AT_LENGTH);
    copy_bytes(out->bytes, block + AT_VALUE, out->length);
    crypt(name, vault_key, block + AT_NONCE, out->bytes, out->length);
    return STATUS_OK;
}

/* --- write --- */
/* A source that is stuck would encrypt two values with one key stream. */
static uint32_t draw_nonce(uint8_t nonce[NONCE_SIZE])
{
    uint32_t before = reg_read(REG_TRNG);
    for (uint32_t at = 0; at < NONCE_SIZE; at += 4u) {
        const uint32_t word = reg_read(REG_TRNG);
        if (word == before) {
            return STATUS_MODULE_FAULT;
        }
        write_u32(nonce + at, word);
        before = word;
    }
    return STATUS_OK;
}

/* Whole phrases, the one with the magic last. */
static uint32_t program_block(uint32_t offset, const uint8_t *block, uint32_t size)
{
    uint32_t status = flash_erase(DATA_BANK, offset);
    for (uint32_t at = (size + WRITE_SIZE - 1u) / WRITE_SIZE * WRITE_SIZE; at != 0 && status == STATUS_OK;) {
        at -= WRITE_SIZE;
        status = flash_program(DATA_BANK, offset + at, read_u32(block + at), read_u32(block + at + 4u));
    }
    for (uint32_t at = 0; at < size && status == STATUS_OK; at++) {
        const volatile uint8_t *const written = flash_at(DATA_BASE + offset + at);
        status = *written == block[at] ? STATUS_OK : STATUS_FLASH_READBACK;
    }
    return status;
}

uint32_t vault_write(uint32_t name, const uint8_t vault_key[SECRET_SIZE], uint32_t version,
                     const uint8_t *value, uint32_t length)
{
    static uint8_t block[(BLOCK_SIZE_MAX + WRITE_SIZE - 1u) / WRITE_SIZE * WRITE_SIZE];
    struct place place;
    if (name >= VAULT_NAMES || length == 0 || length > LINK_MAX_VALUE) {
        return STATUS_LINK_FRAME;
    }
    const uint32_t committed = committed_counter(name);
    (void)find(name, vault_key, &place);
    if (place.page != NO_PAGE && place.counter != committed) {
        return STATUS_LINK_STATE;
    }
    if (committed == FUSES_SIZE * 8u) {
        return STATUS_OTP_ONE_WAY;
    }
    for (uint32_t i = 0; i < sizeof block; i++) {
        block[i] = i < sizeof MAGIC ? MAGIC[i] : i < AT_VERSION ? 0 : FLAG_ERASED;
    }
    block[AT_NAME] = (uint8_t)name;
    write_u32(block + AT_VERSION, version);
    write_u32(block + AT_COUNTER, committed + 1u);
    write_u32(block + AT_LENGTH, length);
    uint32_t status = draw_nonce(block + AT_NONCE);
    if (status == STATUS_OK) {
        copy_bytes(block + AT_VALUE, value, length);
        crypt(name, vault_key, block + AT_NONCE, block + AT_VALUE, length);
        tag_of(name, vault_key, block, AT_VALUE + length, block + AT_VALUE + length);
        const uint32_t page = place.page == 0 ? 1u : 0u;
        status = program_block(page_offset(name, page), block, AT_VALUE + length + TAG_SIZE);
    }
    wipe(block, sizeof block);
    return status;
}

uint32_t vault_commit(uint32_t name, const uint8_t vault_key[SECRET_SIZE], uint32_t *committed)
{
    struct place place;
    *committed = 0;
    uint32_t status = find(name, vault_key, &place);
    if (status == STATUS_OK && place.counter != committed_counter(name)) {
        status = otp_raise(fuses_of(name), FUSES_SIZE, place.counter);
        *committed = status == STATUS_OK;
    }
    return status;
}
