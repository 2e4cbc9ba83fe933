/* Steps 2 to 7: is this image the maker's, for this device, and not an old one? */
#include "bytes.h"
#include "crypto.h"
#include "generated/unlock.h"
#include "hardened.h"
#include "rsa.h"

/* One pass over one image. */
struct check {
    const struct image *image;
    const struct trust *trust;
    uint32_t pass;
    struct verified *out;
    struct refusal *why;
};

static const uint32_t SHARES[VERIFY_PASSES][UNLOCK_STEPS] = UNLOCK_SHARES;

/* Every comparison passes here before it is judged: volatile, so that the share is added from what
 * differed and not from what the compiler concludes from a branch that follows. */
void unlock_add(struct verified *out, uint32_t share, uint32_t differ)
{
    volatile uint32_t *const unlock = &out->unlock;
    *unlock ^= share & ~spread(opaque(differ));
}

static void pass_step(const struct check *check, uint32_t step, uint32_t differ)
{
    unlock_add(check->out, SHARES[check->pass][step], differ);
}

static const uint8_t *value_of(const struct image *image, const struct tlv *tlv)
{
    return image->slot + tlv->offset;
}

/* Step 2. */
static uint32_t verify_digest(const struct check *check)
{
    const uint8_t *const digest = check->out->digest;
    if (check->image->sha256.offset == 0) {
        return refuse(check->why, STATUS_IMAGE_HASH, first_word(digest), 0);
    }
    const uint8_t *const stated = value_of(check->image, &check->image->sha256);
    const uint32_t differ = bytes_differ(stated, digest, DIGEST_SIZE);
    pass_step(check, UNLOCK_DIGEST, differ);
    if (opaque(differ) != 0) {
        return refuse(check->why, STATUS_IMAGE_HASH, first_word(stated), first_word(digest));
    }
    return STATUS_OK;
}

/* One signature, and a key that is named before it. MCUboot ignores a signature whose key has not been
 * named yet. */
static uint32_t check_signed(const struct image *image, struct refusal *why)
{
    const uint32_t signature = image->ecdsa.offset | image->rsa.offset; /* the other one is 0 */
    const uint32_t last_key =
        image->pubkey.offset > image->keyhash.offset ? image->pubkey.offset : image->keyhash.offset;
    if (signature == 0) {
        return refuse(why, STATUS_IMAGE_NO_SIGNATURE, TLV_ECDSA, 0);
    }
    if (last_key == 0) {
        return refuse(why, STATUS_IMAGE_NO_SIGNATURE, TLV_PUBKEY, 0);
    }
    if (image->ecdsa.offset != 0 && image->rsa.offset != 0) {
        return refuse(why, STATUS_IMAGE_NO_SIGNATURE, TLV_ECDSA, TLV_RSA3072_PSS);
    }
    if (last_key > signature) {
        return refuse(why, STATUS_IMAGE_NO_SIGNATURE, signature, last_key);
    }
    return STATUS_OK;
}

/* The key's encoding decides what signs (docs/formats/image.md): the TLV of that algorithm, or 0 for
 * bytes that are no key. */
static uint32_t algorithm_of(const struct image *image)
{
    static const uint8_t prefix[P256_SPKI_PREFIX_SIZE] = P256_SPKI_PREFIX;
    const uint8_t *const key = value_of(image, &image->pubkey);
    if (image->pubkey.length == P256_SPKI_SIZE && bytes_differ(key, prefix, sizeof prefix) == 0) {
        return TLV_ECDSA;
    }
    if (image->pubkey.length == RSA3072_PKCS1_SIZE && rsa3072_key_differs(key) == 0) {
        return TLV_RSA3072_PSS;
    }
    return 0;
}

/* The hash of the key the image names: PUBKEY's, which KEYHASH must agree with, or KEYHASH. */
static uint32_t key_hash(const struct image *image, uint8_t hash[DIGEST_SIZE], struct refusal *why)
{
    const uint8_t *const stated = value_of(image, &image->keyhash);

    if (image->pubkey.offset == 0) {
        copy_bytes(hash, stated, DIGEST_SIZE);
        return STATUS_OK;
    }
    if (algorithm_of(image) == 0) {
        return refuse(why, STATUS_IMAGE_KEY_MALFORMED, P256_SPKI_SIZE, image->pubkey.length);
    }
    sha256(value_of(image, &image->pubkey), image->pubkey.length, hash);
    if (image->keyhash.offset != 0 && bytes_differ(stated, hash, DIGEST_SIZE) != 0) {
        return refuse(why, STATUS_IMAGE_KEY_MALFORMED, first_word(stated), first_word(hash));
    }
    return STATUS_OK;
}

