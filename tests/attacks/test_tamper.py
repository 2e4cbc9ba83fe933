"""The pack controller's tamper response: cut anywhere, put back, edited. Nothing opens, no key is left."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cellward.adapters.files import DirectoryStore
from cellward.adapters.hwmon import Hwmon
from cellward.core.errors import CellwardError, Code, PolicyRefused, Refused, TrustRefused, Unavailable
from cellward.core.tamper import RESPONSES, Alarm, Entry, Event, Policy, Response, State, Step
from cellward.core.tpm.public import decode_public
from cellward.device.attempts import Attempts
from cellward.device.tamper import CLOCK, LOG, LOST, Guard
from cellward.device.vault import Place, opened
from cellward.ports.store import Store
from cellward.ports.tpm import (
    MAKER_CHAIN,
    RELEASE_COUNTER,
    TAMPER_CHAIN,
    VAULT_CHAIN,
    VAULT_COUNTER,
    ZEROISE_MARK,
    KeyName,
    Tpm,
)
from tests.support.packtpm import Device, MemoryDevice, SwtpmDevice, refused
from tests.support.vault import FIRST, Pack, place

SECRET = b"what the charger and the pack share"
FACTORY = b"the maker's factory data"
LOCKS = Alarm(Event.VOLTAGE, "in0_alarm")


@dataclass
class Field:
    """A pack controller that is enrolled, has a vault, and a case with a switch."""

    folder: Path
    device: Device
    pack: Pack

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def tpm(self) -> Tpm:
        return self.device.tpm

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.state, 0o600)

    def guard(self, tpm: Tpm | None = None, store: Store | None = None) -> Guard:
        sensor = Hwmon(self.folder / "hwmon")
        return Guard(tpm or self.tpm, store or self.store, Policy(), (sensor,))

    def case(self, opened: bool) -> None:
        (self.folder / "hwmon/intrusion0_alarm").write_text("1\n" if opened else "0\n")

    def off(self) -> None:
        self.device.off()

    def start(self) -> None:
        """From no power, with the release that the vault opens for."""
        self.device.cut()
        self.tpm.pcr_extend(8, FIRST)

    def vault(self) -> Place:
        return place(self.tpm, self.store)

    def restore(self, copy: Path) -> None:
        shutil.rmtree(self.state)
        shutil.copytree(copy, self.state)


def make(folder: Path, device: Device) -> Field:
    field = Field(folder, device, Pack(device, folder / "state"))
    (folder / "hwmon").mkdir()
    field.case(False)
    for name in KeyName:
        device.tpm.create_key(name)
    field.pack.make()
    shutil.copytree(field.state, folder / "before the log")
    field.guard().enrolled("vehicle PACK-1", FACTORY)
    field.guard().sense()
    field.pack.put("pairing", SECRET)
    shutil.copytree(field.state, folder / "sound")
    return field


@pytest.fixture(scope="module")
def made(made_tpm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("field")
    shutil.copytree(made_tpm, folder / "tpm")
    field = make(folder, SwtpmDevice(folder / "tpm"))
    field.tpm.shutdown()
    field.off()
    return folder


def started(folder: Path) -> Field:
    device = SwtpmDevice(folder / "tpm")
    device.tpm.pcr_extend(8, FIRST)
    return Field(folder, device, Pack(device, folder / "state"))


@pytest.fixture(params=["swtpm", "memory"])
def field(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Field]:
    if request.param == "memory":
        found = make(tmp_path, MemoryDevice())
    else:
        shutil.copytree(request.getfixturevalue("made"), tmp_path / "field")
        found = started(tmp_path / "field")
    yield found
    found.off()


def nothing_is_left(field: Field) -> None:
    """After a zeroisation, by whoever asks."""
    assert field.guard().state is State.ZEROISED
    for name in KeyName:
        assert field.tpm.key(name) is None
    with refused(Unavailable, Code.TPM_MISSING):
        field.tpm.sign(bytes(32))
    assert not (field.state / "vault/values").exists()
    assert not list((field.state / "vault").glob("policies/*"))
    with refused(PolicyRefused, Code.TAMPER_ZEROISED), opened(field.vault()):
        pass


# --- zeroised


def test_an_opened_case_leaves_no_key(field: Field) -> None:
    field.case(True)
    field.guard().sense()
    nothing_is_left(field)
    events = [entry.what for entry in field.guard().log]
    assert events == [Step.ENROLLED, Event.CASE, Step.ERASED]
    field.start()
    field.guard().sense()
    assert [entry.what for entry in field.guard().log] == events  # once, however often it is seen


def test_no_key_byte_is_in_any_file(made: Path, tmp_path: Path) -> None:
    """Not even in swtpm's own state, which is plain: before, the private keys are in it."""
    shutil.copytree(made, tmp_path / "field")
    field = started(tmp_path / "field")
    points = [decode_public(field.tpm.key(name) or b"").unique for name in KeyName]
    with opened(field.vault()) as vault:
        vault_key, sealed = bytes(vault._key), vault.content.sealed
    field.off()
    images = files(field.folder / "tpm/made/nv", field.state)
    assert [len(scalars(images, point)) for point in points] == [1, 1]
    assert sealed in images

    field = started(field.folder)
    secrets = [scalar for point in points for scalar in scalars(images, point)]
    field.case(True)
    field.guard().sense()
    field.off()
    after = files(field.folder / "tpm/made/nv", field.state)
    for gone in (*secrets, *points, vault_key, sealed, SECRET):
        assert gone not in after


