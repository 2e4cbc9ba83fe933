/* Unit tests of what the ROM, the loader and the app are made of, against fake hardware. */
#include <string.h>

#include "app/limits.h"
#include "app/monitor.h"
#include "app/selftest.h"
#include "check.h"
#include "handover.h"
#include "verify/crypto.h"

const uint32_t board_where = WHERE_APP;
const struct limits limits = APP_LIMITS;

/* --- trailer and flash --- */
static void put_trailer(uint32_t bank, uint8_t copy_done, uint8_t image_ok, uint32_t magic)
{
    static const uint8_t good[] = TRAILER_MAGIC;
    uint8_t *const end = fake.banks[bank] + BANK_SIZE;
    end[-(int)COPY_DONE_FROM_END] = copy_done;
    end[-(int)IMAGE_OK_FROM_END] = image_ok;
    memset(end - MAGIC_FROM_END, FLAG_ERASED, sizeof good);
    if (magic != MARK_UNSET) {
        memcpy(end - MAGIC_FROM_END, good, sizeof good);
    }
    if (magic == MARK_BAD) {
        end[-1] ^= 1;
    }
}

static void trailer_states_follow_the_table(void)
{
    static const uint8_t flag[MARK_COUNT] = {
        [MARK_UNSET] = FLAG_ERASED, [MARK_SET] = FLAG_SET, [MARK_BAD] = 0x03};
    for (uint32_t magic = 0; magic < MARK_COUNT; magic++) {
        for (uint32_t copy_done = 0; copy_done < MARK_COUNT; copy_done++) {
            for (uint32_t image_ok = 0; image_ok < MARK_COUNT; image_ok++) {
                put_trailer(1, flag[copy_done], flag[image_ok], magic);
                CHECK(bank_state(INACTIVE_BASE) == BANK_STATES[magic][copy_done][image_ok]);
            }
        }
    }
    CHECK(bank_state(ACTIVE_BASE) == STATE_EMPTY);
}

static void flags_are_programmed_once(void)
{
    put_trailer(1, FLAG_ERASED, FLAG_ERASED, MARK_SET);
    CHECK(flash_set_flag(1, COPY_DONE_FROM_END) == STATUS_OK);
    CHECK(bank_state(INACTIVE_BASE) == STATE_TRIAL);
    CHECK(flash_set_flag(1, COPY_DONE_FROM_END) == STATUS_FLASH_UNERASED);
    CHECK(flash_set_flag(1, IMAGE_OK_FROM_END) == STATUS_OK);
    CHECK(bank_state(INACTIVE_BASE) == STATE_CONFIRMED);
    CHECK(bank_state(ACTIVE_BASE) == STATE_EMPTY);
}

/* --- fuses --- */
static void counter_is_a_thermometer(void)
{
    uint32_t *const words = fake.fuses + OTP_COUNTER_OFFSET / 4;
    CHECK(otp_counter() == 0);
    words[0] = 0x0000000F;
    CHECK(otp_counter() == 4);
    words[0] = 0x0000002F; /* a hole: what is above it does not count */
    CHECK(otp_counter() == 4);
    words[0] = 0xFFFFFFFF;
    CHECK(otp_counter() == 32);
    words[1] = 1;
    CHECK(otp_counter() == 33);
    memset(words, 0xFF, OTP_COUNTER_SIZE);
    CHECK(otp_counter() == COUNTER_MAX);
}

static void counter_is_raised_bit_by_bit(void)
{
    CHECK(otp_raise_counter(35) == STATUS_OK);
    CHECK(otp_counter() == 35);
    CHECK(fake.burns == 35 && fake.burn_bits_max == 1);
    CHECK(otp_raise_counter(35) == STATUS_OK && otp_raise_counter(3) == STATUS_OK);
    CHECK(fake.burns == 35);
    CHECK(otp_raise_counter(COUNTER_MAX + 1) == STATUS_OTP_ONE_WAY);
    CHECK(fake.burns == 35);
    fake.burn_limit = 37;
    CHECK(otp_raise_counter(40) == STATUS_OTP_ONE_WAY);
    CHECK(otp_counter() == 37);
}

