"""`cellward vault`: the maker's policy by a real token, the controller's vault by swtpm."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cellward import bootstrap
from cellward.adapters.lock import file_lock
from cellward.cli.main import cellward
from cellward.config import Home
from cellward.core.errors import CellwardError, Code
from cellward.core.tpm import pcr
from tests.support import hsm
from tests.support.maker import Hand

SECRET = b"what the charger and the pack share"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return hsm.make_home(tmp_path_factory.mktemp("maker"), "policy", "firmware")


@pytest.fixture(scope="module")
def made(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk with the maker's policy and key, and a state directory with a vault."""
    desk = tmp_path_factory.mktemp("desk")
    policy = "vault", "policy", "--counter", "1", "-o", str(desk / "policy.json")
    assert done(home, *policy).startswith("release 1 opens vaults")
    done(home, "keys", "export", "policy", "-o", str(desk / "policy.pem"))
    keys = "--policy-key", str(desk / "policy.pem"), "--policy", str(desk / "policy.json")
    done(home, "vault", "init", "--state", str(desk / "state"), *keys)
    return desk


@pytest.fixture(autouse=True)
def desk(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("cellward.adapters.lockedmemory.forbid_dumps", lambda: None)  # of the test run
    found = tmp_path / "desk"
    shutil.copytree(made, found)
    monkeypatch.chdir(found)
    Path("secret").write_bytes(SECRET)
    return found


def run(home: Home, *arguments: str, stdin: bytes = b"") -> Result:
    result = CliRunner().invoke(cellward, ["--data", str(home.root), *arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, CellwardError | SystemExit):
        raise result.exception
    return result


def done(home: Home, *arguments: str) -> str:
    result = run(home, *arguments)
    assert result.exit_code == 0, result.exception
    return result.output


def vault(home: Home, command: str, *arguments: str) -> str:
    return done(home, "vault", command, "--state", "state", *arguments)


def refused(home: Home, command: str, *arguments: str) -> Code:
    result = run(home, "vault", command, *arguments)
    assert isinstance(result.exception, CellwardError), result.output
    return result.exception.code


def test_the_life_of_a_value(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    assert "35 bytes" in vault(home, "put", "pairing", "secret", "--exportable")
    vault(home, "rotate")
    said = json.loads(vault(home, "list", "--json"))["values"]
    assert [(each["name"], each["size"], each["exportable"]) for each in said] == [("pairing", 35, True)]
    assert "pairing" in vault(home, "list")
    capfd.readouterr()
    vault(home, "get", "pairing")
    assert capfd.readouterr().out.encode() == SECRET
    vault(home, "export", "pairing", "--to", "policy.pem", "-o", "out")
    assert SECRET not in Path("out").read_bytes()
    vault(home, "remove", "pairing")
    assert "no values" in vault(home, "list")
    assert refused(home, "get", "--state", "state", "pairing") is Code.VAULT_UNKNOWN
    assert SECRET not in b"".join(path.read_bytes() for path in Path("state").rglob("*") if path.is_file())


def test_the_state_directory_is_for_its_owner(home: Home) -> None:
    vault(home, "put", "pairing", "secret")
    assert Path("state/vault/values").stat().st_mode & 0o077 == 0


def test_what_a_cut_left_is_removed(home: Home) -> None:
    torn = Path("state/vault/.values.0123456789abcdef")
    torn.write_bytes(Path("state/vault/values").read_bytes()[:100])
    Path("state/vault/.of-somebody-else").touch()
    vault(home, "list")
    found = sorted(path.name for path in Path("state/vault").iterdir())
    assert found == [".of-somebody-else", "lock", "policies", "values"]


def test_what_is_too_large_or_not_there(home: Home) -> None:
    Path("large").write_bytes(bytes(65537))
    Path("empty").write_bytes(b"")
    before = Path("state/vault/values").read_bytes()
    for file, code in (
        ("large", Code.REQUEST_TOO_LARGE),
        ("none", Code.STORAGE_MISSING),
        ("empty", Code.VAULT_FORMAT),
    ):
        assert refused(home, "put", "--state", "state", "pairing", file) is code
    assert Path("state/vault/values").read_bytes() == before


def test_a_new_release_takes_over(home: Home) -> None:
    vault(home, "put", "pairing", "secret")
    done(home, "vault", "policy", "--counter", "2", "-o", "second.json")
    assert "release 2" in vault(home, "accept", "second.json")
    assert "committed to release 2" in vault(home, "commit")
    assert len(list(Path("state/vault/policies").iterdir())) == 1
    keys = "--policy-key", "policy.pem", "--policy", "policy.json"
    shutil.rmtree("state/vault")
    assert refused(home, "init", "--state", "state", *keys) is Code.VAULT_POLICY
    assert not Path("state/vault/values").exists()


def test_a_policy_says_what_was_measured(home: Home) -> None:
    """And a vault that was started otherwise stays shut. By itself it is of the agent's code."""
    ours = json.loads(Path("policy.json").read_text())["pcrs"]
    assert ours == [{"pcr": 8, "sha256": pcr.extend(bytes(32), bootstrap.agent_digest()).hex()}]
    event = {"pcr": 9, "sha256": "01" * 32, "what": "agent code"}
    log = json.dumps({"events": [event], "format": 1}, separators=(",", ":"))
    Path("log.json").write_text(log)
    policy = "vault", "policy", "--counter", "1", "--log", "log.json", "-o", "other.json"
    result = run(home, *policy)  # PCR 8 alone would leave out what was measured into 9
    assert isinstance(result.exception, CellwardError)
    assert result.exception.code is Code.ATTEST_LOG
    done(home, *policy, "--pcr", "9")
    assert [each["pcr"] for each in json.loads(Path("other.json").read_text())["pcrs"]] == [9]
    Path("state/vault/policies").rename("away")
    vault(home, "accept", "other.json")
    assert refused(home, "list", "--state", "state") is Code.VAULT_POLICY


def test_other_code_opens_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement is the command's own, before it has the TPM for anything else."""
    vault(home, "put", "pairing", "secret")
    with monkeypatch.context() as changed:
        changed.setattr("cellward.bootstrap.vault.agent_digest", lambda: bytes(32))
        assert refused(home, "get", "--state", "state", "pairing") is Code.VAULT_POLICY
    assert "pairing" in vault(home, "list")


def test_the_policy_key_signs_policies_and_is_logged(home: Home) -> None:
    """One of another purpose is refused where a register says so, and one of a stranger by the vault."""
    assert '"kind": "policy"' in done(home, "log", "show", "--json")
    done(home, "vault", "policy", "--counter", "1", "--key", hsm.FIRMWARE, "-o", "other.json")
    assert refused(home, "accept", "--state", "state", "other.json") is Code.ATTEST_POLICY
    Path("stranger.pem").write_bytes(Hand().public_key.pem())
    keys = "--policy-key", "stranger.pem", "--policy", "policy.json"
    assert refused(home, "init", "--state", "new", *keys) is Code.ATTEST_POLICY
    assert not Path("new/vault/values").exists()


def test_one_process_at_a_time(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellward.adapters.lock.file_lock", lambda path, patience: file_lock(path, 0.1))
    with bootstrap.vault_place(Path("state")):
        assert refused(home, "list", "--state", "state") is Code.STORAGE_BUSY


def test_both_or_neither_of_a_successor(home: Home) -> None:
    result = run(home, "vault", "rotate", "--state", "state", "--policy-key", "policy.pem")
    assert result.exit_code == 2


def test_a_successor_of_the_policy_key(home: Home) -> None:
    vault(home, "put", "pairing", "secret")
    done(home, "vault", "policy", "--counter", "1", "--key", hsm.FIRMWARE, "-o", "next.json")
    done(home, "keys", "export", "firmware", "-o", "next.pem")
    vault(home, "rotate", "--policy-key", "next.pem", "--policy", "next.json")
    assert refused(home, "accept", "--state", "state", "policy.json") is Code.ATTEST_POLICY
    assert "pairing" in vault(home, "list")
