"""sign.wrapping: content keys are kept where images are signed, and go out wrapped."""

import hashlib

import pytest

from cellward.core.errors import Code, FormatRefused, PolicyRefused, TrustRefused
from cellward.core.image import VerifiedImage, Version, decode
from cellward.core.image.encryption import decrypt, unwrap
from cellward.core.ladder import derive, update_public_key
from cellward.core.slots import HARDWARE, Stage
from cellward.sign.build import Label, sign_image
from cellward.sign.firmware import read_firmware
from cellward.sign.wrapping import content_key, seal, wrap_for, wrap_for_all
from tests.fakes.store import MemoryStore
from tests.support.maker import Hand

SCALAR = derive(bytes(range(32))).update_scalar
UPDATE = update_public_key(SCALAR)


def signed(*, encrypted: bool = True) -> VerifiedImage:
    board = HARDWARE["bms-m33"]
    read = read_firmware("app.bin", bytes(5000), board, Stage.APP, fill_gaps=False)
    label = Label(Version(1, 4, 0), 7, board, Stage.APP)
    return sign_image(read, label, Hand(), encrypted=encrypted)


def test_only_the_module_that_it_is_wrapped_for_opens_it() -> None:
    store, made = MemoryStore(), signed()
    published = seal(made, store)
    assert made.image.payload not in published
    assert decode(published).stated_digest == made.image.digest
    wrapped = wrap_for(hashlib.sha256(published).hexdigest(), UPDATE, store)
    assert decrypt(published, unwrap(wrapped, SCALAR)) == made.image.data
    with pytest.raises(TrustRefused):
        unwrap(wrapped, derive(bytes(32)).update_scalar)


def test_every_image_has_a_key_of_its_own() -> None:
    store, made = MemoryStore(), signed()
    first, second = seal(made, store), seal(made, store)
    assert content_key(first, store) != content_key(second, store)
    assert first != second
    assert content_key(made.image.data, store) is None


def test_every_wrap_is_another() -> None:
    store = MemoryStore()
    digest = hashlib.sha256(seal(signed(), store)).hexdigest()
    assert wrap_for(digest, UPDATE, store) != wrap_for(digest, UPDATE, store)


def test_nothing_is_wrapped_where_the_key_is_not() -> None:
    with pytest.raises(PolicyRefused) as refused:
        wrap_for("ab" * 32, UPDATE, MemoryStore())
    assert refused.value.code is Code.IMAGE_ENCRYPTION


def test_an_image_that_does_not_say_so_is_not_encrypted() -> None:
    store = MemoryStore()
    with pytest.raises(FormatRefused) as refused:
        seal(signed(encrypted=False), store)
    assert (refused.value.code, list(store.names())) == (Code.IMAGE_ENCRYPTION, [])


def test_many_modules_each_get_the_same_key_under_their_own() -> None:
    store, made = MemoryStore(), signed()
    published = seal(made, store)
    scalars = [derive(bytes([n]) * 32).update_scalar for n in range(3)]
    wrapped = list(
        wrap_for_all(hashlib.sha256(published).hexdigest(), map(update_public_key, scalars), store)
    )
    keys = {unwrap(one, scalar) for one, scalar in zip(wrapped, scalars, strict=True)}
    assert keys == {content_key(published, store)}
    assert len({one[:65] for one in wrapped}) == 3  # an ephemeral key each
