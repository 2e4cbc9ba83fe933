"""device.inventory: what lies in a bank is untrusted bytes, read with bounds."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cellward.core import image, wire
from cellward.core.errors import Code, FormatRefused, ModuleRefused, PolicyRefused
from cellward.core.slots import BMS_M33, Lifecycle, Stage
from cellward.device import inventory
from cellward.device.memory import Memory
from cellward.ports.module import Outcome
from tests.fakes.store import MemoryStore
from tests.support.pack import AttackedModule, Pack, built, plant
from tests.support.uptane import holder

KEYS = (holder("firmware").public_key,)


@pytest.fixture
def module() -> AttackedModule:
    return Pack().module


def test_what_runs(module: AttackedModule) -> None:
    memory = Memory(MemoryStore())
    runs = inventory.installed(module, module.status(), memory)
    assert {stage: item.version for stage, item in runs.items()} == {
        Stage.LOADER: "1.3.0",
        Stage.APP: "1.3.0",
    }
    assert runs[Stage.APP].length == len(built(Stage.APP, "1.3.0", 6))
    assert runs[Stage.APP].filename == "bms-m33/app-1.3.0.img"
    assert inventory.installed(module, module.status(), memory) == runs


def test_a_view_holds_only_what_verifies(module: AttackedModule) -> None:
    good = inventory.view(module, module.status(), KEYS)
    assert set(good.images) == set(Stage)
    assert (good.running, good.target, good.settled, good.recovery) == ("a", "b", True, False)
    module.banks[0][BMS_M33.app.offset + 4000] ^= 1
    assert set(inventory.view(module, module.status(), KEYS).images) == {Stage.LOADER}
    stranger = (holder("thief").public_key,)
    assert not inventory.view(module, module.status(), stranger).images


def test_a_revoked_or_unburned_key_verifies_nothing(module: AttackedModule) -> None:
    status = module.status()
    second = (bytes(32), *status.slot_keys)
    for changed in ({"revoked": 1}, {"slot_keys": ()}, {"slot_keys": second, "revoked": 2}):
        assert not inventory.view(module, replaced(status, changed), KEYS).images
    held = inventory.view(module, replaced(status, {"slot_keys": second, "revoked": 1}), KEYS)
    assert set(held.images) == set(Stage)


@pytest.mark.parametrize("lifecycle", Lifecycle, ids=str)
def test_a_development_key_verifies_nothing_of_a_closed_module(
    module: AttackedModule, lifecycle: Lifecycle
) -> None:
    status = replaced(module.status(), {"development": 1, "lifecycle": lifecycle})
    assert set(inventory.view(module, status, KEYS).images) == (set() if lifecycle.closed else set(Stage))


def replaced(status: Any, changes: dict[str, Any]) -> Any:
    return type(status)(**{**status.__dict__, **changes})


@pytest.mark.parametrize("outcome", [Outcome.OFF, Outcome.HANG, Outcome.POWER_CUT, Outcome.RESET])
def test_a_module_that_neither_runs_nor_waits(module: AttackedModule, outcome: Outcome) -> None:
    module.outcome = outcome
    assert inventory.installed(module, module.status(), Memory(MemoryStore())) == {}
    with pytest.raises(PolicyRefused) as refused:
        inventory.view(module, module.status(), KEYS)
    assert refused.value.code is Code.PLAN_INCOMPLETE


@pytest.mark.parametrize(
    "changes", [{"hardware": "bms-m99"}, {"vendor_id": bytes(16)}, {"app_class": bytes(16)}]
)
def test_a_hardware_that_is_unknown_or_lies(module: AttackedModule, changes: dict[str, Any]) -> None:
    with pytest.raises(PolicyRefused) as refused:
        inventory.hardware_of(replaced(module.status(), changes))
    assert refused.value.code is Code.PLAN_HARDWARE


def test_a_module_that_refuses_to_be_read_is_no_bad_image(module: AttackedModule) -> None:
    error = ModuleRefused(Code.FLASH_RANGE, "bank a")

    def refuse(bank: str, offset: int, length: int) -> bytes:
        raise error

    module.read = refuse  # type: ignore[method-assign]
    with pytest.raises(ModuleRefused):
        inventory.view(module, module.status(), KEYS)


def shared() -> AttackedModule:
    made = AttackedModule(serial="M-0001")
    plant(made, built(Stage.LOADER, "1.3.0", 6), built(Stage.APP, "1.3.0", 6), 6)
    return made


SHARED = shared()
START = BMS_M33.app.offset
ORIGINAL = bytes(SHARED.banks[0][START : START + 64])


HEADS = st.binary(max_size=64) | st.binary(min_size=16, max_size=28).map(wire.u32(image.MAGIC).__add__)


@settings(deadline=None)
@given(HEADS)
@example(wire.u32(image.MAGIC) + wire.u32(0) + b"\x00\x02\xff\xff" + wire.u32(0xFFFF_FFFF) + bytes(16))
@example(wire.u32(image.MAGIC) + wire.u32(0) + b"\x00\x02\x00\x00" + wire.u32(BMS_M33.app.size - 516))
def test_arbitrary_bytes_in_a_slot(head: bytes) -> None:
    """Claims of any length never make the agent read beyond the slot; only refusals come out."""
    SHARED.banks[0][START : START + 64] = head + ORIGINAL[len(head) :]
    reads: list[tuple[int, int]] = []
    fake_read = type(SHARED).read

    def noted(bank: str, offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return fake_read(SHARED, bank, offset, length)

    SHARED.read = noted  # type: ignore[method-assign]
    with suppress(FormatRefused):
        inventory.read_image(SHARED, "a", BMS_M33, Stage.APP)
    assert all(offset >= START and offset + length <= BMS_M33.app.end for offset, length in reads)
