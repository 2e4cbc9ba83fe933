"""Case and supply of the controller itself, by Linux's hwmon: one folder of /sys/class/hwmon.

`intrusionN_alarm` stays 1 until somebody writes 0 to it; `inN_alarm` and its limits' say what is now
(Linux, Documentation/hwmon/sysfs-interface).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellward.core.tamper import Alarm, Event

_KINDS = {
    re.compile(r"intrusion\d+_alarm"): Event.CASE,
    re.compile(r"in\d+(_(min|max|lcrit|crit))?_alarm"): Event.VOLTAGE,
}
_SAYS = {"0": False, "1": True}
_LIMIT = 16


@dataclass(frozen=True)
class Hwmon:
    """ports.sensors.Sensor."""

    folder: Path

    def alarms(self) -> Sequence[Alarm]:
        try:
            names = sorted(path.name for path in self.folder.iterdir())
        except OSError as error:
            return [self._silent(self.folder, error.strerror or "an error")]
        watched = {name: kind for name in names for form, kind in _KINDS.items() if form.fullmatch(name)}
        if not watched:
            return [self._silent(self.folder, "no alarm in it")]
        return [alarm for name, kind in watched.items() for alarm in self._alarm(self.folder / name, kind)]

    def _alarm(self, path: Path, kind: Event) -> Sequence[Alarm]:
        try:
            with path.open("rb") as file:
                text = file.read(_LIMIT).decode("ascii", "replace").strip()
        except OSError as error:
            return [self._silent(path, error.strerror or "an error")]
        if text not in _SAYS:
            return [self._silent(path, repr(text))]
        return [Alarm(kind, str(path))] if _SAYS[text] else []

    def _silent(self, path: Path, found: str) -> Alarm:
        return Alarm(Event.SENSOR, str(path), found)
