"""What the C sources promise, looked for in the binaries: an optimiser may fold two equal checks into
one (facts: GCC did), so the doubled ones are counted where they run."""

import functools
import io
import re
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import unicorn
from elftools.elf.constants import P_FLAGS
from elftools.elf.elffile import ELFFile
from unicorn import arm_const

from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code
from cellward.core.image import decode_slot
from cellward.core.keys import P256_SPKI_SIZE, RSA3072_PKCS1_SIZE
from cellward.core.slots import BMS_M33, Stage
from cellward.ports.module import BootReport, Outcome
from cellward.vbms.counting import InstructionCounter
from cellward.vbms.cpu import Cpu, Memories
from cellward.vbms.machine import CpuFactory
from cellward.vbms.peripherals import Peripheral
from cellward.vbms.registers import ACTIVE_BASE, EXEC_APP_KEY, EXEC_LOADER_KEY
from tests.firmware.rig import (
    FIRMWARE,
    KEY,
    STRANGER,
    Rig,
    binary,
    built,
    names,
    release,
    remembering,
    sign,
)
from vectors.forge import RsaKey

ARM = FIRMWARE / "build" / "arm"
ROM, LOADER, APP = "rom", "loader-1.4.0", "app-1.4.0"
HEAP = re.compile(r"_*(malloc|calloc|realloc|free|sbrk|brk|alloca|printf|sprintf|puts)(_r)?$")
KEYS = (EXEC_LOADER_KEY, EXEC_APP_KEY)


def elf(name: str) -> ELFFile:
    built("all")
    return ELFFile(io.BytesIO((ARM / f"{name}.elf").read_bytes()))


@functools.cache
def symbols(name: str) -> Mapping[str, int]:
    table: Any = elf(name).get_section_by_name(".symtab")
    return {symbol.name: symbol["st_value"] & ~1 for symbol in table.iter_symbols() if symbol.name}


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str


