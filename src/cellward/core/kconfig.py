"""A Zephyr project's `.conf` files as a target profile: what MCUboot is built with.

Read as Kconfig reads them: later lines and later files win, `# CONFIG_X is not set` is n, and of a
choice the member that was set to y last. What a file does not set has MCUboot's default (boot/zephyr/
Kconfig of MCUboot 2.x), the published demo key among them. Sysbuild's SB_CONFIG_ names count as well.
Debug locks are the chip's affair: mostly nothing here shows them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeVar

from cellward.core.errors import Code, FormatRefused
from cellward.core.policy import (
    Debug,
    Downgrade,
    Encryption,
    HardwareId,
    Profile,
    Signature,
    SigningKey,
    Upgrade,
    Validation,
)

FILE_LIMIT = 256 * 1024
LINE_LIMIT = 4096
_UNSET = re.compile(r"#\s*(?:SB_)?CONFIG_([A-Za-z0-9_]+) is not set\s*", re.ASCII)
_SET = re.compile(r"(?:SB_)?CONFIG_([A-Za-z0-9_]+)=(.*)", re.ASCII)
# A word (y, n, m, a number) or a string in quotes; behind it a comment, as found in real files.
_VALUE = re.compile(r'\s*(?:([A-Za-z0-9_.+-]+)|"((?:[^"\\]|\\.)*)")?\s*(?:#.*)?', re.ASCII)

T = TypeVar("T")

SIGNATURES = {
    "BOOT_SIGNATURE_TYPE_NONE": Signature.NONE,
    "BOOT_SIGNATURE_TYPE_RSA": Signature.RSA_2048,  # BOOT_SIGNATURE_TYPE_RSA_LEN may say more
    "BOOT_SIGNATURE_TYPE_ECDSA_P256": Signature.ECDSA_P256,
    "BOOT_SIGNATURE_TYPE_ECDSA_P384": Signature.ECDSA_P384,
    "BOOT_SIGNATURE_TYPE_ED25519": Signature.ED25519,
}
UPGRADES = {
    "SINGLE_APPLICATION_SLOT": Upgrade.SINGLE_SLOT,
    "SINGLE_APPLICATION_SLOT_RAM_LOAD": Upgrade.SINGLE_SLOT,
    "BOOT_UPGRADE_ONLY": Upgrade.OVERWRITE,
    "BOOT_SWAP_USING_SCRATCH": Upgrade.SWAP,
    "BOOT_SWAP_USING_MOVE": Upgrade.SWAP,
    "BOOT_SWAP_USING_OFFSET": Upgrade.SWAP,
    "BOOT_DIRECT_XIP": Upgrade.DIRECT_XIP,
    "BOOT_RAM_LOAD": Upgrade.RAM_LOAD,
    "BOOT_FIRMWARE_LOADER": Upgrade.FIRMWARE_LOADER,
    "MCUBOOT_MODE_SINGLE_APP": Upgrade.SINGLE_SLOT,
    "MCUBOOT_MODE_SINGLE_APP_RAM_LOAD": Upgrade.SINGLE_SLOT,
    "MCUBOOT_MODE_OVERWRITE_ONLY": Upgrade.OVERWRITE,
    "MCUBOOT_MODE_SWAP_SCRATCH": Upgrade.SWAP,
    "MCUBOOT_MODE_SWAP_WITHOUT_SCRATCH": Upgrade.SWAP,
    "MCUBOOT_MODE_SWAP_USING_MOVE": Upgrade.SWAP,
    "MCUBOOT_MODE_SWAP_USING_OFFSET": Upgrade.SWAP,
    "MCUBOOT_MODE_DIRECT_XIP": Upgrade.DIRECT_XIP,
    "MCUBOOT_MODE_DIRECT_XIP_WITH_REVERT": Upgrade.DIRECT_XIP_REVERT,
    "MCUBOOT_MODE_RAM_LOAD": Upgrade.RAM_LOAD,
    "MCUBOOT_MODE_RAM_LOAD_WITH_REVERT": Upgrade.RAM_LOAD_REVERT,
    "MCUBOOT_MODE_FIRMWARE_UPDATER": Upgrade.FIRMWARE_LOADER,
}
REVERTS = {
    Upgrade.DIRECT_XIP: ("BOOT_DIRECT_XIP_REVERT", Upgrade.DIRECT_XIP_REVERT),
    Upgrade.RAM_LOAD: ("BOOT_RAM_LOAD_REVERT", Upgrade.RAM_LOAD_REVERT),
}
DOWNGRADES = {
    "MCUBOOT_HW_DOWNGRADE_PREVENTION": Downgrade.FUSES,
    "MCUBOOT_DOWNGRADE_PREVENTION_SECURITY_COUNTER": Downgrade.SECURITY_COUNTER,
    "MCUBOOT_DOWNGRADE_PREVENTION": Downgrade.VERSION,
}
ENCRYPTS = (
    "BOOT_ENCRYPT_IMAGE", "BOOT_ENCRYPT_RSA", "BOOT_ENCRYPT_EC256", "BOOT_ENCRYPT_X25519", "BOOT_ENCRYPTION",
)  # fmt: skip
# In MCUboot's repository, private halves and all.
PUBLISHED_KEYS = frozenset(
    f"root-{name}.pem"
    for name in ("rsa-2048", "rsa-3072", "ec-p256", "ec-p256-pkcs8", "ec-p384", "ec-p384-pkcs8", "ed25519")
)


def decode(files: Mapping[str, bytes], name: str) -> Profile:
    """The profile of these files, in the order in which the build takes them.

    Raises FormatRefused (config.invalid) with the file and the line.
    """
    symbols: dict[str, str] = {}
    for what, data in files.items():
        for symbol, value in _lines(data, what):
            symbols.pop(symbol, None)  # the last in the order is the last that was set
            symbols[symbol] = value
    signature = _signature(symbols)
    return Profile(
        name=name,
        signature=signature,
        validation=_validation(symbols),
        upgrade=_upgrade(symbols),
        debug=Debug.LOCKED if symbols.get("NRF_APPROTECT_LOCK") == "y" else None,
        downgrade=_first(symbols, DOWNGRADES, Downgrade.NONE),
        # MCUboot's encryption key is compiled in: the same in every device.
        encryption=Encryption.FLEET if any(symbols.get(s) == "y" for s in ENCRYPTS) else Encryption.NONE,
        signing_key=_signing_key(symbols, signature),
        hardware_id=HardwareId.CHECKED if symbols.get("MCUBOOT_UUID_CID") == "y" else HardwareId.IGNORED,
    )


def _lines(data: bytes, what: str) -> Sequence[tuple[str, str]]:
    if len(data) > FILE_LIMIT:
        _refuse(what, f"at most {FILE_LIMIT} bytes", f"{len(data)}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatRefused(Code.CONFIG, what, expected="text in UTF-8", found="other bytes") from error
    found = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if len(line) > LINE_LIMIT:
            _refuse(f"{what}, line {number}", f"at most {LINE_LIMIT} characters", f"{len(line)}")
        unset = _UNSET.fullmatch(line)
        if unset:
            found.append((unset[1], "n"))
        elif line and not line.startswith("#"):
            found.append(_assignment(line, f"{what}, line {number}"))
    return found


def _assignment(line: str, what: str) -> tuple[str, str]:
    match = _SET.fullmatch(line)
    value = _VALUE.fullmatch(match[2]) if match else None
    if not match or not value:
        _refuse(what, "CONFIG_NAME=y, n, m, a number or a string in quotes", repr(line)[:60])
    return match[1], value[1] or value[2] or ""


def _last(symbols: Mapping[str, str], choice: Mapping[str, T], default: T) -> T:
    """The member of a choice that was set last."""
    found = [choice[symbol] for symbol, value in symbols.items() if symbol in choice and value == "y"]
    return found[-1] if found else default


def _first(symbols: Mapping[str, str], ranked: Mapping[str, T], default: T) -> T:
    """The strongest of those that are set."""
    return next((kind for symbol, kind in ranked.items() if symbols.get(symbol) == "y"), default)


def _signature(symbols: Mapping[str, str]) -> Signature:
    found = _last(symbols, SIGNATURES, Signature.RSA_2048)
    long = symbols.get("BOOT_SIGNATURE_TYPE_RSA_LEN") == "3072"
    return Signature.RSA_3072 if found is Signature.RSA_2048 and long else found


def _validation(symbols: Mapping[str, str]) -> Validation:
    if symbols.get("BOOT_VALIDATE_SLOT0", "y") == "y":
        return Validation.EVERY_BOOT
    once = symbols.get("BOOT_VALIDATE_SLOT0_ONCE") == "y"
    return Validation.AFTER_UPDATE if once else Validation.NEVER


def _upgrade(symbols: Mapping[str, str]) -> Upgrade:
    mode = _last(symbols, UPGRADES, Upgrade.SWAP)
    if symbols.get("SINGLE_APPLICATION_SLOT") == "y":
        mode = Upgrade.SINGLE_SLOT  # the choice of modes is not there then
    symbol, reverting = REVERTS.get(mode, ("", mode))
    return reverting if symbols.get(symbol) == "y" else mode


def _signing_key(symbols: Mapping[str, str], signature: Signature) -> SigningKey | None:
    """A file's name says only whether it is one of the published ones."""
    if signature is Signature.NONE or symbols.get("BOOT_HW_KEY") == "y":
        return None
    file = re.split(r"[/\\]", symbols.get("BOOT_SIGNATURE_KEY_FILE", "root-rsa-2048.pem"))[-1]
    return SigningKey.PUBLISHED if file in PUBLISHED_KEYS else None


def _refuse(what: str, expected: str, found: str) -> NoReturn:
    raise FormatRefused(Code.CONFIG, what, expected=expected, found=found)
