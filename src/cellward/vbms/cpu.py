"""The Cortex-M33: one Unicorn virtual machine from a reset to what ends it.

Unicorn's traps that shaped this file (each gave wrong results once):

- hooks and `count=` bind when a block is translated, so everything is hooked before the first
  instruction and a VM never outlives its reset;
- `emu_stop` inside a register access stops *at* the access, which runs again when resumed: the
  repeated access is swallowed, and only plain stores are resumed at all;
- an exception must not leave a callback of a read: ctypes would print it and go on;
- a word access across two registers arrives as two aligned ones: it cannot be told and refused;
- the permission to execute is asked when a block is translated, not when it runs: whatever takes one
  away flushes too.
"""

import ctypes
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import unicorn as untyped_unicorn
from unicorn import arm_const

from cellward.core.errors import Code, Unavailable
from cellward.core.slots import BANKS, DATA_BANK, DATA_SIZE, Hardware, Stage
from cellward.vbms.counting import InstructionCounter
from cellward.vbms.cut import PowerCut
from cellward.vbms.peripherals import Action, BusFault, Peripheral
from cellward.vbms.registers import (
    ACTIVE_BASE,
    DATA_BASE,
    INACTIVE_BASE,
    LINK_BUFFER_SIZE,
    LINK_RX_BASE,
    LINK_TX_BASE,
    PERIPHERAL_SIZE,
    RAM_BASE,
    RAM_SIZE,
    ROM_BASE,
    ROM_SIZE,
)

unicorn: Any = untyped_unicorn  # the binding has types for some of its calls and none for others
WORD = 4
NEVER = 0xFFFF_FFFF  # an address that is not reached
# Real RAM holds anything at power-on; firmware that counts on zeros must show it.
RAM_FILL = 0xA5
READ = unicorn.UC_PROT_READ
READ_EXECUTE = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
READ_WRITE = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
REGISTERS = (
    *range(arm_const.UC_ARM_REG_R0, arm_const.UC_ARM_REG_R12 + 1),
    arm_const.UC_ARM_REG_SP,
    arm_const.UC_ARM_REG_LR,
    arm_const.UC_ARM_REG_PC,
    arm_const.UC_ARM_REG_XPSR,
    *range(arm_const.UC_ARM_REG_S0, arm_const.UC_ARM_REG_S31 + 1),
)


class Halt(Enum):
    """Why the core came back."""

    BUDGET = auto()
    IDLE = auto()
    REMAP = auto()
    FLUSH = auto()
    ANSWER = auto()
    RESET = auto()
    FAULT = auto()
    POWER_CUT = auto()


_HALT_OF = {
    Action.IDLE: Halt.IDLE,
    Action.REMAP: Halt.REMAP,
    Action.FLUSH: Halt.FLUSH,
    Action.ANSWER: Halt.ANSWER,
    Action.RESET: Halt.RESET,
}


@dataclass(frozen=True)
class Fault:
    """`pc` of the instruction that failed and the `address` it went for."""

    what: str
    pc: int
    address: int


class Pinned:
    """Bytes of this process, for VMs to map. Keep it while one lives."""

    def __init__(self, memory: memoryview) -> None:
        self.view = memory
        self._pinned = ctypes.c_char.from_buffer(memory)

    def pointer(self, offset: int = 0) -> ctypes.c_void_p:
        return ctypes.c_void_p(ctypes.addressof(self._pinned) + offset)


class Memories:
    """What keeps its content from one VM to the next: flash, and until the power goes, RAM and the
    link's message RAM."""

    def __init__(self, hardware: Hardware, flash: memoryview) -> None:
        self.hardware = hardware
        self.flash = Pinned(flash)
        self.rom, self.ram, self.rx, self.tx = (
            Pinned(memoryview(bytearray(size)))
            for size in (ROM_SIZE, RAM_SIZE, LINK_BUFFER_SIZE, LINK_BUFFER_SIZE)
        )
        self.lose_power()

    def lose_power(self) -> None:
        for memory in (self.ram, self.rx, self.tx):
            memory.view[:] = bytes([RAM_FILL]) * len(memory.view)


