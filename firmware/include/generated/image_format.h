/* Generated from src/cellward/core/image and keys.py by firmware/gen_headers.py: change it there. */
#pragma once

#define IMAGE_MAGIC 0x96f3b83du
#define IMAGE_TLV_MAGIC 0x6907u
#define IMAGE_TLV_PROTECTED_MAGIC 0x6908u
#define IMAGE_HEADER_SIZE 0x20u
#define IMAGE_MAX_HEADER_SIZE 0x1000u
#define IMAGE_FLAG_ENC_AES128 0x00000004u
#define IMAGE_ACCEPTED_FLAGS 0x0000000cu
#define IMAGE_TLV_INFO_SIZE 0x04u
#define IMAGE_TLV_HEADER_SIZE 0x04u

#define TLV_KEYHASH 0x01u
#define TLV_PUBKEY 0x02u
#define TLV_SHA256 0x10u
#define TLV_SHA384 0x11u
#define TLV_SHA512 0x12u
#define TLV_RSA2048_PSS 0x20u
#define TLV_ECDSA 0x22u
#define TLV_RSA3072_PSS 0x23u
#define TLV_ED25519 0x24u
#define TLV_SIG_PURE 0x25u
#define TLV_ENC_RSA2048 0x30u
#define TLV_ENC_KW 0x31u
#define TLV_ENC_EC256 0x32u
#define TLV_ENC_X25519 0x33u
#define TLV_ENC_X25519_SHA512 0x34u
#define TLV_DEPENDENCY 0x40u
#define TLV_SECURITY_COUNTER 0x50u
#define TLV_BOOT_RECORD 0x60u
#define TLV_UUID_VENDOR 0x74u
#define TLV_UUID_CLASS 0x75u

/* MCUboot's allow-list: what may stand outside the signed area, and only there. */
#define TLV_UNPROTECTED_TYPES {0x01, 0x02, 0x10, 0x11, 0x12, 0x20, 0x22, 0x23, 0x24, 0x25, 0x30, 0x31, 0x32, 0x33, 0x34}
#define P256_SPKI_SIZE 91u
#define P256_SPKI_PREFIX_SIZE 27u
#define P256_SPKI_PREFIX {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04}
#define RSA3072_PKCS1_SIZE 398u
#define RSA3072_PKCS1_PREFIX_SIZE 9u
#define RSA3072_PKCS1_PREFIX {0x30, 0x82, 0x01, 0x8a, 0x02, 0x82, 0x01, 0x81, 0x00}
#define RSA3072_PKCS1_SUFFIX_SIZE 5u
#define RSA3072_PKCS1_SUFFIX {0x02, 0x03, 0x01, 0x00, 0x01}
#define RSA3072_SIGNATURE_SIZE 384u
#define DIGEST_SIZE 32u
