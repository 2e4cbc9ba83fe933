"""The virtual module as a board: its own peripherals, flash and fuses, and a core that can be copied.

A run ends where it is decided what comes of it: an instruction is fetched from an app slot or from
the bad image, the ROM is in recovery, or nothing happens any more. A core that is reset by the fault
boots again as the real one does; such a boot depends on flash, fuses and RETAIN alone, so each
different one is run once and remembered.
"""

import hashlib
from typing import Any

from cellward.core.slots import BANKS, Stage
from cellward.lab.faults.board import Inside, Restore
from cellward.lab.faults.calls import Calls
from cellward.lab.faults.ends import Decision, Later, compare
from cellward.lab.faults.hardware import PAGE, Entropy, FlippableShadow, Parts, SeededSource
from cellward.lab.faults.inside import skipped, traced
from cellward.lab.faults.kept import Kept, Pages
from cellward.lab.faults.landmarks import DECIDING, MARKS
from cellward.lab.faults.library import Library
from cellward.lab.faults.outcome import Outcome
from cellward.lab.faults.probe import SP, Probe
from cellward.lab.faults.scenarios import HARDWARE, Scenario
from cellward.lab.faults.symbols import Symbols
from cellward.lab.faults.wrong import Wrong, in_fuses
from cellward.vbms import registers
from cellward.vbms.cpu import Halt
from cellward.vbms.cut import Cuts
from cellward.vbms.machine import Machine
from cellward.vbms.otp import Otp
from cellward.vbms.pack import Pack
from cellward.vbms.registers import ACTIVE_BASE, OTP_BASE, ROM_BASE, ResetCause, Where

# Instructions without a stop: a whole boot has a hundredth of it outside the library.
BUDGET = 400_000
REAL_BUDGET = 400_000_000
INSIDE_BUDGET = 60_000_000  # of one call, five times the longest
MAX_STOPS = 1000  # three times those of the longest boot
MAX_BOOTS = 6
IDLES_OF_A_HANG = 4
STACK_LIMIT = registers.RAM_SIZE - 8 * 1024  # link/stage.ld
MOST_KNOWN = 200_000  # states
CAUSES = {
    Outcome.CRASH: ResetCause.WATCHDOG,  # the core locks up
    Outcome.HANG: ResetCause.WATCHDOG,
    Outcome.RESET: ResetCause.SOFTWARE,
}


