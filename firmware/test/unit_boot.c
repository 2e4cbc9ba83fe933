/*
 * Unit tests of keys, boot count, vault, revocation and the tamper response on fake hardware; each
 * write is also cut, in three ways, at every operation. What they compute is compared with Python's in
 * tests/vectors/test_boot_host.py.
 */
#include <stdlib.h>
#include <string.h>

#include "boot/board.h"
#include "boot/bootcount.h"
#include "boot/kdf.h"
#include "boot/ladder.h"
#include "boot/record.h"
#include "boot/revocation.h"
#include "boot/tamper.h"
#include "boot/vaultblock.h"
#include "boot/wipe.h"
#include "check.h"
#include "verify/bytes.h"
#include "verify/crypto.h"

const uint32_t board_where = WHERE_ROM;

static const uint8_t KEY[SECRET_SIZE] = {1, 2, 3};

static uint32_t all_are(const void *data, uint8_t byte, uint32_t size)
{
    const uint8_t *const bytes = data;
    for (uint32_t i = 0; i < size; i++) {
        if (bytes[i] != byte) {
            return 0;
        }
    }
    return 1;
}

/* Runs `act` with the cut after `operations` of it; 1 when it was cut, 0 when it had fewer. */
static uint32_t cut_at(uint32_t operations, uint32_t torn, void (*act)(void))
{
    volatile uint32_t was_cut = 1;
    fake.operations = 0;
    fake.cut_after = operations;
    fake.torn = torn;
    if (setjmp(fake.cut) == 0) {
        act();
        was_cut = 0;
    }
    fake.cut_after = UINT32_MAX;
    return was_cut;
}

/* --- fuses and flash --- */
static void any_thermometer_is_raised(void)
{
    CHECK(otp_raise(OTP_VAULT_KEYS_OFFSET, OTP_VAULT_KEYS_SIZE, 33) == STATUS_OK);
    CHECK(otp_thermometer(OTP_VAULT_KEYS_OFFSET, OTP_VAULT_KEYS_SIZE) == 33 && fake.burns == 33);
    CHECK(otp_thermometer(OTP_VAULT_CALIBRATION_OFFSET, OTP_VAULT_CALIBRATION_SIZE) == 0);
    CHECK(otp_thermometer(OTP_BOOT_EPOCH_OFFSET, OTP_BOOT_EPOCH_SIZE) == 0);
    CHECK(otp_raise(OTP_VAULT_KEYS_OFFSET, OTP_VAULT_KEYS_SIZE, 256) == STATUS_OK);
    CHECK(otp_raise(OTP_VAULT_KEYS_OFFSET, OTP_VAULT_KEYS_SIZE, 257) == STATUS_OTP_ONE_WAY);
    CHECK(otp_thermometer(OTP_BOOT_EPOCH_OFFSET, OTP_BOOT_EPOCH_SIZE) == 0); /* the next fuses */
    fake.fuses[OTP_BOOT_EPOCH_OFFSET / 4] = 1;
    CHECK(otp_thermometer(OTP_VAULT_KEYS_OFFSET, OTP_VAULT_KEYS_SIZE) == 256);
    fake.otp_broken = 1;
    CHECK(otp_raise(OTP_BOOT_EPOCH_OFFSET, OTP_BOOT_EPOCH_SIZE, 2) == STATUS_OTP_ONE_WAY);
}

static void lifecycle_is_the_highest_byte(void)
{
    static const struct {
        uint32_t fuses;
        uint32_t state;
    } rows[] = {{0, LIFECYCLE_BLANK},
                {LIFECYCLE_PROVISIONED_FUSES, LIFECYCLE_PROVISIONED},
                {1, LIFECYCLE_PROVISIONED},
                {0x80, LIFECYCLE_PROVISIONED},
                {0xFFFF, LIFECYCLE_PRODUCTION},
                {0x1FF, LIFECYCLE_PRODUCTION},
                {LIFECYCLE_TAMPERED_FUSES, LIFECYCLE_TAMPERED},
                {0x0001FFFF, LIFECYCLE_TAMPERED},
                {LIFECYCLE_RETIRED_FUSES, LIFECYCLE_RETIRED},
                {0x01000000, LIFECYCLE_RETIRED}};
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fake.fuses[OTP_LIFECYCLE_OFFSET / 4] = rows[i].fuses;
        CHECK(otp_lifecycle() == rows[i].state);
    }
}

