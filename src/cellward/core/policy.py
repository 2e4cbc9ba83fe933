"""What a target must have before anything is released for it: docs/formats/target-profile.md.

A profile says what the bootloader and the fuses of a product do. `lint` finds what the public cases on
the attack list had wrong (shared list, rows 5, 16, 19 and others); an error keeps releases from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

from cellward.core import stricttoml
from cellward.core.errors import Code, FormatRefused, PolicyRefused
from cellward.core.slots import Hardware, Region

PROFILE_LIMIT = 64 * 1024
MAX_PAGES = 64
MAX_ADDRESS = 2**32


class Signature(StrEnum):
    NONE = "none"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    ED25519 = "ed25519"


class Validation(StrEnum):
    """When the bootloader verifies the image that it starts."""

    EVERY_BOOT = "every-boot"
    AFTER_UPDATE = "after-update"
    NEVER = "never"


class Upgrade(StrEnum):
    """MCUboot's modes. Those of FALLING_BACK start the image before again when a new one fails."""

    DIRECT_XIP_REVERT = "direct-xip-revert"
    SWAP = "swap"
    RAM_LOAD_REVERT = "ram-load-revert"
    DIRECT_XIP = "direct-xip"
    RAM_LOAD = "ram-load"
    OVERWRITE = "overwrite"
    SINGLE_SLOT = "single-slot"
    FIRMWARE_LOADER = "firmware-loader"


FALLING_BACK = frozenset({Upgrade.DIRECT_XIP_REVERT, Upgrade.SWAP, Upgrade.RAM_LOAD_REVERT})


class Debug(StrEnum):
    LOCKED = "locked"
    AUTHENTICATED = "authenticated"
    OPEN = "open"


class Lifecycle(StrEnum):
    CLOSED = "closed"
    OPEN = "open"


class Downgrade(StrEnum):
    """What keeps an older image out."""

    FUSES = "fuses"
    SECURITY_COUNTER = "security-counter"
    VERSION = "version"
    NONE = "none"


class Encryption(StrEnum):
    """Who can open an image: every device with a key of its own, or whoever has read one."""

    PER_DEVICE = "per-device"
    FLEET = "fleet"
    NONE = "none"


class SigningKey(StrEnum):
    PRODUCTION = "production"
    DEVELOPMENT = "development"
    PUBLISHED = "published"  # MCUboot's and others' demo keys


class HardwareId(StrEnum):
    CHECKED = "checked"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Profile:
    """None: the source does not say. `configuration_pages` are absolute addresses."""

    name: str
    signature: Signature | None = None
    validation: Validation | None = None
    upgrade: Upgrade | None = None
    debug: Debug | None = None
    lifecycle: Lifecycle | None = None
    downgrade: Downgrade | None = None
    encryption: Encryption | None = None
    signing_key: SigningKey | None = None
    hardware_id: HardwareId | None = None
    hardware: str | None = None
    configuration_pages: tuple[Region, ...] = ()

    def configuration_of(self, hardware: Hardware) -> tuple[Region, ...]:
        """The configuration pages as parts of a bank.

        Raises FormatRefused (config.invalid) for pages that are not whole, or outside the bank.
        """
        found = []
        for page in self.configuration_pages:
            offset = page.offset - hardware.active_base
            region = Region(offset, page.size)
            if offset < 0 or region.end > hardware.bank_size or (offset | page.size) % hardware.page_size:
                _refuse(
                    self.name,
                    f"configuration pages in whole pages of 0x{hardware.page_size:x} from "
                    f"0x{hardware.active_base:x} to 0x{hardware.active_base + hardware.bank_size:x}",
                    f"0x{page.offset:x}, 0x{page.size:x} bytes",
                )
            found.append(region)
        return tuple(found)


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Rule:
    """`values` of the profile's field `about` are wrong; `rows` are those of the attack list."""

    about: str
    values: frozenset[StrEnum]
    severity: Severity
    rows: tuple[int, ...]
    reason: str
    advice: str


@dataclass(frozen=True)
class Finding:
    """`found` is what the profile says, or `not said`."""

    severity: Severity
    about: str
    found: str
    reason: str
    advice: str
    rows: tuple[int, ...]