class ModuleBoard(Machine):
    """`library` None: the crypto library runs as it is; otherwise it is modelled on the host."""

    def __init__(
        self, scenario: Scenario, rom: Symbols, loader: Symbols, seed: int, library: Library | None
    ) -> None:
        self.scenario = scenario
        self._symbols = {True: rom, False: loader}
        self._cuts, self._entropy = Cuts(), Entropy(seed)
        self._kept = kept = Kept(scenario, seed, self._cuts, self._show_page)
        super().__init__(
            b"".join(data for _, data in rom.segments),
            HARDWARE,
            memoryview(kept.flash),
            kept.nor,
            Otp(memoryview(kept.fuses), self._cuts),
            Pack(),
            self._entropy,
        )
        self._real = library is None
        self._budget = REAL_BUDGET if library is None else BUDGET
        self._library = library or Library(())
        self._calls = Calls(self._library, REAL_BUDGET if library is None else INSIDE_BUDGET)
        self._stops = frozenset() if library is None else self._stops_of(library, rom, loader)
        self._shadow = FlippableShadow(self.otp)
        self._bus[registers.TRNG_BASE] = SeededSource(self._entropy)
        self._bus[OTP_BASE] = self._shadow
        self._parts = Parts([*self._bus.values(), self.otp, self.pack, self._cuts, self._entropy])
        self._reached: registers.Milestone | None = None
        self._idles = self._starts = 0
        self._wrong = Wrong(self._memories, self._shadow)
        self._later: dict[tuple[Any, ...], Later] = {}
        self._known: dict[bytes, Outcome] = {}
        self._following = False
        self.steps_done = 0
        self._initial: Restore | None = None
        self._expected: Later | None = None
        self._probe: Probe | None = None

    # --- Machine's observer ---

    def event(self, where: Where, bank: int, status: int, expected: int, found: int) -> None:
        """Not kept."""

    def milestone(self, milestone: registers.Milestone) -> None:
        self._reached = milestone

    # --- Board ---

    @property
    def core(self) -> Probe:
        assert self._probe is not None  # noqa: S101
        return self._probe

    def begin(self) -> None:
        """Power on. The first time, also boots once without a fault, to know how that ends."""
        self._start()
        if self._expected is None:
            self._expected = self._run_on()
            self._start()

    def _start(self) -> None:
        self._kept.begin()
        self._memories.lose_power()
        self._system.retain = 0
        self._system.cause = ResetCause.POWER
        self._starts = self.steps_done = 0
        if self._probe is not None:
            self._probe.close()
        self._reset_parts()
        fuses_ = None if self._real else self._read_fuses
        self._probe = Probe(self._rom, self._memories, self._bus, self._stops, self._kept.extents, fuses_)
        self._initial = self._probe.save()

    @staticmethod
    def _stops_of(library: Library, *files: Symbols) -> frozenset[int]:
        """Where a run ends to be looked at: before a modelled call, and where many ways come together."""
        marks = (file.symbols[name] & ~1 for file in files for name in MARKS if name in file.symbols)
        return library.entries.union(marks)

    def _read_fuses(self) -> bytes:
        secret = not (self.otp.secret_hidden or self.otp.tampered)
        return self._kept.fuses_read(self._shadow.flips, secret=secret)

    def _reset_parts(self) -> None:
        for peripheral in self._bus.values():
            peripheral.reset()
        self._reached, self._idles = None, 0

    def is_site(self, address: int) -> bool:
        return address not in self._file(address).library

    def decides(self, address: int) -> bool:
        return self._file(address).function(address) in DECIDING

    def where(self, address: int) -> str:
        part = "ROM" if address >= ROM_BASE else "loader"
        return f"{part} {self._file(address).where(address)}"

    def _file(self, address: int) -> Symbols:
        return self._symbols[address >= ROM_BASE]

    def step(self) -> Outcome | None:
        self.steps_done += 1
        try:
            self._proceed(0)
        except Decision as decision:
            return self._judge_end(decision)
        return None

    def finish(self) -> Outcome:
        passed: list[bytes] = []
        outcome = self._follow(passed)
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        self._known.update(dict.fromkeys(passed, outcome))
        return outcome

    def _follow(self, passed: list[bytes]) -> Outcome:
        """Run until it is decided, or a state comes that another run was in: the rest is known. `passed`
        gets the states on the way."""
        self._following = True
        try:
            for _ in range(MAX_STOPS):
                if self.core.pc in self._stops:
                    state = self._state()
                    if state in self._known:
                        return self._known[state]
                    if state in passed:
                        raise Decision(Outcome.HANG)
                    passed.append(state)
                self._proceed(self._budget)
        except Decision as decision:
            return self._judge_end(decision)
        finally:
            self._following = False
        return self._judge_end(Decision(Outcome.HANG))

    def _state(self) -> bytes:
        """All that the rest of the run depends on, before a call into the library. Not what the caller
        cannot expect to survive it, and what the called cannot expect to find (AAPCS, 6.1.1): registers
        without an argument, flags, and the stack below SP. A fault leaves its mark there for long."""
        core = self.core
        self._library.clear_dead(core)
        ram, stack = self._memories.ram.view, core.read(SP) - registers.RAM_BASE
        digest = hashlib.sha1(core.state(), usedforsecurity=False)
        if STACK_LIMIT <= stack <= len(ram):
            digest.update(ram[:STACK_LIMIT])
            digest.update(ram[stack:])
        else:
            digest.update(ram)
        digest.update(self._memories.tx.view)
        digest.update(repr((self._parts.hash(), self._reached, self._idles, self._starts)).encode())
        digest.update(self._persistent())
        return digest.digest()

    def crash(self) -> Outcome:
        return self._judge_end(Decision(Outcome.CRASH))

    def _proceed(self, budget: int) -> None:
        """To the next stop, or with a budget of 0 one step. Raises Decision."""
        core = self.core
        if self._calls.modelled(core):
            return
        if not self.is_site(core.pc) and (not budget or core.pc in self._library.entries):
            self._calls.run(core)  # with the budget of a call: a verification for real is a long one
            return
        core.pass_stop()
        halt = core.run(budget) if budget else core.step()
        if halt is Halt.BUDGET:
            if budget and core.stopped_at is None:
                raise Decision(Outcome.HANG)
        else:
            self._answer(halt)

    def trace(self) -> tuple[Inside, ...]:
        return tuple(
            found for found in traced(self, self.core, REAL_BUDGET) if not self.is_site(found.address)
        )

    def call_without(self, inside: Inside) -> Outcome | None:
        self.steps_done += 1
        halt = skipped(self, self.core, inside, INSIDE_BUDGET)
        if halt is Halt.BUDGET and self.core.returned:
            return None
        self.core.forget_return()
        return self._judge_end(Decision(Outcome.CRASH if halt is Halt.FAULT else Outcome.HANG))

    def _answer(self, halt: Halt) -> None:
        """What the hardware does about a stop."""
        match halt:
            case Halt.REMAP:
                self._show()
            case Halt.FLUSH:
                self.core.show(self._system.active)
                self.core.flush()
            case Halt.IDLE:
                self._idles += 1
                if self._reached is registers.Milestone.RECOVERY:
                    raise Decision(Outcome.RECOVERY, "recovery")
                if self._idles >= IDLES_OF_A_HANG:
                    raise Decision(Outcome.HANG)
            case Halt.RESET:
                if self._following:
                    raise Decision(Outcome.RESET)
                self._restart_as(ResetCause.SOFTWARE)
            case Halt.FAULT:
                self._fetch()
                raise Decision(Outcome.CRASH)

    def _show(self) -> None:
        """Map what may run: neither an app nor the bad image, so that the first fetch ends the run."""
        active, core = self._system.active, self.core
        bad = self._system.executable & self.scenario.bad_in(active)
        if bad and not self._kept.replaced(active, self.scenario.stage):
            # the gate is open: what is executed first does not matter any more
            raise Decision(Outcome.BYPASS, f"bank {active} {min(bad)}")
        if core.shown != active:
            core.show(active)
        core.open(Stage.LOADER in self._system.executable)

    def _show_page(self, bank: int, offset: int) -> None:
        if bank < len(BANKS):
            self._kept.extend(offset)
            self.core.show_page(bank, offset, PAGE)

    def _fetch(self) -> None:
        """Raises Decision for a fetch that the hardware would have allowed."""
        at = self.core.fetched
        if at is None:
            return
        for stage in self._system.executable:
            slot = HARDWARE.slot(stage)
            if slot.offset <= at - ACTIVE_BASE < slot.end:
                raise Decision(Outcome.GOOD, f"bank {self._system.active} {stage}")

    def _restart_as(self, cause: ResetCause) -> None:
        """The core starts at the ROM's vector again; RAM keeps what it holds."""
        self._starts += 1
        if self._starts >= MAX_BOOTS:
            raise Decision(Outcome.HANG)
        self._system.cause = cause
        self._reset_parts()
        assert self._initial is not None  # noqa: S101
        self._initial()
        self._show()

    # --- what came of it ---

    def _persistent(self, *, counted: bool = True) -> bytes:
        return self._kept.digest(self._latch.sources, counted=counted)

    def _judge_end(self, decision: Decision) -> Outcome:
        outcome = decision.outcome
        if outcome is Outcome.BYPASS:
            return outcome
        came = Later(outcome, decision.end, self._starts, self._persistent(counted=False))
        if self.otp.counter > self.scenario.authorised:
            return Outcome.COUNTER
        if outcome in CAUSES:
            came = self._boot_after(CAUSES[outcome])
            if came.outcome.broken:
                return came.outcome
        return outcome if self._expected is None else compare(outcome, came, self._expected)

    def _boot_after(self, cause: ResetCause) -> Later:
        """What the boots after a reset come to, without a fault."""
        self.unpatch()
        self.calm()  # the fault is over by then, and what comes of it is kept for other faults
        key = (cause, self._starts, self._system.retain, self._persistent())
        if key not in self._later:
            self._following = False
            self._later[key] = self._run_on(cause)
        return self._later[key]

    def _run_on(self, cause: ResetCause | None = None) -> Later:
        try:
            if cause is not None:
                self._restart_as(cause)
            for _ in range(MAX_STOPS):
                self._proceed(self._budget)
            outcome, end = Outcome.HANG, ""
        except Decision as decision:
            outcome, end = decision.outcome, decision.end
        if outcome is not Outcome.BYPASS and self.otp.counter > self.scenario.authorised:
            outcome = Outcome.COUNTER
        return Later(outcome, end, self._starts, self._persistent(counted=False))

    # --- state ---

    def save(self) -> Restore:
        core, starts, steps = self.core.save(), self._starts, self.steps_done
        parts = self._parts.save()
        own = (self._reached, self._idles)
        ram, tx = bytes(self._memories.ram.view), bytes(self._memories.tx.view)
        fuses_, pages = bytes(self._kept.fuses), self._kept.pages()

        def restore() -> None:
            self._set_pages(pages)
            self._kept.fuses[:] = fuses_
            self._memories.ram.view[:] = ram
            self._memories.tx.view[:] = tx
            parts()
            (self._reached, self._idles), self._starts, self.steps_done = own, starts, steps
            core()

        return restore

    def _set_pages(self, pages: Pages) -> None:
        written = self._kept.put_back(pages)
        if not written:
            return
        for page in written:
            self._show_page(*divmod(page, HARDWARE.bank_size))
        self._kept.shrink()
        self.core.shown = None  # to be copied again
        if any(page % HARDWARE.bank_size < HARDWARE.loader.end for page in written):
            self.core.flush()

    # --- faults ---

    def code(self, address: int) -> bytes:
        return self.core.peek(address, 4) or self.core.peek(address, 2) or b"\0\0"

    def patch(self, address: int, code: bytes) -> None:
        self._wrong.patch(self.core, address, code)

    def unpatch(self) -> None:
        self._wrong.unpatch(self.core)

    def readable(self, address: int, size: int) -> bool:
        return self._wrong.place(self.core, address, size) is not None or in_fuses(address, size)

    def disturb(self, address: int, bit: int) -> None:
        self._wrong.disturb(self.core, address, bit)

    def calm(self) -> None:
        self._wrong.calm(self.core)
