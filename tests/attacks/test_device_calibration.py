"""Calibration on the pack controller under attack: after each refusal, what was in force still is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cellward.core.errors import CellwardError, Code, PolicyRefused, TrustRefused
from cellward.core.slots import BMS_M33, OTP_LIFECYCLE, Lifecycle, Stage
from cellward.core.vault import Name
from cellward.device.calibrate import (
    Calibrations,
    InModule,
    Source,
    block_of,
    kept,
    meant,
    take,
    value_name,
)
from cellward.device.link import UpdateLink
from cellward.device.memory import ModuleEntry
from cellward.device.safety import PARKED
from cellward.device.vault import FILE, Vault, opened
from cellward.ports.updatelink import Request
from tests.support import vault
from tests.support.calibration import HAND, made, out_of_range, signed
from tests.support.maker import Hand
from tests.support.pack import ADDRESS, SERIAL, AttackedModule
from tests.support.pack import Pack as Vehicle
from tests.support.packtpm import MemoryDevice, copy

ENTRY = ModuleEntry(SERIAL, BMS_M33.name, ADDRESS)
APP = f"{SERIAL}/{Stage.APP}"
FIRST = signed("1.2.0", counter=3)


@dataclass
class Controller:
    """A vehicle with its agent, and the controller's vault beside it."""

    pack: vault.Pack
    vehicle: Vehicle = field(default_factory=Vehicle)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self, hand: Hand = HAND) -> None:
        """A new process of the agent."""

        def read() -> dict[str, bytes]:
            return kept(self.pack.place)

        self.calibrations = Calibrations([hand.public_key], [ENTRY], read)
        self.vehicle.calibrations = self.calibrations

    @property
    def module(self) -> AttackedModule:
        return self.vehicle.module

    @property
    def link(self) -> UpdateLink:
        return UpdateLink(self.module, SERIAL)

    def take(self, data: bytes, hand: Hand = HAND) -> bool:
        found, entries = meant(data, [hand.public_key], [ENTRY], "file")
        with opened(self.pack.place) as open_vault:
            (taken,) = take(open_vault, data, found, {each: block_of(self.link) for each in entries}, "file")
        return taken.changed

    def state(self) -> tuple[bytes, ...]:
        tpm = self.pack.device.tpm
        counts = tpm.chain(0x01800303) + bytes([tpm.counter(0x01800302) % 256])
        return self.pack.file, counts, bytes(self.module.data_flash), bytes(self.module.fuses)

    def told(self) -> str:
        self.vehicle.cycle()
        return self.vehicle.told(APP)

    def open_lifecycle(self) -> None:
        start = OTP_LIFECYCLE.offset
        self.module.fuses[start : start + 4] = Lifecycle.PROVISIONED.fuses.to_bytes(4, "little")


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    pack = vault.Pack(MemoryDevice(), tmp_path / "state")
    pack.make()
    found = Controller(pack)
    assert found.take(FIRST)
    return found


# --- taking one ---


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(signed("2.0.0", hand=Hand("other")), Code.DOCUMENT_SIGNATURE, id="another-key"),
        pytest.param(
            FIRST.replace(b'"payload":"eyJ', b'"payload":"eyI'), Code.DOCUMENT_SIGNATURE, id="edited"
        ),
        pytest.param(signed("2.0.0", "M-0002"), Code.CALIBRATION_SERIAL, id="another-serial"),
        pytest.param(signed("2.0.0", counter=2), Code.CALIBRATION_COUNTER, id="lower-counter"),
        pytest.param(signed("1.1.9", counter=3), Code.CALIBRATION_VERSION, id="older"),
        pytest.param(signed("1.2.0", counter=3, over_mv=4100), Code.CALIBRATION_VERSION, id="same-version"),
        pytest.param(out_of_range("2.0.0"), Code.CALIBRATION_RANGE, id="out-of-range"),
        pytest.param(b"{}", Code.METADATA_FORMAT, id="no-calibration"),
    ],
)
def test_refused_and_the_last_good_one_stays(controller: Controller, data: bytes, code: Code) -> None:
    before = controller.state()
    with pytest.raises(CellwardError) as refused:
        controller.take(data)
    assert refused.value.code is code
    assert controller.state() == before
    controller.calibrations.refresh()
    assert controller.calibrations.of(SERIAL).calibration == made("1.2.0", counter=3)


def test_of_another_hardware(controller: Controller) -> None:
    foreign = replace(ENTRY, hardware="bms-m4")
    with pytest.raises(TrustRefused) as refused:
        meant(signed("2.0.0"), [HAND.public_key], [foreign], "file")
    assert refused.value.code is Code.CALIBRATION_HARDWARE


