"""The PKCS#11 adapter against SoftHSM, and against a module that fails when told to."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellward import bootstrap
from cellward.adapters.pkcs11 import lane, softhsm
from cellward.adapters.pkcs11.token import PRIVATE_TEMPLATE
from cellward.adapters.pkcs11.vendor import Attribute, KeyType, ObjectClass, ck, pkcs11
from cellward.config import Home
from cellward.core.errors import CellwardError, Code, Refused, Unavailable
from tests.support import hsm
from tests.support.hsm import DIGEST, FIRMWARE, code_of, works


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return hsm.make_home(tmp_path_factory.mktemp("token"), "root", "firmware")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hsm.build_faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def failing(library: Path, home: Home) -> Iterator[hsm.Faults]:
    lane.LANE.stop(lane.Module(str(library)))
    with hsm.faults(library, home) as module:
        for call in (
            hsm.INITIALIZE,
            hsm.TOKEN_INFO,
            hsm.OPEN_SESSION,
            hsm.LOGIN,
            hsm.FIND,
            hsm.SIGN,
            hsm.GENERATE,
        ):
            module.fail(call, 0, 0)
        yield module
        lane.LANE.stop(lane.Module(str(library)))


def test_a_key_signs(home: Home) -> None:
    works(bootstrap.signer(home, FIRMWARE))
    assert bootstrap.signer(home, FIRMWARE).uri == FIRMWARE


def test_only_a_sha256_digest_is_signed(home: Home) -> None:
    with pytest.raises(Refused) as error:
        bootstrap.signer(home, FIRMWARE).sign(b"a whole message")
    assert code_of(error) is Code.KEY_FORMAT


# --- what tokens answer ---


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (0xA0, Code.TOKEN_PIN_WRONG),
        (0xA2, Code.TOKEN_PIN_WRONG),
        (0xA3, Code.TOKEN_PIN_LOCKED),
        (0xA4, Code.TOKEN_PIN_LOCKED),
        (0xE0, Code.TOKEN_ABSENT),
        (0x32, Code.TOKEN_ABSENT),
        (0x102, Code.TOKEN_ABSENT),
        (0x05, Code.TOKEN_FAILED),
        (0x80000001, Code.TOKEN_FAILED),
    ],
)
def test_what_login_answers(home: Home, failing: hsm.Faults, answer: int, code: Code) -> None:
    failing.fail(hsm.LOGIN, answer, hsm.FOREVER)
    before = failing.seen(hsm.LOGIN)
    with pytest.raises(Unavailable) as error:
        bootstrap.signer(home, FIRMWARE)
    assert code_of(error) is code
    if code in (Code.TOKEN_PIN_WRONG, Code.TOKEN_PIN_LOCKED):
        assert failing.seen(hsm.LOGIN) == before + 1, "a second attempt brings the lock nearer"


KINDS = [kind for kind in vars(ck).values() if isinstance(kind, type) and issubclass(kind, ck.PKCS11Error)]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_the_library_raises_has_a_code(kind: type[ck.PKCS11Error]) -> None:
    error = lane.failed(kind(), "token x")
    assert isinstance(error, Unavailable)
    assert error.code in {
        Code.TOKEN_ABSENT,
        Code.TOKEN_FAILED,
        Code.TOKEN_KEY_MISSING,
        Code.TOKEN_PIN_LOCKED,
        Code.TOKEN_PIN_WRONG,
    }
    assert ("pin_" in error.code) is (kind.__name__.startswith("Pin") and kind is not ck.PinTooWeak)
    assert error.expected
    assert error.found
    assert error.advice


def test_softhsm_locks_no_pin(tmp_path: Path) -> None:
    """Documented. Each attempt is one; the right one is taken afterwards."""
    home = hsm.make_home(tmp_path, "firmware")
    for _ in range(12):
        lane.LANE.stop(lane.Module(softhsm.library()))
        with hsm.environment(CELLWARD_PIN="000000"), pytest.raises(Unavailable) as error:
            bootstrap.signer(home, FIRMWARE)
        assert code_of(error) is Code.TOKEN_PIN_WRONG
    works(bootstrap.signer(home, FIRMWARE))


@pytest.mark.parametrize("call", [hsm.TOKEN_INFO, hsm.OPEN_SESSION, hsm.FIND, hsm.ATTRIBUTE])
@pytest.mark.parametrize("answer", [0x05, 0x30, 0x31, 0xE0, 0x150])
def test_a_token_that_fails_anywhere_is_one_of_our_errors(
    home: Home, failing: hsm.Faults, call: int, answer: int
) -> None:
    failing.fail(call, answer, hsm.FOREVER)
    try:
        with pytest.raises(CellwardError) as error:
            bootstrap.signer(home, FIRMWARE)
    finally:
        failing.fail(call, 0, 0)
    assert code_of(error).startswith("token.")


@pytest.mark.parametrize("answer", [0x30, 0x32, 0x60, 0x82, 0xB0, 0xB3, 0xE0, 0x101])
def test_a_session_that_is_lost_once_is_opened_again(home: Home, failing: hsm.Faults, answer: int) -> None:
    signer = bootstrap.signer(home, FIRMWARE)
    failing.fail(hsm.SIGN, answer)
    works(signer)
    failing.fail(hsm.SIGN, answer, hsm.FOREVER)
    with pytest.raises(Unavailable):
        signer.sign(DIGEST)
    failing.fail(hsm.SIGN, 0, 0)
    works(signer)


def test_a_failure_in_key_generation_leaves_no_key(home: Home, failing: hsm.Faults) -> None:
    failing.fail(hsm.GENERATE, 0x31)
    with pytest.raises(Unavailable) as error:
        bootstrap.key_store(home, hsm.TOKEN).create("snapshot")
    assert code_of(error) is Code.TOKEN_FAILED
    assert bootstrap.key_store(home, hsm.TOKEN).find("snapshot") is None


def test_a_token_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    home = hsm.make_home(tmp_path, "firmware")
    signer = bootstrap.signer(home, FIRMWARE)
    home.tokens.rename(tmp_path / "away")
    lane.LANE.stop(lane.Module(softhsm.library()))  # until then SoftHSM answers from its cache
    with pytest.raises(Unavailable):
        signer.sign(DIGEST)
    (tmp_path / "away").rename(home.tokens)
    works(signer)


def test_another_token_in_the_same_place_signs_nothing(tmp_path: Path) -> None:
    home, other = hsm.make_home(tmp_path / "a", "firmware"), hsm.make_home(tmp_path / "b", "firmware")
    signer = bootstrap.signer(home, FIRMWARE)
    shutil.rmtree(home.tokens)
    other.tokens.rename(home.tokens)
    home.pin.write_text(other.pin.read_text())
    lane.LANE.stop(lane.Module(softhsm.library()))
    with pytest.raises(Refused) as error:
        signer.sign(DIGEST)
    assert code_of(error) is Code.TOKEN_KEY_MISSING
    assert "another" in error.value.found


def test_the_embedded_pin_is_never_tried_on_another_token(home: Home, failing: hsm.Faults) -> None:
    """Three wrong attempts lock a real token."""
    del os.environ["CELLWARD_PIN"]
    before = failing.seen(hsm.LOGIN)
    with pytest.raises(Unavailable) as error:
        bootstrap.signer(home, FIRMWARE)
    assert code_of(error) is Code.TOKEN_PIN_MISSING
    assert failing.seen(hsm.LOGIN) == before


# --- which key ---


def test_a_missing_key_lists_what_is_there(home: Home) -> None:
    with pytest.raises(Unavailable) as error:
        bootstrap.signer(home, "pkcs11:token=cellward;object=nope")
    assert code_of(error) is Code.TOKEN_KEY_MISSING
    assert error.value.found == "only firmware, root"


def test_a_token_of_another_name(home: Home) -> None:
    for uri in ("pkcs11:token=other;object=firmware", "pkcs11:serial=0;object=firmware"):
        with pytest.raises(Unavailable) as error:
            bootstrap.signer(home, uri)
        assert code_of(error) is Code.TOKEN_ABSENT
        assert re.fullmatch(r"cellward \(serial [0-9a-f]{16}\)", error.value.found)


def test_a_uri_that_names_no_key_is_no_choice(home: Home) -> None:
    with pytest.raises(Refused) as error:
        bootstrap.signer(home, "pkcs11:token=cellward")
    assert code_of(error) is Code.TOKEN_AMBIGUOUS


def generate(
    home: Home, label: str, key_id: bytes, curve: str = "06082a8648ce3d030107", **private: bool
) -> None:
    """A key as other software would make it, past our own template."""
    token = bootstrap.key_store(home, hsm.TOKEN)._token  # type: ignore[attr-defined]
    template = {Attribute[name]: value for name, value in private.items()}

    def work(session: pkcs11.Session) -> None:
        domain = session.create_domain_parameters(
            KeyType.EC, {Attribute.EC_PARAMS: bytes.fromhex(curve)}, local=True
        )
        domain.generate_keypair(label=label, id=key_id, store=True, private_template=template)

    token.run(work, rw=True)


def test_two_keys_of_one_label_are_told_apart_by_id_alone(tmp_path: Path) -> None:
    home = hsm.make_home(tmp_path, "firmware")
    generate(home, "firmware", b"\x01\xff")
    for attempt in (lambda: bootstrap.signer(home, FIRMWARE), lambda: hsm.store_of(home).find("firmware")):
        with pytest.raises(Refused) as error:
            attempt()
        assert code_of(error) is Code.TOKEN_AMBIGUOUS
        assert "01ff" in error.value.found
    works(bootstrap.signer(home, "pkcs11:token=cellward;id=%01%ff"))


def test_a_key_that_can_leave_the_token_signs_nothing(tmp_path: Path) -> None:
    home = hsm.make_home(tmp_path)
    generate(home, "firmware", b"\x01", EXTRACTABLE=True)
    with pytest.raises(Refused) as error:
        bootstrap.signer(home, FIRMWARE)
    assert code_of(error) is Code.KEY_EXPORTABLE


def test_keys_of_other_kinds(tmp_path: Path) -> None:
    home = hsm.make_home(tmp_path)
    generate(home, "p521", b"\x01", curve="06052b81040023", EXTRACTABLE=False)
    generate(home, "no-sign", b"\x02", EXTRACTABLE=False, SIGN=False)
    token = bootstrap.key_store(home, hsm.TOKEN)._token  # type: ignore[attr-defined]
    token.run(
        lambda session: session.generate_keypair(
            KeyType.RSA,
            2048,
            label="rsa",
            id=b"\x03",
            store=True,
            private_template={Attribute.EXTRACTABLE: False},
        ),
        rw=True,
    )
    for label in ("p521", "no-sign", "rsa"):
        with pytest.raises(Refused) as error:
            bootstrap.signer(home, f"pkcs11:token=cellward;object={label}")
        assert code_of(error) is Code.KEY_FORMAT, label


def test_a_private_key_whose_public_half_is_gone(tmp_path: Path) -> None:
    home = hsm.make_home(tmp_path, "firmware")
    generate(home, "other", b"\x01", EXTRACTABLE=False)
    token = bootstrap.key_store(home, hsm.TOKEN)._token  # type: ignore[attr-defined]

    def destroy(session: pkcs11.Session) -> None:
        for key in list(
            session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: "other"})
        ):
            key.destroy()

    token.run(destroy, rw=True)
    with pytest.raises(Unavailable) as error:
        bootstrap.signer(home, "pkcs11:token=cellward;object=other")
    assert code_of(error) is Code.TOKEN_KEY_MISSING


def test_every_attribute_is_asked_for() -> None:
    """SoftHSM would default to some of these; other tokens default otherwise."""
    said = {attribute.name: value for attribute, value in PRIVATE_TEMPLATE.items()}
    assert {name for name, value in said.items() if value} == {"PRIVATE", "SENSITIVE", "SIGN"}
    assert {name for name, value in said.items() if not value} == (
        {"EXTRACTABLE", "MODIFIABLE", "SIGN_RECOVER", "DECRYPT", "UNWRAP", "DERIVE"}
    )


# --- one lane ---


def run_python(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, [str(Path("src").absolute()), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=os.environ | {"PYTHONPATH": path}
    )


IN_THREADS = """
import sys, threading
from pathlib import Path
from cellward import bootstrap
from cellward.config import Home
from cellward.core.errors import CellwardError