def _rule(
    about: str, values: Sequence[StrEnum], severity: Severity, rows: Sequence[int], reason: str, advice: str
) -> Rule:
    return Rule(about, frozenset(values), severity, tuple(rows), reason, advice)


ERROR, WARNING = Severity.ERROR, Severity.WARNING
RULES = (
    _rule(
        "signature", [Signature.NONE], ERROR, [1, 17, 19],
        "anybody can make an image that boots: a hash or a CRC is no signature",
        "have the bootloader verify ECDSA P-256, RSA-3072 or Ed25519",
    ),
    _rule(
        "signature", [Signature.RSA_2048], WARNING, [],
        "112 bits of security, which NIST SP 800-57 ends in 2030: packs are in the field for longer",
        "take RSA-3072 or ECDSA P-256",
    ),
    _rule(
        "validation", [Validation.NEVER], ERROR, [5, 19],
        "whatever is written to the flash boots, however it got there",
        "verify the image at every boot",
    ),
    _rule(
        "validation", [Validation.AFTER_UPDATE], ERROR, [5, 19],
        "a flag in the flash stands for the signature, and flags can be written",
        "verify the image at every boot",
    ),
    _rule(
        "upgrade", sorted(set(Upgrade) - FALLING_BACK), ERROR, [19, 21, 24],
        "an update that does not work, or loses power, leaves nothing to go back to",
        "take a mode that reverts: two banks remapped, direct-xip with revert, or swap",
    ),
    _rule(
        "debug", [Debug.OPEN], ERROR, [9, 25],
        "a probe on the debug port reads the keys and writes what it likes",
        "burn the debug lock at the end of the line",
    ),
    _rule(
        "lifecycle", [Lifecycle.OPEN], WARNING, [16, 25],
        "the plant's port stays open in the field",
        "close the lifecycle at the end of the line",
    ),
    _rule(
        "signing_key", [SigningKey.PUBLISHED], ERROR, [15, 16],
        "the private half of this key is on the internet",
        "sign with a key that was made in an HSM and never left it",
    ),
    _rule(
        "signing_key", [SigningKey.DEVELOPMENT], ERROR, [16],
        "who can sign for the bench can sign for the field",
        "burn production keys only",
    ),
    _rule(
        "downgrade", [Downgrade.NONE], WARNING, [20],
        "an old image with a known hole is as good as a new one",
        "keep a security counter in fuses, raised when an update is confirmed",
    ),
    _rule(
        "downgrade", [Downgrade.VERSION, Downgrade.SECURITY_COUNTER], WARNING, [20, 21],
        "compared with the image in the flash, which an attacker may have replaced; MCUboot's confirm and "
        "revert went past it",
        "keep a security counter in fuses, raised when an update is confirmed",
    ),
    _rule(
        "encryption", [Encryption.NONE], WARNING, [1],
        "the firmware can be read from every update, and searched for holes",
        "encrypt once per release and wrap the key for each device",
    ),
    _rule(
        "encryption", [Encryption.FLEET], WARNING, [7, 8],
        "one device that is opened opens the updates of all",
        "wrap the content key for each device under a key of its own",
    ),
    _rule(
        "hardware_id", [HardwareId.IGNORED], WARNING, [22],
        "an authentic image for another pack boots",
        "check vendor and class of the image",
    ),
)  # fmt: skip
# Of these, silence is a finding too: an error where the profile is ours to complete.
ESSENTIAL = ("signature", "validation", "upgrade", "debug")


def lint(profile: Profile) -> tuple[Finding, ...]:
    """All that is wrong with it, errors first, in the order of RULES."""
    found = [
        Finding(rule.severity, rule.about, str(value), rule.reason, rule.advice, rule.rows)
        for rule in RULES
        if (value := getattr(profile, rule.about)) in rule.values
    ]
    found += [
        Finding(WARNING, name, "not said", "this file does not show it", "say it in a profile", ())
        for name in ESSENTIAL
        if getattr(profile, name) is None
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity is not ERROR))


