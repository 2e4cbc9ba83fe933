"""The agent of a pack that somebody tampers with: what it installs, what it tells, and what is left of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from cellward.core.errors import Code, TrustRefused, Unavailable
from cellward.core.metadata import encode_factory
from cellward.core.slots import BMS_M33, OTP_LIFECYCLE, Lifecycle, Stage
from cellward.core.tamper import RESPONSES, Alarm, Event, Policy, Response, State, Step
from cellward.device import clock
from cellward.device.tamper import Guard
from cellward.ports.module import Outcome
from cellward.ports.tpm import KeyName
from tests.fakes.tpm import MemoryTpm
from tests.support.pack import SERIAL, Pack
from tests.support.uptane import VEHICLE

APP = f"{SERIAL}/{Stage.APP}"
LOADER = f"{SERIAL}/{Stage.LOADER}"


@dataclass
class Switch:
    """A sensor."""

    found: list[Alarm] = field(default_factory=list)

    def alarms(self) -> list[Alarm]:
        return self.found


@pytest.fixture
def switch() -> Switch:
    return Switch()


@pytest.fixture
def pack(switch: Switch) -> Pack:
    made = Pack()
    tpm = MemoryTpm()
    for name in KeyName:
        tpm.create_key(name)
    made.guard = Guard(tpm, made.store, sensors=(switch,))
    made.guard.enrolled(f"vehicle {VEHICLE}", b"factory data")
    made.cycle()
    return made


def guard(pack: Pack) -> Guard:
    assert pack.guard is not None
    return pack.guard


def told(pack: Pack, ecu: str = VEHICLE) -> tuple[str, str]:
    report = pack.manifests[-1].report(ecu)
    assert report is not None
    return report.result.code if report.result else "", report.attacks_detected


def test_a_sound_pack_tells_nothing(pack: Pack) -> None:
    assert told(pack) == ("", "")
    requests = len(pack.server.requests)
    pack.cycle()
    assert len(pack.server.requests) == requests + 1  # the report alone, as without a guard


def test_a_locked_pack_installs_nothing_and_says_why(pack: Pack, switch: Switch) -> None:
    switch.found = [Alarm(Event.VOLTAGE, "in0_alarm")]
    pack.release("1.4.0", 7)
    before = pack.snapshot()
    error = pack.refused(Code.TAMPER_LOCKED)
    assert "in0_alarm" in error.found
    assert pack.snapshot().banks == before.banks
    assert pack.snapshot().counter == before.counter
    assert told(pack, APP)[0] == Code.TAMPER_LOCKED
    assert told(pack) == (Code.TAMPER_LOCKED, "tampered pack controller: tamper.locked")
    switch.found = []
    pack.refused(Code.TAMPER_LOCKED)
    guard(pack).enrolled(f"vehicle {VEHICLE}", b"factory data")
    assert pack.cycle().outcome == "updated"
    assert told(pack) == ("", "")


def test_a_locked_pack_keeps_its_contactors(pack: Pack, switch: Switch) -> None:
    """A pack that drives goes on driving: a lock is no reason to stop a vehicle on the road."""
    pack.module.set_close_request(True)
    switch.found = [Alarm(Event.VOLTAGE, "in0_alarm")]
    pack.cycle()
    assert pack.module.measured.contactors_closed


def test_a_module_in_recovery_is_helped_by_a_locked_pack_too(pack: Pack, switch: Switch) -> None:
    pack.module.banks[0][BMS_M33.app.offset + 0x300] ^= 1
    pack.module.reset()
    assert pack.module.status().outcome is Outcome.RECOVERY
    switch.found = [Alarm(Event.DEBUGGER, "this process")]
    pack.release("1.4.0", 7)
    assert pack.cycle().outcome == "updated"
    assert pack.module.status().outcome is Outcome.RUNNING
    assert guard(pack).state is State.LOCKED


def test_a_zeroised_pack_watches_and_keeps_its_contactors_open(pack: Pack, switch: Switch) -> None:
    pack.release("1.4.0", 7)
    pack.module.set_close_request(True)
    switch.found = [Alarm(Event.CASE, "intrusion0_alarm")]
    before, manifests = pack.snapshot(), len(pack.manifests)
    for _ in range(2):
        cycle = pack.cycle()
        assert cycle.refusal is not None
        assert cycle.refusal.code is Code.TAMPER_ZEROISED
        assert cycle.installed == {LOADER: "1.3.0", APP: "1.3.0"}
        assert not pack.module.measured.contactors_closed
        assert not pack.module.measured.close_requested
        pack.module.set_close_request(True)
        switch.found = []
    assert any("contactors open" in line for line in pack.lines)
    assert len(pack.manifests) == manifests  # there is no key that could sign one
    assert pack.snapshot() == before
    assert all(guard(pack).tpm.key(name) is None for name in KeyName)
    assert pack.memory.results()[VEHICLE].result.code == Code.TAMPER_ZEROISED


def test_a_module_that_is_silent_ends_no_watching(pack: Pack, switch: Switch) -> None:
    switch.found = [Alarm(Event.CASE, "intrusion0_alarm")]
    pack.cycle()
    pack.module.power_off()
    assert pack.cycle().installed == {}
    pack.module.power_on()
    assert pack.cycle().installed == {LOADER: "1.3.0", APP: "1.3.0"}


def swap(pack: Pack) -> None:
    pack.module.serial = "M-0002"


def burn(pack: Pack) -> None:
    start = OTP_LIFECYCLE.offset
    pack.module.fuses[start : start + 4] = Lifecycle.TAMPERED.fuses.to_bytes(4, "little")


@pytest.mark.parametrize(("happens", "event"), [(swap, Event.MODULE_SWAPPED), (burn, Event.MODULE_TAMPERED)])
def test_what_happens_to_a_module_is_an_event(
    pack: Pack, happens: Callable[[Pack], None], event: Event
) -> None:
    happens(pack)
    for _ in range(2):
        pack.cycle()
    assert [(entry.what, entry.response) for entry in guard(pack).log] == [
        (Step.ENROLLED, None),
        (event, Response.LOCK),
    ]
    assert "tampered pack controller: tamper.locked" in told(pack)[1]


def test_a_policy_can_zeroise_for_a_module(pack: Pack) -> None:
    """In the cycle that sees it: before anything is reported or installed."""
    held = guard(pack)
    policy = Policy({**RESPONSES, Event.MODULE_SWAPPED: Response.ZEROISE})
    pack.guard = Guard(held.tpm, held.store, policy)
    swap(pack)
    pack.module.set_close_request(True)
    manifests = len(pack.manifests)
    error = pack.cycle().refusal
    assert error is not None
    assert error.code is Code.TAMPER_ZEROISED
    assert len(pack.manifests) == manifests
    assert not pack.module.measured.contactors_closed


def test_an_attested_time_that_goes_back_is_logged(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> None:
        raise TrustRefused(Code.TIME_ROLLBACK, "time attestation", found="yesterday")

    monkeypatch.setattr(clock, "ask", ask)
    pack.factory = replace(pack.factory, time_keys=(pack.signer.public_key,))
    pack.memory.set_device(pack.memory.device(), encode_factory(pack.factory))
    pack.refused(Code.TIME_ROLLBACK)
    assert guard(pack).log[-1].what is Event.TIME
    assert guard(pack).state is State.SOUND
    assert told(pack) == (Code.TIME_ROLLBACK, "freeze: time.rollback; tampered pack controller: tamper.alarm")


def test_what_was_noticed_is_told_beside_another_refusal(pack: Pack, switch: Switch) -> None:
    switch.found = [Alarm(Event.VOLTAGE, "in0_alarm")]
    pack.release("1.4.0", 7)
    pack.server.files = {name: data for name, data in pack.server.files.items() if "director" not in name}
    pack.cycle()
    code, attacks = told(pack)
    assert code != Code.TAMPER_LOCKED
    assert "tampered pack controller: tamper.locked" in attacks


def test_a_response_that_the_tpm_cannot_finish_ends_the_cycle(pack: Pack, switch: Switch) -> None:
    """And is gone on with by the next."""
    clear = guard(pack).tpm.clear
    switch.found = [Alarm(Event.CASE, "intrusion0_alarm")]

    def dead(lockout_auth: bytes = b"") -> None:
        raise Unavailable(Code.TPM_ABSENT, "TPM")

    guard(pack).tpm.clear = dead  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        pack.cycle()
    assert guard(pack).state is State.ZEROISING
    guard(pack).tpm.clear = clear  # type: ignore[method-assign]
    switch.found = []
    pack.cycle()
    assert guard(pack).state is State.ZEROISED
