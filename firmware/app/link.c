#include "link.h"

#include "boot/revocation.h"
#include "boot/vaultblock.h"
#include "boot/wipe.h"
#include "calibration.h"
#include "handover.h"
#include "pack.h"
#include "update/frame.h"
#include "update/identity.h"
#include "verify/bytes.h"

/* Of a digest that was asked for: with the rest of a cycle, well within its watchdog. */
#define HASH_SLICE 0x8000u

static uint32_t identity(struct exchange *exchange)
{
    return identify(exchange, WHERE_APP, (const uint8_t *)0);
}

static uint32_t boot_record(struct exchange *exchange)
{
    for (uint32_t i = 0; i < RECORD_SIZE; i++) {
        exchange->answer[i] = handover.rom_record[i];
        exchange->answer[RECORD_SIZE + i] = handover.loader_record[i];
    }
    exchange->answer_length = 2u * RECORD_SIZE;
    return STATUS_OK;
}

/* Both leave the pack without its monitor for a while: measured, not believed. */
static uint32_t restart(struct exchange *exchange)
{
    if (contactors_are_open() != STATUS_OK) {
        return STATUS_UPDATE_CONTACTORS;
    }
    contactors_open();
    exchange->restart = 1;
    return STATUS_OK;
}

static uint32_t enter_update(struct exchange *exchange)
{
    const uint32_t status = restart(exchange);
    if (status == STATUS_OK) {
        reg_write(REG_SYS_RETAIN, RETAIN_UPDATE);
    }
    return status;
}

static uint32_t abort_update(struct exchange *exchange)
{
    (void)exchange;
    return STATUS_OK;
}

static uint32_t revoke(struct exchange *exchange)
{
    return revocation_store(exchange->payload, exchange->length);
}

/* At the plant only: in the field, who may calibrate a pack is for a signature to say. */
static uint32_t vault_store(struct exchange *exchange)
{
    const uint8_t *const payload = exchange->payload;
    const uint8_t *const value = payload + 8;
    const uint32_t length = exchange->length - 8u;
    if (payload[0] >= VAULT_NAMES || link_zeros(payload + 1, 3) == 0 ||
        (payload[0] == VAULT_CALIBRATION && calibration_check(value, length) != STATUS_OK)) {
        return STATUS_LINK_FRAME;
    }
    if (otp_lifecycle() != LIFECYCLE_PROVISIONED) {
        return STATUS_LIFECYCLE_CLOSED;
    }
    return vault_write(payload[0], handover.vault_key, read_u32(payload + 4), value, length);
}

static uint32_t vault_read(struct exchange *exchange)
{
    static struct vault_value value;
    const uint8_t *const payload = exchange->payload;
    if (payload[0] >= VAULT_NAMES || link_zeros(payload + 1, 3) == 0) {
        return STATUS_LINK_FRAME;
    }
    if (payload[0] != VAULT_CALIBRATION) {
        return STATUS_VAULT_SEAL;
    }
    const uint32_t status = vault_open(VAULT_CALIBRATION, handover.vault_key, &value);
    if (status == STATUS_OK) {
        write_u32(exchange->answer, value.version);
        write_u32(exchange->answer + 4, value.counter);
        copy_bytes(exchange->answer + 8u, value.bytes, value.length);
        exchange->answer_length = 8u + value.length;
    }
    wipe(&value, sizeof value);
    return status;
}

/* DIGEST is not among them: it takes many cycles. */
static const struct rule {
    uint8_t type;
    uint32_t (*answer)(struct exchange *exchange);
} RULES[] = {
    {REQUEST_IDENTIFY, identity},       {REQUEST_BOOT_RECORD, boot_record}, {REQUEST_ENTER_UPDATE, enter_update},
    {REQUEST_ABORT, abort_update},      {REQUEST_REVOKE, revoke},           {REQUEST_VAULT_WRITE, vault_store},
    {REQUEST_VAULT_READ, vault_read},   {REQUEST_RESTART, restart},
};

static uint32_t serve(struct exchange *exchange)
{
    for (uint32_t i = 0; i < sizeof RULES / sizeof RULES[0]; i++) {
        if (RULES[i].type == exchange->type) {
            return RULES[i].answer(exchange);
        }
    }
    return STATUS_LINK_STATE;
}

static struct {
    uint32_t under_way;
    struct exchange exchange;
    struct inventory inventory;
} digest;

static void go_on(void)
{
    if (hashing_step(&digest.inventory.hashing, HASH_SLICE) == 0) {
        digest.under_way = 0;
        inventory_end(&digest.inventory, &digest.exchange);
        link_answer(&digest.exchange, STATUS_OK);
    }
}

void link_cycle(void)
{
    struct exchange exchange;
    if (digest.under_way != 0) {
        go_on();
        return;
    }
    uint32_t status = link_receive(&exchange);
    if (status == NO_REQUEST) {
        return;
    }
    if (status == STATUS_OK && exchange.type == REQUEST_DIGEST) {
        digest.exchange = exchange;
        status = inventory_begin(&exchange, &digest.inventory);
        digest.under_way = status == STATUS_OK;
    } else if (status == STATUS_OK) {
        status = serve(&exchange);
    }
    if (digest.under_way == 0) {
        link_answer(&exchange, status);
    }
}
