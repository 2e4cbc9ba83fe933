/*
 * The update link: frame decoder and engine. Input: a byte of circumstances, then requests, each with its
 * length u16 before it. Bit 0: the ROM's engine, in recovery; bit 1: the running bank is on trial.
 * The running bank holds the world's images; what is told is the status of every answer, and the bank's
 * state at the end.
 */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/tell.h"
#include "test/fake_module.h"
#include "generated/updatelink.h"
#include "update/engine.h"
#include "verify/bytes.h"

#define REQUESTS_MAX 64u
#define REVOCATION_PAGES (1u << DATA_PAGE_REVOCATION)

const uint32_t board_where = WHERE_LOADER;

static struct {
    const uint8_t *next;
    size_t left;
    uint32_t asked;
    uint32_t count;
    uint32_t words[REQUESTS_MAX + 2u];
} script;

static void note_answer(void)
{
    if (script.asked == 0) {
        return;
    }
    if (fake.tx_length < LINK_ANSWER_HEADER_SIZE ||
        fake.tx_length != LINK_ANSWER_HEADER_SIZE + read_u16(fake.tx + 2)) {
        abort(); /* every request has its answer, of the size it says */
    }
    const uint32_t status = read_u32(fake.tx + 4);
    if (status != STATUS_OK && fake.tx_length != LINK_ANSWER_HEADER_SIZE) {
        abort(); /* a refusal gives nothing away */
    }
    script.words[script.count++] = status;
    script.asked = 0;
    fake.tx_length = 0;
    fake.events = 0;
}

/* The firmware has nothing to do: the next request. */
static void next_request(void)
{
    note_answer();
    if (script.count == REQUESTS_MAX || script.left < 2u) {
        longjmp(fake.restart, 1);
    }
    size_t length = read_u16(script.next) % (LINK_BUFFER_SIZE + 1u);
    script.next += 2;
    script.left -= 2;
    if (length > script.left) {
        length = script.left;
    }
    if (length == 0) {
        return;
    }
    memset(fake.rx, 0xDD, sizeof fake.rx);
    memcpy(fake.rx, script.next, length);
    fake.rx_length = (uint32_t)length;
    script.next += length;
    script.left -= length;
    script.asked = 1;
}

static void start_trailer(uint32_t trial)
{
    static const uint8_t magic[] = TRAILER_MAGIC;
    uint8_t *const end = fake.banks[0] + BANK_SIZE;
    memset(end - COPY_DONE_FROM_END, 0xFF, COPY_DONE_FROM_END);
    memcpy(end - MAGIC_FROM_END, magic, sizeof magic);
    *(end - (trial != 0 ? COPY_DONE_FROM_END : IMAGE_OK_FROM_END)) = FLAG_SET;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t scalar[32];
    static uint32_t ready;
    static struct update_world world;
    if (size == 0) {
        return 0;
    }
    if (ready == 0) {
        world_load(scalar);
        ready = 1;
    }
    world_restore();
    start_trailer(data[0] & 2u);
    script.next = data + 1;
    script.left = size - 1u;
    script.count = 0;
    script.asked = 0;
    fake.idle = next_request;
    world = (struct update_world){.where = data[0] & 1u ? WHERE_ROM : WHERE_LOADER, .scalar = scalar};
    if (setjmp(fake.restart) == 0) {
        update_run(&world);
    }
    note_answer(); /* RESTART's */
    if (fake.faults != 0 || fake.touched[0] != 0 || (fake.data_touched & ~REVOCATION_PAGES) != 0) {
        abort(); /* it writes nothing but the other bank and the revocation's page */
    }
    script.words[script.count] = bank_state(INACTIVE_BASE);
    script.words[script.count + 1u] = fake.fuses[OTP_REVOKED_OFFSET / 4];
    tell(data, size, script.words, script.count + 2u);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    (void)seed;
    return LLVMFuzzerMutate(data, size, max_size);
}
