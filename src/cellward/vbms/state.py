"""A module's whole persistent state in one locked file: header, pack, fuses, tamper latch, flash.

::

    0x0000  header   magic 16 | version u32 | hardware 32 | serial 16 | SHA-256 of what stands before
    0x0200  pack     what the physical pack carries over (a Conditions and the charge)
    0x1000  fuses    OTP_SIZE bytes
    0x1800  latch    of the tamper sensors, LATCH_SIZE bytes
    0x2000  flash    bank a, bank b, data flash

Flash, fuses and latch are mapped, so each of their operations is in the page cache when it returns and
outlives this process, whatever kills it. They carry no checksum of ours: a bit that flipped in
flash is for the boot chain to find. The file is locked while it is open.
"""

import errno
import fcntl
import hashlib
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from cellward.core.errors import CellwardError, Code, FormatRefused, Refused, Unavailable
from cellward.core.slots import ERASED, HARDWARE, OTP_SERIAL, OTP_SIZE, Hardware
from cellward.ports.module import Conditions
from cellward.vbms.nor import flash_size
from cellward.vbms.pack import CAPACITY_UC, Pack
from cellward.vbms.sensors import LATCH_SIZE

MAGIC = b"CELLWARD-MODULE\0"
VERSION = 2
PACK_OFFSET = 0x200
OTP_OFFSET = 0x1000
LATCH_OFFSET = 0x1800
FLASH_OFFSET = 0x2000
HEADER = struct.Struct("<16sI32s16s")
CONDITIONS = struct.Struct("<iiii?????iiiii")
CHARGE = struct.Struct("<Q")


def file_size(hardware: Hardware) -> int:
    return FLASH_OFFSET + flash_size(hardware)


def create(path: Path, hardware: Hardware, serial: str) -> None:
    """A blank module: erased flash, no fuse burned, half charged.

    Raises Refused (storage.exists, config.invalid), Unavailable (storage.*).
    """
    name = serial.encode("ascii", "replace")
    if not 0 < len(name) <= OTP_SERIAL.size or not serial.isascii() or not serial.isprintable():
        raise Refused(
            Code.CONFIG,
            f"serial {serial!r}",
            expected=f"1 to {OTP_SERIAL.size} printable ASCII characters",
            found=f"{len(serial)}",
        )
    head = HEADER.pack(MAGIC, VERSION, hardware.name.encode(), name)
    head += hashlib.sha256(head).digest()
    blank = head.ljust(PACK_OFFSET, b"\0") + _encode_pack(Pack())
    content = blank.ljust(FLASH_OFFSET, b"\0") + bytes([ERASED]) * (file_size(hardware) - FLASH_OFFSET)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _storage(path):
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, refuses to replace
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Every OSError about the state file, as a refusal."""
    try:
        yield
    except OSError as error:
        raise _failure(path, error) from error


def _failure(path: Path, error: OSError) -> CellwardError:
    match error.errno:
        case errno.EEXIST:
            return Refused(
                Code.STORAGE_EXISTS, str(path), expected="a name that is free", found="a file of that name"
            )
        case errno.ENOENT:
            return Unavailable(
                Code.STORAGE_MISSING,
                str(path),
                expected="a module's state file",
                found="none",
                advice="`cellward module create` makes one",
            )
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return Unavailable(Code.STORAGE_FULL, str(path), found=os.strerror(error.errno or 0))
        case _:
            return Unavailable(Code.STORAGE_FAILED, str(path), found=error.strerror or type(error).__name__)


@dataclass(frozen=True)
class Label:
    """What is printed on the module: known before a fuse is burned."""

    hardware: Hardware
    serial: str


class StateFile:
    """An open, locked state file."""

    def __init__(self, path: Path) -> None:
        """Raises Unavailable (storage.*, module.busy), FormatRefused (module.state)."""
        self.path = path
        with _storage(path):
            self._file = path.open("r+b")
        try:
            self._lock()
            self.label = self._read_label()
            with _storage(path):
                self._map = mmap.mmap(self._file.fileno(), file_size(self.label.hardware))
        except CellwardError:
            self._file.close()
            raise
        self._view = memoryview(self._map)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(
                Code.MODULE_BUSY,
                str(self.path),
                expected="a module that no process runs",
                found="a lock on its state",
                advice="end that process, or talk to it through its socket",
            ) from error
        except OSError as error:
            raise _failure(self.path, error) from error

    def _read_label(self) -> Label:
        size = HEADER.size + hashlib.sha256().digest_size
        with _storage(self.path):
            head = self._file.read(size)
            length = os.fstat(self._file.fileno()).st_size
        if len(head) < size or not head.startswith(MAGIC):
            raise self._damaged("a module's state file", "another file, or a damaged one")
        magic_to_serial, digest = head[: HEADER.size], head[HEADER.size :]
        if hashlib.sha256(magic_to_serial).digest() != digest:
            raise self._damaged("a header that fits its checksum", "another")
        _, version, name, serial = HEADER.unpack(magic_to_serial)
        if version != VERSION:
            raise self._damaged(f"version {VERSION}", f"version {version}")
        hardware = HARDWARE.get(name.rstrip(b"\0").decode("ascii", "replace"))
        if hardware is None:
            raise self._damaged(f"hardware of {', '.join(HARDWARE)}", f"{name!r}")
        if length != file_size(hardware):
            raise self._damaged(f"{file_size(hardware)} bytes", f"{length}")
        return Label(hardware, serial.rstrip(b"\0").decode("ascii", "replace"))

    def _damaged(self, expected: str, found: str) -> FormatRefused:
        return FormatRefused(Code.MODULE_STATE, str(self.path), expected=expected, found=found)

    @property
    def flash(self) -> memoryview:
        return self._view[FLASH_OFFSET:]

    @property
    def fuses(self) -> memoryview:
        return self._view[OTP_OFFSET : OTP_OFFSET + OTP_SIZE]

    @property
    def latch(self) -> memoryview:
        return self._view[LATCH_OFFSET : LATCH_OFFSET + LATCH_SIZE]

    def load_pack(self) -> Pack:
        """The pack as it was left; values out of range are brought into it, like charge."""
        raw = self._view[PACK_OFFSET : PACK_OFFSET + CHARGE.size + CONDITIONS.size]
        (charge,) = CHARGE.unpack_from(raw)
        pack = Pack(min(charge, CAPACITY_UC))
        pack.conditions = Conditions(*CONDITIONS.unpack_from(raw, CHARGE.size))
        return pack

    def save_pack(self, pack: Pack) -> None:
        encoded = _encode_pack(pack)
        self._view[PACK_OFFSET : PACK_OFFSET + len(encoded)] = encoded

    def close(self) -> None:
        """Unlock. The mapping goes when the last view of it does; nobody may write through one now."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()


def _encode_pack(pack: Pack) -> bytes:
    return CHARGE.pack(pack.charge_uc) + CONDITIONS.pack(*astuple(pack.conditions))