/* Bit n: slot n holds this hash. */
static uint32_t slots_with(const struct trust *trust, const uint8_t hash[DIGEST_SIZE])
{
    static const uint8_t unburned[DIGEST_SIZE];
    uint32_t slots = 0;
    for (uint32_t slot = 0; slot < OTP_SLOT_KEY_COUNT; slot++) {
        const uint8_t *const key = trust->slot_keys[slot];
        if (bytes_differ(key, unburned, DIGEST_SIZE) != 0 && bytes_differ(key, hash, DIGEST_SIZE) == 0) {
            slots |= 1u << slot;
        }
    }
    return slots;
}

/* 0 where `slot` holds this hash and is not revoked. Asked again for the share: the search above may
 * have been made to stop at a wrong slot. */
static uint32_t slot_differs(const struct trust *trust, uint32_t slot, const uint8_t hash[DIGEST_SIZE])
{
    const uint32_t in_range = slot & (OTP_SLOT_KEY_COUNT - 1u);
    return bytes_differ(trust->slot_keys[in_range], hash, DIGEST_SIZE) | (slot ^ in_range) |
           ((trust->revoked >> in_range) & 1u);
}

/* Steps 3 and 4. */
static uint32_t verify_key(const struct check *check)
{
    const struct image *const image = check->image;
    const struct trust *const trust = check->trust;
    struct refusal *const why = check->why;
    uint8_t *const hash = check->out->key_hash;

    uint32_t status = check_signed(image, why);
    if (status != STATUS_OK) {
        return status;
    }
    status = key_hash(image, hash, why);
    if (status != STATUS_OK) {
        return status;
    }
    const uint32_t slots = slots_with(trust, hash);
    uint32_t slot = 0;
    while (slot < OTP_SLOT_KEY_COUNT && ((slots >> slot) & 1u) == 0) {
        slot++;
    }
    pass_step(check, UNLOCK_KEY, slot_differs(trust, slot, hash));
    if (opaque(slots) == 0) {
        return refuse(why, STATUS_IMAGE_KEY_UNKNOWN, first_word(trust->slot_keys[0]), first_word(hash));
    }
    if ((opaque(slots) & trust->revoked) != 0) {
        return refuse(why, STATUS_IMAGE_KEY_REVOKED, 0, first_word(hash));
    }
    if (image->pubkey.offset == 0) { /* the fuses hold only its hash */
        return refuse(why, STATUS_IMAGE_NO_SIGNATURE, TLV_PUBKEY, TLV_KEYHASH);
    }
    const uint32_t algorithm = algorithm_of(image);
    const uint32_t signature = algorithm == TLV_RSA3072_PSS ? image->rsa.offset : image->ecdsa.offset;
    if (signature == 0) { /* the other kind's signature is none */
        return refuse(why, STATUS_IMAGE_NO_SIGNATURE, algorithm, 0);
    }
    return STATUS_OK;
}

/* Step 5. */
static uint32_t verify_signature(const struct check *check)
{
    const struct image *const image = check->image;
    const uint8_t *const digest = check->out->digest;
    const uint8_t *const key = value_of(image, &image->pubkey);
    uint32_t status;
    if (algorithm_of(image) == TLV_RSA3072_PSS) {
        const verdict said = rsa3072_pss_verify(key, digest, value_of(image, &image->rsa));
        status = STATUS_IMAGE_SIGNATURE ^
                 (~spread(verdict_differs(said)) & (STATUS_IMAGE_SIGNATURE ^ STATUS_OK));
    } else {
        status = p256_verify(key, digest, value_of(image, &image->ecdsa), image->ecdsa.length);
    }
    pass_step(check, UNLOCK_SIGNATURE, status ^ STATUS_OK);
    if (opaque(status) == STATUS_OK) {
        return STATUS_OK;
    }
    const uint32_t code =
        status == STATUS_IMAGE_KEY_MALFORMED ? STATUS_IMAGE_KEY_MALFORMED : STATUS_IMAGE_SIGNATURE;
    return refuse(check->why, code, first_word(digest), 0);
}

