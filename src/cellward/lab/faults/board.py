"""What the campaign asks of a thing under attack: the virtual module, or a user's own firmware."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from cellward.lab.faults.outcome import Outcome

Restore = Callable[[], None]


class Inside(NamedTuple):
    """An instruction inside the library. `place`: in the block that the IT at `address` begins, or 0."""

    address: int
    place: int = 0


class Core(Protocol):
    """The processor's registers."""

    pc: int
    flags: int

    @property
    def thumb(self) -> bool: ...

    def read(self, register: int) -> int: ...

    def write(self, register: int, value: int) -> None: ...

    def named(self) -> dict[str, int]: ...


class Board(Protocol):
    """One device under test, in one process. `begin` first."""

    @property
    def core(self) -> Core: ...

    @property
    def steps_done(self) -> int:
        """Since `begin`; what a fault adds does not count once the state was brought back."""

    def begin(self) -> None:
        """Power on, in a new virtual machine, with the memories of the scenario."""

    def step(self) -> Outcome | None:
        """The next instruction, IT block, or call into the library. Not None: the run has ended."""

    def finish(self) -> Outcome:
        """Run until it is decided what comes of it."""

    def crash(self) -> Outcome:
        """What comes of a core that cannot go on."""

    def save(self) -> Restore:
        """The whole state; calling what it returns brings it back, any number of times."""

    def is_site(self, address: int) -> bool:
        """Whether a fault may hit the instruction there: not in the crypto library."""

    def decides(self, address: int) -> bool:
        """Whether a smoke test must look at the instruction there."""

    def trace(self) -> tuple[Inside, ...]:
        """Every instruction that the call into the library executes which the core stands before. The
        state is another one afterwards."""

    def call_without(self, inside: Inside) -> Outcome | None:
        """Through that call, but for this instruction when it is first executed."""

    def code(self, address: int) -> bytes:
        """The four bytes at `address`, or two at the end of the memory."""

    def patch(self, address: int, code: bytes) -> None:
        """Change code until `unpatch`."""

    def unpatch(self) -> None: ...

    def readable(self, address: int, size: int) -> bool:
        """Whether a load from there reads flash, ROM or fuses."""

    def disturb(self, address: int, bit: int) -> None:
        """Flip a bit of what the next load from there reads, until `calm`."""

    def calm(self) -> None: ...

    def where(self, address: int) -> str:
        """Function and source line."""
