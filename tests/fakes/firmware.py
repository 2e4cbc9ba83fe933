"""The firmware's end of the update link, from docs/formats/update-link.md and not from the C;
tests/contract holds both to the same promises."""

from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cellward.core import bootrecord, revocation, wire
from cellward.core.banks import State, state_of
from cellward.core.bootrecord import BootRecord, Measurer
from cellward.core.errors import STATUS_OK, STATUS_WORDS, CellwardError, Code, ModuleRefused
from cellward.core.image import Flag, Image, Trust, decode_slot, verify
from cellward.core.image.encryption import unwrap
from cellward.core.ladder import derive, update_public_key
from cellward.core.revocation import POINT_SIZE
from cellward.core.slots import (
    DATA_PAGE_SIZE,
    ERASED,
    MAGIC_FROM_END,
    OTP_DEVICE_SECRET,
    TRAILER_MAGIC,
    TRAILER_SIZE,
    DataPage,
    Stage,
    decode_trailer,
    whole_phrases,
)
from cellward.ports.module import Outcome
from cellward.ports.updatelink import ANSWER, DATA_UNIT, MAX_DATA, WRAPPED_KEY_SIZE, Request
from cellward.ports.updatevalues import Answerer, Identity, StageDigest
from tests.fakes.vault import READ_SIZES, WRITE_SIZES, FakeVault

if TYPE_CHECKING:
    from tests.fakes.module import FakeModule

HEADER = 32
PAGE = DataPage.REVOCATION.value * DATA_PAGE_SIZE
WHERE = {Outcome.RUNNING: Answerer.APP, Outcome.UPDATING: Answerer.LOADER, Outcome.RECOVERY: Answerer.ROM}
IDLE, OPEN, RECEIVING = "idle", "open", "receiving"
Rule = Callable[[bytes], bytes]
ALL = (Answerer.ROM, Answerer.LOADER, Answerer.APP)
ENGINE = (Answerer.ROM, Answerer.LOADER)
APP = (Answerer.APP,)


class No(ModuleRefused):
    """A request that is refused with this code."""

    def __init__(self, code: Code) -> None:
        super().__init__(code, "request")


