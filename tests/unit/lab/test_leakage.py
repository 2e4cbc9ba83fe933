"""Leakage: the traces are true, what leaks is found, and the module's own routines do not."""

import json
import math
import re
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import unicorn as untyped_unicorn
from click.testing import CliRunner

from cellward.cli.lab import lab
from cellward.core import ladder, vault
from cellward.core.errors import CellwardError, Code
from cellward.core.slots import OTP_DEVICE_SECRET, DataPage
from cellward.lab.leakage import module, report
from cellward.lab.leakage.campaign import Job, Plan, Result, Worker, execute, is_division, plan_jobs
from cellward.lab.leakage.runner import Options, Summary, Verdict, campaign_of, run
from cellward.lab.leakage.statistics import FEATURES, FIXED, RANDOM, Moments
from cellward.lab.leakage.subject import Firmware, random_match
from cellward.lab.leakage.target import read_target
from cellward.lab.leakage.tracer import STREAMS, WINDOWS, Channel, Tracer, compile_tracer
from cellward.lab.pool import quiet
from cellward.lab.powercut.bench import Bench
from cellward.lab.powercut.scenarios import Vault as VaultLife
from cellward.lab.routines import MODULE_RAM, Elf
from cellward.ports.module import Outcome
from cellward.vbms.bench import VirtualModule
from tests.firmware.rig import built
from tests.unit.lab import mutated
from tests.unit.lab.mutated import EXAMPLES

unicorn: Any = untyped_unicorn
LEAKY = EXAMPLES / "leaky" / "target.toml"
HEAVY = 100  # weight of those that take seconds


@pytest.fixture(scope="module", autouse=True)
def firmware() -> None:
    built("all")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_tracer(tmp_path_factory.mktemp("tracer"))


@pytest.fixture(scope="module")
def worker(library: Path) -> Iterator[Worker]:
    worker = Worker(Plan(), library)
    yield worker
    worker.close()


def verdict_of(worker: Worker, firmware: int, subject: int, traces: int) -> Verdict:
    it = worker.firmware[firmware]
    result = worker.run(Job(0, firmware, subject, 0, traces))
    return Verdict(it.elf.name, it.subjects[subject].name, "", traces, [result])


def named(firmware: Firmware, name: str) -> int:
    return [subject.name for subject in firmware.subjects].index(name)


# --- the traces ---


def test_a_trace_is_what_unicorn_itself_tells(library: Path) -> None:
    firmware = module.firmware()[0]
    subject = firmware.subjects[named(firmware, "hmac_sha256")]
    secret = subject.draw(Random(1), True)

    native = firmware.routines()
    tracer = Tracer(library, native)
    tracer.record()
    assert execute(native, subject, secret)

    steps: list[int] = []
    memory: list[int] = []
    told = firmware.routines()
    told.uc.hook_add(unicorn.UC_HOOK_CODE, lambda uc, at, size, data: steps.append(at))
    told.uc.hook_add(
        unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE,
        lambda uc, kind, at, size, value, data: memory.append(at),
    )
    assert execute(told, subject, secret)

    assert tracer.reference(Channel.STEPS).tolist() == steps
    assert tracer.reference(Channel.MEMORY).tolist() == memory
    branches = tracer.reference(Channel.BRANCHES)
    assert 0 < len(branches) < len(steps) / 2
    tracer.close()


def test_a_condition_that_is_not_met_is_a_difference(library: Path, tmp_path: Path) -> None:
    """An instruction in an IT block that does not run must not count as run."""
    elf = assembled(tmp_path, "ldr r0, [r0]; lsls r0, r0, #31; it mi; addmi r0, r0, #1; bx lr")
    verdict = verdict_with(library, target(tmp_path, elf, "{ secret = 4 }"))
    assert verdict.differing["steps"] > 0
    assert verdict.leaks


