"""device.agent: whole cycles of a pack whose server does its job."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest

from cellward.core.banks import State
from cellward.core.errors import Code, Refused, Unavailable
from cellward.core.metadata import Assignment, Ecu, Repository, Role, encode_factory
from cellward.core.slots import BMS_M33, OTP_LIFECYCLE, Lifecycle, Stage
from cellward.device.agent import Agent
from cellward.device.memory import Device, Memory, ModuleEntry
from cellward.ports.module import Outcome
from cellward.ports.updatelink import Request
from tests.support.pack import SERIAL, AttackedModule, Pack, built, plant
from tests.support.uptane import DIRECTOR_OWNER, IMAGE_OWNER, NOW, VEHICLE

APP = f"{SERIAL}/{Stage.APP}"
LOADER = f"{SERIAL}/{Stage.LOADER}"


@pytest.fixture
def pack() -> Pack:
    return Pack()


def test_a_good_update_commits_and_is_reported(pack: Pack) -> None:
    pack.release("1.4.0", 7)
    cycle = pack.cycle()
    assert cycle.refusal is None
    assert cycle.outcome == "updated"
    assert cycle.installed == {LOADER: "1.4.0", APP: "1.4.0"}
    assert (pack.module.active, pack.module.counter) == (1, 7)
    first, last = pack.manifests
    before, after = first.report(APP), last.report(APP)
    assert before is not None
    assert after is not None
    assert before.installed is not None
    assert before.installed.version == "1.3.0"
    assert after.installed is not None
    assert after.installed.version == "1.4.0"
    assert after.result is not None
    assert after.result.code == "ok"
    assert "contactors open" in after.result.detail  # measured values (UN R156)


def test_the_next_cycle_has_nothing_to_do(pack: Pack) -> None:
    pack.release("1.4.0", 7)
    pack.cycle()
    operations = pack.module.operations
    pack.server.requests.clear()
    cycle = pack.cycle()
    assert cycle.outcome == "nothing to do"
    assert len(pack.server.requests) == 1
    assert pack.module.operations == operations


def test_requests_with_nothing_to_do(pack: Pack) -> None:
    """At most 3: the report; with a renewed timestamp that names the same snapshot, the timestamp."""
    pack.cycle()
    pack.server.requests.clear()
    pack.cycle()
    assert pack.server.requests == ["POST /v1/report"]


def test_an_expired_timestamp_is_fetched_whatever_the_hints_say(pack: Pack) -> None:
    pack.cycle()
    pack.server.requests.clear()
    pack.refused(Code.METADATA_EXPIRED, NOW + timedelta(days=2))
    assert "GET /v1/director/timestamp.json" in pack.server.requests


def test_the_first_cycle_fetches_no_image_metadata_without_an_order(pack: Pack) -> None:
    pack.cycle()
    assert not any("image" in request or "artefact" in request for request in pack.server.requests)


def test_an_app_alone_takes_the_loader_along(pack: Pack) -> None:
    app = pack.publish(built(Stage.APP, "1.3.1", 6), Stage.APP, "1.3.1", 6)
    pack.order(app)
    cycle = pack.cycle()
    assert cycle.refusal is None
    assert cycle.installed == {LOADER: "1.3.0", APP: "1.3.1"}
    assert pack.module.banks[0][:20_000] == pack.module.banks[1][:20_000]


def test_an_app_alone_with_a_higher_counter(pack: Pack) -> None:
    app = pack.publish(built(Stage.APP, "1.4.0", 7), Stage.APP, "1.4.0", 7)
    pack.order(app)
    before = pack.snapshot()
    pack.refused(Code.PLAN_COUNTER)
    assert pack.snapshot().banks == before.banks
    assert pack.told(APP) == Code.PLAN_COUNTER


def test_a_closed_gate_is_tried_again(pack: Pack) -> None:
    """The Director's metadata does not change in between: that must not mean nothing to do."""
    pack.release("1.4.0", 7)
    pack.module.measured = replace(pack.module.measured, contactors_closed=True)
    before = pack.snapshot()
    pack.refused(Code.GATE_CONTACTORS)
    assert pack.snapshot().banks == before.banks
    assert pack.told(APP) == Code.GATE_CONTACTORS
    pack.module.measured = replace(pack.module.measured, contactors_closed=False)
    requests = len(pack.server.requests)
    assert pack.cycle().outcome == "updated"
    assert not any("artefacts" in request for request in pack.server.requests[requests:])  # kept


def test_an_update_that_fails_its_self_test_falls_back(pack: Pack) -> None:
    pack.release("1.4.0", 7)
    pack.module.selftest_passes = False
    pack.module.reason = Code.SELFTEST_CELL_SUM
    error = pack.refused(Code.UPDATE_FELL_BACK)
    assert "selftest.cell_sum" in error.found
    assert "44400" in error.found
    assert "43000" in error.found
    assert (pack.module.active, pack.module.counter) == (0, 6)
    assert pack.module.status().bank("b").state is State.TRIAL
    assert pack.told(APP) == Code.UPDATE_FELL_BACK


