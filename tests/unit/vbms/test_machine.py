"""The machine under firmware of a few lines: memory map, resets, watchdog, hangs, cuts, time."""

import pytest

from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code
from cellward.core.slots import (
    BMS_M33,
    DATA_BANK,
    DATA_PAGE_SIZE,
    DATA_SIZE,
    ERASED,
    IMAGE_OK_FROM_END,
    OTP_COUNTER,
    OTP_DEVICE_SECRET,
    OTP_SIZE,
    DataPage,
)
from cellward.ports.module import Conditions, Outcome, Torn
from cellward.vbms import machine as machine_module
from cellward.vbms.cut import Cuts
from cellward.vbms.machine import CLOCK_PER_MS, MAX_EVENTS, MAX_UNSETTLED_BOOTS, TICK_MS
from cellward.vbms.registers import (
    ACTIVE_BASE,
    CONTACTOR_CLOSE,
    DATA_BASE,
    FLASH_BASE,
    FLASH_KEY,
    INACTIVE_BASE,
    LINK_TX_BASE,
    OTP_BASE,
    OTP_CTRL_BASE,
    PACK_BASE,
    RAM_BASE,
    ROM_BASE,
    ROM_SIZE,
    SYS_BASE,
    TRNG_BASE,
    WATCHDOG_BASE,
    WATCHDOG_KEY,
    Flash,
    FlashCommand,
    FlashProtect,
    Milestone,
    OtpCtrl,
    Sys,
    Watchdog,
)
from cellward.vbms.registers import Pack as PackRegister
from tests.unit.vbms import thumb
from tests.unit.vbms.programs import (
    ENTROPY,
    EXEC_APP,
    EXEC_LOADER,
    FLASH_STATUS,
    FUSE_STATUS,
    RESET,
    RUNNING,
    Bench,
    burn,
    command,
    faulted,
    found,
)
from tests.unit.vbms.thumb import SPIN, UNDEFINED, copy, idle, jump, milestone, mov, poke, tell

# Memory map ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "address"),
    [
        (poke(ROM_BASE, 0), ROM_BASE),
        (poke(ACTIVE_BASE + 64, 0), ACTIVE_BASE + 64),
        (poke(INACTIVE_BASE + 64, 0), INACTIVE_BASE + 64),
        (poke(0, 0), 0),
        (poke(ROM_BASE + ROM_SIZE, 0), ROM_BASE + ROM_SIZE),
        (copy(0x5000_0000, RAM_BASE), 0x5000_0000),
        (UNDEFINED, ROM_BASE + thumb.VECTORS.size),
        (mov(0, RAM_BASE + 1) + jump(0), RAM_BASE),
        (mov(0, INACTIVE_BASE + 1) + jump(0), INACTIVE_BASE),
        (mov(0, PACK_BASE + 1) + jump(0), PACK_BASE),
        (copy(LINK_TX_BASE + 0x1000, RAM_BASE), LINK_TX_BASE + 0x1000),
        (poke(SYS_BASE + 0x40, 0), SYS_BASE + 0x40),
        (poke(SYS_BASE + Sys.BANK, 0), SYS_BASE + Sys.BANK),
        (poke(OTP_BASE, 1), OTP_BASE),
        (poke(PACK_BASE + PackRegister.PACK_MV, 1), PACK_BASE + PackRegister.PACK_MV),
        (poke(TRNG_BASE, 1), TRNG_BASE),
        (poke(FLASH_BASE + Flash.STATUS, 1), FLASH_BASE + Flash.STATUS),
        (poke(FLASH_BASE + Flash.COMMAND, 3), FLASH_BASE + Flash.COMMAND),
        (poke(OTP_CTRL_BASE + OtpCtrl.STATUS, 1), OTP_CTRL_BASE + OtpCtrl.STATUS),
        (poke(WATCHDOG_BASE + 8, 1), WATCHDOG_BASE + 8),
        (poke(SYS_BASE + Sys.REMAP, 2), SYS_BASE + Sys.REMAP),
        (poke(SYS_BASE + Sys.MILESTONE, 15), SYS_BASE + Sys.MILESTONE),
        (poke(SYS_BASE + Sys.EVENT_FOUND, 1), SYS_BASE + Sys.EVENT_FOUND),
        (copy(SYS_BASE + Sys.RESET, RAM_BASE), SYS_BASE + Sys.RESET),
        (copy(FLASH_BASE + Flash.UNLOCK, RAM_BASE), FLASH_BASE + Flash.UNLOCK),
        (copy(OTP_CTRL_BASE + OtpCtrl.UNLOCK, RAM_BASE), OTP_CTRL_BASE + OtpCtrl.UNLOCK),
        (copy(WATCHDOG_BASE + Watchdog.FEED, RAM_BASE), WATCHDOG_BASE + Watchdog.FEED),
        (copy(PACK_BASE + 0x2C, RAM_BASE), PACK_BASE + 0x2C),
        (copy(PACK_BASE + PackRegister.CELL_MV + 48, RAM_BASE), PACK_BASE + PackRegister.CELL_MV + 48),
        (copy(OTP_BASE + OTP_SIZE, RAM_BASE), OTP_BASE + OTP_SIZE),
        (copy(TRNG_BASE + 4, RAM_BASE), TRNG_BASE + 4),
        (mov(0, SYS_BASE + Sys.BANK) + thumb.load_byte(1, 0), SYS_BASE + Sys.BANK),
    ],
    ids=lambda value: f"0x{value:x}" if isinstance(value, int) else "",
)
def test_what_the_map_does_not_list_is_a_fault(bench: Bench, code: bytes, address: int) -> None:
    event = faulted(bench.boot(code, RUNNING, idle()))
    assert event.found == address
    assert bench.running.outcome is Outcome.HANG
    assert bytes(bench.flash) == bytes([ERASED]) * len(bench.flash)
    assert not any(bench.fuses)


