"""One step of the controller's brain in progress: what its parts hand around."""

from __future__ import annotations

from attrs import define, field
from immutables import Map

from lbcore.addresses import Address
from lbcore.assignment.state import AssignmentState
from lbcore.config import Configuration
from lbcore.events import Kind
from lbcore.intents import Intent, SetAddresses, SetPoolUsage
from lbcore.keeping import Keeping
from lbcore.ledger import Ledger
from lbcore.model import Labels, Service, ServiceKey
from lbcore.pools import Catalog
from lbcore.waiting import Chance, Waiting
from lbcore.worklist import Fifo, Worklist

__all__ = ["Turn"]


@define
class Turn:
    """One step in progress: the parts of the state that it changes, and the intents so far."""

    before: AssignmentState
    now: float
    elected: bool = field(init=False)
    configuration: Configuration = field(init=False)
    config_due: float | None = field(init=False)
    config_latest: float | None = field(init=False)
    listed: frozenset[Kind] = field(init=False)
    namespaces: Map[str, Labels] = field(init=False)
    catalog: Catalog | None = field(init=False)
    services: Map[ServiceKey, Service] = field(init=False)
    ledger: Ledger = field(init=False)
    keeping: Keeping = field(init=False)
    adopting: Fifo[ServiceKey] | None = field(init=False)
    work: Worklist[ServiceKey] = field(init=False)
    waiting: Waiting = field(init=False)
    recalled: Fifo[ServiceKey] = field(init=False)
    chances: list[Chance] = field(init=False)
    told: Map[ServiceKey, SetAddresses] = field(init=False)
    unconfirmed: Map[ServiceKey, SetAddresses] = field(init=False)
    showing: Map[Address, frozenset[ServiceKey]] = field(init=False)
    touched_pools: set[str] = field(init=False)
    told_usage: Map[str, SetPoolUsage] = field(init=False)
    intents: list[Intent] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        before = self.before
        self.elected = before.elected
        self.configuration, self.listed = before.configuration, before.listed
        self.config_due, self.config_latest = before.config_due, before.config_latest
        self.namespaces, self.catalog, self.services = before.namespaces, before.catalog, before.services
        self.ledger, self.keeping = before.ledger, before.keeping
        self.adopting, self.work = before.adopting, before.work
        self.waiting, self.recalled, self.chances = before.waiting, before.recalled, list(before.chances)
        self.told, self.unconfirmed, self.showing = before.told, before.unconfirmed, before.showing
        self.touched_pools, self.told_usage = set(before.touched_pools), before.told_usage

    def state(self) -> AssignmentState:
        """What is known after this step."""
        return AssignmentState(
            settings=self.before.settings,
            elected=self.elected,
            listed=self.listed,
            configuration=self.configuration,
            config_due=self.config_due,
            config_latest=self.config_latest,
            namespaces=self.namespaces,
            catalog=self.catalog,
            services=self.services,
            ledger=self.ledger,
            keeping=self.keeping,
            overdue=self.keeping.due(self.now) is not None,
            adopting=self.adopting,
            work=self.work,
            waiting=self.waiting,
            recalled=self.recalled,
            chances=tuple(self.chances),
            told=self.told,
            unconfirmed=self.unconfirmed,
            showing=self.showing,
            touched_pools=frozenset(self.touched_pools),
            told_usage=self.told_usage,
        )

    @property
    def pools(self) -> Catalog:
        """The pools in force; there are some before anything is decided."""
        assert self.catalog is not None
        return self.catalog
