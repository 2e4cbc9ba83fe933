"""Power cuts: the cuts are the module's own, the boots the real ones, and what is broken is found."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cellward.cli.lab import lab
from cellward.core.errors import CellwardError, Code
from cellward.core.slots import (
    BMS_M33,
    ERASED,
    OTP_COUNTER,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    OTP_REVOKED,
    OTP_SIZE,
    Lifecycle,
)
from cellward.lab.hostcrypto import HostCrypto
from cellward.lab.journal import Journal
from cellward.lab.powercut import report
from cellward.lab.powercut.bench import Bench, device_secret
from cellward.lab.powercut.campaign import (
    Cut,
    Finding,
    Job,
    Plan,
    Result,
    Survey,
    Worker,
    elves,
    rom_of,
)
from cellward.lab.powercut.judge import Before, Promise, Seen, judge
from cellward.lab.powercut.naive import NAIVE
from cellward.lab.powercut.operations import WHOLE, Kind, Log, Operation, Variant, torn, variants
from cellward.lab.powercut.releases import make
from cellward.lab.powercut.runner import Summary, jobs
from cellward.lab.powercut.scenarios import (
    COMMITTED,
    NEW,
    OLD,
    SCENARIOS,
    Counted,
    Programmed,
    Revert,
    Tampered,
    Vault,
)
from cellward.ports.module import Outcome, Torn
from cellward.vbms.cut import Cuts, PowerCut
from cellward.vbms.nor import Nor, flash_size
from cellward.vbms.otp import Otp
from cellward.vbms.packaged import packaged
from cellward.vbms.state import FLASH_OFFSET, OTP_OFFSET
from tests.firmware.rig import built
from tests.unit.lab import mutated

pytestmark = pytest.mark.usefixtures("firmware")


@pytest.fixture(scope="module", autouse=True)
def firmware() -> None:
    built("all")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker(Plan(garbage=1))
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def crypto() -> HostCrypto:
    return HostCrypto((rom_of(Plan()), *elves()))


@pytest.fixture
def bench(tmp_path: Path, crypto: HostCrypto) -> Bench:
    bench = Bench(tmp_path, crypto)
    scenario = Programmed(1)
    bench.releases = tuple(scenario.releases.values())
    scenario.prepare(bench)
    return bench


# --- what a cut leaves ---


def log() -> Log:
    return Log(memoryview(bytearray(4)))


@pytest.mark.parametrize("kind", Torn)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_torn_operation_is_what_the_module_itself_leaves(kind: Torn, seed: int) -> None:
    content = bytearray([ERASED]) * flash_size(BMS_M33)
    content[: BMS_M33.page_size] = bytes(range(256)) * (BMS_M33.page_size // 256)
    fuses = bytearray(OTP_SIZE)
    fuses[:4] = b"\x0f\xf0\0\0"
    whole, cut = [(bytearray(content), bytearray(fuses)) for _ in range(2)]

    def operate(memories: tuple[bytearray, bytearray], cuts: Cuts, number: int) -> None:
        nor, otp = Nor(BMS_M33, memoryview(memories[0]), cuts), Otp(memoryview(memories[1]), cuts)
        steps = [
            lambda: nor.erase(0, 0),
            lambda: nor.program(0, 0x4000, b"cellward"),
            lambda: otp.burn_word(0, 0xFFFF_FFFF),
        ]
        steps[number]()

    noted = log()
    for number in range(3):
        operate(whole, Cuts(watch=noted.watch), number)
        operation = noted.operations[number]
        before = [bytes(memory) for memory in cut]
        tearing = Cuts(seed=seed, operations=number)
        tearing.order(1, kind)
        with pytest.raises(PowerCut):
            operate(cut, tearing, number)
        medium, base = (1, OTP_OFFSET) if operation.kind is Kind.BURN else (0, FLASH_OFFSET)
        at = operation.at - base
        assert torn(operation, Variant(kind, seed), number) == cut[medium][at : at + len(operation.old)]
        for memory, content_before in zip(cut, before, strict=True):
            memory[:] = content_before
        cut[medium][at : at + len(operation.old)] = operation.new
    assert [operation.kind for operation in noted.operations] == [Kind.ERASE, Kind.PROGRAM, Kind.BURN]
    assert cut == whole


def test_a_log_takes_everything_back(bench: Bench) -> None:
    before = bench.image()
    bench.log.begin()
    with bench.module() as module:
        Programmed(1).live(module, bench.log)
    assert bench.image() != before
    bench.log.undo(bench.memory)
    assert bench.image() == before


def test_only_what_can_be_torn_is_torn() -> None:
    same = Operation(Kind.PROGRAM, 0, b"\xff" * 8, b"\xff" * 8, "")
    latch = Operation(Kind.LATCH, 0, bytes(4), b"\x01\0\0\0", "")
    phrase = Operation(Kind.PROGRAM, 0, b"\xff" * 8, bytes(8), "")
    assert [len(variants(each, 3)) for each in (same, latch, None, phrase)] == [1, 1, 1, 5]


# --- the judge ---


def judged(bench: Bench, before: Before, seen: Seen, *, recovery: bool = False) -> list[Promise]:
    return [breach.promise for breach in judge(bench, before, seen, recovery=recovery)]


RUNS_A, RUNS_B = Seen(Outcome.RUNNING, "a"), Seen(Outcome.RUNNING, "b")


def test_a_good_boot_breaks_nothing(bench: Bench) -> None:
    assert judged(bench, Before.of(bench, 0), RUNS_A) == []


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.RUNNING])
def test_whatever_does_not_run_is_a_brick(bench: Bench, outcome: Outcome) -> None:
    before, seen = Before.of(bench, 0), Seen(outcome, "a")
    assert judged(bench, before, seen) == [Promise.BRICK]
    expected = [] if outcome is Outcome.RECOVERY else [Promise.BRICK]
    assert judged(bench, before, seen, recovery=True) == expected


def test_one_bit_makes_a_wrong_image(bench: Bench) -> None:
    bench.memory[FLASH_OFFSET + BMS_M33.app.offset + 0x300] ^= 1
    assert judged(bench, Before.of(bench, 0), RUNS_A) == [Promise.WRONG_IMAGE]
    assert judged(bench, Before.of(bench, 0), RUNS_B) == []


def test_an_old_image_after_the_commit_is_wrong(bench: Bench) -> None:
    bench.burn(OTP_COUNTER, b"\xff")
    assert bench.counter == NEW
    assert judged(bench, Before.of(bench, 0), RUNS_A) == [Promise.WRONG_IMAGE]


def test_a_revoked_keys_image_is_wrong_and_the_last_key_is_missed(bench: Bench) -> None:
    bench.burn(OTP_REVOKED, b"\x01")
    assert judged(bench, Before.of(bench, 0), RUNS_A) == [Promise.WRONG_IMAGE, Promise.LAST_KEY]


def test_a_counter_above_what_runs(bench: Bench) -> None:
    before = Before.of(bench, 0)
    bench.burn(OTP_COUNTER, b"\xff")
    assert judged(bench, before, RUNS_A) == [Promise.COUNTER]


def test_a_counter_that_a_trial_raised(bench: Bench) -> None:
    bench.burn(OTP_COUNTER, b"\x3f")
    before = Before.of(bench, 0)
    bench.put("a", make(OLD, 1), confirmed=False)
    bench.burn(OTP_COUNTER, b"\x7f")
    assert judged(bench, before, RUNS_A) == [Promise.COUNTER]


def test_who_may_close_the_contactors(bench: Bench) -> None:
    assert bench.may_close("a")
    bench.put("a", make(OLD, 1), confirmed=False)
    assert not bench.may_close("a")
    assert bench.may_close("b")
    bench.burn(OTP_COUNTER, b"\x3f")
    assert not bench.may_close("b")  # confirmed, not committed
    bench.burn(OTP_COUNTER, b"\x7f")
    for lifecycle in Lifecycle:
        bench.burn(OTP_LIFECYCLE, lifecycle.fuses.to_bytes(4, "little"))
        assert bench.may_close("b") == (lifecycle in (Lifecycle.PROVISIONED, Lifecycle.PRODUCTION)), lifecycle


def test_a_contactor_that_closes_too_early_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "may_close", lambda bank: False)
    with bench.module() as module:
        module.pack.close_requested = True
        module.power_on()
    assert set(bench.closings) == {"bank a, confirmed"}


# --- cuts ---


def test_boots_with_shortcuts_are_the_real_ones(worker: Worker) -> None:
    life = worker.life(Programmed.name)
    last = life.cuts - 1
    for number in (last // 2, last - 4, last - 1):
        cut = Cut(Programmed.name, number, Variant(Torn.NONE))
        assert worker.boot(life, cut) == worker.boot(life, cut, real=True)


def test_every_cut_of_revert_and_of_the_tamper_response(worker: Worker) -> None:
    for kind in (Revert, Tampered):
        life = worker.life(kind.name)
        result = worker.run(Job(0, kind.name, tuple(range(life.cuts))))
        assert (result.findings, result.differing) == ([], [])
        assert result.cuts > life.cuts


def test_a_boot_that_is_cut_too(worker: Worker) -> None:
    """The tamper response, cut in its second burn, goes on at the next boot, and is cut again there."""
    life = worker.life(Tampered.name)
    burns = [at for at, each in enumerate(life.operations) if each.kind is Kind.BURN]
    cut = Cut(Tampered.name, burns[1], Variant(Torn.HALF))
    ways = list(worker.cuts_of_boot(life, cut))
    kinds = [again.operations[-1].kind for again in ways]
    assert kinds.count(Kind.BURN) > 20
    assert Kind.LATCH in kinds
    for again in ways:
        assert worker.boot(life, replace(cut, again=again))[1] == []


def test_what_is_watched_is_taken_back(worker: Worker) -> None:
    life = worker.life(Tampered.name)
    cut = Cut(Tampered.name, 1, Variant(Torn.HALF))
    worker.boot(life, cut)
    before = worker.image()
    for again in list(worker.cuts_of_boot(life, cut))[:9]:
        worker.boot(life, replace(cut, again=again))
        assert worker.image() == before


def test_a_commit_is_the_border(worker: Worker) -> None:
    """Before it either bank may run, behind it only the new one."""
    life = worker.life(Programmed.name)
    counter = OTP_OFFSET + OTP_COUNTER.offset
    (commit,) = [number for number, each in enumerate(life.operations) if each.at == counter]
    seen = [
        worker.boot(life, Cut(Programmed.name, number, Variant(Torn.NONE)))[0] for number in (0, commit + 1)
    ]
    assert seen == [RUNS_A, RUNS_B]


def test_a_zeroise_that_leaves_the_secret_is_found(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge, shown the fuses of before."""
    life = worker.life(Tampered.name)
    number = life.cuts - 1
    module_secret = OTP_OFFSET + OTP_DEVICE_SECRET.offset
    memory = bytearray(worker.image())

    class Leaking:
        def status(self) -> object:
            return type("Status", (), {"lifecycle": Lifecycle.TAMPERED})()

        def memory_image(self) -> bytes:
            memory[module_secret : module_secret + 32] = device_secret(1)[:16] + b"\xff" * 16
            return bytes(memory)

    before = Before(COMMITTED, 0, Lifecycle.TAMPERED, latched=True, vault=0, registered=0)
    found = list(life.scenario.after(Leaking(), before, RUNS_A, number))  # type: ignore[arg-type]
    assert [breach.promise for breach in found] == [Promise.SECRET]