def test_windows_are_the_reference_in_order(library: Path) -> None:
    firmware = module.firmware()[0]
    subject = firmware.subjects[named(firmware, "hmac_sha256")]
    routines = firmware.routines()
    tracer = Tracer(library, routines)
    for begin in (tracer.record, tracer.compare):
        begin()
        execute(routines, subject, subject.draw(Random(1), True))
    steps, trace = tracer.reference(Channel.STEPS), tracer.trace
    stride = -(-len(steps) // WINDOWS)
    expected = [int(steps[at : at + stride].sum(dtype=np.int64)) for at in range(0, len(steps), stride)]
    assert trace.windows[Channel.STEPS][: len(expected)].tolist() == expected
    assert trace.counts[Channel.STEPS] == len(steps)
    assert trace.differing == (0, 0, 0)
    tracer.close()


# --- the t-test ---


def moments(fixed: list[float], random: list[float]) -> Moments:
    made = Moments.empty()
    for kind, values in ((FIXED, fixed), (RANDOM, random)):
        for value in values:
            row = np.zeros(FEATURES)
            row[7] = value
            made.add(kind, row)
    return made


def test_welch() -> None:
    a, b = [1.0, 2.0, 4.0, 4.5], [3.0, 7.0, 8.0, 8.5, 20.0]
    error = math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
    t = moments(a, b).t()
    assert t[7] == pytest.approx((statistics.mean(a) - statistics.mean(b)) / error)
    assert not np.delete(t, 7).any()


def test_two_constants_are_infinitely_far_apart_and_one_is_not() -> None:
    assert math.isinf(moments([0.0, 0.0], [5.0, 5.0]).t()[7])
    assert moments([5.0, 5.0], [5.0, 5.0]).t()[7] == 0.0
    assert moments([0.0], [5.0]).t()[7] == 0.0  # one trace is no statistics


def test_moments_add_up_and_survive_json() -> None:
    whole, part = moments([1.0, 2.0, 3.0], [4.0, 6.0]), moments([1.0], [4.0])
    part.merge(Moments.from_json(json.loads(json.dumps(moments([2.0, 3.0], [6.0]).to_json()))))
    assert np.array_equal(whole.t(), part.t())
    assert len(whole.to_json()["places"]) == 1


# --- what must be found ---


def verdict_with(library: Path, path: Path, number: int = 0, traces: int = 60) -> Verdict:
    worker = Worker(Plan(target=path), library)
    try:
        return verdict_of(worker, 0, number, traces)
    finally:
        worker.close()


def test_the_examples_that_must_fail_do_and_the_one_that_must_not_does_not(library: Path) -> None:
    aes, early, division, all_of_it = (verdict_with(library, LEAKY, number) for number in range(4))
    assert (aes.leaks, early.leaks, division.leaks, all_of_it.leaks) == (True, True, True, False)
    assert aes.differing == {"steps": 0, "branches": 0, "memory": 30}
    assert {site.channel for site in aes.sites} == {"memory"}
    assert {site.function for site in aes.sites} == {"aes_encrypt"}
    assert aes.most_t["memory"] > 4.5
    assert early.differing["steps"] > 25
    assert early.most_t["length"] > 4.5
    assert [site.channel for site in division.sites] == ["division"]
    assert all_of_it.most_t["values"] > 4.5  # a probe would see it


def test_the_tables_aes_is_aes(library: Path) -> None:
    """FIPS 197, appendix B: the example fails for its table, not because it computes something else."""
    firmware = read_target(LEAKY)
    routines = firmware.routines()
    key, block, out = (firmware.ram.address + 0x2000 + 0x20 * at for at in range(3))
    routines.reset()
    routines.write(key, bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    routines.write(block, bytes.fromhex("3243f6a8885a308d313198a2e0370734"))
    routines.call("aes_encrypt", (key, block, out))
    assert routines.read(out, 16).hex() == "3925841d02dc09fbdc118597196a0b32"


MUTATIONS = {
    "bytes_differ": (
        "verify/crypto.c",
        "differ |= (uint32_t)(a[i] ^ b[i]);",
        "differ |= (uint32_t)(a[i] ^ b[i]);\n if (differ != 0) { break; }",
        "steps",
    ),
    "scalar_in_range": (
        "boot/ladder.c",
        "any |= scalar[i];\n    }\n    return spread",
        'any |= scalar[i];\n if (scalar[i] & 1u) { __asm volatile("nop"); }\n    }\n    return spread',
        "steps",
    ),
    "hkdf_expand": (
        "boot/kdf.c",
        "copy_bytes(out + done, block, count);",
        "copy_bytes(out + done, block, count); ((volatile uint8_t *)out)[block[0] & 1u];",
        "memory",
    ),
}


@pytest.mark.parametrize("function", MUTATIONS)
def test_a_routine_that_was_made_to_leak_is_found(function: str, library: Path, tmp_path: Path) -> None:
    source, old, new, channel = MUTATIONS[function]
    edits = [(old, new)]
    for made, leaks in (([], False), (edits, True)):
        elf = mutated.routine(tmp_path, source, made, function)
        (subject,) = [s for s in module.subjects_of(elf) if s.name == function]
        verdict = traced(library, Firmware(elf, (subject,), MODULE_RAM))
        assert verdict.leaks is leaks
        assert (verdict.differing[channel] > 0) is leaks


def traced(library: Path, firmware: Firmware, traces: int = 60) -> Verdict:
    worker = Worker(Plan(target=LEAKY), library)
    worker.firmware = (firmware,)
    try:
        return verdict_of(worker, 0, 0, traces)
    finally:
        worker.close()


def assembled(folder: Path, code: str) -> Path:
    source, made = folder / "it.s", folder / "it.elf"
    lines = code.replace(";", "\n")
    source.write_text(
        f'.syntax unified\n.section .vectors,"ax"\n.global it\n.type it, %function\nit:\n{lines}\n'
    )
    command = (
        f"arm-none-eabi-gcc -mcpu=cortex-m33 -mthumb -nostdlib -T{EXAMPLES / 'example.ld'} {source} -o {made}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return made


def target(folder: Path, elf: Path, arguments: str) -> Path:
    path = folder / "target.toml"
    path.write_text(
        f'elf = "{elf.name}"\nram = {{ address = 0x2000_0000, size = 0x4000 }}\n'
        f'[[routine]]\nfunction = "it"\narguments = [{arguments}]\n'
    )
    return path


# --- the module's own ---


def test_no_routine_of_the_module_leaks_and_each_answers_right(worker: Worker) -> None:
    for at, firmware in enumerate(worker.firmware):
        for number, subject in enumerate(firmware.subjects):
            if subject.weight < HEAVY:
                verdict = verdict_of(worker, at, number, 8)
                assert (verdict.leaks, verdict.wrong) == (False, 0), f"{firmware.elf.name} {subject.name}"
                assert verdict.counts[Channel.STEPS] > 50


@pytest.mark.parametrize("name", ["update_public_key", "ecies_unwrap", "ecies_unwrap, refused"])
def test_nor_do_those_with_a_scalar(worker: Worker, name: str) -> None:
    verdict = verdict_of(worker, 1, named(worker.firmware[1], name), 2)
    assert (verdict.leaks, verdict.wrong) == (False, 0)
    assert verdict.counts[Channel.STEPS] > 4_000_000


def test_a_whole_boot_executes_the_same_number_for_every_device_secret(tmp_path: Path) -> None:
    """What runs between the routines as well: ROM, loader and app, from reset until the app settles."""
    bench, scenario = Bench(tmp_path, None), VaultLife(1)
    scenario.prepare(bench)
    counted = []
    for secret in (bytes(range(32)), bytes(32), Random(1).randbytes(32)):
        key = ladder.derive(secret).vault
        block = vault.encode(vault.Name.CALIBRATION, key, vault.Block(1, 1, scenario.values[0]), b"n" * 16)
        bench.burn(OTP_DEVICE_SECRET, secret)
        bench.write_data(DataPage.VAULT_CALIBRATION, block)
        before = bench.image()
        with closing(VirtualModule(bench.path, entropy=lambda: 0, exact=True)) as virtual:
            (boot,) = virtual.power_on()
            assert (boot.events, virtual.status().outcome) == ((), Outcome.RUNNING)
            assert virtual.machine.counter is not None
            counted.append(virtual.machine.counter.by_region)
        bench.load(before)
    assert counted[0] == counted[1] == counted[2]
    assert counted[0]["rom"] > 20_000_000


def test_each_binary_has_its_secrets() -> None:
    has = [{subject.name for subject in firmware.subjects} for firmware in module.firmware()]
    link = {"bytes_differ", "ecies_unwrap", "ecies_unwrap, refused", "update_public_key", "br_aes_ct_ctr"}
    assert link | {"ladder_rom", "otp_copy", "vault_commit"} <= has[0]
    assert link | {"ladder_loader"} <= has[1]
    assert {"vault_open", "vault_open, refused", "crypt", "tag_of"} <= has[2]


PRIMITIVES = {
    *(
        "hmac_sha256",
        "hmac_start",
        "hkdf_extract",
        "hkdf_expand",
        "bytes_differ",
        "scalar_in_range",
        "memcmp",
    ),
    *("br_aes_ct_ctr_init", "br_aes_ct_ctr_run", "update_public_key", "ecies_unwrap", "vault_key_from_stage"),
    *("crypt", "tag_of", "find", "vault_open", "ladder_rom", "ladder_loader", "record_make"),
}
STAGES = {"main"}  # call what they need with their own keys


def calls(elf: Elf) -> Iterator[tuple[int, str, str]]:
    """Every BL: its address, and the functions around it and behind it (ARMv8-M, encoding T1)."""
    for start, size, name in elf.functions:
        code = elf.code(start, size)
        for at in range(0, len(code) - 3, 2):
            high, low = (int.from_bytes(code[at + n : at + n + 2], "little") for n in (0, 2))
            if high & 0xF800 == 0xF000 and low & 0xD000 == 0xD000:
                sign = high >> 10 & 1
                bits = [1 - (low >> place & 1 ^ sign) for place in (13, 11)]
                offset = bits[0] << 23 | bits[1] << 22 | (high & 0x3FF) << 12 | (low & 0x7FF) << 1
                offset -= sign << 24
                yield start + at, name, elf.function(start + at + 4 + offset)


def test_every_call_with_a_secret_is_traced_or_explained(library: Path) -> None:
    unexplained, unused = set(), set(module.NOT_TRACED)
    for firmware in module.firmware():
        routines = firmware.routines()
        tracer = Tracer(library, routines)
        executed: set[int] = set()
        for subject in firmware.subjects:
            tracer.record()
            execute(routines, subject, subject.draw(Random(1), True))
            executed |= set(np.unique(tracer.reference(Channel.STEPS)).tolist())
        tracer.close()
        for at, caller, called in calls(firmware.elf):
            if called in PRIMITIVES and at not in executed:
                unused.discard(caller)
                if caller not in {*module.NOT_TRACED, *STAGES}:
                    unexplained.add((firmware.elf.name, caller, called))
    assert unexplained == set()
    assert unused == set()  # an explanation for a call that is not there any more


# --- plan, journal, telling ---


def test_jobs_have_every_trace_once_and_the_longest_first() -> None:
    firmware = module.firmware()
    plan = plan_jobs(firmware, lambda subject: 100, 20_000, "")
    for at, each in enumerate(firmware):
        for number in range(len(each.subjects)):
            of = [job for job in plan if (job.firmware, job.subject) == (at, number)]
            numbers = sorted(trace for job in of for trace in range(job.first, job.last))
            assert numbers == list(range(100))
    weights = [firmware[job.firmware].subjects[job.subject].weight for job in plan]
    assert weights == sorted(weights, reverse=True)
    assert len({job.number for job in plan}) == len(plan)


def test_parts_are_the_whole(worker: Worker) -> None:
    at = named(worker.firmware[0], "bytes_differ")
    whole = [worker.run(Job(0, 0, at, 0, 30))]
    parts = [worker.run(Job(number, 0, at, 10 * number, 10 * number + 10)) for number in range(3)]
    a, b = (Verdict("", "", "", 30, results) for results in (whole, parts))
    assert a.to_json() == b.to_json()
    assert np.array_equal(a.t, b.t)


def test_a_result_survives_json(library: Path) -> None:
    worker = Worker(Plan(target=LEAKY), library)
    result = worker.run(Job(0, 0, 0, 0, 6))
    worker.close()
    again = Result.from_json(json.loads(json.dumps(result.to_json())))
    assert again.to_json() == result.to_json()
    assert again.sites == result.sites


def test_a_second_start_goes_on(tmp_path: Path) -> None:
    results = tmp_path / "results"
    options = Options(cores=1, target=LEAKY, traces=20, results=results)
    first = run(options, quiet)
    results.write_bytes(b"\n".join(results.read_bytes().split(b"\n")[:-2]) + b"\n")
    told: list[int] = []
    second = run(options, lambda done, all_, bad: told.append(done))
    assert second.to_json() == {**first.to_json(), "seconds": second.to_json()["seconds"]}
    assert told[0] == 60  # of 80: one job was to be done again
    assert campaign_of(options, [read_target(LEAKY)]) != campaign_of(
        Options(cores=1, target=LEAKY, traces=21), [read_target(LEAKY)]
    )


def test_a_reference_that_changes_is_a_wrong_answer() -> None:
    results = [Result(number, 0, 0, reference=name) for number, name in enumerate("aab")]
    assert Verdict("", "", "", 3, results).wrong == 1


def test_divisions() -> None:
    assert is_division(bytes.fromhex("b0fbf1f0"))  # udiv r0, r0, r1
    assert is_division(bytes.fromhex("90fbf1f0"))  # sdiv
    assert not is_division(bytes.fromhex("a0fb0123"))  # umull


def test_a_forged_mac_differs_first_anywhere() -> None:
    value = bytes(range(32))
    draw, random = random_match(value), Random(1)
    assert draw(random, True) == value
    others = [draw(random, False) for _ in range(300)]
    first = {next(at for at in range(32) if other[at] != value[at]) for other in others}
    assert len(first) == 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("elf = 1", "the name of a file"),
        ('elf = "leaky.elf"', "ram"),
        ('elf = "leaky.elf"\nram = { address = 1, size = 4096 }', "whole pages"),
        ('elf = "leaky.elf"\nram = { address = 0, size = 4096 }', "at least one"),
        ("what = 1", "elf, ram, routine"),
        ("[", "a TOML file"),
        ('routine = [{ function = "none", arguments = [] }]', "a function of"),
        ('routine = [{ function = "remainder", arguments = [] }]', "a secret"),
        ('routine = [{ function = "remainder", arguments = [{ secret = 0 }] }]', "arguments of"),
        ('routine = [{ function = "remainder", arguments = [{ secret = 1, fixed = "0102" }] }]', "1 bytes"),
        ('routine = [{ function = "remainder", arguments = [{ public = "0g" }] }]', "hexadecimal"),
        ('routine = [{ function = "remainder", arguments = [{ number = -1 }] }]', "arguments of"),
        ('routine = [{ function = "remainder", what = 1 }]', "arguments, function, name"),
    ],
)
def test_a_target_that_is_none_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "leaky.elf").write_bytes((EXAMPLES / "leaky" / "leaky.elf").read_bytes())
    if text.startswith("routine"):
        text = f'elf = "leaky.elf"\nram = {{ address = 0x2000_0000, size = 4096 }}\n{text}'
    path = tmp_path / "target.toml"
    path.write_text(text)
    with pytest.raises(CellwardError) as caught:
        read_target(path)
    assert caught.value.code is Code.CONFIG
    assert expected in str(caught.value)


