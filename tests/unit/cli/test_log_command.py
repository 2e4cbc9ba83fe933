"""`cellward log` over a real token: what is signed is in it, and who tampers with it is found."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cellward import bootstrap
from cellward.bootstrap.log import LOGGED
from cellward.cli.main import cellward
from cellward.config import Home
from cellward.core import image
from cellward.core.errors import CellwardError, Code
from cellward.core.keys import Algorithm
from cellward.core.log import proof
from cellward.core.log.note import NoteKey
from cellward.ports.signer import Role
from tests.support import hsm

OPTIONS = ("--version", "1.4.0", "--counter", "7", "--hardware", "bms-m33")


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A token with the keys of three roles."""
    home = hsm.make_home(tmp_path_factory.mktemp("maker"), "firmware", "root")
    hsm.store_of(home).create("log", Algorithm.ED25519)
    return home


@pytest.fixture
def home(maker: Home) -> Iterator[Home]:
    """With a log of its own."""
    yield maker
    shutil.rmtree(maker.signing_log, ignore_errors=True)


@pytest.fixture
def pem(home: Home, tmp_path: Path) -> Path:
    path = tmp_path / "log.pem"
    path.write_bytes(bootstrap.role_signer(home, Role.LOG).public_key.pem())
    return path


def run(home: Home, *arguments: str | Path) -> Result:
    result = CliRunner().invoke(cellward, ["--data", str(home.root), *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, CellwardError | SystemExit):
        raise result.exception
    return result


def done(home: Home, *arguments: str | Path) -> str:
    result = run(home, *arguments)
    assert result.exception is None, result.exception
    return result.output


def told(home: Home, *arguments: str | Path) -> Any:
    return json.loads(done(home, *arguments, "--json"))


def refused(code: Code, home: Home, *arguments: str | Path) -> CellwardError:
    error = run(home, *arguments).exception
    assert isinstance(error, CellwardError), error
    assert error.code is code
    assert "\n" not in str(error)
    return error


def sign(home: Home, folder: Path, *options: str) -> bytes:
    """The digest of an image that was signed."""
    (folder / "app.bin").write_bytes(bytes(range(200)))
    done(home, "image", "sign", folder / "app.bin", *(options or OPTIONS), "-o", folder / "app.img")
    return image.decode((folder / "app.img").read_bytes()).digest


# --- what is in it ---


def test_an_image_is_in_the_log(home: Home, tmp_path: Path) -> None:
    digest = sign(home, tmp_path)
    [entry] = told(home, "log", "show")
    key = hsm.store_of(home).signer("firmware").public_key
    assert entry["signed"] == digest.hex()
    assert (entry["index"], entry["kind"], entry["role"]) == (0, "image", "firmware")
    assert (entry["key"], entry["algorithm"]) == (key.fingerprint, "p256")
    assert entry["subject"] == "app 1.4.0 for bms-m33, security counter 7"
    assert "security counter 7" in done(home, "log", "show")


def test_an_image_by_the_key_s_uri_is_in_the_log(home: Home, tmp_path: Path) -> None:
    digest = sign(home, tmp_path, *OPTIONS, "--key", hsm.FIRMWARE)
    assert told(home, "log", "show")[0]["signed"] == digest.hex()


def test_a_revocation_is_in_the_log(home: Home, tmp_path: Path) -> None:
    done(home, "keys", "revoke-slot", "ab" * 32, "-o", tmp_path / "revocation")
    [entry] = told(home, "log", "show")
    assert (entry["kind"], entry["role"], entry["subject"]) == ("revocation", "root", f"slot key {'ab' * 32}")


def test_a_release_its_approval_and_its_withdrawal_are_in_the_log(tmp_path: Path) -> None:
    home = hsm.make_home(tmp_path / "home", "firmware", "release", "approver")
    sign(home, tmp_path)
    image_file, release = tmp_path / "app.img", tmp_path / "release"
    (tmp_path / "notes.md").write_text("What is new.")
    sha256 = hashlib.sha256(image_file.read_bytes()).hexdigest()
    component = {"type": "firmware", "name": "app.img", "hashes": [{"alg": "SHA-256", "content": sha256}]}
    sbom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [component]}
    (tmp_path / "sbom.json").write_text(json.dumps(sbom))
    done(
        *(home, "release", "create", "R1", "--image", image_file, "--notes", tmp_path / "notes.md"),
        *("--sbom", tmp_path / "sbom.json", "--no-safety-impact", "-o", release),
    )
    approver = f"{hsm.TOKEN};object=approver"
    done(home, "release", "approve", release, "--key", approver, "--name", "Ada", "--statement", "read")
    done(home, "release", "withdraw", release, "--reason", "a test")
    said = [(entry["kind"], entry["role"], entry["subject"][:2]) for entry in told(home, "log", "show")]
    assert said[1:] == [
        ("release", "release", "R1"),
        ("approval", "approver", "R1"),
        ("withdrawal", "release", "R1"),
    ]


