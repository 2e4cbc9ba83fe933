"""The update engine in Python, from docs/formats/update-link.md: the status of every answer.

Made for comparison with firmware/update under the fuzzer; the images' checks are core/image's.
"""

from dataclasses import dataclass
from enum import Enum, auto

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cellward.core import revocation
from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code, Refused
from cellward.core.image import HEADER_SIZE, Flag, Image, Trust, decode_slot, verify
from cellward.core.image.encryption import unwrap
from cellward.core.slots import BMS_M33, Stage
from cellward.ports.updatelink import MAX_DATA, MAX_PAYLOAD, MAX_VALUE, WRAPPED_KEY_SIZE, Request
from cellward.vbms.registers import LINK_BUFFER_SIZE, RAM_BASE, RAM_SIZE
from firmware.fuzz.world import COUNTER, DEVELOPMENT, World

STAGES = (Stage.LOADER, Stage.APP)
ALIGNMENT = 16
# Payload, from and to.
LENGTHS = {
    Request.IDENTIFY: (0, 0),
    Request.BOOT_RECORD: (0, 0),
    Request.DIGEST: (4, 4),
    Request.ENTER_UPDATE: (0, 0),
    Request.BEGIN: (4, MAX_PAYLOAD),
    Request.IMAGE: (8, 8 + WRAPPED_KEY_SIZE),
    Request.DATA: (5, 4 + MAX_DATA),
    Request.COPY: (4, 4),
    Request.FINISH: (0, 0),
    Request.ABORT: (0, 0),
    Request.REVOKE: (1, MAX_PAYLOAD),
    Request.VAULT_WRITE: (9, 8 + MAX_VALUE),
    Request.VAULT_READ: (4, 4),
    Request.RESTART: (0, 0),
}


class State(Enum):
    IDLE = auto()
    OPEN = auto()
    RECEIVING = auto()


ANY = frozenset(State)
STATES = {
    Request.IDENTIFY: ANY,
    Request.DIGEST: ANY,
    Request.BEGIN: frozenset({State.IDLE}),
    Request.IMAGE: frozenset({State.OPEN}),
    Request.DATA: frozenset({State.RECEIVING}),
    Request.COPY: frozenset({State.OPEN}),
    Request.FINISH: frozenset({State.OPEN}),
    Request.ABORT: ANY,
    Request.REVOKE: ANY,
    Request.RESTART: ANY,
}
# What a refusal leaves; what is not here keeps the state.
AFTER_REFUSAL = {
    Request.BEGIN: State.IDLE,
    Request.IMAGE: State.OPEN,
    Request.DATA: State.IDLE,
    Request.COPY: State.OPEN,
    Request.FINISH: State.IDLE,
}


