"""Revocations: made, encoded, decoded, verified. The module's verdicts are in vectors/boot.json."""

import pytest

from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.revocation import MAX_SIZE, Quorum, Revocation, decode, signed_digest, verify
from vectors.forge import Key, RsaKey

ROOTS = tuple(sorted((Key.make() for _ in range(4)), key=lambda key: key.public.spki))
HASH = bytes(range(32))


def quorum(m: int = 2, n: int = 3) -> Quorum:
    return Quorum.of(m, tuple(key.public for key in ROOTS[:n]))


def raw(key: Key, digest: bytes) -> bytes:
    r, s = key.sign_raw(digest)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def signed(of: Quorum, indices: tuple[int, ...]) -> Revocation:
    digest = signed_digest(of, HASH)
    return Revocation(of, HASH, {index: raw(ROOTS[index], digest) for index in indices})


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_quorum_s_revocation_is_verified(n: int) -> None:
    for m in range(1, n + 1):
        of = quorum(m, n)
        for k in range(m, n + 1):
            made = signed(of, tuple(range(k)))
            data = made.encode()
            assert verify(data, of.digest) == decode(data) == made
            assert len(data) <= MAX_SIZE


def test_keys_are_put_in_order() -> None:
    keys = [key.public for key in ROOTS[:3]]
    assert Quorum.of(2, tuple(reversed(keys))) == quorum()
    assert quorum().digest != quorum(1).digest != quorum(2, 2).digest


@pytest.mark.parametrize(
    ("threshold", "points"),
    [
        (1, ()),
        (0, (0,)),
        (2, (0,)),
        (1, (0, 1, 2, 3, 0)),
        (1, (1, 0)),
        (1, (0, 0)),
    ],
)
def test_a_quorum_has_its_form(threshold: int, points: tuple[int, ...]) -> None:
    with pytest.raises(FormatRefused) as refusal:
        Quorum(threshold, tuple(ROOTS[point].public.spki[-65:] for point in points))
    assert refusal.value.code is Code.REVOCATION_FORMAT


def test_a_quorum_has_at_most_four_keys() -> None:
    five = tuple(sorted(key.public.spki[-65:] for key in (*ROOTS, Key.make())))
    with pytest.raises(FormatRefused) as refusal:
        Quorum(1, five)
    assert refusal.value.code is Code.REVOCATION_FORMAT


@pytest.mark.parametrize("point", [b"\2" + bytes(64), b"\4" + bytes(63), b""])
def test_a_root_key_is_an_uncompressed_point(point: bytes) -> None:
    with pytest.raises(FormatRefused) as refusal:
        Quorum(1, (point,))
    assert refusal.value.code is Code.REVOCATION_FORMAT


def test_what_the_module_would_refuse_is_not_encoded() -> None:
    of = quorum()
    good = signed(of, (0, 1))
    rows = (
        signed(of, (0,)),
        Revocation(of, HASH, {}),
        Revocation(of, HASH[:-1], good.signatures),
        Revocation(of, HASH, {**good.signatures, 1: bytes(63)}),
        Revocation(of, HASH, {**good.signatures, 3: bytes(64)}),
        Revocation(of, HASH, {**good.signatures, 256: bytes(64)}),
    )
    for row in rows:
        with pytest.raises(FormatRefused) as refusal:
            row.encode()
        assert refusal.value.code is Code.REVOCATION_FORMAT


def test_every_byte_counts() -> None:
    of = quorum(1, 1)
    data = signed(of, (0,)).encode()
    for at in range(len(data)):
        edited = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        with pytest.raises((FormatRefused, TrustRefused)):
            verify(edited, of.digest)


def test_no_quorum_in_the_fuses_takes_nothing() -> None:
    of = quorum()
    data = signed(of, (0, 1)).encode()
    for digest in (bytes(32), quorum(1).digest):
        with pytest.raises(TrustRefused) as refusal:
            verify(data, digest)
        assert refusal.value.code is Code.REVOCATION_SIGNATURE


def test_only_p256_keys_are_root_keys() -> None:
    with pytest.raises(FormatRefused) as refusal:
        Quorum.of(1, (RsaKey.make().public,))
    assert refusal.value.code is Code.REVOCATION_FORMAT
