"""The vectors through core/image, and the vectors themselves against a fresh generation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cellward.core.errors import Code, Refused
from cellward.core.image import Image, decode, decode_slot, verify
from cellward.core.keys import PublicKey
from cellward.core.slots import BMS_M33
from vectors import generate, recipe
from vectors.recipe import Case, TrustSpec, Vectors, load

IMAGE = load("image")
FILE = load("file")


def verdict(decoder: Callable[[bytes], Image], data: bytes, trust: TrustSpec) -> str:
    try:
        verify(decoder(data), trust.trust())
    except Refused as refusal:
        return str(refusal.code)
    return "ok"


def named(cases: tuple[Case, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@named(IMAGE.cases)
def test_in_a_slot(case: Case) -> None:
    assert verdict(decode_slot, case.data, IMAGE.trusts[case.trust]) == case.verdict, case.reason


@named(IMAGE.cases)
def test_in_a_slot_of_erased_flash(case: Case) -> None:
    slot = case.data.ljust(BMS_M33.loader.size, b"\xff")
    assert verdict(decode_slot, slot, IMAGE.trusts[case.trust]) == (case.erased or case.verdict), case.reason


@named(IMAGE.cases)
def test_as_a_file(case: Case) -> None:
    assert verdict(decode, case.data, IMAGE.trusts[case.trust]) == (case.file or case.verdict), case.reason


@named(FILE.cases)
def test_for_a_reader_of_files(case: Case) -> None:
    assert verdict(decode, case.data, FILE.trusts[case.trust]) == case.verdict, case.reason


# The files themselves --------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", [IMAGE, FILE], ids=["image", "file"])
def test_cases_have_names_reasons_and_known_verdicts(vectors: Vectors) -> None:
    names = [case.name for case in vectors.cases]
    assert len(set(names)) == len(names)
    for case in vectors.cases:
        assert case.reason
        assert case.trust in vectors.trusts
        assert {case.verdict, case.file or "ok", case.erased or "ok"} <= {"ok", *Code}


def test_every_verdict_of_the_decoder_has_a_vector() -> None:
    codes = {code for code in Code if code.startswith("image.")}
    codes -= {Code.IMAGE_VERSION, Code.IMAGE_NO_KEY_GIVEN}  # about arguments, not about images
    codes -= {Code.IMAGE_ENCRYPTION}  # the update engine's, before there is an image
    assert {case.verdict for case in IMAGE.cases} == {"ok", *codes}
    assert {case.file for case in IMAGE.cases} == {None, Code.TRAILING}


@pytest.mark.parametrize("row", ["6", "19", "20"])
def test_the_attacks_on_the_format_are_in(row: str) -> None:
    assert sum(case.attack == row for case in IMAGE.cases) >= 3


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    generate.generate(folder)
    return folder


@pytest.mark.parametrize("name", recipe.FILES)
def test_the_committed_files_are_what_the_generator_makes(
    name: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but keys and signatures: those are new every time."""
    committed = load(name)
    monkeypatch.setattr(recipe, "HERE", fresh)
    made = load(name)
    assert [_spoken(case) for case in made.cases] == [_spoken(case) for case in committed.cases]
    assert made.about == committed.about
    assert list(made.trusts) == list(committed.trusts)


def _spoken(case: Case) -> Case:
    return replace(case, data=b"")


@pytest.mark.parametrize("name", recipe.FILES)
def test_a_fresh_generation_has_the_same_verdicts(
    name: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "HERE", fresh)
    vectors = load(name)
    decoder = decode_slot if name == "image" else decode
    wrong = [
        case.name
        for case in vectors.cases
        if verdict(decoder, case.data, vectors.trusts[case.trust]) != case.verdict
    ]
    assert wrong == []


@pytest.mark.parametrize("name", recipe.FILES)
def test_only_public_data_is_committed(name: str) -> None:
    text = (recipe.HERE / f"{name}.json").read_text()
    assert "PRIVATE" not in text
    keys = {PublicKey(key).encoded for spec in FILE.trusts.values() for key in spec.keys}
    assert len(keys) == 2


def test_a_recipe_gives_back_its_bytes() -> None:
    bases = {"good": IMAGE.bases["good"]}
    for case in IMAGE.cases:
        assert recipe.bytes_of(recipe.parts_of(case.data, bases), bases) == case.data
