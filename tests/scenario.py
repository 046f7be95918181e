"""A small history of pools, Services, holders and nodes that prints all it decides.

Run as a program by `test_determinism`, once for each hash seed. It crosses what is easily left to a
set's order: more sharers than one look shows, pools of equal priority, documents, candidates.
"""

from __future__ import annotations

from attrs import evolve
from immutables import Map

from lbcore.addresses import Address, Family
from lbcore.allocation import Allocation, allocate, settle, verdicts
from lbcore.config import ConfigDocument, Configuration, Origin, Pool, ServiceAllocation
from lbcore.election import Electorate, elect, rank, re_elect
from lbcore.ledger import Ledger
from lbcore.model import LabelSelector, Port, ServiceKey
from lbcore.pools import Catalog
from lbcore.requests import Request
from lbcore.sharing import Sharing


def pools() -> list[Pool]:
    pinned = ServiceAllocation(service_selectors=(LabelSelector.of(tier="gold"),))
    return [
        *(Pool.parse(f"general-{n}", f"10.0.{n}.0/30", f"2001:db8:{n}::/126") for n in (3, 1, 2)),
        *(evolve(Pool.parse(f"pinned-{n}", f"10.1.{n}.0/31"), allocation=pinned) for n in (2, 1)),
    ]


def requests() -> list[Request]:
    plain = [
        Request(
            key=ServiceKey(f"ns-{n % 3}", f"web-{n}"),
            families=((Family.IPV4,), (Family.IPV6, Family.IPV4))[n % 2],
            all_families=n % 4 != 1,
            ports=(Port("TCP", 80), Port("UDP", 53))[: n % 3],
            sharing=Sharing("shared") if n % 3 == 0 else None,
            labels=Map({"tier": "gold"} if n % 5 == 0 else {}),
        )
        for n in range(24)
    ]
    crowd = [
        Request(key=ServiceKey("crowd", f"c{n}"), addresses=(Address.parse("10.0.3.3"),), ports=(Port("TCP", n),),
                sharing=Sharing("crowd")) for n in range(30)
    ]  # fmt: skip
    late = Request(key=ServiceKey("late", "x"), addresses=(Address.parse("10.0.3.3"),), ports=(Port("TCP", 7),))
    return [*crowd, *plain, late, evolve(late, sharing=Sharing("crowd")), evolve(late, sharing=Sharing("other"))]


def main() -> None:
    configuration = Configuration()
    for pool in pools():
        origin = Origin(kind="IPAddressPool", namespace="metallb-system", name=pool.name, source="pools.yaml")
        configuration = configuration.seen(ConfigDocument(origin=origin, resources=(pool,)))
    configuration = configuration.settled()
    assert configuration.current is not None
    catalog, ledger = Catalog.of(configuration.current.pools), Ledger()
    for request in requests():
        for verdict in verdicts(request, catalog, ledger):
            print(request.key, verdict)
        answer = allocate(request, catalog, ledger)
        print(answer)
        if isinstance(answer, Allocation):
            ledger = ledger.claim(answer.claim(request))
            print(settle(request, answer.addresses, catalog, ledger))
    spoilt = configuration
    for name in ("b", "a"):
        origin = Origin(kind="IPAddressPool", namespace=name, name=name, source=f"{name}.yaml")
        spoilt = spoilt.seen(ConfigDocument(origin=origin, resources=(Pool.parse("general-1", "10.0.0.0/8"),)))
    print(spoilt.settled().problems)
    nodes = frozenset(f"node-{n}" for n in range(20))
    for n in range(20):
        address = Address.parse(f"2001:db8::{n}")
        first = re_elect(None, Electorate(nodes), address)
        print(elect(nodes, address), rank(nodes, address, {"node-3": 1}), first and first.winner)


if __name__ == "__main__":
    main()
