#include "boot/revocation.h"

#include <bearssl_hash.h>

#include "boot/board.h"
#include "hardened.h"
#include "verify/bytes.h"
#include "verify/crypto.h"
#include "verify/p256raw.h"

#define FORMAT 1u
#define KEYS_MAX 4u
#define ENTRY_SIZE (1u + P256_RAW_SIZE)
#define UNCOMPRESSED 4u
#define PAGE_OFFSET (DATA_PAGE_REVOCATION * DATA_PAGE_SIZE)
#define PAGE_ADDRESS (DATA_BASE + PAGE_OFFSET)
#define LENGTH_SIZE 4u
#define ERASED_WORD 0xFFFFFFFFu

enum revocation_offset {
    AT_FORMAT = 4,
    AT_THRESHOLD = 5,
    AT_KEYS = 6,
    AT_SIGNATURES = 7,
    AT_KEY_HASH = 8,
    AT_POINTS = AT_KEY_HASH + DIGEST_SIZE,
};

_Static_assert(AT_POINTS + KEYS_MAX * (P256_POINT_SIZE + ENTRY_SIZE) == REVOCATION_SIZE_MAX, "four of each");
_Static_assert(LENGTH_SIZE + REVOCATION_SIZE_MAX <= DATA_PAGE_SIZE, "fits its page");

/* --- format --- */
static uint32_t malformed(struct refusal *why, uint32_t expected, uint32_t found)
{
    return refuse(why, STATUS_REVOCATION_FORMAT, expected, found);
}

static uint32_t points_ascend(const struct revocation *it, struct refusal *why)
{
    for (uint32_t i = 0; i < it->keys; i++) {
        const uint8_t *const point = it->points + i * P256_POINT_SIZE;
        if (point[0] != UNCOMPRESSED) {
            return malformed(why, UNCOMPRESSED, point[0]);
        }
        uint32_t at = 0;
        while (i != 0 && at < P256_POINT_SIZE - 1u && point[at] == (point - P256_POINT_SIZE)[at]) {
            at++;
        }
        if (i != 0 && point[at] <= (point - P256_POINT_SIZE)[at]) {
            return malformed(why, i, at);
        }
    }
    return STATUS_OK;
}

static uint32_t indices_ascend(const struct revocation *it, struct refusal *why)
{
    uint32_t least = 0;
    for (uint32_t i = 0; i < it->signatures; i++) {
        const uint32_t index = it->entries[i * ENTRY_SIZE];
        if (index < least || index >= it->keys) {
            return malformed(why, least, index);
        }
        least = index + 1u;
    }
    return STATUS_OK;
}

uint32_t revocation_decode(const uint8_t *data, uint32_t size, struct revocation *out, struct refusal *why)
{
    static const uint8_t magic[] = {'C', 'W', 'R', 'V'};
    *out = (struct revocation){0};
    if (size < AT_POINTS) {
        return malformed(why, AT_POINTS, size);
    }
    if (bytes_differ(data, magic, sizeof magic) != 0 || data[AT_FORMAT] != FORMAT) {
        return malformed(why, FORMAT, data[AT_FORMAT]);
    }
    const uint32_t m = data[AT_THRESHOLD];
    const uint32_t n = data[AT_KEYS];
    const uint32_t k = data[AT_SIGNATURES];
    if (m == 0 || k < m || n < k || n > KEYS_MAX) {
        return malformed(why, KEYS_MAX, n);
    }
    const uint32_t whole = AT_POINTS + n * P256_POINT_SIZE + k * ENTRY_SIZE;
    if (size != whole) {
        return malformed(why, whole, size);
    }
    const uint8_t *const points = data + AT_POINTS;
    const struct revocation it = {m, n, k, data, data + AT_KEY_HASH, points, points + n * P256_POINT_SIZE};
    uint32_t status = points_ascend(&it, why);
    if (status == STATUS_OK) {
        status = indices_ascend(&it, why);
    }
    if (status == STATUS_OK) {
        *out = it;
    }
    return status;
}

