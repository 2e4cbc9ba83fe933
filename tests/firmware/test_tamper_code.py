"""The tamper response as compiled for the module: nothing of a RAM full of secrets is left."""

import shlex
import subprocess

import pytest

from cellward.core.slots import OTP_DEVICE_SECRET, OTP_LIFECYCLE, OTP_SIZE, Lifecycle
from cellward.vbms.registers import (
    OTP_BASE,
    OTP_CTRL_BASE,
    RAM_BASE,
    RAM_SIZE,
    RESET_KEY,
    ROM_BASE,
    ROM_SIZE,
    SYS_BASE,
    TAMPER_BASE,
    OtpCtrl,
    Sys,
    Tamper,
    TamperSource,
)
from tests.firmware.rig import FIRMWARE, built

unicorn = pytest.importorskip("unicorn")

STUB = """
#include "boot/board.h"
#include "boot/tamper.h"
const uint32_t board_where = WHERE_ROM;
int main(void)
{
    return 0;
}
__attribute__((used)) void from_start(void)
{
    if (tamper_pending() != 0) {
        tamper_zeroise();
    }
    reset();
}
"""
CORE = "-mcpu=cortex-m33 -mthumb -mfloat-abi=soft"
COMPILE = f"-std=c11 -Os {CORE} -ffreestanding -I. -Iinclude"
LINK = f"{CORE} -nostdlib -Wl,-n -Wl,--no-warn-rwx-segments -Llink -Linclude/generated -Tlink/rom.ld"
OBJECTS = [f"build/arm/boot/{name}.o" for name in ("tamper", "otp", "event", "startup", "mem")]
MARK = b"\xa5"
RESET, IDLE = SYS_BASE + Sys.RESET, SYS_BASE + Sys.IDLE


def run(command: str, *more: str) -> str:
    done = subprocess.run(
        [*shlex.split(command), *more], cwd=FIRMWARE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """The binary, and the address of `from_start`."""
    built("all")
    folder = tmp_path_factory.mktemp("tamper")
    (folder / "stub.c").write_text(STUB)
    elf, binary = str(folder / "stub.elf"), folder / "stub.bin"
    run(f"arm-none-eabi-gcc {COMPILE} {LINK}", str(folder / "stub.c"), *OBJECTS, "-lgcc", "-o", elf)
    run("arm-none-eabi-objcopy -O binary", elf, str(binary))
    symbols = [line.split() for line in run("arm-none-eabi-nm", elf).splitlines()]
    return binary.read_bytes(), next(int(s[0], 16) for s in symbols if s[-1] == "from_start")


class Core:
    """RAM and registers full of MARK; fuses, tamper latch and reset, and a log of all else."""

    def __init__(self, program: tuple[bytes, int], *, latch: int, burns: bool = True) -> None:
        self.program, self.burns = program, burns
        self.writes: list[tuple[int, int]] = []
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self.uc.mem_map(ROM_BASE, ROM_SIZE)
        self.uc.mem_write(ROM_BASE, program[0])
        self.uc.mem_map(RAM_BASE, RAM_SIZE)
        self.uc.mem_write(RAM_BASE, MARK * RAM_SIZE)
        self.uc.mem_map(SYS_BASE, 0x10000)
        self.put(TAMPER_BASE + Tamper.LATCH, latch)
        self.uc.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._written, begin=SYS_BASE, end=SYS_BASE + 0xFFFF)

    def word(self, address: int) -> int:
        return int.from_bytes(self.uc.mem_read(address, 4), "little")

    def put(self, address: int, value: int) -> None:
        self.uc.mem_write(address, value.to_bytes(4, "little"))

    def _written(self, uc: object, access: int, address: int, size: int, value: int, data: object) -> None:
        value &= 0xFFFFFFFF
        self.writes.append((address, value))
        if address == OTP_CTRL_BASE + OtpCtrl.BURN and self.burns:
            at = OTP_BASE + self.word(OTP_CTRL_BASE + OtpCtrl.OFFSET)
            self.put(at, self.word(at) | value)
        if address == TAMPER_BASE + Tamper.CLEAR and self.burns:
            self.put(TAMPER_BASE + Tamper.LATCH, 0)
        if address in (RESET, IDLE):
            self.uc.emu_stop()

    def start(self) -> None:
        registers = [getattr(unicorn.arm_const, f"UC_ARM_REG_R{n}") for n in range(13)]
        for register in registers:
            self.uc.reg_write(register, int.from_bytes(MARK * 4, "little"))
        self.uc.reg_write(unicorn.arm_const.UC_ARM_REG_SP, RAM_BASE + RAM_SIZE)
        self.uc.emu_start(self.program[1] | 1, 0, count=200_000)

    @property
    def ram(self) -> bytes:
        return bytes(self.uc.mem_read(RAM_BASE, RAM_SIZE))

    def fuses(self) -> bytes:
        return bytes(self.uc.mem_read(OTP_BASE, OTP_SIZE))


def test_nothing_is_left(program: tuple[bytes, int]) -> None:
    core = Core(program, latch=TamperSource.CASE)
    core.start()
    assert MARK * 2 not in core.ram
    assert not any(core.ram[: RAM_SIZE - 64])  # but for return addresses of what ran behind the wipe
    secret = core.fuses()[OTP_DEVICE_SECRET.offset :][: OTP_DEVICE_SECRET.size]
    assert secret == b"\xff" * OTP_DEVICE_SECRET.size
    assert core.word(OTP_BASE + OTP_LIFECYCLE.offset) == Lifecycle.TAMPERED.fuses
    assert core.word(TAMPER_BASE + Tamper.LATCH) == 0
    assert core.writes[-1] == (RESET, RESET_KEY)


def test_the_secret_goes_first_and_the_latch_last(program: tuple[bytes, int]) -> None:
    core = Core(program, latch=TamperSource.DEBUG)
    core.start()
    burned = [value for address, value in core.writes if address == OTP_CTRL_BASE + OtpCtrl.OFFSET]
    words = range(OTP_DEVICE_SECRET.offset, OTP_DEVICE_SECRET.offset + OTP_DEVICE_SECRET.size, 4)
    assert burned == [*words, OTP_LIFECYCLE.offset]
    assert [address for address, _ in core.writes[-2:]] == [TAMPER_BASE + Tamper.CLEAR, RESET]


def test_without_an_event_nothing_is_touched(program: tuple[bytes, int]) -> None:
    core = Core(program, latch=0)
    core.start()
    assert core.ram[: RAM_SIZE - 64] == MARK * (RAM_SIZE - 64)
    assert core.writes == [(RESET, RESET_KEY)]


def test_a_module_whose_fuses_do_not_burn_stays_off(program: tuple[bytes, int]) -> None:
    core = Core(program, latch=TamperSource.CLOCK, burns=False)
    core.start()
    assert core.writes[-1][0] == IDLE
    assert not any(core.ram[: RAM_SIZE - 64])