def test_the_keys_of_people_are_logged_and_those_of_the_server_are_not() -> None:
    """Snapshot, timestamp, Director and CAs sign for each device or each day."""
    people = {Role.ROOT, Role.FIRMWARE, Role.TARGETS, Role.RELEASE, Role.CALIBRATION, Role.POLICY}
    assert people == LOGGED


def test_publishing_logs_root_and_targets_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    done(home, "keys", "init")
    done(home, "repo", "init")
    assert {entry["role"] for entry in told(home, "log", "show")} == {"root", "targets"}


def test_where_the_log_cannot_be_written_nothing_is_signed(home: Home, tmp_path: Path) -> None:
    home.signing_log.write_text("in the way")
    (tmp_path / "app.bin").write_bytes(bytes(8))
    command = ("image", "sign", tmp_path / "app.bin", *OPTIONS, "-o", tmp_path / "app.img")
    refused(Code.STORAGE_FAILED, home, *command)
    assert not (tmp_path / "app.img").exists()
    home.signing_log.unlink()


def test_the_last_ones_are_shown(home: Home, tmp_path: Path) -> None:
    assert told_nothing(home) is Code.LOG_MISSING
    for _ in range(3):
        sign(home, tmp_path)
    assert [entry["index"] for entry in told(home, "log", "show", "--last", "2")] == [1, 2]


def told_nothing(home: Home) -> Code:
    return refused(Code.LOG_MISSING, home, "log", "show").code


# --- verify ---


def test_verify_before_and_after_a_checkpoint(home: Home, tmp_path: Path, pem: Path) -> None:
    sign(home, tmp_path)
    assert "not signed yet: 1, from entry 0 on" in done(home, "log", "verify")
    kept = tmp_path / "kept"
    done(home, "log", "checkpoint", "-o", kept)
    sign(home, tmp_path)
    said = done(home, "log", "verify", "--since", kept, "--key", pem)
    assert f"{kept}: the first 1 entries are what was signed" in said
    assert "not signed yet: 1, from entry 1 on" in said
    facts = told(home, "log", "verify")
    assert (facts["entries"], facts["signed"], facts["checkpoints"]) == (2, 1, {"checkpoint": 1})


