"""The vectors through the C verifier that the ROM and the loader are linked with, under ASan and UBSan."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code
from cellward.core.slots import BMS_M33
from tests.vectors.c_verifier import PROGRAM, CVerifier, build
from vectors.recipe import Case, load

IMAGE = load("image")


@pytest.fixture(scope="module")
def c_verifier() -> Iterator[CVerifier]:
    with CVerifier() as verifier:
        yield verifier


def named(cases: tuple[Case, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@named(IMAGE.cases)
def test_in_a_slot(case: Case, c_verifier: CVerifier) -> None:
    assert c_verifier.verdict(case.data, IMAGE.trusts[case.trust]) == case.verdict, case.reason


@named(IMAGE.cases)
def test_in_a_slot_of_erased_flash(case: Case, c_verifier: CVerifier) -> None:
    size = max(BMS_M33.loader.size, len(case.data))
    said = c_verifier.verdict(case.data, IMAGE.trusts[case.trust], size)
    assert said == (case.erased or case.verdict), case.reason


@pytest.mark.parametrize(
    ("name", "status", "word"),
    [
        ("good-key-both", 0, STATUS_OK),
        ("hash-payload", 1, STATUS_WORDS[Code.IMAGE_HASH]),
        ("revoked", 1, STATUS_WORDS[Code.IMAGE_KEY_REVOKED]),
    ],
)
def test_as_a_program(name: str, status: int, word: int, tmp_path: Path) -> None:
    """One image a call, with the status word of core/errors.py."""
    build()
    case = next(case for case in IMAGE.cases if case.name == name)
    trust = IMAGE.trusts[case.trust]
    (tmp_path / "image.bin").write_bytes(case.data)
    arguments = (
        *(str(tmp_path / "image.bin"), "0", ",".join(h.hex() for h in trust.key_hashes)),
        *(str(sum(1 << slot for slot in trust.revoked)), str(trust.counter)),
        *((trust.vendor or b"").hex(), (trust.klass or b"").hex()),
    )
    said = subprocess.run([str(PROGRAM), *arguments], capture_output=True, text=True, check=False)
    assert said.returncode == status
    assert said.stdout.split()[:2] == [f"0x{word:08x}", case.verdict]