def test_a_fault_names_its_instruction(bench: Bench) -> None:
    assert faulted(bench.boot(mov(0, 1), UNDEFINED)).expected == ROM_BASE + thumb.VECTORS.size + 8


def test_ram_holds_no_zeros_at_power_on(bench: Bench) -> None:
    (report,) = bench.boot(tell(RAM_BASE), poke(RAM_BASE, 77), tell(RAM_BASE), RUNNING, idle())
    assert found(report) == [0xA5A5_A5A5, 77]


def test_ram_outlives_a_reset_and_no_power_cut(bench: Bench) -> None:
    bench.boot(tell(RAM_BASE + 4), poke(RAM_BASE + 4, 77), RUNNING, idle())
    bench.running.reset()
    assert found(bench.running.reports()[0]) == [77]
    bench.running.power_off()
    assert b"\x4d" not in bench.running.memory()["ram"]
    bench.running.power_on()
    assert found(bench.running.reports()[0]) == [0xA5A5_A5A5]


def test_memory_is_searched_whole(bench: Bench) -> None:
    """RAM, registers, the message RAM, RETAIN, all flash and every fuse."""
    marks = {name: 0x1111_1110 + number for number, name in enumerate(("ram", "registers", "link_tx"))}
    bench.flash[-4:] = b"data"
    bench.fuses[OTP_DEVICE_SECRET.offset : OTP_DEVICE_SECRET.offset + 4] = b"fuse"
    bench.boot(
        poke(RAM_BASE + 0x8000, marks["ram"]),
        poke(LINK_TX_BASE + 8, marks["link_tx"]),
        poke(SYS_BASE + Sys.RETAIN, 0x7E7A_1234),
        mov(7, marks["registers"]),
        RUNNING,
        idle(),
    )
    memory = bench.running.memory()
    for name, mark in marks.items():
        assert mark.to_bytes(4, "little") in memory[name]
    assert memory["retain"] == b"\x34\x12\x7a\x7e"
    assert (memory["flash"][-4:], memory["fuses"]) == (b"data", bytes(bench.fuses))
    assert len(memory["registers"]) == 4 * (13 + 4 + 32)


def test_damage_shows_in_code_that_runs(bench: Bench) -> None:
    code = milestone(Milestone.LOADER_ENTERED) + jump(14)
    bench.flash[: len(code)] = code
    call = mov(3, ACTIVE_BASE + 1) + (0x4798).to_bytes(2, "little")
    bench.boot(EXEC_LOADER, RUNNING, thumb.loop(call + poke(SYS_BASE + Sys.IDLE, 0)))
    operations = bench.cuts.operations
    bench.running.flip_bit(0, 8 + 2, 0)  # the low byte of the milestone's number
    bench.running.run(10)
    names = [m.name for m in bench.running.reports()[0].milestones]
    assert names[-2:] == ["loader_entered", "app_entered"]
    assert bench.cuts.operations == operations


