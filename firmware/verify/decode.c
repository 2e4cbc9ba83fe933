/* Step 1: the structure of an image. Nothing is read outside [slot, slot + slot_size). */
#include "bytes.h"
#include "image.h"

/* Not read, but of their size: KEYHASH or PUBKEY with one bit flipped is none. */
#define SHA384_SIZE 48u
#define SHA512_SIZE 64u

enum header_offset {
    AT_MAGIC = 0,
    AT_HEADER_SIZE = 8,
    AT_PROTECTED_SIZE = 10,
    AT_PAYLOAD_SIZE = 12,
    AT_FLAGS = 16,
    AT_MAJOR = 20,
    AT_MINOR = 21,
    AT_REVISION = 22,
    AT_BUILD = 24,
};

/* TLVs from `next` to `end`, both offsets in the slot. */
struct area {
    const uint8_t *slot;
    uint32_t next;
    uint32_t end;
};

uint32_t refuse(struct refusal *why, uint32_t status, uint32_t expected, uint32_t found)
{
    why->status = status;
    why->expected = expected;
    why->found = found;
    return status;
}

static uint32_t area_open(const uint8_t *slot, uint32_t slot_size, uint32_t start, uint32_t magic,
                          struct area *out, struct refusal *why)
{
    if (start > slot_size || slot_size - start < IMAGE_TLV_INFO_SIZE) {
        return refuse(why, STATUS_IMAGE_TLV, start + IMAGE_TLV_INFO_SIZE, slot_size);
    }
    const uint32_t found = read_u16(slot + start);
    const uint32_t total = read_u16(slot + start + 2u);
    if (found != magic) {
        return refuse(why, STATUS_IMAGE_TLV, magic, found);
    }
    if (total < IMAGE_TLV_INFO_SIZE || total > slot_size - start) {
        return refuse(why, STATUS_IMAGE_TLV, slot_size - start, total);
    }
    *out = (struct area){slot, start + IMAGE_TLV_INFO_SIZE, start + total};
    return STATUS_OK;
}

/* Read the TLV at `next` and step over it; `next` < `end`. */
static uint32_t area_next(struct area *area, struct tlv *out, struct refusal *why)
{
    const uint32_t left = area->end - area->next;
    if (left < IMAGE_TLV_HEADER_SIZE) {
        return refuse(why, STATUS_IMAGE_TLV, IMAGE_TLV_HEADER_SIZE, left);
    }
    out->type = read_u16(area->slot + area->next);
    out->length = read_u16(area->slot + area->next + 2u);
    if (out->length > left - IMAGE_TLV_HEADER_SIZE) {
        return refuse(why, STATUS_IMAGE_TLV, left - IMAGE_TLV_HEADER_SIZE, out->length);
    }
    out->offset = area->next + IMAGE_TLV_HEADER_SIZE;
    area->next = out->offset + out->length;
    return STATUS_OK;
}

