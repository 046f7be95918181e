"""What the tally makes of a controller's events and intents: how long, who moved, why, and who waits."""

from __future__ import annotations

from collections import Counter

from attrs import define, evolve, field

from lbcore.addresses import Address
from lbcore.config import Config, Pool
from lbcore.daemons.tally import AssignmentTally, Cause, Move, Outcome
from lbcore.events import Applied, ConfigSeen, Event, NamespaceSeen, ServiceGone, ServiceSeen
from lbcore.intents import Intent, ReportConfig, SetAddresses
from lbcore.model import Namespace, Service
from lbcore.verdicts import Reason, Refusal
from worlds import document, ipv6, plain_service

ONE, TWO = ipv6(1), ipv6(2)
POOLS = document(Pool.parse("p", "2001:db8::/120"))
SERVICE = plain_service("s", cluster_ips=("fd00::1",))
KEY = SERVICE.key


@define
class Desk:
    """A tally, its clock, and what it told."""

    now: float = 0.0
    took: list[float] = field(factory=list)
    moves: list[Move] = field(factory=list)
    load_balancer_class: str | None = None
    tally: AssignmentTally = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tally = AssignmentTally(
            load_balancer_class=self.load_balancer_class,
            clock=lambda: self.now,
            on_assigned=self.took.append,
            on_move=self.moves.append,
        )

    def after(self, seconds: float, event: Event | None, *intents: Intent) -> None:
        self.now += seconds
        self.tally.observe(event, intents)

    def decide(self, *addresses: Address, gives_up: tuple[Address, ...] = (), uid: str = SERVICE.uid) -> SetAddresses:
        wanted = SetAddresses(key=KEY, uid=uid, addresses=addresses, gives_up=frozenset(gives_up))
        self.after(0.0, None, wanted)
        return wanted

    def refuse(self, *, gives_up: tuple[Address, ...] = ()) -> SetAddresses:
        refusal = Refusal(key=KEY, reason=Reason.POOL_EXHAUSTED, detail="full")
        wanted = SetAddresses(key=KEY, uid=SERVICE.uid, refusal=refusal, gives_up=frozenset(gives_up))
        self.after(0.0, None, wanted)
        return wanted


def holding(*addresses: Address, service: Service = SERVICE) -> Service:
    return evolve(service, held=addresses)


def configured() -> Desk:
    """A tally of a controller whose first configuration is in force."""
    desk = Desk()
    desk.after(0.0, ConfigSeen(POOLS), ReportConfig(config=Config()))
    return desk


def test_the_time_is_from_the_first_sight_to_the_write_and_is_told_once() -> None:
    desk = configured()
    desk.after(0.0, ServiceSeen(SERVICE))
    desk.after(0.25, ServiceSeen(evolve(SERVICE, labels={"a": "b"})))
    written = desk.decide(ONE)
    desk.after(0.5, Applied(written))
    desk.after(0.0, Applied(written))  # as the carrier tells it, and as the brain is told
    assert [0.75] == desk.took


def test_who_held_an_address_already_or_is_another_classs_is_not_timed() -> None:
    for service in (
        holding(ONE),
        evolve(SERVICE, load_balancer_class="other"),
        evolve(SERVICE, type="ClusterIP"),
    ):
        desk = configured()
        desk.after(0.0, ServiceSeen(service))
        desk.after(1.0, Applied(desk.decide(ONE)))
        assert [] == desk.took


def test_one_that_was_refused_first_is_left_out_and_waits_meanwhile() -> None:
    desk = configured()
    desk.after(0.0, ServiceSeen(SERVICE))
    desk.after(0.0, Applied(desk.refuse()))
    assert Counter({"PoolExhausted": 1}) == desk.tally.waiting
    desk.after(60.0, Applied(desk.decide(ONE)))
    assert Counter() == desk.tally.waiting
    assert [] == desk.took


def test_a_service_that_is_deleted_waits_no_longer() -> None:
    desk = configured()
    desk.after(0.0, ServiceSeen(SERVICE))
    desk.refuse()
    desk.after(0.0, ServiceGone(KEY, SERVICE.uid))
    assert Counter() == desk.tally.waiting