def test_windows_follow_remap_until_lock(bench: Bench) -> None:
    bench.flash[0:4] = (0xAAAA_0000).to_bytes(4, "little")
    bench.flash[BMS_M33.bank_size : BMS_M33.bank_size + 4] = (0xBBBB_0000).to_bytes(4, "little")
    look = tell(ACTIVE_BASE) + tell(INACTIVE_BASE) + tell(SYS_BASE + Sys.BANK)
    (report,) = bench.boot(
        look,
        poke(SYS_BASE + Sys.REMAP, 1),
        look,
        poke(SYS_BASE + Sys.LOCK, 1),
        poke(SYS_BASE + Sys.REMAP, 0),
        look,
        RUNNING,
        idle(),
    )
    assert found(report) == [0xAAAA_0000, 0xBBBB_0000, 0] + [0xBBBB_0000, 0xAAAA_0000, 1] * 2
    assert report.bank == "b"


def test_code_runs_from_the_active_bank_as_it_is_now(bench: Bench) -> None:
    """A jump into flash, a remap under translated code, and code replaced under its translation."""
    for bank, number in ((0, Milestone.LOADER_ENTERED), (1, Milestone.APP_ENTERED)):
        code = milestone(number) + jump(14)  # bx lr
        start = bank * BMS_M33.bank_size
        bench.flash[start : start + len(code)] = code
    call = mov(3, ACTIVE_BASE + 1) + (0x4798).to_bytes(2, "little")  # blx r3
    nop_return = int.from_bytes(thumb.NOP + jump(14) + thumb.NOP * 2, "little")
    low, high = nop_return & 0xFFFF_FFFF, nop_return >> 32
    (report,) = bench.boot(
        EXEC_LOADER,
        call,
        poke(SYS_BASE + Sys.REMAP, 1),
        EXEC_LOADER,
        call,
        command(FlashCommand.ERASE, 1, 0),
        command(FlashCommand.PROGRAM, 1, 0, low, high),
        call,
        RUNNING,
        idle(),
    )
    assert [m.name for m in report.milestones] == ["loader_entered", "app_entered", "running"]


@pytest.mark.parametrize("active", [0, 1])
def test_nothing_runs_from_the_other_bank(bench: Bench, active: int) -> None:
    code = milestone(Milestone.APP_ENTERED) + SPIN
    other = (1 - active) * BMS_M33.bank_size
    bench.flash[other : other + len(code)] = code
    event = faulted(bench.boot(poke(SYS_BASE + Sys.REMAP, active), mov(0, INACTIVE_BASE + 1), jump(0)))
    assert event.found == INACTIVE_BASE
    assert not any(report.milestones for report in bench.running.reports())


def test_random_word_and_pack_are_read(bench: Bench) -> None:
    bench.pack.set_conditions(Conditions(faulty_sensor=1, faulty_sensor_dc=-40))
    (report,) = bench.boot(
        tell(TRNG_BASE),
        tell(PACK_BASE + PackRegister.CELL_COUNT),
        tell(PACK_BASE + PackRegister.CELL_MV + 4),
        tell(PACK_BASE + PackRegister.TEMPERATURE_DC + 4),
        tell(PACK_BASE + PackRegister.PACK_MV),
        tell(PACK_BASE + PackRegister.FRONT_END_ID),
        poke(PACK_BASE + PackRegister.LIMIT_OV_MV, 4200),
        tell(PACK_BASE + PackRegister.LIMIT_OV_MV),
        tell(PACK_BASE + PackRegister.LIMIT_UV_MV),
        RUNNING,
        idle(),
    )
    pack = bench.pack
    assert found(report) == [
        ENTROPY,
        12,
        pack.cell_mv(1),
        0x1_0000_0000 - 40,
        pack.pack_mv,
        pack.front_end_id,
        4200,
        0,
    ]


# Flash and fuses from the CPU ----------------------------------------------------------------------


