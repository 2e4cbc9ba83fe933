"""Every KeyStore and Signer keeps the promises of ports/signer.py: a token and the fake."""

from pathlib import Path

import pytest

from cellward.core.errors import Code, Refused, TrustRefused, Unavailable
from cellward.core.keys import Algorithm, canonical_signature
from cellward.ports.signer import KeyStore
from tests.fakes.signer import MemoryKeyStore
from tests.support import hsm

DIGEST = bytes(range(32))
MESSAGE = b"more than any digest has: " + bytes(200)


@pytest.fixture(scope="module", params=["softhsm", "memory"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    if request.param == "memory":
        return MemoryKeyStore()
    return hsm.store_of(hsm.make_home(tmp_path_factory.mktemp("token")))


def test_a_key_is_made_once(store: KeyStore) -> None:
    assert store.find("made") is None
    made = store.create("made")
    assert made.label == "made"
    assert store.find("made") == made
    with pytest.raises(Refused) as error:
        store.create("made")
    assert error.value.code is Code.KEY_EXISTS
    assert store.find("made") == made


def test_a_key_is_confined_from_birth(store: KeyStore) -> None:
    attributes = store.create("confined").attributes
    assert attributes.confined
    assert attributes.always_sensitive
    assert attributes.never_extractable
    assert attributes.local


def test_each_key_is_another(store: KeyStore) -> None:
    assert store.create("one").public_key != store.create("other").public_key


def test_a_signature_is_der_and_verifies(store: KeyStore) -> None:
    public_key = store.create("signs").public_key
    signer = store.signer("signs")
    assert signer.public_key == public_key
    signature = signer.sign(DIGEST)
    assert canonical_signature(signature)
    public_key.verify(DIGEST, signature, code=Code.IMAGE_SIGNATURE, subject="test")
    with pytest.raises(TrustRefused):
        public_key.verify(bytes(32), signature, code=Code.IMAGE_SIGNATURE, subject="test")


def test_an_rsa_key_signs_with_pss(store: KeyStore) -> None:
    made = store.create("rsa", Algorithm.RSA_3072)
    public_key = made.public_key
    assert public_key.algorithm is Algorithm.RSA_3072
    assert made.attributes.confined
    assert made.attributes.never_extractable
    signer = store.signer("rsa")
    assert (signer.public_key, store.find("rsa")) == (public_key, made)
    signature = signer.sign(DIGEST)
    assert len(signature) == 384
    assert signer.sign(DIGEST) != signature, "each has a salt of its own"
    public_key.verify(DIGEST, signature, code=Code.IMAGE_SIGNATURE, subject="test")
    with pytest.raises(TrustRefused):
        public_key.verify(bytes(32), signature, code=Code.IMAGE_SIGNATURE, subject="test")


@pytest.mark.parametrize("algorithm", [Algorithm.P384, Algorithm.ED25519])
def test_a_key_for_documents_signs_a_message(store: KeyStore, algorithm: Algorithm) -> None:
    made = store.create(algorithm.value, algorithm)
    key, signer = made.public_key, store.signer(algorithm.value)
    assert (key.algorithm, signer.public_key) == (algorithm, key)
    assert made.attributes.never_extractable
    signature = signer.sign(key.to_sign(MESSAGE))
    assert key.verify_message(MESSAGE, signature, code=Code.IMAGE_SIGNATURE, subject="test") == MESSAGE
    with pytest.raises(TrustRefused):
        key.verify_message(MESSAGE + b"!", signature, code=Code.IMAGE_SIGNATURE, subject="test")


def test_the_labels_are_those_of_the_private_keys(store: KeyStore) -> None:
    store.create("labelled")
    labels = store.labels()
    assert "labelled" in labels
    assert labels == sorted(labels)


def test_signers_name_their_key(store: KeyStore) -> None:
    store.create("named")
    assert store.signer("named").uri.endswith("named")


def test_no_signer_without_its_key(store: KeyStore) -> None:
    with pytest.raises(Unavailable) as error:
        store.signer("absent")
    assert error.value.code is Code.TOKEN_KEY_MISSING


def test_labels_are_not_patterns(store: KeyStore, tmp_path: Path) -> None:
    store.create("exact")
    for label in ("exac", "exact ", "EXACT", "exact%", ""):
        assert store.find(label) is None