static uint32_t area_walk(struct area area, struct refusal *why)
{
    struct tlv tlv;
    while (area.next < area.end) {
        const uint32_t status = area_next(&area, &tlv, why);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static uint32_t unprotected_type(uint16_t type)
{
    static const uint8_t allowed[] = TLV_UNPROTECTED_TYPES;
    for (uint32_t i = 0; i < sizeof allowed; i++) {
        if (type == allowed[i]) {
            return STATUS_OK;
        }
    }
    return STATUS_IMAGE_TLV_UNKNOWN;
}

/* Where this decoder keeps a TLV of `type`, NULL for a type that is not interpreted; and the length
 * it must have (0: any, or checked later). */
static struct tlv *place_of(struct image *image, uint16_t type, uint32_t *length)
{
    *length = 0;
    switch (type) {
    case TLV_KEYHASH:
        *length = DIGEST_SIZE;
        return &image->keyhash;
    case TLV_PUBKEY:
        return &image->pubkey;
    case TLV_SHA256:
        *length = DIGEST_SIZE;
        return &image->sha256;
    case TLV_SHA384:
        *length = SHA384_SIZE;
        return (struct tlv *)0;
    case TLV_SHA512:
        *length = SHA512_SIZE;
        return (struct tlv *)0;
    case TLV_ECDSA:
        return &image->ecdsa;
    case TLV_RSA3072_PSS:
        *length = RSA3072_SIGNATURE_SIZE;
        return &image->rsa;
    case TLV_SECURITY_COUNTER:
        *length = 4;
        return &image->counter;
    case TLV_UUID_VENDOR:
        *length = sizeof(((struct trust *)0)->vendor);
        return &image->vendor;
    case TLV_UUID_CLASS:
        *length = sizeof(((struct trust *)0)->klass);
        return &image->klass;
    default:
        return (struct tlv *)0;
    }
}

/* Check every TLV of an area against the rules for its `magic`, and keep those that are read. */
static uint32_t area_keep(struct area area, uint32_t magic, struct image *image, struct refusal *why)
{
    struct tlv tlv;
    while (area.next < area.end) {
        uint32_t status = area_next(&area, &tlv, why);
        if (status != STATUS_OK) {
            return status;
        }
        status = unprotected_type(tlv.type);
        if (magic == IMAGE_TLV_MAGIC && status != STATUS_OK) {
            return refuse(why, STATUS_IMAGE_TLV_UNKNOWN, 0, tlv.type);
        }
        if (magic == IMAGE_TLV_PROTECTED_MAGIC && status == STATUS_OK) {
            return refuse(why, STATUS_IMAGE_TLV, 0, tlv.type);
        }
        uint32_t length;
        struct tlv *const place = place_of(image, tlv.type, &length);
        if (place != (struct tlv *)0 && place->offset != 0) {
            return refuse(why, STATUS_IMAGE_TLV_DUPLICATE, 1, tlv.type);
        }
        if (length != 0 && tlv.length != length) {
            return refuse(why, STATUS_IMAGE_TLV, length, tlv.length);
        }
        if (place != (struct tlv *)0) {
            *place = tlv;
        }
    }
    return STATUS_OK;
}

uint32_t image_decode_header(const uint8_t *slot, uint32_t slot_size, struct image *out,
                             uint32_t *protected_size, struct refusal *why)
{
    if (slot_size < IMAGE_HEADER_SIZE || slot_size > SLOT_SIZE_MAX) {
        return refuse(why, STATUS_IMAGE_SIZE, IMAGE_HEADER_SIZE, slot_size);
    }
    const uint32_t magic = read_u32(slot + AT_MAGIC);
    if (magic != IMAGE_MAGIC) {
        return refuse(why, STATUS_IMAGE_MAGIC, IMAGE_MAGIC, magic);
    }
    out->slot = slot;
    out->header_size = read_u16(slot + AT_HEADER_SIZE);
    out->payload_size = read_u32(slot + AT_PAYLOAD_SIZE);
    out->version = (struct image_version){slot[AT_MAJOR], slot[AT_MINOR], read_u16(slot + AT_REVISION),
                                          read_u32(slot + AT_BUILD)};
    *protected_size = read_u16(slot + AT_PROTECTED_SIZE);
    out->flags = read_u32(slot + AT_FLAGS);
    if (out->header_size < IMAGE_HEADER_SIZE || out->header_size > IMAGE_MAX_HEADER_SIZE) {
        return refuse(why, STATUS_IMAGE_HEADER, IMAGE_HEADER_SIZE, out->header_size);
    }
    if ((out->flags & ~IMAGE_ACCEPTED_FLAGS) != 0) {
        return refuse(why, STATUS_IMAGE_FLAGS, IMAGE_ACCEPTED_FLAGS, out->flags);
    }
    const uint32_t around = out->header_size + *protected_size + IMAGE_TLV_INFO_SIZE;
    const uint32_t most = slot_size > around ? slot_size - around : 0;
    if (out->payload_size == 0 || out->payload_size > most) {
        return refuse(why, STATUS_IMAGE_SIZE, most, out->payload_size);
    }
    out->signed_size = out->header_size + out->payload_size + *protected_size;
    return STATUS_OK;
}

uint32_t image_decode(const uint8_t *slot, uint32_t slot_size, struct image *out, struct refusal *why)
{
    struct area protected_area = {0};
    struct area area;
    uint32_t protected_size;

    *out = (struct image){0};
    uint32_t status = image_decode_header(slot, slot_size, out, &protected_size, why);
    if (status != STATUS_OK) {
        return status;
    }
    if (protected_size != 0) {
        const uint32_t start = out->signed_size - protected_size;
        status = area_open(slot, slot_size, start, IMAGE_TLV_PROTECTED_MAGIC, &protected_area, why);
        if (status != STATUS_OK) {
            return status;
        }
        if (protected_area.end != out->signed_size) {
            return refuse(why, STATUS_IMAGE_TLV, protected_size, protected_area.end - start);
        }
        status = area_walk(protected_area, why);
        if (status != STATUS_OK) {
            return status;
        }
    }
    status = area_open(slot, slot_size, out->signed_size, IMAGE_TLV_MAGIC, &area, why);
    if (status != STATUS_OK) {
        return status;
    }
    status = area_walk(area, why);
    if (status != STATUS_OK) {
        return status;
    }
    status = area_keep(protected_area, IMAGE_TLV_PROTECTED_MAGIC, out, why);
    if (status != STATUS_OK) {
        return status;
    }
    return area_keep(area, IMAGE_TLV_MAGIC, out, why);
}

uint32_t image_counter(const struct image *image)
{
    return image->counter.offset == 0 ? 0 : read_u32(image->slot + image->counter.offset);
}

int32_t image_version_compare(const struct image_version *a, const struct image_version *b)
{
    if (a->major != b->major) {
        return a->major < b->major ? -1 : 1;
    }
    if (a->minor != b->minor) {
        return a->minor < b->minor ? -1 : 1;
    }
    if (a->revision != b->revision) {
        return a->revision < b->revision ? -1 : 1;
    }
    return a->build == b->build ? 0 : a->build < b->build ? -1 : 1;
}
