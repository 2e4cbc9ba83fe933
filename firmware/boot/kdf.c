#include "boot/kdf.h"

#include <bearssl_hash.h>
#include <bearssl_hmac.h>

#include "boot/wipe.h"
#include "verify/bytes.h"

static void hmac_start(br_hmac_context *context, const void *key, uint32_t size)
{
    br_hmac_key_context padded;
    br_hmac_key_init(&padded, &br_sha256_vtable, key, size);
    br_hmac_init(context, &padded, 0);
    wipe(&padded, sizeof padded);
}

static void hmac_end(br_hmac_context *context, uint8_t out[DIGEST_SIZE])
{
    (void)br_hmac_out(context, out);
    wipe(context, sizeof *context);
}

void hmac_sha256(const uint8_t *key, uint32_t key_size, const void *data, uint32_t size,
                 uint8_t out[DIGEST_SIZE])
{
    br_hmac_context context;
    hmac_start(&context, key, key_size);
    br_hmac_update(&context, data, size);
    hmac_end(&context, out);
}

/* Section 2.2. */
void hkdf_extract(const void *salt, uint32_t salt_size, const uint8_t *ikm, uint32_t size,
                  uint8_t prk[DIGEST_SIZE])
{
    hmac_sha256(salt, salt_size, ikm, size, prk);
}

/* Section 2.3: T(n) = HMAC(PRK, T(n-1) | info | n). */
void hkdf_expand(const uint8_t prk[DIGEST_SIZE], const void *info, uint32_t info_size, uint8_t *out,
                 uint32_t size)
{
    br_hmac_context context;
    uint8_t block[DIGEST_SIZE];
    uint8_t number = 0;
    for (uint32_t done = 0; done < size;) {
        const uint32_t left = size - done;
        const uint32_t count = left < DIGEST_SIZE ? left : DIGEST_SIZE;
        hmac_start(&context, prk, DIGEST_SIZE);
        if (number != 0) {
            br_hmac_update(&context, block, sizeof block);
        }
        number++;
        br_hmac_update(&context, info, info_size);
        br_hmac_update(&context, &number, sizeof number);
        hmac_end(&context, block);
        copy_bytes(out + done, block, count);
        done += count;
    }
    wipe(block, sizeof block);
}
