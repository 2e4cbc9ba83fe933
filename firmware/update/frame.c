#include "update/frame.h"

#include "verify/bytes.h"

#define WORD 4u
#define REQUEST_MAX (LINK_REQUEST_HEADER_SIZE + LINK_MAX_PAYLOAD)
#define ANSWER_MAX (LINK_ANSWER_HEADER_SIZE + LINK_MAX_ANSWER)

_Static_assert(REQUEST_MAX <= LINK_BUFFER_SIZE && ANSWER_MAX <= LINK_BUFFER_SIZE, "fit the message RAM");
_Static_assert(REQUEST_MAX % WORD == 0 && ANSWER_MAX % WORD == 0, "whole words");

static uint8_t request[REQUEST_MAX];
static uint8_t reply[ANSWER_MAX];

/* Every request there is, and how many bytes of payload it can have. */
static const struct {
    uint8_t type;
    uint16_t least;
    uint16_t most;
} REQUESTS[] = {
    {REQUEST_IDENTIFY, 0, 0},
    {REQUEST_BOOT_RECORD, 0, 0},
    {REQUEST_DIGEST, 4, 4},
    {REQUEST_ENTER_UPDATE, 0, 0},
    {REQUEST_BEGIN, 4, LINK_MAX_PAYLOAD},
    {REQUEST_IMAGE, 8, 8u + LINK_WRAPPED_KEY_SIZE},
    {REQUEST_DATA, 4u + 1u, 4u + LINK_MAX_DATA},
    {REQUEST_COPY, 4, 4},
    {REQUEST_FINISH, 0, 0},
    {REQUEST_ABORT, 0, 0},
    {REQUEST_REVOKE, 1, LINK_MAX_PAYLOAD},
    {REQUEST_VAULT_WRITE, 8u + 1u, 8u + LINK_MAX_VALUE},
    {REQUEST_VAULT_READ, 4, 4},
    {REQUEST_RESTART, 0, 0},
};

/* Known, and of a length it can have. */
static uint32_t check(uint32_t type, uint32_t length)
{
    for (uint32_t i = 0; i < sizeof REQUESTS / sizeof REQUESTS[0]; i++) {
        if (REQUESTS[i].type == type && length >= REQUESTS[i].least && length <= REQUESTS[i].most) {
            return STATUS_OK;
        }
    }
    return STATUS_LINK_FRAME;
}

/* The frame's bytes out of the message RAM, no more than any request has. Returns how many. */
static uint32_t fetch(uint32_t length)
{
    const uint32_t copied = length < sizeof request ? length : sizeof request;
    for (uint32_t at = 0; at < copied; at += WORD) {
        write_u32(request + at, reg_read(LINK_RX_BASE + at));
    }
    reg_write(REG_LINK_RX_DONE, 1);
    return copied;
}

uint32_t link_receive(struct exchange *out)
{
    const uint32_t length = reg_read(REG_LINK_RX_LENGTH);
    *out = (struct exchange){.payload = request + LINK_REQUEST_HEADER_SIZE,
                             .answer = reply + LINK_ANSWER_HEADER_SIZE};
    if (length == 0) {
        return NO_REQUEST;
    }
    if (fetch(length) < LINK_REQUEST_HEADER_SIZE) {
        return STATUS_LINK_FRAME;
    }
    out->type = request[0];
    out->sequence = request[1];
    out->length = read_u16(request + 2);
    if (length > sizeof request || length - LINK_REQUEST_HEADER_SIZE != out->length) {
        return STATUS_LINK_FRAME;
    }
    return check(out->type, out->length);
}

void link_answer(const struct exchange *exchange, uint32_t status)
{
    const uint32_t payload = status == STATUS_OK ? exchange->answer_length : 0;
    const uint32_t length = LINK_ANSWER_HEADER_SIZE + payload;
    reply[0] = (uint8_t)(exchange->type | LINK_ANSWER);
    reply[1] = (uint8_t)exchange->sequence;
    reply[2] = (uint8_t)payload;
    reply[3] = (uint8_t)(payload >> 8);
    write_u32(reply + 4, status);
    for (uint32_t at = 0; at < length; at += WORD) {
        reg_write(LINK_TX_BASE + at, read_u32(reply + at));
    }
    reg_write(REG_LINK_TX_LENGTH, length);
    if (exchange->restart != 0 && status == STATUS_OK) {
        reset();
    }
}

uint32_t link_zeros(const uint8_t *bytes, uint32_t size)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < size; i++) {
        found |= bytes[i];
    }
    return found == 0;
}
