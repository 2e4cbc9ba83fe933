"""What notices tampering."""

from collections.abc import Sequence
from typing import Protocol

from cellward.core.tamper import Alarm


class Sensor(Protocol):
    def alarms(self) -> Sequence[Alarm]:
        """What is wrong now. A sensor that cannot say is an alarm of its own (Event.SENSOR)."""
        ...
