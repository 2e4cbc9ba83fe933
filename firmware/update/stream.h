/* One image on its way into its slot of the bank that does not run: decrypted, programmed, read back. */
#pragma once

#include "boot/board.h"
#include "update/ecies.h"

struct stream {
    enum stage stage;
    uint32_t length;   /* of the whole image, as stated */
    uint32_t received; /* a multiple of CHUNK_ALIGNMENT until the image is whole */
    uint32_t encrypted;
    uint32_t payload_start;
    uint32_t payload_end;
    uint8_t key[CONTENT_KEY_SIZE];
};

#define CHUNK_ALIGNMENT 16u /* of AES */

/* The index of the bank that is written: the one that is not mapped active. */
uint32_t other_bank(void);

/* Erase the slot of `stage` for an image of `length` bytes. `wrapped` is null for a plain one. A refusal
 * for the length or the key comes before the erase. */
uint32_t stream_open(struct stream *stream, enum stage stage, uint32_t length, const uint8_t *wrapped,
                     const uint8_t scalar[SECRET_SIZE], struct refusal *why);

/* The next `size` bytes, which are changed. STATUS_LINK_STATE for another offset than the next,
 * STATUS_LINK_FRAME for a size that cannot be; both change nothing. */
uint32_t stream_take(struct stream *stream, uint32_t offset, uint8_t *data, uint32_t size,
                     struct refusal *why);

/* Whether all of the image is there. */
uint32_t stream_whole(const struct stream *stream);

/* Forget the content key. */
void stream_close(struct stream *stream);

/* The image of `stage` from the running bank. */
uint32_t stream_copy(enum stage stage, struct refusal *why);