def test_the_naive_example_bricks_and_runs_wrong_images(worker: Worker) -> None:
    life = worker.life(NAIVE)
    result = worker.run(Job(0, NAIVE, Survey.of(life).sample(60)))
    promises = {finding.promise for finding in result.findings}
    assert promises == {Promise.BRICK, Promise.WRONG_IMAGE}
    assert len(result.findings) > 60


# Firmware in the order that suggests itself, and what then breaks.
MUTATIONS = {
    "the counter rises with the trial (MCUboot #2282)": (
        "rom/rom.c",
        [
            (
                "return start_trial(bank);",
                "(void)otp_raise_counter(loader->counter); return start_trial(bank);",
            )
        ],
        Revert.name,
        Promise.BRICK,
    ),
    "a trial that leaves no mark": (
        "rom/rom.c",
        [("return start_trial(bank);", "(void)start_trial; return STATUS_OK;")],
        Revert.name,
        Promise.BRICK,
    ),
    "the tamper latch is cleared before the secret is burned": (
        "boot/tamper.c",
        [
            ("    tamper_burn_secret();\n    __asm", "    __asm"),
            ("TAMPER_KEY);\n", "TAMPER_KEY);\n    tamper_burn_secret();\n"),
            ("return latch != 0 ? latch : is_tampered() != 0 && secret_left() != 0;", "return latch;"),
        ],
        Tampered.name,
        Promise.SECRET,
    ),
    "counts are lost with their page": (
        "boot/bootcount.c",
        [
            ("page = (page + 1u) % PAGES;", ""),
            ("= (epoch + 1u) * BOOTS_PER_EPOCH;", "= epoch * BOOTS_PER_EPOCH + 1u;"),
        ],
        Counted.name,
        Promise.COUNT,
    ),
    "the vault's fuse burns for any block": (
        "boot/vaultblock.c",
        [("FUSES_SIZE, place.counter);", "FUSES_SIZE, place.counter + 1u);")],
        Vault.name,
        Promise.VAULT,
    ),
}