def files(*folders: Path) -> bytes:
    return b"\n".join(path.read_bytes() for f in folders for path in sorted(f.rglob("*")) if path.is_file())


def scalars(image: bytes, point: bytes) -> list[bytes]:
    """Private keys of this public one, wherever they lie."""
    found = set()
    for at in range(len(image) - 31):
        piece = image[at : at + 32]
        if len(set(piece)) < 16:
            continue  # no key of chance
        with suppress(ValueError):
            key = ec.derive_private_key(int.from_bytes(piece), ec.SECP256R1()).public_key()
            if key.public_numbers().x.to_bytes(32) == point[:32]:
                found.add(piece)
    return sorted(found)


class Cut(Exception):
    """The power went."""


class Counting:
    """A port of whose effects the n-th never happens."""

    ON_TPM = ("define_chain", "extend_chain", "define_counter", "increment", "clear")
    EFFECTS = (*ON_TPM, "remove_key", "remove_counter", "write", "delete")

    def __init__(self, inner: object, count: list[int]) -> None:
        self._inner = inner
        self._count = count

    def __getattr__(self, name: str) -> object:
        attribute = getattr(self._inner, name)
        if name not in self.EFFECTS:
            return attribute

        def effect(*arguments: object, **named: object) -> object:
            self._count[0] -= 1
            if self._count[0] < 0:
                raise Cut
            return attribute(*arguments, **named)

        return effect


def cut_guard(field: Field, number: int) -> Guard:
    count = [number]
    return field.guard(Counting(field.tpm, count), Counting(field.store, count))  # type: ignore[arg-type]