@functools.cache
def disassembly(name: str, function: str | None = None) -> tuple[Instruction, ...]:
    built("all")
    only = [f"--disassemble={function}"] if function else ["-d"]
    command = ["arm-none-eabi-objdump", *only, "--no-show-raw-insn", str(ARM / f"{name}.elf")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^ *([0-9a-f]+):\t(\S+)(?:[ \t]+([^@\n]*))?", text, re.MULTILINE)
    return tuple(Instruction(int(at, 16), what, operands.strip()) for at, what, operands in rows)


# What is in the files --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [ROM, LOADER, APP])
def test_no_segment_is_both_writable_and_executable(name: str) -> None:
    flags = [segment["p_flags"] for segment in elf(name).iter_segments("PT_LOAD")]
    assert any(flag & P_FLAGS.PF_X for flag in flags)
    assert not any(flag & P_FLAGS.PF_X and flag & P_FLAGS.PF_W for flag in flags)


@pytest.mark.parametrize("name", [ROM, LOADER, APP])
def test_there_is_no_heap(name: str) -> None:
    assert len(symbols(name)) > 50
    assert [symbol for symbol in symbols(name) if HEAP.match(symbol)] == []


def built_in_registers(name: str) -> Iterator[int]:
    """Every constant that a movw and a movt put together."""
    low: dict[str, int] = {}
    for instruction in disassembly(name):
        match = re.match(r"(\w+), #(\d+)", instruction.operands)
        if match and instruction.name in ("movw", "movt"):
            register, value = match[1], int(match[2])
            if instruction.name == "movw":
                low[register] = value
            else:
                yield value << 16 | low.get(register, 0)


@pytest.mark.parametrize("name", [ROM, LOADER, APP])
@pytest.mark.parametrize("key", KEYS)
def test_the_words_that_open_execution_are_nowhere(name: str, key: int) -> None:
    data = binary(f"{name}.bin")
    for word in (key, ~key & 0xFFFF_FFFF):
        assert struct.pack("<I", word) not in data
        assert struct.pack(">I", word) not in data
        assert word not in set(built_in_registers(name))


def test_constants_in_two_halves_are_found() -> None:
    """The search above can find something: the registers' addresses and STATUS words are made so, or
    come from literals, which are bytes of the file."""
    assert struct.pack("<I", STATUS_OK) in binary("rom.bin") or STATUS_OK in set(built_in_registers(ROM))


# What runs -------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Calls by function, and bytes of the active bank that were hashed, by the slot they are in."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    hashed: Counter[Stage] = field(default_factory=Counter)
    passes: list[tuple[str, int]] = field(default_factory=list)


Hook = Callable[[Any], None]


def watching(make: CpuFactory, hooks: Mapping[int, Hook]) -> CpuFactory:
    """`make`'s core, which calls `hooks[address]` before that instruction runs."""

    def cpu(
        rom: bytes, memories: Memories, bus: Mapping[int, Peripheral], counter: InstructionCounter | None
    ) -> Cpu:
        made = make(rom, memories, bus, counter)
        for at in hooks:
            made._uc.hook_add(
                unicorn.UC_HOOK_CODE, lambda uc, at, _size, _data: hooks[at](uc), begin=at, end=at
            )
        return made

    return cpu


def boot(rig: Rig, hooks: Mapping[int, Hook], make: CpuFactory) -> tuple[BootReport, ...]:
    reports = rig.boot(cpu=watching(make, hooks))
    rig.off()
    return reports


def argument(uc: Any, number: int) -> int:
    return int(uc.reg_read(arm_const.UC_ARM_REG_R0 + number))


# What a good image makes of each of its two passes; the digest comes before both.
IN_A_PASS = {
    "p256": ("image_check", "p256_verify", "br_ecdsa_i31_vrfy_raw"),
    "rsa": ("image_check", "rsa3072_pss_verify", "br_rsa_i31_public"),
}
KEY_SIZES = (P256_SPKI_SIZE, RSA3072_PKCS1_SIZE)  # a key in the TLVs is hashed as well
COUNTED = {"image_measure", *IN_A_PASS["p256"], *IN_A_PASS["rsa"]}


def tallying(tally: Tally) -> dict[int, Hook]:
    def count(stage: str, function: str) -> Hook:
        def hit(uc: Any) -> None:
            tally.calls[stage, function] += 1
            if function == "image_check":
                tally.passes.append((stage, argument(uc, 3)))

        return hit

    def hash_update(measured: Stage) -> Hook:
        slot = BMS_M33.slot(measured)
        window = range(ACTIVE_BASE + slot.offset, ACTIVE_BASE + slot.end)

        def hit(uc: Any) -> None:
            if argument(uc, 1) in window and argument(uc, 2) not in KEY_SIZES:
                tally.hashed[measured] += argument(uc, 2)

        return hit

    hooks: dict[int, Hook] = {}
    for stage, name, measured in (("rom", ROM, Stage.LOADER), ("loader", LOADER, Stage.APP)):
        table = symbols(name)
        hooks |= {table[function]: count(stage, function) for function in COUNTED}
        hooks[table["br_sha224_update"]] = hash_update(measured)
    return hooks


def confirmed(version: str = "1.4.0", counter: int = 6) -> Rig:
    rig = Rig.planted(6)
    rig.stage("a", release(version, counter), confirmed=True)
    return rig


@pytest.mark.parametrize("algorithm", IN_A_PASS)
def test_every_signature_is_verified_twice_and_every_digest_computed_once(algorithm: str) -> None:
    key, tally = KEY if algorithm == "p256" else RsaKey.make(), Tally()
    images = {stage: sign(binary(f"{stage}-1.4.0.bin"), stage, "1.4.0", 6, key) for stage in Stage}
    rig = Rig.planted(6, key)
    rig.stage("a", images, confirmed=True)
    (report,) = boot(rig, tallying(tally), Cpu)
    assert report.outcome is Outcome.RUNNING
    passes = {(stage, function): 2 for stage in ("rom", "loader") for function in IN_A_PASS[algorithm]}
    assert tally.calls == {("rom", "image_measure"): 1, ("loader", "image_measure"): 1} | passes
    assert tally.passes == [("rom", 0), ("rom", 1), ("loader", 0), ("loader", 1)]
    for stage, data in images.items():
        image = decode_slot(data)
        assert tally.hashed[stage] == image.header_size + image.payload_size + image.protected_size


def test_a_wrong_signature_is_not_asked_about_again() -> None:
    rig, tally = Rig.planted(6), Tally()
    image = bytearray(sign(binary("loader-1.4.0.bin"), Stage.LOADER, "1.4.0", 6))
    signature = decode_slot(bytes(image)).entries[-1]
    image[signature.offset + 10] ^= 1
    rig.stage("a", {Stage.LOADER: bytes(image)}, confirmed=True)
    (report,) = boot(rig, tallying(tally), Cpu)
    assert [event.code for event in report.events][:1] == [Code.IMAGE_SIGNATURE]
    assert tally.calls["rom", "br_ecdsa_i31_vrfy_raw"] == 1


# The question in jump --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A comparison with STATUS_OK: where its branch is, and where a status that is OK goes on."""

    branch: int
    passed: int


def literal(name: str, address: int) -> int:
    segment = next(iter(elf(name).iter_segments("PT_LOAD")))
    at = address - segment["p_vaddr"]
    return int.from_bytes(segment.data()[at : at + 4], "little")


def questions(name: str) -> list[Question]:
    code = disassembly(name, "jump")
    holders = set()
    for instruction in code:
        match = re.match(r"(\w+), \[pc, #(\d+)\]", instruction.operands)
        if instruction.name.startswith("ldr") and match:
            address = (instruction.address + 4 & ~3) + int(match[2])
            if literal(name, address) == STATUS_OK:
                holders.add(match[1])
    found = []
    for compare, branch, after in zip(code, code[1:], code[2:], strict=False):
        if compare.name.startswith("cmp") and compare.operands.split(", ")[-1] in holders:
            target = int(branch.operands.split()[0], 16)
            assert branch.name[:3] in ("beq", "bne"), branch
            found.append(Question(branch.address, target if branch.name[:3] == "beq" else after.address))
    return found


@pytest.mark.parametrize("name", [ROM, LOADER])
def test_jump_asks_twice(name: str) -> None:
    assert len(questions(name)) == 2


@pytest.mark.parametrize("asked", [(0,), (1,), ()], ids=["first", "second", "neither"])
@pytest.mark.parametrize("name", [ROM, LOADER])
def test_each_question_alone_stops_a_wrong_status(name: str, asked: tuple[int, ...]) -> None:
    """And where both are jumped over, the status is the key to the entry: it leads nowhere."""

    spoiled: list[int] = []

    def spoil(uc: Any) -> None:
        if not spoiled:
            uc.reg_write(arm_const.UC_ARM_REG_R3, STATUS_WORDS[Code.IMAGE_HASH])
        spoiled.append(argument(uc, 3))

    def jump_over(question: Question) -> Hook:
        def hit(uc: Any) -> None:
            if len(spoiled) == 1:
                uc.reg_write(arm_const.UC_ARM_REG_PC, question.passed | 1)

        return hit

    hooks: dict[int, Hook] = {symbols(name)["jump"]: spoil}
    skipped = [question for number, question in enumerate(questions(name)) if number not in asked]
    hooks |= {question.branch: jump_over(question) for question in skipped}
    first, second = boot(confirmed(), hooks, remembering())
    entered = "loader_entered" if name == ROM else "app_entered"
    assert entered not in names(first)
    assert first.outcome is Outcome.RESET
    faults = [event.code for event in first.events]
    assert faults == ([] if asked else [Code.MODULE_FAULT])
    assert second.outcome is Outcome.RUNNING


def test_a_stranger_s_image_never_reaches_jump() -> None:
    rig = Rig.planted(6)
    images = {s: sign(binary(f"{s}-1.4.0.bin"), s, "1.4.0", 6, STRANGER) for s in Stage}
    rig.stage("a", images, confirmed=True)
    seen: list[int] = []
    boot(rig, {symbols(ROM)["jump"]: lambda uc: seen.append(argument(uc, 3))}, remembering())
    assert seen == []
