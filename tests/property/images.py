"""Strategies: images of every kind that a signer or an attacker could hand in."""

from dataclasses import dataclass

from hypothesis import strategies as st

from cellward.core import wire
from cellward.core.image import Tlv
from cellward.core.keys import P256_ORDER
from cellward.core.slots import BMS_M33, Stage
from vectors.forge import CLASS, COUNTER, VENDOR, Draft, Key, Sealed, der_integer, der_sequence
from vectors.recipe import TrustSpec

MAKER, SECOND, STRANGER = Key.make(), Key.make(), Key.make()
DEVICE = TrustSpec((MAKER.public.key_hash, SECOND.public.key_hash), (), COUNTER, VENDOR, CLASS)
SMALL = Draft(payload=bytes(range(20)), header_size=40)
GOOD = SMALL.seal(MAKER).write()

U32 = st.one_of(
    st.integers(0, 300),
    st.sampled_from([2**31, 2**32 - 1, 2**32 - 40, 2**32 - 92]),
    st.integers(0, 2**32 - 1),
)
U16 = st.one_of(
    st.integers(0, 200), st.sampled_from([0xFFFF, 0x8000, 0x1000, 0x1001]), st.integers(0, 0xFFFF)
)
KINDS = st.sampled_from([int(kind) for kind in Tlv] + [0, 3, 0x70, 0xA0, 0x0110, 0xFFFF]) | st.integers(
    0, 0xFFFF
)
VALUES = st.binary(max_size=40) | st.sampled_from(
    [VENDOR, CLASS, BMS_M33.class_id(Stage.APP), wire.u32(COUNTER), wire.u32(COUNTER - 1), MAKER.public.spki]
)
TLVS = st.tuples(KINDS, VALUES)


@dataclass(frozen=True)
class Edit:
    """Replace `cut` bytes at `at` (wrapped into the image) by `new`."""

    at: int
    cut: int
    new: bytes

    def apply(self, data: bytes) -> bytes:
        at = self.at % (len(data) + 1)
        return data[:at] + self.new + data[at + self.cut :]


EDITS = st.builds(Edit, st.integers(0, 2000), st.integers(0, 6), st.binary(max_size=6))


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """A good image with a few bytes changed, inserted or removed anywhere."""
    data = GOOD
    for edit in draw(st.lists(EDITS, min_size=1, max_size=4)):
        data = edit.apply(data)
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


def rarely(draw: st.DrawFn) -> bool:
    """One time in eight, so that the later checks are reached; never in the simplest example."""
    return draw(st.integers(0, 7)) == 5


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Headers and protected areas that are mostly right."""
    hardware = [
        (Tlv.SECURITY_COUNTER, wire.u32(draw(st.sampled_from([COUNTER, COUNTER + 1, COUNTER - 1, 0])))),
        (Tlv.UUID_VENDOR, draw(st.binary(min_size=16, max_size=16)) if rarely(draw) else VENDOR),
        (Tlv.UUID_CLASS, draw(VALUES) if rarely(draw) else CLASS),
    ]
    tlvs = draw(st.permutations([*hardware, draw(TLVS)] if rarely(draw) else hardware))
    draft = Draft(
        payload=draw(st.binary(min_size=1, max_size=60)),
        header_size=draw(U16) if rarely(draw) else draw(st.integers(32, 100)),
        payload_size=draw(U32) if rarely(draw) else None,
        protected_size=draw(U16) if rarely(draw) else None,
        flags=draw(U32) if rarely(draw) else draw(st.sampled_from([0, 4, 8])),
        load_address=draw(U32),
    )
    return draft.with_tlvs(tlvs[1:] if rarely(draw) else tlvs)


@st.composite
def signed(draw: st.DrawFn) -> bytes:
    """A draft signed by somebody, its TLVs shuffled, doubled, dropped or replaced, its ends cut."""
    sealed = draw(drafts()).seal(draw(st.sampled_from([MAKER, MAKER, SECOND, STRANGER])))
    tlvs = list(sealed.tlvs)
    while rarely(draw) or (len(tlvs) == len(sealed.tlvs) and draw(st.booleans())):
        at = draw(st.integers(0, len(tlvs) - 1)) if tlvs else 0
        change = draw(st.sampled_from(["insert", "drop", "swap", "value", "again"]))
        if change == "insert":
            tlvs.insert(at, draw(TLVS))
        elif tlvs:
            tlvs = _changed(tlvs, at, change, draw(VALUES))
    return Sealed(sealed.body, tuple(tlvs)).write(total=draw(U16) if rarely(draw) else None)


def _changed(tlvs: list[tuple[int, bytes]], at: int, change: str, value: bytes) -> list[tuple[int, bytes]]:
    first, chosen, rest = tlvs[:at], tlvs[at], tlvs[at + 1 :]
    return {
        "drop": first + rest,
        "swap": [*first, *rest[:1], chosen, *rest[1:]],
        "value": [*first, (chosen[0], value), *rest],
        "again": [*tlvs, chosen],
    }[change]


SEALED = SMALL.seal(MAKER)
R, S = MAKER.sign_raw(SMALL.digest)
NUMBERS = st.sampled_from([R, S, P256_ORDER - S, P256_ORDER - R, 0, 1, P256_ORDER, S + P256_ORDER, 2**256])


@st.composite
def signatures(draw: st.DrawFn) -> bytes:
    """A good image but for its signature: DER of good and bad numbers, well and badly formed."""
    first = der_integer(R if draw(st.booleans()) else draw(NUMBERS), int(rarely(draw)))
    second = der_integer(S if draw(st.booleans()) else draw(NUMBERS), int(rarely(draw)))
    der = der_sequence(
        first + second, draw(st.sampled_from([b"\x81\x44", b"\x80"])) if rarely(draw) else None
    )
    if rarely(draw):
        der = draw(st.builds(Edit, st.integers(0, 80), st.integers(0, 3), st.binary(max_size=3))).apply(der)
    return SEALED.having(Tlv.ECDSA, der).write()


ANY_IMAGE = st.one_of(signed(), signed(), signed(), signatures(), edited(), st.binary(max_size=400))


@st.composite
def trusts(draw: st.DrawFn) -> TrustSpec:
    hashes = [MAKER.public.key_hash, SECOND.public.key_hash]
    return TrustSpec(
        tuple(draw(st.permutations(hashes)))[: draw(st.integers(0, 2))],
        (),
        draw(st.sampled_from([0, COUNTER, COUNTER, COUNTER + 1, 2**32 - 1])),
        VENDOR,
        draw(st.sampled_from([CLASS, CLASS, CLASS, VENDOR])),
    )
