#include "update/stream.h"

#include <bearssl_block.h>

#include "boot/wipe.h"
#include "verify/bytes.h"

uint32_t other_bank(void)
{
    return reg_read(REG_SYS_BANK) == 0 ? 1u : 0u;
}

static uint32_t slot_offset(enum stage stage)
{
    return slot_address(0, stage);
}

static uint32_t erase_slot(enum stage stage, struct refusal *why)
{
    for (uint32_t at = 0; at < slot_size(stage); at += FLASH_PAGE_SIZE) {
        const uint32_t status = flash_erase(other_bank(), slot_offset(stage) + at);
        if (status != STATUS_OK) {
            return refuse(why, status, STATUS_OK, slot_offset(stage) + at);
        }
    }
    return STATUS_OK;
}

/* Whole phrases, filled up as erased flash reads; what is written is read back. `at` is a multiple of
 * WRITE_SIZE, and all of it lies inside the slot. */
static uint32_t program(enum stage stage, uint32_t at, const uint8_t *data, uint32_t size, struct refusal *why)
{
    for (uint32_t done = 0; done < size; done += WRITE_SIZE) {
        uint8_t phrase[WRITE_SIZE];
        for (uint32_t i = 0; i < WRITE_SIZE; i++) {
            phrase[i] = done + i < size ? data[done + i] : FLAG_ERASED;
        }
        const uint32_t low = read_u32(phrase);
        const uint32_t high = read_u32(phrase + 4);
        const uint32_t offset = slot_offset(stage) + at + done;
        const uint32_t status = flash_program(other_bank(), offset, low, high);
        if (status != STATUS_OK) {
            return refuse(why, status, STATUS_OK, offset);
        }
        const uint32_t written = flash_word(INACTIVE_BASE + offset);
        if (written != low || flash_word(INACTIVE_BASE + offset + 4u) != high) {
            return refuse(why, STATUS_FLASH_READBACK, low, written);
        }
    }
    return STATUS_OK;
}

uint32_t stream_open(struct stream *stream, enum stage stage, uint32_t length, const uint8_t *wrapped,
                     const uint8_t scalar[SECRET_SIZE], struct refusal *why)
{
    stream_close(stream);
    if (length < IMAGE_HEADER_SIZE || length > slot_size(stage)) {
        return refuse(why, STATUS_IMAGE_SIZE, slot_size(stage), length);
    }
    *stream = (struct stream){.stage = stage, .length = length, .encrypted = wrapped != (const uint8_t *)0};
    if (stream->encrypted != 0 && ecies_unwrap(scalar, wrapped, stream->key) != STATUS_OK) {
        return refuse(why, STATUS_IMAGE_ENCRYPTION, LINK_WRAPPED_KEY_SIZE, first_word(wrapped + 1));
    }
    return erase_slot(stage, why);
}

/* Where the payload lies, and whether it is encrypted as the request for it said. */
static uint32_t inspect(struct stream *stream, const uint8_t *header, struct refusal *why)
{
    struct image image = {0};
    uint32_t protected_size;
    const uint32_t status = image_decode_header(header, stream->length, &image, &protected_size, why);
    if (status != STATUS_OK) {
        return status;
    }
    const uint32_t flags = stream->encrypted != 0 ? IMAGE_FLAG_ENC_AES128 : 0u;
    if (image.flags != flags) {
        return refuse(why, STATUS_IMAGE_ENCRYPTION, flags, image.flags);
    }
    if (stream->encrypted != 0 && image.header_size % CHUNK_ALIGNMENT != 0) {
        return refuse(why, STATUS_IMAGE_HEADER, CHUNK_ALIGNMENT, image.header_size);
    }
    stream->payload_start = image.header_size;
    stream->payload_end = image.header_size + image.payload_size;
    return STATUS_OK;
}

/* The part of the chunk that is payload. It starts on a block of AES: chunks and payload do. */
static void decrypt(const struct stream *stream, uint8_t *data, uint32_t size)
{
    static const uint8_t nonce[12];
    const uint32_t end = stream->received + size;
    const uint32_t from = stream->received > stream->payload_start ? stream->received : stream->payload_start;
    const uint32_t to = end < stream->payload_end ? end : stream->payload_end;
    br_aes_ct_ctr_keys keys;
    if (stream->encrypted == 0 || from >= to) {
        return;
    }
    br_aes_ct_ctr_init(&keys, stream->key, sizeof stream->key);
    (void)br_aes_ct_ctr_run(&keys, nonce, (from - stream->payload_start) / CHUNK_ALIGNMENT,
                            data + (from - stream->received), to - from);
    wipe(&keys, sizeof keys);
}

uint32_t stream_take(struct stream *stream, uint32_t offset, uint8_t *data, uint32_t size, struct refusal *why)
{
    if (offset != stream->received) {
        return STATUS_LINK_STATE;
    }
    const uint32_t left = stream->length - stream->received;
    if (size > left || (size < left && size % CHUNK_ALIGNMENT != 0) ||
        (offset == 0 && size < IMAGE_HEADER_SIZE)) {
        return STATUS_LINK_FRAME;
    }
    uint32_t status = STATUS_OK;
    if (offset == 0) {
        status = inspect(stream, data, why);
    }
    if (status == STATUS_OK) {
        decrypt(stream, data, size);
        status = program(stream->stage, offset, data, size, why);
    }
    if (status == STATUS_OK) {
        stream->received += size;
    }
    return status;
}

uint32_t stream_whole(const struct stream *stream)
{
    return stream->received == stream->length;
}

void stream_close(struct stream *stream)
{
    wipe(stream, sizeof *stream);
}

uint32_t stream_copy(enum stage stage, struct refusal *why)
{
    struct image image;
    const uint8_t *const slot = flash_at(slot_address(ACTIVE_BASE, stage));
    uint32_t status = image_decode(slot, slot_size(stage), &image, why);
    if (status == STATUS_OK) {
        status = erase_slot(stage, why);
    }
    if (status == STATUS_OK) {
        const uint32_t tlvs = read_u16(slot + image.signed_size + 2u);
        status = program(stage, 0, slot, image.signed_size + tlvs, why);
    }
    return status;
}
