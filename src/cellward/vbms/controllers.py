"""How the CPU reaches flash and fuses: command registers that report a status word."""

from collections.abc import Callable

from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code, ModuleRefused
from cellward.core.slots import (
    DATA_BANK,
    DATA_PAGE_SIZE,
    IMAGE_OK_FROM_END,
    OTP_SIZE,
    WRITE_SIZE,
    DataPage,
)
from cellward.vbms.cut import PowerCut
from cellward.vbms.nor import Area, Nor
from cellward.vbms.otp import WORD, Otp
from cellward.vbms.peripherals import Action, BusFault
from cellward.vbms.registers import FLASH_KEY, OTP_KEY, Flash, FlashCommand, FlashProtect, OtpCtrl

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
        self._protected = 0

    def reset(self) -> None:
        self._registers = dict.fromkeys(self._registers, 0)
        self._unlocked = False
        self._status = PENDING
        self._protected = 0

    def read(self, offset: int) -> int:
        if offset == Flash.STATUS:
            return self._status
        if offset == Flash.PROTECT:
            return self._protected
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
                self._protected |= value & sum(FlashProtect)
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
            self._nor.erase(bank, offset - offset % self._nor.page_size(bank), self._locks())
            return
        words = (self._registers[Flash.DATA0], self._registers[Flash.DATA1])
        self._nor.program(bank, offset, b"".join(word.to_bytes(4, "little") for word in words), self._locks())

    def _locks(self) -> tuple[Area, ...]:
        """What the bits of PROTECT lock."""
        if not self._protected:
            return ()
        size, active = self._nor.hardware.bank_size, self._active()
        image_ok = size - IMAGE_OK_FROM_END
        areas = {
            FlashProtect.ACTIVE: (Area(active, 0, image_ok), Area(active, image_ok + WRITE_SIZE, size)),
            FlashProtect.INACTIVE: (Area(1 - active, 0, size),),
            FlashProtect.BOOT_COUNT: (_data_pages(DataPage.BOOT_COUNT, 2),),
            FlashProtect.REVOCATION: (_data_pages(DataPage.REVOCATION, 1),),
        }
        return tuple(area for bit in FlashProtect if self._protected & bit for area in areas[bit])


def _data_pages(first: DataPage, count: int) -> Area:
    start = first.value * DATA_PAGE_SIZE
    return Area(DATA_BANK, start, start + count * DATA_PAGE_SIZE)


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