def test_without_calibration_keys_nobody_s_is_taken(controller: Controller) -> None:
    with pytest.raises(TrustRefused) as refused:
        meant(FIRST, [], [ENTRY], "file")
    assert refused.value.code is Code.DOCUMENT_SIGNATURE


def test_the_same_again_changes_nothing(controller: Controller) -> None:
    before = controller.state()
    assert not controller.take(FIRST)
    assert controller.state() == before


def test_a_newer_one_is_taken_and_the_old_one_never_comes_back(controller: Controller) -> None:
    assert controller.take(signed("1.3.0", SERIAL, counter=3))
    with pytest.raises(TrustRefused) as refused:
        controller.take(FIRST)
    assert refused.value.code is Code.CALIBRATION_VERSION


def test_a_retired_key_brings_nothing_old_back(controller: Controller) -> None:
    successor = Hand("successor")
    with pytest.raises(TrustRefused) as refused:
        controller.take(signed("1.1.0", hand=successor, counter=3), successor)
    assert refused.value.code is Code.CALIBRATION_VERSION
    assert controller.take(signed("1.3.0", hand=successor, counter=3), successor)


def test_below_the_module_s_own(controller: Controller) -> None:
    controller.open_lifecycle()
    plant = made("3.0.0")
    controller.link.vault_write(Name.CALIBRATION, plant.block_version, plant.block.encode())
    before = controller.state()
    with pytest.raises(TrustRefused) as refused:
        controller.take(signed("2.0.0", counter=3))
    assert refused.value.code is Code.CALIBRATION_VERSION
    assert controller.state() == before


def test_for_all_of_its_modules_or_none(controller: Controller) -> None:
    other = replace(ENTRY, serial="M-0002")
    data = signed("2.0.0", counter=3)
    found, entries = meant(data, [HAND.public_key], [ENTRY, other], "file")
    assert entries == [ENTRY, other]
    before, newer = controller.state(), (made("2.1.0").block_version, made("2.1.0").block)
    with opened(controller.pack.place) as open_vault, pytest.raises(TrustRefused):
        take(open_vault, data, found, {ENTRY: None, other: newer}, "file")
    assert controller.state() == before