/* Step 6. An image without a counter is older than any. */
static uint32_t verify_counter(const struct check *check)
{
    const uint32_t fuses = check->trust->counter;
    const uint32_t counter = image_counter(check->image);
    const uint32_t missing = spread(check->image->counter.offset) ^ 0xFFFFFFFFu;
    const uint32_t differ = missing | (uint32_t)(((uint64_t)counter - fuses) >> 63);
    pass_step(check, UNLOCK_COUNTER, differ);
    if (opaque(differ) != 0) {
        return refuse(check->why, STATUS_IMAGE_COUNTER, fuses, counter);
    }
    return STATUS_OK;
}

/* Step 7, for one of the two ids. All that differs is or'ed into `differ`. */
static uint32_t verify_uuid(const struct check *check, const struct tlv *tlv, const uint8_t *fuses,
                            uint32_t *differ)
{
    const uint8_t *const stated = value_of(check->image, tlv);
    const uint32_t missing = spread(tlv->offset) ^ 0xFFFFFFFFu;
    const uint32_t other = missing | bytes_differ(stated, fuses, OTP_VENDOR_ID_SIZE);
    *differ |= other;
    if (opaque(other) != 0) {
        return refuse(check->why, STATUS_IMAGE_HARDWARE, first_word(fuses),
                      tlv->offset == 0 ? 0 : first_word(stated));
    }
    return STATUS_OK;
}

static uint32_t verify_hardware(const struct check *check)
{
    uint32_t differ = 0;
    uint32_t status = verify_uuid(check, &check->image->vendor, check->trust->vendor, &differ);
    if (status == STATUS_OK) {
        status = verify_uuid(check, &check->image->klass, check->trust->klass, &differ);
    }
    pass_step(check, UNLOCK_HARDWARE, differ | (status ^ STATUS_OK));
    return status;
}

typedef uint32_t (*step)(const struct check *check);
static const step STEPS[] = {verify_digest, verify_key, verify_signature, verify_counter, verify_hardware};
#define STEP_COUNT (sizeof STEPS / sizeof STEPS[0])

uint32_t image_measure(const uint8_t *slot, uint32_t slot_size, struct verified *out, struct refusal *why)
{
    struct image image;

    *out = (struct verified){0};
    *why = (struct refusal){0};
    const uint32_t status = image_decode(slot, slot_size, &image, why);
    if (status != STATUS_OK) {
        return status;
    }
    sha256(slot, image.signed_size, out->digest);
    out->signed_size = image.signed_size;
    return STATUS_OK;
}

uint32_t image_check(const uint8_t *slot, uint32_t slot_size, const struct trust *trust, uint32_t pass,
                     struct verified *out, struct refusal *why)
{
    struct image image;
    const struct check check = {&image, trust, pass, out, why};
    volatile uint32_t steps = 0; /* the control-flow counter: each step's word goes into the result */

    uint32_t status = image_decode(slot, slot_size, &image, why);
    if (status != STATUS_OK) {
        return status;
    }
    if (image.signed_size != out->signed_size) { /* the digest is of something else */
        return refuse(why, STATUS_IMAGE_SIZE, out->signed_size, image.signed_size);
    }
    for (uint32_t i = 0; i < STEP_COUNT; i++) {
        status = STEPS[i](&check);
        if (status != STATUS_OK) {
            return status;
        }
        steps += status;
    }
    out->payload_offset = image.header_size;
    out->payload_size = image.payload_size;
    out->counter = image_counter(&image);
    out->version = image.version;
    return steps - (uint32_t)(STEP_COUNT - 1u) * STATUS_OK;
}

uint32_t image_verify(const uint8_t *slot, uint32_t slot_size, const struct trust *trust,
                      struct verified *out, struct refusal *why)
{
    uint32_t status = image_measure(slot, slot_size, out, why);
    for (uint32_t pass = 0; pass < VERIFY_PASSES && status == STATUS_OK; pass++) {
        status = image_check(slot, slot_size, trust, pass, out, why);
    }
    if (status != STATUS_OK) {
        *out = (struct verified){0};
    }
    return status;
}
