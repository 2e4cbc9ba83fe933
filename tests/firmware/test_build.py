"""What is generated, fetched and built: fresh, pinned, small, and the same bytes every time."""

import hashlib
import io
import re
import subprocess
import sys
from pathlib import Path

import bincopy
import pytest
from elftools.elf.elffile import ELFFile

from cellward.core.slots import BMS_M33, Stage
from firmware import fetch_bearssl, gen_headers
from tests.firmware.rig import FIRMWARE, PACKAGE, ROOT, binary, built

APPS = ("1.3.0", "1.4.0", "1.5.0")

# Generated headers ----------------------------------------------------------------------------------


def test_the_committed_headers_are_what_python_says() -> None:
    assert gen_headers.main(["--check"]) == 0


@pytest.mark.parametrize("name", gen_headers.HEADERS)
def test_a_stale_header_is_named(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gen_headers.main(["--out", str(tmp_path)]) == 0
    header = tmp_path / name
    number = re.search(r"0x0*[1-9a-f]|\{\d", header.read_text())
    assert number is not None
    header.write_text(header.read_text().replace(number[0], number[0][:-1] + "7", 1) + " ")
    capsys.readouterr()
    assert gen_headers.main(["--check", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    header.unlink()
    assert gen_headers.stale(tmp_path) == [name]


def test_the_generator_runs_as_a_script() -> None:
    command = [sys.executable, str(FIRMWARE / "gen_headers.py"), "--check"]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT / "src")}, check=False)
    assert done.returncode == 0


# BearSSL's source -----------------------------------------------------------------------------------

DEB822 = """\
Types: deb
# a comment
URIs: http://deb.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://deb.example/debian-security
Suites: trixie-security
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 deb=
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://deb.example/off
Suites: trixie
Components: main

Types: deb
URIs: https://deb.node.example/node_20.x
Suites: nodistro
Components: main
"""
ONE_LINE = """\
# deb http://deb.example/debian bookworm main
deb http://deb.example/debian bookworm main # why not
deb [arch=amd64 signed-by=/usr/share/keyrings/d.gpg] http://deb.example/debian trixie-updates main
deb [ signed-by=/usr/share/keyrings/cloud.gpg ] https://packages.cloud.example/apt cloud-sdk main
deb-src http://deb.example/debian bookworm main
deb https://download.docker.example/linux/debian bookworm stable

nonsense
"""


def test_debian_s_deb822_stanzas_become_source_stanzas() -> None:
    stanzas = list(fetch_bearssl.deb822_sources(DEB822))
    assert [stanza.splitlines()[0] for stanza in stanzas] == ["Types: deb-src", "Types: deb-src"]
    assert "Suites: bookworm bookworm-updates" in stanzas[0]
    assert " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n deb=" in stanzas[1]


def test_debian_s_lines_become_source_lines() -> None:
    assert [re.sub(" +", " ", line) for line in fetch_bearssl.one_line_sources(ONE_LINE)] == [
        "deb-src http://deb.example/debian bookworm main",
        "deb-src [ signed-by=/usr/share/keyrings/d.gpg] http://deb.example/debian trixie-updates main",
    ]


def test_both_kinds_of_files_are_read_and_others_are_not(tmp_path: Path) -> None:
    apt, parts = tmp_path / "apt", tmp_path / "parts"
    (apt / "sources.list.d").mkdir(parents=True)
    parts.mkdir()
    (apt / "sources.list").write_text(ONE_LINE)
    (apt / "sources.list.d" / "debian.sources").write_text(DEB822)
    (apt / "sources.list.d" / "old.list.save").write_text(ONE_LINE)
    assert fetch_bearssl.write_sources(apt, parts) == 4
    assert sorted(path.suffix for path in parts.iterdir()) == [".list", ".sources"]


def test_without_a_debian_source_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path / "bearssl"), "--apt", str(tmp_path)]
    assert fetch_bearssl.main(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "bearssl").exists()


