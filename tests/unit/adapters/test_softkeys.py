"""ML-DSA keys in files: nothing else, nobody else's, and nothing of the key in what is said."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cellward.adapters.softkeys import SoftSigner
from cellward.bootstrap import make_softkey as make
from cellward.core.errors import CellwardError, Code
from cellward.core.keys import Algorithm
from tests.support.hsm import code_of
from tests.support.maker import GENERATORS

SOFT = [Algorithm.ML_DSA_65, Algorithm.ML_DSA_87]
OTHERS = [algorithm for algorithm in GENERATORS if algorithm not in SOFT]


def refused(path: Path | str) -> Code:
    with pytest.raises(CellwardError) as error:
        SoftSigner(path if isinstance(path, str) else f"softkey:{path}")
    assert "\n" not in str(error.value)
    return code_of(error)


@pytest.mark.parametrize("algorithm", SOFT)
def test_makes_and_signs(tmp_path: Path, algorithm: Algorithm) -> None:
    key = make(tmp_path / "key", algorithm)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    signer = SoftSigner(f"softkey:{tmp_path}/key")
    assert (signer.public_key, key.algorithm) == (key, algorithm)
    signature = signer.sign(key.to_sign(b"message"))
    key.verify_message(b"message", signature, code=Code.DOCUMENT_SIGNATURE, subject="test")


@pytest.mark.parametrize("algorithm", OTHERS)
def test_no_key_that_a_token_can_hold(tmp_path: Path, algorithm: Algorithm) -> None:
    path = tmp_path / "key"
    with pytest.raises(CellwardError) as error:
        make(path, algorithm)
    assert (code_of(error), path.exists()) == (Code.KEY_EXPORTABLE, False)
    key = GENERATORS[algorithm]()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    assert refused(path) is Code.KEY_EXPORTABLE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o610])
def test_a_file_that_others_reach(tmp_path: Path, mode: int) -> None:
    make(tmp_path / "key", Algorithm.ML_DSA_65)
    (tmp_path / "key").chmod(mode)
    assert refused(tmp_path / "key") is Code.KEY_EXPORTABLE


def test_other_files(tmp_path: Path) -> None:
    assert refused(tmp_path / "none") is Code.STORAGE_MISSING
    assert refused(tmp_path) in (Code.STORAGE_FAILED, Code.KEY_EXPORTABLE)
    assert refused("softkey:key") is Code.TOKEN_URI
    path = tmp_path / "key"
    key = make(path, Algorithm.ML_DSA_65)
    whole = path.read_bytes()
    for data in (b"", b"\xff" * 100, whole[: len(whole) // 2], key.pem(), whole.replace(b"M", b"N", 1)):
        path.write_bytes(data)
        assert refused(path) is Code.KEY_FORMAT


def test_no_key_is_written_over(tmp_path: Path) -> None:
    make(tmp_path / "key", Algorithm.ML_DSA_65)
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(CellwardError) as error:
        make(tmp_path / "key", Algorithm.ML_DSA_65)
    assert code_of(error) is Code.KEY_EXISTS
    assert (tmp_path / "key").read_bytes() == before
