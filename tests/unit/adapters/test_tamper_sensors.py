"""Real files and a real debugger: what the controller's own sensors say."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellward.adapters.hwmon import Hwmon
from cellward.adapters.tracer import Tracer
from cellward.core.tamper import Event

PTRACE_SEIZE = 0x4206
ASKS = """
from cellward.adapters.tracer import Tracer
input()
print(*(f"{alarm.event} {alarm.detail}" for alarm in Tracer().alarms()))
"""


@pytest.fixture
def chip(tmp_path: Path) -> Path:
    for name in ("intrusion0_alarm", "in0_alarm", "in1_min_alarm", "in1_lcrit_alarm", "in1_max_alarm"):
        (tmp_path / name).write_text("0\n")
    for name, text in (("in0_input", "1"), ("temp1_alarm", "1"), ("in0_beep", "1"), ("name", "nct6775")):
        (tmp_path / name).write_text(f"{text}\n")
    return tmp_path


def events(chip: Path) -> list[Event]:
    return [alarm.event for alarm in Hwmon(chip).alarms()]


def test_nothing_is_wrong(chip: Path) -> None:
    assert events(chip) == []


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("intrusion0_alarm", Event.CASE),
        ("in0_alarm", Event.VOLTAGE),
        ("in1_min_alarm", Event.VOLTAGE),
        ("in1_max_alarm", Event.VOLTAGE),
        ("in1_lcrit_alarm", Event.VOLTAGE),
    ],
)
def test_an_alarm(chip: Path, name: str, event: Event) -> None:
    (chip / name).write_text("1\n")
    (alarm,) = Hwmon(chip).alarms()
    assert (alarm.event, alarm.subject) == (event, str(chip / name))


def test_a_sensor_that_says_nothing_is_an_event(chip: Path) -> None:
    for text in ("", "2", "yes", "1" * 100):
        (chip / "in0_alarm").write_text(text)
        assert events(chip) == [Event.SENSOR]
    (chip / "in0_alarm").unlink()
    (chip / "in0_alarm").mkdir()
    assert events(chip) == [Event.SENSOR]
    assert events(chip / "none") == [Event.SENSOR]
    (chip / "empty").mkdir()
    assert events(chip / "empty") == [Event.SENSOR]


def test_a_debugger_that_is_attached() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for attached in (False, True):
        with subprocess.Popen(
            [sys.executable, "-c", ASKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as traced:
            if attached and libc.ptrace(PTRACE_SEIZE, traced.pid, None, None) != 0:
                traced.kill()
                pytest.skip(f"this machine lets nobody trace: {os.strerror(ctypes.get_errno())}")
            said, _ = traced.communicate("\n", timeout=30)
        assert said.strip() == (f"debugger traced by process {os.getpid()}" if attached else "")


def test_a_process_that_cannot_tell(tmp_path: Path) -> None:
    (alarm,) = Tracer(tmp_path / "none").alarms()
    assert alarm.event is Event.SENSOR
    (tmp_path / "status").write_text("Name:\tcellward\n")
    (alarm,) = Tracer(tmp_path / "status").alarms()
    assert alarm.event is Event.SENSOR
