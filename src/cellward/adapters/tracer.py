"""Whether a debugger is attached to this process, by Linux's word."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellward.core.tamper import Alarm, Event

_TRACER = re.compile(rb"^TracerPid:\s*(\d+)$", re.MULTILINE)
_STATUS = Path("/proc/self/status")
_SUBJECT = "this process"


@dataclass(frozen=True)
class Tracer:
    """ports.sensors.Sensor."""

    status: Path = _STATUS

    def alarms(self) -> Sequence[Alarm]:
        try:
            found = _TRACER.search(self.status.read_bytes())
        except OSError as error:
            return [Alarm(Event.SENSOR, str(self.status), error.strerror or "an error")]
        if found is None:
            return [Alarm(Event.SENSOR, str(self.status), "no TracerPid in it")]
        tracer = int(found.group(1))
        return [Alarm(Event.DEBUGGER, _SUBJECT, f"traced by process {tracer}")] if tracer else []
