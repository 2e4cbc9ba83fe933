/* Steps 2 to 7: is this image the maker's, for this device, and not an old one? */
#include "bytes.h"
#include "crypto.h"

static const uint8_t *value_of(const struct image *image, const struct tlv *tlv)
{
    return image->slot + tlv->offset;
}

/* Step 2. `digest` is what the bytes in the flash hash to. */
static uint32_t verify_digest(const struct image *image, uint8_t digest[DIGEST_SIZE], struct refusal *why)
{
    sha256(image->slot, image->signed_size, digest);
    if (image->sha256.offset == 0) {
        return refuse(why, STATUS_IMAGE_HASH, first_word(digest), 0);
    }
    const uint8_t *const stated = value_of(image, &image->sha256);
    if (bytes_differ(stated, digest, DIGEST_SIZE) != 0) {
        return refuse(why, STATUS_IMAGE_HASH, first_word(stated), first_word(digest));
    }
    return STATUS_OK;
}

/* There is a key and a signature, and the key is named before the signature it is for. MCUboot
 * ignores a signature whose key has not been named yet. */
static uint32_t check_signed(const struct image *image, struct refusal *why)
{
    const uint32_t signature = image->ecdsa.offset;
    const uint32_t last_key =
        image->pubkey.offset > image->keyhash.offset ? image->pubkey.offset : image->keyhash.offset;
    if (signature == 0) {
        return refuse(why, STATUS_IMAGE_NO_SIGNATURE, TLV_ECDSA, 0);
    }
    if (last_key == 0) {
        return refuse(why, STATUS_IMAGE_NO_SIGNATURE, TLV_PUBKEY, 0);
    }
    if (last_key > signature) {
        return refuse(why, STATUS_IMAGE_NO_SIGNATURE, signature, last_key);
    }
    return STATUS_OK;
}

/* The hash of the key the image names: PUBKEY's, which KEYHASH must agree with, or KEYHASH. */
static uint32_t key_hash(const struct image *image, uint8_t hash[DIGEST_SIZE], struct refusal *why)
{
    static const uint8_t prefix[P256_SPKI_PREFIX_SIZE] = P256_SPKI_PREFIX;
    const uint8_t *const stated = value_of(image, &image->keyhash);
    const uint8_t *const spki = value_of(image, &image->pubkey);

    if (image->pubkey.offset == 0) {
        for (uint32_t i = 0; i < DIGEST_SIZE; i++) {
            hash[i] = stated[i];
        }
        return STATUS_OK;
    }
    if (image->pubkey.length != P256_SPKI_SIZE || bytes_differ(spki, prefix, sizeof prefix) != 0) {
        return refuse(why, STATUS_IMAGE_KEY_MALFORMED, P256_SPKI_SIZE, image->pubkey.length);
    }
    sha256(spki, P256_SPKI_SIZE, hash);
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

/* Steps 3 and 4. */
static uint32_t verify_key(const struct image *image, const struct trust *trust, struct refusal *why)
{
    uint8_t hash[DIGEST_SIZE];
    uint32_t status = check_signed(image, why);
    if (status != STATUS_OK) {
        return status;
    }
    status = key_hash(image, hash, why);
    if (status != STATUS_OK) {
        return status;
    }
    const uint32_t slots = slots_with(trust, hash);
    if (slots == 0) {
        return refuse(why, STATUS_IMAGE_KEY_UNKNOWN, first_word(trust->slot_keys[0]), first_word(hash));
    }
    if ((slots & trust->revoked) != 0) {
        return refuse(why, STATUS_IMAGE_KEY_REVOKED, 0, first_word(hash));
    }
    if (image->pubkey.offset == 0) { /* the fuses hold only its hash */
        return refuse(why, STATUS_IMAGE_NO_SIGNATURE, TLV_PUBKEY, TLV_KEYHASH);
    }
    return STATUS_OK;
}

/* Step 5. */
static uint32_t verify_signature(const struct image *image, const uint8_t digest[DIGEST_SIZE],
                                 struct refusal *why)
{
    const uint32_t status = p256_verify(value_of(image, &image->pubkey), digest,
                                        value_of(image, &image->ecdsa), image->ecdsa.length);
    if (status == STATUS_OK) {
        return status;
    }
    const uint32_t code =
        status == STATUS_IMAGE_KEY_MALFORMED ? STATUS_IMAGE_KEY_MALFORMED : STATUS_IMAGE_SIGNATURE;
    return refuse(why, code, first_word(digest), 0);
}

/* Step 6. An image without a counter is older than any. */
static uint32_t verify_counter(const struct image *image, const struct trust *trust, struct refusal *why)
{
    const uint32_t counter = image_counter(image);
    if (image->counter.offset == 0 || counter < trust->counter) {
        return refuse(why, STATUS_IMAGE_COUNTER, trust->counter, counter);
    }
    return STATUS_OK;
}

/* Step 7. */
static uint32_t verify_hardware(const struct image *image, const struct trust *trust, struct refusal *why)
{
    const uint8_t *const vendor = value_of(image, &image->vendor);
    const uint8_t *const klass = value_of(image, &image->klass);
    if (image->vendor.offset == 0 || bytes_differ(vendor, trust->vendor, sizeof trust->vendor) != 0) {
        return refuse(why, STATUS_IMAGE_HARDWARE, first_word(trust->vendor),
                      image->vendor.offset == 0 ? 0 : first_word(vendor));
    }
    if (image->klass.offset == 0 || bytes_differ(klass, trust->klass, sizeof trust->klass) != 0) {
        return refuse(why, STATUS_IMAGE_HARDWARE, first_word(trust->klass),
                      image->klass.offset == 0 ? 0 : first_word(klass));
    }
    return STATUS_OK;
}

/* Each step's word goes into the result, so that a step that was jumped over leaves no STATUS_OK. */
static uint32_t verify_decoded(const struct image *image, const struct trust *trust, struct refusal *why)
{
    uint8_t digest[DIGEST_SIZE];
    volatile uint32_t steps = 0;

    uint32_t status = verify_digest(image, digest, why);
    if (status != STATUS_OK) {
        return status;
    }
    steps += status;
    status = verify_key(image, trust, why);
    if (status != STATUS_OK) {
        return status;
    }
    steps += status;
    status = verify_signature(image, digest, why);
    if (status != STATUS_OK) {
        return status;
    }
    steps += status;
    status = verify_counter(image, trust, why);
    if (status != STATUS_OK) {
        return status;
    }
    steps += status;
    status = verify_hardware(image, trust, why);
    if (status != STATUS_OK) {
        return status;
    }
    steps += status;
    return steps - 4u * STATUS_OK;
}

uint32_t image_verify(const uint8_t *slot, uint32_t slot_size, const struct trust *trust,
                      struct verified *out, struct refusal *why)
{
    struct image image;

    *out = (struct verified){0};
    *why = (struct refusal){0};
    uint32_t status = image_decode(slot, slot_size, &image, why);
    if (status != STATUS_OK) {
        return status;
    }
    status = verify_decoded(&image, trust, why);
    if (status != STATUS_OK) {
        return status;
    }
    *out = (struct verified){
        .payload_offset = image.header_size,
        .payload_size = image.payload_size,
        .counter = image_counter(&image),
        .version = image.version,
    };
    return status;
}
