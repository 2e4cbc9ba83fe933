"""What of a module outlives a power cut, and what of it has changed since the scenario began."""

import hashlib
from collections.abc import Callable

from cellward.core.slots import BANKS, DATA_PAGE_SIZE, ERASED, OTP_DEVICE_SECRET, Stage
from cellward.lab.faults.hardware import PAGE, LoggedNor, extents
from cellward.lab.faults.scenarios import HARDWARE, Scenario, flash, fuses
from cellward.vbms.cut import Cuts

BOOT_COUNTS = range(len(BANKS) * HARDWARE.bank_size, len(BANKS) * HARDWARE.bank_size + 2 * DATA_PAGE_SIZE)
SECRET, SECRET_END = OTP_DEVICE_SECRET.offset, OTP_DEVICE_SECRET.offset + OTP_DEVICE_SECRET.size

# By its offset in the whole flash, what a page holds.
Pages = dict[int, bytes]


class Kept:
    """Flash and fuses of a scenario. `changed` is told the bank and offset of each page that was written.
    `extents`: what a core has to show of a bank, as Probe takes it; grows with pages that a fault writes."""

    def __init__(
        self, scenario: Scenario, seed: int, cuts: Cuts, changed: Callable[[int, int], None]
    ) -> None:
        self._flash, self._fuses = flash(scenario, seed), fuses(scenario, seed)
        self.flash, self.fuses = bytearray(self._flash), bytearray(self._fuses)
        self.nor = LoggedNor(memoryview(self.flash), cuts, changed)
        self.extents = extents(self._flash)
        self._extents_at_first = len(self.extents)

    def begin(self) -> None:
        """As the scenario begins."""
        self.flash[:], self.fuses[:] = self._flash, self._fuses
        self.nor.touched.clear()

    def extend(self, offset: int) -> None:
        """A page was written; where nothing was, it is to be shown from now on."""
        if not any(start <= offset < start + size for start, size in self.extents):
            self.extents.append((offset, PAGE))

    def shrink(self) -> None:
        del self.extents[self._extents_at_first :]

    def pages(self) -> Pages:
        """Those that are not as the scenario begins."""
        now = ((page, bytes(self.flash[page : page + PAGE])) for page in self.nor.touched)
        return {page: content for page, content in now if content != self._flash[page : page + PAGE]}

    def put_back(self, pages: Pages) -> set[int]:
        """As when they were these. Returns the pages that had to be written again."""
        if self.pages() == pages:
            return set()
        written = set(self.nor.touched)
        for page in written:
            self.flash[page : page + PAGE] = pages.get(page, self._flash[page : page + PAGE])
        self.nor.touched.intersection_update(pages)
        return written

    def replaced(self, bank: int, stage: Stage) -> bool:
        """The slot holds, to the byte, the good image that the other bank held at first."""
        slot = HARDWARE.slot(stage)
        size, start, end = HARDWARE.bank_size, slot.offset, slot.end
        now = self.flash[bank * size + start : bank * size + end]
        good = self._flash[(1 - bank) * size + start : (1 - bank) * size + end]
        return now == good and good.count(ERASED) < len(good)

    def digest(self, sources: int, *, counted: bool) -> bytes:
        """Of what differs from the scenario's beginning, with the tamper latch. Unless `counted`, without
        the boot count: a boot more is no harm."""
        digest = hashlib.sha256(self.fuses)
        digest.update(sources.to_bytes(4, "little"))
        for page, content in sorted(self.pages().items()):
            if counted or page not in BOOT_COUNTS:
                digest.update(page.to_bytes(4, "little") + content)
        return digest.digest()

    def fuses_read(self, flip: tuple[int, int], *, secret: bool) -> bytes:
        """What a read gives: the device secret only where it shows, and one byte flipped by a mask."""
        read = bytearray(self.fuses)
        if not secret:
            read[SECRET:SECRET_END] = bytes(OTP_DEVICE_SECRET.size)
        at, mask = flip
        if at >= 0:
            read[at] ^= mask
        return bytes(read)
