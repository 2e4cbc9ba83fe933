"""A routine that handles a secret, and how it is called with one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from cellward.lab.routines import Area, Elf, Routines

WHOLE_WORDS = 8


@dataclass(frozen=True)
class Call:
    function: str
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """Memory to be written, calls to be made, and what must be in the memory then: a trace of the
    wrong path would show nothing. `returned`: of the last call; None is not looked at."""

    memory: Mapping[int, bytes] = field(repr=False)
    calls: Sequence[Call]
    expected: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    returned: int | None = None


# A secret of the kind: the same one each time for True, another one each time for False.
Draw = Callable[[Random, bool], bytes]


@dataclass(frozen=True)
class Subject:
    """`secret` in words, for the report. `run` makes a run with the secret that was drawn."""

    name: str
    secret: str
    draw: Draw
    run: Callable[[bytes], Run]
    weight: int = 1  # about how many times 10,000 steps a trace takes


@dataclass(frozen=True)
class Firmware:
    """An ELF, the memory it runs in, and what is to be looked at in it."""

    elf: Elf
    subjects: tuple[Subject, ...]
    ram: Area
    windows: tuple[Area, ...] = ()

    def routines(self) -> Routines:
        return Routines(self.elf, self.ram, self.windows)


class Layout:
    """Places for buffers, one behind the other, on whole words."""

    def __init__(self, start: int) -> None:
        self._next = start

    def take(self, size: int) -> int:
        at = self._next
        self._next += -(-size // WHOLE_WORDS) * WHOLE_WORDS
        return at


def random_bytes(size: int, fixed: bytes = b"") -> Draw:
    """`fixed`, or else the bytes 1, 2, 3 and so on, against random ones."""
    constant = fixed or bytes(number & 0xFF for number in range(1, size + 1))

    def draw(random: Random, is_fixed: bool) -> bytes:
        return constant if is_fixed else random.randbytes(size)

    return draw


def random_match(value: bytes) -> Draw:
    """`value` itself, against bytes whose first difference from it may be anywhere."""

    def draw(random: Random, is_fixed: bool) -> bytes:
        if is_fixed:
            return value
        at = random.randrange(len(value))
        other = bytes([value[at] ^ random.randrange(1, 256)])
        return value[:at] + other + random.randbytes(len(value) - at - 1)

    return draw