/* --- who signed --- */
static void quorum_hash(const struct revocation *it, uint8_t hash[DIGEST_SIZE])
{
    static const char label[] = "cellward root quorum v1";
    br_sha256_context context;
    br_sha256_init(&context);
    br_sha256_update(&context, label, sizeof label - 1u);
    br_sha256_update(&context, it->bytes + AT_THRESHOLD, 2u); /* m, n */
    br_sha256_update(&context, it->points, it->keys * P256_POINT_SIZE);
    br_sha256_out(&context, hash);
}

static void signed_digest(const struct revocation *it, const uint8_t quorum[DIGEST_SIZE],
                          uint8_t digest[DIGEST_SIZE])
{
    static const char label[] = "cellward revocation v1";
    br_sha256_context context;
    br_sha256_init(&context);
    br_sha256_update(&context, label, sizeof label - 1u);
    br_sha256_update(&context, quorum, DIGEST_SIZE);
    br_sha256_update(&context, it->key_hash, DIGEST_SIZE);
    br_sha256_out(&context, digest);
}

/* GOOD where the quorum is the fuses' and burned. */
static verdict quorum_verdict(const uint8_t hash[DIGEST_SIZE], struct refusal *why)
{
    static const uint8_t unburned[DIGEST_SIZE];
    uint8_t fuses[DIGEST_SIZE];
    otp_copy(OTP_ROOT_QUORUM_OFFSET, fuses, sizeof fuses);
    *why = (struct refusal){STATUS_REVOCATION_SIGNATURE, first_word(fuses), first_word(hash)};
    const uint32_t empty = ~spread(bytes_differ(fuses, unburned, sizeof fuses));
    return verdict_of(bytes_differ(fuses, hash, sizeof fuses) | empty);
}

/* Every signature, each twice: GOOD only where all are. `m` of them are there, says the decoder. */
static verdict signatures_verdict(const struct revocation *it, const uint8_t digest[DIGEST_SIZE],
                                  struct refusal *why)
{
    uint32_t differ = 0;
    volatile uint32_t verified = 0; /* volatile: a loop that was left early is seen */
    for (uint32_t i = 0; i < it->signatures; i++) {
        const uint8_t *const entry = it->entries + i * ENTRY_SIZE;
        const uint8_t *const point = it->points + entry[0] * P256_POINT_SIZE;
        for (uint32_t again = 0; again < 2u; again++) {
            const uint32_t bad = verdict_differs(p256_verify_raw(point, digest, entry + 1));
            if (bad != 0) {
                why->expected = it->threshold;
                why->found = entry[0];
            }
            differ |= bad;
            verified++;
        }
    }
    return verdict_of(differ | (verified ^ (2u * it->signatures)));
}

static verdict quorum_signed(const struct revocation *it, struct refusal *why)
{
    uint8_t quorum[DIGEST_SIZE];
    uint8_t digest[DIGEST_SIZE];
    quorum_hash(it, quorum);
    const verdict known = quorum_verdict(quorum, why);
    if (verdict_differs(known) != 0) {
        return known;
    }
    signed_digest(it, quorum, digest);
    const verdict authentic = signatures_verdict(it, digest, why);
    return verdict_of(verdict_differs(authentic) | verdict_differs(known));
}

/* --- what remains --- */
static uint32_t slots_with(const uint8_t hash[DIGEST_SIZE])
{
    static const uint8_t unburned[DIGEST_SIZE];
    uint8_t key[DIGEST_SIZE];
    uint32_t slots = 0;
    for (uint32_t slot = 0; slot < OTP_SLOT_KEY_COUNT; slot++) {
        otp_copy(OTP_SLOT_KEYS_OFFSET + slot * DIGEST_SIZE, key, sizeof key);
        if (bytes_differ(key, unburned, sizeof key) != 0 && bytes_differ(key, hash, sizeof key) == 0) {
            slots |= 1u << slot;
        }
    }
    return slots;
}

static uint32_t burned_slots(void)
{
    uint32_t slots = 0;
    for (uint32_t at = 0; at < OTP_SLOT_KEYS_SIZE; at += 4u) {
        if (otp_word(OTP_SLOT_KEYS_OFFSET + at) != 0) {
            slots |= 1u << (at / DIGEST_SIZE);
        }
    }
    return slots;
}

/* Slots that an image may be signed for once `lost` are gone. */
static uint32_t remaining_slots(uint32_t lost)
{
    return burned_slots() & ~(lost | otp_revoked());
}

