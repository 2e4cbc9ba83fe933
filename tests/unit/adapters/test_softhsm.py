"""The embedded SoftHSM: its files, its PIN, its library, and what others see of it."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cellward import bootstrap
from cellward.adapters.pkcs11 import lane, softhsm
from cellward.adapters.pkcs11.vendor import Attribute, KeyType, ObjectClass, pkcs11
from cellward.config import Home
from cellward.core.errors import Code, Refused, Unavailable
from cellward.ports.signer import Signer
from tests.support import hsm
from tests.support.hsm import FIRMWARE, code_of, works


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return hsm.make_home(tmp_path_factory.mktemp("token"), "root", "firmware")


# --- the embedded token ---


def test_pin_and_store_are_the_owners_alone(home: Home) -> None:
    pin = home.pin.read_text().strip()
    assert len(pin) == 24
    assert pin.isdigit()
    for path in (home.pin, home.tokens, home.softhsm_config, *home.tokens.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_signing_makes_no_token(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as error:
        bootstrap.signer(Home(tmp_path / "none"), FIRMWARE)
    assert code_of(error) is Code.TOKEN_ABSENT
    assert "cellward keys init" in error.value.advice
    assert not (tmp_path / "none").exists()


def test_the_users_own_softhsm_is_left_alone(home: Home, tmp_path: Path) -> None:
    with hsm.environment(SOFTHSM2_CONF=str(tmp_path / "theirs.conf")):
        works(bootstrap.signer(home, FIRMWARE))
        assert os.environ["SOFTHSM2_CONF"] == str(tmp_path / "theirs.conf")
    assert "SOFTHSM2_CONF" not in os.environ
    assert not list(tmp_path.iterdir())


def test_two_data_directories_take_turns(home: Home, tmp_path: Path) -> None:
    other = hsm.make_home(tmp_path / "with a space", "firmware")
    first, second = bootstrap.signer(home, FIRMWARE), bootstrap.signer(other, FIRMWARE)
    assert first.public_key != second.public_key
    for signer in (first, second, first):
        works(signer)


def test_a_token_that_is_cut_short_in_the_making_is_made_again(tmp_path: Path) -> None:
    half = tmp_path / "tokens.new"
    half.mkdir()
    (half / "rubbish").write_bytes(b"\xff")
    home = hsm.make_home(tmp_path, "firmware")
    works(bootstrap.signer(home, FIRMWARE))
    assert not half.exists()


def test_a_pin_that_others_can_read_is_refused(tmp_path: Path) -> None:
    home = hsm.make_home(tmp_path)
    home.pin.chmod(0o644)
    lane.LANE.stop(lane.Module(softhsm.library()))
    with pytest.raises(Refused) as error:
        hsm.store_of(home).find("firmware")
    assert code_of(error) is Code.TOKEN_PIN_EXPOSED


def test_a_data_directory_that_would_write_its_own_configuration(tmp_path: Path) -> None:
    with pytest.raises(Refused) as error:
        hsm.make_home(tmp_path / "x\nlog.level = DEBUG")
    assert code_of(error) is Code.CONFIG


# --- PINs ---


def fresh(home: Home, uri: str = FIRMWARE) -> Signer:
    """A signer that has to log in."""
    for path in (softhsm.library(),):
        lane.LANE.stop(lane.Module(path))
    return bootstrap.signer(home, uri)


def test_pin_sources_in_their_order(home: Home, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(home.pin.read_text())
    bad.write_text("000000\n")
    pin = home.pin.read_text().strip()
    with hsm.environment(CELLWARD_PIN=pin, CELLWARD_PIN_FILE=str(bad)):
        works(fresh(home))
    with hsm.environment(CELLWARD_PIN_FILE=str(good)):
        works(fresh(home))
    with hsm.environment(CELLWARD_PIN="000000"):
        works(fresh(home, f"{FIRMWARE}?pin-source=file:{good}"))
        with pytest.raises(Unavailable) as error:
            fresh(home)
    assert code_of(error) is Code.TOKEN_PIN_WRONG
    assert "000000" not in str(error.value)


def listed_at_a_terminal(home: Home, typed: str) -> tuple[int, str]:
    """`keys list` on a token that is not the embedded one's own, with somebody at the keyboard who
    types when asked. Returns the exit status and everything that was on the screen."""
    names = {"CELLWARD_PKCS11_MODULE": softhsm.library(), "SOFTHSM2_CONF": str(home.softhsm_config)}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    command = f"{sys.executable} -m cellward.cli.main keys list"
    with subprocess.Popen(
        ["script", "--quiet", "--return", "--command", command, "/dev/null"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, **names},
    ) as terminal:
        assert terminal.stdin is not None
        assert terminal.stdout is not None
        shown = b""
        while not shown.endswith(b"PIN of the token: "):
            byte = terminal.stdout.read(1)
            assert byte, shown
            shown += byte
        terminal.stdin.write(f"{typed}\n".encode())
        terminal.stdin.flush()
        shown += terminal.stdout.read()
    return terminal.returncode, shown.decode()


def test_the_pin_is_asked_for_at_a_terminal_and_not_shown(home: Home) -> None:
    pin = home.pin.read_text().strip()
    status, shown = listed_at_a_terminal(home, pin)
    assert status == 0, shown
    assert "firmware" in shown
    assert pin not in shown
    status, shown = listed_at_a_terminal(home, "000000")
    assert (status, "token.pin_wrong" in shown, "000000" in shown) == (1, True, False)


@pytest.mark.parametrize("content", [b"", b"\n", b"12\n34\n", b"\xff\xfe", b"1" * 300])
def test_a_pin_file_without_a_pin(home: Home, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pin").write_bytes(content)
    with hsm.environment(CELLWARD_PIN_FILE=str(tmp_path / "pin")), pytest.raises(Unavailable) as error:
        fresh(home)
    assert code_of(error) is Code.TOKEN_PIN_MISSING


@pytest.mark.parametrize("path", ["/nonexistent/pin", "/"])
def test_a_pin_file_that_cannot_be_read(home: Home, path: str) -> None:
    with hsm.environment(CELLWARD_PIN_FILE=path), pytest.raises(Unavailable) as error:
        fresh(home)
    assert code_of(error) is Code.TOKEN_PIN_MISSING


# --- modules ---


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, Code.TOKEN_ABSENT), (b"no library", Code.TOKEN_FAILED), (b"", Code.TOKEN_FAILED)],
)
def test_a_module_that_is_none(tmp_path: Path, content: bytes | None, code: Code) -> None:
    path = tmp_path / "module.so"
    if content is not None:
        path.write_bytes(content)
    uri = f"{FIRMWARE}?module-path={path}"
    with hsm.environment(CELLWARD_PIN="1234"), pytest.raises(Unavailable) as error:
        bootstrap.signer(Home(tmp_path), uri)
    assert code_of(error) is code
    assert str(path) in str(error.value)


def test_no_softhsm_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softhsm, "_ROOTS", (str(tmp_path),))
    with pytest.raises(Unavailable) as error:
        hsm.make_home(tmp_path / "home")
    assert code_of(error) is Code.TOKEN_ABSENT
    assert not (tmp_path / "home" / "tokens").exists()


def test_debians_multiarch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tmp_path / "aarch64-linux-gnu" / "softhsm" / "libsofthsm2.so"
    found.parent.mkdir(parents=True)
    found.touch()
    monkeypatch.setattr(softhsm, "_ROOTS", (str(tmp_path),))
    assert softhsm.library() == str(found)


# --- witnesses ---


def test_pkcs11_tool_sees_keys_that_cannot_leave(home: Home) -> None:
    tool = shutil.which("pkcs11-tool")
    assert tool, "tools/system/test.txt: opensc"
    command = [
        tool,
        "--module",
        softhsm.library(),
        "--token-label",
        "cellward",
        "--login",
        "--pin",
        "env:WITNESS",
    ]
    listing = subprocess.run(
        [*command, "--list-objects", "--type", "privkey"],
        env=os.environ | {"SOFTHSM2_CONF": str(home.softhsm_config), "WITNESS": home.pin.read_text().strip()},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    access = [line.split(":", 1)[1].strip() for line in listing.splitlines() if "Access:" in line]
    assert access == ["sensitive, always sensitive, never extractable, local"] * 2
    usage = [line.split(":", 1)[1].strip() for line in listing.splitlines() if "Usage:" in line]
    assert usage == ["sign"] * 2


def test_the_token_gives_nothing_away(home: Home) -> None:
    token = bootstrap.key_store(home, hsm.TOKEN)._token  # type: ignore[attr-defined]

    def attack(session: pkcs11.Session) -> None:
        (key,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: "firmware"})
        with pytest.raises(pkcs11.AttributeSensitive):
            key[Attribute.VALUE]
        for name, value in (
            (Attribute.EXTRACTABLE, True),
            (Attribute.SENSITIVE, False),
            (Attribute.SIGN, False),
        ):
            with pytest.raises(pkcs11.PKCS11Error):
                key[name] = value
        secret = session.generate_key(KeyType.AES, 256)
        with pytest.raises(pkcs11.PKCS11Error):
            secret.wrap_key(key)  # type: ignore[attr-defined]
        assert key[Attribute.NEVER_EXTRACTABLE]

    token.run(attack, rw=True)
    assert hsm.store_of(home).find("firmware")


def test_openssl_verifies(home: Home, tmp_path: Path) -> None:
    signer = bootstrap.signer(home, FIRMWARE)
    message = tmp_path / "message"
    message.write_bytes(b"what was signed")
    (tmp_path / "sig").write_bytes(signer.sign(hashlib.sha256(message.read_bytes()).digest()))
    (tmp_path / "pub").write_bytes(signer.public_key.pem())
    command = [
        "openssl",
        "dgst",
        "-sha256",
        "-verify",
        str(tmp_path / "pub"),
        "-signature",
        str(tmp_path / "sig"),
    ]
    assert b"Verified OK" in subprocess.run([*command, str(message)], check=True, capture_output=True).stdout