@pytest.mark.parametrize("clear_is_refused", [False, True])
def test_a_cut_at_each_step_is_gone_on_with(tmp_path: Path, clear_is_refused: bool) -> None:
    """Wherever it was cut, and cut again while it is finished."""
    for number in range(100):
        folder = tmp_path / str(number)
        folder.mkdir()
        field = make(folder, MemoryDevice())
        if clear_is_refused:
            field.tpm.set_lockout_auth(b"the maker's")
        field.case(True)
        try:
            cut_guard(field, number).sense()
            break
        except Cut:
            field.start()
        with suppress(Cut):
            cut_guard(field, number // 2).settle()
        field.start()
        field.guard().settle()
        if field.guard().state is State.SOUND:  # nothing was durable yet: the case is open still
            field.guard().sense()
        nothing_is_left(field)
        log = field.guard().log
        assert [e.what for e in log][:2] == [Step.ENROLLED, Event.CASE]
        assert ("refused" in log[-1].detail) == clear_is_refused
    assert number > (10 if clear_is_refused else 5)


Arms = Callable[[Field, Callable[..., object]], None]
KILLS: dict[str, Arms] = {
    "before the log": lambda field, cut: setattr(Path, "replace", cut),
    "before the chain": lambda field, cut: setattr(field.tpm, "extend_chain", cut),
    "before the mark": lambda field, cut: for_the_mark(field, "define_counter", cut),
    "before TPM2_Clear": lambda field, cut: setattr(field.tpm, "clear", cut),
    "before the files": lambda field, cut: setattr(DirectoryStore, "delete", cut),
    "before its end": lambda field, cut: for_the_mark(field, "remove_counter", cut),
}


def for_the_mark(field: Field, name: str, cut: Callable[..., object]) -> None:
    original = getattr(field.tpm, name)
    setattr(field.tpm, name, lambda index: cut() if index == ZEROISE_MARK else original(index))


@pytest.mark.parametrize("step", KILLS)
def test_a_kill_at_each_step_is_gone_on_with(made: Path, tmp_path: Path, step: str) -> None:
    """The process and its TPM, in the middle; and a state directory of before, put back behind it."""
    shutil.copytree(made, tmp_path / "field")
    child = os.fork()
    if child == 0:
        try:
            killed(started(tmp_path / "field"), step)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it did not come that far"
    assert os.WTERMSIG(status) == signal.SIGKILL

    shutil.copytree(tmp_path / "field", tmp_path / "put back")
    again = started(tmp_path / "put back")
    again.restore(again.folder / "sound")
    again.case(False)  # and closed in time
    again.guard().settle()
    if step in ("before the log", "before the chain"):  # nothing that lasts was decided
        assert again.guard().state in (State.SOUND, State.LOCKED)
    else:
        with pytest.raises(CellwardError), opened(again.vault()):
            pass
        assert again.guard().state is not State.SOUND
    again.off()

    field = started(tmp_path / "field")
    field.guard().sense()
    nothing_is_left(field)
    field.off()


def killed(field: Field, step: str) -> None:
    assert isinstance(field.device, SwtpmDevice)
    swtpm = field.device.running.process.pid

    def power_cut(*_: object, **__: object) -> None:
        os.kill(swtpm, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    field.case(True)
    field.guard().alarms()  # what it defines is there
    KILLS[step](field, power_cut)
    field.guard().sense()


def test_old_state_directories_open_nothing(field: Field) -> None:
    field.case(True)
    field.guard().sense()
    field.case(False)
    for name in ("sound", "before the log"):
        field.restore(field.folder / name)
        field.start()
        field.guard().sense()
        for key in KeyName:
            assert field.tpm.key(key) is None
        with pytest.raises(Refused) as error, opened(field.vault()):
            pass
        assert error.value.code in (Code.TAMPER_ZEROISED, Code.TAMPER_LOCKED, Code.TPM_BLOB)


def test_without_room_in_the_tpm_it_is_zeroised_all_the_same(field: Field) -> None:
    original = field.tpm.define_counter

    def full(index: int) -> int:
        if index == ZEROISE_MARK:
            raise Unavailable(Code.TPM_FAILED, "NV space")
        return original(index)

    field.tpm.define_counter = full  # type: ignore[method-assign]
    field.case(True)
    field.guard().sense()
    nothing_is_left(field)


def test_where_clear_is_refused_the_rest_is_done_and_said(field: Field) -> None:
    field.tpm.set_lockout_auth(b"the maker's")
    old = field.folder / "sound"
    field.case(True)
    field.guard().sense()
    nothing_is_left(field)
    assert "refused" in field.guard().log[-1].detail
    for index in (RELEASE_COUNTER, VAULT_COUNTER):  # no policy of before is satisfied
        with refused(Unavailable, Code.TPM_MISSING):
            field.tpm.counter(index)
    for index in (VAULT_CHAIN, MAKER_CHAIN, TAMPER_CHAIN):
        with refused(Unavailable, Code.TPM_MISSING):
            field.tpm.chain(index)
    field.start()
    field.guard().settle()  # the TPM takes no authorisation by now: nothing is tried again
    nothing_is_left(field)
    field.restore(old)
    with pytest.raises(CellwardError), opened(field.vault()):
        pass


def test_a_log_that_is_gone_saves_no_zeroisation(field: Field) -> None:
    """The mark is in the TPM."""
    field.tpm.define_counter(ZEROISE_MARK)
    shutil.rmtree(field.state / "tamper")
    assert field.guard().state is State.ZEROISING
    with refused(PolicyRefused, Code.TAMPER_ZEROISED), opened(field.vault()):
        pass
    field.guard().settle()
    nothing_is_left(field)


def test_another_tpm_is_not_cleared(field: Field) -> None:
    """Whoever forgets to name the right one must not lose a vault by it."""
    field.guard().settle()
    other = MemoryDevice().tpm
    other.create_key(KeyName.IDENTITY)
    guard = field.guard(other)
    guard.sense()
    assert guard.state is State.ZEROISED
    assert other.key(KeyName.IDENTITY) is not None
    assert (field.state / "vault/values").exists()
    with refused(PolicyRefused, Code.TAMPER_ZEROISED), opened(place(other, field.store)):
        pass


def test_another_tpm_is_not_cleared_for_a_zeroisation_that_was_cut(field: Field) -> None:
    """The files go; the right TPM is cleared when it is there again."""

    def cut(lockout_auth: bytes = b"") -> None:
        raise Cut

    clear, field.tpm.clear = field.tpm.clear, cut  # type: ignore[method-assign]
    field.case(True)
    with pytest.raises(Cut):
        field.guard().sense()
    field.tpm.clear = clear  # type: ignore[method-assign]
    other = MemoryDevice().tpm
    other.create_key(KeyName.IDENTITY)
    field.guard(other).settle()
    assert other.key(KeyName.IDENTITY) is not None
    assert not (field.state / "vault/values").exists()
    field.start()
    field.guard().settle()
    nothing_is_left(field)


def test_a_mark_without_any_log_is_enough(field: Field) -> None:
    """Where TPM2_Clear is refused, the chain goes before the mark: cut there, and a directory put back from
    before the log."""
    field.tpm.define_counter(ZEROISE_MARK)
    field.tpm.remove_counter(TAMPER_CHAIN)
    field.restore(field.folder / "before the log")
    field.guard().settle()
    nothing_is_left(field)


# --- locked


def lock(field: Field) -> None:
    field.guard().happened(LOCKS)
    locked(field)


def locked(field: Field) -> None:
    assert field.guard().state is State.LOCKED
    with refused(PolicyRefused, Code.TAMPER_LOCKED), opened(field.vault()):
        pass


def test_a_locked_pack_opens_no_vault_until_the_maker_enrols_it(field: Field) -> None:
    lock(field)
    field.start()
    field.guard().sense()
    locked(field)
    field.guard().enrolled("vehicle PACK-1", FACTORY)
    assert field.guard().state is State.SOUND
    assert field.pack.read("pairing") == SECRET
    assert field.guard().noticed() is None
    field.guard().happened(LOCKS)  # the same again is another event now
    locked(field)


def test_no_other_maker_lifts_a_lock(field: Field) -> None:
    """Nor with the log and everything else of the state directory away: the TPM knows whose it is."""
    lock(field)
    for name in ("", "before the log"):
        if name:
            field.restore(field.folder / name)
            field.guard().settle()
        for other in (b"", b"mine"):
            with refused(PolicyRefused, Code.TAMPER_LOCKED):
                field.guard().check_maker(other)
            with refused(PolicyRefused, Code.TAMPER_LOCKED):
                field.guard().enrolled("mine now", other)
            locked(field)
    field.guard().check_maker(FACTORY)
    field.guard().enrolled("vehicle PACK-1", FACTORY)
    assert field.guard().state is State.SOUND


def test_a_sound_pack_may_get_other_factory_data(field: Field) -> None:
    field.guard().enrolled("vehicle PACK-1", b"newer")
    lock(field)
    with refused(PolicyRefused, Code.TAMPER_LOCKED):
        field.guard().check_maker(FACTORY)
    field.guard().check_maker(b"newer")


def test_an_old_log_or_none_stays_locked(field: Field) -> None:
    lock(field)
    shutil.copytree(field.state, field.folder / "locked")
    for name in ("sound", "before the log"):
        field.restore(field.folder / name)
        locked(field)
        field.guard().sense()
        locked(field)
        assert field.guard().log[0].what is Event.LOG
        field.restore(field.folder / "locked")
        field.guard().sense()  # nor is the right one believed again
        locked(field)


def test_no_edit_lifts_a_lock(field: Field) -> None:
    lock(field)
    data = (field.state / LOG).read_bytes()
    lines, last = data.splitlines(keepends=True), field.guard().log[-1]
    forged = Entry(last.after, last.time, Step.ENROLLED, "pack controller").encode()
    softer = data.replace(b'"response":"lock"', b'"response":"log"')
    first = Entry(bytes.fromhex(last.before.hex()), last.time, Event.LOG, LOG, "", Response.LOCK).encode()
    for other in (data + forged, lines[0], lines[0] + forged, softer, b"", b"{}\n", data[:-1], first, forged):
        assert other != data
        (field.state / LOG).write_bytes(other)
        locked(field)
        field.guard().sense()
        locked(field)
    assert (field.state / LOST).read_bytes()


def test_a_lift_that_was_cut_is_none(tmp_path: Path) -> None:
    field = make(tmp_path, MemoryDevice())
    lock(field)
    for number in range(100):
        try:
            cut_guard(field, number).enrolled("vehicle PACK-1", FACTORY)
            break
        except Cut:
            field.start()
        lifted = field.guard().state
        field.guard().sense()
        assert field.guard().state is lifted
        if lifted is State.SOUND:  # the chain has it, or all of it
            assert field.guard().log[-1].what is Step.ENROLLED
            lock(field)
    assert number > 2
    assert field.guard().state is State.SOUND


def test_an_enrolment_behind_a_zeroisation_that_was_cut(tmp_path: Path) -> None:
    for number in range(100):
        folder = tmp_path / str(number)
        folder.mkdir()
        field = make(folder, MemoryDevice())
        field.case(True)
        field.guard().sense()
        field.case(False)
        try:
            cut_guard(field, number).enrolled("vehicle PACK-1", FACTORY)
            break
        except Cut:
            field.start()
        field.guard().settle()
        assert field.guard().state in (State.ZEROISED, State.SOUND)
        if field.guard().state is State.ZEROISED:
            field.guard().happened(LOCKS)
            assert field.guard().state is State.ZEROISED
            field.guard().enrolled("vehicle PACK-1", FACTORY)
        assert field.guard().state is State.SOUND
        assert [e.what for e in field.guard().log][:3] == [Step.ENROLLED, Event.CASE, Step.ERASED]
    assert number > 2


# --- what is noticed


def test_a_tpm_that_went_back_locks(made: Path, tmp_path: Path) -> None:
    """swtpm's state of yesterday, put back: its starts are fewer than the log remembers."""
    shutil.copytree(made, tmp_path / "field")
    shutil.copytree(made / "tpm", tmp_path / "yesterday")
    for _ in range(2):
        field = started(tmp_path / "field")
        field.guard().sense()
        assert field.guard().state is State.SOUND
        field.off()
    shutil.rmtree(tmp_path / "field/tpm")
    shutil.copytree(tmp_path / "yesterday", tmp_path / "field/tpm")
    field = started(tmp_path / "field")
    field.guard().sense()
    locked(field)
    assert field.guard().log[-1].what is Event.CLOCK
    field.off()


def test_power_cuts_are_no_rollback(field: Field) -> None:
    for _ in range(5):
        field.start()
        field.guard().sense()
    assert field.guard().state is State.SOUND
    (field.state / CLOCK).write_bytes(b"not a number")
    field.guard().sense()
    assert field.guard().state is State.SOUND


def test_guessing_is_an_event(field: Field) -> None:
    attempts = Attempts(field.tpm, field.store)
    strict = Guard(field.tpm, field.store, Policy({**RESPONSES, Event.GUESSING: Response.LOCK}, (), 3))
    for _ in range(3):
        strict.sense()
        assert strict.state is State.SOUND
        with suppress(TrustRefused), attempts.charged("test"):
            raise TrustRefused(Code.DOCUMENT_SIGNATURE, "test")
    strict.sense()
    locked(field)
    strict.enrolled("vehicle PACK-1", FACTORY)
    strict.sense()
    assert strict.state is State.SOUND


def test_an_alarm_that_goes_on_keeps_the_maker_from_spending_a_token(field: Field) -> None:
    field.guard().check_quiet()
    field.case(True)
    with refused(PolicyRefused, Code.TAMPER_ALARM):
        field.guard().check_quiet()


def test_what_is_only_logged_locks_nothing_and_is_told(field: Field) -> None:
    field.guard().happened(Alarm(Event.TIME, "time attestation", "yesterday"))
    field.guard().happened(Alarm(Event.TIME, "time attestation", "the day before"))
    assert field.guard().state is State.SOUND
    told = field.guard().noticed()
    assert told is not None
    assert told.code is Code.TAMPER_ALARM
    assert "yesterday" in told.found
    assert len(field.guard().log) == 2
    assert field.pack.read("pairing") == SECRET


def test_any_words_can_be_logged(field: Field) -> None:
    for number, subject in enumerate(["\udcff", "e\u0301", "\n", "x" * 1000, "\0", ""]):
        field.guard().happened(Alarm(Event.SENSOR, subject))
        assert len(field.guard().log) == number + 2
    field.start()
    field.guard().sense()
    assert field.guard().state is State.SOUND
    assert field.tpm.chain(TAMPER_CHAIN) == field.guard().log[-1].after
