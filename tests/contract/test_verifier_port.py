"""Both device verifiers give one verdict: Python's core and the module's own ROM, on the emulated core."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from cellward.core.errors import Code, Refused, Unavailable
from cellward.core.image import KeyTlv, Version, build
from cellward.core.keys import PublicKey
from cellward.core.slots import BMS_M33, BMS_M33_18S, COUNTER_MAX, Hardware, Stage
from cellward.ports.verifier import Accepted, DeviceVerifier
from cellward.publish.verifiers import CoreVerifier
from cellward.vbms.verifier import ModuleVerifier, packaged_rom
from tests.firmware.rig import KEY, STRANGER, binary, sign
from vectors.forge import Key, RsaKey
from vectors.recipe import Case, load

CORE = CoreVerifier()
HASH = KEY.public.key_hash
VECTORS = load("image")
NO_KEYS = tuple(bytes([number]) * 32 for number in range(1, 10))


@cache
def module() -> ModuleVerifier:
    binary("rom.bin")  # up to date
    return ModuleVerifier(entropy=lambda: 4)


@cache
def app() -> bytes:
    return sign(binary("app-1.4.0.bin"), Stage.APP, "1.4.0", 6)


@pytest.fixture(params=["core", "module"])
def verifier(request: pytest.FixtureRequest) -> DeviceVerifier:
    return CORE if request.param == "core" else module()


def said(
    verifier: DeviceVerifier,
    image: bytes,
    keys: Sequence[bytes] = (HASH,),
    counter: int = 6,
    *,
    stage: Stage = Stage.APP,
    hardware: Hardware = BMS_M33,
    revoked: Sequence[bytes] = (),
) -> Accepted | Code:
    try:
        return verifier.verify(image, hardware, stage, keys, counter, revoked=revoked)
    except Refused as refusal:
        return refusal.code


def test_a_good_image_and_what_is_read_in_it(verifier: DeviceVerifier) -> None:
    found = said(verifier, app())
    assert isinstance(found, Accepted)
    assert (str(found.version), found.counter, found.key_hash) == ("1.4.0", 6, HASH)
    assert found == said(CORE, app())


def test_a_loader(verifier: DeviceVerifier) -> None:
    loader = sign(binary("loader-1.4.0.bin"), Stage.LOADER, "1.4.0", 6)
    assert isinstance(said(verifier, loader, stage=Stage.LOADER), Accepted)
    assert said(verifier, loader) is Code.IMAGE_HARDWARE


def test_a_full_slot_and_one_byte_more(verifier: DeviceVerifier) -> None:
    payload = binary("app-1.4.0.bin")
    around = len(sign(payload, Stage.APP, "1.4.0", 6)) - len(payload) + 2  # a signature varies a little
    full = sign(payload.ljust(BMS_M33.app.size - around, b"\x5a"), Stage.APP, "1.4.0", 6)
    assert isinstance(said(verifier, full), Accepted)
    assert said(verifier, full.ljust(BMS_M33.app.size + 1, b"\0")) is Code.FIRMWARE_TOO_LARGE


@pytest.mark.parametrize("counter", [-1, COUNTER_MAX + 1])
def test_fuses_that_there_are_not(verifier: DeviceVerifier, counter: int) -> None:
    assert said(verifier, app(), counter=counter) is Code.IMAGE_COUNTER


def test_counter(verifier: DeviceVerifier) -> None:
    assert said(verifier, app(), counter=7) is Code.IMAGE_COUNTER
    highest = sign(binary("app-1.4.0.bin"), Stage.APP, "1.4.0", COUNTER_MAX)
    assert isinstance(said(verifier, highest, counter=COUNTER_MAX), Accepted)


def test_other_hardware(verifier: DeviceVerifier) -> None:
    assert said(verifier, app(), hardware=BMS_M33_18S) is Code.IMAGE_HARDWARE


@pytest.mark.parametrize("place", [0, 3, 4, 8])
def test_more_keys_than_one_module_has_slots(verifier: DeviceVerifier, place: int) -> None:
    keys = [*NO_KEYS[:place], HASH, *NO_KEYS[place:]]
    assert isinstance(said(verifier, app(), keys), Accepted)
    assert said(verifier, app(), keys, revoked=[HASH]) is Code.IMAGE_KEY_REVOKED
    assert said(verifier, app(), keys, counter=7) is Code.IMAGE_COUNTER


@pytest.mark.parametrize("keys", [(), (bytes(32),), NO_KEYS], ids=["none", "zeros", "nine others"])
def test_no_key_for_it(verifier: DeviceVerifier, keys: Sequence[bytes]) -> None:
    assert said(verifier, app(), keys) is Code.IMAGE_KEY_UNKNOWN


def test_zeros_are_no_key_s_hash(verifier: DeviceVerifier) -> None:
    """A slot that is not burned matches nothing, not even an image that names it."""
    unsigned = build(
        binary("app-1.4.0.bin"),
        version=Version(1, 4, 0),
        counter=6,
        hardware=(BMS_M33.vendor_id, BMS_M33.class_id(Stage.APP)),
    )
    data = unsigned.signed(KEY.public, KEY.sign(unsigned.digest), KeyTlv.HASH).replace(HASH, bytes(32))
    assert said(verifier, data, [bytes(32)]) is Code.IMAGE_KEY_UNKNOWN


def test_an_rsa_key(verifier: DeviceVerifier) -> None:
    key = RsaKey.make()
    data = sign(binary("app-1.4.0.bin"), Stage.APP, "1.4.0", 6, key)
    assert isinstance(said(verifier, data, [key.public.key_hash]), Accepted)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 0x2000_0000),
        (0, 0x2001_0008),
        (0, 0x2000_FFFC),
        (4, 0x0801_0200),
        (4, 0x0801_01FF),
        (4, 0x0C61_0301),
        (4, 0xFFFF_FFFF),
    ],
    ids=["stack below", "stack above", "stack crooked", "no Thumb", "before", "other bank", "far"],
)
def test_where_it_would_start(verifier: DeviceVerifier, at: int, value: int) -> None:
    payload = bytearray(binary("app-1.4.0.bin"))
    payload[at : at + 4] = value.to_bytes(4, "little")
    assert said(verifier, sign(bytes(payload), Stage.APP, "1.4.0", 6)) is Code.IMAGE_HEADER


@pytest.mark.parametrize("header_size", [0x180, 0x1F0])
def test_vectors_that_are_not_aligned(verifier: DeviceVerifier, header_size: int) -> None:
    start = BMS_M33.active_base + BMS_M33.app.offset + header_size
    payload = (0x2001_0000).to_bytes(4, "little") + (start + 9).to_bytes(4, "little") + bytes(64)
    data = sign(payload, Stage.APP, "1.4.0", 6, header_size=header_size)
    wanted = Accepted if header_size % 0x80 == 0 else Code
    assert isinstance(said(verifier, data), wanted)


def test_a_payload_without_room_for_vectors(verifier: DeviceVerifier) -> None:
    assert said(verifier, sign(bytes(7), Stage.APP, "1.4.0", 6)) is Code.IMAGE_HEADER


def _asked(verifier: DeviceVerifier, case: Case) -> Accepted | Code:
    """The fuses of a vector, but for its hardware: that is the one of every hardware's ids."""
    trust = VECTORS.trusts[case.trust]
    return said(
        verifier,
        case.data,
        trust.key_hashes,
        trust.counter or 0,
        revoked=[trust.key_hashes[slot] for slot in trust.revoked],
    )