def test_what_fell_back_is_not_tried_again_until_the_order_changes(pack: Pack) -> None:
    old = {stage: pack.published[f"bms-m33/{stage}-1.3.0.img"] for stage in Stage}
    new = pack.release("1.4.0", 7)
    pack.module.selftest_passes = False
    pack.cycle()
    pack.module.selftest_passes = True
    operations = pack.module.operations
    pack.refused(Code.UPDATE_FELL_BACK)
    assert pack.module.operations == operations
    pack.order(*old.values())  # the operator withdraws the order
    assert pack.cycle().outcome == "nothing to do"
    pack.order(*new.values())  # and repeats it
    assert pack.cycle().outcome == "updated"


def test_another_release_after_a_fallback(pack: Pack) -> None:
    pack.release("1.4.0", 7)
    pack.module.selftest_passes = False
    pack.cycle()
    pack.module.selftest_passes = True
    pack.release("1.4.1", 7)
    assert pack.cycle().installed[APP] == "1.4.1"


def test_recovery_is_reported_until_it_is_over(pack: Pack) -> None:
    pack.module.banks[0][BMS_M33.app.offset + 0x300] ^= 1
    pack.module.reset()
    assert pack.cycle().refusal is None  # the module's condition, and nobody's refusal
    report = pack.manifests[-1].report(APP)
    assert report is not None
    assert report.installed is None
    assert report.result is not None
    assert (report.result.code, report.attacks_detected) == ("bank.none_good", "")
    assert "contactors open" in report.result.found
    pack.release("1.4.0", 7)
    assert pack.cycle().outcome == "updated"
    assert pack.told(APP) == "ok"


def test_tampering_is_reported_as_an_attack(pack: Pack) -> None:
    start = OTP_LIFECYCLE.offset
    pack.cycle()
    pack.module.fuses[start : start + 4] = Lifecycle.TAMPERED.fuses.to_bytes(4, "little")
    assert pack.cycle().refusal is None
    report = pack.manifests[-1].report(LOADER)
    assert report is not None
    assert report.installed is not None  # it goes on watching
    assert report.attacks_detected == "tampered module: boot.tamper"


def test_a_failed_attempt_is_not_hidden_by_the_recovery_it_led_to(pack: Pack) -> None:
    pack.release("1.4.0", 7)
    pack.module.selftest_passes = False
    pack.refused(Code.UPDATE_FELL_BACK)
    pack.order()
    pack.module.banks[0][BMS_M33.app.offset + 0x300] ^= 1
    pack.module.reset()
    pack.cycle()
    assert pack.module.status().outcome is Outcome.RECOVERY
    assert pack.told(APP) == "update.fell_back"


def test_a_module_in_recovery_gets_both_stages(pack: Pack) -> None:
    pack.release("1.4.0", 7)
    pack.module.banks[0][70_000] ^= 1
    pack.module.reset()
    assert pack.module.status().outcome is Outcome.RECOVERY
    assert pack.cycle().outcome == "updated"
    assert pack.module.status().outcome is Outcome.RUNNING


def test_a_module_that_does_not_answer(pack: Pack) -> None:
    pack.cycle()
    error = Unavailable(Code.MODULE_ABSENT, "m1")
    working = pack.module.status
    pack.module.status = _raise(error)  # type: ignore[method-assign]
    assert pack.cycle().refusal is error
    assert pack.told(APP) == Code.MODULE_ABSENT
    report = pack.manifests[-1].report(APP)
    assert report is not None
    assert report.installed is None
    pack.module.status = working  # type: ignore[method-assign]
    assert pack.cycle().refusal is None
    assert pack.told(APP) == ""


def _raise(error: Exception):  # type: ignore[no-untyped-def]
    def fail() -> object:
        raise error

    return fail


def test_a_swapped_module(pack: Pack) -> None:
    pack.module.serial = "M-0002"
    assert pack.refused(Code.PLAN_HARDWARE).advice
    assert pack.module.operations == 0


def test_the_manifest_counter_survives_everything(pack: Pack) -> None:
    pack.cycle()
    pack.server.refusals["/v1/report"] = Unavailable(Code.SERVER_UNREACHABLE, "server")
    pack.cycle()
    del pack.server.refusals["/v1/report"]
    pack.cycle()
    assert [manifest.counter for manifest in pack.manifests] == sorted(
        {manifest.counter for manifest in pack.manifests}
    )


def test_a_server_that_is_gone_hears_it_later(pack: Pack) -> None:
    pack.server.refusals["/v1/report"] = Unavailable(Code.SERVER_SLOW, "server")
    pack.refused(Code.SERVER_SLOW)
    del pack.server.refusals["/v1/report"]
    assert pack.cycle().refusal is None
    report = pack.manifests[0].report(VEHICLE)
    assert report is not None
    assert report.attacks_detected == "slow retrieval: server.slow"
    assert pack.told(VEHICLE) == ""


