/*
 * Unit tests of fuses, keys, the tamper response and the stored revocation on fake hardware; each write
 * is also cut, in three ways, at every operation. What they compute is compared with Python's in
 * tests/vectors/test_boot_host.py.
 */
#include <stdlib.h>
#include <string.h>

#include "boot/board.h"
#include "boot/kdf.h"
#include "boot/ladder.h"
#include "boot/record.h"
#include "boot/revocation.h"
#include "boot/tamper.h"
#include "boot/wipe.h"
#include "cut.h"
#include "verify/bytes.h"
#include "verify/crypto.h"

const uint32_t board_where = WHERE_ROM;

static const uint8_t KEY[SECRET_SIZE] = {1, 2, 3};

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
