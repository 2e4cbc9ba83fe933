"""A token that is pulled out and put back, for real: it lives in a process of its own, which is killed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from cellward import bootstrap
from cellward.config import Home
from cellward.core.errors import CellwardError, Code, Unavailable
from cellward.core.image import Trust, Version, verify
from cellward.core.keys import Role
from cellward.core.log import entry
from cellward.core.slots import BMS_M33, Stage
from cellward.ports.signer import Signer
from cellward.sign.build import Label, sign_images
from cellward.sign.firmware import Firmware, read_firmware
from tests.support import hsm, remote
from tests.support.hsm import DIGEST, works

APP = files("cellward.vbms") / "firmware" / "app-1.4.0.bin"
OPTIONS = ("--version", "1.4.0", "--counter", "7", "--hardware", "bms-m33")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return hsm.make_home(tmp_path_factory.mktemp("token"), "root", "firmware")


@pytest.fixture
def cable(home: Home) -> Iterator[remote.Cable]:
    with remote.cable(home) as held:
        yield held


def gone(signer: Signer) -> None:
    with pytest.raises(Unavailable) as error:
        signer.sign(DIGEST)
    assert error.value.code in (Code.TOKEN_ABSENT, Code.TOKEN_FAILED)


def test_the_same_signer_works_when_the_token_is_back(home: Home, cable: remote.Cable) -> None:
    signer = bootstrap.signer(home, remote.FIRMWARE)
    works(signer)
    for _ in range(2):
        cable.pull()
        gone(signer)
        gone(signer)
        cable.plug_in()
        works(signer)
    cable.pull()
    cable.plug_in()  # nobody noticed
    works(signer)


def test_a_token_that_comes_later(home: Home, cable: remote.Cable) -> None:
    cable.pull()
    with pytest.raises(Unavailable) as error:
        bootstrap.signer(home, remote.FIRMWARE)
    assert error.value.code is Code.TOKEN_ABSENT
    cable.plug_in()
    works(bootstrap.signer(home, remote.FIRMWARE))


def test_pulled_in_the_middle_of_a_batch(tmp_path: Path, cable: remote.Cable, home: Home) -> None:
    """What was signed stays; the log holds every intent, and the rest can be signed later."""
    maker = Home(tmp_path)
    key = bootstrap.signer(home, remote.FIRMWARE)
    signer = bootstrap.logged(maker, key, Role.FIRMWARE, "image", "a batch")
    digests = [bytes([index]) * 32 for index in range(20)]
    done: dict[bytes, bytes] = {}

    def batch(pull_before: int = -1) -> None:
        for digest in digests:
            if len(done) == pull_before:
                cable.pull()
            if digest not in done:
                done[digest] = signer.sign(digest)

    with pytest.raises(Unavailable):
        batch(pull_before=7)
    assert len(done) == 7
    assert bootstrap.signing_log(maker).snapshot().size == 8, "the eighth was said, and not signed"
    cable.plug_in()
    batch()
    for digest, signature in done.items():
        key.public_key.verify(digest, signature, code=Code.IMAGE_SIGNATURE, subject="test")
    log = bootstrap.signing_log(maker).snapshot()
    said = [entry.decode(log.entry(index), "log").signed for index in range(log.size)]
    assert {*said} == {entry.given(digest) for digest in digests}
    assert len(said) == 21


def test_images_that_were_given_out_are_whole_and_the_rest_follows(
    tmp_path: Path, home: Home, cable: remote.Cable
) -> None:
    """`sign_images`: go on behind what was yielded."""
    key = bootstrap.signer(home, remote.FIRMWARE)
    signer = bootstrap.logged(Home(tmp_path), key, Role.FIRMWARE, "image", "a batch")
    payload = read_firmware(str(APP), APP.read_bytes(), BMS_M33, Stage.APP)
    batch = [(payload, Label(Version(1, 0, number), 7, BMS_M33, Stage.APP)) for number in range(8)]
    signed = []

    def take(part: list[tuple[Firmware, Label]], pull_after: int = -1) -> None:
        for image in sign_images(part, signer):
            signed.append(image)
            if len(signed) == pull_after:
                cable.pull()

    with pytest.raises(Unavailable):
        take(batch, pull_after=3)
    assert len(signed) == 3
    cable.plug_in()
    take(batch[len(signed) :])
    trust = Trust({key.public_key.key_hash: key.public_key})
    assert [verify(image.image, trust, "test").image.version.revision for image in signed] == list(range(8))
    log = bootstrap.signing_log(Home(tmp_path)).snapshot()
    assert log.size == 8 + 5


def sign(home: Home, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cellward.cli.main", "--data", str(home.root), "image", "sign"]
    return subprocess.run(
        [*command, str(APP), *OPTIONS, "--key", remote.FIRMWARE, "-o", str(output)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_image_sign_without_its_token_leaves_everything(
    home: Home, cable: remote.Cable, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.bin", tmp_path / "second.bin"
    assert sign(home, first).returncode == 0
    held = first.read_bytes()
    cable.pull()
    for output in (first, second):
        done = sign(home, output)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"failed \[token\.absent\] .*\n", done.stderr), done.stderr
    assert first.read_bytes() == held
    assert list(tmp_path.iterdir()) == [first]
    cable.plug_in()
    assert sign(home, second).returncode == 0


# --- threads and forks: in a process of its own, since what goes wrong is a crash ---

PROGRAM = """
import os, sys, threading
from pathlib import Path
from cellward import bootstrap
from cellward.config import Home
from cellward.core.errors import CellwardError, Code