static void the_data_flash_has_pages_of_its_own(void)
{
    const uint32_t page = 3 * DATA_PAGE_SIZE;
    CHECK(flash_program(DATA_BANK, page + 8, 0x11223344, 0x55667788) == STATUS_OK);
    CHECK(flash_word(DATA_BASE + page + 8) == 0x11223344 && flash_word(DATA_BASE + page + 12) == 0x55667788);
    CHECK(flash_program(DATA_BANK, page + 8, 0, 0) == STATUS_FLASH_UNERASED);
    CHECK(flash_program(DATA_BANK, DATA_SIZE, 0, 0) == STATUS_FLASH_RANGE);
    CHECK(flash_program(DATA_BANK + 1, 0, 0, 0) == STATUS_FLASH_RANGE);
    CHECK(flash_program(DATA_BANK, page - 8, 0, 0) == STATUS_OK);
    CHECK(flash_erase(DATA_BANK, page + 100) == STATUS_OK);
    CHECK(all_are(fake.data + page, 0xFF, DATA_PAGE_SIZE) && fake.data[page - 8] == 0);
    CHECK(all_are(fake.banks, 0xFF, sizeof fake.banks));
}

/* --- keys --- */
static uint32_t unfit;    /* so many candidates for the update scalar come out as all ones */
static uint32_t attempts; /* derived */

void __real_hkdf_expand(const uint8_t *prk, const void *info, uint32_t info_size, uint8_t *out, uint32_t size);
void __wrap_hkdf_expand(const uint8_t *prk, const void *info, uint32_t info_size, uint8_t *out, uint32_t size);

void __wrap_hkdf_expand(const uint8_t *prk, const void *info, uint32_t info_size, uint8_t *out, uint32_t size)
{
    __real_hkdf_expand(prk, info, info_size, out, size);
    if (info_size == 7 && memcmp(info, "update", 6) == 0) {
        CHECK(((const uint8_t *)info)[6] == attempts);
        if (attempts++ < unfit) {
            memset(out, 0xFF, size);
        }
    }
}

static void the_first_fit_candidate_is_the_scalar(void)
{
    static const uint32_t rejected[] = {0, 1, 5, 255, 256};
    struct handover keys;
    uint8_t rom_record[SECRET_SIZE];
    for (uint32_t i = 0; i < sizeof rejected / sizeof rejected[0]; i++) {
        attempts = 0;
        unfit = rejected[i];
        ladder_rom(KEY, &keys, rom_record);
        CHECK(attempts == (unfit < 256 ? unfit + 1 : 256));
        CHECK(all_are(keys.update_scalar, 0, SECRET_SIZE) == (unfit == 256));
    }
    unfit = 0;
}

static void a_scalar_lies_between_0_and_n(void)
{
    uint8_t order[SECRET_SIZE] = {0xFF, 0xFF, 0xFF, 0xFF, 0,    0,    0,    0,    0xFF, 0xFF, 0xFF,
                                  0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA, 0xAD, 0xA7, 0x17,
                                  0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51};
    uint8_t scalar[SECRET_SIZE] = {0};
    CHECK(scalar_in_range(scalar) == 0);
    scalar[31] = 1;
    CHECK(scalar_in_range(scalar) == UINT32_MAX);
    memset(scalar, 0xFF, sizeof scalar);
    CHECK(scalar_in_range(scalar) == 0);
    CHECK(scalar_in_range(order) == 0);
    for (uint32_t i = 0; i < SECRET_SIZE; i++) { /* one byte lower, one byte higher */
        const uint8_t before = order[i];
        order[i] = (uint8_t)(before - 1);
        CHECK(scalar_in_range(order) == (before != 0 ? UINT32_MAX : 0));
        order[i] = (uint8_t)(before + 1);
        CHECK(scalar_in_range(order) == (before != 0xFF ? 0 : UINT32_MAX));
        order[i] = before;
    }
}

