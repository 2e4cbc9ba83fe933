"""Everything Cellward says no with.

::

    CellwardError            one stable code, one line for people, exit status 1
    ├── Refused              a verification said no; nothing was changed
    │   ├── FormatRefused    the bytes are not what they claim to be        (decoders)
    │   ├── TrustRefused     signature, key, version, expiry, counter, hardware
    │   ├── PolicyRefused    well formed and authentic, but not allowed here (plan, gates)
    │   └── ModuleRefused    the battery module's own boot chain said no
    └── Unavailable          something outside is missing, busy, full or unreachable

Codes are for machines and runbooks: extend-only, never renamed. The codes that the boot chain
itself can report also have a 32-bit status word; words are at least 10 bits apart from each
other, from 0 and from all ones, so that one glitch cannot turn a refusal into an acceptance.
"""

from enum import StrEnum


class Code(StrEnum):
    """Stable names of every refusal. One name, one check."""

    # wire: bounded decoding
    TRUNCATED = "wire.truncated"
    TRAILING = "wire.trailing"
    # firmware: what the build produced
    FIRMWARE_EMPTY = "firmware.empty"
    FIRMWARE_FORMAT = "firmware.format"
    FIRMWARE_OVERLAP = "firmware.overlap"
    FIRMWARE_GAP = "firmware.gap"
    FIRMWARE_ADDRESS = "firmware.address"
    FIRMWARE_TOO_LARGE = "firmware.too_large"
    FIRMWARE_UNREADABLE = "firmware.unreadable"
    # image: MCUboot's format and what it claims
    IMAGE_MAGIC = "image.magic"
    IMAGE_HEADER = "image.header"
    IMAGE_FLAGS = "image.flags"
    IMAGE_SIZE = "image.size"
    IMAGE_TLV = "image.tlv"
    IMAGE_TLV_UNKNOWN = "image.tlv_unknown"
    IMAGE_TLV_DUPLICATE = "image.tlv_duplicate"
    IMAGE_HASH = "image.hash"
    IMAGE_NO_SIGNATURE = "image.no_signature"
    IMAGE_SIGNATURE = "image.signature"
    IMAGE_KEY_MALFORMED = "image.key_malformed"
    IMAGE_KEY_UNKNOWN = "image.key_unknown"
    IMAGE_KEY_REVOKED = "image.key_revoked"
    IMAGE_COUNTER = "image.counter"
    IMAGE_HARDWARE = "image.hardware"
    IMAGE_VERSION = "image.version"
    IMAGE_ENCRYPTION = "image.encryption"
    IMAGE_NO_KEY_GIVEN = "image.no_key_given"
    # keys and tokens
    KEY_FORMAT = "key.format"
    KEY_EXISTS = "key.exists"
    KEY_EXPORTABLE = "key.exportable"
    KEY_PUBLISHED = "key.published"
    KEY_ATTESTATION = "key.attestation"
    KEY_UNKNOWN = "key.unknown"
    KEY_PURPOSE = "key.purpose"
    KEY_STAGE = "key.stage"
    KEY_NOT_YET = "key.not_yet"
    KEY_EXPIRED = "key.expired"
    KEY_RETIRED = "key.retired"
    KEY_REVOKED = "key.revoked"
    SIGNER_SCHEME = "signer.scheme"
    SIGNER_FAILED = "signer.failed"
    TOKEN_ABSENT = "token.absent"
    TOKEN_AMBIGUOUS = "token.ambiguous"
    TOKEN_KEY_MISSING = "token.key_missing"
    TOKEN_PIN_WRONG = "token.pin_wrong"
    TOKEN_PIN_LOCKED = "token.pin_locked"
    TOKEN_PIN_MISSING = "token.pin_missing"
    TOKEN_PIN_EXPOSED = "token.pin_exposed"
    TOKEN_URI = "token.uri"
    TOKEN_FAILED = "token.failed"
    TOKEN_DAMAGED = "token.damaged"
    # the pack controller's TPM
    TPM_ABSENT = "tpm.absent"
    TPM_BUSY = "tpm.busy"
    TPM_LOCKOUT = "tpm.lockout"
    TPM_FAILED = "tpm.failed"
    TPM_MISSING = "tpm.missing"
    TPM_EXISTS = "tpm.exists"
    TPM_AUTHORISATION = "tpm.authorisation"
    TPM_POLICY = "tpm.policy"
    TPM_BLOB = "tpm.blob"
    TPM_INPUT = "tpm.input"
    # failed authentications
    AUTH_DELAY = "auth.delay"
    # the pack controller's tamper response
    TAMPER_LOCKED = "tamper.locked"
    TAMPER_ZEROISED = "tamper.zeroised"
    TAMPER_ALARM = "tamper.alarm"
    # metadata and trust (Uptane)
    METADATA_FORMAT = "metadata.format"
    METADATA_TOO_LARGE = "metadata.too_large"
    METADATA_SIGNATURE = "metadata.signature"
    METADATA_VERSION = "metadata.version"
    METADATA_EXPIRED = "metadata.expired"
    METADATA_HASH = "metadata.hash"
    METADATA_MISSING = "metadata.missing"
    # secure time
    TIME_MISSING = "time.missing"
    TIME_NONCE = "time.nonce"
    TIME_ROLLBACK = "time.rollback"
    # signed documents: key register, release, approval, calibration
    DOCUMENT_KIND = "document.kind"
    DOCUMENT_SIGNATURE = "document.signature"
    REGISTER_MISSING = "register.missing"
    REGISTER_CONTENT = "register.content"
    REGISTER_QUORUM = "register.quorum"
    REGISTER_LAST_KEY = "register.last_key"
    REGISTER_CLOCK = "register.clock"
    REGISTER_AMBIGUOUS = "register.ambiguous"
    CEREMONY_FILE = "ceremony.file"
    CEREMONY_FINGERPRINT = "ceremony.fingerprint"
    CEREMONY_HOLDER = "ceremony.holder"
    CEREMONY_ATTRIBUTES = "ceremony.attributes"
    REGISTER_ROOTS = "register.roots"
    REGISTER_VERSION = "register.version"
    REGISTER_KEYS = "register.keys"
    RELEASE_FILE = "release.file"
    RELEASE_KEYS = "release.keys"
    RELEASE_OTHER = "release.other"
    RELEASE_PART = "release.part"
    RELEASE_APPROVAL = "release.approval"
    RELEASE_WITHDRAWN = "release.withdrawn"
    RELEASE_SBOM = "release.sbom"
    VERIFY_BAD = "verify.bad"
    CALIBRATION_RANGE = "calibration.range"
    CALIBRATION_HARDWARE = "calibration.hardware"
    CALIBRATION_SERIAL = "calibration.serial"
    CALIBRATION_COUNTER = "calibration.counter"
    CALIBRATION_VERSION = "calibration.version"
    CALIBRATION_LAST_GOOD = "calibration.last_good"
    CALIBRATION_DEFAULTS = "calibration.defaults"
    CALIBRATION_LIMITS = "calibration.limits"
    TARGET_DELEGATION = "target.delegation"
    TARGET_VEHICLE = "target.vehicle"
    TARGET_ECU = "target.ecu"
    TARGET_HARDWARE = "target.hardware"
    TARGET_COUNTER = "target.counter"
    TARGET_MISMATCH = "target.mismatch"
    TARGET_MISSING = "target.missing"
    TARGET_HASH = "target.hash"
    TARGET_LENGTH = "target.length"
    TARGET_NAME = "target.name"
    # plan and safety gates
    PLAN_COUNTER = "plan.counter"
    PLAN_VERSION = "plan.version"
    PLAN_HARDWARE = "plan.hardware"
    PLAN_INCOMPLETE = "plan.incomplete"
    GATE_CONTACTORS = "gate.contactors"
    GATE_CURRENT = "gate.current"
    GATE_TEMPERATURE = "gate.temperature"
    GATE_CHARGE = "gate.charge"
    GATE_SUPPLY = "gate.supply"
    GATE_FAULT = "gate.fault"
    # publishing and releases: what the maker's own gate refuses
    PUBLISH_DISAGREE = "publish.disagree"
    PUBLISH_DEVELOPMENT_KEY = "publish.development_key"
    PUBLISH_CONFIGURATION = "publish.configuration"
    PUBLISH_COUNTER = "publish.counter"
    PUBLISH_DEPENDENCY = "publish.dependency"
    PUBLISH_POLICY = "publish.policy"
    # flash and fuses
    FLASH_UNERASED = "flash.unerased"
    FLASH_ALIGNMENT = "flash.alignment"
    FLASH_RANGE = "flash.range"
    FLASH_LOCKED = "flash.locked"
    FLASH_READBACK = "flash.readback"
    OTP_ONE_WAY = "otp.one_way"
    OTP_LOCKED = "otp.locked"
    LIFECYCLE_OPEN = "lifecycle.open"
    LIFECYCLE_CLOSED = "lifecycle.closed"
    REVOCATION_FORMAT = "revocation.format"
    REVOCATION_SIGNATURE = "revocation.signature"
    REVOCATION_LAST_KEY = "revocation.last_key"
    REVOCATION_IN_USE = "revocation.in_use"
    VAULT_SEAL = "vault.seal"
    VAULT_COUNTER = "vault.counter"
    VAULT_MISSING = "vault.missing"
    # the pack controller's vault, beside those of the module's
    VAULT_FORMAT = "vault.format"
    VAULT_ROLLBACK = "vault.rollback"
    VAULT_POLICY = "vault.policy"
    VAULT_UNKNOWN = "vault.unknown"
    VAULT_FULL = "vault.full"
    VAULT_EXPORT = "vault.export"
    VAULT_MEMORY = "vault.memory"
    POWER_CUT = "power.cut"
    # module: the boot chain's verdicts
    BANK_NOT_BOOTABLE = "bank.not_bootable"
    BANK_NONE_GOOD = "bank.none_good"
    BANK_REFUSED_BY_LOADER = "bank.refused_by_loader"
    SELFTEST_CELL_SUM = "selftest.cell_sum"
    SELFTEST_CELL_RANGE = "selftest.cell_range"
    SELFTEST_TEMPERATURE = "selftest.temperature"
    SELFTEST_FRONT_END = "selftest.front_end"
    SELFTEST_LIMITS = "selftest.limits"
    SELFTEST_CONTACTORS = "selftest.contactors"
    WATCHDOG = "boot.watchdog"
    MODULE_FAULT = "boot.fault"
    MODULE_HANG = "boot.hang"
    BOOT_INTEGRITY = "boot.integrity"
    BOOT_RECORD = "boot.record"
    TAMPER = "boot.tamper"
    UPDATE_FELL_BACK = "update.fell_back"
    # laboratory
    LEAKAGE = "lab.leakage"
    UPDATE_ON_TRIAL = "update.on_trial"
    UPDATE_CONTACTORS = "update.contactors"
    # module link and process
    LINK_FRAME = "link.frame"
    LINK_STATE = "link.state"
    LINK_ORDER = "link.order"
    LINK_SILENT = "link.silent"
    MODULE_STATE = "module.state"
    MODULE_BUSY = "module.busy"
    MODULE_UNREGISTERED = "module.unregistered"
    MODULE_ABSENT = "module.absent"
    # transport and server
    TLS_CLIENT_CERTIFICATE = "tls.client_certificate"
    TLS_SERVER = "tls.server"
    SERVER_CA = "tls.server_ca"
    SERVER_CA_BEHIND = "tls.server_ca_behind"
    SERVER_UNREACHABLE = "server.unreachable"
    SERVER_SLOW = "server.slow"
    SERVER_REFUSED = "server.refused"
    SERVER_BUSY = "server.busy"
    SERVER_ADDRESS = "server.address"
    REQUEST_FORMAT = "request.format"
    REQUEST_TOO_LARGE = "request.too_large"
    REQUEST_RANGE = "request.range"
    REQUEST_SLOW = "request.slow"
    REQUEST_METHOD = "request.method"
    NOT_FOUND = "request.not_found"
    ENROL_TOKEN = "enrol.token"
    ENROL_ECU = "enrol.ecu"
    ENROL_DONE = "enrol.done"
    ENROL_MISSING = "enrol.missing"
    ENROL_CERTIFICATE = "enrol.certificate"
    ENROL_IDENTITY = "enrol.identity"
    ENROL_PLAN = "enrol.plan"
    REPORT_SIGNATURE = "report.signature"
    REPORT_REPLAYED = "report.replayed"
    REPORT_ECU = "report.ecu"
    VEHICLE_UNKNOWN = "vehicle.unknown"
    # the owner's read role
    OWNER_MISSING = "owner.missing"
    OWNER_VEHICLE = "owner.vehicle"
    OWNER_OLDER = "owner.older"
    OWNER_CHALLENGE = "owner.challenge"
    OWNER_SIGNATURE = "owner.signature"
    # attestation: what a pack controller's TPM says of its keys and of the start it measured
    ATTEST_FORMAT = "attest.format"
    ATTEST_KEY = "attest.key"
    ATTEST_ENDORSEMENT = "attest.endorsement"
    ATTEST_CERTIFICATE = "attest.certificate"
    ATTEST_SIGNATURE = "attest.signature"
    ATTEST_MAGIC = "attest.magic"
    ATTEST_TYPE = "attest.type"
    ATTEST_SIGNER = "attest.signer"
    ATTEST_NONCE = "attest.nonce"
    ATTEST_SELECTION = "attest.selection"
    ATTEST_PCR = "attest.pcr"
    ATTEST_POLICY = "attest.policy"
    ATTEST_LOG = "attest.log"
    ATTEST_SESSION = "attest.session"
    ATTEST_CREDENTIAL = "attest.credential"
    ATTEST_UNKNOWN = "attest.unknown"
    ATTEST_RECOVERY = "attest.recovery"
    # signing log
    LOG_FORMAT = "log.format"
    LOG_DAMAGED = "log.damaged"
    LOG_TILE = "log.tile"
    LOG_ENTRY = "log.entry"
    LOG_TRUNCATED = "log.truncated"
    LOG_CHECKPOINT = "log.checkpoint"
    LOG_ORIGIN = "log.origin"
    LOG_SIGNATURE = "log.signature"
    LOG_PROOF = "log.proof"
    LOG_MISSING = "log.missing"
    # storage
    STORAGE_FULL = "storage.full"
    STORAGE_FAILED = "storage.failed"
    STORAGE_EXISTS = "storage.exists"
    STORAGE_MISSING = "storage.missing"
    STORAGE_BUSY = "storage.busy"
    DATABASE_FAILED = "storage.database"
    # evidence: what is claimed, and what the tests said
    EVIDENCE_TEST = "evidence.test"
    EVIDENCE_CONTROL = "evidence.control"
    EVIDENCE_ROW = "evidence.row"
    EVIDENCE_UNPROVEN = "evidence.unproven"
    EVIDENCE_STALE = "evidence.stale"
    CONFIG = "config.invalid"
    DEMO = "demo.failed"


