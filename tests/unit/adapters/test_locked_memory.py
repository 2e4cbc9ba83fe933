"""What the kernel says of memory for secrets, and what is left of it afterwards."""

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cellward.adapters.lockedmemory import LockedMemory, forbid_dumps, read_into
from cellward.core.errors import CellwardError, Code, Refused, Unavailable

MEMORY = LockedMemory()
NOBODY = 65534
PR_GET_DUMPABLE = 3


def flags(view: memoryview) -> list[str]:
    """VmFlags of the mapping that the view is in (proc(5), smaps)."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(part, 16) for part in first.split("-"))
            inside = start <= address < end
        elif inside and first == "VmFlags:":
            return line.split()[1:]
    raise AssertionError(hex(address))


@pytest.mark.parametrize("size", [1, 32, 4096, 65536])
def test_it_is_locked_and_not_dumped_and_not_inherited(size: int) -> None:
    with MEMORY.hold(size) as view:
        assert view.tobytes() == bytes(size)
        assert {"lo", "dd", "dc"} <= set(flags(view))


def test_a_view_that_somebody_keeps_is_of_zeros() -> None:
    with MEMORY.hold(32) as view:
        view[:] = b"s" * 32
        kept = view[4:]
    assert kept.tobytes() == bytes(28)
    with MEMORY.hold(32) as view:
        pass
    with pytest.raises(ValueError, match="released"):
        view[0]


def test_it_is_wiped_when_something_goes_wrong() -> None:
    def fail() -> memoryview:
        with MEMORY.hold(32) as view:
            view[:] = b"s" * 32
            kept.append(view[:])
            raise KeyError

    kept: list[memoryview] = []
    with pytest.raises(KeyError):
        fail()
    assert kept[0].tobytes() == bytes(32)


def test_random_bytes_fill_it() -> None:
    with MEMORY.hold(65536) as view, MEMORY.hold(65536) as other:
        for each in (view, other):
            MEMORY.randomise(each)
        assert view.tobytes() != other.tobytes()
        assert bytes(64) not in view.tobytes()


def child(what: Callable[[], object]) -> int:
    """The wait status of a process that does this."""
    pid = os.fork()
    if pid == 0:
        try:
            what()
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def test_without_the_right_to_lock_there_is_no_secret() -> None:
    def unprivileged() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        if os.getuid() == 0:
            os.setuid(NOBODY)
        try:
            with MEMORY.hold(32):
                os._exit(2)
        except Unavailable as refusal:
            os._exit(0 if refusal.code is Code.VAULT_MEMORY else 3)

    assert child(unprivileged) == 0


def test_a_process_with_secrets_leaves_no_core() -> None:
    def quits() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        forbid_dumps()
        dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
        if (dumpable, resource.getrlimit(resource.RLIMIT_CORE)) == (0, (0, 0)):
            signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a shell's background job ignores it
            os.kill(os.getpid(), signal.SIGQUIT)  # which dumps core

    status = child(quits)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGQUIT
    assert not os.WCOREDUMP(status)


def test_files_are_read_into_it(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"s" * 32)
    with MEMORY.hold(40) as view:
        assert read_into(file, view) == 32
        assert view[:33].tobytes() == b"s" * 32 + b"\0"
    with MEMORY.hold(32) as view:
        assert read_into(file, view) == 32
    with MEMORY.hold(31) as view:
        for path, kind, code in (
            (file, Refused, Code.REQUEST_TOO_LARGE),
            (tmp_path / "none", Unavailable, Code.STORAGE_MISSING),
            (tmp_path, Unavailable, Code.STORAGE_FAILED),
        ):
            with pytest.raises(kind, check=lambda error, code=code: code_is(error, code)):
                read_into(path, view)


def code_is(error: BaseException, code: Code) -> bool:
    return isinstance(error, CellwardError) and error.code is code
