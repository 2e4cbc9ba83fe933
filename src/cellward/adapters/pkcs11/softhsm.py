"""The embedded default: a SoftHSM2 token of our own in the data directory.

It is no hardware: whoever reads the directory and the PIN has the keys (docs/limitations.md). Its
configuration is private to this process, so a SoftHSM that the user has is neither seen nor changed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cellward.adapters.pkcs11.lane import LANE, Module, failed, unreadable
from cellward.adapters.pkcs11.modules import ROOTS
from cellward.adapters.pkcs11.objectfile import make_whole, stored_whole
from cellward.adapters.pkcs11.pin import Pin, read_pin
from cellward.adapters.pkcs11.vendor import ck, pkcs11
from cellward.core.errors import Code, FormatRefused, Unavailable

LABEL = "cellward"
_ROOTS = ROOTS

_NAMES = ("softhsm/libsofthsm2.so", "pkcs11/libsofthsm2.so", "*-linux-*/softhsm/libsofthsm2.so")


@dataclass(frozen=True)
class SoftHsm:
    """Where the embedded token lies. `write` replaces a file atomically: path, bytes, mode."""

    tokens: Path
    config: Path
    pin: Path
    write: Callable[[Path, bytes, int], None]

    def module(self) -> Module:
        """The library for a token that exists.

        Raises Unavailable (token.absent) when there is none yet, or no SoftHSM.
        """
        if not self.tokens.is_dir():
            raise Unavailable(
                Code.TOKEN_ABSENT,
                f"token {LABEL}",
                expected=f"a token in {self.tokens}",
                found="none",
                advice="make it with `cellward keys init`, or name the data directory with --data",
            )
        return self._module(self.tokens, self.config)

    def create(self, pin: Pin) -> Module:
        """Make the token unless it is there; a cut leaves all of it or nothing. `pin` is its PIN to be."""
        if self.tokens.is_dir():
            return self.module()
        try:
            self.tokens.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise unreadable(self.tokens.parent, error) from error
        with LANE.lock, LANE.exclusive(self._lock):
            if not self.tokens.is_dir():
                self._create(pin)
        return self.module()

    def read_pin(self) -> str:
        return read_pin(self.pin, private=True)

    def make_pin(self) -> str:
        """24 digits, 80 bits: the key that SoftHSM derives from it can be guessed offline."""
        import secrets

        if not self.pin.exists():
            self.write(self.pin, f"{secrets.randbelow(10**24):024}\n".encode(), 0o600)
        return self.read_pin()

    def _create(self, pin: Pin) -> None:
        import shutil

        new = self.tokens.with_suffix(".new")
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(mode=0o700)
            module = self._module(new, self.config.with_suffix(".new"))
            _initialise(module, pin())
            LANE.stop(module)
            new.rename(self.tokens)
        except OSError as error:
            raise unreadable(new, error) from error
        except ck.PKCS11Error as error:
            raise failed(error, f"token {LABEL}") from error
        finally:
            self.config.with_suffix(".new").unlink(missing_ok=True)
            shutil.rmtree(new, ignore_errors=True)

    @property
    def _lock(self) -> str:
        return str(self.tokens.with_suffix(".lock").absolute())

    def _module(self, tokens: Path, config: Path) -> Module:
        """The library with its configuration written, where that is not what it already says."""
        tokens = tokens.absolute()
        if not str(tokens).isprintable():
            raise FormatRefused(
                Code.CONFIG, "data directory", expected="a printable path", found=repr(str(tokens))
            )
        text = f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n".encode()
        try:
            held = config.read_bytes() if config.is_file() else None
        except OSError as error:
            raise unreadable(config, error) from error
        if held != text:
            self.write(config, text, 0o600)
        return Module(
            library(),
            str(config.absolute()),
            self._lock,
            lambda: make_whole(tokens, self.write),
            lambda: stored_whole(tokens),
        )


def library() -> str:
    """SoftHSM's library: Debian's multiarch folders, Fedora's, and a local build.

    Raises Unavailable (token.absent).
    """
    for root in _ROOTS:
        for name in _NAMES:
            found = next(iter(sorted(Path(root).glob(name))), None)
            if found is not None:
                return str(found)
    raise Unavailable(
        Code.TOKEN_ABSENT,
        "SoftHSM",
        expected="libsofthsm2.so",
        found="none in " + ", ".join(_ROOTS),
        advice="install softhsm2, or name a PKCS#11 library in CELLWARD_PKCS11_MODULE",
    )


def _initialise(module: Module, pin: str) -> None:
    """C_InitToken, which python-pkcs11 lacks, then the user's PIN.

    SoftHSM's own tool takes PINs in argv. The security officer's PIN is thrown away: nobody can
    set another user PIN or erase the token through its interface.
    """
    import ctypes
    import secrets

    officer = secrets.token_hex(16)
    slot = LANE.library(module).get_slots()[0]
    c = ctypes.CDLL(module.path)
    label = LABEL.encode().ljust(32)
    size = ctypes.c_ulong(len(officer))
    status = c.C_InitToken(ctypes.c_ulong(slot.slot_id), officer.encode(), size, label)
    if status:
        raise ck.FunctionFailed(f"C_InitToken 0x{status:x}")
    session: pkcs11.Session = slot.get_token().open(rw=True, so_pin=officer)
    session.init_pin(pin)
    session.close()