store = bootstrap.key_store(Home(Path(sys.argv[1])), "pkcs11:token=cellward")
signer = store.signer("firmware")
errors = []

def work(signs):
    try:
        for _ in range(100):
            signer.sign(bytes(32)) if signs else store.find("root")
    except CellwardError as error:
        errors.append(error)

threads = [threading.Thread(target=work, args=(index % 2,)) for index in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(bool(errors))
"""


def test_threads_take_turns(home: Home) -> None:
    """Without the lock this is a segmentation fault, so it runs in a process of its own."""
    assert run_python(IN_THREADS, str(home.root)).wait(60) == 0


def test_one_thread_at_a_time_is_in_any_library(home: Home, failing: hsm.Faults) -> None:
    """Two libraries, one lane: what runs at the same time is counted, crash or no crash."""
    del os.environ["CELLWARD_PKCS11_MODULE"]
    direct = bootstrap.key_store(home, hsm.TOKEN)._token  # type: ignore[attr-defined]
    behind = bootstrap.key_store(home, f"{hsm.TOKEN}?module-path={failing.path}")._token  # type: ignore[attr-defined]
    inside, most = [0], [0]

    def work(_: pkcs11.Session) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.002)
        inside[0] -= 1

    threads = [threading.Thread(target=token.run, args=(work,)) for token in (direct, behind) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == ([0], [1])


def test_processes_that_start_together(home: Home) -> None:
    """Without the lock about half of them fail: a login rewrites a file that the others read."""
    program = (
        "import sys; from pathlib import Path; from cellward import bootstrap;"
        "from cellward.config import Home;"
        f"bootstrap.signer(Home(Path(sys.argv[1])), {FIRMWARE!r}).sign(bytes(32))"
    )
    started = [run_python(program, str(home.root)) for _ in range(8)]
    assert [process.wait(60) for process in started] == [0] * 8


def test_a_lock_that_is_never_given_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "LOCK_TIMEOUT", 0.05)
    lane.LANE.stop(lane.Module(softhsm.library()))
    holder = (
        "import fcntl,sys; f=open(sys.argv[1]); fcntl.flock(f,2); print('held',flush=True); sys.stdin.read()"
    )
    lock = str(home.tokens.with_suffix(".lock"))
    with subprocess.Popen(
        [sys.executable, "-c", holder, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(Unavailable) as error:
            bootstrap.signer(home, FIRMWARE)
        process.communicate(b"")
    assert code_of(error) is Code.TOKEN_FAILED
    works(bootstrap.signer(home, FIRMWARE))