# The words the boot chain reports with. Extend-only: a word in the field keeps its meaning.
STATUS_OK = 0x1CCE8EE1
STATUS_WORDS: dict[Code, int] = {
    Code.IMAGE_MAGIC: 0x05CEDC33,
    Code.IMAGE_HEADER: 0x0F851F36,
    Code.IMAGE_FLAGS: 0x7F101CF1,
    Code.IMAGE_SIZE: 0xAC09EDB4,
    Code.IMAGE_TLV: 0x406CB9DB,
    Code.IMAGE_TLV_UNKNOWN: 0x1B35256B,
    Code.IMAGE_TLV_DUPLICATE: 0xE9B58A64,
    Code.IMAGE_HASH: 0xB817A6A9,
    Code.IMAGE_NO_SIGNATURE: 0x6E8790B5,
    Code.IMAGE_SIGNATURE: 0x4D37943A,
    Code.IMAGE_KEY_MALFORMED: 0x7EDF0190,
    Code.IMAGE_KEY_UNKNOWN: 0x835A7BE0,
    Code.IMAGE_KEY_REVOKED: 0x45C8FA55,
    Code.IMAGE_COUNTER: 0xA1DD5227,
    Code.IMAGE_HARDWARE: 0x18BFF20A,
    Code.BANK_NOT_BOOTABLE: 0x3D38C785,
    Code.BANK_NONE_GOOD: 0x9C245F9A,
    Code.BANK_REFUSED_BY_LOADER: 0x19C3729B,
    Code.SELFTEST_CELL_SUM: 0x6495F60E,
    Code.SELFTEST_CELL_RANGE: 0x60B95D27,
    Code.SELFTEST_TEMPERATURE: 0x8D4CF598,
    Code.SELFTEST_FRONT_END: 0x59509DAE,
    Code.SELFTEST_LIMITS: 0xEC947913,
    Code.SELFTEST_CONTACTORS: 0xC04EED2B,
    Code.WATCHDOG: 0xE28BA8E3,
    Code.MODULE_FAULT: 0x99868E6E,
    Code.FLASH_READBACK: 0xE820FF2A,
    Code.FLASH_RANGE: 0xA371475A,
    Code.FLASH_UNERASED: 0x096EA35E,
    Code.FLASH_LOCKED: 0xB4DA0F19,
    Code.OTP_ONE_WAY: 0x8F31A8D6,
    Code.IMAGE_ENCRYPTION: 0xF4F5BF35,
    Code.BOOT_INTEGRITY: 0x4F44746C,
    Code.BOOT_RECORD: 0xC61214C7,
    Code.TAMPER: 0xF295E8D4,
    Code.REVOCATION_SIGNATURE: 0x216A2FC5,
    Code.REVOCATION_LAST_KEY: 0xD7383F0B,
    Code.REVOCATION_IN_USE: 0x955B132C,
    Code.REVOCATION_FORMAT: 0x8DE881F6,
    Code.VAULT_SEAL: 0x3396BA82,
    Code.VAULT_COUNTER: 0xFD2BA10D,
    Code.VAULT_MISSING: 0xDF1F4B67,
    Code.LINK_FRAME: 0xD89440A9,
    Code.LINK_STATE: 0x89A9A5C9,
    Code.LINK_ORDER: 0xED1950ED,
    Code.UPDATE_CONTACTORS: 0x0A5DE7A3,
    Code.OTP_LOCKED: 0x1616F2BE,
    Code.LIFECYCLE_OPEN: 0xF6E3A6D4,
    Code.LIFECYCLE_CLOSED: 0xD2EAC902,
}
CODE_OF_STATUS: dict[int, Code] = {word: code for code, word in STATUS_WORDS.items()}


