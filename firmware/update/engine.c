#include "update/engine.h"

#include "boot/ladder.h"
#include "boot/revocation.h"
#include "update/frame.h"
#include "update/identity.h"
#include "update/stream.h"
#include "verify/bytes.h"

#define SILENCE_MS 30000u
#define HASH_SLICE 0x10000u

_Static_assert(UPDATE_POINT_SIZE == P256_POINT_SIZE, "one size of point");

enum state { IDLE, OPEN, RECEIVING, KEEP };

static struct {
    const struct update_world *world;
    enum state state;
    struct stream stream;
    uint8_t point[UPDATE_POINT_SIZE]; /* of the scalar; starts with 0 until somebody asks */
    struct refusal why; /* of the request that is being answered */
} engine;

static void feed(void)
{
    reg_write(REG_WATCHDOG_FEED, WATCHDOG_KEY);
}

/* --- the requests --- */
static uint32_t answer_identify(struct exchange *exchange)
{
    if (engine.point[0] == 0) { /* 6 M instructions, so not at every start */
        update_public_key(engine.world->scalar, engine.point);
    }
    return identify(exchange, engine.world->where, engine.point);
}

static uint32_t answer_digest(struct exchange *exchange)
{
    static struct inventory inventory;
    const uint32_t status = inventory_begin(exchange, &inventory);
    if (status == STATUS_OK) {
        while (hashing_step(&inventory.hashing, HASH_SLICE) != 0) {
            feed();
        }
        inventory_end(&inventory, exchange);
    }
    return status;
}

static uint32_t trailer_erased(void)
{
    uint32_t written = 0;
    for (uint32_t at = 0; at < TRAILER_SIZE; at += 4u) {
        written |= ~flash_word(INACTIVE_BASE + TRAILER_OFFSET + at);
    }
    return written == 0;
}

/* From here on the bank is not bootable (VW Simos18: the old mark stayed valid over new bytes). While
 * the running bank is on trial, the other one is the way back and is left alone. */
static uint32_t begin(struct exchange *exchange)
{
    const uint32_t order = read_u16(exchange->payload);
    if (link_zeros(exchange->payload + 2, 2) == 0 || exchange->length != 4u + order) {
        return STATUS_LINK_FRAME;
    }
    if (order != 0) {
        return STATUS_LINK_ORDER;
    }
    if (engine.world->where == WHERE_LOADER && bank_state(ACTIVE_BASE) != STATE_CONFIRMED) {
        return STATUS_LINK_STATE;
    }
    const uint32_t status = flash_erase(other_bank(), TRAILER_OFFSET);
    if (status != STATUS_OK) {
        return refuse(&engine.why, status, STATUS_OK, TRAILER_OFFSET);
    }
    if (trailer_erased() == 0) {
        return refuse(&engine.why, STATUS_FLASH_READBACK, STATE_EMPTY, bank_state(INACTIVE_BASE));
    }
    return STATUS_OK;
}

static uint32_t image(struct exchange *exchange)
{
    const uint8_t *const payload = exchange->payload;
    const uint32_t wrapped = payload[1];
    if (payload[0] > (uint32_t)STAGE_APP || (wrapped != 0 && wrapped != LINK_WRAPPED_KEY_SIZE) ||
        link_zeros(payload + 2, 2) == 0 || exchange->length != 8u + wrapped) {
        return STATUS_LINK_FRAME;
    }
    return stream_open(&engine.stream, payload[0] == 0 ? STAGE_LOADER : STAGE_APP, read_u32(payload + 4),
                       wrapped == 0 ? (const uint8_t *)0 : payload + 8, engine.world->scalar, &engine.why);
}

static uint32_t data(struct exchange *exchange)
{
    const uint32_t status = stream_take(&engine.stream, read_u32(exchange->payload), exchange->payload + 4,
                                        exchange->length - 4u, &engine.why);
    exchange->last = status == STATUS_OK && stream_whole(&engine.stream) != 0;
    return status;
}