def test_flash_commands_report_a_status_word(bench: Bench) -> None:
    (report,) = bench.boot(
        command(FlashCommand.PROGRAM, 1, 16, 0x1111_1111, 0x2222_2222),
        FLASH_STATUS,
        command(FlashCommand.PROGRAM, 1, 16, 0, 0),
        FLASH_STATUS,
        poke(FLASH_BASE + Flash.COMMAND, FlashCommand.ERASE),  # not unlocked again
        FLASH_STATUS,
        command(FlashCommand.ERASE, 1, BMS_M33.bank_size),
        FLASH_STATUS,
        command(FlashCommand.PROGRAM, 3, 0, 0, 0),
        FLASH_STATUS,
        command(FlashCommand.PROGRAM, 1, 20, 0, 0),
        FLASH_STATUS,
        poke(FLASH_BASE + Flash.UNLOCK, FLASH_KEY + 1),
        FLASH_STATUS,
        RUNNING,
        idle(),
    )
    words = STATUS_WORDS
    assert found(report) == [
        STATUS_OK,
        words[Code.FLASH_UNERASED],
        words[Code.FLASH_LOCKED],
        words[Code.FLASH_RANGE],
        words[Code.FLASH_RANGE],
        words[Code.FLASH_RANGE],
        0,
    ]
    bank = bench.flash[BMS_M33.bank_size :]
    assert bytes(bank[8:32]) == b"\xff" * 8 + b"\x11" * 4 + b"\x22" * 4 + b"\xff" * 8


def test_erase_takes_the_whole_page(bench: Bench) -> None:
    bench.flash[0 : 2 * BMS_M33.page_size] = bytes(2 * BMS_M33.page_size)
    bench.boot(command(FlashCommand.ERASE, 0, 100), RUNNING, idle())
    assert bytes(bench.flash[: BMS_M33.page_size]) == b"\xff" * BMS_M33.page_size
    assert not any(bench.flash[BMS_M33.page_size : 2 * BMS_M33.page_size])


def test_protect_leaves_image_ok_of_the_active_bank(bench: Bench) -> None:
    image_ok = BMS_M33.bank_size - IMAGE_OK_FROM_END
    attempts = [(1, image_ok), (0, image_ok - 8), (0, image_ok + 8), (0, 0), (0, image_ok)]
    both = FlashProtect.ACTIVE | FlashProtect.INACTIVE
    code = [poke(FLASH_BASE + Flash.PROTECT, both), poke(FLASH_BASE + Flash.PROTECT, 0)]
    for bank, offset in attempts:
        code += [command(FlashCommand.PROGRAM, bank, offset), FLASH_STATUS]
    code += [command(FlashCommand.ERASE, 0, image_ok), FLASH_STATUS]
    (report,) = bench.boot(*code, RUNNING, idle())
    locked = STATUS_WORDS[Code.FLASH_LOCKED]
    assert found(report) == [locked] * 4 + [STATUS_OK] + [locked]
    assert bytes(bench.flash).count(0) == 8


@pytest.mark.parametrize(
    ("bits", "locked"),
    [
        (0, set()),
        (FlashProtect.ACTIVE, {"active", "trailer"}),
        (FlashProtect.INACTIVE, {"inactive"}),
        (FlashProtect.BOOT_COUNT, {"count", "count2"}),
        (FlashProtect.REVOCATION, {"revocation"}),
        (0xFFFF_FFFF, {"active", "trailer", "inactive", "count", "count2", "revocation"}),
    ],
)
@pytest.mark.parametrize("active", [0, 1])
def test_each_bit_of_protect_locks_its_own(bench: Bench, active: int, bits: int, locked: set[str]) -> None:
    places = {
        "active": (active, 0),
        "trailer": (active, BMS_M33.bank_size - 8),
        "inactive": (1 - active, BMS_M33.bank_size - IMAGE_OK_FROM_END),
        "count": (DATA_BANK, DataPage.BOOT_COUNT.value * DATA_PAGE_SIZE),
        "count2": (DATA_BANK, (DataPage.BOOT_COUNT.value + 2) * DATA_PAGE_SIZE - 8),
        "vault": (DATA_BANK, DataPage.VAULT_CALIBRATION.value * DATA_PAGE_SIZE),
        "keys": (DATA_BANK, DataPage.REVOCATION.value * DATA_PAGE_SIZE - 8),
        "revocation": (DATA_BANK, DataPage.REVOCATION.value * DATA_PAGE_SIZE),
        "rest": (DATA_BANK, (DataPage.REVOCATION.value + 1) * DATA_PAGE_SIZE),
    }
    protect = tell(FLASH_BASE + Flash.PROTECT)
    code = [protect, poke(SYS_BASE + Sys.REMAP, active)]
    code += [poke(FLASH_BASE + Flash.PROTECT, value) for value in (bits, 0)]
    for kind in (FlashCommand.PROGRAM, FlashCommand.ERASE):
        for bank, offset in places.values():
            code += [command(kind, bank, offset), FLASH_STATUS]
    (report,) = bench.boot(*code, protect, RUNNING, idle())
    word = {True: STATUS_WORDS[Code.FLASH_LOCKED], False: STATUS_OK}
    statuses = [word[name in locked] for name in places] * 2
    assert found(report) == [0, *statuses, bits & 15]
    bench.running.reset()
    assert found(bench.running.reports()[0])[0] == 0