def test_a_cut_between_two_modules_is_made_good(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(ENTRY, serial="M-0002")
    data = signed("2.0.0", counter=3)
    found, entries = meant(data, [HAND.public_key], [ENTRY, other], "file")
    blocks = dict.fromkeys(entries)
    put = Vault.put

    def cut_off(self: Vault, name: str, value: bytes) -> None:
        if name == value_name("M-0002"):
            raise KeyboardInterrupt
        put(self, name, value)

    with monkeypatch.context() as patched, opened(controller.pack.place) as open_vault:
        patched.setattr(Vault, "put", cut_off)
        with pytest.raises(KeyboardInterrupt):
            take(open_vault, data, found, blocks, "file")
    with opened(controller.pack.place) as open_vault:
        taken = take(open_vault, data, found, blocks, "file")
    assert [(each.entry, each.changed) for each in taken] == [(ENTRY, False), (other, True)]
    assert kept(controller.pack.place) == {value_name(each.serial): data for each in entries}


# --- what it does ---


def test_it_narrows_the_gates(controller: Controller) -> None:
    controller.take(signed("1.3.0", over_mv=3690, counter=3))
    controller.vehicle.release("1.4.0", 7)
    before = controller.vehicle.snapshot()
    error = controller.vehicle.refused(Code.GATE_CHARGE)
    assert "3690" in error.expected
    assert controller.vehicle.snapshot().banks == before.banks
    controller.take(signed("1.3.1", over_mv=3710, counter=3))
    assert controller.vehicle.cycle().outcome == "updated"


def test_it_never_widens_them(controller: Controller) -> None:
    controller.calibrations.refresh()
    found = controller.calibrations.of(SERIAL).narrowed(PARKED)
    assert (found.cell_mv, found.temperature_dc) == (PARKED.cell_mv, PARKED.temperature_dc)
    assert replace(found, cell_mv=PARKED.cell_mv) == PARKED


@pytest.mark.parametrize(
    "measured",
    [
        pytest.param({"cells_mv": (3700,) * 11 + (4201,)}, id="a-cell-too-high"),
        pytest.param({"cells_mv": (3700,) * 11 + (2799,)}, id="a-cell-too-low"),
        pytest.param({"temperatures_dc": (601,)}, id="too-hot"),
        pytest.param({"temperatures_dc": (-1,), "current_ma": -1000}, id="too-cold-to-charge"),
        pytest.param({"current_ma": 200_001}, id="discharge"),
        pytest.param({"current_ma": -100_001}, id="charge"),
    ],
)
def test_what_is_measured_outside_is_told(controller: Controller, measured: dict[str, object]) -> None:
    assert controller.told() == ""
    controller.module.measured = replace(controller.module.measured, **measured)  # type: ignore[arg-type]
    assert controller.told() == Code.CALIBRATION_LIMITS
    assert controller.vehicle.memory.calibrated(SERIAL)["code"] == Code.CALIBRATION_LIMITS


def test_cold_cells_may_be_discharged(controller: Controller) -> None:
    controller.module.measured = replace(controller.module.measured, temperatures_dc=(-1,), current_ma=1000)
    assert controller.told() == ""


def test_each_cycle_is_one_look(controller: Controller) -> None:
    controller.module.measured = replace(controller.module.measured, cells_mv=(2700,) * 12)
    for _ in range(2):
        controller.vehicle.cycle()  # that the limits are passed is news, so the first one looks twice
    found = controller.vehicle.memory.observed(SERIAL)
    assert found is not None
    assert (found.looks, found.deep_discharge, found.overcharge) == (2, 2, 0)


def test_nothing_is_counted_without_limits(tmp_path: Path) -> None:
    controller = Controller(vault.Pack(MemoryDevice(), tmp_path / "state"))
    controller.vehicle.cycle()
    assert controller.vehicle.memory.observed(SERIAL) is None


def test_an_open_module_gets_its_part(controller: Controller) -> None:
    controller.open_lifecycle()
    controller.vehicle.cycle()
    block = made("1.2.0").block_version, made("1.2.0").block
    assert block_of(controller.link) == block
    controller.module.reset()
    controller.vehicle.cycle()
    assert controller.vehicle.memory.calibrated(SERIAL)["module"] == InModule.SAME


def test_a_closed_module_keeps_its_own(controller: Controller) -> None:
    before = bytes(controller.module.data_flash)
    controller.vehicle.cycle()
    assert bytes(controller.module.data_flash) == before
    assert controller.vehicle.memory.calibrated(SERIAL)["module"] == InModule.OWN


def test_a_module_with_a_newer_one_is_offered_none(controller: Controller) -> None:
    controller.open_lifecycle()
    plant = made("3.0.0")
    controller.link.vault_write(Name.CALIBRATION, plant.block_version, plant.block.encode())
    controller.module.reset()
    controller.vehicle.cycle()
    assert block_of(controller.link) == (plant.block_version, plant.block)


def test_a_module_with_another_one_waiting(controller: Controller) -> None:
    controller.open_lifecycle()
    controller.vehicle.cycle()
    assert controller.take(signed("1.3.0", counter=3))
    assert controller.vehicle.cycle().refusal is None  # the module cannot take it yet, and is not lost by it
    assert controller.vehicle.memory.calibrated(SERIAL)["module"] == InModule.OWN
    for _ in range(2):
        controller.module.reset()
        controller.vehicle.cycle()
    assert block_of(controller.link) == (made("1.3.0").block_version, made("1.3.0").block)


@pytest.mark.parametrize("answer", [b"", bytes(7), bytes(24)])
def test_an_app_that_answers_nonsense_is_still_updated(controller: Controller, answer: bytes) -> None:
    rules = controller.module.firmware._rules
    answerers, states, sizes, _ = rules[Request.VAULT_READ]
    rules[Request.VAULT_READ] = (answerers, states, sizes, lambda payload: answer)
    controller.vehicle.release("1.4.0", 7)
    assert controller.vehicle.cycle().outcome == "updated"


# --- the kept one, at every cycle ---


def edited(controller: Controller) -> None:
    data = bytearray(controller.pack.file)
    data[-100] ^= 1
    controller.pack.restore(bytes(data))


def taken_away(controller: Controller) -> None:
    (controller.pack.state / FILE).unlink()


def older_file(controller: Controller) -> None:
    before = controller.pack.file
    controller.take(signed("1.3.0", counter=3))
    controller.pack.restore(before)


def put_by_hand(data: bytes) -> Callable[[Controller], None]:
    return lambda controller: controller.pack.put(value_name(SERIAL), data)


BROKEN = [
    pytest.param(edited, Code.VAULT_SEAL, id="edited"),
    pytest.param(taken_away, Code.VAULT_MISSING, id="taken-away"),
    pytest.param(older_file, Code.VAULT_ROLLBACK, id="older-file"),
    pytest.param(put_by_hand(b"limits"), Code.METADATA_FORMAT, id="not-signed"),
    pytest.param(put_by_hand(signed("9.0.0", hand=Hand("x"))), Code.DOCUMENT_SIGNATURE, id="another-key"),
    pytest.param(put_by_hand(signed("9.0.0", "M-0002")), Code.CALIBRATION_SERIAL, id="another-serial"),
    pytest.param(put_by_hand(out_of_range("9.0.0")), Code.CALIBRATION_RANGE, id="out-of-range"),
]


@pytest.mark.parametrize(("attack", "cause"), BROKEN)
def test_safe_defaults_and_an_event(
    controller: Controller, attack: Callable[[Controller], None], cause: Code
) -> None:
    good = controller.pack.file
    attack(controller)
    assert controller.told() == Code.CALIBRATION_DEFAULTS
    found = controller.calibrations.of(SERIAL)
    assert (found.source, found.calibration) == (Source.DEFAULTS, None)
    assert found.narrowed(PARKED) == PARKED
    note = controller.vehicle.memory.calibrated(SERIAL)
    assert (note["code"], str(cause) in note["found"]) == (Code.CALIBRATION_DEFAULTS, True), note
    if cause in (Code.VAULT_SEAL, Code.VAULT_MISSING):
        controller.pack.restore(good)  # mended: the event is forgotten
        assert controller.told() == ""


@pytest.mark.parametrize(("attack", "cause"), BROKEN)
def test_the_last_good_one_while_the_agent_runs(
    controller: Controller, attack: Callable[[Controller], None], cause: Code
) -> None:
    assert controller.told() == ""
    attack(controller)
    assert controller.told() == Code.CALIBRATION_LAST_GOOD
    found = controller.calibrations.of(SERIAL)
    assert (found.source, found.calibration) == (Source.LAST_GOOD, made("1.2.0", counter=3))
    controller.restart()
    assert controller.told() == Code.CALIBRATION_DEFAULTS


def test_keys_that_are_not_trusted_any_more(controller: Controller) -> None:
    controller.restart(Hand("successor"))
    assert controller.told() == Code.CALIBRATION_DEFAULTS


def test_an_update_says_more_than_an_event(controller: Controller) -> None:
    controller.module.selftest_passes = False
    controller.vehicle.release("1.4.0", 7)
    controller.vehicle.cycle()
    edited(controller)
    assert controller.told() == Code.UPDATE_FELL_BACK


def test_a_pack_without_a_vault_is_quiet(tmp_path: Path) -> None:
    controller = Controller(vault.Pack(MemoryDevice(), tmp_path / "state"))
    assert controller.told() == ""
    assert controller.vehicle.memory.calibrated(SERIAL) == {}


def test_a_note_that_was_damaged_ends_no_cycle(controller: Controller) -> None:
    controller.vehicle.store.write(f"calibrated/{SERIAL}.json", b'{"code":7}')
    assert controller.vehicle.cycle().refusal is None
    assert controller.vehicle.memory.calibrated(SERIAL)["version"] == "1.2.0"


def test_a_full_vault(controller: Controller) -> None:
    with opened(controller.pack.place) as open_vault:
        for number in range(63):
            open_vault.put(f"v{number}", b"x")
    other = replace(ENTRY, serial="M-0002")
    data = signed("2.0.0", "M-0002")
    found, _ = meant(data, [HAND.public_key], [other], "file")
    with opened(controller.pack.place) as open_vault, pytest.raises(PolicyRefused) as refused:
        take(open_vault, data, found, {other: None}, "file")
    assert refused.value.code is Code.VAULT_FULL


# --- with the real TPM ---


@pytest.fixture
def real(made_tpm: Path, tmp_path: Path) -> Iterator[Controller]:
    pack = vault.Pack(copy(made_tpm, tmp_path / "tpm"), tmp_path / "state")
    pack.make()
    yield Controller(pack)
    pack.device.off()


def test_a_power_cut_and_an_old_file_on_a_real_tpm(real: Controller) -> None:
    assert real.take(FIRST)
    before = real.pack.file
    assert real.take(signed("1.3.0", counter=3))
    real.pack.device.cut()
    real.pack.device.tpm.pcr_extend(8, vault.FIRST)
    real.restart()
    assert real.told() == ""
    assert real.calibrations.of(SERIAL).calibration == made("1.3.0", counter=3)
    real.pack.restore(before)
    real.restart()
    assert real.told() == Code.CALIBRATION_DEFAULTS