def test_an_auditor_needs_a_copy_and_the_key_alone(home: Home, tmp_path: Path) -> None:
    """Another machine: no token, no data directory, no PIN; by vkey, from static files."""
    sign(home, tmp_path)
    vkey = told(home, "log", "checkpoint")["key"]
    copy = tmp_path / "copy"
    shutil.copytree(home.signing_log, copy)
    (copy / "journal").unlink()
    (copy / "lock").unlink()
    command = [sys.executable, "-m", "cellward.cli.main", "log", "verify", "--log", str(copy), "--key", vkey]
    nobody = {name: value for name, value in os.environ.items() if not name.startswith("CELLWARD")}
    ran = subprocess.run(command, env=nobody, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stdout.startswith("verified: 1 entries"), ran.stderr
    assert not (tmp_path / "cellward-data").exists()
    assert sorted(path.name for path in copy.iterdir()) == ["checkpoint", "tile"]


def test_another_key_and_no_key_are_refused(home: Home, tmp_path: Path) -> None:
    sign(home, tmp_path)
    done(home, "log", "checkpoint")
    other = tmp_path / "other.pem"
    other.write_bytes(hsm.store_of(home).signer("firmware").public_key.pem())
    refused(Code.KEY_FORMAT, home, "log", "verify", "--key", other)
    refused(Code.LOG_FORMAT, home, "log", "verify", "--key", "log+00000000+AAAA")
    refused(Code.STORAGE_MISSING, home, "log", "verify", "--key", "nothing.pem")
    empty = Home(tmp_path / "empty")
    error = refused(Code.TOKEN_ABSENT, empty, "log", "verify", "--log", home.signing_log)
    assert "--key" in error.expected


def test_a_kept_checkpoint_finds_a_log_that_was_begun_anew(home: Home, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    sign(home, tmp_path)
    sign(home, tmp_path)
    done(home, "log", "checkpoint", "-o", kept)
    shutil.rmtree(home.signing_log)
    sign(home, tmp_path)
    done(home, "log", "checkpoint")
    done(home, "log", "verify")
    error = refused(Code.LOG_TRUNCATED, home, "log", "verify", "--since", kept)
    assert error.subject == "entry 1"
    sign(home, tmp_path, "--version", "1.4.1", *OPTIONS[2:])
    refused(Code.LOG_CHECKPOINT, home, "log", "verify", "--since", kept)


def test_checkpoints_of_two_logs_do_not_mix(home: Home, tmp_path: Path) -> None:
    sign(home, tmp_path)
    done(home, "log", "checkpoint", "-o", tmp_path / "kept", "--origin", "example.com/one")
    shutil.rmtree(home.signing_log)
    sign(home, tmp_path)
    done(home, "log", "checkpoint", "--origin", "example.com/two")
    refused(Code.LOG_ORIGIN, home, "log", "verify", "--since", tmp_path / "kept")
    refused(Code.LOG_FORMAT, home, "log", "verify", "--since", tmp_path / "app.img")


# --- proofs ---


def test_a_proof_by_digest_makes_the_checkpoint_that_it_needs(home: Home, tmp_path: Path, pem: Path) -> None:
    sign(home, tmp_path, "--version", "1.4.1", *OPTIONS[2:])
    digest = sign(home, tmp_path)
    path = tmp_path / "image.tlog-proof"
    assert "entry 1 of 2, image, app 1.4.0" in done(
        home, "log", "prove", "--digest", digest.hex().upper(), "-o", path
    )
    key = bootstrap.role_signer(home, Role.LOG).public_key
    found = proof.decode(path.read_bytes(), "test").verified_by(key, "test")
    assert (found.index, found.entry.signed, found.checkpoint.size) == (1, digest.hex(), 2)
    # The checkpoint is there now, and a copy proves the same without a token.
    empty, again = Home(tmp_path / "empty"), tmp_path / "again"
    done(empty, "log", "prove", "1", "--log", home.signing_log, "--key", pem, "-o", again)
    assert again.read_bytes() == path.read_bytes()


def test_what_is_not_there_is_not_proved(home: Home, tmp_path: Path, pem: Path) -> None:
    sign(home, tmp_path)
    output = tmp_path / "none"
    refused(Code.LOG_MISSING, home, "log", "prove", "1", "-o", output)
    refused(Code.LOG_MISSING, home, "log", "prove", "--digest", "ab" * 32, "-o", output)
    refused(
        *(Code.LOG_MISSING, home, "log", "prove", "0"),
        *("--log", home.signing_log, "--key", pem, "-o", output),
    )
    assert run(home, "log", "prove", "-o", output).exit_code == 2
    assert run(home, "log", "prove", "0", "--digest", "ab", "-o", output).exit_code == 2
    assert not output.exists()


def test_the_vkey_names_log_and_key(home: Home, tmp_path: Path) -> None:
    sign(home, tmp_path)
    said = told(home, "log", "checkpoint", "--origin", "example.com/log")
    key = NoteKey.from_vkey(said["key"])
    assert (key.name, key.public_key) == ("example.com/log", bootstrap.role_signer(home, Role.LOG).public_key)
    done(home, "log", "verify", "--key", said["key"])
    refused(Code.LOG_ORIGIN, home, "log", "verify", "--key", NoteKey("other", key.public_key).vkey)