static void the_ladder_hands_on_only_what_is_the_next_stage_s(void)
{
    struct handover keys;
    uint8_t rom_record[SECRET_SIZE];
    uint8_t loader_record[SECRET_SIZE];
    uint8_t vault[SECRET_SIZE];
    memset(&keys, 0, sizeof keys);
    attempts = 0;
    ladder_rom(KEY, &keys, rom_record);
    CHECK(all_are(keys.report_key, 0, SECRET_SIZE) && all_are(keys.vault_key, 0, SECRET_SIZE));
    CHECK(!all_are(keys.update_scalar, 0, SECRET_SIZE) && !all_are(keys.stage_key, 0, SECRET_SIZE));
    vault_key_from_stage(keys.stage_key, vault);
    ladder_loader(&keys, loader_record);
    CHECK(all_are(keys.update_scalar, 0, SECRET_SIZE) && all_are(keys.stage_key, 0, SECRET_SIZE));
    CHECK(memcmp(vault, keys.vault_key, SECRET_SIZE) == 0);
    CHECK(memcmp(rom_record, loader_record, SECRET_SIZE) != 0);
    CHECK(memcmp(keys.report_key, keys.vault_key, SECRET_SIZE) != 0);
    CHECK(keys.lifecycle == 0 && keys.boot_count == 0 && all_are(keys.rom_record, 0, RECORD_SIZE));
}

static void no_scalar_has_no_public_key(void)
{
    static const uint8_t zero[SECRET_SIZE];
    uint8_t point[P256_POINT_SIZE];
    uint8_t one[SECRET_SIZE] = {0};
    one[31] = 1;
    update_public_key(zero, point);
    CHECK(all_are(point, 0, sizeof point));
    update_public_key(one, point); /* the generator */
    CHECK(point[0] == 4 && point[1] == 0x6B && point[2] == 0x17 && point[64] == 0xF5);
}

static void a_wipe_is_whole(void)
{
    uint8_t bytes[67];
    memset(bytes, 0xA5, sizeof bytes);
    wipe(bytes + 1, 65);
    CHECK(bytes[0] == 0xA5 && bytes[66] == 0xA5 && all_are(bytes + 1, 0, 65));
}

/* --- boot count --- */
static uint32_t epoch(void)
{
    return otp_thermometer(OTP_BOOT_EPOCH_OFFSET, OTP_BOOT_EPOCH_SIZE);
}

static void raise_epoch(uint32_t level)
{
    CHECK(otp_raise(OTP_BOOT_EPOCH_OFFSET, OTP_BOOT_EPOCH_SIZE, level) == STATUS_OK);
}

static uint8_t *count_at(uint32_t page, uint32_t entry)
{
    return fake.data + (DATA_PAGE_BOOT_COUNT + page) * DATA_PAGE_SIZE + entry * WRITE_SIZE;
}

static void put_count(uint32_t page, uint32_t entry, uint32_t count)
{
    write_u32(count_at(page, entry), count);
    write_u32(count_at(page, entry) + 4, ~count);
}

static void counts_rise_by_one_over_pages_and_epochs(void)
{
    uint32_t last = boot_count_next();
    CHECK(last == BOOTS_PER_EPOCH && epoch() == 1);
    for (uint32_t i = 0; i < 2 * BOOTS_PER_EPOCH + 700; i++) {
        const uint32_t count = boot_count_next();
        CHECK(count == last + 1 && epoch() == count / BOOTS_PER_EPOCH);
        last = count;
    }
    CHECK(fake.burns == 3 && fake.faults == 0);
}

static void lost_pages_cost_an_epoch_and_repeat_nothing(void)
{
    const uint32_t before = boot_count_next();
    memset(fake.data, 0xFF, sizeof fake.data);
    const uint32_t erased = boot_count_next();
    CHECK(erased > before && erased == 2 * BOOTS_PER_EPOCH && epoch() == 2);
    memset(fake.data, 0, 2 * DATA_PAGE_SIZE);
    CHECK(boot_count_next() == 3 * BOOTS_PER_EPOCH);
    CHECK(boot_count_next() == 3 * BOOTS_PER_EPOCH + 1);
    for (uint32_t i = 0; i < 2 * DATA_PAGE_SIZE; i++) {
        fake.data[i] = (uint8_t)(i * 37u + 11u);
    }
    CHECK(boot_count_next() == 4 * BOOTS_PER_EPOCH && epoch() == 4);
    CHECK(boot_count_next() == 4 * BOOTS_PER_EPOCH + 1 && epoch() == 4);
}

