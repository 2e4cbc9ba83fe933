"""The virtual module's memory map and registers; firmware/include/generated/registers.h comes from here.

Every register is a 32-bit little-endian word, written and read whole. An access that this page
does not list is a bus fault.
"""

from enum import IntEnum

ROM_BASE, ROM_SIZE = 0x1000_0000, 64 * 1024
ACTIVE_BASE = 0x0800_0000  # the bank chosen by REMAP
INACTIVE_BASE = 0x0820_0000  # the other bank
RAM_BASE, RAM_SIZE = 0x2000_0000, 64 * 1024

SYS_BASE = 0x4000_0000
FLASH_BASE = 0x4000_1000
OTP_CTRL_BASE = 0x4000_2000
WATCHDOG_BASE = 0x4000_3000
PACK_BASE = 0x4000_4000
TRNG_BASE = 0x4000_5000
OTP_BASE = 0x4000_6000  # read-only shadow of the fuses
PERIPHERAL_SIZE = 0x1000

CELLS = 12
TEMPERATURES = 4


class Sys(IntEnum):
    """System control."""

    RESET = 0x00  # write RESET_KEY: reset the core; RETAIN survives
    RETAIN = 0x04  # one word that survives a reset but not a power cut
    RESET_CAUSE = 0x08  # read: ResetCause
    REMAP = 0x0C  # 0: bank a is active, 1: bank b; ignored once LOCK is set
    LOCK = 0x10  # write 1: REMAP and OTP burns are closed until the next reset
    BANK = 0x14  # read: the active bank
    EVENT_WHAT = 0x20  # Where << 8 | bank index
    EVENT_STATUS = 0x24  # status word of core.errors
    EVENT_EXPECTED = 0x28
    EVENT_FOUND = 0x2C  # writing this one records the event
    MILESTONE = 0x30  # write: Milestone reached (counted, timed)
    IDLE = 0x34  # write: nothing to do until the next tick; ends the time slice


RESET_KEY = 0x5FA0_0001
RETAIN_REFUSED = 0x10AD_BAD0  # | bank index: the loader refused this bank's app


class ResetCause(IntEnum):
    POWER = 0
    SOFTWARE = 1
    WATCHDOG = 2
    PIN = 3


class Where(IntEnum):
    """Who reports an event."""

    ROM = 1
    LOADER = 2
    APP = 3
    HARDWARE = 4


class Milestone(IntEnum):
    ROM_ENTERED = 1
    LOADER_ENTERED = 2
    APP_ENTERED = 3
    TRIAL_STARTED = 4
    COUNTER_RAISED = 5
    SELFTEST_PASSED = 6
    SELFTEST_FAILED = 7
    CONFIRMED = 8
    RUNNING = 9
    RECOVERY = 10


class Flash(IntEnum):
    """Flash controller. Offsets are from the start of the bank."""

    UNLOCK = 0x00  # write FLASH_KEY before each command
    BANK = 0x04
    OFFSET = 0x08
    DATA0 = 0x0C
    DATA1 = 0x10
    COMMAND = 0x14  # FlashCommand
    STATUS = 0x18  # status word of core.errors
    PROTECT = 0x1C  # write 1: until reset, only image_ok of the active bank can be programmed


FLASH_KEY = 0xC0DE_F1A5


class FlashCommand(IntEnum):
    ERASE = 1  # the page that holds OFFSET
    PROGRAM = 2  # 8 bytes; refused unless erased and aligned


class OtpCtrl(IntEnum):
    UNLOCK = 0x00  # write OTP_KEY before each burn
    OFFSET = 0x04  # of a word
    BURN = 0x08  # bits to set
    STATUS = 0x0C
    HIDE_SECRET = 0x10  # write 1: the device secret reads 0 until reset


OTP_KEY = 0xF05E_B17E


class Watchdog(IntEnum):
    LOAD = 0x00  # instructions until reset; starts it, cannot be stopped, only fed
    FEED = 0x04  # write WATCHDOG_KEY


WATCHDOG_KEY = 0xFEED_D09E


class Pack(IntEnum):
    """Cells, temperatures, current and contactors, as an analogue front end shows them."""

    FRONT_END_ID = 0x00  # reads FRONT_END_ID_VALUE when all front ends answer
    CELL_COUNT = 0x04
    PACK_MV = 0x08
    CURRENT_MA = 0x0C  # signed; positive discharges
    CONTACTOR_CONTROL = 0x10  # write CONTACTOR_CLOSE or CONTACTOR_OPEN
    CONTACTOR_STATE = 0x14  # read back from the auxiliary contacts: 1 closed
    CLOSE_REQUEST = 0x18  # read: the vehicle asks for closed contactors
    LIMIT_OV_MV = 0x1C  # over-voltage register of the front end, writable, read back
    LIMIT_UV_MV = 0x20
    LIMIT_OT_DC = 0x24  # tenths of a degree Celsius
    TICK = 0x28  # milliseconds since power-on
    CELL_MV = 0x40  # CELLS words
    TEMPERATURE_DC = 0xC0  # TEMPERATURES words, signed, tenths of a degree Celsius


FRONT_END_ID_VALUE = 0xAFE0_1200
CONTACTOR_CLOSE = 0xC105_ED01
CONTACTOR_OPEN = 0x0BE4_0BE4