static uint32_t in_use_check(const struct revocation *it, const uint8_t (*in_use)[DIGEST_SIZE],
                             uint32_t count, struct refusal *why)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bytes_differ(in_use[i], it->key_hash, DIGEST_SIZE) == 0) {
            return refuse(why, STATUS_REVOCATION_IN_USE, i, first_word(it->key_hash));
        }
    }
    return STATUS_OK;
}

/* `authentic` is also the key to the bits: of any other word no bit is left to burn. */
static uint32_t burn(uint32_t slots, verdict authentic, struct refusal *why)
{
    const uint32_t bits = slots & ~spread(verdict_differs(authentic));
    const uint32_t status = otp_burn(OTP_REVOKED_OFFSET, bits);
    const uint32_t revoked = otp_word(OTP_REVOKED_OFFSET);
    if (status != STATUS_OK || (slots & ~revoked) != 0) {
        return refuse(why, status != STATUS_OK ? status : STATUS_OTP_ONE_WAY, slots, revoked);
    }
    return STATUS_OK;
}

uint32_t revocation_apply(const uint8_t *data, uint32_t size, const uint8_t (*in_use)[DIGEST_SIZE],
                          uint32_t in_use_count, struct refusal *why)
{
    struct revocation it;
    uint32_t status = revocation_decode(data, size, &it, why);
    if (status != STATUS_OK) {
        return status;
    }
    const verdict authentic = quorum_signed(&it, why);
    if (verdict_differs(authentic) != 0) {
        return why->status;
    }
    const uint32_t slots = slots_with(it.key_hash);
    if (slots == 0) {
        return refuse(why, STATUS_IMAGE_KEY_UNKNOWN, 0, first_word(it.key_hash));
    }
    if ((slots & ~otp_word(OTP_REVOKED_OFFSET)) == 0) {
        return STATUS_OK; /* done already: a cut came before the page was erased */
    }
    if (remaining_slots(slots) == 0) {
        return refuse(why, STATUS_REVOCATION_LAST_KEY, slots, otp_word(OTP_REVOKED_OFFSET));
    }
    status = in_use_check(&it, in_use, in_use_count, why);
    return status == STATUS_OK ? burn(slots, authentic, why) : status;
}

/* --- the page --- */
static uint32_t padded_word(const uint8_t *data, uint32_t size, uint32_t at)
{
    uint32_t word = 0;
    for (uint32_t i = 0; i < 4u; i++) {
        const uint32_t byte = at + i < size ? data[at + i] : FLAG_ERASED;
        word |= byte << (8u * i);
    }
    return word;
}

uint32_t revocation_store(const uint8_t *data, uint32_t size)
{
    struct revocation it;
    struct refusal why;
    uint32_t status = revocation_decode(data, size, &it, &why);
    if (status == STATUS_OK) {
        status = flash_erase(DATA_BANK, PAGE_OFFSET);
    }
    for (uint32_t at = LENGTH_SIZE; at < size && status == STATUS_OK; at += WRITE_SIZE) {
        status = flash_program(DATA_BANK, PAGE_OFFSET + LENGTH_SIZE + at, padded_word(data, size, at),
                               padded_word(data, size, at + 4u));
    }
    return status == STATUS_OK ? flash_program(DATA_BANK, PAGE_OFFSET, size, padded_word(data, size, 0)) : status;
}

uint32_t revocation_waits(void)
{
    return flash_word(PAGE_ADDRESS) != ERASED_WORD;
}

uint32_t revocation_carry_out(const uint8_t (*in_use)[DIGEST_SIZE], uint32_t in_use_count,
                              struct refusal *why)
{
    const uint32_t length = flash_word(PAGE_ADDRESS);
    /* A length that leaves the page decodes to nothing. */
    const uint32_t size = length <= REVOCATION_SIZE_MAX ? length : 0;
    const uint32_t status =
        revocation_apply(flash_at(PAGE_ADDRESS + LENGTH_SIZE), size, in_use, in_use_count, why);
    const uint32_t erased = flash_erase(DATA_BANK, PAGE_OFFSET);
    return status == STATUS_OK && erased != STATUS_OK ? refuse(why, erased, 0, 0) : status;
}
