"""Encrypted images: the controller carries what it cannot open, the module opens and verifies it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.core.banks import State as BankState
from cellward.core.errors import Code
from cellward.core.image.encryption import encrypt, wrap
from cellward.core.ladder import derive, update_public_key
from cellward.core.metadata import Target
from cellward.core.slots import BMS_M33, OTP_DEVICE_SECRET, Stage
from cellward.ports.module import Outcome
from cellward.ports.updatelink import Request
from tests.support.pack import SERIAL, Pack, State, built

APP = f"{SERIAL}/{Stage.APP}"
SECRET = sha256(b"the secret of a module of the tests").digest()
CONTENT_KEYS = {stage: sha256(f"content key {stage}".encode()).digest()[:16] for stage in Stage}


def plain(stage: Stage, version: str = "1.4.0") -> bytes:
    return built(stage, version, 7, encrypted=True)


def wrapped(stage: Stage, secret: bytes = SECRET) -> bytes:
    point = update_public_key(derive(secret).update_scalar).spki[-65:]
    return wrap(CONTENT_KEYS[stage], point, ec.generate_private_key(ec.SECP256R1()))


@dataclass
class Sealed:
    """A pack whose module has a secret, with 1.4.0 published encrypted and ordered."""

    pack: Pack = field(default_factory=Pack)

    def __post_init__(self) -> None:
        at = OTP_DEVICE_SECRET.offset
        self.pack.module.fuses[at : at + len(SECRET)] = SECRET
        self.targets = {stage: self.publish(stage) for stage in Stage}
        self.order({stage: wrapped(stage) for stage in Stage})

    def publish(self, stage: Stage, change: Callable[[bytes], bytes] = bytes) -> Target:
        data = change(encrypt(plain(stage), CONTENT_KEYS[stage]))
        digest = sha256(plain(stage)).hexdigest()
        return self.pack.publish(data, stage, "1.4.0", 7, plain_sha256=digest)

    def order(self, keys: dict[Stage, bytes]) -> None:
        self.pack.order(*self.targets.values(), wrapped={str(stage): key for stage, key in keys.items()})


@pytest.fixture
def sealed() -> Sealed:
    return Sealed()


def safe(pack: Pack, before: State) -> None:
    after = pack.snapshot()
    assert after.banks[before.active] == before.banks[before.active]
    assert (after.counter, after.active) == (before.counter, before.active)
    assert pack.module.outcome is Outcome.RUNNING
    assert pack.module.status().bank("b").state is BankState.EMPTY


def test_the_module_runs_what_was_signed_and_reports_it(sealed: Sealed) -> None:
    pack = sealed.pack
    assert pack.cycle().outcome == "updated"
    slot = BMS_M33.app
    assert bytes(pack.module.banks[1][slot.offset :]).startswith(plain(Stage.APP))
    report = pack.manifests[-1].report(APP)
    assert report is not None
    assert report.installed is not None
    assert report.installed.sha256 == sealed.targets[Stage.APP].plain_sha256


def test_what_runs_already_is_not_installed_again(sealed: Sealed) -> None:
    sealed.pack.cycle()
    operations = sealed.pack.module.operations
    sealed.pack.server.requests.clear()
    assert sealed.pack.cycle().outcome == "nothing to do"
    assert (sealed.pack.module.operations, len(sealed.pack.server.requests)) == (operations, 1)


def test_the_controller_never_holds_plaintext_or_content_key(sealed: Sealed) -> None:
    """Neither what it keeps nor what it sends to the module: the whole traffic is looked at."""
    pack, sent = sealed.pack, bytearray()
    exchange = pack.module.exchange

    def listened(request: bytes) -> bytes:
        sent.extend(request)
        answer = exchange(request)
        sent.extend(answer)
        return answer

    pack.module.exchange = listened  # type: ignore[method-assign]
    assert pack.cycle().outcome == "updated"
    kept = b"".join(pack.store.read(name) or b"" for name in pack.store.names())
    for stage in Stage:
        image, key = plain(stage), CONTENT_KEYS[stage]
        secrets = (key, key.hex().encode(), image[BMS_M33.header_size :][:64])
        assert not any(secret in held for secret in secrets for held in (kept, bytes(sent)))


@pytest.mark.parametrize("case", ["another module's", "another image's", "changed"])
def test_a_key_that_does_not_open(sealed: Sealed, case: str) -> None:
    """The Director, or whoever has its key, hands out another blob: the module says no."""
    good = wrapped(Stage.APP)
    bad, code = {
        "another module's": (wrapped(Stage.APP, bytes(32)), Code.IMAGE_ENCRYPTION),
        "another image's": (wrapped(Stage.LOADER), Code.IMAGE_HASH),
        "changed": (good[:-1] + bytes([good[-1] ^ 1]), Code.IMAGE_ENCRYPTION),
    }[case]
    before = sealed.pack.snapshot()
    sealed.order({Stage.LOADER: wrapped(Stage.LOADER), Stage.APP: bad})
    sealed.pack.refused(code)
    safe(sealed.pack, before)
    sealed.order({stage: wrapped(stage) for stage in Stage})
    assert sealed.pack.cycle().outcome == "updated"


@pytest.mark.parametrize("keys", [{}, {Stage.LOADER: wrapped(Stage.LOADER)}], ids=["none", "one of two"])
def test_without_its_key_nothing_is_erased(sealed: Sealed, keys: dict[Stage, bytes]) -> None:
    before = sealed.pack.snapshot()
    sealed.order(keys)
    sealed.pack.refused(Code.IMAGE_ENCRYPTION)
    assert sealed.pack.snapshot().banks == before.banks
    assert Request.ENTER_UPDATE not in sealed.pack.module.asked


def test_a_key_for_an_image_that_is_not_encrypted(sealed: Sealed) -> None:
    pack = sealed.pack
    targets = [pack.publish(built(stage, "1.4.1", 7), stage, "1.4.1", 7) for stage in Stage]
    pack.order(*targets, wrapped={str(Stage.APP): wrapped(Stage.APP)})
    before = pack.snapshot()
    pack.refused(Code.IMAGE_ENCRYPTION)
    assert pack.snapshot().banks == before.banks


def test_changed_ciphertext_is_found_where_it_is_opened(sealed: Sealed) -> None:
    """Both repositories' keys in wrong hands, and the firmware key not: header and signature are as good
    as ever, and only who decrypts can see it."""
    at = BMS_M33.header_size + 5000
    changed = sealed.publish(Stage.APP, lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    sealed.targets[Stage.APP] = changed
    sealed.order({stage: wrapped(stage) for stage in Stage})
    before = sealed.pack.snapshot()
    sealed.pack.refused(Code.IMAGE_HASH)
    safe(sealed.pack, before)


def test_a_broken_signature_is_found_before(sealed: Sealed) -> None:
    """It is over the digest that the image states: that much the controller can verify."""
    changed = sealed.publish(Stage.APP, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    sealed.targets[Stage.APP] = changed
    sealed.order({stage: wrapped(stage) for stage in Stage})
    before = sealed.pack.snapshot()
    sealed.pack.refused(Code.IMAGE_SIGNATURE)
    assert sealed.pack.snapshot().banks == before.banks


def test_recovery_takes_an_encrypted_release(sealed: Sealed) -> None:
    module = sealed.pack.module
    module.banks[0][BMS_M33.app.offset + 0x300] ^= 1
    module.reset()
    assert module.outcome is Outcome.RECOVERY
    assert sealed.pack.cycle().outcome == "updated"
    assert module.status().outcome is Outcome.RUNNING