def test_one_made_anew_under_the_name_starts_afresh_even_when_the_end_of_the_old_was_missed() -> None:
    desk = configured()
    desk.after(0.0, ServiceSeen(SERVICE))
    desk.refuse()
    desk.after(9.0, ServiceSeen(evolve(SERVICE, uid="new")))
    assert Counter() == desk.tally.waiting
    desk.after(0.5, Applied(desk.decide(ONE, uid="new")))
    assert [0.5] == desk.took


def test_the_write_to_an_older_one_of_the_name_is_not_taken_for_the_newers() -> None:
    desk = configured()
    desk.after(0.0, ServiceSeen(SERVICE))
    written = desk.decide(ONE)
    desk.after(1.0, ServiceSeen(evolve(SERVICE, uid="new")))
    desk.after(0.0, Applied(written))
    desk.after(0.5, Applied(desk.decide(TWO, uid="new")))
    assert 1 >= len(desk.took)
    assert 1.0 not in desk.took


def test_what_was_held_at_the_start_and_does_not_fit_moves_because_of_the_start() -> None:
    desk = Desk()
    desk.after(0.0, ConfigSeen(POOLS))
    desk.after(0.0, NamespaceSeen(Namespace(name="red")))
    desk.after(0.0, ServiceSeen(holding(ONE)))
    desk.after(0.0, None, ReportConfig(config=Config()))
    desk.decide(TWO, gives_up=(ONE,))
    assert [Move(Cause.START, Outcome.MOVED)] == desk.moves


def test_a_changed_wish_is_the_services_own_doing() -> None:
    desk = configured()
    desk.after(0.0, ServiceSeen(holding(ONE)))
    desk.after(0.0, ConfigSeen(POOLS))
    desk.after(0.0, ServiceSeen(holding(ONE, service=evolve(SERVICE, load_balancer_ip=str(TWO)))))
    desk.decide(TWO, gives_up=(ONE,))
    assert [Move(Cause.SERVICE, Outcome.MOVED)] == desk.moves


def test_what_we_write_to_a_service_is_no_wish_of_its() -> None:
    desk = configured()
    desk.after(0.0, ServiceSeen(SERVICE))
    ours = {"metallb.io/ip-allocated-from-pool": "p"}
    desk.after(
        0.0, ServiceSeen(holding(ONE, service=evolve(SERVICE, annotations=ours, created="2026-01-01T00:00:00Z")))
    )
    desk.after(0.0, ConfigSeen(POOLS))
    desk.decide(TWO, gives_up=(ONE,))
    assert [Move(Cause.CONFIGURATION, Outcome.MOVED)] == desk.moves


def test_a_wish_that_was_met_is_no_cause_of_what_comes_later() -> None:
    desk = configured()
    desk.after(0.0, ServiceSeen(SERVICE))
    desk.after(0.0, ServiceSeen(evolve(SERVICE, labels={"a": "b"})))
    desk.after(0.0, Applied(desk.decide(ONE)))
    desk.after(0.0, ServiceSeen(holding(ONE, service=evolve(SERVICE, labels={"a": "b"}))))
    desk.after(0.0, NamespaceSeen(Namespace(name="red", labels={"a": "b"})))
    desk.refuse(gives_up=(ONE,))
    assert [Move(Cause.CONFIGURATION, Outcome.RELEASED)] == desk.moves


def test_what_is_kept_besides_is_no_move_to_another() -> None:
    desk = configured()
    desk.after(0.0, ServiceSeen(holding(ONE, TWO)))
    desk.decide(ONE, gives_up=(TWO,))
    assert [Outcome.RELEASED] == [move.outcome for move in desk.moves]


def test_a_loss_that_is_decided_twice_before_it_is_written_counts_once_and_afterwards_again() -> None:
    desk = configured()
    desk.after(0.0, ServiceSeen(holding(ONE)))
    desk.refuse(gives_up=(ONE,))
    written = desk.decide(TWO, gives_up=(ONE,))
    assert 1 == len(desk.moves)
    desk.after(0.0, Applied(written))
    desk.after(0.0, ServiceSeen(holding(TWO)))
    desk.decide(ONE, gives_up=(TWO,))
    assert 2 == len(desk.moves)