static uint32_t copy(struct exchange *exchange)
{
    const uint8_t *const payload = exchange->payload;
    if (payload[0] > (uint32_t)STAGE_APP || link_zeros(payload + 1, 3) == 0) {
        return STATUS_LINK_FRAME;
    }
    return stream_copy(payload[0] == 0 ? STAGE_LOADER : STAGE_APP, &engine.why);
}

/* As the ROM will verify it, from the flash. */
static uint32_t verify(enum stage stage, struct verified *out)
{
    struct trust trust;
    otp_trust(stage, &trust);
    feed();
    const uint8_t *const slot = flash_at(slot_address(INACTIVE_BASE, stage));
    const uint32_t status = image_verify(slot, slot_size(stage), &trust, out, &engine.why);
    feed();
    return status == STATUS_OK ? entry_check(INACTIVE_BASE, stage, out, &engine.why) : status;
}

/* The magic, second half last: half of it makes nothing bootable. */
static uint32_t stage_bank(void)
{
    static const uint8_t magic[] = TRAILER_MAGIC;
    if (trailer_erased() == 0) {
        return refuse(&engine.why, STATUS_FLASH_UNERASED, STATE_EMPTY, bank_state(INACTIVE_BASE));
    }
    for (uint32_t at = 0; at < sizeof magic; at += WRITE_SIZE) {
        const uint32_t offset = BANK_SIZE - MAGIC_FROM_END + at;
        const uint32_t status =
            flash_program(other_bank(), offset, read_u32(magic + at), read_u32(magic + at + 4u));
        if (status != STATUS_OK) {
            return refuse(&engine.why, status, STATUS_OK, offset);
        }
    }
    const uint32_t state = bank_state(INACTIVE_BASE);
    return state == STATE_PENDING ? STATUS_OK : refuse(&engine.why, STATUS_FLASH_READBACK, STATE_PENDING, state);
}

/* Each step's word goes into the sum, so that a step that was jumped over stages nothing. An app above
 * its loader would never be committed (core/plan.py). */
static uint32_t finish(struct exchange *exchange)
{
    struct verified loader;
    struct verified app;
    volatile uint32_t steps = 0;
    (void)exchange;
    uint32_t status = verify(STAGE_LOADER, &loader);
    if (status != STATUS_OK) {
        return status;
    }
    steps += status;
    status = verify(STAGE_APP, &app);
    if (status != STATUS_OK) {
        return status;
    }
    steps += status;
    if (app.counter > loader.counter) {
        return refuse(&engine.why, STATUS_IMAGE_COUNTER, loader.counter, app.counter);
    }
    return steps == 2u * STATUS_OK ? stage_bank() : STATUS_MODULE_FAULT;
}

static uint32_t done(struct exchange *exchange)
{
    (void)exchange;
    return STATUS_OK;
}

static uint32_t revoke(struct exchange *exchange)
{
    uint32_t status = revocation_store(exchange->payload, exchange->length);
    if (status == STATUS_OK && engine.world->where == WHERE_ROM) {
        status = revocation_carry_out((const uint8_t(*)[DIGEST_SIZE])0, 0, &engine.why);
        if (status == STATUS_OK) {
            milestone(MILESTONE_KEY_REVOKED);
        }
    }
    return status;
}

static uint32_t restart(struct exchange *exchange)
{
    exchange->restart = 1;
    return STATUS_OK;
}

/* --- the state machine --- */
#define IN(state) (uint8_t)(1u << (state))
#define ANY (uint8_t)(IN(IDLE) | IN(OPEN) | IN(RECEIVING))
#define BOTH (uint8_t)((1u << WHERE_ROM) | (1u << WHERE_LOADER))
#define LOADER_ONLY (uint8_t)(1u << WHERE_LOADER)