# One of each kind of thing that is wrong; all of them run through the same ROM as a loader in
# tests/firmware/test_vectors_in_the_module.py.
KINDS = {(case.verdict, case.name.split("-")[0]): case for case in VECTORS.cases}.values()


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.name)
def test_both_agree_on_the_vectors(case: Case) -> None:
    assert _asked(module(), case) == _asked(CORE, case)


def test_both_agree_on_flipped_bits() -> None:
    """Half of them where all the structure is: header and TLVs."""
    random, data = Random(20261124), app()
    tail = 0x200 + len(binary("app-1.4.0.bin"))
    places = [*range(32), *range(tail, len(data))]
    for number in range(40):
        at = random.choice(places) if number % 2 else random.randrange(len(data))
        flipped = bytearray(data)
        flipped[at] ^= 1 << random.randrange(8)
        found = said(CORE, bytes(flipped))
        assert said(module(), bytes(flipped)) == found, f"byte {at}"


def test_nothing_is_executable_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the bus of the module's verifier are fuses and the random source alone."""
    from cellward.vbms import registers, verifier

    seen: list[int] = []
    made = verifier.RoutineCpu.__init__

    def spy(self: verifier.RoutineCpu, rom: bytes, memories: object, bus: dict[int, object]) -> None:
        seen.extend(bus)
        made(self, rom, memories, bus)  # type: ignore[arg-type]

    monkeypatch.setattr(verifier.RoutineCpu, "__init__", spy)
    assert isinstance(said(module(), app()), Accepted)
    assert set(seen) == {registers.OTP_BASE, registers.TRNG_BASE}
    assert said(module(), sign(binary("app-1.4.0.bin"), Stage.APP, "1.4.0", 6, STRANGER)) is (
        Code.IMAGE_KEY_UNKNOWN
    )


