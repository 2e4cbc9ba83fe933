"""How a cycle of the pack controller ended."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cellward.core.errors import CellwardError
from cellward.core.metadata import Installed
from cellward.core.slots import Stage
from cellward.ports.module import Module

Connect = Callable[[str], AbstractContextManager[Module]]  # opens the link at a module's address


@dataclass(frozen=True)
class Cycle:
    """How a cycle ended. `installed` maps an ECU id to the version it runs now."""

    installed: Mapping[str, str]
    updated: tuple[str, ...]  # serials
    refusal: CellwardError | None

    @property
    def outcome(self) -> str:
        if self.refusal is not None:
            return "refused"
        return "updated" if self.updated else "nothing to do"


class Cycling(Protocol):
    """The agent, or what is left of it."""

    def cycle(self, now: datetime) -> Cycle: ...


def versions(serial: str, installed: Mapping[Stage, Installed]) -> dict[str, str]:
    """By ECU id."""
    return {f"{serial}/{stage}": runs.version for stage, runs in installed.items()}
