"""What a pack controller without keys still does: watch its modules, and keep their contactors open."""

from dataclasses import dataclass
from datetime import datetime

from cellward.core.errors import CellwardError
from cellward.device import inventory, report, safety
from cellward.device.cycle import Connect, Cycle, versions
from cellward.device.link import awake
from cellward.device.memory import Device, Memory, ModuleEntry
from cellward.device.update import Watch


@dataclass(frozen=True)
class Monitor:
    """`reason`: why it is no more than that; every cycle ends with it."""

    device: Device
    memory: Memory
    connect: Connect
    watch: Watch
    reason: CellwardError

    def cycle(self, now: datetime) -> Cycle:
        """Nothing is reported to a server: there is no key to sign it. Nobody's clock is needed."""
        self.memory.set_results({self.device.vehicle: report.refused(self.reason)})
        runs = {}
        for entry in self.device.modules:
            try:
                runs.update(self._look(entry))
            except CellwardError as error:
                self.watch.say(str(error))
                self.memory.set_results({ecu.ecu_id: report.refused(error) for ecu in entry.ecus})
        return Cycle(runs, (), self.reason)

    def _look(self, entry: ModuleEntry) -> dict[str, str]:
        with self.connect(entry.address) as module:
            status = awake(module)
            module.set_close_request(False)
            self.watch.say(f"module {status.serial}: {safety.measured(module.telemetry())}")
            installed = inventory.installed(module, status)
            self.memory.set_seen(entry.serial, installed)
            return versions(entry.serial, installed)
