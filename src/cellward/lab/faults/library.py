"""The crypto library, modelled on the host: the same answers at once.

Modelled are the calls that cost a boot its millions of instructions. What else a call leaves
behind (scratch registers, flags, dead stack) is learned from real runs and put back, for code under
fault may use it (facts, pitfall 4). Whatever is not exactly a call as the firmware makes it runs for
real. All reported bypasses are run again without this file.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from unicorn import arm_const

from cellward.lab.faults.probe import LR, SP, Probe
from cellward.lab.faults.symbols import Symbols
from cellward.vbms.registers import RAM_BASE, RAM_SIZE, SYS_BASE

R0, R1, R2, R3, R12 = (
    arm_const.UC_ARM_REG_R0,
    arm_const.UC_ARM_REG_R1,
    arm_const.UC_ARM_REG_R2,
    arm_const.UC_ARM_REG_R3,
    arm_const.UC_ARM_REG_R12,
)
RESIDUAL = (R0, R1, R2, R3, R12, LR)
INITIAL = b"".join(
    word.to_bytes(4, "little")
    for word in (
        0x6A09E667,
        0xBB67AE85,
        0x3C6EF372,
        0xA54FF53A,
        0x510E527F,
        0x9B05688C,
        0x1F83D9AB,
        0x5BE0CD19,
    )
)
BLOCK = 64
SHA_CONTEXT = 4 + 64 + 4 + 8 + 32  # br_sha224_context on Armv8-M
SHA_MOST = 1 << 22  # more than any memory of the module
P256 = 23  # BR_EC_secp256r1
POINT, SCALAR, DIGEST = 65, 32, 32
MODULUS, EXPONENT = 384, 3
CALL_BUDGET = 200_000_000
MEMO_LIMIT = 20_000


@dataclass(frozen=True)
class Effect:
    """What a call left: registers, flags, and dead stack by its distance from SP."""

    registers: tuple[int, ...]
    flags: int
    stack: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class Call:
    """`answer`: what the call returns; `writes`: what it writes for its caller. All else that it
    changes is shared by all calls of one `kind`."""

    kind: tuple[Any, ...]
    answer: int | None
    writes: tuple[tuple[int, bytes], ...] = ()


class Answer(Enum):
    DONE = auto()
    REAL = auto()
    FAULT = auto()


class Library:
    """The modelled calls of the firmware in `symbols`.

    The state of an unfinished SHA-256 cannot be had from the host's library. In its place a name
    stands in the module's memory, and the host keeps what it names; code that looks into a context
    does not exist outside the library.
    """

    def __init__(self, symbols: Iterable[Symbols]) -> None:
        self._models: dict[int, Callable[[Probe], Call | Answer | None]] = {}
        self._dead: dict[int, tuple[int, ...]] = {}
        self._effects: dict[tuple[Any, ...], Effect] = {}
        self._answers: dict[tuple[bytes, ...], int] = {}
        self._powers: dict[tuple[bytes, bytes, bytes], bytes] = {}
        self._hashes: dict[bytes, Any] = {INITIAL: hashlib.sha256()}
        self.learned = 0
        for file in symbols:
            for name, model, arguments in (
                ("br_sha224_update", self._sha_update, 3),
                ("br_sha256_out", self._sha_out, 2),
                ("br_ecdsa_i31_vrfy_raw", self._ecdsa, 4),
                ("api_mul", self._on_curve, 4),
                ("br_rsa_i31_public", self._rsa, 3),
            ):
                if name in file.symbols:
                    self._models[file.symbols[name] & ~1] = model
                    self._dead[file.symbols[name] & ~1] = (R0, R1, R2, R3)[arguments:]

    @property
    def entries(self) -> frozenset[int]:
        return frozenset(self._models)

    def clear_dead(self, probe: Probe) -> None:
        """Before the first instruction of a function: nothing that it may use is changed."""
        for register in self._dead.get(probe.pc, ()):
            probe.write(register, 0)
        probe.write(R12, 0)
        probe.flags = 0

    def call(self, probe: Probe) -> Answer:
        """The core stands before an entry. DONE: it is behind the call now. REAL: this one must be run.
        FAULT: it reads where nothing is, after a long time."""
        call = self._models[probe.pc](probe)
        if call is None:
            return Answer.REAL
        if isinstance(call, Answer):
            return call
        kind = (probe.pc, *call.kind)
        effect = self._effects.get(kind)
        if effect is not None:
            _apply(probe, effect)
        else:
            effect = _learn(probe)
            if effect is None:
                return Answer.FAULT
            self.learned += 1
            if call.answer in (None, effect.registers[0]):
                self._effects[kind] = effect
        for address, data in call.writes:
            probe.ram[address - RAM_BASE : address - RAM_BASE + len(data)] = data
        return Answer.DONE

    def _sha_state(self, probe: Probe, context: int) -> tuple[Any, bytes, int] | None:
        """What has been hashed, the bytes of it that wait for a whole block, and its length."""
        if not _in_ram(context, SHA_CONTEXT):
            return None
        content = bytes(probe.ram[context - RAM_BASE : context - RAM_BASE + SHA_CONTEXT])
        buffer, count, value = content[4:68], int.from_bytes(content[72:80], "little"), content[80:]
        state = self._hashes.get(value)
        if state is None or (value == INITIAL) != (count < BLOCK):
            return None
        return state, buffer[: count % BLOCK], count

    def _sha_update(self, probe: Probe) -> Call | Answer | None:
        """(context, data, size)."""
        context, data_at, size = (probe.read(register) for register in (R0, R1, R2))
        held = self._sha_state(probe, context)
        if held is None or not size:
            return None
        data = probe.peek(data_at, size) if data_at + size <= SYS_BASE and size <= SHA_MOST else None
        if data is None:
            return Answer.FAULT
        state, waiting, count = held
        data = waiting + data
        whole = len(data) - len(data) % BLOCK
        writes = [(context + 4, data[whole:]), (context + 72, (count + size).to_bytes(8, "little"))]
        if whole:
            state = state.copy()
            state.update(data[:whole])
            name = state.digest()
            if len(self._hashes) > MEMO_LIMIT:
                self._hashes = {INITIAL: self._hashes[INITIAL]}
            self._hashes[name] = state
            writes.append((context + 80, name))
        return Call(("update", bool(whole), bool(waiting)), None, tuple(writes))

    def _sha_out(self, probe: Probe) -> Call | None:
        """(context, digest)."""
        out = probe.read(R1)
        held = self._sha_state(probe, probe.read(R0))
        if held is None or not _in_ram(out, DIGEST):
            return None
        state = held[0].copy()
        state.update(held[1])
        return Call(("out",), None, ((out, state.digest()),))

    def _ecdsa(self, probe: Probe) -> Call | None:
        """(implementation, hash, its length, public key, signature, its length)."""
        digest_at, length, key_at = (probe.read(register) for register in (R1, R2, R3))
        key, rest = probe.peek(key_at, 12), probe.peek(probe.read(SP), 8)
        if key is None or rest is None or length > DIGEST:
            return None
        curve, point_at, point_size = _words(key)
        signature_at, signature_size = _words(rest)
        if (curve, point_size, signature_size) != (P256, POINT, 2 * SCALAR):
            return None
        found = [
            probe.peek(at, size)
            for at, size in ((digest_at, length), (point_at, POINT), (signature_at, 2 * SCALAR))
        ]
        if None in found:
            return None
        arguments = tuple(part for part in found if part is not None)
        # A shorter digest is a smaller number (FIPS 186-5, 6.4.2; a fault has shortened it).
        arguments = (arguments[0].rjust(DIGEST, b"\0"), *arguments[1:])
        answer = self._answers.get(arguments)
        if answer is None:
            answer = self._answers[arguments] = verified(*arguments)
        return Call(("ecdsa", probe.read(R0), length, answer), answer)

    def _on_curve(self, probe: Probe) -> Call | None:
        """(point, its size, scalar, its size, curve), in place; by one, as the check of a key does."""
        point = probe.peek(probe.read(R0), POINT)
        size, scalar_size = probe.read(R1), probe.read(R3)
        rest = probe.peek(probe.read(SP), 4)
        if point is None or rest is None or (size, scalar_size) != (POINT, 1):
            return None
        if probe.peek(probe.read(R2), 1) != b"\x01":
            return None
        return Call(("mul", int(on_curve(point))), int(on_curve(point)))

    def _rsa(self, probe: Probe) -> Call | None:
        """(number, its size, key), in place; 1 where the number is below the modulus."""
        number_at, size = probe.read(R0), probe.read(R1)
        number, key = probe.peek(number_at, size) if size == MODULUS else None, probe.peek(probe.read(R2), 16)
        if number is None or key is None or not _in_ram(number_at, size):
            return None
        modulus_at, modulus_size, exponent_at, exponent_size = _words(key)
        if (modulus_size, exponent_size) != (MODULUS, EXPONENT):
            return None
        parts = probe.peek(modulus_at, MODULUS), probe.peek(exponent_at, EXPONENT)
        if parts[0] is None or parts[1] is None:
            return None
        value, modulus, exponent = (int.from_bytes(part, "big") for part in (number, parts[0], parts[1]))
        if not modulus >> 8 * MODULUS - 1 or not modulus & 1 or value >= modulus:
            return None
        known = (number, parts[0], parts[1])
        if known not in self._powers:
            self._powers[known] = pow(value, exponent, modulus).to_bytes(MODULUS, "big")
        return Call(("rsa",), 1, ((number_at, self._powers[known]),))


def on_curve(point: bytes) -> bool:
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        return False
    return point[0] == 4


def verified(digest: bytes, point: bytes, signature: bytes) -> int:
    r, s = (int.from_bytes(signature[start : start + SCALAR], "big") for start in (0, SCALAR))
    if not r or not s or not on_curve(point):
        return 0
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    try:
        key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return 0
    return 1


def _in_ram(address: int, size: int) -> bool:
    return address >= RAM_BASE and address + size <= RAM_BASE + RAM_SIZE


def _words(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4))


def _learn(probe: Probe) -> Effect | None:
    """Run the call for real and note what it changed; None where it does not return."""
    stack = probe.read(SP)
    before = bytes(probe.ram)
    if not probe.run_call(CALL_BUDGET):
        return None
    after = bytes(probe.ram)
    changed = list(_differences(before, after))
    return Effect(
        registers=tuple(probe.read(register) for register in RESIDUAL),
        flags=probe.flags,
        stack=tuple((at - stack, data) for at, data in changed if at < stack),
    )


def _differences(before: bytes, after: bytes, unit: int = 64) -> Iterable[tuple[int, bytes]]:
    """Runs of bytes that changed, by address."""
    for start in range(0, len(before), unit):
        if before[start : start + unit] == after[start : start + unit]:
            continue
        place = start
        for same, run in groupby(range(start, start + unit), lambda at: before[at] == after[at]):
            size = len(list(run))
            if not same:
                yield RAM_BASE + place, after[place : place + size]
            place += size


def _apply(probe: Probe, effect: Effect) -> None:
    stack, back = probe.read(SP) - RAM_BASE, probe.read(LR)
    ram = probe.ram
    for offset, data in effect.stack:
        start = stack + offset
        if 0 <= start <= RAM_SIZE - len(data):
            ram[start : start + len(data)] = data
    for register, value in zip(RESIDUAL, effect.registers, strict=True):
        probe.write(register, value)
    probe.flags = effect.flags
    probe.pc = back