static void trust_is_what_the_fuses_hold(void)
{
    struct trust loader;
    struct trust app;
    fake.fuses[OTP_SLOT_KEYS_OFFSET / 4 + 8] = 0x44332211; /* slot 1 */
    fake.fuses[OTP_REVOKED_OFFSET / 4] = 2;
    fake.fuses[OTP_VENDOR_ID_OFFSET / 4] = 0xA1;
    fake.fuses[OTP_LOADER_CLASS_OFFSET / 4] = 0xB1;
    fake.fuses[OTP_APP_CLASS_OFFSET / 4] = 0xC1;
    otp_trust(STAGE_LOADER, &loader);
    otp_trust(STAGE_APP, &app);
    CHECK(loader.slot_keys[1][0] == 0x11 && loader.slot_keys[1][3] == 0x44 && loader.slot_keys[0][0] == 0);
    CHECK(loader.revoked == 2 && loader.counter == 0 && loader.vendor[0] == 0xA1);
    CHECK(loader.klass[0] == 0xB1 && app.klass[0] == 0xC1);
}

/* --- entry of a verified image --- */
static void put_vectors(uint32_t stack, uint32_t entry)
{
    uint8_t *const at = fake.banks[1] + APP_OFFSET + HEADER_SIZE;
    memcpy(at, &stack, sizeof stack);
    memcpy(at + 4, &entry, sizeof entry);
}

static uint32_t entry_of(uint32_t offset, uint32_t size)
{
    struct refusal why;
    const struct verified image = {.payload_offset = offset, .payload_size = size};
    return entry_check(INACTIVE_BASE, STAGE_APP, &image, &why);
}

static void entry_lies_in_the_verified_payload(void)
{
    const uint32_t linked = ACTIVE_BASE + APP_OFFSET + HEADER_SIZE;
    const uint32_t top = RAM_BASE + RAM_SIZE;
    put_vectors(top, linked + 0x41);
    CHECK(entry_of(HEADER_SIZE, 0x100) == STATUS_OK);
    CHECK(entry_of(HEADER_SIZE, 0x41) == STATUS_OK);
    CHECK(entry_of(HEADER_SIZE, 0x40) == STATUS_IMAGE_HEADER); /* the entry is the byte behind */
    CHECK(entry_of(HEADER_SIZE, 4) == STATUS_IMAGE_HEADER);
    CHECK(entry_of(HEADER_SIZE + 4, 0x100) == STATUS_IMAGE_HEADER);
    put_vectors(top, linked + 0x40); /* not Thumb */
    CHECK(entry_of(HEADER_SIZE, 0x100) == STATUS_IMAGE_HEADER);
    put_vectors(top, linked - 1);
    CHECK(entry_of(HEADER_SIZE, 0x100) == STATUS_IMAGE_HEADER);
    put_vectors(top + 8, linked + 0x41);
    CHECK(entry_of(HEADER_SIZE, 0x100) == STATUS_IMAGE_HEADER);
    put_vectors(RAM_BASE, linked + 0x41);
    CHECK(entry_of(HEADER_SIZE, 0x100) == STATUS_IMAGE_HEADER);
    put_vectors(top - 4, linked + 0x41);
    CHECK(entry_of(HEADER_SIZE, 0x100) == STATUS_IMAGE_HEADER);
}

/* --- images --- */
static uint32_t put_image(uint32_t bank, uint32_t slot, uint32_t counter)
{
    const uint8_t image[] = {
        0x3d, 0xb8, 0xf3, 0x96, 0, 0, 0, 0, 32, 0, 12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 'c', 'o', 'd', 'e', 0x08, 0x69, 12, 0, 0x50, 0, 4, 0, (uint8_t)counter, 0, 0, 0,
        0x07, 0x69, 4, 0};
    memcpy(fake.banks[bank] + slot, image, sizeof image);
    return sizeof image;
}

static void commit_goes_to_the_lower_counter(void)
{
    CHECK(commit_target(INACTIVE_BASE) == 0);
    put_image(1, LOADER_OFFSET, 7);
    CHECK(commit_target(INACTIVE_BASE) == 0);
    put_image(1, APP_OFFSET, 9);
    CHECK(commit_target(INACTIVE_BASE) == 7);
    put_image(1, APP_OFFSET, 5);
    CHECK(commit_target(INACTIVE_BASE) == 5);
}

