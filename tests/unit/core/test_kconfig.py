"""`.conf` files of Zephyr projects as target profiles."""

import pytest

from cellward.core.errors import Code, FormatRefused
from cellward.core.kconfig import decode
from cellward.core.policy import (
    Debug,
    Downgrade,
    Encryption,
    HardwareId,
    Profile,
    Severity,
    Signature,
    SigningKey,
    Upgrade,
    Validation,
    lint,
)

# What the bootloader of a public BMS is built with (attack list, row 19).
LIBRE_SOLAR = "CONFIG_BOOT_UPGRADE_ONLY=y\nCONFIG_BOOT_VALIDATE_SLOT0=n\nCONFIG_BOOT_SIGNATURE_TYPE_NONE=y\n"

NONE = "BOOT_SIGNATURE_TYPE_NONE"


def profile(*files: str) -> Profile:
    return decode({f"{number}.conf": text.encode() for number, text in enumerate(files)}, "target")


def test_the_public_case() -> None:
    found = profile("CONFIG_BOOT_UPGRADE_ONLY=n # of MCUboot's own file\n", LIBRE_SOLAR)
    assert (found.signature, found.validation, found.upgrade) == (
        Signature.NONE,
        Validation.NEVER,
        Upgrade.OVERWRITE,
    )
    errors = [finding for finding in lint(found) if finding.severity is Severity.ERROR]
    assert [finding.about for finding in errors] == ["signature", "validation", "upgrade"]
    assert all(19 in finding.rows for finding in errors)


def test_defaults_are_mcuboot_s() -> None:
    assert profile("") == Profile(
        name="target",
        signature=Signature.RSA_2048,
        validation=Validation.EVERY_BOOT,
        upgrade=Upgrade.SWAP,
        debug=None,
        downgrade=Downgrade.NONE,
        encryption=Encryption.NONE,
        signing_key=SigningKey.PUBLISHED,
        hardware_id=HardwareId.IGNORED,
    )


def test_a_good_one_has_nothing_against_it_but_silence_on_debug() -> None:
    found = profile(
        "CONFIG_BOOT_SIGNATURE_TYPE_ECDSA_P256=y\n"
        'CONFIG_BOOT_SIGNATURE_KEY_FILE="/keys/pack.pem"\n'
        "CONFIG_BOOT_SWAP_USING_MOVE=y\n"
        "CONFIG_MCUBOOT_HW_DOWNGRADE_PREVENTION=y\n"
        "CONFIG_MCUBOOT_UUID_CID=y\n"
    )
    assert {finding.about for finding in lint(found)} == {"debug", "encryption"}
    assert profile("CONFIG_NRF_APPROTECT_LOCK=y\n").debug is Debug.LOCKED


@pytest.mark.parametrize(
    ("text", "signature"),
    [
        ("CONFIG_BOOT_SIGNATURE_TYPE_RSA=y\n", Signature.RSA_2048),
        ("CONFIG_BOOT_SIGNATURE_TYPE_RSA=y\nCONFIG_BOOT_SIGNATURE_TYPE_RSA_LEN=3072\n", Signature.RSA_3072),
        ("CONFIG_BOOT_SIGNATURE_TYPE_ED25519=y\n", Signature.ED25519),
        ("SB_CONFIG_BOOT_SIGNATURE_TYPE_NONE=y\n", Signature.NONE),
        (
            "CONFIG_BOOT_SIGNATURE_TYPE_NONE=y\nCONFIG_BOOT_SIGNATURE_TYPE_ECDSA_P256=y\n",
            Signature.ECDSA_P256,
        ),
        ("CONFIG_BOOT_SIGNATURE_TYPE_ECDSA_P256=y\nCONFIG_BOOT_SIGNATURE_TYPE_NONE=y\n", Signature.NONE),
        (
            "CONFIG_BOOT_SIGNATURE_TYPE_NONE=y\n# CONFIG_BOOT_SIGNATURE_TYPE_NONE is not set\n",
            Signature.RSA_2048,
        ),
        ("# CONFIG_BOOT_SIGNATURE_TYPE_NONE=y\n", Signature.RSA_2048),
        (
            f"CONFIG_{NONE}=y\nCONFIG_BOOT_SIGNATURE_TYPE_ECDSA_P256=y\nCONFIG_{NONE}=y\n",
            Signature.NONE,
        ),
    ],
)
def test_signature(text: str, signature: Signature) -> None:
    assert profile(text).signature is signature