/* Request, who answers it, in which states, how, and the state afterwards: done, done and complete,
 * refused. A malformed or misplaced request is no refusal: it changes nothing. */
static const struct rule {
    uint8_t type;
    uint8_t where;
    uint8_t states;
    uint32_t (*answer)(struct exchange *exchange);
    enum state after;
    enum state complete;
    enum state refused;
} RULES[] = {
    {REQUEST_IDENTIFY, BOTH, ANY, answer_identify, KEEP, KEEP, KEEP},
    {REQUEST_DIGEST, BOTH, ANY, answer_digest, KEEP, KEEP, KEEP},
    {REQUEST_BEGIN, BOTH, IN(IDLE), begin, OPEN, OPEN, IDLE},
    {REQUEST_IMAGE, BOTH, IN(OPEN), image, RECEIVING, RECEIVING, OPEN},
    {REQUEST_DATA, BOTH, IN(RECEIVING), data, RECEIVING, OPEN, IDLE},
    {REQUEST_COPY, LOADER_ONLY, IN(OPEN), copy, OPEN, OPEN, OPEN},
    {REQUEST_FINISH, BOTH, IN(OPEN), finish, IDLE, IDLE, IDLE},
    {REQUEST_ABORT, BOTH, ANY, done, IDLE, IDLE, IDLE},
    {REQUEST_REVOKE, BOTH, ANY, revoke, KEEP, KEEP, KEEP},
    {REQUEST_RESTART, BOTH, ANY, restart, KEEP, KEEP, KEEP},
};

static const struct rule *rule_of(uint32_t type)
{
    for (uint32_t i = 0; i < sizeof RULES / sizeof RULES[0]; i++) {
        if (RULES[i].type == type && ((RULES[i].where >> engine.world->where) & 1u) != 0 &&
            ((RULES[i].states >> engine.state) & 1u) != 0) {
            return &RULES[i];
        }
    }
    return (const struct rule *)0;
}

static void enter(enum state state)
{
    if (state == KEEP) {
        return;
    }
    engine.state = state;
    if (state != RECEIVING) {
        stream_close(&engine.stream);
    }
}

static uint32_t serve(struct exchange *exchange)
{
    const struct rule *const rule = rule_of(exchange->type);
    engine.why = (struct refusal){0};
    if (rule == (const struct rule *)0) {
        return STATUS_LINK_STATE;
    }
    const uint32_t status = rule->answer(exchange);
    if (status == STATUS_OK) {
        enter(exchange->last != 0 ? rule->complete : rule->after);
    } else if (status != STATUS_LINK_FRAME && status != STATUS_LINK_STATE) {
        enter(rule->refused);
    }
    if (engine.why.status != 0) {
        event(other_bank(), status, engine.why.expected, engine.why.found);
    }
    return status;
}

_Noreturn void update_run(const struct update_world *world)
{
    struct exchange exchange;
    contactors_open();
    engine.world = world;
    engine.state = IDLE;
    engine.point[0] = 0;
    stream_close(&engine.stream);
    if (engine.world->where == WHERE_LOADER) {
        milestone(MILESTONE_UPDATE_ENTERED);
    }
    uint32_t heard = reg_read(REG_PACK_TICK);
    for (;;) {
        uint32_t status = link_receive(&exchange);
        feed();
        if (status != NO_REQUEST) {
            if (status == STATUS_OK) {
                status = serve(&exchange);
            }
            link_answer(&exchange, status);
            heard = reg_read(REG_PACK_TICK);
        } else if (engine.world->where == WHERE_LOADER && reg_read(REG_PACK_TICK) - heard >= SILENCE_MS) {
            reset();
        } else {
            contactors_open();
            reg_write(REG_SYS_IDLE, 0);
        }
    }
}

uint32_t update_recovery_bank(uint32_t state_a, uint32_t state_b)
{
    return state_a == STATE_CONFIRMED && state_b != STATE_CONFIRMED ? 1u : 0u;
}