def test_data_flash_has_pages_of_its_own(bench: Bench) -> None:
    start = DATA_BANK * BMS_M33.bank_size
    bench.flash[start : start + 3 * DATA_PAGE_SIZE] = bytes(3 * DATA_PAGE_SIZE)
    (report,) = bench.boot(
        command(FlashCommand.ERASE, DATA_BANK, DATA_PAGE_SIZE + 40),
        command(FlashCommand.PROGRAM, DATA_BANK, DATA_PAGE_SIZE, 1, 2),
        FLASH_STATUS,
        tell(DATA_BASE + DATA_PAGE_SIZE + 4),
        command(FlashCommand.ERASE, DATA_BANK, DATA_SIZE),
        FLASH_STATUS,
        RUNNING,
        idle(),
    )
    assert found(report) == [STATUS_OK, 2, STATUS_WORDS[Code.FLASH_RANGE]]
    page = bench.flash[start + DATA_PAGE_SIZE : start + 2 * DATA_PAGE_SIZE]
    assert page == (1).to_bytes(4, "little") + (2).to_bytes(4, "little") + b"\xff" * (DATA_PAGE_SIZE - 8)
    assert not any(bench.flash[start : start + DATA_PAGE_SIZE])
    assert not any(bench.flash[start + 2 * DATA_PAGE_SIZE : start + 3 * DATA_PAGE_SIZE])


def test_fuses_burn_until_lock(bench: Bench) -> None:
    (report,) = bench.boot(
        burn(OTP_COUNTER.offset, 0b11),
        FUSE_STATUS,
        burn(OTP_COUNTER.offset, 0b100),
        tell(OTP_BASE + OTP_COUNTER.offset),
        poke(OTP_CTRL_BASE + OtpCtrl.BURN, 0b1000),  # not unlocked
        FUSE_STATUS,
        burn(OTP_SIZE, 1),
        FUSE_STATUS,
        poke(SYS_BASE + Sys.LOCK, 1),
        burn(OTP_COUNTER.offset, 0b1000),
        FUSE_STATUS,
        RUNNING,
        idle(),
    )
    locked = STATUS_WORDS[Code.FLASH_LOCKED]
    assert found(report) == [STATUS_OK, 0b111, locked, STATUS_WORDS[Code.FLASH_RANGE], locked]
    assert report.counter == 3


def test_the_secret_hides_until_reset(bench: Bench) -> None:
    secret = OTP_DEVICE_SECRET.offset
    bench.fuses[secret : secret + 32] = b"\x5a" * 32
    look = tell(OTP_BASE + secret) + tell(OTP_BASE + secret + 28)
    hide = poke(OTP_CTRL_BASE + OtpCtrl.HIDE_SECRET, 1) + poke(OTP_CTRL_BASE + OtpCtrl.HIDE_SECRET, 0)
    (report,) = bench.boot(look, hide, look, RUNNING, idle())
    assert found(report) == [0x5A5A_5A5A] * 2 + [0, 0]
    bench.running.reset()
    assert found(bench.running.reports()[0]) == [0x5A5A_5A5A] * 2 + [0, 0]


# Resets, watchdog, hangs ----------------------------------------------------------------------------


def test_retain_survives_resets_and_no_power_cut(bench: Bench) -> None:
    bench.boot(tell(SYS_BASE + Sys.RETAIN), poke(SYS_BASE + Sys.RETAIN, 9), RUNNING, idle())
    bench.running.reset()
    assert [found(r) for r in bench.running.reports()] == [[9]]
    bench.running.power_off()
    bench.running.power_on()
    assert [found(r) for r in bench.running.reports()] == [[0]]


