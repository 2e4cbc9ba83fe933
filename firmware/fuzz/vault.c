/*
 * vault_open. Input: name u8 (its lowest bit), committed fuses u8, length of the first page's content u16,
 * then the content of both pages of the name; the vault key is VAULT_KEY.
 */
#include <stdlib.h>
#include <string.h>

#include "boot/kdf.h"
#include "boot/vaultblock.h"
#include "fuzz/tell.h"
#include "test/fake_module.h"
#include "verify/bytes.h"

#define HEAD 4u
#define AT_LENGTH 16u
#define BLOCK_HEAD 36u
#define VAULT_KEY 0x5Au /* every byte of it */

const uint32_t board_where = WHERE_ROM;

static uint32_t checksum(const uint8_t *bytes, uint32_t size)
{
    uint32_t hash = 0x811C9DC5u; /* FNV-1a */
    for (uint32_t i = 0; i < size; i++) {
        hash = (uint32_t)((uint64_t)(hash ^ bytes[i]) * 0x01000193u);
    }
    return hash;
}

static uint32_t first_page(const uint8_t *data, size_t size)
{
    const uint32_t stated = read_u16(data + 2);
    return stated < size - HEAD ? stated : (uint32_t)(size - HEAD);
}

static void put_page(uint32_t page, const uint8_t *content, size_t size)
{
    uint8_t *const at = fake.data + page * DATA_PAGE_SIZE;
    memset(at, 0xFF, DATA_PAGE_SIZE);
    memcpy(at, content, size < DATA_PAGE_SIZE ? size : DATA_PAGE_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vault_value value;
    uint8_t key[SECRET_SIZE];
    if (size < HEAD) {
        return 0;
    }
    const uint32_t name = data[0] & 1u;
    const uint32_t page = name == VAULT_KEYS ? DATA_PAGE_VAULT_KEYS : DATA_PAGE_VAULT_CALIBRATION;
    const uint32_t fuses = name == VAULT_KEYS ? OTP_VAULT_KEYS_OFFSET : OTP_VAULT_CALIBRATION_OFFSET;
    const uint32_t first = first_page(data, size);
    memset(key, VAULT_KEY, sizeof key);
    put_page(page, data + HEAD, first);
    put_page(page + 1u, data + HEAD + first, size - HEAD - first);
    memset(fake.fuses, 0, sizeof fake.fuses);
    for (uint32_t bit = 0; bit < data[1]; bit++) {
        fake.fuses[fuses / 4u + bit / 32u] |= 1u << (bit % 32u);
    }
    const uint32_t status = vault_open(name, key, &value);
    if (fake.faults != 0 || fake.data_touched != 0 || (status != STATUS_OK && value.length != 0)) {
        abort();
    }
    const uint32_t words[] = {status, value.version, value.counter, value.length,
                              checksum(value.bytes, value.length)};
    tell(data, size, words, sizeof words / sizeof words[0]);
    return 0;
}

/* Half of the mutants have the right tag for what the first page holds. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    uint8_t vault_key[SECRET_SIZE];
    uint8_t info[] = "vault authenticate.";
    uint8_t key[SECRET_SIZE];
    const size_t made = LLVMFuzzerMutate(data, size, max_size);
    if (made < HEAD + BLOCK_HEAD || seed % 2u != 0) {
        return made;
    }
    const uint32_t length = read_u32(data + HEAD + AT_LENGTH);
    if (length <= LINK_MAX_VALUE && HEAD + BLOCK_HEAD + length + DIGEST_SIZE <= made) {
        memset(vault_key, VAULT_KEY, sizeof vault_key);
        info[sizeof info - 2u] = data[0] & 1u;
        hkdf_expand(vault_key, info, sizeof info - 1u, key, sizeof key);
        hmac_sha256(key, sizeof key, data + HEAD, BLOCK_HEAD + length, data + HEAD + BLOCK_HEAD + length);
    }
    return made;
}
