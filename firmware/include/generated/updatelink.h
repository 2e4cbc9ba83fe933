/* Generated from src/cellward/ports/updatelink.py by firmware/gen_headers.py: change it there. */
#pragma once

#define LINK_PROTOCOL 1u
#define LINK_REQUEST_HEADER_SIZE 4u
#define LINK_ANSWER_HEADER_SIZE 8u
#define LINK_MAX_DATA 2048u
#define LINK_DATA_UNIT 16u
#define LINK_MAX_PAYLOAD 2112u
#define LINK_MAX_VALUE 1024u
#define LINK_ANSWER 128u
#define LINK_WRAPPED_KEY_SIZE 113u
#define LINK_IDENTITY_SIZE 97u

#define REQUEST_IDENTIFY 0x01u
#define REQUEST_BOOT_RECORD 0x02u
#define REQUEST_DIGEST 0x03u
#define REQUEST_ENTER_UPDATE 0x10u
#define REQUEST_BEGIN 0x20u
#define REQUEST_IMAGE 0x21u
#define REQUEST_DATA 0x22u
#define REQUEST_COPY 0x23u
#define REQUEST_FINISH 0x24u
#define REQUEST_ABORT 0x25u
#define REQUEST_REVOKE 0x30u
#define REQUEST_VAULT_WRITE 0x40u
#define REQUEST_VAULT_READ 0x41u
#define REQUEST_RESTART 0x50u
