"""In which order statuses are to be written, so that at no moment two Services show one address."""

from __future__ import annotations

from attrs import evolve

from lbcore import assignment
from lbcore.addresses import Address
from lbcore.assignment import AssignmentState
from lbcore.config import ConfigDocument, Origin, Pool, ServiceAllocation
from lbcore.events import Applied, ConfigSeen, Event, Failed, Kind, Listed, ServiceGone, ServiceSeen, Tick
from lbcore.intents import SetAddresses
from lbcore.model import Service, ServiceKey

V6, OTHER = Address.parse("2001:db8::1"), Address.parse("2001:db8:1::1")
OLD = Service(key=ServiceKey("default", "old"), uid="1", cluster_ips=("fd00::1",))
NEW = Service(key=ServiceKey("default", "new"), uid="2", cluster_ips=("fd00::2",))


class Desk:
    """A controller's brain with one address in each of two pools, the second given on demand only."""

    def __init__(self) -> None:
        self.state = AssignmentState()
        for pool in (Pool.parse("one", f"{V6}/128"), Pool.parse("two", f"{OTHER}/128", auto_assign=False)):
            origin = Origin(kind="IPAddressPool", namespace="", name=pool.name)
            self.tell(ConfigSeen(ConfigDocument(origin=origin, resources=(pool,))))
        for kind in Kind:
            self.tell(Listed(kind))

    def tell(self, event: Event) -> list[SetAddresses]:
        written: list[SetAddresses] = []
        for each in (event, Tick(), Tick(), Tick()):
            step = assignment.step(self.state, each, 1.0)
            self.state = step.state
            written += [intent for intent in step.intents if isinstance(intent, SetAddresses)]
        return written


def moved() -> tuple[Desk, SetAddresses, SetAddresses]:
    """A desk at which `old` has moved to another pool and `new` has got what it had, nothing written yet."""
    desk = Desk()
    (first,) = desk.tell(ServiceSeen(OLD))
    desk.tell(Applied(first))
    held = evolve(OLD, held=first.addresses)
    desk.tell(ServiceSeen(held))
    (waits,) = desk.tell(ServiceSeen(NEW))
    desk.tell(Applied(waits))
    away, granted = desk.tell(ServiceSeen(evolve(held, annotations={"metallb.io/address-pool": "two"})))
    return desk, away, granted


def test_who_gets_an_address_is_written_after_who_gives_it_up() -> None:
    _, away, granted = moved()
    assert (OLD.key, (OTHER,), frozenset({V6}), ()) == (away.key, away.addresses, away.gives_up, away.after)
    assert (NEW.key, (V6,), frozenset(), (OLD.key,)) == (
        granted.key,
        granted.addresses,
        granted.gives_up,
        granted.after,
    )


def test_what_has_been_written_holds_nobody_up() -> None:
    for outcome in (Applied, lambda intent: Failed(intent=intent, message="gone", retry=False)):
        desk, away, granted = moved()
        desk.tell(outcome(away))
        desk.tell(ServiceGone(NEW.key, NEW.uid))
        (again,) = desk.tell(ServiceSeen(evolve(NEW, uid="3")))
        assert ((V6,), ()) == (again.addresses, again.after)
        assert granted.addresses == again.addresses


def test_a_service_that_is_gone_shows_nothing() -> None:
    desk, _, _ = moved()
    desk.tell(ServiceGone(OLD.key, OLD.uid))
    desk.tell(ServiceGone(NEW.key, NEW.uid))
    (again,) = desk.tell(ServiceSeen(evolve(NEW, uid="3")))
    assert () == again.after
    assert not desk.state.showing


def test_a_write_that_failed_for_now_may_show_what_it_gave_before_it_was_replaced() -> None:
    # The first write for `old` is under way, so its status may show the address though nobody has seen it yet.
    desk = Desk()
    desk.tell(ServiceSeen(OLD))
    desk.tell(ServiceSeen(NEW))
    away, granted = desk.tell(ServiceSeen(evolve(OLD, annotations={"metallb.io/address-pool": "two"})))
    assert (frozenset({V6}), (OLD.key,)) == (away.gives_up, granted.after)


def test_a_start_gives_nobody_what_another_still_shows() -> None:
    # Both must move, the older one first, and what it gets is what the younger one still shows.
    desk, allowed = AssignmentState(), {"one": "default", "two": "elsewhere"}
    events: list[Event] = [
        ServiceSeen(evolve(OLD, held=(OTHER,), created="2030-01-01")),
        ServiceSeen(evolve(NEW, key=ServiceKey("other", "new"), held=(V6,), created="2030-01-02")),
    ]
    for name, address in (("one", V6), ("two", OTHER)):
        pool = evolve(Pool.parse(name, f"{address}/128"), allocation=ServiceAllocation(namespaces=(allowed[name],)))
        origin = Origin(kind="IPAddressPool", namespace="", name=name)
        events.append(ConfigSeen(ConfigDocument(origin=origin, resources=(pool,))))
    written: list[SetAddresses] = []
    for event in (*events, *(Listed(kind) for kind in Kind), Tick()):
        step = assignment.step(desk, event, 1.0)
        desk = step.state
        written += [intent for intent in step.intents if isinstance(intent, SetAddresses)]
    (granted,) = [intent for intent in written if intent.addresses == (V6,)]
    assert (OLD.key, (ServiceKey("other", "new"),)) == (granted.key, granted.after)