def test_each_reset_names_its_cause(bench: Bench) -> None:
    cause = tell(SYS_BASE + Sys.RESET_CAUSE)
    reports = bench.boot(cause, RESET, SPIN)
    assert [(r.cause, found(r)) for r in reports[:3]] == [
        ("power", [0]),
        ("software", [1]),
        ("software", [1]),
    ]
    bench.running.reset()
    assert found(bench.running.reports()[0]) == [3]


def test_nothing_is_executed_after_the_reset_write(bench: Bench) -> None:
    reports = bench.boot(RESET, milestone(Milestone.RUNNING), idle())
    assert all(report.milestones == () for report in reports)


def test_resets_without_end_are_a_hang(bench: Bench) -> None:
    reports = bench.boot(RESET, SPIN)
    assert len(reports) == MAX_UNSETTLED_BOOTS
    assert [r.outcome for r in reports] == [Outcome.RESET] * (len(reports) - 1) + [Outcome.HANG]
    bench.running.run(100)
    assert bench.running.reports() == reports


def test_a_hang_is_judged_by_its_budget(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "BOOT_BUDGET", 5 * CLOCK_PER_MS)
    (report,) = bench.boot(SPIN)
    assert report.outcome is Outcome.HANG
    assert bench.pack.at_ms == 6


def test_firmware_that_idles_before_it_settles_hangs_too(bench: Bench) -> None:
    (report,) = bench.boot(idle())
    assert report.outcome is Outcome.HANG


@pytest.mark.parametrize("load", [1, 100, 3 * CLOCK_PER_MS + 1])
def test_the_watchdog_bites_and_opens_the_contactors(bench: Bench, load: int) -> None:
    close = poke(PACK_BASE + PackRegister.CONTACTOR_CONTROL, CONTACTOR_CLOSE)
    reports = bench.boot(close, poke(WATCHDOG_BASE + Watchdog.LOAD, load), SPIN)
    first = reports[0]
    assert (first.outcome, first.contactors_closed) == (Outcome.RESET, True)
    assert [(e.where, e.code) for e in first.events] == [("hardware", Code.WATCHDOG)]
    assert reports[1].cause == "watchdog"
    assert reports[-1].outcome is Outcome.HANG
    assert not bench.pack.contactors_closed


def test_a_fed_watchdog_is_quiet_and_idle_time_counts(bench: Bench) -> None:
    feed = poke(WATCHDOG_BASE + Watchdog.FEED, WATCHDOG_KEY)
    load = poke(WATCHDOG_BASE + Watchdog.LOAD, 2 * TICK_MS * CLOCK_PER_MS)
    bench.boot(load, RUNNING, thumb.loop(feed + poke(SYS_BASE + Sys.IDLE, 0)))
    bench.running.run(1000)
    assert bench.running.reports()[0].outcome is Outcome.RUNNING
    bench.boot(load, RUNNING, idle())
    bench.running.run(100)
    assert bench.running.reports()[0].events[0].code is Code.WATCHDOG


def test_a_watchdog_cannot_be_stopped_or_widened(bench: Bench) -> None:
    load = WATCHDOG_BASE + Watchdog.LOAD
    reports = bench.boot(
        poke(load, CLOCK_PER_MS), poke(load, 0), poke(load, 0xFFFF_FFFF), tell(load), RUNNING, SPIN
    )
    assert reports[0].events[0].found == CLOCK_PER_MS
    assert reports[0].events[-1].code is Code.WATCHDOG


def test_a_wrong_key_feeds_nothing(bench: Bench) -> None:
    feed = poke(WATCHDOG_BASE + Watchdog.FEED, WATCHDOG_KEY ^ 1)
    reports = bench.boot(poke(WATCHDOG_BASE + Watchdog.LOAD, CLOCK_PER_MS), thumb.loop(feed))
    assert reports[0].events[-1].code is Code.WATCHDOG


def test_events_are_bounded(bench: Bench) -> None:
    (report,) = bench.boot(tell(TRNG_BASE) * (MAX_EVENTS + 5), RUNNING * (MAX_EVENTS + 5), idle())
    assert len(report.events) == MAX_EVENTS
    assert len(report.milestones) == MAX_EVENTS