def broken(worker: Worker, scenario: str) -> set[Promise]:
    """By cuts between operations; what is found once is not looked for again."""
    found: set[Promise] = set()
    life = worker.life(scenario)
    for number in range(life.cuts):
        if not found:
            found |= {each.promise for each in worker.boot(life, Cut(scenario, number, WHOLE))[1]}
    return found


@pytest.mark.parametrize("change", MUTATIONS)
def test_firmware_that_was_made_worse_is_found(change: str, tmp_path: Path) -> None:
    source, edits, scenario, promise = MUTATIONS[change]
    with closing(Worker(Plan(rom=mutated.rom(tmp_path, source, edits)))) as worker:
        assert promise in broken(worker, scenario)


def test_firmware_that_was_only_built_again_is_not(tmp_path: Path) -> None:
    names = Revert.name, Tampered.name, Vault.name, Counted.name
    with closing(Worker(Plan(rom=mutated.rom(tmp_path, "rom/rom.c", [])))) as worker:
        assert [broken(worker, name) for name in names] == [set()] * len(names)


@pytest.mark.parametrize("scenario", [kind.name for kind in SCENARIOS])
def test_no_phase_of_any_life_breaks_a_promise(worker: Worker, scenario: str) -> None:
    """Its edges only; `cellward lab powercut --smoke` has more."""
    life = worker.life(scenario)
    numbers = [at for at in range(1, life.cuts) if life.phase(at) != life.phase(at - 1)]
    for number in (*numbers, life.cuts - 1):
        assert worker.boot(life, Cut(scenario, number, WHOLE))[1] == []


