"""Guessing is slow: no cut, reset or old state directory saves a try or a wait."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellward.adapters.files import DirectoryStore
from cellward.core import attempts as delays
from cellward.core.errors import Code, PolicyRefused, Refused, TrustRefused
from cellward.device.attempts import LAST, Attempts
from cellward.ports.tpm import RELEASE_COUNTER, SETTLED_COUNTER, TRIED_COUNTER
from tests.support.packtpm import Device, MemoryDevice, SwtpmDevice, copy, refused


@pytest.fixture(params=["swtpm", "memory"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Device]:
    found: Device = MemoryDevice()
    if request.param == "swtpm":
        found = copy(request.getfixturevalue("made_tpm"), tmp_path / "tpm")
    yield found
    found.off()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def attempts(device: Device, state: Path) -> Attempts:
    return Attempts(device.tpm, DirectoryStore(state))


def fail(device: Device, state: Path) -> None:
    with refused(TrustRefused, Code.DOCUMENT_SIGNATURE), attempts(device, state).charged("test"):
        raise TrustRefused(Code.DOCUMENT_SIGNATURE, "test")


def too_soon(device: Device, state: Path) -> None:
    """Refused, and not judged."""
    before = attempts(device, state).failures
    with refused(PolicyRefused, Code.AUTH_DELAY), attempts(device, state).charged("test"):
        raise AssertionError("judged")
    assert attempts(device, state).failures == before


def exhausted(device: Device, state: Path) -> None:
    for _ in range(delays.FREE):
        fail(device, state)


def skip(device: Device, milliseconds: int) -> None:
    assert isinstance(device, MemoryDevice)
    device._memory.skipped += milliseconds


def test_three_are_free_and_the_fourth_waits(device: Device, state: Path) -> None:
    for number in range(delays.FREE):
        assert attempts(device, state).wait_ms() == 0
        fail(device, state)
        assert attempts(device, state).failures == number + 1
    assert 0 < attempts(device, state).wait_ms() <= delays.FIRST_MS
    too_soon(device, state)


def test_a_success_sets_back(device: Device, state: Path) -> None:
    for _ in range(delays.FREE - 1):
        fail(device, state)
    with attempts(device, state).charged("test"):
        pass
    assert attempts(device, state).failures == 0
    exhausted(device, state)
    assert attempts(device, state).failures == delays.FREE


@pytest.mark.parametrize("power", ["restart", "cut"])
def test_a_reset_begins_the_wait_anew(device: Device, state: Path, power: str) -> None:
    exhausted(device, state)
    for _ in range(3):
        getattr(device, power)()
        assert attempts(device, state).failures == delays.FREE
        assert attempts(device, state).wait_ms() > delays.FIRST_MS - 2_000
        too_soon(device, state)


def test_an_old_state_directory_forgets_nothing(device: Device, state: Path, tmp_path: Path) -> None:
    attempts(device, state).wait_ms()
    for number in range(delays.FREE):
        fail(device, state)
        shutil.copytree(state, tmp_path / f"old{number}")
    for number in range(delays.FREE):
        shutil.rmtree(state)
        shutil.copytree(tmp_path / f"old{number}", state)
        assert attempts(device, state).failures == delays.FREE
        too_soon(device, state)
    shutil.rmtree(state)
    too_soon(device, state)
    for damaged in (b"", b"{}", b"\xff" * 64):
        (state / LAST).write_bytes(damaged)
        too_soon(device, state)


def test_a_record_of_an_earlier_try_ends_no_wait(state: Path) -> None:
    """In one start: the old record is from when the wait would be over by now."""
    device = MemoryDevice()
    exhausted(device, state)
    old = (state / LAST).read_bytes()
    skip(device, delays.FIRST_MS)
    fail(device, state)
    skip(device, delays.FIRST_MS)
    (state / LAST).write_bytes(old)
    assert attempts(device, state).wait_ms() == 2 * delays.FIRST_MS


def test_waiting_is_all_it_takes_and_each_failure_doubles_it(state: Path) -> None:
    device = MemoryDevice()
    exhausted(device, state)
    wait = delays.FIRST_MS
    for _ in range(12):
        skip(device, wait - 1000)
        too_soon(device, state)
        skip(device, 1000)
        fail(device, state)
        wait = min(2 * wait, delays.CAP_MS)
    assert wait == delays.CAP_MS
    skip(device, wait)
    with attempts(device, state).charged("test"):
        pass
    assert attempts(device, state).wait_ms() == 0


def test_a_try_is_charged_before_it_is_judged(device: Device, state: Path) -> None:
    before = attempts(device, state).failures
    with attempts(device, state).charged("test"):
        assert attempts(device, state).failures == before + 1


def test_a_cut_while_it_is_judged_saves_no_try(made_tpm: Path, tmp_path: Path, state: Path) -> None:
    """The process and its TPM are killed in the middle of the verification."""
    shutil.copytree(made_tpm, tmp_path / "tpm")
    for number in range(1, delays.FREE + 1):
        child = os.fork()
        if child == 0:
            try:
                device = SwtpmDevice(tmp_path / "tpm")
                with attempts(device, state).charged("test"):
                    os.kill(device.running.process.pid, signal.SIGKILL)
                    os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        started = SwtpmDevice(tmp_path / "tpm")
        assert attempts(started, state).failures == number
        started.off()
    started = SwtpmDevice(tmp_path / "tpm")
    too_soon(started, state)
    started.off()


def test_a_cut_while_it_is_forgiven_forgives_no_more(state: Path) -> None:
    device = MemoryDevice()
    for _ in range(delays.FREE - 1):
        fail(device, state)
    increment = device._memory.increment
    raised: list[int] = []

    def cut(index: int) -> None:
        if index == SETTLED_COUNTER and raised:
            raise Refused(Code.POWER_CUT, "test")
        raised.extend([index] if index == SETTLED_COUNTER else [])
        increment(index)

    device._memory.increment = cut  # type: ignore[method-assign]
    with refused(Refused, Code.POWER_CUT), attempts(device, state).charged("test"):
        pass
    assert attempts(device, state).failures == delays.FREE - 1
    device._memory.increment = increment  # type: ignore[method-assign]
    with attempts(device, state).charged("test"):
        pass
    assert attempts(device, state).failures == 0


def test_the_fleet_s_release_counter_is_made_first(device: Device, state: Path) -> None:
    """A vault that is made later opens by policies from release 1 on."""
    fail(device, state)
    assert device.tpm.counter(RELEASE_COUNTER) == 1
    assert device.tpm.counter(TRIED_COUNTER) == device.tpm.counter(SETTLED_COUNTER) + 1
