"""The virtual module's memory map and registers; firmware/include/generated/registers.h comes from here.

Every register is a 32-bit little-endian word, written and read whole. An access that this page
does not list is a bus fault.
"""

from enum import IntEnum

from cellward.core.slots import BMS_M33

ROM_BASE, ROM_SIZE = 0x1000_0000, 64 * 1024
ACTIVE_BASE = 0x0800_0000  # the bank chosen by REMAP
# Several bits away from ACTIVE_BASE: no single glitch in a pointer leads from one bank to the other.
INACTIVE_BASE = 0x0C60_0000  # the other bank, never executable
DATA_BASE = 0x0B50_0000  # the data flash, read only and never executable
RAM_BASE, RAM_SIZE = BMS_M33.ram_base, BMS_M33.ram_size  # never executable; outlives a reset, as on silicon

SYS_BASE = 0x4000_0000
FLASH_BASE = 0x4000_1000
OTP_CTRL_BASE = 0x4000_2000
WATCHDOG_BASE = 0x4000_3000
PACK_BASE = 0x4000_4000
TRNG_BASE = 0x4000_5000
OTP_BASE = 0x4000_6000  # read-only shadow of the fuses
TAMPER_BASE = 0x4000_7000
LINK_BASE = 0x4000_8000
# Message RAM of the link, as of an M_CAN: bytes, not registers. RX is the module's from the moment
# RX_LENGTH reads above 0 until RX_DONE is written or a reset: what was checked does not change, and
# the link takes no second request meanwhile. TX is the module's until TX_LENGTH is written; the
# answer is taken at that store. Without a request that waits for one, it is lost.
LINK_RX_BASE = 0x4000_9000  # read only
LINK_TX_BASE = 0x4000_A000
LINK_BUFFER_SIZE = 0x1000
PERIPHERAL_SIZE = 0x1000

CELLS = 12
TEMPERATURES = 4


class Sys(IntEnum):
    """System control."""

    RESET = 0x00  # write RESET_KEY: reset the core; RETAIN survives
    RETAIN = 0x04  # one word that survives a reset but not a power cut
    RESET_CAUSE = 0x08  # read: ResetCause
    REMAP = 0x0C  # 0: bank a is active, 1: bank b; ignored once LOCK is set
    LOCK = 0x10  # write 1: REMAP and OTP burns are closed until the next reset; EXEC_* are not
    BANK = 0x14  # read: the active bank
    EVENT_WHAT = 0x20  # Where << 8 | bank index
    EVENT_STATUS = 0x24  # status word of core.errors
    EVENT_EXPECTED = 0x28
    EVENT_FOUND = 0x2C  # writing this one records the event
    MILESTONE = 0x30  # write: Milestone reached (counted, timed)
    IDLE = 0x34  # write: nothing to do until the next tick; ends the time slice
    EXEC_LOADER = 0x38  # write EXEC_LOADER_KEY: the active bank's loader slot can be executed
    EXEC_APP = 0x3C  # write EXEC_APP_KEY: its app slot. Any other word, or a REMAP: neither


RESET_KEY = 0x5FA0_0001
RETAIN_REFUSED = 0x10AD_BAD0  # | bank index: the loader refused this bank's app
RETAIN_UPDATE = 0x5EED_0DA7  # the app asked for the loader's update engine
# Verification computes these words; they are nowhere in the firmware (OpenTitan's unlock).
EXEC_LOADER_KEY = 0x9A3C_65E1
EXEC_APP_KEY = 0x4D71_C2B6


class ResetCause(IntEnum):
    POWER = 0
    SOFTWARE = 1
    WATCHDOG = 2
    PIN = 3
    TAMPER = 4


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
    UPDATE_ENTERED = 11
    KEY_REVOKED = 12
    VAULT_COMMITTED = 13
    ZEROISED = 14


class Flash(IntEnum):
    """Flash controller. Offsets are from the start of the bank."""

    UNLOCK = 0x00  # write FLASH_KEY before each command
    BANK = 0x04  # 0, 1, or DATA_BANK
    OFFSET = 0x08
    DATA0 = 0x0C
    DATA1 = 0x10
    COMMAND = 0x14  # FlashCommand
    STATUS = 0x18  # status word of core.errors
    PROTECT = 0x1C  # FlashProtect bits; set until the next reset


FLASH_KEY = 0xC0DE_F1A5


class FlashProtect(IntEnum):
    """Write locks. An erased bit of this register cannot be had back without a reset."""

    ACTIVE = 1  # the active bank, but for image_ok
    INACTIVE = 2  # the other bank, whole
    BOOT_COUNT = 4  # the boot count's pages of the data flash
    REVOCATION = 8  # the page that holds a revocation for the ROM


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


class Tamper(IntEnum):
    """Sensors with a latch that outlives a power cut. A latched event resets the core at once, in
    any state (ResetCause.TAMPER), and hides the device secret until it is cleared. Without power it
    is latched all the same (a battery of its own) and read after the next power-on."""

    LATCH = 0x00  # read: TamperSource bits
    CLEAR = 0x04  # write TAMPER_KEY: forget them; only while the lifecycle is tampered or later


TAMPER_KEY = 0x7A3B_E12D


class TamperSource(IntEnum):
    CASE = 1
    VOLTAGE = 2
    CLOCK = 4
    TEMPERATURE = 8
    DEBUG = 16  # a debugger that was attached although the debug lock is burned


class Link(IntEnum):
    """The module's end of its link: one request, one answer (docs/formats/update-link.md)."""

    RX_LENGTH = 0x00  # read: bytes of the request that waits, 0 without one
    RX_DONE = 0x04  # write 1: the request's buffer is the link's again
    TX_LENGTH = 0x08  # write 1 to LINK_BUFFER_SIZE: send so many bytes of the answer's buffer


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
