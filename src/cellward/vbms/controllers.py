"""How the CPU reaches flash and fuses: command registers that report a status word."""

from collections.abc import Callable

from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code, ModuleRefused
from cellward.core.slots import IMAGE_OK_FROM_END, OTP_SIZE, WRITE_SIZE
from cellward.vbms.cut import PowerCut
from cellward.vbms.nor import Area, Nor
from cellward.vbms.otp import WORD, Otp
from cellward.vbms.peripherals import Action, BusFault
from cellward.vbms.registers import FLASH_KEY, OTP_KEY, Flash, FlashCommand, OtpCtrl

PENDING = 0  # a status register between unlock and command: a skipped command never reads as OK


def _status_of(refusal: ModuleRefused) -> int:
    """The status word; misalignment has none of its own and reads as out of range."""
    return STATUS_WORDS.get(refusal.code, STATUS_WORDS[Code.FLASH_RANGE])


class FlashController:
    def __init__(self, nor: Nor, active: Callable[[], int]) -> None:
        self._nor = nor
        self._active = active
        self._registers = dict.fromkeys((Flash.BANK, Flash.OFFSET, Flash.DATA0, Flash.DATA1), 0)
        self._unlocked = False
        self._status = PENDING
        self._protected = False

    def reset(self) -> None:
        self._registers = dict.fromkeys(self._registers, 0)
        self._unlocked = False
        self._status = PENDING
        self._protected = False

    def read(self, offset: int) -> int:
        if offset == Flash.STATUS:
            return self._status
        if offset == Flash.PROTECT:
            return int(self._protected)
        if offset not in self._registers:
            raise BusFault(f"read of flash register 0x{offset:x}")
        return self._registers[Flash(offset)]

    def write(self, offset: int, value: int) -> Action:
        match offset:
            case Flash.UNLOCK:
                self._unlocked = value == FLASH_KEY
                self._status = PENDING
            case Flash.COMMAND:
                return self._command(value)
            case Flash.PROTECT:
                self._protected = self._protected or value == 1
            case Flash.BANK | Flash.OFFSET | Flash.DATA0 | Flash.DATA1:
                self._registers[Flash(offset)] = value
            case _:
                raise BusFault(f"write to flash register 0x{offset:x}")
        return Action.NONE

    def _command(self, value: int) -> Action:
        if value not in list(FlashCommand):
            raise BusFault(f"flash command {value}")
        unlocked, self._unlocked = self._unlocked, False
        if not unlocked:
            self._status = STATUS_WORDS[Code.FLASH_LOCKED]
            return Action.NONE
        try:
            self._execute(FlashCommand(value))
        except PowerCut:
            raise
        except ModuleRefused as refusal:
            self._status = _status_of(refusal)
            return Action.NONE
        self._status = STATUS_OK
        executable = self._registers[Flash.OFFSET] < self._nor.hardware.trailer.offset
        return Action.FLUSH if executable and self._registers[Flash.BANK] == self._active() else Action.NONE

    def _execute(self, command: FlashCommand) -> None:
        bank, offset = self._registers[Flash.BANK], self._registers[Flash.OFFSET]
        if command is FlashCommand.ERASE:
            self._nor.erase(bank, offset - offset % self._nor.hardware.page_size, self._locks())
            return
        words = (self._registers[Flash.DATA0], self._registers[Flash.DATA1])
        self._nor.program(bank, offset, b"".join(word.to_bytes(4, "little") for word in words), self._locks())

    def _locks(self) -> tuple[Area, ...]:
        """Everything but image_ok of the active bank, once PROTECT is set."""
        if not self._protected:
            return ()
        size, active = self._nor.hardware.bank_size, self._active()
        image_ok = size - IMAGE_OK_FROM_END
        return (
            Area(1 - active, 0, size),
            Area(active, 0, image_ok),
            Area(active, image_ok + WRITE_SIZE, size),
        )


class FuseController:
    def __init__(self, otp: Otp) -> None:
        self._otp = otp
        self._offset = 0
        self._unlocked = False
        self._status = PENDING

    def reset(self) -> None:
        self._otp.reset()
        self._offset = 0
        self._unlocked = False
        self._status = PENDING

    def read(self, offset: int) -> int:
        if offset == OtpCtrl.STATUS:
            return self._status
        if offset == OtpCtrl.OFFSET:
            return self._offset
        raise BusFault(f"read of fuse register 0x{offset:x}")

    def write(self, offset: int, value: int) -> Action:
        match offset:
            case OtpCtrl.UNLOCK:
                self._unlocked = value == OTP_KEY
                self._status = PENDING
            case OtpCtrl.OFFSET:
                self._offset = value
            case OtpCtrl.BURN:
                self._burn(value)
            case OtpCtrl.HIDE_SECRET:
                self._otp.secret_hidden = self._otp.secret_hidden or value == 1
            case _:
                raise BusFault(f"write to fuse register 0x{offset:x}")
        return Action.NONE

    def _burn(self, bits: int) -> None:
        unlocked, self._unlocked = self._unlocked, False
        if not unlocked:
            self._status = STATUS_WORDS[Code.FLASH_LOCKED]
            return
        try:
            self._otp.burn_word(self._offset, bits)
        except PowerCut:
            raise
        except ModuleRefused as refusal:
            locked = refusal.code is Code.OTP_LOCKED
            self._status = STATUS_WORDS[Code.FLASH_LOCKED] if locked else _status_of(refusal)
        else:
            self._status = STATUS_OK


class FuseShadow:
    """The fuses as the CPU reads them."""

    def __init__(self, otp: Otp) -> None:
        self._otp = otp

    def reset(self) -> None:
        """Nothing of its own."""

    def read(self, offset: int) -> int:
        if offset >= OTP_SIZE or offset % WORD:
            raise BusFault(f"read of fuse shadow 0x{offset:x}")
        return self._otp.word(offset)

    def write(self, offset: int, value: int) -> Action:
        raise BusFault(f"write to fuse shadow 0x{offset:x}")
