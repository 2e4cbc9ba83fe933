"""Whatever is given to a TPM as a blob or a credential: the secret, or a refusal, and it goes on working."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cellward.core.errors import Refused
from cellward.core.tpm.credential import Credential
from cellward.core.tpm.policy import Policy
from cellward.core.wire import be_sized
from cellward.ports.tpm import KeyName, PcrStep, SealedBlob, Tpm
from tests.support.packtpm import copy

SECRET = b"the vault's key, thirty-two byte"
STEPS = [PcrStep((8,))]
BYTES = st.binary(max_size=300) | st.integers(300, 65535).map(bytes)
PACKED = st.one_of(BYTES, BYTES.map(be_sized))


@pytest.fixture(scope="module")
def sealed(made_tpm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tpm, SealedBlob]]:
    device = copy(made_tpm, tmp_path_factory.mktemp("tpm") / "tpm")
    tpm = device.tpm
    tpm.create_key(KeyName.ATTESTATION)
    yield tpm, tpm.seal(SECRET, Policy().pcr(tpm.pcr_read([8])).digest)
    device.off()


def opens_or_refuses(tpm: Tpm, blob: SealedBlob) -> None:
    try:
        assert tpm.unseal(blob, STEPS) == SECRET
    except Refused:
        return


@given(PACKED, PACKED)
def test_no_bytes_are_more_than_a_blob(sealed: tuple[Tpm, SealedBlob], private: bytes, public: bytes) -> None:
    opens_or_refuses(sealed[0], SealedBlob(private + public))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 400), st.binary(min_size=1, max_size=4), st.integers(0, 4))
def test_no_mutation_opens_anything_else(
    sealed: tuple[Tpm, SealedBlob], at: int, put: bytes, dropped: int
) -> None:
    tpm, good = sealed
    opens_or_refuses(tpm, SealedBlob(good.data[:at] + put + good.data[at + dropped :]))
    assert tpm.unseal(good, STEPS) == SECRET


@given(PACKED, PACKED)
@example(be_sized(be_sized(bytes(32)) + bytes(20)), be_sized(bytes(256)))
def test_no_bytes_are_a_credential(sealed: tuple[Tpm, SealedBlob], blob: bytes, seed: bytes) -> None:
    with pytest.raises(Refused):
        sealed[0].activate_credential(KeyName.ATTESTATION, Credential(blob, seed))