class CellwardError(Exception):
    """Base of everything that ends a command with one line and exit status 1.

    `subject` is what was refused (a file, a bank, a vehicle); `expected` and `found` are the two
    sides of the failed check; `advice` is what the reader can do. None of them carries a secret.
    """

    def __init__(
        self,
        code: Code,
        subject: str,
        *,
        expected: str = "",
        found: str = "",
        advice: str = "",
    ) -> None:
        self.code = code
        self.subject = subject
        self.expected = expected
        self.found = found
        self.advice = advice
        super().__init__(str(self))

    def about(self, subject: str) -> "CellwardError":
        """The same refusal, said about `subject`: an edge knows the file's name, a decoder does not."""
        return type(self)(
            self.code,
            subject,
            expected=self.expected,
            found=self.found,
            advice=self.advice,
        )

    def facts(self) -> dict[str, str]:
        """For programs."""
        return {
            "code": self.code,
            "subject": self.subject,
            "expected": self.expected,
            "found": self.found,
            "advice": self.advice,
        }

    def __str__(self) -> str:
        sides = [f"expected {self.expected}"] if self.expected else []
        sides += [f"found {self.found}"] if self.found else []
        line = f"[{self.code}] {self.subject}"
        line += f": {', '.join(sides)}" if sides else ""
        return f"{line}; {self.advice}" if self.advice else line


class Refused(CellwardError):
    """A verification said no. Nothing was changed."""


class FormatRefused(Refused):
    """The bytes are not what they claim to be."""


class TrustRefused(Refused):
    """Well formed, but not authentic, not fresh, or not for this device."""


class PolicyRefused(Refused):
    """Authentic, but not allowed here and now."""


class ModuleRefused(Refused):
    """The battery module's boot chain, flash or fuses said no."""


class Unavailable(CellwardError):
    """Something outside (token, server, disk, lock) is missing, busy, full or unreachable."""
