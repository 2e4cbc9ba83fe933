"""Which algorithms a verifier knows is its own decision; by default what a module's ROM knows."""

import pytest

from cellward.core.errors import Code, Refused
from cellward.core.image import SIGNATURES, Tlv, Trust, decode, verify
from cellward.core.keys import ROM_ALGORITHMS, Algorithm
from vectors.forge import Draft, EdKey, Key, Sealed

ED, P256 = EdKey.make(), Key.make()
SEALED = Draft().seal(ED)
ALL = frozenset(SIGNATURES)


def trusting(*keys: EdKey | Key, algorithms: frozenset[Algorithm] = ALL, named: bool = False) -> Trust:
    held = {key.public.key_hash: key.public if named else None for key in keys}
    return Trust(held, algorithms=algorithms)


def refused(code: Code, sealed: Sealed, trust: Trust) -> None:
    with pytest.raises(Refused) as refusal:
        verify(decode(sealed.write()), trust)
    assert refusal.value.code is code


@pytest.mark.parametrize("named", [True, False])
def test_ed25519_where_it_is_known_and_only_there(named: bool) -> None:
    assert verify(decode(SEALED.write()), trusting(ED, named=named)).key == ED.public
    refused(Code.IMAGE_NO_SIGNATURE, SEALED, trusting(ED, named=named, algorithms=ROM_ALGORITHMS))
    only = frozenset({Algorithm.ED25519})
    assert verify(decode(SEALED.write()), trusting(ED, named=named, algorithms=only)).key == ED.public
    refused(Code.IMAGE_NO_SIGNATURE, Draft().seal(P256), trusting(P256, named=named, algorithms=only))


def test_the_default_is_the_rom_s() -> None:
    assert Trust({}).algorithms == ROM_ALGORITHMS == {Algorithm.P256, Algorithm.RSA_3072}


def test_to_a_rom_an_ed25519_key_is_no_key() -> None:
    """With a signature of a kind that it knows beside it: the key is refused for its form."""
    mixed = SEALED.plus((Tlv.ECDSA, P256.sign(Draft().digest)))
    refused(Code.IMAGE_KEY_MALFORMED, mixed, trusting(ED, P256, algorithms=ROM_ALGORITHMS))
    by_hash = mixed.without(Tlv.PUBKEY)
    refused(Code.IMAGE_NO_SIGNATURE, by_hash, trusting(ED, P256, algorithms=ROM_ALGORITHMS, named=True))


def test_no_second_signature_and_none_of_another_kind() -> None:
    refused(Code.IMAGE_NO_SIGNATURE, SEALED.plus((Tlv.ED25519, SEALED.value(Tlv.ED25519))), trusting(ED))
    refused(Code.IMAGE_NO_SIGNATURE, SEALED.plus((Tlv.ECDSA, P256.sign(Draft().digest))), trusting(ED))
    other = SEALED.without(Tlv.ED25519).plus((Tlv.ECDSA, P256.sign(Draft().digest)))
    refused(Code.IMAGE_NO_SIGNATURE, other, trusting(ED, P256))


@pytest.mark.parametrize("value", [b"", bytes(63), bytes(64), bytes(65)])
def test_other_bytes_are_no_signature(value: bytes) -> None:
    refused(Code.IMAGE_SIGNATURE, SEALED.having(Tlv.ED25519, value), trusting(ED))


def test_every_bit_of_the_signature_counts() -> None:
    good = SEALED.value(Tlv.ED25519)
    for bit in range(len(good) * 8):
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << bit % 8
        refused(Code.IMAGE_SIGNATURE, SEALED.having(Tlv.ED25519, bytes(changed)), trusting(ED))