static void versions_are_ordered_field_by_field(void)
{
    static const struct image_version ascending[] = {
        {1, 2, 3, 0}, {1, 2, 3, 0xFFFFFFFF}, {1, 2, 4, 0}, {1, 2, 0x100, 0}, {1, 3, 0, 0}, {2, 0, 0, 0}};
    for (int a = 0; a < 6; a++) {
        for (int b = 0; b < 6; b++) {
            const int32_t order = image_version_compare(&ascending[a], &ascending[b]);
            CHECK(a < b ? order < 0 : a > b ? order > 0 : order == 0);
        }
    }
}

static void tiny_slots_are_refused(void)
{
    struct image image;
    struct refusal why;
    const uint32_t size = put_image(0, 0, 1);
    CHECK(image_decode(fake.banks[0], size, &image, &why) == STATUS_OK);
    for (uint32_t less = 0; less < size; less++) {
        CHECK(image_decode(fake.banks[0], less, &image, &why) != STATUS_OK);
    }
    CHECK(image_decode(fake.banks[0], UINT32_MAX, &image, &why) == STATUS_IMAGE_SIZE);
}

/* --- self-test and monitor --- */
static uint32_t tested(void)
{
    struct refusal why = {0};
    const uint32_t status = selftest(&why);
    CHECK(status == STATUS_OK || why.status == status);
    return status;
}

static void selftest_passes_on_a_good_pack(void)
{
    *fake_pack(REG_PACK_CONTACTOR_STATE) = 1;
    CHECK(tested() == STATUS_OK);
    CHECK(*fake_pack(REG_PACK_CONTACTOR_STATE) == 0);
    CHECK(*fake_pack(REG_PACK_LIMIT_OV_MV) == limits.cell_over_mv);
    CHECK(fake.faults == 0);
}

static void selftest_finds(uint32_t address, uint32_t value, uint32_t status)
{
    fake_reset();
    *fake_pack(address) = value;
    CHECK(tested() == status);
    CHECK(*fake_pack(REG_PACK_CONTACTOR_STATE) == 0);
    CHECK(fake.faults == 0);
}

static void selftest_finds_each_defect(void)
{
    selftest_finds(REG_PACK_FRONT_END_ID, 0, STATUS_SELFTEST_FRONT_END);
    selftest_finds(REG_PACK_CELL_COUNT, 14, STATUS_SELFTEST_FRONT_END);
    selftest_finds(REG_PACK_CELL_MV + 4 * 11, 999, STATUS_SELFTEST_CELL_RANGE);
    selftest_finds(REG_PACK_CELL_MV, 5001, STATUS_SELFTEST_CELL_RANGE);
    selftest_finds(REG_PACK_PACK_MV, 3700 * CELLS + limits.sum_tolerance_mv + 1, STATUS_SELFTEST_CELL_SUM);
    selftest_finds(REG_PACK_PACK_MV, 3700 * CELLS - limits.sum_tolerance_mv - 1, STATUS_SELFTEST_CELL_SUM);
    selftest_finds(REG_PACK_PACK_MV, 3700 * CELLS + limits.sum_tolerance_mv, STATUS_OK);
    selftest_finds(REG_PACK_TEMPERATURE_DC + 4 * 3, 1001, STATUS_SELFTEST_TEMPERATURE);
    selftest_finds(REG_PACK_TEMPERATURE_DC, (uint32_t)-401, STATUS_SELFTEST_TEMPERATURE);
    fake_reset();
    fake.limits_stuck = 1;
    CHECK(tested() == STATUS_SELFTEST_LIMITS);
    fake_reset();
    fake.welded = 1;
    CHECK(tested() == STATUS_SELFTEST_CONTACTORS);
}

static uint32_t closed_after(struct monitor *monitor, uint32_t request)
{
    *fake_pack(REG_PACK_CLOSE_REQUEST) = request;
    monitor_cycle(monitor);
    CHECK(fake.faults == 0);
    return *fake_pack(REG_PACK_CONTACTOR_STATE);
}

static const struct monitor released = {.release = STATUS_OK, .tripped = STATUS_OK, .welded = STATUS_OK};

static void contactors_follow_the_request(void)
{
    struct monitor monitor = released;
    CHECK(closed_after(&monitor, 0) == 0);
    CHECK(closed_after(&monitor, 1) == 1);
    CHECK(closed_after(&monitor, 1) == 1);
    CHECK(closed_after(&monitor, 0) == 0);
    CHECK(fake.events == 0);
}