def test_another_tarball_is_refused() -> None:
    with pytest.raises(fetch_bearssl.FetchError, match=fetch_bearssl.ORIG_SHA256):
        fetch_bearssl.checked(b"another")


def test_what_is_there_already_is_not_fetched_again(tmp_path: Path) -> None:
    built("all")
    kept = ROOT / ".cache" / fetch_bearssl.ORIG
    out = tmp_path / "bearssl"
    (tmp_path / fetch_bearssl.ORIG).write_bytes(kept.read_bytes())
    fetch_bearssl.fetch(out, tmp_path)  # no apt source here: from the tarball alone
    assert (out / "inc" / "bearssl_ec.h").is_file()
    marker = out / "marker"
    marker.touch()
    fetch_bearssl.fetch(out, tmp_path)
    assert marker.exists()


# The binaries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["unit", "unit_boot", "unit_bootcount", "unit_vault"])
def test_host_unit_tests_pass_under_the_sanitizers(program: str) -> None:
    built("host")
    done = subprocess.run([FIRMWARE / "build/host" / program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"\d+ passed, 0 failed\n", done.stdout)


def test_cppcheck_finds_nothing() -> None:
    built("tidy")


def test_sizes_are_within_the_budgets() -> None:
    assert len(binary("rom.bin")) <= 48 * 1024
    for version in APPS:
        assert len(binary(f"loader-{version}.bin")) <= 56 * 1024


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    """Built from scratch in another folder: no path, no date, no order of files is in the output."""
    built("all")
    copy = tmp_path / "elsewhere"
    files = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "firmware", "src/cellward/lab/examples"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, files.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    (copy / ".cache").mkdir()
    (copy / ".cache" / fetch_bearssl.ORIG).write_bytes((ROOT / ".cache" / fetch_bearssl.ORIG).read_bytes())
    done = subprocess.run(["make", "-C", copy / "firmware"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = sorted(path.name for path in PACKAGE.iterdir())
    assert len(names) >= 16
    fresh = copy / "src/cellward/vbms/firmware"
    differ = [name for name in names if _digest(fresh / name) != _digest(PACKAGE / name)]
    assert differ == []
    assert not any(str(copy).encode() in path.read_bytes() for path in fresh.iterdir())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def elf_memory(name: str) -> bytes:
    """What the loadable segments put into flash, at their load addresses."""
    memory = bincopy.BinFile()
    for segment in ELFFile(io.BytesIO(binary(name))).iter_segments("PT_LOAD"):
        if segment["p_filesz"]:
            memory.add_binary(segment.data(), segment["p_paddr"])
    return bytes(memory.as_binary(padding=b"\0"))


def text_memory(name: str) -> tuple[int, bytes]:
    memory = bincopy.BinFile()
    memory.add(binary(name).decode())
    return memory.minimum_address, bytes(memory.as_binary(padding=b"\0"))


@pytest.mark.parametrize(("name", "version"), [("app-1.3.0.hex", "1.3.0"), ("app-1.5.0.srec", "1.5.0")])
def test_hex_and_srec_hold_the_linked_image(name: str, version: str) -> None:
    address, data = text_memory(name)
    assert address == BMS_M33.link_address(Stage.APP)
    assert data == binary(f"app-{version}.bin")


@pytest.mark.parametrize("stage", Stage)
def test_an_elf_holds_the_linked_image_and_memory_that_is_not_in_it(stage: Stage) -> None:
    assert elf_memory(f"{stage}-1.4.0.elf") == binary(f"{stage}-1.4.0.bin")
    sizes = [
        (s["p_memsz"], s["p_filesz"])
        for s in ELFFile(io.BytesIO(binary("app-1.4.0.elf"))).iter_segments("PT_LOAD")
    ]
    assert any(memory > file for memory, file in sizes)


def test_versions_differ_in_their_bytes() -> None:
    for stage in Stage:
        assert len({binary(f"{stage}-{version}.bin") for version in APPS}) == len(APPS)
        for version in APPS:
            assert f"cellward {stage} {version}\0".encode() in binary(f"{stage}-{version}.bin")
