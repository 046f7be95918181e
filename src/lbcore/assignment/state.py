"""What a controller knows and has decided."""

from __future__ import annotations

from attrs import field, frozen
from immutables import Map

from lbcore.addresses import Address
from lbcore.config import Configuration
from lbcore.events import Kind
from lbcore.intents import SetAddresses, SetPoolUsage
from lbcore.keeping import Keeping
from lbcore.ledger import Ledger
from lbcore.model import Labels, Service, ServiceKey
from lbcore.pools import Catalog
from lbcore.waiting import Chance, Waiting
from lbcore.worklist import Fifo, Worklist

__all__ = ["NEEDS", "AssignmentSettings", "AssignmentState"]

NEEDS = frozenset({Kind.SERVICES, Kind.CONFIG, Kind.NAMESPACES})


@frozen(kw_only=True)
class AssignmentSettings:
    """What the operator chose for the controller.

    `load_balancer_class`: serve Services of this class only; None serves those without a class.
    `slice_size`: Services looked at in one step. `config_quiet`: seconds without a change after
    which changed configuration is put in force, so that a range which moves from one pool to
    another in two documents is not missing in between. `config_patience`: seconds after the first
    change at which it is put in force although changes go on, as where a template is rendered in a loop.
    `elected`: decide only while `LeadershipSeen` says so, for there are others.
    """

    load_balancer_class: str | None = None
    slice_size: int = 128
    config_quiet: float = 0.1
    config_patience: float = 1.0
    elected: bool = False


@frozen(kw_only=True)
class AssignmentState:
    """Everything the controller knows and has decided. `AssignmentState()` is the beginning."""

    settings: AssignmentSettings = field(factory=AssignmentSettings)
    elected: bool = False  # what `LeadershipSeen` said last
    listed: frozenset[Kind] = frozenset()
    configuration: Configuration = field(factory=Configuration)
    config_due: float | None = None
    config_latest: float | None = None  # to which `config_due` can be put off
    namespaces: Map[str, Labels] = field(factory=Map)
    catalog: Catalog | None = None
    services: Map[ServiceKey, Service] = field(factory=Map)
    ledger: Ledger = field(factory=Ledger)
    keeping: Keeping = field(factory=Keeping)
    overdue: bool = False  # something that was kept has yet to be let go
    adopting: Fifo[ServiceKey] | None = None  # None until there is a first configuration
    work: Worklist[ServiceKey] = field(factory=Worklist)
    waiting: Waiting = field(factory=Waiting)
    recalled: Fifo[ServiceKey] = field(factory=Fifo)
    chances: tuple[Chance, ...] = ()
    told: Map[ServiceKey, SetAddresses] = field(factory=Map)
    unconfirmed: Map[ServiceKey, SetAddresses] = field(factory=Map)
    showing: Map[Address, frozenset[ServiceKey]] = field(factory=Map)  # who may still show what they have given up
    touched_pools: frozenset[str] = frozenset()
    told_usage: Map[str, SetPoolUsage] = field(factory=Map)

    @property
    def leads(self) -> bool:
        """Whether it is ours to decide."""
        return self.elected or not self.settings.elected

    @property
    def ready(self) -> bool:
        """Whether everything that exists has been told, and a sound configuration is in force."""
        return self.listed >= NEEDS and self.catalog is not None

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to look at: of a standby, whether it knows all there is."""
        if not self.leads:
            return self.listed >= NEEDS
        return self.ready and not self.unfinished and self.config_due is None

    @property
    def unfinished(self) -> bool:
        """Whether there are Services that must be looked at."""
        return bool(self.adopting or self.chances or self.work or self.recalled or self.overdue)
