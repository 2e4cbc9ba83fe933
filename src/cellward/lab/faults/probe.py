"""The virtual module's core, with what a fault campaign needs: stops without a hook per instruction,
patches of code, and copies of the state.

Translated code is what a run costs, so none is ever thrown away. Two virtual machines share all
memories: one in which the loader cannot be fetched from, one in which it can; opening its gate moves
the registers from one to the other. A bank is mapped by copying it into the window. That is right as
long as all loaders that run have the same code, which the scenarios see to.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

import unicorn as untyped_unicorn
from unicorn import arm_const

from cellward.core.slots import BANKS, DATA_BANK, ERASED, OTP_SIZE, Stage
from cellward.lab.faults import arm
from cellward.lab.faults.thumb import HALFWORD, holds
from cellward.vbms.cpu import READ, READ_EXECUTE, Cpu, Halt, Memories, Pinned
from cellward.vbms.peripherals import Peripheral
from cellward.vbms.registers import (
    ACTIVE_BASE,
    INACTIVE_BASE,
    OTP_BASE,
    OTP_CTRL_BASE,
    PERIPHERAL_SIZE,
)

unicorn: Any = untyped_unicorn
SP, LR = arm_const.UC_ARM_REG_SP, arm_const.UC_ARM_REG_LR
CONTEXT_HEAD = 40
Extents = Collection[tuple[int, int]]


class Probe(Cpu):
    """`stops`: addresses before which a run ends. `extents`: what of a bank is not erased, as offset
    and size. `fuses`: what the fuses read as; None: they are read through the bus, as on silicon.

    A hook binds when a block is translated (facts, pitfall 1): all are set before the first
    instruction, and return addresses, which are not known then, flush the translations.
    """

    def __init__(
        self,
        rom: bytes,
        memories: Memories,
        bus: Mapping[int, Peripheral],
        stops: Collection[int],
        extents: Extents,
        fuses: Callable[[], bytes] | None,
    ) -> None:
        self._stops = stops
        self._extents = extents
        self._fuses = fuses
        erased = bytes([ERASED]) * memories.hardware.bank_size
        self._windows = [Pinned(memoryview(bytearray(erased))) for _ in BANKS]
        self._shadow = Pinned(memoryview(bytearray(PERIPHERAL_SIZE)))
        self._open = False
        self._returns: set[int] = set()
        self._passing: int | None = None
        self._awaited: tuple[int, int] | None = None
        self._deaf = False
        self.stopped_at: int | None = None
        self.fetched: int | None = None  # an address that could not be fetched from
        self.shown: int | None = None
        super().__init__(rom, memories, bus)
        closed = self._uc
        self._open, self._uc = True, _machine()
        self._map_memory(rom)
        self._map_peripherals()
        self._uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._note_address)
        self.prepare(self._uc)
        self._vms: tuple[Any, Any] = (closed, self._uc)
        self._open, self._uc = False, closed
        self.show(0)
        self.read_fuses()

    # --- what is mapped ---

    def _map_banks(self, _active: int, _executable: Collection[Stage]) -> None:
        hardware = self._memories.hardware
        window = self._windows[0]
        for stage in Stage:
            slot = hardware.slot(stage)
            permissions = READ_EXECUTE if self._open and stage is Stage.LOADER else READ
            self._uc.mem_map_ptr(
                ACTIVE_BASE + slot.offset, slot.size, permissions, window.pointer(slot.offset)
            )
        trailer = hardware.trailer
        self._uc.mem_map_ptr(ACTIVE_BASE + trailer.offset, trailer.size, READ, window.pointer(trailer.offset))
        self._uc.mem_map_ptr(INACTIVE_BASE, hardware.bank_size, READ, self._windows[1].pointer())

    def _map_flash(self, window: int, bank: int, offset: int, size: int, permissions: int) -> None:
        if bank == DATA_BANK:
            super()._map_flash(window, bank, offset, size, permissions)

    def _map_peripherals(self) -> None:
        """The fuses as memory: a boot reads them hundreds of times."""
        if self._fuses is None:
            self._map_registers(min(self._bus), max(self._bus))
            return
        self._map_registers(min(self._bus), OTP_BASE - PERIPHERAL_SIZE)
        self._uc.mem_map_ptr(OTP_BASE, PERIPHERAL_SIZE, READ, self._shadow.pointer())
        self._map_registers(OTP_BASE + PERIPHERAL_SIZE, max(self._bus))

    def _map_registers(self, first: int, last: int) -> None:
        def read(_uc: Any, offset: int, size: int, _data: Any) -> int:
            return self._read(first + offset, size)

        def write(_uc: Any, offset: int, size: int, value: int, _data: Any) -> None:
            self._write(first + offset, size, value)
            if first + offset & ~(PERIPHERAL_SIZE - 1) == OTP_CTRL_BASE:
                self.read_fuses()

        self._uc.mmio_map(first, last + PERIPHERAL_SIZE - first, read, None, write, None)

    def read_fuses(self) -> None:
        if self._fuses is not None:
            self._shadow.view[:OTP_SIZE] = self._fuses()

    def show(self, active: int) -> None:
        """Bank `active` in the active window, the other in the other."""
        size = self._memories.hardware.bank_size
        for window, bank in zip(self._windows, (active, 1 - active), strict=True):
            for offset, length in self._extents:
                start = bank * size + offset
                window.view[offset : offset + length] = self._memories.flash.view[start : start + length]
        self.shown = active

    def show_page(self, bank: int, offset: int, size: int) -> None:
        """Flash has changed: its window shows it at once."""
        start = bank * self._memories.hardware.bank_size + offset
        window = self._windows[0 if bank == self.shown else 1]
        window.view[offset : offset + size] = self._memories.flash.view[start : start + size]

    def open(self, loader: bool) -> None:
        """Let the loader be fetched from, or not."""
        if loader != self._open:
            state = bytearray(bytes(self._uc.context_save()))
            self._open, self._uc = loader, self._vms[loader]
            target = self._uc.context_save()
            own, *kind = target.__getstate__()
            for at in _places():
                state[at : at + 8] = own[at : at + 8]
            context = object.__new__(type(target))
            context.__setstate__((bytes(state), *kind))
            self._uc.context_restore(context)

    @property
    def is_open(self) -> bool:
        return self._open

    def flush(self) -> None:
        for vm in self._vms:
            vm.ctl_flush_tb()

    def close(self) -> None:
        for vm in self._vms:
            self._uc = vm
            super().close()

    # --- stops ---

    def prepare(self, uc: Any) -> None:
        for address in self._stops:
            uc.hook_add(unicorn.UC_HOOK_CODE, self._arrive, begin=address, end=address)

    def _arrive(self, uc: Any, address: int, _size: int, _data: Any) -> None:
        if self._passing == address:
            self._passing = None
        elif not self._deaf:
            self.stopped_at = address
            uc.emu_stop()

    def _arrive_back(self, uc: Any, address: int, _size: int, _data: Any) -> None:
        if self._awaited == (address, uc.reg_read(SP)):
            self.forget_return()
            uc.emu_stop()

    def _note_address(self, uc: Any, kind: int, address: int, *rest: Any) -> bool:
        if kind in (unicorn.UC_MEM_FETCH_PROT, unicorn.UC_MEM_FETCH_UNMAPPED):
            self.fetched = address
        return super()._note_address(uc, kind, address, *rest)

    # --- registers ---

    @property
    def pc(self) -> int:
        return self._pc & ~1

    @pc.setter
    def pc(self, address: int) -> None:
        self._pc = address | 1

    def read(self, register: int) -> int:
        return arm.read(self._uc, register)

    def write(self, register: int, value: int) -> None:
        self._uc.reg_write(register, value)

    @property
    def flags(self) -> int:
        return arm.flags(self._uc)

    @flags.setter
    def flags(self, flags: int) -> None:
        arm.set_flags(self._uc, flags)

    @property
    def thumb(self) -> bool:
        return arm.thumb(self._uc)

    def named(self) -> dict[str, int]:
        return arm.named(self._uc)

    def state(self) -> bytes:
        """Every register, and which virtual machine they are in; but for Unicorn's own head of the
        context, in which pointers are."""
        return bytes([self._open]) + bytes(self._uc.context_save())[CONTEXT_HEAD:]

    # --- running ---

    def run(self, instructions: int) -> Halt:
        self.stopped_at = None
        return super().run(instructions)

    def step(self) -> Halt:
        """One instruction, or all of the block that an IT begins."""
        at = self._pc
        halt = self.run(1)
        if self._pc == at and halt not in (Halt.BUDGET, Halt.RESET, Halt.FAULT, Halt.POWER_CUT):
            self.run(1)  # the access that stopped the core is repeated, and swallowed
        return halt

    def pass_stop(self) -> None:
        """The next run begins at a stop and goes on from there."""
        self._passing = self.pc

    def await_return(self, *, deaf: bool = False) -> None:
        """Before the first instruction of a function: runs end at its return, and where they are not
        `deaf`, also at stops."""
        back = self.read(LR) & ~1
        if back not in self._returns:
            self._returns.add(back)
            for vm in self._vms:
                vm.hook_add(unicorn.UC_HOOK_CODE, self._arrive_back, begin=back, end=back)
            self.flush()
        self._awaited, self._deaf, self._passing = (back, self.read(SP)), deaf, None

    @property
    def returned(self) -> bool:
        return self._awaited is None

    def forget_return(self) -> None:
        self._awaited, self._deaf = None, False

    def run_call(self, limit: int) -> bool:
        """From the first instruction of a function to its return, past all stops; False where it did
        not come back within `limit` instructions."""
        outer = self._awaited
        self.await_return(deaf=True)
        halt = self.run(limit)
        returned = self.returned and halt is Halt.BUDGET
        self._awaited, self._deaf = outer, False
        return returned

    def trace_call(self, limit: int) -> list[tuple[int, int]]:
        """Start and size of every block of code that a call executes, once each."""
        blocks: dict[tuple[int, int], None] = {}

        def enter(_uc: Any, address: int, size: int, _data: Any) -> None:
            blocks[address, size] = None

        hook = self._uc.hook_add(unicorn.UC_HOOK_BLOCK, enter)
        self.flush()
        self.run_call(limit)
        self._uc.hook_del(hook)
        self.flush()
        return list(blocks)

    def flags_at(self, addresses: Iterable[int], limit: int) -> dict[int, set[int]]:
        """Through a call: all the flags that the instruction at each of these addresses ever met."""
        met: dict[int, set[int]] = {address: set() for address in addresses}

        def meet(uc: Any, address: int, _size: int, _data: Any) -> None:
            met[address].add(arm.flags(uc))

        hooks = [self._uc.hook_add(unicorn.UC_HOOK_CODE, meet, begin=at, end=at) for at in met]
        self.flush()
        self.run_call(limit)
        for hook in hooks:
            self._uc.hook_del(hook)
        self.flush()
        return met

    def run_into_call(self, address: int, condition: int, limit: int) -> None:
        """Past all stops, up to the instruction of the call at `address`, when its execution first finds
        that `condition` holds. Runs end at the call's return from here on."""
        met: list[int] = []

        def meet(uc: Any, at: int, _size: int, _data: Any) -> None:
            if not met and holds(condition, arm.flags(uc)):
                met.append(at)
                uc.emu_stop()

        hook = self._uc.hook_add(unicorn.UC_HOOK_CODE, meet, begin=address, end=address)
        self.changed(address, HALFWORD)
        self.await_return(deaf=True)
        self.run(limit)
        assert met == [self.pc], f"0x{address:08x} was not executed"  # noqa: S101
        self._uc.hook_del(hook)
        self.changed(address, HALFWORD)

    # --- memory and state ---

    def changed(self, address: int, size: int) -> None:
        """Code at `address` was changed in place: in both machines, for what is executed there may open
        the gate or reset, and then the other one runs."""
        for vm in self._vms:
            vm.ctl_remove_cache(address, address + size)

    def window(self, active: bool) -> memoryview:
        return self._windows[0 if active else 1].view

    def peek(self, address: int, size: int) -> bytes | None:
        try:
            return bytes(self._uc.mem_read(address, size))
        except unicorn.UcError:
            return None

    @property
    def ram(self) -> memoryview:
        return self._memories.ram.view

    def save(self) -> Callable[[], None]:
        """Registers and what is mapped; calling it brings them back."""
        saved, pc, open_, shown = self._uc.context_save(), self._pc, self._open, self.shown

        def restore() -> None:
            self._open, self._uc = open_, self._vms[open_]
            self._uc.context_restore(saved)
            self._pc = pc
            if self.shown != shown and shown is not None:
                self.show(shown)
            self.read_fuses()
            self._replay = self.fault = self._address = None
            self.fetched = self._passing = self._awaited = None

        return restore


@lru_cache(maxsize=1)
def _places(size: int = 8) -> tuple[int, ...]:
    """Where the contexts of two new machines differ: what the emulator has allocated for each, which
    must stay its own (a context of one in the other is freed twice)."""
    machines = [_machine() for _ in range(2)]  # both alive, or the second gets the first one's places
    first, second = (bytes(machine.context_save()) for machine in machines)
    return tuple(at for at in range(0, len(first), size) if first[at : at + size] != second[at : at + size])


def _machine() -> Any:
    return unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
