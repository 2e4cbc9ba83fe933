"""The owner's read role under attack: he reads, nobody else does, and his key opens nothing else."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from cellward import bootstrap
from cellward.cli import deviceowner
from cellward.cli.device import device
from cellward.cli.vault import vault
from cellward.core import serverca
from cellward.core.errors import Code
from cellward.core.health import Parameter
from cellward.core.metadata import decode_factory, encode_factory
from cellward.core.owner import LIFETIME, Grant
from cellward.core.slots import OTP_LIFECYCLE, Lifecycle
from cellward.core.tpm.approval import Approval, Terms
from cellward.core.tpm.pcr import PcrValues
from cellward.device import health as owned_health
from cellward.device.attested import tpm_signer
from cellward.device.memory import Memory
from cellward.ports.tpm import RELEASE_COUNTER, counter_area
from cellward.sign.documents import sign_document
from tests.fakes.tls import Authority
from tests.support import calibration, owned
from tests.support.maker import Hand
from tests.support.owned import DEVICE, OWNER, Owned
from tests.support.pack import SERIAL
from tests.support.uptane import VEHICLE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return owned.make(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def pack(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Owned:
    return owned.copy_of(made, tmp_path / "desk", monkeypatch)


@pytest.fixture(scope="module")
def sold(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sold") / "desk"
    with pytest.MonkeyPatch.context() as patched:
        owned.copy_of(made, folder, patched).appoint(OWNER)
    return folder


@pytest.fixture
def bought(sold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Owned:
    return owned.copy_of(sold, tmp_path / "desk", monkeypatch)


# --- he reads ---


def test_the_owner_reads_and_a_buyer_believes_it(bought: Owned) -> None:
    bought.sign(bought.challenge())
    before = bought.state()
    assert f"{VEHICLE}, " in bought.done(*bought.read, "-o", "health.json")
    assert bought.state() == before
    assert bought.failures() == 0
    bought.sign(bought.challenge())
    facts = json.loads(bought.done(*bought.read, "--json"))
    (module,) = facts["modules"]
    assert (module["serial"], module["measured"]["charge_permille"], module["observed"]) == (
        SERIAL,
        500,
        None,
    )
    assert set(facts["absent"]) == set(Parameter)  # nothing is invented
    with bootstrap.tpm(Path("state")) as tpm:
        key = tpm_signer(tpm).public_key.fingerprint
    assert "charge 50.0 %" in bought.done("verify", "health.json", "--pack-key", key)
    bought.refused(Code.DOCUMENT_SIGNATURE, "verify", "health.json", "--pack-key", "0" * 64)
    bought.refused(Code.IMAGE_NO_KEY_GIVEN, "verify", "health.json")


def test_what_was_counted_is_in_the_record(bought: Owned) -> None:
    memory, limits = Memory(bootstrap.device_store(Path("state"))), calibration.made("1.0.0")
    low = replace(bought.module.measured, cells_mv=(2700,) + (3700,) * 11)
    cold = replace(bought.module.measured, temperatures_dc=(-1,), current_ma=-5)
    dead = replace(low, front_end_answers=False)
    for measured in (bought.module.measured, low, cold, dead):
        owned_health.observe(memory, SERIAL, limits, measured, datetime.now(UTC))
    bought.sign(bought.challenge())
    facts = json.loads(bought.done(*bought.read, "--json"))
    seen = facts["modules"][0]["observed"]
    del seen["since"]
    assert seen == {
        "looks": 3,
        "deep_discharge": 1,
        "overcharge": 0,
        "extreme_temperature": 0,
        "extreme_temperature_charging": 1,
    }
    assert Parameter.HARMFUL not in facts["absent"]


@pytest.mark.parametrize("swapped", [True, False])
def test_what_cannot_be_measured_is_said(bought: Owned, swapped: bool) -> None:
    if swapped:
        bought.module.serial = "M-0666"
    else:
        bought.module.measured = replace(bought.module.measured, front_end_answers=False)
    bought.sign(bought.challenge())
    (module,) = json.loads(bought.done(*bought.read, "--json"))["modules"]
    assert module["measured"] is None
    assert ("M-0666" in module["silent"]) == swapped


def test_a_tampered_module_shows(bought: Owned) -> None:
    start = OTP_LIFECYCLE.offset
    bought.module.fuses[start : start + 4] = Lifecycle.TAMPERED.fuses.to_bytes(4, "little")
    bought.sign(bought.challenge())
    assert "TAMPERED" in bought.done(*bought.read)


# --- nobody else does ---


def test_before_there_is_an_owner(pack: Owned) -> None:
    pack.sign(pack.challenge())
    pack.refused(Code.OWNER_MISSING, *pack.read)
    pack.refused(Code.OWNER_MISSING, "device", "owner", "show", "--state", "state")
    assert pack.failures() == 0


def test_a_wrong_signature_costs_the_challenge_and_time(bought: Owned) -> None:
    before = bought.state()
    for failed in range(3):
        asked = bought.challenge()
        bought.sign(asked, Hand("thief"))
        bought.refused(Code.OWNER_SIGNATURE, *bought.read)
        assert bought.failures() == failed + 1
        bought.sign(asked)
        bought.refused(Code.OWNER_CHALLENGE, *bought.read)  # used up
    bought.sign(bought.challenge())
    bought.refused(Code.AUTH_DELAY, *bought.read)
    assert bought.failures() == 3
    assert bought.state() == before


def test_a_reading_that_was_recorded(bought: Owned) -> None:
    bought.sign(bought.challenge())
    kept = Path("state/owner/challenge.txt").read_bytes()
    bought.done(*bought.read)
    bought.refused(Code.OWNER_CHALLENGE, *bought.read)
    Path("state/owner/challenge.txt").write_bytes(kept)  # an old state directory put back
    bought.refused(Code.OWNER_CHALLENGE, *bought.read)
    assert bought.failures() == 0


@pytest.mark.parametrize("later", [LIFETIME, -timedelta(hours=1)], ids=["too-late", "clock-set-back"])
def test_an_answer_out_of_time(bought: Owned, later: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    bought.sign(bought.challenge())
    at = datetime.now(UTC) + later
    monkeypatch.setattr(deviceowner, "_now", lambda: at)
    bought.refused(Code.OWNER_CHALLENGE, *bought.read)


@pytest.mark.parametrize(
    "text", [b"", b"anything", b"Cellward: read the state of health\n"], ids=["nothing", "anything", "part"]
)
def test_a_signature_over_something_else(bought: Owned, text: bytes) -> None:
    bought.challenge()
    bought.sign(text)
    bought.refused(Code.OWNER_SIGNATURE, *bought.read)


@pytest.mark.parametrize("signature", [b"", b"0" * 256, bytes(64)])
def test_what_is_no_signature(bought: Owned, signature: bytes) -> None:
    bought.challenge()
    Path("signature").write_bytes(signature)
    bought.refused(Code.OWNER_SIGNATURE, *bought.read)


def test_an_earlier_challenge_is_not_good_any_more(bought: Owned) -> None:
    bought.sign(bought.challenge())
    bought.challenge()
    bought.refused(Code.OWNER_SIGNATURE, *bought.read)


def test_a_pack_that_was_sold(bought: Owned) -> None:
    shutil.copy("grant.json", "first.json")
    buyer = Hand("buyer")
    _later(bought, buyer)
    bought.sign(bought.challenge())
    bought.refused(Code.OWNER_SIGNATURE, *bought.read)
    before = bought.state()
    bought.refused(Code.OWNER_OLDER, "device", "owner", "set", "--state", "state", "first.json")
    assert bought.state() == before
    bought.sign(bought.challenge(), buyer)
    bought.done(*bought.read)


def _later(pack: Owned, owner: Hand) -> None:
    with pytest.MonkeyPatch.context() as patched:
        at = datetime.now(UTC) + timedelta(minutes=1)
        patched.setattr("cellward.cli.server._now", lambda: at)
        pack.appoint(owner)


def test_the_same_grant_again_changes_nothing(bought: Owned) -> None:
    before = bought.state()
    bought.done("device", "owner", "set", "--state", "state", "grant.json")
    assert bought.state() == before


def test_who_appoints_himself(bought: Owned) -> None:
    thief, before = Hand("thief"), bought.state()
    for signer in (thief, bought.owner):
        grant = sign_document(Grant(VEHICLE, thief.public_key, datetime.now(UTC)).to_sign(), signer)
        Path("forged.json").write_bytes(grant.encode())
        bought.refused(Code.DOCUMENT_SIGNATURE, "device", "owner", "set", "--state", "state", "forged.json")
    other = bought.grant(thief, "PACK-2", "other.json")
    bought.refused(Code.OWNER_VEHICLE, "device", "owner", "set", "--state", "state", other)
    assert bought.state() == before


def test_a_grant_that_was_put_in_the_vault_by_hand(bought: Owned) -> None:
    thief = Hand("thief")
    forged = sign_document(Grant(VEHICLE, thief.public_key, datetime.now(UTC)).to_sign(), thief).encode()
    Path("forged.json").write_bytes(forged)
    bought.done("vault", "put", "--state", "state", "owner", "forged.json")
    bought.sign(bought.challenge(), thief)
    bought.refused(Code.DOCUMENT_SIGNATURE, *bought.read)


def test_a_device_ca_that_was_replaced(bought: Owned) -> None:
    memory = Memory(bootstrap.device_store(Path("state")))
    factory = replace(decode_factory(memory.factory_data()), device_ca=Authority().pem)
    memory.set_device(DEVICE, encode_factory(factory))
    bought.sign(bought.challenge())
    bought.refused(Code.DOCUMENT_SIGNATURE, *bought.read)


def test_without_a_tpm_nobody_reads(bought: Owned) -> None:
    memory = Memory(bootstrap.device_store(Path("state")))
    memory.set_device(replace(DEVICE, attested=None), memory.factory_data())
    bought.refused(Code.TPM_ABSENT, *bought.read)


# --- his key opens nothing else ---

Try = Callable[[Owned], None]


def _self_signed_policy(pack: Owned) -> str:
    """By the owner: that vaults open for whatever he starts."""
    key = pack.owner.public_key
    terms = Terms(PcrValues({8: bytes(32)}), 1)
    signature = pack.owner.sign(terms.to_sign(counter_area(RELEASE_COUNTER)))
    Path("policy.json").write_bytes(Approval(terms, key.fingerprint, signature).encode())
    return "policy.json"


def _enrol(pack: Owned) -> None:
    pack.sign(pack.challenge())
    Path("factory.json").write_bytes(Memory(bootstrap.device_store(Path("state"))).factory_data())
    fixed = "--state", "state", "--factory", "factory.json", "--vehicle", VEHICLE, "--module", "m1.module"
    more = "--server", "https://127.0.0.1:1", "--token-file", "signature", "--again"
    pack.refused(Code.ENROL_TOKEN, "device", "enrol", *fixed, *more)


def _enrol_plan(pack: Owned) -> None:
    Path("factory.json").write_bytes(Memory(bootstrap.device_store(Path("state"))).factory_data())
    Path("plan.csv").write_text(f"vehicle,state,modules\n{VEHICLE},state,m1.module\n")
    files = (
        "plan.csv",
        "--factory",
        "factory.json",
        "--tokens",
        "grant.json",
        "--server",
        "https://127.0.0.1:1",
    )
    pack.refused(Code.ENROL_PLAN, "device", "enrol-plan", *files)


def _calibrate(pack: Owned) -> None:
    Path("mine.json").write_bytes(calibration.signed("9.0.0", hand=pack.owner))
    pack.refused(Code.DOCUMENT_SIGNATURE, "device", "calibrate", "--state", "state", "mine.json")


def _set_owner(pack: Owned) -> None:
    friend = Grant(VEHICLE, Hand("friend").public_key, datetime.now(UTC)).to_sign()
    Path("mine.json").write_bytes(sign_document(friend, pack.owner).encode())
    pack.refused(Code.DOCUMENT_SIGNATURE, "device", "owner", "set", "--state", "state", "mine.json")


def _accept(pack: Owned) -> None:
    pack.refused(Code.ATTEST_POLICY, "vault", "accept", "--state", "state", _self_signed_policy(pack))


def _rotate(pack: Owned) -> None:
    Path("owner.pem").write_bytes(pack.owner.public_key.pem())
    policy = "--policy-key", "owner.pem", "--policy", _self_signed_policy(pack)
    pack.refused(Code.VAULT_POLICY, "vault", "rotate", "--state", "state", *policy)


def _init(pack: Owned) -> None:
    Path("owner.pem").write_bytes(pack.owner.public_key.pem())
    policy = "--policy-key", "owner.pem", "--policy", _self_signed_policy(pack)
    pack.refused(Code.STORAGE_EXISTS, "vault", "init", "--state", "state", *policy)


def _server_ca(pack: Owned) -> None:
    stated = sign_document(serverca.statement(9, [Authority().pem]), pack.owner)
    Path("cas.json").write_bytes(stated.encode())
    pack.refused(Code.DOCUMENT_SIGNATURE, "device", "server-ca", "--state", "state", "cas.json")


def _read(pack: Owned) -> None:
    pack.sign(pack.challenge())
    pack.done(*pack.read)


# Every command of the pack controller: what the owner tries with it, or None for one that takes nothing which
# a key could have signed, so that having his key makes no difference to it.
TRIES: dict[str, Try | None] = {
    "device calibrate": _calibrate,
    "device enrol": _enrol,
    "device enrol-plan": _enrol_plan,
    "device health challenge": None,
    "device health read": _read,
    "device owner set": _set_owner,
    "device owner show": None,
    "device run": None,
    "device server-ca": _server_ca,
    "device status": None,
    "device tamper": None,
    "device tpm": None,
    "vault accept": _accept,
    "vault commit": None,
    "vault export": None,  # to a key, by whoever has the controller: not for who has the key
    "vault get": None,
    "vault init": _init,
    "vault list": None,
    "vault policy": None,  # the maker's, in his token
    "vault put": None,
    "vault remove": None,
    "vault rotate": _rotate,
}


def _leaves(group: click.Group, path: str) -> list[str]:
    found = []
    for name, command in group.commands.items():
        inner = f"{path} {name}"
        found += _leaves(command, inner) if isinstance(command, click.Group) else [inner]
    return found


def test_every_command_is_tried() -> None:
    assert sorted(_leaves(device, "device") + _leaves(vault, "vault")) == sorted(TRIES)


@pytest.mark.parametrize("command", [name for name, attempt in TRIES.items() if attempt])
def test_the_owner_s_key_opens_nothing_else(bought: Owned, command: str) -> None:
    attempt, before = TRIES[command], bought.state()
    assert attempt is not None
    attempt(bought)
    assert bought.state() == before


@pytest.mark.parametrize("command", [name for name, attempt in TRIES.items() if not attempt])
def test_what_takes_nothing_that_a_key_could_have_signed(command: str) -> None:
    found: click.Command = {"device": device, "vault": vault}[command.split()[0]]
    for name in command.split()[1:]:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    files = {p.name for p in found.params if isinstance(p.type, click.Path) and p.name != "state"}
    known = {"vault put": {"file"}, "vault policy": {"wheel", "log_file", "output"}}
    outputs = {"output", "authorities", "recipient"}
    assert files - outputs <= known.get(command, set()), files