class Answered(Exception):
    """With another status than OK."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


def check(good: bool, code: Code) -> None:
    if not good:
        raise Answered(code)


def _u16(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _u32(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def carry_out(
    world: World, data: bytes, before: int, *, production: bool, in_use: bytes | None
) -> tuple[int, int]:
    """What the ROM says to a revocation, and the fuses afterwards."""
    try:
        key_hash = revocation.verify(data, world.quorum.digest).key_hash
    except Refused as refusal:
        return STATUS_WORDS[refusal.code], before
    burned = {slot: key for slot, key in enumerate(world.slot_keys) if any(key)}
    bits = sum(1 << slot for slot, key in burned.items() if key == key_hash)
    gone = bits | before | (DEVELOPMENT if production else 0)
    if not bits:
        return STATUS_WORDS[Code.IMAGE_KEY_UNKNOWN], before
    if not bits & ~before:
        return STATUS_OK, before
    if all(gone >> slot & 1 for slot in burned):
        return STATUS_WORDS[Code.REVOCATION_LAST_KEY], before
    if in_use == key_hash:
        return STATUS_WORDS[Code.REVOCATION_IN_USE], before
    return STATUS_OK, before | bits


@dataclass
class Stream:
    stage: Stage
    length: int
    key: bytes | None
    received: int = 0
    payload: range = range(0)


class Engine:
    """One engine, from its start to a reset."""

    BUFFER = LINK_BUFFER_SIZE

    def __init__(self, world: World, *, in_rom: bool, on_trial: bool) -> None:
        self._world = world
        self._in_rom = in_rom
        self._on_trial = on_trial
        self._state = State.IDLE
        self._slots = dict.fromkeys(STAGES, b"")
        self._stream: Stream | None = None
        self.staged = False
        self.restarted = False
        self.revoked = 0

    def answer(self, frame: bytes) -> int:
        try:
            request = self._decode(frame)
            check(self._state in self._states(request), Code.LINK_STATE)
        except Answered as refusal:
            return STATUS_WORDS[refusal.code]
        try:
            self._serve(request, frame[4:])
        except Answered as refusal:
            if refusal.code not in (Code.LINK_FRAME, Code.LINK_STATE):
                self._state = AFTER_REFUSAL.get(request, self._state)
            return STATUS_WORDS[refusal.code]
        return STATUS_OK

    def _decode(self, frame: bytes) -> Request:
        check(len(frame) >= 4 and len(frame) == 4 + _u16(frame, 2), Code.LINK_FRAME)
        check(frame[0] in LENGTHS, Code.LINK_FRAME)
        least, most = LENGTHS[Request(frame[0])]
        check(least <= len(frame) - 4 <= most, Code.LINK_FRAME)
        return Request(frame[0])

    def _states(self, request: Request) -> frozenset[State]:
        if request is Request.COPY and self._in_rom:
            return frozenset()
        return STATES.get(request, frozenset())

    def _serve(self, request: Request, payload: bytes) -> None:
        match request:
            case Request.DIGEST:
                self._digest(payload)
            case Request.BEGIN:
                self._begin(payload)
            case Request.IMAGE:
                self._image(payload)
            case Request.DATA:
                self._data(payload)
            case Request.COPY:
                self._copy(payload)
            case Request.FINISH:
                self._finish()
            case Request.ABORT:
                self._state = State.IDLE
            case Request.REVOKE:
                self._revoke(payload)
            case Request.RESTART:
                self.restarted = True

    def _digest(self, payload: bytes) -> None:
        check(payload[0] <= 1 and payload[1] <= 1 and not any(payload[2:4]), Code.LINK_FRAME)
        if payload[0] == 1:  # the running bank's images decode
            try:
                decode_slot(self._slot(STAGES[payload[1]]))
            except Refused:
                raise Answered(Code.BANK_NOT_BOOTABLE) from None

    def _begin(self, payload: bytes) -> None:
        order = _u16(payload)
        check(not any(payload[2:4]) and len(payload) == 4 + order, Code.LINK_FRAME)
        check(order == 0, Code.LINK_ORDER)
        check(self._in_rom or not self._on_trial, Code.LINK_STATE)
        self.staged = False
        self._state = State.OPEN

    def _image(self, payload: bytes) -> None:
        stage, wrapped = payload[0], payload[1]
        check(stage <= 1 and wrapped in (0, WRAPPED_KEY_SIZE) and not any(payload[2:4]), Code.LINK_FRAME)
        check(len(payload) == 8 + wrapped, Code.LINK_FRAME)
        length = _u32(payload, 4)
        check(HEADER_SIZE <= length <= BMS_M33.slot(STAGES[stage]).size, Code.IMAGE_SIZE)
        key = None
        if wrapped:
            try:
                key = unwrap(payload[8:], self._world.scalar)
            except Refused as refusal:
                raise Answered(refusal.code) from refusal
        self._slots[STAGES[stage]] = b""
        self._stream = Stream(STAGES[stage], length, key)
        self._state = State.RECEIVING

    def _data(self, payload: bytes) -> None:
        stream = self._stream
        assert stream is not None
        data, left = payload[4:], stream.length - stream.received
        check(_u32(payload) == stream.received, Code.LINK_STATE)
        check(len(data) <= left and (len(data) == left or len(data) % ALIGNMENT == 0), Code.LINK_FRAME)
        if stream.received == 0:
            check(len(data) >= HEADER_SIZE, Code.LINK_FRAME)
            self._inspect(stream, data)
        self._slots[stream.stage] += self._plain(stream, data)
        stream.received += len(data)
        if stream.received == stream.length:
            self._state = State.OPEN

    def _inspect(self, stream: Stream, data: bytes) -> None:
        """The header alone: whatever else is wrong shows at the end."""
        try:
            decode_slot(data[:HEADER_SIZE].ljust(stream.length, b"\0"))
        except Refused as refusal:
            known = (Code.IMAGE_MAGIC, Code.IMAGE_HEADER, Code.IMAGE_FLAGS, Code.IMAGE_SIZE)
            if refusal.code in known:
                raise Answered(refusal.code) from refusal
        header_size, payload_size, flags = _u16(data, 8), _u32(data, 12), _u32(data, 16)
        check(flags == (0 if stream.key is None else Flag.ENC_AES128), Code.IMAGE_ENCRYPTION)
        check(stream.key is None or header_size % ALIGNMENT == 0, Code.IMAGE_HEADER)
        stream.payload = range(header_size, header_size + payload_size)

    def _plain(self, stream: Stream, data: bytes) -> bytes:
        at, end = stream.received, stream.received + len(data)
        start, stop = max(at, stream.payload.start), min(end, stream.payload.stop)
        if stream.key is None or start >= stop:
            return data
        counter = (start - stream.payload.start) // ALIGNMENT
        cipher = Cipher(algorithms.AES(stream.key), modes.CTR(counter.to_bytes(16, "big")))
        return (
            data[: start - at] + cipher.decryptor().update(data[start - at : stop - at]) + data[stop - at :]
        )

    def _copy(self, payload: bytes) -> None:
        check(payload[0] <= 1 and not any(payload[1:4]), Code.LINK_FRAME)
        self._slots[STAGES[payload[0]]] = self._world.running[STAGES[payload[0]]]
        self._state = State.OPEN

    def _finish(self) -> None:
        counters = [self._verified(stage).counter or 0 for stage in STAGES]
        check(counters[1] <= counters[0], Code.IMAGE_COUNTER)
        self.staged = True
        self._state = State.IDLE

    def _verified(self, stage: Stage) -> Image:
        keys = {slot: key for slot, key in enumerate(self._world.slot_keys) if any(key)}
        gone = frozenset(key for slot, key in keys.items() if self.revoked >> slot & 1)
        hardware = (BMS_M33.vendor_id, BMS_M33.class_id(stage))
        try:
            image = verify(
                decode_slot(self._slot(stage)), Trust(dict.fromkeys(keys.values()), gone, COUNTER, hardware)
            ).image
        except Refused as refusal:
            raise Answered(refusal.code) from refusal
        check(_can_start(image, stage), Code.IMAGE_HEADER)
        return image

    def _revoke(self, data: bytes) -> None:
        try:
            revocation.decode(data)
        except Refused as refusal:
            raise Answered(refusal.code) from refusal
        if self._in_rom:
            status, self.revoked = carry_out(self._world, data, self.revoked, production=False, in_use=None)
            if status != STATUS_OK:
                raise Answered(next(code for code, word in STATUS_WORDS.items() if word == status))

    def _slot(self, stage: Stage) -> bytes:
        return self._slots[stage].ljust(BMS_M33.slot(stage).size, b"\xff")


def _can_start(image: Image, stage: Stage) -> bool:
    """The entry check of firmware/boot/jump.c."""
    link = BMS_M33.active_base + BMS_M33.slot(stage).offset + image.header_size
    if image.payload_size < 8 or link % 0x80:
        return False
    stack, entry = _u32(image.payload), _u32(image.payload, 4)
    inside = 0 <= (entry & ~1) - link < image.payload_size
    return bool(entry & 1) and inside and RAM_BASE < stack <= RAM_BASE + RAM_SIZE and stack % 8 == 0