signer = bootstrap.signer(Home(Path(sys.argv[1])), sys.argv[2])
signatures, refused = [], []

def work(number):
    for index in range(50):
        digest = bytes([number, index] * 16)
        try:
            signatures.append((digest, signer.sign(digest)))
        except CellwardError as error:
            refused.append(error.code)
        if number == index == 3:
            print("signing", flush=True)

def verify():
    for digest, signature in signatures:
        signer.public_key.verify(digest, signature, code=Code.IMAGE_SIGNATURE, subject="test")
"""
THREADS = """
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
verify()
assert len(signatures) + len(refused) == 400
assert {*refused} <= {Code.TOKEN_ABSENT, Code.TOKEN_FAILED}, refused
print(len(refused), flush=True)
sys.stdin.readline()
work(9)
verify()
"""
FORKS = """
def wait(child):
    assert os.waitpid(child, 0)[1] == 0

children = []
for number in range(4):
    work(number + 10)
    child = os.fork()
    if child == 0:
        signatures.clear()
        thread = threading.Thread(target=work, args=(number,), daemon=True)
        thread.start()
        thread.join(20)
        verify()
        os._exit(len(signatures) != 50)
    if "p11-kit" in sys.argv[2]:
        wait(child)  # each has a SoftHSM of its own there; without our lock two logins disturb each other
    else:
        children.append(child)
work(20)
verify()
assert not refused, refused
for child in children:
    wait(child)
"""


def started(home: Home, program: str, uri: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + program, str(home.root), uri],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("uri", [hsm.FIRMWARE, remote.FIRMWARE])
def test_eight_threads_sign_through_one_signer(home: Home, cable: remote.Cable, uri: str) -> None:
    with started(home, THREADS, uri) as process:
        said, _ = process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert said.split()[-1] == "0", "signatures that were refused"


def test_pulled_under_eight_threads(home: Home, cable: remote.Cable) -> None:
    """Each call signs or is refused; when the token is back, all sign again."""
    with started(home, THREADS, remote.FIRMWARE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "signing\n"
        cable.pull()
        assert int(process.stdout.readline()) > 0
        cable.plug_in()
        process.communicate("\n", timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("uri", [hsm.FIRMWARE, remote.FIRMWARE])
def test_a_forked_process_has_a_session_of_its_own(home: Home, cable: remote.Cable, uri: str) -> None:
    with started(home, FORKS, uri) as process:
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_no_error_names_the_pin(home: Home, cable: remote.Cable) -> None:
    os.environ["CELLWARD_PIN"] = "000000"  # until the cable is put away
    with pytest.raises(CellwardError) as error:
        bootstrap.signer(home, remote.FIRMWARE)
    assert error.value.code is Code.TOKEN_PIN_WRONG
    assert "000000" not in str(error.value)