def test_a_sample_has_every_phases_edges() -> None:
    phases = ("boot",) + ("install",) * 5000 + ("commit",) * 7 + ("next",)
    sample = Survey("s", phases, ("program",) * len(phases)).sample(60)
    assert {0, 1, 5000, 5001, 5007, 5008} <= set(sample)
    assert 50 <= len(sample) <= 70
    assert Survey("s", phases[-9:], ("burn",) * 9).sample(60) == tuple(range(9))


def test_jobs_have_every_operation_once() -> None:
    surveys = [Survey(name, ("p",) * count, ("burn",) * count) for name, count in (("x", 129), ("y", 64))]
    full = jobs(surveys, smoke=False)
    assert [len(job.operations) for job in full] == [64, 64, 1, 64]
    assert [number for job in full[:3] for number in job.operations] == list(range(129))
    assert len({job.number for job in full}) == 4


# --- what is told ---

FINDING = Finding("s", "install", 3, "half", Promise.BRICK, "outcome <hang>", True)


def summary() -> Summary:
    survey = Survey("s", ("boot", "install", "install", "install"), ("erase", "program", "program", "end"))
    result = Result(
        0, "s", 9, {"running a": 8, "hang": 1}, {"none": 9}, [FINDING], {0: "running a", 3: "BRICK"}
    )
    return Summary([survey], [result], 1)


