"""Attack 8 (Philips Hue): whoever has the key that encrypts an update must not be able to sign one.

The attacker knows the content key and this module's public update key; everything that is sent is
well encrypted and well wrapped. What does not carry the maker's signature stays out all the same.
"""

from collections.abc import Iterator

import pytest

from cellward.core.banks import State
from cellward.core.errors import Code
from cellward.core.image import Version, build
from cellward.core.image.encryption import encrypt
from cellward.core.slots import BMS_M33, Stage
from cellward.ports.updatelink import Request
from tests.firmware.rig import KEY, STRANGER, binary
from tests.firmware.test_update_module import CONTENT_KEY, NEW, OLD, Module, planted, wrapped
from vectors.forge import Key

PATCHED = BMS_M33.header_size + 0x400


@pytest.fixture
def module() -> Iterator[Module]:
    rig = planted()
    rig.stage("a", OLD, confirmed=True)
    rig.boot()
    yield Module(rig)
    rig.off()


def app(key: Key) -> bytes:
    unsigned = build(
        binary("app-1.4.0.bin"),
        version=Version.parse("1.4.0"),
        counter=7,
        hardware=(BMS_M33.vendor_id, BMS_M33.class_id(Stage.APP)),
        encrypted=True,
    )
    return unsigned.signed(key.public, key.sign(unsigned.digest))


def patched(data: bytes) -> bytes:
    """One bit of the program, under the signature that the maker once gave."""
    return data[:PATCHED] + bytes([data[PATCHED] ^ 1]) + data[PATCHED + 1 :]


def offered(module: Module, data: bytes) -> None:
    module.enter()
    module.send(Stage.LOADER, NEW[Stage.LOADER])
    module.send(Stage.APP, encrypt(data, CONTENT_KEY), wrapped())


@pytest.mark.parametrize(
    ("forged", "code"),
    [(app(STRANGER), Code.IMAGE_KEY_UNKNOWN), (patched(app(KEY)), Code.IMAGE_HASH)],
    ids=["signed by the attacker", "patched under the maker's signature"],
)
def test_a_forged_image_is_refused_though_it_decrypts(module: Module, forged: bytes, code: Code) -> None:
    offered(module, forged)
    module.refused(code, Request.FINISH)
    assert module.state("b") is State.EMPTY
    module.restarts("a", 6)


def test_the_same_way_of_sending_takes_what_the_maker_signed(module: Module) -> None:
    offered(module, app(KEY))
    module.done(Request.FINISH)
    module.restarts("b", 7)
