"""Files of the embedded token that were cut off or overwritten: refused, by name, and nothing is changed."""

import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cellward import bootstrap
from cellward.adapters.pkcs11 import lane, softhsm
from cellward.adapters.pkcs11.objectfile import SPARE, check_object
from cellward.config import Home
from cellward.core.errors import CellwardError, Code
from tests.support import hsm
from tests.support.hsm import FIRMWARE, works

TOKEN, PUBLIC, PRIVATE = range(3)  # by their sizes: that is what tells SoftHSM's files apart
CELLWARD = [sys.executable, "-m", "cellward.cli.main"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return hsm.make_home(tmp_path_factory.mktemp("whole"), "firmware")


@pytest.fixture
def spared(whole: Home, tmp_path: Path) -> Home:
    """A copy, with the spare of token.object that every login keeps."""
    shutil.copytree(whole.root, tmp_path / "copy")
    return Home(tmp_path / "copy")


@pytest.fixture
def home(spared: Home) -> Home:
    """The same without the spare."""
    (spare,) = spared.tokens.glob(f"*/{SPARE}")
    spare.unlink()
    return spared


def file_of(home: Home, which: int) -> Path:
    return sorted(home.tokens.glob("*/*.object"), key=lambda path: path.stat().st_size)[which]


def contents(home: Home) -> dict[Path, bytes]:
    """Of all files but those that SoftHSM and our own lock make new at each start."""
    kept = (path for path in home.root.rglob("*") if path.is_file() and path.suffix not in (".lock", ".conf"))
    return {path: path.read_bytes() for path in kept}


def refusal(home: Home) -> CellwardError:
    lane.LANE.stop(lane.Module(softhsm.library()))
    with pytest.raises(CellwardError) as error:
        bootstrap.signer(home, FIRMWARE)
    return error.value


@pytest.mark.parametrize("which", [TOKEN, PUBLIC, PRIVATE])
@pytest.mark.parametrize("part", [0.03, 0.2, 0.4, 0.6, 0.8, 0.99])
def test_a_file_that_is_cut_off_is_named(home: Home, which: int, part: float) -> None:
    path = file_of(home, which)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    before = contents(home)
    error = refusal(home)
    assert error.code is Code.TOKEN_DAMAGED
    assert error.subject == str(path)
    assert contents(home) == before


def test_no_new_key_in_the_place_of_a_damaged_one(home: Home) -> None:
    path = file_of(home, PRIVATE)
    path.write_bytes(path.read_bytes()[:300])
    before = contents(home)
    lane.LANE.stop(lane.Module(softhsm.library()))
    with pytest.raises(CellwardError) as error:
        hsm.store_of(home).create("firmware")
    assert error.value.code is Code.TOKEN_DAMAGED
    assert contents(home) == before


@pytest.mark.parametrize(
    ("which", "code"), [(TOKEN, Code.TOKEN_DAMAGED), (PUBLIC, "token.key_"), (PRIVATE, "token.key_")]
)
@pytest.mark.parametrize("size", [0, 8])
def test_a_file_that_is_empty(home: Home, which: int, code: str, size: int) -> None:
    path = file_of(home, which)
    path.write_bytes(path.read_bytes()[:size])
    assert refusal(home).code.startswith(code)


@pytest.mark.parametrize(("which", "at"), [(TOKEN, 24), (TOKEN, 80), (PRIVATE, 16), (PRIVATE, 82)])
def test_an_absurd_length_does_not_end_the_process(home: Home, which: int, at: int) -> None:
    """SoftHSM exits there and then, with nothing said; so this is tried in a process of its own."""
    path = file_of(home, which)
    data = bytearray(path.read_bytes())
    data[at : at + 8] = (2**63 - 1).to_bytes(8, "big")
    path.write_bytes(data)
    command = [*CELLWARD, "--data", str(home.root), "keys", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "[token.damaged]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_put_back_from_a_copy_it_works_again(home: Home) -> None:
    path = file_of(home, PRIVATE)
    held = path.read_bytes()
    path.write_bytes(held[:100])
    assert refusal(home).code is Code.TOKEN_DAMAGED
    path.write_bytes(held)
    works(bootstrap.signer(home, FIRMWARE))


def test_a_label_cannot_speak_to_the_terminal(home: Home) -> None:
    path = file_of(home, TOKEN)
    path.write_bytes(path.read_bytes().replace(b"cellward", b"\x1b[2J\x07\n\xff "))
    command = [*CELLWARD, "--data", str(home.root), "keys", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("failed [token.absent]")
    assert done.stderr.rstrip("\n").isprintable()


MAKE = """
import sys
from pathlib import Path
from cellward import bootstrap
from cellward.config import Home
store = bootstrap.key_store(Home(Path(sys.argv[1])), "pkcs11:token=cellward")
store.labels()
print("making", flush=True)
for number in range(1000):
    store.create(f"{number}")
"""


LOG_IN = """
import sys
from pathlib import Path
from cellward import bootstrap
from cellward.adapters.pkcs11 import lane, softhsm
from cellward.config import Home
store = bootstrap.key_store(Home(Path(sys.argv[1])), "pkcs11:token=cellward")
store.labels()
print("logged in", flush=True)
while True:
    lane.LANE.stop(lane.Module(softhsm.library()))
    store.labels()
"""


def killed(home: Home, program: str, after: float) -> None:
    with subprocess.Popen([sys.executable, "-c", program, str(home.root)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(after)
        process.kill()


@pytest.mark.parametrize("after", [0, 0.004, 0.011])
def test_killed_while_keys_are_made(spared: Home, after: float) -> None:
    """SoftHSM leaves files without attributes then. They are no damage: nothing was in them."""
    killed(spared, MAKE, after)
    file_of(spared, 0).with_name("unfinished.object").touch()
    lane.LANE.stop(lane.Module(softhsm.library()))
    works(bootstrap.signer(spared, FIRMWARE))
    works(bootstrap.signer(spared, f"{hsm.TOKEN};object={hsm.store_of(spared).create('later').label}"))


def test_killed_while_it_logs_in(spared: Home) -> None:
    """About every other time SoftHSM leaves an empty token.object, which would cost every key."""
    for attempt in range(8):
        killed(spared, LOG_IN, 0.003 * attempt)
    lane.LANE.stop(lane.Module(softhsm.library()))
    works(bootstrap.signer(spared, FIRMWARE))


@pytest.mark.parametrize("size", [0, 1, 8, 64, 128, 224, 319])
def test_a_token_that_a_login_cut_off_is_whole_again(spared: Home, size: int) -> None:
    path = file_of(spared, TOKEN)
    path.write_bytes(path.read_bytes()[:size])
    lane.LANE.stop(lane.Module(softhsm.library()))
    works(bootstrap.signer(spared, FIRMWARE))
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.with_name(SPARE).stat().st_mode) == 0o600


def test_the_spare_is_made_once_and_follows_a_new_pin(spared: Home) -> None:
    (spare,) = spared.tokens.glob(f"*/{SPARE}")
    before = spare.stat().st_mtime_ns
    for _ in range(3):
        lane.LANE.stop(lane.Module(softhsm.library()))
        works(bootstrap.signer(spared, FIRMWARE))
    assert spare.stat().st_mtime_ns == before
    token = bootstrap.key_store(spared, hsm.TOKEN)._token  # type: ignore[attr-defined]
    old = spared.pin.read_text().strip()
    token.run(lambda session: session.set_pin(old, "31415926535"), rw=True)
    spared.pin.write_text("31415926535")
    lane.LANE.stop(lane.Module(softhsm.library()))
    works(bootstrap.signer(spared, FIRMWARE))
    lane.LANE.stop(lane.Module(softhsm.library()))
    file_of(spared, TOKEN).write_bytes(b"")
    works(bootstrap.signer(spared, FIRMWARE))


def test_a_spare_that_is_damaged_is_not_put_back(spared: Home) -> None:
    (spare,) = spared.tokens.glob(f"*/{SPARE}")
    spare.write_bytes(spare.read_bytes()[:200])
    file_of(spared, TOKEN).write_bytes(b"")
    before = contents(spared)
    assert refusal(spared).code is Code.TOKEN_DAMAGED
    assert contents(spared) == before


def test_a_key_without_some_of_its_attributes_signs_only_if_it_is_confined(home: Home) -> None:
    """A cut between two attributes leaves a whole file with fewer of them."""
    path = file_of(home, PRIVATE)
    data, usable = path.read_bytes(), 0
    for cut in range(len(data) - 1, 8, -1):
        try:
            check_object(data[:cut], "test")
        except CellwardError:
            continue
        path.write_bytes(data[:cut])
        lane.LANE.stop(lane.Module(softhsm.library()))
        try:
            works(bootstrap.signer(home, FIRMWARE))
            usable += 1
        except CellwardError as error:
            assert error.code.startswith(("token.", "key."))
    assert 0 < usable < 6, "those without the last few, which SoftHSM's defaults stand in for"