def test_the_page_has_a_strip_for_each_channel_and_escapes(library: Path) -> None:
    verdict = verdict_with(library, LEAKY)
    shown = Verdict("<b>", verdict.routine, "", 60, verdict.results)
    page = report.render(Summary([shown], 1, 1, of_module=False))
    assert "&lt;b&gt;" in page
    assert page.count("<svg") == len(Channel)
    assert 'class="bad"' in page
    assert "memory at 0x" in page
    assert len(report.strips(verdict)[Channel.STEPS].bars) == 0
    assert len(STREAMS) == 3


def test_the_command_fails_in_one_line_and_writes_its_files(tmp_path: Path) -> None:
    arguments = ["leakage", "--target", str(LEAKY), "--traces", "20", "--cores", "1", "--json"]
    arguments += ["--html", str(tmp_path / "leak.html"), "--junit", str(tmp_path / "leak.xml")]
    done = CliRunner().invoke(lab, arguments)
    assert isinstance(done.exception, CellwardError)
    assert done.exception.code is Code.LEAKAGE
    told = json.loads(done.stdout)
    assert told["leaks"] == 3
    assert told["wrong_answers"] == 0
    assert re.search('tests="4" failures="3"', (tmp_path / "leak.xml").read_text())
    assert "</html>" in (tmp_path / "leak.html").read_text()


def test_the_command_says_so_when_nothing_leaks() -> None:
    arguments = ["leakage", "--smoke", "--routine", "bytes_differ", "--cores", "1"]
    done = CliRunner().invoke(lab, arguments)
    assert done.exit_code == 0, done.output
    assert "3 routines, 120 traces, 0 leak, 0 wrong answers" in done.output
