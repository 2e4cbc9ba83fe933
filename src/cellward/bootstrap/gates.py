"""What publishing must pass."""

from typing import TYPE_CHECKING

from cellward.adapters.files import DirectoryStore
from cellward.bootstrap.keys import firmware_keys, key_register, keyring, role_signer
from cellward.bootstrap.maker import content_keys, image_repository
from cellward.bootstrap.module import module_verifier
from cellward.config import Home
from cellward.ports.signer import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellward.core.image import Version
    from cellward.core.slots import Region
    from cellward.publish.gate import Gate
    from cellward.publish.releases import Released, ReleaseGate


def gate(home: Home) -> "Gate":
    """What publishing must pass. Raises token.*, key.*, module.absent without the emulator."""
    from cellward.publish.gate import Gate
    from cellward.publish.verifiers import Pair

    keys = frozenset(key.key_hash for key in firmware_keys(home))
    return Gate(
        keys,
        Pair(module_verifier()),
        development=_development_keys(home),
        configuration=configuration_pages(home),
        judge=_key_judge(home),
    )


def _development_keys(home: Home) -> "frozenset[bytes]":
    from cellward.core.keys import KeyStage

    found = key_register(home)
    entries = () if found is None else found.of(Role.FIRMWARE, KeyStage.DEVELOPMENT)
    return frozenset(entry.key.key_hash for entry in entries)


def _key_judge(home: Home) -> "Callable[[str], object]":
    """Refuses the fingerprint of a key that the register does not let sign firmware for production."""
    from cellward.core.keys import KeyStage

    ring = keyring(home)
    found = ring.register
    if found is None:
        return lambda fingerprint: fingerprint
    return lambda fingerprint: found.check_use(
        found.key(fingerprint).key, Role.FIRMWARE, KeyStage.PRODUCTION, ring.now()
    )


def configuration_pages(home: Home) -> "dict[str, tuple[Region, ...]]":
    """What each hardware keeps for itself in its banks, by its target profile, where the maker has one.

    Raises config.invalid, publish.policy for a target that no release may be made for.
    """
    from cellward.core import policy
    from cellward.core.slots import HARDWARE

    store, found = DirectoryStore(home.profiles), {}
    for name, hardware in HARDWARE.items():
        data = store.read(f"{name}.toml")
        if data is None:
            continue
        profile = policy.decode(data, str(home.profiles / f"{name}.toml"))
        policy.check_hardware(profile, name)
        policy.check(profile, policy.lint(profile))
        found[name] = profile.configuration_of(hardware)
    return found


def released(home: Home) -> "Released":
    from cellward.adapters.lock import file_lock
    from cellward.publish.releases import Released

    return Released(DirectoryStore(home.releases), lambda: file_lock(home.image_lock))


def release_gate(home: Home) -> "ReleaseGate":
    """What a release must pass, against what is published. Raises as `gate`."""
    from cellward.publish.releases import ReleaseGate
    from cellward.sign.wrapping import content_key

    held = content_keys(home)
    return ReleaseGate(
        gate(home),
        image_repository(home).targets(),
        released(home).all(),
        lambda data, what: _read_calibration(home, data, what),
        lambda data: content_key(data, held),
        released(home).withdrawn().keys(),
        keyring(home).same_hand,
    )


def _read_calibration(home: Home, data: bytes, what: str) -> "tuple[str, Version, int]":
    from cellward.core.calibration import check_device, verify

    ring = keyring(home)
    if ring.register is None:
        keys = [role_signer(home, Role.CALIBRATION).public_key]
    else:
        keys = ring.trusted(Role.CALIBRATION)
    found = verify(data, keys, what).calibration
    check_device(found, found.hardware, None, 0, what)  # a release is for every module of its hardware
    return found.hardware, found.version, found.counter
