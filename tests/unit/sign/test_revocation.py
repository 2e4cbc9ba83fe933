"""A revocation signed in the token is one that a module takes."""

import pytest

from cellward.core.errors import CellwardError, Code
from cellward.core.revocation import Quorum, verify
from cellward.sign.revocation import revoke
from tests.support.maker import Hand

ROOTS = tuple(Hand(f"root {number}") for number in range(3))
KEYS = tuple(root.public_key for root in ROOTS)
TARGET = b"t" * 32


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_root_key_of_the_quorum_signs(count: int) -> None:
    quorum = Quorum.of(1, KEYS[:count])
    for root in ROOTS[:count]:
        taken = verify(revoke(root, quorum, TARGET), quorum.digest)
        assert (taken.key_hash, len(taken.signatures)) == (TARGET, 1)


def test_one_signature_is_not_two() -> None:
    with pytest.raises(CellwardError) as caught:
        revoke(ROOTS[0], Quorum.of(2, KEYS), TARGET)
    assert caught.value.code is Code.REVOCATION_FORMAT


def test_a_stranger_is_not_asked_to_sign() -> None:
    stranger = Hand("stranger")
    with pytest.raises(CellwardError) as caught:
        revoke(stranger, Quorum.of(1, KEYS), TARGET)
    assert caught.value.code is Code.REVOCATION_SIGNATURE
    assert stranger.signatures == 0