class FakeFirmware:
    """One module's ROM, loader and app, as far as the link shows them."""

    def __init__(self, module: "FakeModule") -> None:
        self._module = module
        self._vault = FakeVault(module)
        self._restart = False
        self.enters_update = False
        self.state = IDLE
        self._stage = Stage.LOADER
        self._length = self._received = 0
        self._key = b""
        self._payload = range(0)
        # Who answers, in which states of the engine, how many bytes of payload, how.
        self._rules: dict[Request, tuple[tuple[Answerer, ...], tuple[str, ...], range, Rule]] = {
            Request.IDENTIFY: (ALL, (), range(1), self._identify),
            Request.BOOT_RECORD: (APP, (), range(1), self._boot_record),
            Request.DIGEST: (ALL, (), range(4, 5), self._digest),
            Request.ENTER_UPDATE: (APP, (), range(1), self._enter),
            Request.BEGIN: (ENGINE, (IDLE,), range(4, 2113), self._begin),
            Request.IMAGE: (ENGINE, (OPEN,), range(8, 122), self._image),
            Request.DATA: (ENGINE, (RECEIVING,), range(5, 4 + MAX_DATA + 1), self._data),
            Request.COPY: ((Answerer.LOADER,), (OPEN,), range(4, 5), self._copy),
            Request.FINISH: (ENGINE, (OPEN,), range(1), self._finish),
            Request.ABORT: (ALL, (), range(1), self._abort),
            Request.REVOKE: (ALL, (), range(1, 2113), self._revoke),
            Request.VAULT_WRITE: (APP, (), WRITE_SIZES, self._of_vault(self._vault.write)),
            Request.VAULT_READ: (APP, (), READ_SIZES, self._of_vault(self._vault.read)),
            Request.RESTART: (ALL, (), range(1), self._restarts),
        }

    # --- frames ---

    def answer(self, request: bytes) -> bytes:
        kind, sequence = (*request[:2], 0, 0)[:2] if len(request) >= 4 else (0, 0)
        try:
            payload, status = self._serve(request), STATUS_OK
        except No as no:
            payload, status = b"", STATUS_WORDS[no.code]
        head = bytes([kind | ANSWER, sequence]) + wire.u16(len(payload))
        answer = head + wire.u32(status) + payload
        if self._restart:
            self._restart = False
            self._module.restart()
        return answer

    def _serve(self, request: bytes) -> bytes:
        if len(request) < 4 or wire.u16(len(request) - 4) != request[2:4] or request[0] not in list(Request):
            raise No(Code.LINK_FRAME)
        rule = self._rules.get(Request(request[0]))
        if rule is None:
            raise No(Code.LINK_STATE)
        answerers, states, sizes, call = rule
        if len(request) - 4 not in sizes:
            raise No(Code.LINK_FRAME)
        if self.where not in answerers or (states and self.state not in states):
            raise No(Code.LINK_STATE)
        try:
            return call(request[4:])
        except No as no:
            if self.where is not Answerer.APP and no.code not in (Code.LINK_FRAME, Code.LINK_STATE):
                self._refused(Request(request[0]))
            raise

    def _refused(self, request: Request) -> None:
        if request in (Request.BEGIN, Request.DATA, Request.FINISH):
            self.state = IDLE

    @property
    def where(self) -> Answerer:
        return WHERE[self._module.outcome]

    # --- what any stage tells ---

    def _identify(self, _: bytes) -> bytes:
        status, scalar = self._module.status(), derive(self._secret).update_scalar
        return Identity(
            self.where,
            status.active_bank,
            status.lifecycle,
            status.counter,
            status.revoked,
            MAX_DATA,
            self._module.serial,
            bytes(POINT_SIZE) if self.where is Answerer.APP else update_public_key(scalar).spki[-POINT_SIZE:],
        ).encode()

    @property
    def _secret(self) -> bytes:
        start = OTP_DEVICE_SECRET.offset
        return bytes(self._module.fuses[start : start + OTP_DEVICE_SECRET.size])

    def _boot_record(self, _: bytes) -> bytes:
        keys, status = derive(self._secret), self._module.status()
        records = []
        for by, stage, key in (
            (Measurer.ROM, Stage.LOADER, keys.rom_record),
            (Measurer.LOADER, Stage.APP, keys.loader_record),
        ):
            found = self._in_slot(self._module.active, stage)
            records.append(
                BootRecord(
                    by,
                    status.lifecycle,
                    self._module.active,
                    self._module.boot_count,
                    status.counter,
                    found.version,
                    found.digest,
                ).encode(key)
            )
        assert len(records[0]) == bootrecord.SIZE
        return b"".join(records)

    def _digest(self, payload: bytes) -> bytes:
        if payload[0] > 1 or payload[1] > 1 or any(payload[2:]):
            raise No(Code.LINK_FRAME)
        found = self._in_slot(self._module.active ^ payload[0], list(Stage)[payload[1]])
        digest = sha256(found.data).digest()
        return StageDigest(len(found.data), digest, found.version, found.counter or 0).encode()

    def _in_slot(self, bank: int, stage: Stage) -> Image:
        slot = self._module.hardware.slot(stage)
        try:
            return decode_slot(bytes(self._module.banks[bank][slot.offset : slot.end]))
        except CellwardError as error:
            raise No(Code.BANK_NOT_BOOTABLE) from error

    # --- into and out of update mode ---

    def _enter(self, _: bytes) -> bytes:
        self._check_contactors()
        self.enters_update = self._restart = True
        return b""

    def _restarts(self, _: bytes) -> bytes:
        if self.where is Answerer.APP:
            self._check_contactors()
        self._restart = True
        return b""

    def _check_contactors(self) -> None:
        if self._module.measured.contactors_closed:
            raise No(Code.UPDATE_CONTACTORS)

    def booted(self) -> None:
        """A reset loses what the engine was about."""
        self.state = IDLE

    # --- the engine ---

    @property
    def _target(self) -> int:
        return 1 - self._module.active

    def _trailer(self, bank: int) -> bytes:
        return bytes(self._module.banks[bank][-TRAILER_SIZE:])

    def _begin(self, payload: bytes) -> bytes:
        order = int.from_bytes(payload[:2], "little")
        if any(payload[2:4]) or len(payload) != 4 + order:
            raise No(Code.LINK_FRAME)
        if order:
            raise No(Code.LINK_ORDER)
        running = state_of(decode_trailer(self._trailer(self._module.active)))
        if self.where is Answerer.LOADER and running is not State.CONFIRMED:
            raise No(Code.LINK_STATE)
        self._module.erase_inside(self._target, self._module.hardware.trailer.offset)
        if set(self._trailer(self._target)) != {ERASED}:
            raise No(Code.FLASH_READBACK)
        self.state = OPEN
        return b""

    def _image(self, payload: bytes) -> bytes:
        stage, wrapped = payload[0], payload[1]
        if (
            stage > 1
            or wrapped not in (0, WRAPPED_KEY_SIZE)
            or any(payload[2:4])
            or len(payload) != 8 + wrapped
        ):
            raise No(Code.LINK_FRAME)
        self._stage, self._length = list(Stage)[stage], int.from_bytes(payload[4:8], "little")
        if not HEADER <= self._length <= self._module.hardware.slot(self._stage).size:
            raise No(Code.IMAGE_SIZE)
        self._key, self._received, self._payload = b"", 0, range(0)
        if wrapped:
            try:
                self._key = unwrap(payload[8:], derive(self._secret).update_scalar)
            except CellwardError as error:
                raise No(Code.IMAGE_ENCRYPTION) from error
        self._erase_slot()
        self.state = RECEIVING
        return b""

    def _erase_slot(self) -> None:
        slot = self._module.hardware.slot(self._stage)
        for offset in range(slot.offset, slot.end, self._module.hardware.page_size):
            self._module.erase_inside(self._target, offset)

    def _data(self, payload: bytes) -> bytes:
        offset, data = int.from_bytes(payload[:4], "little"), payload[4:]
        left = self._length - self._received
        if offset != self._received:
            raise No(Code.LINK_STATE)
        if len(data) > left or (len(data) < left and len(data) % DATA_UNIT):
            raise No(Code.LINK_FRAME)
        if offset == 0:
            self._inspect(data)
        self._program(offset, self._decrypted(offset, data))
        self._received += len(data)
        if self._received == self._length:
            self.state = OPEN
        return b""

    def _inspect(self, data: bytes) -> None:
        if len(data) < HEADER:
            raise No(Code.LINK_FRAME)
        reader = wire.Reader(data, "header")
        if reader.u32() != 0x96F3B83D:
            raise No(Code.IMAGE_MAGIC)
        reader.u32()
        start, _, size, flags = reader.u16(), reader.u16(), reader.u32(), reader.u32()
        if start + size > self._length:
            raise No(Code.IMAGE_SIZE)
        if flags != (Flag.ENC_AES128 if self._key else 0):
            raise No(Code.IMAGE_ENCRYPTION)
        self._payload = range(start, start + size)

    def _decrypted(self, offset: int, data: bytes) -> bytes:
        if not self._key:
            return data
        first = max(offset, self._payload.start)
        last = min(offset + len(data), self._payload.stop)
        if first >= last:
            return data
        block = ((first - self._payload.start) // DATA_UNIT).to_bytes(16, "big")
        opened = Cipher(algorithms.AES(self._key), modes.CTR(block)).encryptor()
        inner = opened.update(data[first - offset : last - offset])
        return data[: first - offset] + inner + data[last - offset :]

    def _program(self, offset: int, data: bytes) -> None:
        slot = self._module.hardware.slot(self._stage)
        try:
            self._module.program_inside(self._target, slot.offset + offset, whole_phrases(data))
        except ModuleRefused as error:
            if error.code is Code.POWER_CUT:
                raise
            raise No(error.code) from error

    def _copy(self, payload: bytes) -> bytes:
        if payload[0] > 1 or any(payload[1:]):
            raise No(Code.LINK_FRAME)
        self._stage = list(Stage)[payload[0]]
        found = self._in_slot(self._module.active, self._stage)
        self._erase_slot()
        self._program(0, found.data)
        return b""

    def _finish(self, _: bytes) -> bytes:
        images = {stage: self._verified(stage) for stage in Stage}
        if (images[Stage.APP].counter or 0) > (images[Stage.LOADER].counter or 0):
            raise No(Code.IMAGE_COUNTER)
        at = self._module.hardware.bank_size - MAGIC_FROM_END
        self._module.program_inside(self._target, at, TRAILER_MAGIC)
        self.state = IDLE
        return b""

    def _verified(self, stage: Stage) -> Image:
        module, status = self._module, self._module.status()
        trust = Trust(
            keys=dict.fromkeys(status.slot_keys),
            revoked=frozenset(key for slot, key in enumerate(status.slot_keys) if status.barred >> slot & 1),
            counter=module.counter,
            hardware=(module.hardware.vendor_id, module.hardware.class_id(stage)),
        )
        slot = module.hardware.slot(stage)
        try:
            held = decode_slot(bytes(module.banks[self._target][slot.offset : slot.end]))
            return verify(held, trust).image
        except CellwardError as error:
            raise No(error.code) from error

    def _abort(self, _: bytes) -> bytes:
        self.state = IDLE
        return b""

    # --- vault and revocation ---

    def _of_vault(self, call: Callable[[bytes, bytes], bytes | Code]) -> Rule:
        def answer(payload: bytes) -> bytes:
            told = call(payload, derive(self._secret).vault)
            if isinstance(told, Code):
                raise No(told)
            return told

        return answer

    def _revoke(self, payload: bytes) -> bytes:
        try:
            revocation.decode(payload)
        except CellwardError as error:
            raise No(error.code) from error
        self._module.erase_data(PAGE)
        self._module.program_data(PAGE, whole_phrases(wire.u32(len(payload)) + payload))
        if self.where is Answerer.ROM:
            self._carry_out(running=None)
        return b""

    def committed(self, bank: int) -> None:
        """A confirmed and committed bank is about to run."""
        self._vault.commit(derive(self._secret).vault)
        try:
            self._carry_out(running=bank)
        except No as no:
            self._module.note_event("rom", no.code)

    def _carry_out(self, running: int | None) -> None:
        page = bytes(self._module.data_flash[PAGE : PAGE + DATA_PAGE_SIZE])
        length = int.from_bytes(page[:4], "little")
        if length > DATA_PAGE_SIZE - 4:
            return
        try:
            self._burn(page[4 : 4 + length], running)
        finally:
            self._module.erase_data(PAGE)

    def _burn(self, data: bytes, running: int | None) -> None:
        status = self._module.status()
        try:
            taken = revocation.verify(data, status.root_quorum)
        except CellwardError as error:
            raise No(error.code) from error
        if taken.key_hash not in status.slot_keys:
            raise No(Code.IMAGE_KEY_UNKNOWN)
        slot = status.slot_keys.index(taken.key_hash)
        gone = status.barred | 1 << slot
        if all(not any(key) or gone >> number & 1 for number, key in enumerate(status.slot_keys)):
            raise No(Code.REVOCATION_LAST_KEY)
        if running is not None and any(
            verify(self._in_slot(running, stage), Trust(dict.fromkeys(status.slot_keys))).key.key_hash
            == taken.key_hash
            for stage in Stage
        ):
            raise No(Code.REVOCATION_IN_USE)
        self._module.revoke_slot(slot)