static void old_and_impossible_counts_are_not_believed(void)
{
    raise_epoch(5);
    put_count(0, 0, 5 * BOOTS_PER_EPOCH - 1); /* an older epoch's */
    put_count(1, 0, 7 * BOOTS_PER_EPOCH);     /* no boot has come there */
    put_count(1, 1, UINT32_MAX - 1);
    CHECK(boot_count_next() == 6 * BOOTS_PER_EPOCH && epoch() == 6);
    fake_reset();
    raise_epoch(5);
    put_count(1, 3, 5 * BOOTS_PER_EPOCH + 9);
    put_count(0, 7, 5 * BOOTS_PER_EPOCH + 4);
    CHECK(boot_count_next() == 5 * BOOTS_PER_EPOCH + 10 && epoch() == 5);
    CHECK(read_u32(count_at(1, 4)) == 5 * BOOTS_PER_EPOCH + 10);
    count_at(1, 4)[5] ^= 1; /* not its complement any more */
    CHECK(boot_count_next() == 5 * BOOTS_PER_EPOCH + 10);
    CHECK(read_u32(count_at(1, 5)) == 5 * BOOTS_PER_EPOCH + 10);
}

static void the_highest_count_of_a_page_is_the_last(void)
{
    raise_epoch(5);
    put_count(0, 0, 5 * BOOTS_PER_EPOCH + 9);
    put_count(0, 1, 5 * BOOTS_PER_EPOCH + 4);
    CHECK(boot_count_next() == 5 * BOOTS_PER_EPOCH + 10);
    fake_reset();
    put_count(0, 0, 0); /* the first epoch of all is never used */
    CHECK(boot_count_next() == BOOTS_PER_EPOCH && epoch() == 1);
}

static void counts_are_those_of_the_epoch_s_window(void)
{
    raise_epoch(5);
    put_count(0, 0, 5 * BOOTS_PER_EPOCH);
    CHECK(boot_count_next() == 5 * BOOTS_PER_EPOCH + 1);
    fake_reset();
    raise_epoch(5);
    put_count(0, 0, 7 * BOOTS_PER_EPOCH - 2); /* a burn that failed: above the fuses' epoch */
    CHECK(boot_count_next() == 7 * BOOTS_PER_EPOCH - 1 && epoch() == 6);
}

static void a_flash_that_does_not_write_costs_an_epoch_a_boot(void)
{
    const uint32_t first = boot_count_next();
    fake.flash_closed = 1;
    const uint32_t second = boot_count_next();
    const uint32_t third = boot_count_next();
    CHECK(first < second && second < third && epoch() == 3);
    fake.flash_closed = 0;
    CHECK(boot_count_next() > third && epoch() == 4);
    for (uint32_t broken = 1; broken <= FAKE_HALF_BROKEN; broken++) {
        fake_reset();
        const uint32_t good = boot_count_next();
        fake.flash_broken = broken;
        CHECK(boot_count_next() == good + BOOTS_PER_EPOCH && epoch() == 2);
    }
}

static void the_last_epoch_ends_in_a_count_that_stays(void)
{
    CHECK(BOOT_COUNT_LAST == 257 * BOOTS_PER_EPOCH - 1);
    raise_epoch(256);
    put_count(0, 0, BOOT_COUNT_LAST - 2);
    CHECK(boot_count_next() == BOOT_COUNT_LAST - 1);
    CHECK(boot_count_next() == BOOT_COUNT_LAST);
    CHECK(boot_count_next() == BOOT_COUNT_LAST && boot_count_next() == BOOT_COUNT_LAST);
    memset(fake.data, 0xFF, sizeof fake.data);
    CHECK(boot_count_next() == BOOT_COUNT_LAST);
    CHECK(fake.faults == 0 && epoch() == 256);
}

