"""The one lane into PKCS#11 libraries that a process has, and the words for what they refuse.

python-pkcs11 calls C_Initialize(NULL), so the library takes no locks, and releases the GIL: two
threads crash the process. Everything that touches a token therefore runs under `LANE.lock`. A process that
is forked off starts afresh: it would share its parent's connection to the token.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cellward.adapters.pkcs11.vendor import ck, pkcs11
from cellward.core.errors import CellwardError, Code, Unavailable

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Library  # noqa: N812  a class, for all its name

LOCK_TIMEOUT = 30.0


@dataclass(frozen=True)
class Module:
    """A PKCS#11 library. An embedded SoftHSM has its own `config`, and a `lock` among processes.

    SoftHSM rewrites a file of the token at every login, and another process that reads it at that
    moment fails: initialising and logging in happen under the lock, behind `check`, which raises what
    stands against it. `storing` is around the making of a key, and raises where it is not stored.
    """

    path: str
    config: str | None = None
    lock: str | None = None
    check: Callable[[], None] | None = field(default=None, compare=False)
    storing: Callable[[], AbstractContextManager[None]] = field(default=nullcontext, compare=False)


class Lane:
    """Which libraries are initialised, with what, and the session of each token.

    A token has one session: a second login would be refused. `generation` counts the restarts; a
    handle from an older one is dead.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.generation = 0
        self.sessions: dict[tuple[str, bytes, str], pkcs11.Session] = {}
        self._loaded: dict[str, Module | None] = {}
        self._exclusive: set[str] = set()

    def ready(self, module: Module) -> bool:
        return self._loaded.get(module.path) == module

    def library(self, module: Module) -> "Library":
        """The library, initialised for this module; another configuration of it is ended first."""
        if not self.ready(module):
            self.stop(module)
            if not Path(module.path).is_file():
                raise Unavailable(
                    Code.TOKEN_ABSENT,
                    f"PKCS#11 module {module.path}",
                    expected="a library",
                    found="no such file",
                    advice="install the token's software, or correct module-path or CELLWARD_PKCS11_MODULE",
                )
            if module.check is not None:
                module.check()
            try:
                with _environment("SOFTHSM2_CONF", module.config):
                    pkcs11.lib(module.path)
            except ck.PKCS11Error as error:
                raise failed(error, f"PKCS#11 module {module.path}") from error
            self._loaded[module.path] = module
        return pkcs11.lib(module.path)

    def stop(self, module: Module) -> None:
        """Finalise the library, if it is running: its sessions and handles are dead afterwards."""
        if module.path not in self._loaded:
            return
        del self._loaded[module.path]
        self.generation += 1
        self.sessions = {key: held for key, held in self.sessions.items() if key[0] != module.path}
        try:
            pkcs11.lib(module.path).finalize()
        except ck.PKCS11Error:
            # A library that is already down is what was wanted; python-pkcs11 has noted it too.
            return

    def forked(self) -> None:
        """In the child: no session counts, and each library is ended before it is used again."""
        self.generation += 1
        self.sessions = {}
        self._loaded = dict.fromkeys(self._loaded)
        self.lock.release()

    def give_up(self, module: Module, error: Exception) -> None:
        """After a failure nobody knows what state a session is in: the next call starts afresh."""
        from traceback import clear_frames

        # Searches that hang on the traceback end now, in the lane. Later they would end that of
        # another session with the same number.
        clear_frames(error.__traceback__)
        self.stop(module)

    @contextmanager
    def exclusive(self, path: str | None) -> Iterator[None]:
        """Alone among all processes that take this lock; re-entrant within this one."""
        if path is None or path in self._exclusive:
            yield
            return
        handle = _locked(path)
        self._exclusive.add(path)
        try:
            yield
        finally:
            self._exclusive.discard(path)
            os.close(handle)


LANE = Lane()
# No fork while another thread is inside a library.
os.register_at_fork(before=LANE.lock.acquire, after_in_parent=LANE.lock.release, after_in_child=LANE.forked)


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """SoftHSM reads its configuration's name from the environment, once, when it is initialised."""
    if value is None:
        yield
        return
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _locked(path: str) -> int:
    deadline = time.monotonic() + LOCK_TIMEOUT
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unreadable(path, error) from error
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not isinstance(error, BlockingIOError) or time.monotonic() > deadline:
                os.close(handle)
                raise unreadable(path, error) from error
            time.sleep(0.005)
        else:
            return handle


def unreadable(path: str | Path, error: OSError) -> Unavailable:
    """What the file system said about a file that a token needs."""
    return Unavailable(
        Code.TOKEN_FAILED, f"token store, {path}", found=error.strerror or type(error).__name__
    )


# The session or the object is gone, but the token may be back: worth one fresh start.
LOST = (
    ck.DeviceError,
    ck.DeviceRemoved,
    ck.KeyHandleInvalid,
    ck.ObjectHandleInvalid,
    ck.OperationActive,
    ck.OperationNotInitialized,
    ck.SessionClosed,
    ck.SessionHandleInvalid,
    ck.SlotIDInvalid,
    ck.TokenNotPresent,
    ck.UserNotLoggedIn,
)

_CODES: dict[Code, tuple[type[ck.PKCS11Error], ...]] = {
    Code.TOKEN_PIN_WRONG: (ck.PinIncorrect, ck.PinInvalid, ck.PinLenRange),
    Code.TOKEN_PIN_LOCKED: (ck.PinLocked, ck.PinExpired),
    Code.TOKEN_KEY_MISSING: (ck.NoSuchKey, ck.KeyHandleInvalid, ck.ObjectHandleInvalid),
    Code.TOKEN_ABSENT: (
        ck.DeviceRemoved,
        ck.NoSuchToken,
        ck.SlotIDInvalid,
        ck.TokenNotPresent,
        ck.TokenNotRecognised,
        ck.UserPinNotInitialized,
    ),
}
_SIDES: dict[Code, tuple[str, str]] = {
    Code.TOKEN_PIN_WRONG: ("the token's user PIN", "see CELLWARD_PIN, CELLWARD_PIN_FILE or pin-source"),
    Code.TOKEN_PIN_LOCKED: ("a usable user PIN", "the token's security officer must set a new one"),
    Code.TOKEN_KEY_MISSING: ("the key", "list the keys with `cellward keys list`"),
    Code.TOKEN_ABSENT: ("an initialised token", "insert it, or initialise it with its maker's tool"),
    Code.TOKEN_FAILED: ("an answer", "see the token's own log; an embedded token fails so on a full disk"),
}


def failed(error: ck.PKCS11Error, subject: str) -> CellwardError:
    """The library's exception as one of ours."""
    code = next((code for code, kinds in _CODES.items() if isinstance(error, kinds)), Code.TOKEN_FAILED)
    expected, advice = _SIDES[code]
    name = type(error).__name__
    found = f"{error}" if name == "PKCS11Error" and str(error) else name
    return Unavailable(code, subject, expected=expected, found=found, advice=advice)