class Cpu:
    """Boots `rom` from its vector table; `bus` maps a peripheral's base address to it.

    The window of the active bank is mapped slot by slot, since each is executable by itself.
    A subclass sees the VM in `prepare`.
    """

    def __init__(
        self,
        rom: bytes,
        memories: Memories,
        bus: Mapping[int, Peripheral],
        counter: InstructionCounter | None = None,
    ) -> None:
        if not 2 * WORD <= len(rom) <= ROM_SIZE:
            raise Unavailable(
                Code.MODULE_STATE, "ROM", expected=f"8 to {ROM_SIZE} bytes", found=f"{len(rom)}"
            )
        self._memories = memories
        self._bus = bus
        self._counter = counter
        self._halt = Halt.BUDGET
        self._replay: tuple[int, int] | None = None
        self.fault: Fault | None = None
        self._address: int | None = None
        self._uc: Any = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._map_memory(rom)
        self._map_peripherals()
        self._uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._note_address)
        if counter is not None:
            self._uc.hook_add(unicorn.UC_HOOK_BLOCK, self._enter_block)
        self._uc.reg_write(arm_const.UC_ARM_REG_SP, int.from_bytes(rom[0:WORD], "little"))
        self._pc = int.from_bytes(rom[WORD : 2 * WORD], "little") | 1
        self.prepare(self._uc)

    def prepare(self, uc: Any) -> None:
        """Called once, before the first instruction: where an experiment adds hooks of its own."""

    def _map_memory(self, rom: bytes) -> None:
        memories = self._memories
        memories.rom.view[:] = rom.ljust(ROM_SIZE, b"\xff")  # whatever an experiment did to it
        for base, memory, permissions in (
            (ROM_BASE, memories.rom, READ_EXECUTE),
            (RAM_BASE, memories.ram, READ_WRITE),
            (LINK_RX_BASE, memories.rx, READ),
            (LINK_TX_BASE, memories.tx, READ_WRITE),
        ):
            self._uc.mem_map_ptr(base, len(memory.view), permissions, memory.pointer())
        self._map_flash(DATA_BASE, DATA_BANK, 0, DATA_SIZE, READ)
        self._map_banks(0, ())

    def _map_flash(self, window: int, bank: int, offset: int, size: int, permissions: int) -> None:
        """`size` bytes from `offset` of the bank, at the same offset of its window."""
        place = self._memories.flash.pointer(bank * self._memories.hardware.bank_size + offset)
        self._uc.mem_map_ptr(window + offset, size, permissions, place)

    def _map_banks(self, active: int, executable: Collection[Stage]) -> None:
        hardware = self._memories.hardware
        for stage in Stage:
            slot = hardware.slot(stage)
            permissions = READ_EXECUTE if stage in executable else READ
            self._map_flash(ACTIVE_BASE, active, slot.offset, slot.size, permissions)
        trailer = hardware.trailer
        self._map_flash(ACTIVE_BASE, active, trailer.offset, trailer.size, READ)
        self._map_flash(INACTIVE_BASE, len(BANKS) - 1 - active, 0, hardware.bank_size, READ)

    def _map_peripherals(self) -> None:
        """As one region: each costs a boot 30 µs."""
        first, last = min(self._bus), max(self._bus)

        def read(_uc: Any, offset: int, size: int, _data: Any) -> int:
            return self._read(first + offset, size)

        def write(_uc: Any, offset: int, size: int, value: int, _data: Any) -> None:
            self._write(first + offset, size, value)

        self._uc.mmio_map(first, last + PERIPHERAL_SIZE - first, read, None, write, None)

    def remap(self, active: int, executable: Collection[Stage]) -> None:
        """Show bank `active` in the active window, its `executable` slots to be run. Only between
        runs."""
        for window in (ACTIVE_BASE, INACTIVE_BASE):
            self._uc.mem_unmap(window, self._memories.hardware.bank_size)
        self._map_banks(active, executable)
        self.flush()

    def flush(self) -> None:
        """Forget translated code: the flash under it has changed."""
        self._uc.ctl_flush_tb()
        if self._counter is not None:
            self._counter.forget_code()

    def run(self, instructions: int) -> Halt:
        """Up to `instructions` (conditional ones that do not execute may come on top).

        After RESET, FAULT and POWER_CUT the core is dead.
        """
        self._halt = Halt.BUDGET
        try:
            self._uc.emu_start(self._pc, NEVER, count=instructions)
        except unicorn.UcError as error:
            self._fail(str(error), self._address)  # no address: the instruction itself
        pc = self._uc.reg_read(arm_const.UC_ARM_REG_PC)
        if self._counter is not None:
            self._counter.stop(pc, self._uc.mem_read)
        self._pc = pc | 1
        return self._halt

    def interrupt(self) -> None:
        """End the run that is under way, from within it."""
        self._uc.emu_stop()

    def registers(self) -> bytes:
        """R0 to R12, SP, LR, PC, xPSR and the floating-point bank, little-endian words."""
        words = [self._uc.reg_read(register) & NEVER for register in REGISTERS]
        return b"".join(word.to_bytes(WORD, "little") for word in words)

    def close(self) -> None:
        """Free the VM (about 1 GB of address space) now.

        The binding's callbacks hold it in cycles and it offers no close, only this finalizer;
        where that is missing, the garbage collector frees it later.
        """
        finalizer = getattr(self._uc, "_Uc__finalizer", None)
        if finalizer is not None:
            finalizer()
        self._uc = None

    def _enter_block(self, uc: Any, address: int, size: int, _data: Any) -> None:
        if self._counter is not None:
            self._counter.enter(address, size, uc.mem_read)

    def _note_address(self, _uc: Any, _kind: int, address: int, *_rest: Any) -> bool:
        self._address = address
        return False

    def _fail(self, what: str, address: int | None) -> None:
        pc = self._uc.reg_read(arm_const.UC_ARM_REG_PC)
        self.fault = Fault(what, pc, pc if address is None else address)
        self._halt = Halt.FAULT

    def _stop(self, halt: Halt) -> None:
        self._halt = halt
        self._uc.emu_stop()

    def _bus_fault(self, what: str, address: int) -> None:
        self._fail(what, address)
        self._uc.emu_stop()

    def _read(self, address: int, size: int) -> int:
        offset = address % PERIPHERAL_SIZE
        peripheral = self._bus.get(address - offset)
        if peripheral is None or size != WORD or offset % WORD:
            self._bus_fault(f"read of {size} bytes", address)
            return 0
        try:
            return peripheral.read(offset)
        except BusFault as fault:
            self._bus_fault(str(fault), address)
            return 0

    def _write(self, address: int, size: int, value: int) -> None:
        if self._replay is not None:
            repeated = self._replay == (address, value)
            self._replay = None
            if repeated:
                return
        offset = address % PERIPHERAL_SIZE
        peripheral = self._bus.get(address - offset)
        if peripheral is None or size != WORD or offset % WORD:
            self._bus_fault(f"write of {size} bytes", address)
            return
        try:
            action = peripheral.write(offset, value)
        except BusFault as fault:
            self._bus_fault(str(fault), address)
        except PowerCut:
            self._stop(Halt.POWER_CUT)
        else:
            if action is not Action.NONE:
                self._replay = (address, value)
                self._stop(_HALT_OF[action])
