"""Key roles: made once, kept, refused when they could have been copied."""

import pytest

from cellward.core.errors import Code, Refused, Unavailable
from cellward.core.keys import Algorithm
from cellward.ports.signer import Role, StoredKey
from cellward.sign.keys import firmware_labels, init_roles, list_roles, named_key, new_firmware_key
from tests.fakes.signer import EXPORTABLE, MemoryKeyStore

# Approvals are people's, each in a token of their own.
MAKERS = [role for role in Role if role is not Role.APPROVAL]


def test_every_role_gets_a_key_once() -> None:
    store = MemoryKeyStore()
    first = list(init_roles(store))
    assert [row.role for row in first] == MAKERS
    assert all(row.created for row in first)
    second = list(init_roles(store))
    assert not any(row.created for row in second)
    assert [row.key for row in second] == [row.key for row in first]
    assert [row.key for row in list_roles(store)] == [row.key for row in first]


def test_a_run_that_was_cut_short_is_taken_up_again() -> None:
    store = MemoryKeyStore()
    made = store.create(Role.ROOT)
    rows = list(init_roles(store))
    assert [row.created for row in rows] == [False] + [True] * (len(MAKERS) - 1)
    assert rows[0].key == made


def test_a_key_that_could_have_been_copied_is_refused() -> None:
    store = MemoryKeyStore()
    store.hold(Role.FIRMWARE, EXPORTABLE)
    with pytest.raises(Refused) as error:
        list(init_roles(store))
    assert error.value.code is Code.KEY_EXPORTABLE
    assert "firmware" in error.value.subject


class Racing(MemoryKeyStore):
    """Another process makes every key between the look and the making."""

    def create(self, label: str, algorithm: Algorithm = Algorithm.P256) -> StoredKey:
        super().create(label, algorithm)
        return super().create(label, algorithm)


def test_a_key_that_another_process_made_first_is_kept() -> None:
    assert [row.key.label for row in init_roles(Racing())] == MAKERS


def test_firmware_may_have_more_keys_of_either_kind() -> None:
    store = MemoryKeyStore()
    list(init_roles(store))
    for name, algorithm in (("firmware-2", Algorithm.RSA_3072), ("firmware-3", Algorithm.P256)):
        made = new_firmware_key(store, name, algorithm)
        assert made.key.public_key.algorithm is algorithm
        assert named_key(store, name) == made.key
        with pytest.raises(Refused) as error:
            new_firmware_key(store, name, algorithm)
        assert error.value.code is Code.KEY_EXISTS
    names = [row.key.label for row in list_roles(store)]
    assert sorted(names) == sorted([*MAKERS, "firmware-2", "firmware-3"])
    assert firmware_labels(store) == ["firmware", "firmware-2", "firmware-3"]


@pytest.mark.parametrize(
    "name", ["", "root", "firmware-", "firmware2", "firmware-a b", "firmware-" + "x" * 33]
)
def test_a_firmware_key_is_named_so(name: str) -> None:
    store = MemoryKeyStore()
    with pytest.raises(Refused) as error:
        new_firmware_key(store, name, Algorithm.P256)
    assert error.value.code is Code.KEY_FORMAT
    assert store.labels() == []


def test_the_key_of_a_role() -> None:
    store = MemoryKeyStore()
    with pytest.raises(Unavailable) as error:
        named_key(store, Role.DIRECTOR)
    assert error.value.code is Code.TOKEN_KEY_MISSING
    made = store.create(Role.DIRECTOR)
    assert named_key(store, Role.DIRECTOR) == made
    assert list_roles(store)[0].role is Role.DIRECTOR