def test_hardware_whose_rom_is_not_here() -> None:
    other = replace(BMS_M33, name="bms-x", bank_size=1024 * 1024)
    with pytest.raises(Unavailable) as refused:
        module().verify(app(), other, Stage.APP, [HASH], 6)
    assert refused.value.code is Code.MODULE_ABSENT


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (b"\xfe\xe7", Code.MODULE_HANG),
        (b"\x01\xde", Code.MODULE_FAULT),
        (b"\x00\x20\x00\x60", Code.MODULE_FAULT),
        # movw r0, #0x6400; movt r0, #0x4000; ldr r0, [r0]
        (bytes.fromhex("46f20040c4f200000068"), Code.MODULE_FAULT),
    ],
    ids=["an endless loop", "an undefined instruction", "a write to the ROM", "a register that is not there"],
)
def test_a_rom_that_does_not_come_back(code: bytes, what: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellward.vbms.verifier.BUDGET", 10_000)
    rom = packaged_rom()
    at = (rom.entry & ~1) - 0x1000_0000
    broken = rom.code[:at] + code + rom.code[at + len(code) :]
    assert said(ModuleVerifier(replace(rom, code=broken)), app()) is what


def test_a_key_that_is_no_point_is_the_signature_s_matter() -> None:
    key = Key.make()
    data = sign(binary("app-1.4.0.bin"), Stage.APP, "1.4.0", 6, key)
    crooked = data.replace(key.public.encoded[-64:], bytes(64))
    keys = [key.public.key_hash]
    assert said(module(), crooked, keys) == said(CORE, crooked, keys)


def test_a_signature_that_the_rom_does_not_know(verifier: DeviceVerifier) -> None:
    """A stock MCUboot boots Ed25519; our module does not, so it is not published for it."""
    private = ed25519.Ed25519PrivateKey.generate()
    public = PublicKey.from_cryptography(private.public_key())
    unsigned = build(
        binary("app-1.4.0.bin"),
        version=Version(1, 4, 0),
        counter=6,
        hardware=(BMS_M33.vendor_id, BMS_M33.class_id(Stage.APP)),
    )
    data = unsigned.signed(public, private.sign(unsigned.digest))
    assert said(verifier, data, [public.key_hash]) is Code.IMAGE_NO_SIGNATURE
