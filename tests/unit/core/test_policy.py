"""Target profiles: what the public cases had wrong is found, with its reason, and nothing else is."""

from dataclasses import fields, replace

import pytest

from cellward.cli.lint import example_profile
from cellward.core.errors import Code, FormatRefused, PolicyRefused
from cellward.core.policy import (
    ESSENTIAL,
    RULES,
    Debug,
    Downgrade,
    Encryption,
    HardwareId,
    Lifecycle,
    Profile,
    Severity,
    Signature,
    SigningKey,
    Upgrade,
    Validation,
    check,
    check_hardware,
    decode,
    lint,
)
from cellward.core.slots import BMS_M33, Region

GOOD = decode(example_profile().encode(), "bms-m33.toml")


def test_our_own_profile_passes() -> None:
    assert lint(GOOD) == ()
    check(GOOD, lint(GOOD))
    check_hardware(GOOD, "bms-m33")
    assert all(getattr(GOOD, field.name) is not None for field in fields(GOOD))


@pytest.mark.parametrize(
    ("about", "value", "row"),
    [
        ("signature", Signature.NONE, 19),
        ("validation", Validation.NEVER, 19),
        ("validation", Validation.AFTER_UPDATE, 5),
        ("upgrade", Upgrade.OVERWRITE, 19),
        ("upgrade", Upgrade.SINGLE_SLOT, 19),
        ("upgrade", Upgrade.DIRECT_XIP, 21),
        ("upgrade", Upgrade.RAM_LOAD, 24),
        ("upgrade", Upgrade.FIRMWARE_LOADER, 19),
        ("debug", Debug.OPEN, 25),
        ("signing_key", SigningKey.PUBLISHED, 15),
        ("signing_key", SigningKey.DEVELOPMENT, 16),
    ],
)
def test_what_no_release_is_made_for(about: str, value: object, row: int) -> None:
    profile = replace(GOOD, **{about: value})  # type: ignore[arg-type]
    (finding,) = lint(profile)
    assert (finding.severity, finding.about, finding.found) == (Severity.ERROR, about, str(value))
    assert row in finding.rows
    with pytest.raises(PolicyRefused) as refused:
        check(profile, lint(profile))
    assert refused.value.code is Code.PUBLISH_POLICY
    assert finding.reason in refused.value.found


@pytest.mark.parametrize(
    ("about", "value"),
    [
        ("signature", Signature.RSA_2048),
        ("lifecycle", Lifecycle.OPEN),
        ("downgrade", Downgrade.NONE),
        ("downgrade", Downgrade.VERSION),
        ("downgrade", Downgrade.SECURITY_COUNTER),
        ("encryption", Encryption.NONE),
        ("encryption", Encryption.FLEET),
        ("hardware_id", HardwareId.IGNORED),
    ],
)
def test_what_is_only_warned_of(about: str, value: object) -> None:
    profile = replace(GOOD, **{about: value})  # type: ignore[arg-type]
    (finding,) = lint(profile)
    assert (finding.severity, finding.about) == (Severity.WARNING, about)
    check(profile, lint(profile))


@pytest.mark.parametrize(
    ("about", "value"),
    [
        ("signature", Signature.RSA_3072),
        ("signature", Signature.ED25519),
        ("signature", Signature.ECDSA_P384),
        ("upgrade", Upgrade.SWAP),
        ("upgrade", Upgrade.RAM_LOAD_REVERT),
        ("debug", Debug.AUTHENTICATED),
    ],
)
def test_what_is_as_good(about: str, value: object) -> None:
    assert lint(replace(GOOD, **{about: value})) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize("about", ESSENTIAL)
def test_silence_about_what_matters_is_told(about: str) -> None:
    (finding,) = lint(replace(GOOD, **{about: None}))  # type: ignore[arg-type]
    assert (finding.severity, finding.found) == (Severity.WARNING, "not said")


def test_errors_come_first() -> None:
    profile = replace(GOOD, encryption=Encryption.NONE, debug=Debug.OPEN, signature=Signature.NONE)
    assert [finding.about for finding in lint(profile)] == ["signature", "debug", "encryption"]


def test_every_rule_is_about_a_field_of_the_profile() -> None:
    names = {field.name for field in fields(Profile)}
    assert {rule.about for rule in RULES} <= names
    assert set(ESSENTIAL) <= names


def changed(old: str, new: str) -> bytes:
    text = example_profile()
    assert old in text
    return text.replace(old, new, 1).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[",
        b"a=" + b"[" * 5000,
        b"a=" + b"1" * 5000,
        b"[target]\nname='x'\n",
        changed("[image]", "[images]"),
        changed("debug =", "debugger ="),
        changed('signature = "ecdsa-p256"', 'signature = "ecdsa"'),
        changed('signature = "ecdsa-p256"', "signature = 3"),
        changed('signature = "ecdsa-p256"', "signature = []"),
        changed('signature = "ecdsa-p256"', "signature = true"),
        changed('signature = "ecdsa-p256"', ""),
        changed('debug = "locked"', ""),
        changed('name = "bms-m33"', 'name = ""'),
        changed('name = "bms-m33"', 'name = "a\\u001bb"'),
        changed('hardware = "bms-m33"', "hardware = 33"),
        changed('[target]\nname = "bms-m33"', 'target = "bms-m33"\n[boot]'),
        changed("configuration_pages = []", "configuration_pages = 4"),
        changed("configuration_pages = []", "configuration_pages = [4]"),
        changed("configuration_pages = []", "configuration_pages = [{ address = 0 }]"),
        changed("configuration_pages = []", "configuration_pages = [{ address = 0, size = 0 }]"),
        changed("configuration_pages = []", "configuration_pages = [{ address = -1, size = 8 }]"),
        changed("configuration_pages = []", "configuration_pages = [{ address = true, size = 8 }]"),
        changed("configuration_pages = []", "configuration_pages = [{ address = 4294967295, size = 2 }]"),
        changed("configuration_pages = []", f"configuration_pages = {[{}] * 65}"),
        example_profile().encode() + b"#" * 65536,
    ],
)
def test_a_file_that_is_no_profile(data: bytes) -> None:
    with pytest.raises(FormatRefused) as refused:
        decode(data, "profile")
    assert refused.value.code is Code.CONFIG


def pages(text: str) -> Profile:
    return decode(changed("configuration_pages = []", f"configuration_pages = [{text}]"), "profile")


def test_configuration_pages_become_parts_of_the_bank() -> None:
    found = pages("{ address = 0x08040000, size = 0x2000 }").configuration_of(BMS_M33)
    assert found == (Region(0x40000, 0x2000),)


@pytest.mark.parametrize(
    "text",
    [
        "{ address = 0x07FFE000, size = 0x2000 }",
        "{ address = 0x081FE000, size = 0x4000 }",
        "{ address = 0x08041000, size = 0x2000 }",
        "{ address = 0x08040000, size = 0x1000 }",
    ],
    ids=["before the bank", "behind it", "not aligned", "half a page"],
)
def test_configuration_pages_that_are_none_of_this_hardware(text: str) -> None:
    with pytest.raises(FormatRefused):
        pages(text).configuration_of(BMS_M33)


def test_another_hardware_s_profile() -> None:
    with pytest.raises(FormatRefused):
        check_hardware(GOOD, "bms-m33-18s")
    with pytest.raises(FormatRefused):
        check_hardware(replace(GOOD, hardware=None), "bms-m33")