@pytest.mark.parametrize(
    ("text", "upgrade"),
    [
        ("CONFIG_SINGLE_APPLICATION_SLOT=y\nCONFIG_BOOT_SWAP_USING_MOVE=y\n", Upgrade.SINGLE_SLOT),
        ("CONFIG_BOOT_DIRECT_XIP=y\n", Upgrade.DIRECT_XIP),
        ("CONFIG_BOOT_DIRECT_XIP=y\nCONFIG_BOOT_DIRECT_XIP_REVERT=y\n", Upgrade.DIRECT_XIP_REVERT),
        ("CONFIG_BOOT_RAM_LOAD=y\nCONFIG_BOOT_RAM_LOAD_REVERT=y\n", Upgrade.RAM_LOAD_REVERT),
        ("CONFIG_BOOT_RAM_LOAD=y\n", Upgrade.RAM_LOAD),
        ("CONFIG_BOOT_FIRMWARE_LOADER=y\n", Upgrade.FIRMWARE_LOADER),
        ("SB_CONFIG_MCUBOOT_MODE_OVERWRITE_ONLY=y\n", Upgrade.OVERWRITE),
        ("SB_CONFIG_MCUBOOT_MODE_DIRECT_XIP_WITH_REVERT=y\n", Upgrade.DIRECT_XIP_REVERT),
        ("CONFIG_BOOT_SWAP_USING_SCRATCH=y\nCONFIG_BOOT_UPGRADE_ONLY=y\n", Upgrade.OVERWRITE),
        ("CONFIG_BOOT_UPGRADE_ONLY=y\r\nCONFIG_BOOT_UPGRADE_ONLY=n\r\n", Upgrade.SWAP),
    ],
)
def test_upgrade(text: str, upgrade: Upgrade) -> None:
    assert profile(text).upgrade is upgrade


def test_later_files_win() -> None:
    assert profile("CONFIG_BOOT_VALIDATE_SLOT0=n\n", "CONFIG_BOOT_VALIDATE_SLOT0=y\n").validation is (
        Validation.EVERY_BOOT
    )
    assert profile("CONFIG_BOOT_VALIDATE_SLOT0=n\nCONFIG_BOOT_VALIDATE_SLOT0_ONCE=y").validation is (
        Validation.AFTER_UPDATE
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('CONFIG_BOOT_SIGNATURE_KEY_FILE="bootloader/mcuboot/root-ec-p256.pem"', SigningKey.PUBLISHED),
        ('CONFIG_BOOT_SIGNATURE_KEY_FILE="C:\\\\keys\\\\root-rsa-3072.pem"', SigningKey.PUBLISHED),
        ('CONFIG_BOOT_SIGNATURE_KEY_FILE="ours.pem"', None),
        ("CONFIG_BOOT_HW_KEY=y", None),
        ("CONFIG_BOOT_SIGNATURE_TYPE_NONE=y", None),
    ],
)
def test_signing_key(text: str, key: SigningKey | None) -> None:
    assert profile(text).signing_key is key


@pytest.mark.parametrize(
    ("text", "downgrade"),
    [
        ("CONFIG_MCUBOOT_DOWNGRADE_PREVENTION=y", Downgrade.VERSION),
        (
            "CONFIG_MCUBOOT_DOWNGRADE_PREVENTION=y\nCONFIG_MCUBOOT_DOWNGRADE_PREVENTION_SECURITY_COUNTER=y",
            Downgrade.SECURITY_COUNTER,
        ),
        ("CONFIG_MCUBOOT_HW_DOWNGRADE_PREVENTION=y", Downgrade.FUSES),
    ],
)
def test_downgrade(text: str, downgrade: Downgrade) -> None:
    assert profile(text).downgrade is downgrade


@pytest.mark.parametrize("symbol", ["BOOT_ENCRYPT_IMAGE", "BOOT_ENCRYPT_RSA", "BOOT_ENCRYPT_EC256"])
def test_mcuboot_s_encryption_key_is_the_same_in_all(symbol: str) -> None:
    assert profile(f"CONFIG_{symbol}=y").encryption is Encryption.FLEET


@pytest.mark.parametrize(
    "line",
    ["CONFIG_X", "X=y", "CONFIG_X y", "CONFIG_=y", 'CONFIG_X="a', "CONFIG_X=a b", "CONFIG_X=" + "1" * 4096],
)
def test_a_line_that_is_none(line: str) -> None:
    with pytest.raises(FormatRefused) as refused:
        profile(f"CONFIG_A=y\n{line}\n")
    assert refused.value.code is Code.CONFIG
    assert "line 2" in refused.value.subject


@pytest.mark.parametrize("data", [b"\xff", b"#" * (256 * 1024 + 1)])
def test_a_file_that_is_none(data: bytes) -> None:
    with pytest.raises(FormatRefused):
        decode({"a.conf": data}, "target")
