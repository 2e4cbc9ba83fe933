/* Unit tests of the boot count on fake hardware, cut at every operation in three ways. */
#include <stdlib.h>
#include <string.h>

#include "boot/board.h"
#include "boot/bootcount.h"
#include "cut.h"
#include "verify/bytes.h"

const uint32_t board_where = WHERE_ROM;

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

int main(void)
{
    static const struct test tests[] = {
        TEST(counts_rise_by_one_over_pages_and_epochs),
        TEST(lost_pages_cost_an_epoch_and_repeat_nothing),
        TEST(old_and_impossible_counts_are_not_believed),
        TEST(the_highest_count_of_a_page_is_the_last),
        TEST(counts_are_those_of_the_epoch_s_window),
        TEST(a_flash_that_does_not_write_costs_an_epoch_a_boot),
        TEST(the_last_epoch_ends_in_a_count_that_stays),
        TEST(fuses_that_do_not_burn_are_asked_again),
        TEST(a_cut_loses_no_count),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
