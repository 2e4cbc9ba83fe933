"""The vault of a fake module's app and ROM, as docs/formats/vault.md has it."""

from typing import TYPE_CHECKING

from cellward.core import wire
from cellward.core.errors import Code, Refused
from cellward.core.slots import (
    DATA_PAGE_SIZE,
    OTP_VAULT_CALIBRATION,
    OTP_VAULT_KEYS,
    DataPage,
    Lifecycle,
    whole_phrases,
)
from cellward.core.vault import MAX_VALUE, Block, Name, decode_calibration, encode, open_page, open_pages

if TYPE_CHECKING:
    from tests.fakes.module import FakeModule

WRITE_SIZES = range(9, 8 + MAX_VALUE + 1)
READ_SIZES = range(4, 5)
FUSES = {Name.CALIBRATION: OTP_VAULT_CALIBRATION, Name.KEYS: OTP_VAULT_KEYS}
FIRST = {Name.CALIBRATION: DataPage.VAULT_CALIBRATION, Name.KEYS: DataPage.VAULT_KEYS}


class FakeVault:
    """A refused request is returned as its Code, anything else as the answer's payload."""

    def __init__(self, module: "FakeModule") -> None:
        self._module = module
        self._writes = 0

    def write(self, payload: bytes, vault_key: bytes) -> bytes | Code:
        name, version, value = payload[0], int.from_bytes(payload[4:8], "little"), payload[8:]
        if name not in list(Name) or any(payload[1:4]):
            return Code.LINK_FRAME
        if name == Name.CALIBRATION:
            try:
                decode_calibration(value)
            except Refused:
                return Code.LINK_FRAME
        if self._module.status().lifecycle is not Lifecycle.PROVISIONED:
            return Code.LIFECYCLE_CLOSED
        return self._store(Name(name), vault_key, version, value)

    def _store(self, name: Name, vault_key: bytes, version: int, value: bytes) -> bytes | Code:
        committed, page = self._committed(name), 0
        try:
            held = open_pages(name, vault_key, self._pages(name), committed)
        except Refused:
            held = None
        if held is not None:
            if held.counter != committed:
                return Code.LINK_STATE
            page = 1 - self._page_of(name, vault_key, held)
        self._writes += 1
        nonce = self._writes.to_bytes(16, "big")
        at = (FIRST[name].value + page) * DATA_PAGE_SIZE
        block = encode(name, vault_key, Block(version, committed + 1, value), nonce)
        self._module.erase_data(at)
        self._module.program_data(at, whole_phrases(block))
        return b""

    def read(self, payload: bytes, vault_key: bytes) -> bytes | Code:
        if payload[0] not in list(Name) or any(payload[1:4]):
            return Code.LINK_FRAME
        if payload[0] != Name.CALIBRATION:
            return Code.VAULT_SEAL
        name = Name.CALIBRATION
        try:
            held = open_pages(name, vault_key, self._pages(name), self._committed(name))
        except Refused as error:
            return error.code
        return wire.u32(held.version) + wire.u32(held.counter) + held.value

    def commit(self, vault_key: bytes) -> None:
        """The ROM's part, at a boot."""
        for name, fuse in FUSES.items():
            try:
                held = open_pages(name, vault_key, self._pages(name), self._committed(name))
            except Refused:
                continue
            self._module.fuses[fuse.offset : fuse.offset + fuse.size] = ((1 << held.counter) - 1).to_bytes(
                fuse.size, "little"
            )

    def _committed(self, name: Name) -> int:
        fuse = FUSES[name]
        return int.from_bytes(self._module.fuses[fuse.offset : fuse.offset + fuse.size], "little").bit_count()

    def _pages(self, name: Name) -> list[bytes]:
        first = FIRST[name].value * DATA_PAGE_SIZE
        flash = self._module.data_flash
        return [bytes(flash[at : at + DATA_PAGE_SIZE]) for at in (first, first + DATA_PAGE_SIZE)]

    def _page_of(self, name: Name, vault_key: bytes, held: Block) -> int:
        try:
            return int(open_page(name, vault_key, self._pages(name)[0], self._committed(name)) != held)
        except Refused:
            return 1
