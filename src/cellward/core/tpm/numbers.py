"""The TCG's names and numbers (Part 2), as far as they are used here."""

from enum import IntEnum, IntFlag

DIGEST_SIZE = 32  # SHA-256: the only hash, of Names, policies, PCRs and signatures
GENERATED = 0xFF544347  # TPM_GENERATED_VALUE, 6.2
ATTEST_QUOTE = 0x8018  # TPM_ST_ATTEST_QUOTE, 6.9


class Alg(IntEnum):
    """TPM_ALG_ID, 6.3."""

    RSA = 0x0001
    AES = 0x0006
    KEYED_HASH = 0x0008
    SHA256 = 0x000B
    NULL = 0x0010
    ECDSA = 0x0018
    ECC = 0x0023
    CFB = 0x0043


NIST_P256 = 0x0003  # TPM_ECC_CURVE, 6.4


class Hierarchy(IntEnum):
    """TPM_RH, 7.4: the permanent handles under which primary objects are."""

    OWNER = 0x40000001
    NULL = 0x40000007
    ENDORSEMENT = 0x4000000B
    PLATFORM = 0x4000000C


class ObjectAttributes(IntFlag):
    """TPMA_OBJECT, 8.3. Every other bit is reserved."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18
    X509_SIGN = 1 << 19


class NvAttributes(IntFlag):
    """TPMA_NV, 13.4, without the type's four bits."""

    PPWRITE = 1 << 0
    OWNERWRITE = 1 << 1
    AUTHWRITE = 1 << 2
    POLICYWRITE = 1 << 3
    POLICY_DELETE = 1 << 10
    WRITELOCKED = 1 << 11
    WRITEALL = 1 << 12
    WRITEDEFINE = 1 << 13
    WRITE_STCLEAR = 1 << 14
    GLOBALLOCK = 1 << 15
    PPREAD = 1 << 16
    OWNERREAD = 1 << 17
    AUTHREAD = 1 << 18
    POLICYREAD = 1 << 19
    NO_DA = 1 << 25
    ORDERLY = 1 << 26
    CLEAR_STCLEAR = 1 << 27
    READLOCKED = 1 << 28
    WRITTEN = 1 << 29
    PLATFORMCREATE = 1 << 30
    READ_STCLEAR = 1 << 31


class NvType(IntEnum):
    """TPM_NT, 13.2: bits 7 to 4 of TPMA_NV."""

    ORDINARY = 0x0
    COUNTER = 0x1
    EXTEND = 0x4


class Command(IntEnum):
    """TPM_CC, 6.5.2."""

    NV_INCREMENT = 0x0134
    NV_EXTEND = 0x0136
    ACTIVATE_CREDENTIAL = 0x0147
    POLICY_NV = 0x0149
    POLICY_SECRET = 0x0151
    CREATE = 0x0153
    LOAD = 0x0157
    UNSEAL = 0x015E
    FLUSH_CONTEXT = 0x0165
    LOAD_EXTERNAL = 0x0167
    POLICY_AUTHORIZE = 0x016A
    POLICY_COMMAND_CODE = 0x016C
    START_AUTH_SESSION = 0x0176
    VERIFY_SIGNATURE = 0x0177
    POLICY_PCR = 0x017F


class Comparison(IntEnum):
    """TPM_EO, 6.8: the NV contents A against the operand B, unsigned."""

    EQ = 0x0000
    UNSIGNED_GE = 0x0007
    UNSIGNED_LE = 0x0009
