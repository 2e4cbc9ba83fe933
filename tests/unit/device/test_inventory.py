"""device.inventory: what a module tells of itself, over the update link."""

from contextlib import suppress
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellward.core import wire
from cellward.core.errors import STATUS_OK, Code, FormatRefused, PolicyRefused, Unavailable
from cellward.core.image import Version
from cellward.core.plan import Held
from cellward.core.slots import BMS_M33, Lifecycle, Stage
from cellward.device import inventory
from cellward.device.link import UpdateLink, awake
from cellward.ports.module import Outcome
from cellward.ports.updatelink import ANSWER, Request
from tests.support.pack import AttackedModule, Pack, built
from tests.support.uptane import holder

KEYS = (holder("firmware").public_key,)


@pytest.fixture
def module() -> AttackedModule:
    return Pack().module


def test_what_runs(module: AttackedModule) -> None:
    runs = inventory.installed(module, module.status())
    assert {stage: item.version for stage, item in runs.items()} == {
        Stage.LOADER: "1.3.0",
        Stage.APP: "1.3.0",
    }
    assert runs[Stage.APP].length == len(built(Stage.APP, "1.3.0", 6))
    assert runs[Stage.APP].filename == "bms-m33/app-1.3.0.img"
    assert runs[Stage.APP].sha256 == sha256(built(Stage.APP, "1.3.0", 6)).hexdigest()


def test_a_view_holds_what_the_module_tells(module: AttackedModule) -> None:
    good = inventory.view(module, module.status())
    assert set(good.images) == set(Stage)
    assert (good.running, good.target, good.settled, good.recovery) == ("a", "b", True, False)
    whole = built(Stage.APP, "1.3.0", 6)
    assert good.images[Stage.APP] == Held(sha256(whole).digest(), Version(1, 3, 0), 6)
    module.banks[0][BMS_M33.app.offset + 4000] ^= 1
    damaged = inventory.view(module, module.status())
    assert damaged.images[Stage.APP].sha256 != good.images[Stage.APP].sha256
    module.banks[0][BMS_M33.app.offset] ^= 1
    assert set(inventory.view(module, module.status()).images) == {Stage.LOADER}


def test_nothing_can_be_copied_in_recovery(module: AttackedModule) -> None:
    module.outcome = Outcome.RECOVERY
    found = inventory.view(module, module.status())
    assert (found.recovery, found.images) == (True, {})


def test_a_key_that_is_revoked_unburned_or_for_development_is_not_trusted(module: AttackedModule) -> None:
    status = module.status()
    second = (bytes(32), *status.slot_keys)
    assert trusted(status) == 1
    assert trusted(replaced(status, {"slot_keys": second, "revoked": 1})) == 1
    for changed in (
        {"revoked": 1},
        {"slot_keys": ()},
        {"slot_keys": second, "revoked": 2},
        {"development": 1},
    ):
        assert trusted(replaced(status, changed)) == 0
    assert trusted(replaced(status, {"development": 1, "lifecycle": Lifecycle.PROVISIONED})) == 1


def trusted(status: Any) -> int:
    found = inventory.trust_of(status, Stage.APP, KEYS)
    return len(set(found.keys) - found.revoked)


@pytest.mark.parametrize("lifecycle", Lifecycle, ids=str)
def test_a_development_key_verifies_nothing_of_a_closed_module(
    module: AttackedModule, lifecycle: Lifecycle
) -> None:
    status = replaced(module.status(), {"development": 1, "lifecycle": lifecycle})
    assert trusted(status) == (0 if lifecycle.closed else 1)


def replaced(status: Any, changes: dict[str, Any]) -> Any:
    return type(status)(**{**status.__dict__, **changes})


@pytest.mark.parametrize("outcome", [Outcome.OFF, Outcome.HANG, Outcome.POWER_CUT, Outcome.RESET])
def test_a_module_that_neither_runs_nor_waits(module: AttackedModule, outcome: Outcome) -> None:
    module.outcome = outcome
    assert inventory.installed(module, module.status()) == {}
    with pytest.raises(PolicyRefused) as refused:
        inventory.view(module, module.status())
    assert refused.value.code is Code.PLAN_INCOMPLETE


@pytest.mark.parametrize(
    "changes", [{"hardware": "bms-m99"}, {"vendor_id": bytes(16)}, {"app_class": bytes(16)}]
)
def test_a_hardware_that_is_unknown_or_lies(module: AttackedModule, changes: dict[str, Any]) -> None:
    with pytest.raises(PolicyRefused) as refused:
        inventory.hardware_of(replaced(module.status(), changes))
    assert refused.value.code is Code.PLAN_HARDWARE


def test_a_module_that_is_silent_is_no_module_without_images(module: AttackedModule) -> None:
    module.silent = True
    for look in (inventory.view, inventory.installed):
        with pytest.raises(Unavailable) as caught:
            look(module, module.status())
        assert caught.value.code is Code.LINK_SILENT


def test_a_module_that_was_left_in_its_engine_is_brought_back(module: AttackedModule) -> None:
    UpdateLink(module, "M-0001").enter()
    assert module.outcome is Outcome.UPDATING
    assert inventory.installed(module, module.status()) == {}
    assert awake(module).outcome is Outcome.RUNNING
    assert module.asked[-1] is Request.RESTART
    count = len(module.asked)
    assert awake(module).outcome is Outcome.RUNNING
    assert len(module.asked) == count


@given(st.binary(max_size=60))
def test_arbitrary_answers_are_refused_or_claims(payload: bytes) -> None:
    """What a module answers is untrusted bytes: one refusal, or something that can be reported."""
    SHARED.firmware.answer = lambda request: (  # type: ignore[method-assign]
        bytes([request[0] | ANSWER, request[1]]) + wire.u16(len(payload)) + wire.u32(STATUS_OK) + payload
    )
    with suppress(FormatRefused):
        for item in inventory.installed(SHARED, SHARED.status()).values():
            assert item.filename.startswith("bms-m33/")


SHARED = Pack().module
