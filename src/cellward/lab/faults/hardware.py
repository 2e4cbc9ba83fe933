"""What a campaign's module has in place of the real one's noise, and how its state is copied."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

from cellward.core.slots import ERASED
from cellward.lab.faults.board import Restore
from cellward.lab.faults.scenarios import HARDWARE
from cellward.vbms.controllers import FuseShadow
from cellward.vbms.cut import Cuts
from cellward.vbms.nor import Area, Nor
from cellward.vbms.otp import WORD
from cellward.vbms.peripherals import RandomSource

RANDOM_WORDS = 1024
PAGE = HARDWARE.page_size
CONTAINERS = (dict, list, deque)
STATE = (int, float, str, bytes, type(None), Enum, frozenset, *CONTAINERS)


class Entropy:
    """The same words after every reset."""

    def __init__(self, seed: int) -> None:
        source = random.Random(seed)  # noqa: S311
        self._words = tuple(source.getrandbits(32) for _ in range(RANDOM_WORDS))
        self.taken = 0

    def __call__(self) -> int:
        self.taken += 1
        return self._words[self.taken % RANDOM_WORDS]


class SeededSource(RandomSource):
    def __init__(self, entropy: Entropy) -> None:
        super().__init__(entropy)
        self._seeded = entropy

    def reset(self) -> None:
        self._seeded.taken = 0


class LoggedNor(Nor):
    """Remembers the pages that an operation may have changed, by their offset in the whole flash."""

    def __init__(self, memory: memoryview, cuts: Cuts, changed: Callable[[int, int], None]) -> None:
        super().__init__(HARDWARE, memory, cuts)
        self._changed = changed
        self.touched: set[int] = set()

    def erase(self, bank: int, offset: int, locked: Sequence[Area] = ()) -> None:
        super().erase(bank, offset, locked)
        self._touch(bank, offset)

    def program(self, bank: int, offset: int, data: bytes, locked: Sequence[Area] = ()) -> None:
        super().program(bank, offset, data, locked)
        self._touch(bank, offset)

    def _touch(self, bank: int, offset: int) -> None:
        at = bank * self.hardware.bank_size + offset
        self.touched.add(at - at % PAGE)
        self._changed(bank, offset - offset % PAGE)


class FlippableShadow(FuseShadow):
    """The fuses, one bit of which may read wrong."""

    flips: tuple[int, int] = (-1, 0)  # offset of a byte, mask

    def read(self, offset: int) -> int:
        at, mask = self.flips
        return super().read(offset) ^ (mask << 8 * (at % WORD) if offset == at - at % WORD else 0)


class Parts:
    """The state of objects: those of their attributes that are values or containers of values."""

    def __init__(self, parts: Iterable[object]) -> None:
        self._parts = [
            (vars(part), [name for name, value in vars(part).items() if isinstance(value, STATE)])
            for part in parts
        ]

    def save(self) -> Restore:
        saved = [
            (values, name, value.copy() if isinstance(value := values[name], CONTAINERS) else value)
            for values, names in self._parts
            for name in names
        ]

        def restore() -> None:
            for values, name, value in saved:
                values[name] = value.copy() if isinstance(value, CONTAINERS) else value

        return restore

    def hash(self) -> int:
        """Of the whole state; for this process alone."""
        return hash(tuple(_frozen(values[name]) for values, names in self._parts for name in names))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(value.values())  # which keys there are, and in which order, does not change
    return tuple(value) if isinstance(value, CONTAINERS) else value


def extents(flash_: bytes) -> list[tuple[int, int]]:
    """Offset and size of each run of pages that is not erased, in one bank or the other."""
    size = HARDWARE.bank_size
    erased = bytes([ERASED]) * PAGE
    found: list[tuple[int, int]] = []
    for offset in range(0, size, PAGE):
        if flash_[offset : offset + PAGE] == erased == flash_[size + offset : size + offset + PAGE]:
            continue
        if found and sum(found[-1]) == offset:
            found[-1] = (found[-1][0], found[-1][1] + PAGE)
        else:
            found.append((offset, PAGE))
    return found
