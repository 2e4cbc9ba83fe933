"""Boot records: what ROM and loader measured. Normative: docs/formats/boot-record.md.

The module makes them in firmware/boot/record.c; its app only forwards the pair.
"""

import hmac
from dataclasses import dataclass, field
from enum import IntEnum

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused, TrustRefused
from cellward.core.image import Version
from cellward.core.slots import BANKS, Lifecycle

MAGIC = b"CWBR"
SIZE = 88
MAC_SIZE = 32
PAIR_SIZE = 2 * SIZE


class Measurer(IntEnum):
    """Who measured; the ROM the loader, the loader the app."""

    ROM = 1
    LOADER = 2


@dataclass(frozen=True)
class BootRecord:
    """One record's fields. `digest` is SHA-256 over header, payload and protected TLVs."""

    by: Measurer
    lifecycle: Lifecycle
    bank: int
    boot_count: int
    counter: int
    version: Version
    digest: bytes

    def encode(self, key: bytes) -> bytes:
        body = b"".join(
            (
                MAGIC,
                bytes([self.by, list(Lifecycle).index(self.lifecycle), self.bank, 0]),
                wire.u32(self.boot_count),
                wire.u32(self.counter),
                self.version.encode(),
                self.digest,
            )
        )
        return body + hmac.digest(key, body, "sha256")


@dataclass(frozen=True)
class RecordKeys:
    """The two keys that the plant registered."""

    rom: bytes = field(repr=False)
    loader: bytes = field(repr=False)


@dataclass(frozen=True)
class MeasuredBoot:
    """One boot's verified pair. `data` is what the next verification compares with."""

    rom: BootRecord
    loader: BootRecord
    data: bytes = field(repr=False)

    @property
    def boot_count(self) -> int:
        return self.rom.boot_count


def decode(data: bytes) -> BootRecord:
    """A record's fields as they stand there: claims, until `verify`.

    Raises FormatRefused (boot.record).
    """
    if len(data) != SIZE:
        raise _malformed(f"{SIZE} bytes", f"{len(data)}")
    reader = wire.Reader(data, "boot record")
    if (magic := reader.take(len(MAGIC))) != MAGIC:
        raise _malformed(f"magic {MAGIC.hex()}", magic.hex())
    by, lifecycle, bank, reserved = reader.take(4)
    states = list(Lifecycle)
    if by not in list(Measurer) or lifecycle >= len(states) or bank >= len(BANKS) or reserved:
        raise _malformed("measurer, lifecycle and bank in their range", data[4:8].hex())
    return BootRecord(
        Measurer(by),
        states[lifecycle],
        bank,
        boot_count=reader.u32(),
        counter=reader.u32(),
        version=Version(reader.u8(), reader.u8(), reader.u16(), reader.u32()),
        digest=reader.take(32),
    )


def verify(data: bytes, keys: RecordKeys, last: MeasuredBoot | None) -> MeasuredBoot:
    """The pair (ROM's record, then the loader's) of a boot that is the last one seen or a later one.

    `last` is what this returned for the same module before, None for its first report. Raises
    TrustRefused (boot.record) for a MAC that is not the registered key's, a record of the other
    stage, a pair of two boots, a count that was seen already with other bytes or is below the last;
    FormatRefused (boot.record) for authentic bytes that are no record, or a wrong length.
    """
    if len(data) != PAIR_SIZE:
        raise _malformed(f"{PAIR_SIZE} bytes", f"{len(data)}")
    rom = _authentic(data[:SIZE], keys.rom, Measurer.ROM)
    loader = _authentic(data[SIZE:], keys.loader, Measurer.LOADER)
    if rom.boot_count != loader.boot_count:
        raise _untrusted("two records of one boot", f"counts {rom.boot_count} and {loader.boot_count}")
    if last is not None and data != last.data and rom.boot_count <= last.boot_count:
        raise _untrusted(f"a boot count above {last.boot_count}", f"{rom.boot_count}")
    return MeasuredBoot(rom, loader, data)


def _authentic(data: bytes, key: bytes, by: Measurer) -> BootRecord:
    subject = f"boot record of the {by.name.lower()}"
    body, mac = data[:-MAC_SIZE], data[-MAC_SIZE:]
    if not hmac.compare_digest(hmac.digest(key, body, "sha256"), mac):
        raise TrustRefused(
            Code.BOOT_RECORD, subject, expected="the registered key's MAC", found="another one"
        )
    record = decode(data)
    if record.by is not by:
        raise TrustRefused(Code.BOOT_RECORD, subject, expected=by.name.lower(), found=record.by.name.lower())
    return record


def _malformed(expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.BOOT_RECORD, "boot record", expected=expected, found=found)


def _untrusted(expected: str, found: str) -> TrustRefused:
    return TrustRefused(Code.BOOT_RECORD, "boot records", expected=expected, found=found)
