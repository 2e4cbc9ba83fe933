"""`cellward verify`: one line of what is wrong, exit status 1, and the good files told all the same."""

import json
from pathlib import Path

import click
import pytest

from cellward.cli.main import cellward
from cellward.core.errors import CellwardError, Code
from tests.support.ceremony import House
from tests.support.maker import Hand, Keys, signed_image

KEYS = Keys()


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("app.img").write_bytes(signed_image(KEYS))
    Path("fix.zip").write_bytes(b"PK\3\4")
    Path("firmware.pem").write_bytes(KEYS("firmware").public_key.pem())
    Path("other.pem").write_bytes(Hand().public_key.pem())


def run(*arguments: str) -> None:
    cellward.main(["verify", *arguments], standalone_mode=False)


def refused(*arguments: str) -> CellwardError:
    with pytest.raises(CellwardError) as refusal:
        run(*arguments)
    return refusal.value


def test_a_good_image(capsys: pytest.CaptureFixture[str]) -> None:
    run("app.img", "--key", "firmware=firmware.pem")
    told = capsys.readouterr().out
    assert told.startswith("✓ app.img (image)")
    assert KEYS("firmware").public_key.fingerprint in told


def test_an_unsigned_vendor_zip(capsys: pytest.CaptureFixture[str]) -> None:
    """Attack 27: clear, with what was expected and what was found; the good file beside it is told."""
    error = refused("app.img", "fix.zip", "--key", "firmware=firmware.pem")
    assert (error.code, error.subject) == (Code.RELEASE_FILE, "fix.zip")
    assert "expected a signature" in str(error)
    told = capsys.readouterr().out
    assert "✓ app.img" in told
    assert "✗ fix.zip" in told


def test_another_signer_is_named_with_the_expected_one() -> None:
    error = refused("app.img", "--key", "firmware=other.pem")
    assert error.code is Code.IMAGE_KEY_UNKNOWN
    assert KEYS("firmware").public_key.fingerprint[:16] in error.found


def test_several_bad_files_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    error = refused("app.img", "fix.zip", "--key", "firmware=other.pem", "--json")
    assert error.code is Code.VERIFY_BAD
    told = json.loads(capsys.readouterr().out)
    assert [(file["file"], file["good"]) for file in told] == [("app.img", False), ("fix.zip", False)]
    assert told[1]["refusal"]["code"] == Code.RELEASE_FILE


def test_without_a_key_nothing_is_verified() -> None:
    assert refused("app.img").code is Code.IMAGE_NO_KEY_GIVEN


def test_bad_arguments() -> None:
    assert refused("nothing", "--key", "firmware=firmware.pem").code is Code.STORAGE_MISSING
    error = refused("app.img", "--key", "firmware=app.img")
    assert (error.code, error.subject) == (Code.KEY_FORMAT, "app.img")


def test_by_the_key_register(capsys: pytest.CaptureFixture[str]) -> None:
    house = House.make()
    Path("key-register.jsonl").write_bytes(house.first.data)
    for number, hand in enumerate(house.holders):
        Path(f"{number}.pem").write_bytes(hand.public_key.pem())
    roots = [word for number in range(3) for word in ("--key", f"root={number}.pem")]
    by = "--register", "key-register.jsonl"
    for anchor in (["--register-hash", house.first.sha256.upper()], roots):
        run("key-register.jsonl", *anchor)
        assert "root: 2 of 3 agree on changes: holder" in capsys.readouterr().out
        assert refused("app.img", *by, *anchor).code is Code.IMAGE_KEY_UNKNOWN
    for anchor in ([], roots[2:], ["--register-hash", "0" * 64]):
        assert refused("app.img", *by, *anchor).code is Code.REGISTER_ROOTS
        assert refused("key-register.jsonl", *anchor).code is Code.REGISTER_ROOTS
    for usage in (["--register-hash", "00"], ["--key", "firmware=firmware.pem", *roots]):
        with pytest.raises(click.UsageError):
            run("app.img", *by, *usage)
