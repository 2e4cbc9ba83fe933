"""PCRs of the SHA-256 bank: values, extension, selection, composite (Part 1, 17; Part 2, 10.9.7)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from cellward.core.errors import Code, FormatRefused
from cellward.core.tpm.numbers import DIGEST_SIZE, Alg
from cellward.core.wire import BigEndianReader, be16, be32

COUNT = 24
RESET_VALUE = bytes(DIGEST_SIZE)  # of PCRs 0 to 15 after a reset
_SELECT_SIZE = COUNT // 8


def extend(value: bytes, digest: bytes) -> bytes:
    """What a PCR holds after TPM2_PCR_Extend."""
    return hashlib.sha256(value + digest).digest()


@dataclass(frozen=True)
class PcrValues:
    """Some PCRs and what they hold. Raises FormatRefused (attest.format) for none, or no such PCR."""

    values: Mapping[int, bytes]

    def __post_init__(self) -> None:
        for index, value in self.values.items():
            if index not in range(COUNT) or len(value) != DIGEST_SIZE:
                _refuse(f"PCRs 0 to {COUNT - 1} with {DIGEST_SIZE} bytes", f"PCR {index}, {len(value)} bytes")
        if not self.values:
            _refuse("at least one PCR", "none")

    @property
    def selection(self) -> tuple[int, ...]:
        return tuple(sorted(self.values))

    @property
    def digest(self) -> bytes:
        """The composite, as TPM2_Quote and TPM2_PolicyPCR have it: by rising index, no index within."""
        return hashlib.sha256(b"".join(self.values[index] for index in self.selection)).digest()


def encode_selection(selection: tuple[int, ...]) -> bytes:
    """TPML_PCR_SELECTION with the one bank."""
    bits = sum(1 << index for index in selection)
    return be32(1) + be16(Alg.SHA256) + bytes([_SELECT_SIZE]) + bits.to_bytes(_SELECT_SIZE, "little")


def read_selection(reader: BigEndianReader) -> tuple[int, ...]:
    """Raises FormatRefused (wire.truncated, attest.format)."""
    count, bank, size = reader.u32(), reader.u16(), reader.u8()
    if (count, bank, size) != (1, Alg.SHA256, _SELECT_SIZE):
        _refuse("one selection of 24 PCRs, SHA-256", f"{count}, algorithm {bank:#06x}, {size} bytes")
    bits = int.from_bytes(reader.take(_SELECT_SIZE), "little")
    return tuple(index for index in range(COUNT) if bits >> index & 1)


def _refuse(expected: str, found: str) -> NoReturn:
    raise FormatRefused(Code.ATTEST_FORMAT, "PCR values", expected=expected, found=found)
