"""The device secret's way into its fuses, which nobody can read back: no power cut may lose it halfway.

The maker registers keys derived from the secret (docs/formats/boot-record.md), and the secret itself
is kept nowhere. A line that was cut in the middle of its fuses could then neither finish them nor know
what it has burned. So until they are whole, the secret exists in two halves of a one-time pad, each of
them as good as random alone:

::

    1  registration   the derived keys, and half A       synced to the plant's disk
    2  note           half B and its checksum            in the module's data flash, read back
    3  fuses          A xor B; bits are only ever added  the same secret, however often it is cut
    4  lifecycle PROVISIONED
    5  registration   without half A                     synced
    6  note           erased

A whole note is there before the first fuse and goes after the lifecycle says that all are burned.
So with the lifecycle blank, no note means no fuse, and a note means: this secret and no other. Whoever
has the plant's file *and* the module in between can compute the secret of a module that is not sold
yet; afterwards nobody can. A registration lost with the note still there, or later, loses the module:
its secret cannot be registered any more, and the line says so instead of burning over it (bits that
are only added would bring a secret, cut for cut, nearer to all ones).
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from cellward.core.errors import Code, ModuleRefused, PolicyRefused
from cellward.core.ladder import SECRET_SIZE, registered
from cellward.core.registration import Registration
from cellward.core.slots import (
    DATA_BANK_NAME,
    DATA_PAGE_SIZE,
    ERASED,
    DataPage,
)
from cellward.ports.module import BenchModule

NOTE_OFFSET = DataPage.PLANT.value * DATA_PAGE_SIZE
NOTE_SIZE = 2 * SECRET_SIZE


class Register(Protocol):
    """Where the plant keeps a module's registration."""

    def read(self) -> Registration | None: ...

    def write(self, registration: Registration) -> None:
        """Durable when it returns; what was there before is replaced whole or not at all."""
        ...


def prepare(
    module: BenchModule, blank: Registration, register: Register, random: Callable[[int], bytes]
) -> bytes:
    """Steps 1 and 2, or what is left of them, on a module whose lifecycle is blank: the secret to burn.

    `blank` describes the module; its keys are replaced. Raises PolicyRefused (module.state) where
    file and module are not of one line, and what register and module raise.
    """
    held, half = register.read(), _read_note(module)
    if held is not None:
        check_same(held, blank)
    if half:
        secret = _secret_of(held, half, blank)
    elif held is None or held.half:
        secret, half = random(SECRET_SIZE), random(SECRET_SIZE)
        register.write(replace(blank, keys=registered(secret), half=_xor(secret, half)))
        _write_note(module, half)
    else:
        raise _other_line(blank, "a registration that this line began", "one of a module that is finished")
    return secret


def finish(module: BenchModule, blank: Registration, register: Register) -> None:
    """Steps 5 and 6, on a module that is provisioned. Raises as `prepare`."""
    held = register.read()
    if held is None:
        raise _other_line(blank, "the registration its line began with", "none")
    check_same(held, blank)
    if held.half:
        register.write(replace(held, half=b""))
    note = module.read(DATA_BANK_NAME, NOTE_OFFSET, DATA_PAGE_SIZE)
    if set(note) != {ERASED}:
        module.power_on()
        module.erase_page(DATA_BANK_NAME, NOTE_OFFSET)


def check_same(held: Registration, blank: Registration) -> None:
    """Raises PolicyRefused (module.state) for the registration of another module or another order."""
    if replace(blank, keys=held.keys, half=held.half) != held:
        raise _other_line(
            blank,
            f"the registration of module {blank.serial} with these keys and images",
            f"one of module {held.serial}" + (" with others" if held.serial == blank.serial else ""),
        )


def _secret_of(held: Registration | None, half: bytes, blank: Registration) -> bytes:
    """The secret whose fuses this line has begun to burn."""
    if held is None or not held.half:
        raise _other_line(blank, "the registration its line began with", "none")
    secret = _xor(held.half, half)
    if registered(secret) != held.keys:
        raise _other_line(blank, "the registration its line began with", "another line's")
    return secret


def _read_note(module: BenchModule) -> bytes:
    """Half B; empty where no whole note is."""
    note = module.read(DATA_BANK_NAME, NOTE_OFFSET, NOTE_SIZE)
    half, checksum = note[:SECRET_SIZE], note[SECRET_SIZE:]
    return half if hashlib.sha256(half).digest() == checksum else b""


def _write_note(module: BenchModule, half: bytes) -> None:
    module.erase_page(DATA_BANK_NAME, NOTE_OFFSET)
    module.program(DATA_BANK_NAME, NOTE_OFFSET, half + hashlib.sha256(half).digest())
    if _read_note(module) != half:
        raise ModuleRefused(
            Code.FLASH_READBACK, "the plant's note", expected="what was written", found="other bytes"
        )


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def _other_line(blank: Registration, expected: str, found: str) -> PolicyRefused:
    return PolicyRefused(
        Code.MODULE_STATE,
        f"module {blank.serial}",
        expected=expected,
        found=found,
        advice="give the registration file of this very line; a module without one cannot be sold",
    )