static void fuses_that_do_not_burn_are_asked_again(void)
{
    raise_epoch(1);
    put_count(0, 0, 2 * BOOTS_PER_EPOCH - 1);
    fake.burn_limit = 1;
    CHECK(boot_count_next() == 2 * BOOTS_PER_EPOCH && boot_count_next() == 2 * BOOTS_PER_EPOCH + 1);
    CHECK(epoch() == 1);
    fake.burn_limit = UINT32_MAX;
    CHECK(boot_count_next() == 2 * BOOTS_PER_EPOCH + 2 && epoch() == 2);
}

static uint32_t counted;

static void count_once(void)
{
    counted = boot_count_next();
}

/* Before a cut anywhere: `entries` counts; after it every count is new, and rises. */
static void cut_the_count(uint32_t entries, uint32_t first)
{
    for (uint32_t torn = 0; torn < FAKE_TORN_COUNT; torn++) {
        for (uint32_t at = 0;; at++) {
            fake_reset();
            raise_epoch(first / BOOTS_PER_EPOCH);
            for (uint32_t i = 0; i < entries; i++) {
                put_count(0, i, first + i);
            }
            const uint32_t last = first + entries - 1;
            if (cut_at(at, torn, count_once) == 0) {
                CHECK(counted == last + 1);
                break;
            }
            const uint32_t next = boot_count_next();
            CHECK(next == last + 1 || next == last + 2); /* no epoch is lost */
            CHECK(boot_count_next() == next + 1);
            CHECK(epoch() == next / BOOTS_PER_EPOCH);
        }
    }
}

static void a_cut_loses_no_count(void)
{
    cut_the_count(1, BOOTS_PER_EPOCH);             /* an entry in the middle */
    cut_the_count(256, BOOTS_PER_EPOCH);           /* the page is full: the other is erased */
    cut_the_count(2, 3 * BOOTS_PER_EPOCH - 2);     /* the last count of an epoch: the fuse */
    cut_the_count(256, 3 * BOOTS_PER_EPOCH - 256); /* both */
}

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

/* --- tamper --- */
static uint32_t secret_is(uint32_t word)
{
    for (uint32_t i = 0; i < OTP_DEVICE_SECRET_SIZE / 4; i++) {
        if (fake.fuses[OTP_DEVICE_SECRET_OFFSET / 4 + i] != word) {
            return 0;
        }
    }
    return 1;
}

static void put_secret(void)
{
    for (uint32_t i = 0; i < OTP_DEVICE_SECRET_SIZE / 4; i++) {
        fake.fuses[OTP_DEVICE_SECRET_OFFSET / 4 + i] = 0xC0FFEE00u + i;
    }
}

static void zeroise(void)
{
    if (tamper_pending() != 0) {
        tamper_burn_secret();
        (void)tamper_finish();
    }
}

static void nothing_is_pending_without_a_reason(void)
{
    CHECK(tamper_pending() == 0);
    put_secret();
    for (uint32_t state = 0; state < 2; state++) {
        fake.fuses[OTP_LIFECYCLE_OFFSET / 4] = state == 0 ? LIFECYCLE_PRODUCTION_FUSES : LIFECYCLE_RETIRED_FUSES;
        CHECK(tamper_pending() == 0);
    }
    fake.tamper = TAMPER_SOURCE_CLOCK;
    CHECK(tamper_pending() == TAMPER_SOURCE_CLOCK && fake.burns == 0);
}

static void a_tampered_module_has_no_secret(void)
{
    *fake_pack(REG_PACK_CONTACTOR_STATE) = 1;
    put_secret();
    fake.fuses[OTP_LIFECYCLE_OFFSET / 4] = LIFECYCLE_PRODUCTION_FUSES;
    fake.tamper = TAMPER_SOURCE_CASE | TAMPER_SOURCE_VOLTAGE;
    tamper_burn_secret();
    CHECK(secret_is(UINT32_MAX) && otp_lifecycle() == LIFECYCLE_PRODUCTION && fake.events == 0);
    CHECK(tamper_finish() == STATUS_OK);
    CHECK(otp_lifecycle() == LIFECYCLE_TAMPERED && fake.tamper == 0 && tamper_pending() == 0);
    CHECK(*fake_pack(REG_PACK_CONTACTOR_STATE) == 0 && fake.milestones == 1u << MILESTONE_ZEROISED);
    CHECK(fake.events == 1 && fake.event[0].status == STATUS_TAMPER && fake.event[0].found == 3);
    CHECK(fake.faults == 0);
}

