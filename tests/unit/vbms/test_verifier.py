"""Where the module's verifier comes from, and that nothing is published without it.

Its verdicts: tests/contract/test_verifier_port.py.
"""

import sys
from pathlib import Path

import pytest

from cellward import bootstrap
from cellward.bootstrap import gates
from cellward.cli.lint import example_profile
from cellward.config import Home
from cellward.core.errors import Code, FormatRefused, Unavailable
from cellward.core.slots import Region
from cellward.publish.verifiers import CoreVerifier, Pair
from cellward.vbms import verifier
from cellward.vbms.packaged import packaged
from tests.support.maker import Keys


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Keys:
    keys = Keys()
    monkeypatch.setattr(gates, "firmware_keys", lambda _home: (keys("firmware").public_key,))
    return keys


def test_the_maker_s_gate_asks_both(tmp_path: Path, keys: Keys) -> None:
    gate = bootstrap.gate(Home(tmp_path))
    assert isinstance(gate.verifier, Pair)
    assert isinstance(gate.verifier.core, CoreVerifier)
    assert isinstance(gate.verifier.module, verifier.ModuleVerifier)
    assert list(gate.keys) == [keys("firmware").public_key.key_hash]


def test_the_maker_s_gate_knows_what_a_target_keeps(tmp_path: Path, keys: Keys) -> None:
    home = Home(tmp_path)
    home.profiles.mkdir()
    pages = "configuration_pages = [{ address = 0x08040000, size = 0x2000 }]"
    text = example_profile().replace("configuration_pages = []", pages)
    (home.profiles / "bms-m33.toml").write_text(text)
    assert bootstrap.gate(home).configuration == {"bms-m33": (Region(0x40000, 0x2000),)}


def test_without_the_emulator_there_is_no_gate(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "unicorn", None)
    for name in ("cellward.vbms.verifier", "cellward.vbms.cpu"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(Unavailable) as refused:
        bootstrap.gate(Home(tmp_path))
    assert (refused.value.code, refused.value.found) == (Code.MODULE_ABSENT, "no unicorn")
    assert "cellward[module]" in refused.value.advice


@pytest.mark.parametrize("name", ["rom.elf", "rom.bin"])
def test_an_elf_of_another_rom(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(wanted: str) -> bytes:
        data = bytearray(packaged(wanted))
        if wanted == name:
            data[0x200] ^= 1  # in both, an instruction
        return bytes(data)

    monkeypatch.setattr(verifier, "packaged", other)
    with pytest.raises(FormatRefused) as refused:
        verifier.packaged_rom.__wrapped__()
    assert refused.value.code is Code.FIRMWARE_FORMAT


def test_an_elf_without_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "ENTRY", "verify_nothing")
    with pytest.raises(FormatRefused):
        verifier.packaged_rom.__wrapped__()


def test_an_elf_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "packaged", lambda _name: b"no ELF")
    with pytest.raises(FormatRefused):
        verifier.packaged_rom.__wrapped__()
