"""The plant's plan against the running server, with a real swtpm for each pack: copies, mistakes, kills.

The battery modules are fakes in their ROM's recovery, which measures nothing.
"""

import json
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cellward import bootstrap
from cellward.adapters.http import HttpTransport
from cellward.cli.main import cellward
from cellward.core.errors import CellwardError, Code, Unavailable
from cellward.ports.module import Module
from tests.fakes.module import FakeModule
from tests.support.packtpm import make
from tests.support.running import House, Server, server

PACKS = 3


@pytest.fixture(scope="module")
def made_tpms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Different TPMs that were never started."""
    folders = [tmp_path_factory.mktemp("made") / "tpm" for _ in range(PACKS)]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(make, folders))


@dataclass
class Plant:
    house: House
    server: Server
    silent: set[str] = field(default_factory=set)  # modules

    @property
    def folder(self) -> Path:
        return self.house.data.parent

    def module(self, path: Path) -> AbstractContextManager[Module]:
        if path.name in self.silent:
            raise Unavailable(Code.MODULE_ABSENT, f"module {path.name}")
        return nullcontext(FakeModule(serial=path.name))

    def state(self, number: int) -> Path:
        return self.folder / f"pack{number}"

    def row(self, number: int) -> dict[str, str]:
        return {"vehicle": f"PACK-{number}", "state": str(self.state(number)), "modules": f"M-{number}"}

    def plan(self, *rows: dict[str, str]) -> str:
        head = ("vehicle", "state", "modules", "endorsement")
        lines = [",".join(row.get(name, "") for name in head) for row in rows]
        path = self.folder / "plan.csv"
        path.write_text("\n".join([",".join(head), *lines]))
        return str(path)

    def tokens(self, *more: str) -> str:
        path = self.folder / "tokens.csv"
        said = self.house.run("server", "enrol-tokens", str(self.folder / "plan.csv"), "-o", str(path), *more)
        assert not any(line.split(",")[1] in said for line in path.read_text().splitlines()[1:])
        return str(path)

    def arguments(self, *more: str) -> list[str]:
        files = {"--factory": "factory.json", "--tokens": "tokens.csv"}
        fixed = [part for name, file in files.items() for part in (name, str(self.folder / file))]
        return ["device", "enrol-plan", str(self.folder / "plan.csv"), *fixed, *more]

    def run(self, *more: str) -> tuple[Result, dict[str, str]]:
        """What came of each vehicle: a refusal's code, or the outcome."""
        result = CliRunner().invoke(cellward, self.arguments("--json", *more))
        packs = json.loads(result.stdout)["packs"] if result.stdout else []
        return result, {p["vehicle"]: p["refusal"]["code"] if p["refusal"] else p["outcome"] for p in packs}

    def enrolled(self) -> dict[str, str]:
        """Identity keys by vehicle, as the server has them."""
        shown = json.loads(self.house.run("server", "vehicles", "--json"))
        return {v["vehicle"]: v["attestation"] and v["attestation"]["identity_key"] for v in shown}

    def asked(self) -> int:
        return self.server.log.read_text().count("POST")

    def remembered(self, number: int) -> str:
        return json.loads((self.state(number) / "device.json").read_text())["attested"]["identity_key"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def made_house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    house = House(tmp_path_factory.mktemp("made") / "data")
    for arguments in (("keys", "init"), ("repo", "init"), ("server", "know-agent")):
        house.run(*arguments)
    return house.data


@pytest.fixture
def plant(made_house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    house = House(tmp_path / "data")
    shutil.copytree(made_house, house.data)
    with server(house) as running:
        urls = {"--url": running.devices, "--enrol-url": running.enrolment}
        options = [part for name, port in urls.items() for part in (name, f"https://127.0.0.1:{port}")]
        house.run("repo", "factory", *options, "-o", "factory.json")
        plant = Plant(house, running)
        monkeypatch.setattr(bootstrap, "connect_module", plant.module)
        monkeypatch.setenv("CELLWARD_TPM", "device:/dev/null")  # a plan's packs have their own
        yield plant


@pytest.fixture
def tpms(plant: Plant, made_tpms: list[Path]) -> list[Path]:
    """Each pack's TPM in its state directory, known to the maker; a plan with all of them, and its tokens."""
    authorities = []
    for number, made in enumerate(made_tpms):
        shutil.copytree(made, plant.state(number) / "tpm")
        authorities.append(str(plant.folder / f"authority{number}.pem"))
        Path(authorities[-1]).write_bytes(bootstrap.tpm_authorities(plant.state(number)))
    plant.house.run("server", "know-tpm", *authorities)
    plant.plan(*(plant.row(number) for number in range(PACKS)))
    plant.tokens()
    return made_tpms


def refused(result: Result, code: Code = Code.ENROL_PLAN) -> CellwardError:
    error = result.exception
    assert isinstance(error, CellwardError), (error, result.output)
    assert error.code is code, str(error)
    return error


@pytest.mark.usefixtures("tpms")
def test_a_refused_pack_stops_no_other_and_what_is_done_stays_done(plant: Plant) -> None:
    tokens = plant.folder / "tokens.csv"
    assert stat.S_IMODE(tokens.stat().st_mode) == 0o600
    plant.silent.add("M-1")
    result, outcome = plant.run()
    assert outcome == {"PACK-0": "enrolled", "PACK-1": "module.absent", "PACK-2": "enrolled"}
    assert "1 refused: PACK-1" in str(refused(result))
    first = plant.enrolled()
    assert set(first) == {"PACK-0", "PACK-2"}
    assert first == {f"PACK-{n}": plant.remembered(n) for n in (0, 2)}

    plant.silent.clear()
    result, outcome = plant.run()
    assert (result.exit_code, outcome) == (
        0,
        {"PACK-0": "nothing to do", "PACK-1": "enrolled", "PACK-2": "nothing to do"},
    )
    assert plant.enrolled() == {**first, "PACK-1": plant.remembered(1)}
    asked = plant.asked()
    assert plant.run()[0].exit_code == 0
    assert plant.asked() == asked  # nothing to do is nothing asked
    said = plant.server.log.read_text() + result.output
    assert not any(line.split(",")[1] in said for line in tokens.read_text().splitlines()[1:])


@pytest.mark.usefixtures("tpms")
def test_copies_are_refused_before_anything_is_sent(plant: Plant) -> None:
    shutil.rmtree(plant.state(1))
    shutil.copytree(plant.state(0), plant.state(1))
    asked = plant.asked()
    plant.silent.add("M-2")
    result, outcome = plant.run()
    assert outcome == {"PACK-0": "enrol.identity", "PACK-1": "enrol.identity", "PACK-2": "module.absent"}
    assert "TPM" in result.stdout
    assert (plant.asked(), plant.enrolled()) == (asked, {})
    assert not [n for n in range(PACKS) if (plant.state(n) / "device.json").exists()]

    plant.silent.clear()
    _, outcome = plant.run()
    assert outcome == {"PACK-0": "enrol.identity", "PACK-1": "enrol.identity", "PACK-2": "enrolled"}
    shutil.rmtree(plant.state(1))
    shutil.copytree(plant.state(2), plant.state(1))  # of one that is enrolled, and another's name on it
    plant.plan(plant.row(1), plant.row(2))
    _, outcome = plant.run()
    assert outcome == {"PACK-1": "enrol.done", "PACK-2": "nothing to do"}
    (plant.state(1) / "device.json").unlink()  # its TPM has the identity key of the other
    asked = plant.asked()
    _, outcome = plant.run()
    assert outcome == {"PACK-1": "enrol.identity", "PACK-2": "enrol.identity"}
    assert plant.asked() == asked
    assert set(plant.enrolled()) == {"PACK-2"}


@pytest.mark.usefixtures("tpms")
def test_two_names_for_one_place_and_two_links_to_one_module(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = plant.folder / "link"
    link.symlink_to(plant.state(0))
    plant.plan(plant.row(0), {**plant.row(1), "state": str(link)}, plant.row(2))
    asked = plant.asked()
    plant.silent.add("M-2")
    _, outcome = plant.run()
    assert (outcome["PACK-0"], outcome["PACK-1"]) == (Code.ENROL_IDENTITY, Code.ENROL_IDENTITY)
    shutil.rmtree(plant.state(0))
    plant.state(0).mkdir()
    _, outcome = plant.run("--software-identity")  # nothing in it yet that could be the same
    assert (outcome["PACK-0"], outcome["PACK-1"]) == (Code.ENROL_IDENTITY, Code.ENROL_IDENTITY)
    monkeypatch.setattr(bootstrap, "connect_module", lambda path: nullcontext(FakeModule(serial="M-9")))
    plant.plan(plant.row(0), plant.row(1))
    _, outcome = plant.run()
    assert set(outcome.values()) == {Code.ENROL_IDENTITY}
    assert (plant.asked(), plant.enrolled()) == (asked, {})


def test_the_plan_says_which_tpm_a_vehicle_has(plant: Plant, tpms: list[Path]) -> None:
    shown = CliRunner().invoke(
        cellward, ["device", "tpm", "--state", str(plant.state(0)), "--json"], env={"CELLWARD_TPM": None}
    )
    named = json.loads(shown.stdout)["endorsement_certificate"]
    plant.plan({**plant.row(0), "endorsement": named}, {**plant.row(1), "endorsement": "ab" * 32})
    plant.tokens("--software-identity")
    asked = plant.asked()
    _, outcome = plant.run()
    assert outcome == {"PACK-0": "enrolled", "PACK-1": "enrol.identity"}
    assert plant.asked() == asked + 2  # both for PACK-0
    plant.plan(plant.row(1))  # the plant's plan is edited; the token was made for another TPM
    result, outcome = plant.run()
    assert outcome == {"PACK-1": "enrol.identity"}
    assert "its token names, abababab" in result.stdout
    result, outcome = plant.run("--software-identity")  # nor is it enough by itself, whatever was asked for
    assert outcome == {"PACK-1": "enrol.identity"}
    assert set(plant.enrolled()) == {"PACK-0"}
    assert len(tpms) == PACKS


def test_tokens_are_for_vehicles_that_are_not_enrolled(plant: Plant) -> None:
    plant.plan(plant.row(0), plant.row(1))
    plant.tokens("--software-identity")
    before = (plant.folder / "tokens.csv").read_text()
    plant.plan(plant.row(0))
    assert plant.run("--software-identity")[1] == {"PACK-0": "enrolled"}
    plant.plan(plant.row(0), plant.row(1), plant.row(2))
    plant.tokens("--software-identity")
    after = (plant.folder / "tokens.csv").read_text()
    assert [line.split(",")[0] for line in after.splitlines()] == ["vehicle", "PACK-1", "PACK-2"]
    (plant.folder / "tokens.csv").write_text(before)
    _, outcome = plant.run("--software-identity")
    assert outcome == {"PACK-0": "nothing to do", "PACK-1": "enrolled", "PACK-2": "enrol.token"}
    (plant.folder / "tokens.csv").write_text(after)
    assert plant.run("--software-identity")[1]["PACK-2"] == "enrolled"
    moved = {**plant.row(0), "modules": "M-7"}
    plant.plan(moved)
    assert plant.run("--software-identity")[1] == {"PACK-0": "enrol.done"}


@pytest.mark.usefixtures("tpms")
def test_a_run_that_is_killed_is_repeated_until_nothing_is_left(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at its first effect, then at its second, and so on: before and after each request and each
    write, which are those that the next run finds half done."""
    kills = 0
    while _killed(plant, monkeypatch, kills + 1):
        kills += 1
        assert kills < 60
    assert kills > 5
    keys = {f"PACK-{number}": plant.remembered(number) for number in range(PACKS)}
    assert plant.enrolled() == keys
    assert len(set(keys.values())) == PACKS
    result, outcome = plant.run()
    assert (result.exit_code, set(outcome.values())) == (0, {"nothing to do"})


def _killed(plant: Plant, monkeypatch: pytest.MonkeyPatch, at: int) -> bool:
    child = os.fork()
    if child == 0:
        left = [at]
        for owner, name in ((HttpTransport, "post"), (bootstrap.DirectoryStore, "write")):
            monkeypatch.setattr(owner, name, _counted(getattr(owner, name), left))
        try:
            result = CliRunner().invoke(cellward, plant.arguments("--json", "--parallel", "2"))
            os._exit(0 if result.exit_code == 0 else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _counted(original: Callable[..., object], left: list[int]) -> Callable[..., object]:
    def due() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def effect(*arguments: object) -> object:
        due()
        made = original(*arguments)
        due()
        return made

    return effect