def test_a_download_goes_on_where_it_stopped(pack: Pack) -> None:
    targets = pack.release("1.4.0", 7)
    path = pack.artefact(targets[Stage.APP])
    pack.server.ends[path] = 9000
    before = pack.snapshot()
    pack.refused(Code.SERVER_UNREACHABLE)
    assert pack.snapshot().banks == before.banks
    del pack.server.ends[path]
    pack.server.requests.clear()
    assert pack.cycle().outcome == "updated"
    assert f"GET {path} from 9000" in pack.server.requests
    pack.cycle()
    assert pack.memory.download(targets[Stage.APP].sha256) == b""  # nothing is kept once installed


def test_root_rotation_reaches_an_idle_vehicle(pack: Pack) -> None:
    """K4, also of the Image repository: without an order nothing else of it is fetched."""
    pack.cycle()
    for owner in (DIRECTOR_OWNER, IMAGE_OWNER):
        pack.server.files[f"/v1/{owner.repository}/2.root.json"] = owner.root(2)
    pack.hints = {str(r): {"root": 2, "timestamp": pack.versions[r]} for r in Repository}
    pack.server.requests.clear()
    assert pack.cycle().outcome == "nothing to do"
    assert len(pack.server.requests) == 3
    for repository in Repository:
        assert pack.memory.trusted(repository, pack.factory).version(Role.ROOT) == 2


def test_an_idle_cycle_asks_for_digests_and_records_and_writes_nothing(pack: Pack) -> None:
    pack.cycle()
    pack.module.asked = []
    operations = pack.module.operations
    pack.cycle()
    assert pack.module.asked == [Request.DIGEST, Request.DIGEST, Request.BOOT_RECORD]
    assert pack.module.operations == operations


@pytest.mark.parametrize("found", ["committed", "fell back", "unfinished"])
def test_an_agent_that_dies_between_flash_and_confirm(pack: Pack, found: str) -> None:
    """The next process finds the attempt and concludes it from what the module shows."""
    pack.release("1.4.0", 7)
    reset = pack.module.reset

    def die() -> object:
        raise KeyboardInterrupt

    pack.module.reset = die  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        pack.cycle()
    pack.module.reset = reset  # type: ignore[method-assign]
    assert pack.module.status().bank("b").state is State.PENDING
    pack.module.selftest_passes = found != "fell back"
    if found != "unfinished":
        pack.module.reset()
    cycle = pack.cycle()
    assert pack.memory.attempt(SERIAL) is None
    if found == "fell back":
        assert cycle.refusal is not None
        assert cycle.refusal.code is Code.UPDATE_FELL_BACK
        assert pack.module.active == 0
    else:
        assert cycle.refusal is None
        assert cycle.outcome == "updated"
        assert pack.module.active == 1
        assert pack.told(APP) == "ok"


def test_two_modules_share_a_download_and_not_a_refusal(pack: Pack) -> None:
    second = AttackedModule(serial="M-0002")
    plant(second, built(Stage.LOADER, "1.3.0", 6), built(Stage.APP, "1.3.0", 6), 6)
    entries = (ModuleEntry(SERIAL, "bms-m33", "1"), ModuleEntry("M-0002", "bms-m33", "2"))
    pack.memory.set_device(Device(VEHICLE, entries), encode_factory(pack.factory))
    pack.release("1.4.0", 7)
    pack.ordered = [
        Assignment(order.target, (*order.ecu_identifiers, Ecu(f"M-0002/{order.target.stage}", "bms-m33")))
        for order in pack.ordered
    ]
    pack.sign(Repository.DIRECTOR)
    pack.module.measured = replace(pack.module.measured, contactors_closed=True)
    agent = Agent(
        pack.memory.device(),
        pack.factory,
        pack.memory,
        pack.signer,
        dict.fromkeys(Repository, pack.server),
        lambda address: nullcontext({"1": pack.module, "2": second}[address]),
    )
    cycle = agent.cycle(NOW)
    assert cycle.refusal is not None
    assert cycle.refusal.code is Code.GATE_CONTACTORS
    assert cycle.updated == ("M-0002",)
    assert (pack.module.active, second.active) == (0, 1)
    assert len([r for r in pack.server.requests if "artefacts" in r]) == 2
    assert (pack.told(APP), pack.told("M-0002/app")) == (Code.GATE_CONTACTORS, "ok")


def test_nothing_is_enrolled() -> None:
    pack = Pack()
    pack.store.delete("device.json")
    with pytest.raises(Unavailable) as refused:
        Memory(pack.store).device()
    assert refused.value.code is Code.ENROL_MISSING
    assert not isinstance(refused.value, Refused)
