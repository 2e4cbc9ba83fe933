"""The adapter of TPMs and the embedded swtpm, when something goes wrong."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cellward import bootstrap
from cellward.adapters.tpm2 import refusals
from cellward.adapters.tpm2.connection import handles
from cellward.adapters.tpm2.keys import EK_HANDLES
from cellward.adapters.tpm2.swtpm import SocketTransport
from cellward.adapters.tpm2.tpm import Tpm2
from cellward.adapters.tpm2.vendor import ESYS_TR, TPM2_RC, TPM2B_SENSITIVE_CREATE, TSS2_Exception
from cellward.core.errors import CellwardError, Code, Refused, TrustRefused, Unavailable
from cellward.core.tpm.certificate import verify_certificate
from cellward.core.tpm.credential import Credential, make_credential
from cellward.core.tpm.policy import Policy
from cellward.core.tpm.public import decode_public, name_of
from cellward.ports.tpm import KeyName, PcrStep, SealedBlob, Tpm
from tests.support.manufacturer import EK, ROOT, der
from tests.support.packtpm import SwtpmDevice, copy, refused
from tests.support.tpm import running_swtpm

INDEX = 0x01800100
DIGEST = bytes(range(32))
SECRET = b"the vault's key, thirty-two byte"
TRANSIENT = (0x80000000, 0x80FFFFFF)
SESSIONS = ((0x02000000, 0x03FFFFFF), (0x03000000, 0x03FFFFFF))  # as a TPM lists them: loaded, saved


@pytest.fixture
def device(made_tpm: Path, tmp_path: Path) -> Iterator[SwtpmDevice]:
    found = copy(made_tpm, tmp_path / "tpm")
    yield found
    found.off()


@pytest.fixture
def packets(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Everything that goes to an embedded TPM and comes from it."""
    seen: list[bytes] = []
    transmit, receive = SocketTransport.do_transmit, SocketTransport.do_receive

    def sending(self: SocketTransport, command: bytes) -> None:
        seen.append(command)
        transmit(self, command)

    def receiving(self: SocketTransport, timeout: int) -> bytes:
        seen.append(receive(self, timeout))
        return seen[-1]

    monkeypatch.setattr(SocketTransport, "do_transmit", sending)
    monkeypatch.setattr(SocketTransport, "do_receive", receiving)
    return seen


# --- one owner, and what happens when it goes ---


def test_a_second_owner_waits_outside(made_tpm: Path, tmp_path: Path) -> None:
    embedded = copy(made_tpm, tmp_path / "tpm")
    embedded.off()
    with embedded.embedded.running() as tpm:
        first = tpm.define_counter(INDEX)
        with refused(Unavailable, Code.TPM_BUSY), embedded.embedded.running():
            pytest.fail("two at once")
        tpm.increment(INDEX)
        assert tpm.counter(INDEX) == first + 1


def test_it_is_shut_down_in_order_and_ends_with_its_owner(
    made_tpm: Path, tmp_path: Path, packets: list[bytes]
) -> None:
    embedded = copy(made_tpm, tmp_path / "tpm")
    embedded.off()
    with embedded.embedded.running() as tpm:
        assert len(_swtpms(tmp_path / "tpm")) == 1
    assert packets[-2] == bytes.fromhex("8001 0000000c 00000145 0000"), "TPM2_Shutdown(CLEAR)"
    assert not _swtpms(tmp_path / "tpm")
    with refused(Unavailable, Code.TPM_ABSENT):
        tpm.clock()


def test_a_killed_owner_takes_it_along(made_tpm: Path, tmp_path: Path) -> None:
    """What was acknowledged is there for the next one, who gets in at once."""
    copy(made_tpm, tmp_path / "tpm").off()
    program = (
        "import sys, pathlib; from cellward import bootstrap\n"
        "with bootstrap.tpm(pathlib.Path(sys.argv[1])) as tpm:\n"
        f"    print(tpm.define_counter({INDEX}), flush=True)\n"
        "    while True:\n"
        f"        tpm.increment({INDEX}); print(tpm.counter({INDEX}), flush=True)\n"
    )
    for _ in range(2):
        owner = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert owner.stdout is not None
        said = "".join(owner.stdout.readline() for _ in range(random.randrange(2, 30)))
        owner.kill()
        acknowledged = int((said + owner.stdout.read()).rsplit("\n", 2)[-2])
        owner.wait()
        owner.stdout.close()
        with bootstrap.tpm(tmp_path) as tpm:
            assert tpm.counter(INDEX) in (acknowledged, acknowledged + 1)


