/* Unit tests of the vault on fake hardware, cut at every operation in three ways. */
#include <stdlib.h>
#include <string.h>

#include "boot/board.h"
#include "boot/vaultblock.h"
#include "cut.h"
#include "verify/bytes.h"

const uint32_t board_where = WHERE_ROM;

static const uint8_t KEY[SECRET_SIZE] = {1, 2, 3};

/* --- vault --- */
static uint32_t write_text(uint32_t name, const char *text)
{
    return vault_write(name, KEY, 7, (const uint8_t *)text, (uint32_t)strlen(text));
}

static uint32_t reads(uint32_t name, const char *text)
{
    struct vault_value value;
    return vault_open(name, KEY, &value) == STATUS_OK && value.version == 7 && value.length == strlen(text) &&
           memcmp(value.bytes, text, value.length) == 0;
}

static uint32_t opened(uint32_t name)
{
    struct vault_value value;
    memset(&value, 0xA5, sizeof value);
    const uint32_t status = vault_open(name, KEY, &value);
    CHECK(status == STATUS_OK || all_are(&value, 0, sizeof value));
    return status;
}

static uint32_t level(uint32_t name)
{
    return name == VAULT_CALIBRATION ? otp_thermometer(OTP_VAULT_CALIBRATION_OFFSET, OTP_VAULT_CALIBRATION_SIZE)
                                     : otp_thermometer(OTP_VAULT_KEYS_OFFSET, OTP_VAULT_KEYS_SIZE);
}

static uint32_t commit(uint32_t name)
{
    uint32_t committed;
    const uint32_t status = vault_commit(name, KEY, &committed);
    return status == STATUS_OK ? committed : status;
}

static uint8_t *vault_page(uint32_t name, uint32_t page)
{
    return fake.data +
           ((name == VAULT_CALIBRATION ? DATA_PAGE_VAULT_CALIBRATION : DATA_PAGE_VAULT_KEYS) + page) * DATA_PAGE_SIZE;
}

static void a_vault_is_written_committed_and_written_again(void)
{
    for (uint32_t name = 0; name < VAULT_NAMES; name++) {
        CHECK(opened(name) == STATUS_VAULT_MISSING && commit(name) == STATUS_VAULT_MISSING);
        CHECK(write_text(name, "one") == STATUS_OK && reads(name, "one") && level(name) == 0);
        CHECK(write_text(name, "early") == STATUS_LINK_STATE && reads(name, "one"));
        CHECK(commit(name) == 1 && level(name) == 1 && reads(name, "one"));
        CHECK(commit(name) == 0 && level(name) == 1);
        CHECK(write_text(name, "two, longer") == STATUS_OK && reads(name, "two, longer"));
        CHECK(commit(name) == 1 && level(name) == 2);
        CHECK(write_text(name, "three") == STATUS_OK && commit(name) == 1 && reads(name, "three"));
    }
    CHECK(fake.faults == 0 && all_are(vault_page(VAULT_KEYS, 2), 0xFF, DATA_PAGE_SIZE));
    CHECK(all_are(fake.data, 0xFF, 2 * DATA_PAGE_SIZE));
}

static uint32_t holds(const char *text, uint32_t size)
{
    for (uint32_t at = 0; at + size <= sizeof fake.data; at++) {
        if (memcmp(fake.data + at, text, size) == 0) {
            return 1;
        }
    }
    return 0;
}

static void a_vault_s_value_is_not_in_the_flash(void)
{
    static const char text[] = "calibration of cell seven";
    CHECK(write_text(VAULT_CALIBRATION, text) == STATUS_OK);
    CHECK(holds("CWVB", 4) && !holds(text, 8) && !holds(text + 12, 8));
}

static void a_nonce_is_four_new_words(void)
{
    uint8_t first[16];
    CHECK(write_text(VAULT_KEYS, "same") == STATUS_OK && commit(VAULT_KEYS) == 1);
    memcpy(first, vault_page(VAULT_KEYS, 0) + 20, sizeof first);
    CHECK(read_u32(first + 12) == fake.trng);
    CHECK(write_text(VAULT_KEYS, "same") == STATUS_OK);
    for (uint32_t at = 0; at < sizeof first; at += 4) {
        CHECK(read_u32(first + at) != read_u32(vault_page(VAULT_KEYS, 1) + 20 + at));
        CHECK(at == 0 || read_u32(first + at) != read_u32(first + at - 4));
    }
}