static void a_secret_that_is_left_is_burned_later(void)
{
    fake.fuses[OTP_LIFECYCLE_OFFSET / 4] = 0x00010000; /* tampered, torn */
    put_secret();
    CHECK(tamper_pending() != 0);
    zeroise();
    CHECK(secret_is(UINT32_MAX) && tamper_pending() == 0 && fake.burns == 8);
}

static void a_module_whose_fuses_do_not_burn_keeps_its_latch(void)
{
    put_secret();
    fake.tamper = TAMPER_SOURCE_CASE;
    fake.otp_broken = 1;
    tamper_burn_secret();
    CHECK(tamper_finish() == STATUS_TAMPER && fake.tamper == TAMPER_SOURCE_CASE);
    CHECK(otp_word(OTP_DEVICE_SECRET_OFFSET) == 0); /* hidden */
}

static void a_cut_only_delays_the_zeroising(void)
{
    for (uint32_t torn = 0; torn < FAKE_TORN_COUNT; torn++) {
        for (uint32_t at = 0;; at++) {
            fake_reset();
            put_secret();
            fake.fuses[OTP_LIFECYCLE_OFFSET / 4] = LIFECYCLE_PRODUCTION_FUSES;
            fake.tamper = TAMPER_SOURCE_DEBUG;
            const uint32_t was_cut = cut_at(at, torn, zeroise);
            CHECK(was_cut == 0 || fake.tamper != 0);
            zeroise();
            CHECK(secret_is(UINT32_MAX) && otp_lifecycle() == LIFECYCLE_TAMPERED && tamper_pending() == 0);
            if (was_cut == 0) {
                CHECK(at == 9); /* eight words and the lifecycle */
                break;
            }
        }
    }
}

/* --- revocation: what needs no signature; the rest is tests/vectors/test_boot_host.py's --- */
static uint32_t put_revocation(uint8_t *out, uint32_t keys, uint32_t signatures)
{
    static const uint8_t head[] = {'C', 'W', 'R', 'V', 1, 1};
    memset(out, 0x21, REVOCATION_SIZE_MAX);
    memcpy(out, head, sizeof head);
    out[6] = (uint8_t)keys;
    out[7] = (uint8_t)signatures;
    for (uint32_t i = 0; i < keys; i++) {
        out[40 + 65 * i] = 4;
        out[40 + 65 * i + 64] = (uint8_t)i;
    }
    for (uint32_t i = 0; i < signatures; i++) {
        out[40 + 65 * keys + 65 * i] = (uint8_t)i;
    }
    return 40 + 65 * (keys + signatures);
}

static void a_revocation_waits_in_its_page(void)
{
    static uint8_t data[REVOCATION_SIZE_MAX];
    struct refusal why = {0};
    for (uint32_t keys = 1; keys <= 4; keys++) {
        for (uint32_t signatures = 1; signatures <= keys; signatures++) {
            const uint32_t size = put_revocation(data, keys, signatures);
            fake_reset();
            CHECK(revocation_waits() == 0);
            CHECK(revocation_store(data, size) == STATUS_OK && revocation_waits() != 0);
            const uint8_t *const page = fake.data + DATA_PAGE_REVOCATION * DATA_PAGE_SIZE;
            CHECK(read_u32(page) == size && memcmp(page + 4, data, size) == 0);
            CHECK(all_are(page + 4 + size, 0xFF, DATA_PAGE_SIZE - 4 - size));
            CHECK(revocation_carry_out(NULL, 0, &why) == STATUS_REVOCATION_SIGNATURE);
            CHECK(revocation_waits() == 0 && all_are(fake.data, 0xFF, sizeof fake.data) && fake.burns == 0);
        }
    }
}