def check(profile: Profile, findings: Sequence[Finding]) -> None:
    """Raises PolicyRefused (publish.policy) where one of the findings is an error."""
    errors = [finding for finding in findings if finding.severity is ERROR]
    if errors:
        raise PolicyRefused(
            Code.PUBLISH_POLICY,
            f"target profile {profile.name}",
            expected="none of the errors that the public cases had",
            found="; ".join(f"{each.about} {each.found}: {each.reason}" for each in errors),
        )


def check_hardware(profile: Profile, name: str) -> None:
    """Raises FormatRefused (config.invalid) for the profile of another hardware than `name`."""
    if profile.hardware != name:
        _refuse(f"target profile {profile.name}", f"hardware {name}", f"{profile.hardware or 'none'}")


# --- TOML ---

_ENUMS: Mapping[str, type[StrEnum]] = {
    "signature": Signature,
    "validation": Validation,
    "upgrade": Upgrade,
    "debug": Debug,
    "lifecycle": Lifecycle,
    "downgrade": Downgrade,
    "encryption": Encryption,
    "signing_key": SigningKey,
    "hardware_id": HardwareId,
}
TABLES: Mapping[str, tuple[str, ...]] = {
    "target": ("name", "hardware"),
    "boot": ("signature", "validation", "upgrade", "downgrade", "hardware_id", "signing_key"),
    "image": ("encryption",),
    "device": ("debug", "lifecycle"),
    "flash": ("configuration_pages",),
}


def decode(data: bytes, what: str) -> Profile:
    """A profile in TOML. Raises FormatRefused (config.invalid): nothing in it may be unknown, and the
    fields of ESSENTIAL must be there."""
    said = _tables(stricttoml.decode(data, what, PROFILE_LIMIT), what)
    name, hardware = said.get("name"), said.get("hardware")
    if not _is_text(name) or not (hardware is None or _is_text(hardware)):
        _refuse(what, "[target] with a name of 1 to 64 characters, and perhaps a hardware", repr(name)[:40])
    missing = [key for key in ESSENTIAL if key not in said]
    if missing:
        _refuse(what, f"{', '.join(ESSENTIAL)}", f"no {missing[0]}")
    values = {key: _choice(key, said[key], what) for key in _ENUMS if key in said}
    pages = _pages(said.get("configuration_pages", []), what)
    return Profile(name=str(name), hardware=hardware, configuration_pages=pages, **values)


def _tables(tree: Mapping[str, Any], what: str) -> dict[str, Any]:
    """All fields of all tables; no two tables share a field's name."""
    found: dict[str, Any] = {}
    for table, entries in tree.items():
        if table not in TABLES or not isinstance(entries, dict):
            _refuse(what, f"the tables {', '.join(TABLES)}", repr(table)[:40])
        for key, value in entries.items():
            if key not in TABLES[table]:
                _refuse(what, f"{', '.join(TABLES[table])} in [{table}]", repr(key)[:40])
            found[key] = value
    return found


def _choice(key: str, value: object, what: str) -> Any:
    known = list(_ENUMS[key])
    if not isinstance(value, str) or value not in known:
        _refuse(what, f"{key} of {', '.join(known)}", repr(value)[:40])
    return _ENUMS[key](value)


def _pages(value: object, what: str) -> tuple[Region, ...]:
    if not isinstance(value, list) or len(value) > MAX_PAGES:
        _refuse(what, f"a list of at most {MAX_PAGES} configuration_pages", type(value).__name__)
    return tuple(_page(entry, what) for entry in value)


def _page(entry: object, what: str) -> Region:
    if not isinstance(entry, dict) or set(entry) != {"address", "size"}:
        _refuse(what, "configuration_pages of {address, size}", repr(entry)[:60])
    address, size = entry["address"], entry["size"]
    whole = type(address) is int and type(size) is int  # a bool is no address
    if not whole or not 0 <= address < address + size <= MAX_ADDRESS:
        _refuse(what, "configuration_pages within 32 bits", repr(entry)[:60])
    return Region(address, size)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable()


def _refuse(what: str, expected: str, found: str) -> NoReturn:
    raise FormatRefused(Code.CONFIG, what, expected=expected, found=found)