static void every_bit_of_a_block_is_sealed(void)
{
    uint8_t *const page = vault_page(VAULT_CALIBRATION, 0);
    CHECK(write_text(VAULT_CALIBRATION, "value") == STATUS_OK);
    for (uint32_t bit = 0; bit < (36 + 5 + 32) * 8; bit++) {
        page[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK(opened(VAULT_CALIBRATION) == (bit < 32 ? STATUS_VAULT_MISSING : STATUS_VAULT_SEAL));
        CHECK(commit(VAULT_CALIBRATION) != 1 && level(VAULT_CALIBRATION) == 0);
        page[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    CHECK(reads(VAULT_CALIBRATION, "value"));
    static const uint32_t lengths[] = {0, 1025, 0x7FFFFFFF, UINT32_MAX};
    for (uint32_t i = 0; i < 4; i++) {
        write_u32(page + 16, lengths[i]);
        CHECK(opened(VAULT_CALIBRATION) == STATUS_VAULT_SEAL);
    }
}

static void a_block_is_its_name_s_and_its_module_s(void)
{
    static const uint8_t other[SECRET_SIZE] = {9};
    struct vault_value value;
    CHECK(write_text(VAULT_CALIBRATION, "value") == STATUS_OK);
    memcpy(vault_page(VAULT_KEYS, 0), vault_page(VAULT_CALIBRATION, 0), DATA_PAGE_SIZE);
    CHECK(opened(VAULT_KEYS) == STATUS_VAULT_SEAL);
    vault_page(VAULT_KEYS, 0)[4] = VAULT_KEYS;
    CHECK(opened(VAULT_KEYS) == STATUS_VAULT_SEAL);
    CHECK(vault_open(VAULT_CALIBRATION, other, &value) == STATUS_VAULT_SEAL);
    memcpy(vault_page(VAULT_CALIBRATION, 1), vault_page(VAULT_CALIBRATION, 0), DATA_PAGE_SIZE);
    memset(vault_page(VAULT_CALIBRATION, 0), 0xFF, DATA_PAGE_SIZE);
    CHECK(reads(VAULT_CALIBRATION, "value")); /* the page is not what it is bound to */
}

static void an_old_block_is_refused(void)
{
    static uint8_t old[DATA_PAGE_SIZE];
    CHECK(write_text(VAULT_KEYS, "old") == STATUS_OK && commit(VAULT_KEYS) == 1);
    memcpy(old, vault_page(VAULT_KEYS, 0), sizeof old);
    CHECK(write_text(VAULT_KEYS, "new") == STATUS_OK && reads(VAULT_KEYS, "new"));
    memcpy(vault_page(VAULT_KEYS, 1), old, sizeof old); /* before the commit: the old one is good still */
    CHECK(reads(VAULT_KEYS, "old") && commit(VAULT_KEYS) == 0);
    CHECK(write_text(VAULT_KEYS, "new") == STATUS_OK && commit(VAULT_KEYS) == 1);
    memcpy(vault_page(VAULT_KEYS, 0), old, sizeof old);
    memcpy(vault_page(VAULT_KEYS, 1), old, sizeof old);
    CHECK(opened(VAULT_KEYS) == STATUS_VAULT_COUNTER && commit(VAULT_KEYS) == STATUS_VAULT_COUNTER);
    vault_page(VAULT_KEYS, 0)[40] ^= 1; /* an edit is told before an old one, whichever page */
    CHECK(opened(VAULT_KEYS) == STATUS_VAULT_SEAL);
    vault_page(VAULT_KEYS, 0)[40] ^= 1;
    vault_page(VAULT_KEYS, 1)[40] ^= 1;
    CHECK(opened(VAULT_KEYS) == STATUS_VAULT_SEAL);
    CHECK(level(VAULT_KEYS) == 2);
    CHECK(write_text(VAULT_KEYS, "again") == STATUS_OK && reads(VAULT_KEYS, "again"));
}

static void a_block_from_the_future_is_refused(void)
{
    CHECK(write_text(VAULT_KEYS, "one") == STATUS_OK && commit(VAULT_KEYS) == 1);
    CHECK(write_text(VAULT_KEYS, "two") == STATUS_OK);
    memset(vault_page(VAULT_KEYS, 0), 0xFF, DATA_PAGE_SIZE);
    fake.fuses[OTP_VAULT_KEYS_OFFSET / 4] = 0;
    CHECK(opened(VAULT_KEYS) == STATUS_VAULT_COUNTER);
}

static void a_vault_takes_what_fits(void)
{
    static uint8_t big[LINK_MAX_VALUE + 1];
    struct vault_value value;
    memset(big, 0x5A, sizeof big);
    CHECK(vault_write(VAULT_NAMES, KEY, 1, big, 1) == STATUS_LINK_FRAME);
    CHECK(vault_write(VAULT_KEYS, KEY, 1, big, 0) == STATUS_LINK_FRAME);
    CHECK(vault_write(VAULT_KEYS, KEY, 1, big, LINK_MAX_VALUE + 1) == STATUS_LINK_FRAME);
    CHECK(fake.operations == 0);
    CHECK(vault_write(VAULT_KEYS, KEY, 1, big, LINK_MAX_VALUE) == STATUS_OK);
    CHECK(vault_open(VAULT_KEYS, KEY, &value) == STATUS_OK && value.length == LINK_MAX_VALUE);
    CHECK(all_are(value.bytes, 0x5A, LINK_MAX_VALUE));
    CHECK(commit(VAULT_KEYS) == 1 && otp_raise(OTP_VAULT_KEYS_OFFSET, 32, 256) == STATUS_OK);
    CHECK(vault_write(VAULT_KEYS, KEY, 1, big, 1) == STATUS_OTP_ONE_WAY);
    CHECK(all_are(vault_page(VAULT_KEYS, 1), 0xFF, DATA_PAGE_SIZE));
}

static void a_vault_is_not_written_without_chance_or_flash(void)
{
    for (uint32_t words = 0; words < 5; words++) {
        fake.trng_words = words;
        CHECK(write_text(VAULT_KEYS, "one") == STATUS_MODULE_FAULT && fake.operations == 0);
    }
    fake.trng_words = UINT32_MAX;
    fake.flash_closed = 1;
    CHECK(write_text(VAULT_KEYS, "one") == STATUS_FLASH_LOCKED);
    fake.flash_closed = 0;
    fake.flash_broken = 1;
    CHECK(write_text(VAULT_KEYS, "one") == STATUS_FLASH_READBACK);
    fake.flash_broken = 0;
    CHECK(write_text(VAULT_KEYS, "one") == STATUS_OK);
    fake.otp_broken = 1;
    CHECK(commit(VAULT_KEYS) == STATUS_OTP_ONE_WAY && level(VAULT_KEYS) == 0);
}

static void write_new(void)
{
    (void)write_text(VAULT_KEYS, "the new value, of two blocks");
}

static void commit_new(void)
{
    (void)commit(VAULT_KEYS);
}

static void a_cut_leaves_the_old_value_or_the_new(void)
{
    static const char *const values[] = {"the old value", "the new value, of two blocks"};
    for (uint32_t torn = 0; torn < FAKE_TORN_COUNT; torn++) {
        for (uint32_t done = 0, at = 0; done == 0; at++) {
            fake_reset();
            CHECK(write_text(VAULT_KEYS, values[0]) == STATUS_OK && commit(VAULT_KEYS) == 1);
            done = cut_at(at, torn, write_new) == 0;
            CHECK(reads(VAULT_KEYS, values[done]));
            CHECK(commit(VAULT_KEYS) == done && reads(VAULT_KEYS, values[done]));
            write_new(); /* and it can be written again */
            CHECK(reads(VAULT_KEYS, values[1]) && commit(VAULT_KEYS) == 1);
        }
        for (uint32_t at = 0;; at++) {
            fake_reset();
            CHECK(write_text(VAULT_KEYS, values[0]) == STATUS_OK && commit(VAULT_KEYS) == 1);
            write_new();
            if (cut_at(at, torn, commit_new) == 0) {
                break;
            }
            CHECK(reads(VAULT_KEYS, values[1]));
            CHECK(commit(VAULT_KEYS) <= 1 && level(VAULT_KEYS) == 2 && reads(VAULT_KEYS, values[1]));
        }
    }
}

static void a_cut_of_the_first_write_leaves_no_block(void)
{
    for (uint32_t torn = 0; torn < FAKE_TORN_COUNT; torn++) {
        for (uint32_t at = 0;; at++) {
            fake_reset();
            if (cut_at(at, torn, write_new) == 0) {
                break;
            }
            CHECK(opened(VAULT_KEYS) == STATUS_VAULT_MISSING);
        }
    }
}

int main(void)
{
    static const struct test tests[] = {
        TEST(a_vault_is_written_committed_and_written_again),
        TEST(a_vault_s_value_is_not_in_the_flash),
        TEST(a_nonce_is_four_new_words),
        TEST(every_bit_of_a_block_is_sealed),
        TEST(a_block_is_its_name_s_and_its_module_s),
        TEST(an_old_block_is_refused),
        TEST(a_block_from_the_future_is_refused),
        TEST(a_vault_takes_what_fits),
        TEST(a_vault_is_not_written_without_chance_or_flash),
        TEST(a_cut_leaves_the_old_value_or_the_new),
        TEST(a_cut_of_the_first_write_leaves_no_block),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