def test_a_result_survives_json() -> None:
    result = summary().results[0]
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_a_breach_that_real_cryptography_does_not_show_is_no_brick() -> None:
    told = summary()
    assert (told.bricks, told.wrong_images) == (1, 0)
    told.results[0].findings[0] = Finding(**{**FINDING.__dict__, "confirmed": False})
    assert told.bricks == 0


def test_the_page_draws_what_was_cut_and_escapes_it() -> None:
    page = report.render(summary())
    assert page.count('class="broken"') == 2  # the key's and the cut's
    assert "outcome &lt;hang&gt;" in page
    old, broken_one = report.timeline(summary())[0].bars
    assert (old.css, old.x, broken_one.css) == ("old", 0.0, "broken")


def test_short_phases_show_and_operations_are_in_order() -> None:
    places = report.places(["boot"] + ["install"] * 5000 + ["commit"] * 4)
    assert places == sorted(places)
    assert (places[0], round(places[-1])) == (0.0, report.WIDTH)
    assert places[-1] - places[5001] > report.PHASE_LEAST
    assert places[5001] - places[1] > places[-1] - places[5001]


def test_a_journal_is_gone_on_with_and_belongs_to_one_campaign(tmp_path: Path) -> None:
    path = tmp_path / "results"
    journal = Journal(path, "one")
    journal.add({"job": 1})
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"job": 2')
    again = Journal(path, "one")
    assert again.found == [{"job": 1}]
    again.add({"job": 2})
    again.close()
    assert [json.loads(line) for line in path.read_text().splitlines()[1:]] == [{"job": 1}, {"job": 2}]
    with pytest.raises(CellwardError) as caught:
        Journal(path, "another")
    assert caught.value.code is Code.STORAGE_EXISTS


def test_the_command_says_what_broke_in_one_line(tmp_path: Path) -> None:
    arguments = ["powercut", "--naive", "--smoke", "--cores", "1", "--json"]
    arguments += ["--html", str(tmp_path / "cuts.html"), "--junit", str(tmp_path / "cuts.xml")]
    arguments += ["--results", str(tmp_path / "cuts.jsonl")]
    done = CliRunner().invoke(lab, arguments)
    assert isinstance(done.exception, CellwardError)
    assert done.exception.code is Code.POWER_CUT
    told = json.loads(done.stdout)
    assert told["bricks"] > 0
    assert told["wrong_images"] > 0
    assert told["rate"] > 0
    assert 'failures="1"' in (tmp_path / "cuts.xml").read_text()
    assert "</html>" in (tmp_path / "cuts.html").read_text()
    kept = (tmp_path / "cuts.jsonl").read_bytes()
    assert json.loads(CliRunner().invoke(lab, arguments).stdout)["cuts"] == told["cuts"]
    assert (tmp_path / "cuts.jsonl").read_bytes() == kept  # all of it was there


@pytest.mark.parametrize("data", [b"no ELF", packaged("app-1.3.0.elf")], ids=["no ELF", "the app's"])
@pytest.mark.parametrize("command", ["powercut", "faults"])
def test_a_rom_that_is_none_is_refused_in_one_line(command: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "rom.elf").write_bytes(data)
    done = CliRunner().invoke(lab, [command, "--smoke", "--rom", str(tmp_path / "rom.elf")])
    assert isinstance(done.exception, CellwardError)
    assert done.exception.code is Code.FIRMWARE_FORMAT
