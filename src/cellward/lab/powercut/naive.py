"""The example that must fail: a bootloader that believes what is written, before it has been written.

A selector in the data flash says which bank runs. The installer turns it first and copies then, and
the boot asks for nothing else. Its boot is these few lines, not ARM code; everything around it, from
the flash to the judge, is what the real module is tested with.
"""

from cellward.core.slots import BANKS, DATA_BANK, DATA_BANK_NAME, DATA_PAGE_SIZE, Lifecycle, whole_phrases
from cellward.lab.powercut.bench import Bench
from cellward.lab.powercut.judge import Seen
from cellward.lab.powercut.operations import Log
from cellward.lab.powercut.releases import HARDWARE
from cellward.lab.powercut.scenarios import COMMITTED, A, B, Scenario
from cellward.ports.module import Outcome
from cellward.vbms.bench import VirtualModule
from cellward.vbms.state import FLASH_OFFSET

NAIVE = "naive example"
SELECTOR = 8 * DATA_PAGE_SIZE  # a page that nobody else uses
SELECTED = {bank: f"bank {bank}".encode().ljust(8, b".") for bank in BANKS}


class Naive(Scenario):
    name = NAIVE

    def prepare(self, bench: Bench) -> None:
        bench.plant(self.seed, ("maker",), COMMITTED, Lifecycle.PROVISIONED)
        bench.put(A, self.releases["old"])
        start = FLASH_OFFSET + DATA_BANK * HARDWARE.bank_size + SELECTOR
        bench.memory[start : start + 8] = SELECTED[A]

    def live(self, module: VirtualModule, log: Log) -> None:
        log.phase = "boot"
        module.power_on()
        log.phase = "mark valid"
        module.erase_page(DATA_BANK_NAME, SELECTOR)
        module.program(DATA_BANK_NAME, SELECTOR, SELECTED[B])
        log.phase = "install"
        for stage, image in self.releases["new"].images.items():
            slot, data = HARDWARE.slot(stage), whole_phrases(image)
            for offset in range(slot.offset, slot.offset + len(data), HARDWARE.page_size):
                module.erase_page(B, offset)
            module.program(B, slot.offset, data)

    def boot(self, bench: Bench) -> Seen:
        start = FLASH_OFFSET + DATA_BANK * HARDWARE.bank_size + SELECTOR
        selected = bytes(bench.memory[start : start + 8])
        for bank, word in SELECTED.items():
            if word == selected:
                return Seen(Outcome.RUNNING, bank)
        return Seen(Outcome.HANG, A)
