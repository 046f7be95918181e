"""The pretend machine of the controller: it starts knowing nothing, crashes, freezes, and is started again."""

from __future__ import annotations

from lbcore import assignment
from lbcore.assignment import AssignmentSettings, AssignmentState
from lbcore.daemons.lanes import Lane
from lbcore.daemons.loop import Dispatch
from lbcore.intents import RecordEvent, ReportConfig, SetAddresses, SetPoolUsage
from lbcore.simulation.daemon import Daemon
from lbcore.simulation.fabric import Fabric
from lbcore.simulation.network import ApiLink

__all__ = ["ControllerMachine"]


class ControllerMachine:
    """Where the controller runs, one at a time."""

    def __init__(self, fabric: Fabric, settings: AssignmentSettings) -> None:
        self._in = fabric
        self._settings = settings
        self._daemon: Daemon[AssignmentState] | None = None
        self._link: ApiLink | None = None

    @property
    def running(self) -> bool:
        """Whether there is a controller, perhaps a frozen one."""
        return self._daemon is not None

    def start(self) -> None:
        """A new controller, that knows nothing."""
        if self._daemon is not None:
            return
        fabric = self._in
        daemon: Daemon[AssignmentState] = Daemon(
            "controller",
            assignment.step,
            AssignmentState(settings=self._settings),
            [Lane(name="cluster", handles=(SetAddresses, RecordEvent, SetPoolUsage, ReportConfig), concurrency=8)],
            clock=fabric.clock,
            trace=fabric.trace,
            rng=fabric.dice(),
            carry_out=lambda dispatch: self._write(daemon, dispatch),
        )
        self._daemon = daemon
        self._link = fabric.connect(assignment.NEEDS, daemon.receive)
        fabric.trace.add("controller", "started")

    def crash(self) -> None:
        """The process is gone, in the middle of whatever it did."""
        if self._daemon is None or self._link is None:
            return
        self._daemon.kill()
        self._link.close()
        self._daemon = self._link = None
        self._in.trace.add("controller", "crashed")

    def freeze(self) -> None:
        """The machine stands still."""
        if self._daemon is not None:
            self._daemon.freeze()

    def thaw(self) -> None:
        """The machine goes on."""
        if self._daemon is not None:
            self._daemon.thaw()

    @property
    def link(self) -> ApiLink | None:
        """The connection to the API server, to be cut and healed."""
        return self._link

    def _write(self, daemon: Daemon[AssignmentState], dispatch: Dispatch) -> None:
        assert self._link is not None
        self._link.write(dispatch.intent, lambda outcome: daemon.done(dispatch.lane, outcome))
