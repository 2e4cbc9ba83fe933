"""Vaults of pack controllers, and the maker's policies for them."""

from dataclasses import dataclass
from pathlib import Path

from cellward.adapters.files import DirectoryStore
from cellward.adapters.lockedmemory import LockedMemory
from cellward.core.tpm import pcr
from cellward.core.tpm.approval import Approval, Terms
from cellward.core.tpm.pcr import PcrValues
from cellward.device.vault import FILE, Place, create, opened
from cellward.ports.store import Store
from cellward.ports.tpm import RELEASE_COUNTER, Tpm, counter_area
from tests.support.maker import Hand
from tests.support.packtpm import Device

MAKER = Hand()
FIRST, SECOND = bytes(range(32)), b"\x5a" * 32  # what two releases measure


def policy(measured: bytes, counter: int, hand: Hand = MAKER, pcr_index: int = 8) -> bytes:
    values = PcrValues({pcr_index: pcr.extend(pcr.RESET_VALUE, measured)})
    terms = Terms(values, counter)
    key = hand.public_key
    return Approval(terms, key.fingerprint, hand.sign(terms.to_sign(counter_area(RELEASE_COUNTER)))).encode()


def place(tpm: Tpm, store: Store) -> Place:
    return Place(tpm, store, LockedMemory())


@dataclass
class Pack:
    """A controller: its TPM, and its state directory."""

    device: Device
    state: Path

    def start(self, measured: bytes = FIRST) -> None:
        self.device.restart()
        self.device.tpm.pcr_extend(8, measured)

    @property
    def place(self) -> Place:
        return place(self.device.tpm, DirectoryStore(self.state, 0o600))

    @property
    def file(self) -> bytes:
        return (self.state / FILE).read_bytes()

    def restore(self, data: bytes) -> None:
        (self.state / FILE).write_bytes(data)

    def make(self) -> None:
        """A vault of release 1, started."""
        self.start()
        self.release = self.device.tpm.define_counter(RELEASE_COUNTER)
        create(self.place, MAKER.public_key, policy(FIRST, self.release))

    def read(self, name: str) -> bytes:
        with opened(self.place) as vault, vault.get(name) as view:
            return bytes(view)

    def put(self, name: str, value: bytes, *, exportable: bool = False) -> None:
        with opened(self.place) as vault:
            vault.put(name, value, exportable=exportable)

    def names(self) -> list[str]:
        with opened(self.place) as vault:
            return [value.name for value in vault.content.values]