# Power cuts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", list(Torn))
def test_any_operation_of_the_firmware_can_be_cut(bench: Bench, torn: Torn) -> None:
    code = (
        command(FlashCommand.PROGRAM, 1, 0, 0, 0)
        + command(FlashCommand.PROGRAM, 1, 8, 0, 0)
        + burn(OTP_COUNTER.offset, 0xFFFF_FFFF)
        + RUNNING
        + idle()
    )
    for operation in (1, 2, 3):
        bench.flash[:] = bytes([ERASED]) * len(bench.flash)
        bench.fuses[:] = bytes(OTP_SIZE)
        bench.cuts = Cuts()
        bench.cuts.order(operation, torn)
        (report,) = bench.boot(code)
        assert report.outcome is Outcome.POWER_CUT
        assert report.milestones == ()
        assert not bench.running.powered
        first, second = (bytes(bench.flash[BMS_M33.bank_size + o :][:8]) for o in (0, 8))
        assert (first == bytes(8)) == (operation > 1)
        assert (second == bytes(8)) == (operation > 2)
        assert (second == b"\xff" * 8) == (operation < 2 or (operation == 2 and torn is Torn.NONE))
        burned = bytes(bench.fuses[OTP_COUNTER.offset :][:4])
        assert burned != b"\xff" * 4
        assert any(burned) == (operation == 3 and torn is not Torn.NONE)
        bench.running.power_on()
        assert bench.running.outcome is Outcome.RUNNING


# Time and counting -----------------------------------------------------------------------------------


def test_runs_are_repeatable(bench: Bench) -> None:
    code = (RUNNING, tell(PACK_BASE + PackRegister.TICK), idle())
    first = bench.boot(*code)
    assert bench.boot(*code) == first


def test_ticks_pass_while_the_firmware_idles(bench: Bench) -> None:
    bench.boot(RUNNING, thumb.loop(poke(SYS_BASE + Sys.IDLE, 0) + tell(PACK_BASE + PackRegister.TICK)))
    bench.running.run(100)
    events = bench.running.reports()[0].events
    assert [event.found for event in events[:5]] == [10, 20, 30, 40, 50]


def test_firmware_that_never_idles_still_ages(bench: Bench) -> None:
    bench.boot(RUNNING, SPIN)
    assert bench.running.outcome is Outcome.RUNNING
    before = bench.pack.at_ms
    bench.running.run(20)
    assert bench.pack.at_ms == before + 20


def test_an_idle_write_happens_once(bench: Bench) -> None:
    """The core stops at the store and repeats it; the second time must not count."""
    bench.boot(RUNNING, poke(SYS_BASE + Sys.IDLE, 0) * 3, tell(PACK_BASE + PackRegister.TICK), SPIN)
    bench.running.run(3 * TICK_MS + 1)
    assert bench.running.reports()[0].events[0].found == 3 * TICK_MS


def test_instructions_are_counted_exactly(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """poke is five instructions; the counted loop runs 1000 times two of them, and one more."""
    countdown = mov(3, 1000) + (0x3B01).to_bytes(2, "little") + (0xD1FD).to_bytes(2, "little")
    for clock in (CLOCK_PER_MS, 7, 97):
        monkeypatch.setattr(machine_module, "CLOCK_PER_MS", clock)
        (report,) = bench.boot(countdown, RUNNING, poke(SYS_BASE + Sys.IDLE, 0), SPIN, exact=True)
        counter = bench.running.counter
        assert counter is not None
        # Stands before the store to IDLE: 2 + 2000, a poke, a poke without its store.
        assert counter.by_region == {"rom": 2 + 2000 + 5 + 4, "loader": 0, "app": 0}
        assert report.milestones[0].instructions >= 2007


def test_counts_are_split_by_region(bench: Bench) -> None:
    app = ACTIVE_BASE + BMS_M33.app.offset
    loader = mov(3, app + 1) + jump(3)
    bench.flash[: len(loader)] = loader
    code = RUNNING + idle()
    bench.flash[BMS_M33.app.offset : BMS_M33.app.offset + len(code)] = code
    bench.boot(EXEC_LOADER, EXEC_APP, mov(3, ACTIVE_BASE + 1), jump(3), exact=True)
    assert bench.running.counter is not None
    assert bench.running.counter.by_region == {"rom": 10 + 3, "loader": 3, "app": 5 + 4}
    assert bench.running.counter.total == 25
