"""What was so at some moment since all was settled, as far as it excuses what came of it. Part of the judge.

Changes of two objects may be told in an order in which they did not happen, a change may be missed
for the next, and a write may arrive long after it was decided. So what counts is not how things
are, but what a controller can have believed: every version of every Service with every sound
configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import combinations

from attrs import frozen

from lbcore.simulation.oracle import (
    Address,
    Cluster,
    Document,
    Holders,
    Pool,
    addresses_of,
    is_ours,
    read_request,
)

__all__ = ["Cause", "Causes", "Parting"]


class Cause(Enum):
    """Why a Service may lose an address."""

    MAY_NOT = "it may not hold it"
    OTHER_WISH = "it asks for another"


@frozen
class Parting:
    """An address that a Service lost, and who can have been given it to share just before it shared no more."""

    address: Address
    others: tuple[str, ...]
    text: str


class Causes:
    """The book of it. `objects` are those that exist, by resource and name, `holders` who shows which address;
    somebody else keeps them up to date.
    """

    def __init__(self, objects: dict[str, dict[str, Document]], holders: Holders) -> None:
        self._objects = objects
        self._holders = holders
        # What may be otherwise than when it was last noted; Services None: all of them.
        self._stale: dict[str, None] | None = None
        self._stale_addresses: dict[Address, None] = {}
        self._variants: list[list[Pool]] = [[]]  # the sound configurations
        self._versions: dict[str, list[Document]] = {}  # of each Service, as users left it
        self._edited: dict[str, None] = {}  # Services whose wishes changed
        self._causes: dict[tuple[str, Address], Cause] = {}
        self._shared: dict[Address, None] = {}  # what several had
        self._given: dict[Address, dict[str, None]] = {}  # who was given it
        self._partings: list[Parting] = []

    # What happens

    def config_changed(self, pools: list[Pool]) -> None:
        """Another sound configuration."""
        self._variants.append(pools)

    def shown(self, name: str, addresses: Iterable[Address]) -> None:
        """A Service was changed by anybody, and shows or showed these addresses."""
        if self._stale is not None:
            self._stale[name] = None
        self._stale_addresses.update(dict.fromkeys(addresses))

    def terms_changed(self) -> None:
        """What every hold depends on has changed: the configuration, or a namespace."""
        self._stale = None

    def service_changed(self, name: str, service: Document | None) -> None:
        """A user created, changed or deleted a Service."""
        self._edited[name] = None
        if service is not None:
            self._versions.setdefault(name, []).append(service)

    def note(self) -> None:
        """Something changed that allocations depend on: note every hold for whose end there is a reason from now on.

        What a hold depends on is the Service, the terms, and who else shows the address: where none of these has
        changed, it was noted before.
        """
        clusters = self._clusters()
        self._note_shared(clusters[-1], self._stale_addresses if self._stale is not None else self._holders)
        for service in self._stale_services():
            for address in addresses_of(service):
                for cluster in clusters:
                    self._note_hold(cluster, service, address)
        self._stale, self._stale_addresses = {}, {}

    def _stale_services(self) -> list[Document]:
        services = self._objects["services"]
        if self._stale is None:
            return list(services.values())
        names = dict(self._stale)
        for address in self._stale_addresses:
            names.update(dict.fromkeys(self._holders.of(address)))
        return [services[name] for name in names if name in services]

    def given(self, name: str, service: Document, address: Address) -> None:
        """A Service was given an address, as one of its versions asked and one of the configurations allowed."""
        self._given.setdefault(address, {})[name] = None
        uid = service["metadata"]["uid"]
        for cluster in self._clusters():
            self._note_hold(cluster, service, address)
            for version in self._versions.get(name, ()):
                if version["metadata"]["uid"] == uid:
                    self._note_hold(cluster, version, address)

    def _note_hold(self, cluster: Cluster, service: Document, address: Address) -> None:
        hold = service["metadata"]["uid"], address
        wanted = is_ours(service) and address.version in read_request(service).families
        if not wanted or not cluster.permits(service, address):
            self._causes[hold] = Cause.MAY_NOT
        elif not cluster.as_asked(service, address):
            self._causes.setdefault(hold, Cause.OTHER_WISH)

    def _note_shared(self, cluster: Cluster, addresses: Iterable[Address]) -> None:
        for address in addresses:
            if len(cluster.holders(address)) > 1:
                self._shared[address] = None

    def _clusters(self) -> list[Cluster]:
        """What there is, with each of the configurations; the newest comes last."""
        return [Cluster(self._objects, pools, self._holders) for pools in self._variants]

    # What it excuses

    def of(self, service: Document, address: Address) -> Cause | None:
        """Why a Service may lose an address, if there is a reason."""
        return self._causes.get((service["metadata"]["uid"], address))

    def was_shared(self, name: str, address: Address) -> bool:
        """Whether a Service whose wishes changed had an address in company: perhaps it could not keep that."""
        return name in self._edited and address in self._shared

    def can_have_shared(self, one: str, other: str) -> bool:
        """Whether two Services were once, in some version of each, ready to share."""
        pairs = ((mine, theirs) for mine in self._versions.get(one, ()) for theirs in self._versions.get(other, ()))
        return any(Cluster.compatible(mine, theirs) for mine, theirs in pairs)

    def part(self, name: str, address: Address, text: str) -> bool:
        """Whether a Service can have lost an address to somebody who was given it to share, before it was heard that
        it shares no more. If so, `broken_partings` tells later whether somebody was.
        """
        others = tuple(dict.fromkeys(self._joined_by(name, address)))
        if others:
            self._partings.append(Parting(address, others, text))
        return bool(others)

    def _joined_by(self, name: str, address: Address) -> Iterator[str]:
        clusters = self._clusters()
        for before, after in combinations(self._versions.get(name, ()), 2):
            for other, versions in self._versions.items():
                for each in versions:
                    joins = Cluster.compatible(before, each) and not Cluster.compatible(after, each)
                    if other != name and joins and any(_can_have(cluster, each, address) for cluster in clusters):
                        yield other

    def broken_partings(self) -> list[Parting]:
        """Those in which nobody was given the address, though nothing kept it from any of them."""
        return [parting for parting in self._partings if not any(self._may_have_joined(parting))]

    def _may_have_joined(self, parting: Parting) -> Iterator[bool]:
        given = self._given.get(parting.address, {})
        for other in parting.others:
            changed = len(self._versions.get(other, ())) > 1 or other not in self._objects["services"]
            yield other in given or changed or len(self._variants) > 1

    def settle(self) -> None:
        """All is settled: what comes next needs causes of its own."""
        self._variants = self._variants[-1:]
        self._versions = {name: [service] for name, service in self._objects["services"].items()}
        for each in (self._edited, self._causes, self._shared, self._given, self._partings):
            each.clear()
        self._stale, self._stale_addresses = None, {}
        self._note_shared(self._clusters()[-1], self._holders)


def _can_have(cluster: Cluster, service: Document, address: Address) -> bool:
    """Whether a Service may be given an address, if those who have it share."""
    wanted = is_ours(service) and address.version in read_request(service).families
    return wanted and cluster.offers(service, address) and cluster.as_asked(service, address)