def test_state_that_is_still_held_is_waited_for(device: SwtpmDevice) -> None:
    """By what a killed owner left behind, for as long as it takes to end."""
    device.off()
    held = device.embedded.folder / "made" / "nv" / ".lock"
    program = (
        "import fcntl, sys, time\n"
        "with open(sys.argv[1], 'w') as file:\n"
        "    fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "    print(flush=True)\n"
        "    time.sleep(0.3)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, held], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        with device.embedded.running() as tpm:
            assert tpm.random(8)
            assert holder.poll() == 0
    device._on()


def test_ctrl_c_does_not_reach_it(device: SwtpmDevice) -> None:
    assert os.getpgid(device.running.process.pid) != os.getpgid(0)


def test_it_leaves_nothing_to_listen_to(device: SwtpmDevice) -> None:
    """No port, no socket in the file system: what others on the machine could speak to."""
    process = Path(f"/proc/{device.running.process.pid}")
    links = [str(link.readlink()) for link in (process / "fd").iterdir()]
    sockets = {link.removeprefix("socket:[").removesuffix("]") for link in links if "socket:" in link}
    assert len(sockets) == 1
    assert not [line for line in (process / "net/tcp").read_text().splitlines() if sockets & {*line.split()}]
    (ours,) = [line for line in (process / "net/unix").read_text().splitlines() if sockets & {*line.split()}]
    assert len(ours.split()) == 7, "no path"


# --- making it ---


def test_a_making_that_was_cut_is_made_good(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from cellward import bootstrap\n"
        "bootstrap.tpm(pathlib.Path(sys.argv[1])).__enter__()"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    while not list((tmp_path / "tpm").glob("new.*/nv")):
        time.sleep(0.01)
    time.sleep(0.1)
    owner.kill()
    owner.wait()
    assert not (tmp_path / "tpm" / "made").exists()
    with bootstrap.tpm(tmp_path) as tpm:
        root, issuer = x509.load_pem_x509_certificates(bootstrap.tpm_authorities(tmp_path))
        between = [issuer.public_bytes(Encoding.DER)]
        found = verify_certificate(tpm.ek_certificate(), between, [root], datetime.now(UTC))
        assert found.manufacturer == "id:00001014"
    assert (tmp_path / "tpm" / "made").stat().st_mode & 0o077 == 0
    assert {path.name for path in (tmp_path / "tpm").iterdir()} == {"made", "lock"}
    assert not _swtpms(tmp_path / "tpm"), "nor does what made it go on"


def test_any_folder_will_do(made_tpm: Path, tmp_path: Path) -> None:
    device = copy(made_tpm, tmp_path / "a, b=c, mode=0777 d" / "tpm")
    assert device.tpm.random(8)
    device.off()


def test_without_swtpm_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with refused(Unavailable, Code.TPM_ABSENT), bootstrap.tpm(tmp_path):
        pytest.fail("no swtpm")
    assert not (tmp_path / "tpm" / "made").exists()
    with refused(Unavailable, Code.TPM_ABSENT):
        bootstrap.tpm_authorities(tmp_path)


def test_damaged_state_is_refused_and_left_alone(made_tpm: Path, tmp_path: Path) -> None:
    device = copy(made_tpm, tmp_path / "tpm")
    device.off()
    state = next((tmp_path / "tpm" / "made" / "nv").glob("*.permall"))
    state.write_bytes(bytes(len(state.read_bytes())))
    start = time.monotonic()
    with refused(Unavailable, Code.TPM_FAILED), bootstrap.tpm(tmp_path):
        pytest.fail("damaged")
    assert time.monotonic() - start < 2
    assert not state.read_bytes().strip(b"\0")


# --- TPMs of others ---


@pytest.mark.parametrize(
    "tcti", ["device:/nowhere", "nonsense", "swtpm:host=127.0.0.1,port=1", ":", "device:/dev/null"]
)
def test_a_tpm_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tcti: str
) -> None:
    monkeypatch.setenv("CELLWARD_TPM", tcti)
    with refused(Unavailable, Code.TPM_ABSENT), bootstrap.tpm(tmp_path) as tpm:
        tpm.clock()
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_without_the_library_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("tpm2_pytss", "cellward.adapters.tpm2"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(Unavailable) as error, bootstrap.tpm(tmp_path):
        pass
    assert error.value.code is Code.TPM_ABSENT
    assert "cellward[tpm]" in str(error.value)


@pytest.mark.parametrize("work", ["sign", "increment", "seal"])
def test_a_tpm_that_goes_away_is_absent(
    device: SwtpmDevice, capfd: pytest.CaptureFixture[str], work: str
) -> None:
    tpm = device.tpm
    tpm.create_key(KeyName.IDENTITY)
    tpm.define_counter(INDEX)
    tpm.seal(SECRET, DIGEST)
    works: dict[str, Callable[[], object]] = {
        "sign": lambda: tpm.sign(DIGEST),
        "increment": lambda: tpm.increment(INDEX),
        "seal": lambda: tpm.seal(SECRET, DIGEST),
    }
    device.running.process.kill()
    for _ in range(3):
        with refused(Unavailable, Code.TPM_ABSENT):
            works[work]()
    assert capfd.readouterr() == ("", "")


# --- the endorsement key, wherever its maker keeps it ---


def credential(tpm: Tpm) -> Credential:
    area = tpm.key(KeyName.ATTESTATION) or tpm.create_key(KeyName.ATTESTATION)
    return make_credential(decode_public(tpm.ek_public()), name_of(area), SECRET, tpm.random)


def test_another_key_in_its_range_is_not_taken_for_it(device: SwtpmDevice) -> None:
    tpm = device.running.tpm
    with tpm.command("test") as esys:
        made, *_ = esys.create_primary(TPM2B_SENSITIVE_CREATE(), "ecc256:aes128cfb")
        esys.evict_control(ESYS_TR.OWNER, made, 0x81010000)
        esys.flush_context(made)
    assert tpm.activate_credential(KeyName.ATTESTATION, credential(tpm)) == SECRET


def test_it_is_made_where_it_is_not_kept(device: SwtpmDevice) -> None:
    tpm = device.running.tpm
    with tpm.command("test") as esys:
        for place in handles(esys, *EK_HANDLES):
            esys.evict_control(ESYS_TR.OWNER, esys.tr_from_tpmpublic(place), place)
    assert tpm.activate_credential(KeyName.ATTESTATION, credential(tpm)) == SECRET
    with tpm.command("test") as esys:
        assert handles(esys, *TRANSIENT) == []


def test_the_certificate_of_another_key_is_refused(
    device: SwtpmDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = credential(device.tpm)
    monkeypatch.setattr(device.tpm, "ek_certificate", lambda: der(ROOT.endorse(EK)))
    for _ in range(4):
        with refused(Refused, Code.TPM_FAILED):
            device.tpm.activate_credential(KeyName.ATTESTATION, made)


def test_without_a_certificate_nothing_is_endorsed(made_tpm: Path, tmp_path: Path) -> None:
    with running_swtpm(tmp_path) as bare, Tpm2(bare.tcti) as tpm, refused(Unavailable, Code.TPM_MISSING):
        tpm.ek_public()


# --- power ---


def test_no_acknowledged_increment_is_lost(device: SwtpmDevice) -> None:
    """Twenty times the TPM is killed while it counts."""
    acknowledged = device.tpm.define_counter(INDEX)
    for _ in range(20):
        cut = threading.Timer(random.uniform(0.001, 0.02), device.running.process.kill)
        cut.start()
        with suppress(Unavailable):
            while True:
                device.tpm.increment(INDEX)
                acknowledged += 1
        cut.join()
        device.cut()
        found = device.tpm.counter(INDEX)
        assert found in (acknowledged, acknowledged + 1)
        acknowledged = found


def test_a_hundred_power_cuts_lock_nothing(device: SwtpmDevice) -> None:
    """Each after everything that has a key was used, and without a shutdown."""
    for name in KeyName:
        device.tpm.create_key(name)
    device.tpm.define_counter(INDEX)
    blob = device.tpm.seal(SECRET, Policy().pcr(device.tpm.pcr_read([8])).digest)
    for _ in range(100):
        device.tpm.sign(DIGEST)
        device.tpm.quote(DIGEST, [8])
        device.tpm.increment(INDEX)
        assert device.tpm.unseal(blob, [PcrStep((8,))]) == SECRET
        device.cut()
    found = device.tpm.facts()
    assert (found.failed_tries, found.locked_out) == (0, False)
    assert device.tpm.sign(DIGEST)


# --- inside ---


def test_nothing_stays_in_the_slots(device: SwtpmDevice) -> None:
    tpm = device.running.tpm
    blob = tpm.seal(SECRET, Policy().pcr(tpm.pcr_read([8])).digest)
    tpm.create_key(KeyName.ATTESTATION)
    tpm.unseal(blob, [PcrStep((8,))])
    with pytest.raises(TrustRefused):
        tpm.unseal(blob, [])
    with pytest.raises(Refused):
        tpm.unseal(SealedBlob(blob.data[:-1] + b"!"), [])
    with tpm.command("test") as esys:
        for kind in (TRANSIENT, *SESSIONS):
            assert handles(esys, *kind) == []
    assert tpm.unseal(blob, [PcrStep((8,))]) == SECRET
    with tpm.command("test") as esys:
        assert [len(handles(esys, *kind)) for kind in (TRANSIENT, *SESSIONS)] == [0, 1, 0], "the kept one"


def test_the_secret_is_not_to_be_read_on_the_bus(device: SwtpmDevice, packets: list[bytes]) -> None:
    blob = device.tpm.seal(SECRET, Policy().pcr(device.tpm.pcr_read([8])).digest)
    assert device.tpm.unseal(blob, [PcrStep((8,))]) == SECRET
    assert len(packets) > 10
    assert not [packet for packet in packets if SECRET in packet]


def test_what_extends_a_chain_is_not_to_be_read_on_the_bus(device: SwtpmDevice, packets: list[bytes]) -> None:
    device.tpm.define_chain(INDEX)
    device.tpm.extend_chain(INDEX, SECRET)
    assert len(packets) > 10
    assert not [packet for packet in packets if SECRET in packet]


def test_another_storage_root_is_not_trusted(device: SwtpmDevice) -> None:
    """The usual template is locked out by power cuts."""
    tpm = device.running.tpm
    with tpm.command("test") as esys:
        made, *_ = esys.create_primary(TPM2B_SENSITIVE_CREATE(), "ecc256:aes128cfb")
        esys.evict_control(ESYS_TR.OWNER, made, 0x81000001)
        esys.flush_context(made)
    for _ in range(2):
        with pytest.raises(Refused) as error:
            tpm.seal(SECRET, bytes(32))
        assert error.value.code is Code.TPM_EXISTS


@pytest.mark.parametrize(
    ("rc", "code"),
    [
        (TPM2_RC.LOCKOUT, Code.TPM_LOCKOUT),
        (TPM2_RC.RETRY, Code.TPM_BUSY),
        (TPM2_RC.HANDLE | 0x100, Code.TPM_MISSING),
        (TPM2_RC.AUTH_FAIL | 0x900, Code.TPM_AUTHORISATION),
        (TPM2_RC.POLICY_FAIL | 0x900, Code.TPM_POLICY),
        (TPM2_RC.FAILURE, Code.TPM_FAILED),
        (0x0B0000 | TPM2_RC.LOCKOUT, Code.TPM_LOCKOUT),
        (0x000A0001, Code.TPM_ABSENT),
        (0x00070007, Code.TPM_FAILED),
    ],
)
def test_each_response_code_has_its_word(rc: int, code: Code) -> None:
    assert refusals.refusal(TSS2_Exception(rc), "test").code is code


@given(st.integers(1, 2**32 - 1))
def test_no_response_code_is_without_words(rc: int) -> None:
    error = refusals.refusal(TSS2_Exception(rc), "test")
    assert isinstance(error, CellwardError)
    assert "\n" not in str(error)


def _swtpms(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").resolve().is_relative_to(folder) and "swtpm" in (
                process / "comm"
            ).read_text():
                found.append(int(process.name))
    return found