static void an_app_without_release_never_closes(void)
{
    struct monitor monitor = released;
    monitor.release = STATUS_IMAGE_COUNTER;
    CHECK(closed_after(&monitor, 1) == 0);
    monitor.release = 1; /* no word but the one */
    CHECK(closed_after(&monitor, 1) == 0);
    monitor.release = 0;
    CHECK(closed_after(&monitor, 1) == 0);
}

static void trips_on(uint32_t address, uint32_t value, uint32_t status)
{
    struct monitor monitor = released;
    fake_reset();
    CHECK(closed_after(&monitor, 1) == 1);
    const uint32_t before = *fake_pack(address);
    *fake_pack(address) = value;
    CHECK(closed_after(&monitor, 1) == 0);
    CHECK(closed_after(&monitor, 1) == 0);
    CHECK(fake.events == 1 && fake.event[0].status == status && fake.event[0].found == value);
    *fake_pack(address) = before;
    CHECK(closed_after(&monitor, 1) == 0); /* not by itself */
    CHECK(closed_after(&monitor, 0) == 0);
    CHECK(closed_after(&monitor, 1) == 1);
    CHECK(fake.events == 1);
}

static void every_limit_opens_the_contactors(void)
{
    trips_on(REG_PACK_CELL_MV + 4 * 11, limits.cell_over_mv + 1, STATUS_SELFTEST_CELL_RANGE);
    trips_on(REG_PACK_CELL_MV, limits.cell_under_mv - 1, STATUS_SELFTEST_CELL_RANGE);
    trips_on(REG_PACK_TEMPERATURE_DC + 4 * 3, (uint32_t)limits.over_temperature_dc + 1,
             STATUS_SELFTEST_TEMPERATURE);
    trips_on(REG_PACK_TEMPERATURE_DC, (uint32_t)(limits.under_temperature_dc - 1), STATUS_SELFTEST_TEMPERATURE);
    trips_on(REG_PACK_CURRENT_MA, (uint32_t)limits.discharge_ma + 1, STATUS_SELFTEST_LIMITS);
    trips_on(REG_PACK_CURRENT_MA, (uint32_t)(-limits.charge_ma - 1), STATUS_SELFTEST_LIMITS);
}

static void a_welded_contactor_is_told_once(void)
{
    struct monitor monitor = released;
    fake.welded = 1;
    (void)closed_after(&monitor, 0);
    (void)closed_after(&monitor, 0);
    CHECK(fake.events == 1 && fake.event[0].status == STATUS_SELFTEST_CONTACTORS);
    CHECK(fake.event[0].what == WHERE_APP << 8);
}

static void fewer_cells_than_built_for_are_no_bus_fault(void)
{
    struct measurements seen;
    *fake_pack(REG_PACK_CELL_COUNT) = 3;
    pack_measure(&seen);
    CHECK(seen.cells == 3);
    *fake_pack(REG_PACK_CELL_COUNT) = UINT32_MAX;
    pack_measure(&seen);
    CHECK(seen.cells == APP_CELLS && fake.faults == 0);
}

/* --- crypto --- */
static void sha256_of_the_standard(void)
{
    static const uint8_t abc[DIGEST_SIZE] = { /* FIPS 180-4 example */
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
        0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    uint8_t digest[DIGEST_SIZE];
    sha256((const uint8_t *)"abc", 3, digest);
    CHECK(bytes_differ(digest, abc, sizeof abc) == 0);
    digest[31] ^= 0x80;
    CHECK(bytes_differ(digest, abc, sizeof abc) != 0);
}

int main(void)
{
    static const struct test tests[] = {
        TEST(trailer_states_follow_the_table),
        TEST(flags_are_programmed_once),
        TEST(counter_is_a_thermometer),
        TEST(counter_is_raised_bit_by_bit),
        TEST(trust_is_what_the_fuses_hold),
        TEST(entry_lies_in_the_verified_payload),
        TEST(commit_goes_to_the_lower_counter),
        TEST(versions_are_ordered_field_by_field),
        TEST(tiny_slots_are_refused),
        TEST(selftest_passes_on_a_good_pack),
        TEST(selftest_finds_each_defect),
        TEST(contactors_follow_the_request),
        TEST(an_app_without_release_never_closes),
        TEST(every_limit_opens_the_contactors),
        TEST(a_welded_contactor_is_told_once),
        TEST(fewer_cells_than_built_for_are_no_bus_fault),
        TEST(sha256_of_the_standard),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
