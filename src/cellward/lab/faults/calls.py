"""Calls into the crypto library: answered by its model, or run."""

from cellward.lab.faults.ends import Decision
from cellward.lab.faults.library import Answer, Library
from cellward.lab.faults.outcome import Outcome
from cellward.lab.faults.probe import Probe
from cellward.vbms.cpu import Halt


class Calls:
    """`budget`: instructions of one call without a stop."""

    def __init__(self, library: Library, budget: int) -> None:
        self._library = library
        self._budget = budget

    def modelled(self, core: Probe) -> bool:
        """Answer the call that the core stands before, or let it be run. Raises Decision."""
        if core.pc not in self._library.entries:
            return False
        answer = self._library.call(core)
        if answer is Answer.FAULT:
            core.forget_return()
            raise Decision(Outcome.CRASH)
        return answer is Answer.DONE

    def run(self, core: Probe) -> None:
        """Through a whole call. What it calls of itself may be modelled. Raises Decision."""
        core.await_return()
        while True:
            halt = core.run(self._budget)
            if core.returned:
                return
            if halt is not Halt.BUDGET or core.stopped_at is None:
                core.forget_return()
                raise Decision(Outcome.CRASH if halt is Halt.FAULT else Outcome.HANG)
            if not self.modelled(core):
                core.pass_stop()