static void a_page_of_anything_is_erased(void)
{
    static const uint32_t lengths[] = {0, 1, 39, 40, REVOCATION_SIZE_MAX, REVOCATION_SIZE_MAX + 1, 0x80000000u};
    struct refusal why = {0};
    for (uint32_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memset(fake.data, 0x33, sizeof fake.data);
        write_u32(fake.data + DATA_PAGE_REVOCATION * DATA_PAGE_SIZE, lengths[i]);
        CHECK(revocation_waits() != 0);
        CHECK(revocation_carry_out(NULL, 0, &why) == STATUS_REVOCATION_FORMAT);
        CHECK(why.status == STATUS_REVOCATION_FORMAT && revocation_waits() == 0);
    }
    fake.flash_closed = 1;
    CHECK(revocation_carry_out(NULL, 0, &why) == STATUS_REVOCATION_FORMAT);
}

static uint8_t cut_data[REVOCATION_SIZE_MAX];
static uint32_t cut_size;

static void store_cut(void)
{
    (void)revocation_store(cut_data, cut_size);
}

static void a_cut_store_waits_for_nothing_or_is_refused(void)
{
    struct refusal why = {0};
    cut_size = put_revocation(cut_data, 2, 1);
    for (uint32_t torn = 0; torn < FAKE_TORN_COUNT; torn++) {
        for (uint32_t at = 0;; at++) {
            fake_reset();
            if (cut_at(at, torn, store_cut) == 0) {
                break;
            }
            CHECK(revocation_waits() == 0 || revocation_carry_out(NULL, 0, &why) != STATUS_OK);
            CHECK(fake.burns == 0);
            CHECK(revocation_store(cut_data, cut_size) == STATUS_OK && revocation_waits() != 0);
        }
    }
}

static void only_whole_revocations_are_stored(void)
{
    static uint8_t data[REVOCATION_SIZE_MAX];
    const uint32_t size = put_revocation(data, 2, 1);
    for (uint32_t less = 0; less < size; less++) {
        uint8_t *const exact = malloc(less + 1); /* ASan: nothing is read behind it */
        memcpy(exact, data, less);
        CHECK(revocation_store(exact, less) == STATUS_REVOCATION_FORMAT);
        free(exact);
    }
    CHECK(revocation_store(data, size + 1) == STATUS_REVOCATION_FORMAT && fake.operations == 0);
    fake.flash_closed = 1;
    CHECK(revocation_store(data, size) == STATUS_FLASH_LOCKED);
}

int main(void)
{
    static const struct test tests[] = {
        TEST(any_thermometer_is_raised),
        TEST(lifecycle_is_the_highest_byte),
        TEST(the_data_flash_has_pages_of_its_own),
        TEST(a_scalar_lies_between_0_and_n),
        TEST(the_first_fit_candidate_is_the_scalar),
        TEST(the_ladder_hands_on_only_what_is_the_next_stage_s),
        TEST(no_scalar_has_no_public_key),
        TEST(a_wipe_is_whole),
        TEST(counts_rise_by_one_over_pages_and_epochs),
        TEST(lost_pages_cost_an_epoch_and_repeat_nothing),
        TEST(old_and_impossible_counts_are_not_believed),
        TEST(the_highest_count_of_a_page_is_the_last),
        TEST(counts_are_those_of_the_epoch_s_window),
        TEST(a_flash_that_does_not_write_costs_an_epoch_a_boot),
        TEST(the_last_epoch_ends_in_a_count_that_stays),
        TEST(fuses_that_do_not_burn_are_asked_again),
        TEST(a_cut_loses_no_count),
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
        TEST(nothing_is_pending_without_a_reason),
        TEST(a_tampered_module_has_no_secret),
        TEST(a_secret_that_is_left_is_burned_later),
        TEST(a_module_whose_fuses_do_not_burn_keeps_its_latch),
        TEST(a_cut_only_delays_the_zeroising),
        TEST(a_revocation_waits_in_its_page),
        TEST(a_page_of_anything_is_erased),
        TEST(a_cut_store_waits_for_nothing_or_is_refused),
        TEST(only_whole_revocations_are_stored),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
