"""The controller's brain: which Service has which address.

Level-triggered: an event only says what to look at again; what a Service should have is worked out
anew from the pools and the ledger, and only a difference becomes an intent. Nothing is decided
before everything that exists has been told (`Listed`), and then every address that is held is
claimed before a new one is given, so that a restart moves nobody.

A step looks at no more than `slice_size` Services; the rest stays in the state, and `wake_at` asks
for another turn, so that a pool edit under 100,000 Services keeps nothing else waiting.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, evolve, field, frozen
from immutables import Map

from lbcore.addresses import Address, Family
from lbcore.allocation import Allocation, Outcome, allocate, judge_held, settle, verdicts
from lbcore.brain import Step
from lbcore.config import Configuration, Pool
from lbcore.events import (
    AddressHeard,
    AnsweringSeen,
    Applied,
    ConfigGone,
    ConfigSeen,
    DrainsSeen,
    Event,
    Failed,
    Kind,
    LeadershipSeen,
    LinksSeen,
    Listed,
    ManifestRefused,
    MembersSeen,
    NamespaceGone,
    NamespaceSeen,
    NodeGone,
    NodeSeen,
    PeerSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
    Stopping,
    Tick,
)
from lbcore.intents import EventType, Intent, RecordEvent, ReportConfig, SetAddresses, SetPoolUsage
from lbcore.keeping import Keeping, Reservation
from lbcore.ledger import Claim, Ledger
from lbcore.model import Labels, Service, ServiceKey
from lbcore.pools import Catalog, candidates, capacity, is_buggy
from lbcore.requests import PREFIX, Request, annotation, read_request
from lbcore.sharing import sharing_of
from lbcore.verdicts import PoolVerdict, Reason, Refusal
from lbcore.waiting import Chance, Company, Place, Waiting, WaitsFor
from lbcore.worklist import Fifo, Worklist

__all__ = [
    "AddressStory",
    "AssignmentSettings",
    "AssignmentState",
    "PendingReason",
    "explain",
    "explain_address",
    "step",
]

NEEDS = frozenset({Kind.SERVICES, Kind.CONFIG, Kind.NAMESPACES})
_POOL = "ip-allocated-from-pool"  # the annotation that says which pool an address is from
_NOBODY = ServiceKey("", "")  # asks the ledger about an address on no Service's behalf


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


def step(state: AssignmentState, event: Event, now: float) -> Step[AssignmentState]:
    """One event: what is known afterwards, and what is to be written.

    Intents: `SetAddresses`, `RecordEvent`, `SetPoolUsage`, `ReportConfig`. The same event twice
    yields no second intent. Never raises for anything a cluster can contain.
    """
    if _is_news_of_nothing(state, event):
        return Step(state=state, intents=(), wake_at=_wake_at(state, now))
    turn = _Turn(state, now)
    turn.note(event)
    turn.work_on()
    after = turn.state()
    return Step(state=after, intents=tuple(turn.intents), wake_at=_wake_at(after, now))


def _is_news_of_nothing(state: AssignmentState, event: Event) -> bool:
    """Whether an event is an outcome that nobody waits for, with no work left that it could get on with.

    Of the steps for a new Service that is every other one, and a turn for nothing takes 25 us.
    """
    if state.catalog is None or state.unfinished or state.touched_pools or state.config_due is not None:
        return False
    match event:
        case Applied(SetAddresses() as intent) | Failed(intent=SetAddresses() as intent):
            return state.unconfirmed.get(intent.key) != intent
        case Applied() | Failed():
            return True
        case _:
            return False


def _wake_at(state: AssignmentState, now: float) -> float | None:
    if not state.leads or not state.listed >= NEEDS:
        return None
    if state.ready and state.unfinished:
        return now
    times = (state.config_due, state.keeping.next_end if state.ready else None)
    return min((time for time in times if time is not None), default=None)


@define
class _Turn:
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

    # What an event changes in what we know.

    def note(self, event: Event) -> None:
        match event:
            case ServiceSeen(service):
                self._see_service(service)
            case ServiceGone(key, uid):
                known = self.services.get(key)
                if known is not None and uid in ("", known.uid):
                    self._forget_service(key)
            case ConfigSeen(document):
                self.configuration = self.configuration.seen(document)
                self._config_changed()
            case ConfigGone(origin):
                self.configuration = self.configuration.gone(origin)
                self._config_changed()
            case NamespaceSeen(namespace):
                self._see_namespaces(self.namespaces.set(namespace.name, namespace.labels))
            case NamespaceGone(name) if name in self.namespaces:
                self._see_namespaces(self.namespaces.delete(name))
            case Listed(kind):
                self.listed |= {kind}
            case LeadershipSeen(leading) if leading != self.elected:
                self._take_over() if leading else self._stand_by()
            case Applied(SetAddresses() as intent) if self.unconfirmed.get(intent.key) == intent:
                self._confirm(intent.key)
            case Failed(intent=SetAddresses() as intent) if self.unconfirmed.get(intent.key) == intent:
                # Final: the object is gone or newer than we thought. What comes next about it decides anew.
                self._confirm(intent.key)
                self.told = self.told.delete(intent.key)
            case (
                LeadershipSeen()
                | NamespaceGone() | Applied() | Failed() | Tick() | Stopping() | ManifestRefused() | PeerSeen()
                | SliceSeen() | SliceGone() | NodeSeen() | NodeGone() | DrainsSeen()
                | MembersSeen() | LinksSeen() | AnsweringSeen() | AddressHeard()
            ):  # fmt: skip
                pass

    def _take_over(self) -> None:
        """Begin as after a start: what Services hold is claimed, the older first, before anything new is given."""
        self.elected = True
        self.config_due = self.now

    def _stand_by(self) -> None:
        """Another decides now: keep what was told, forget every decision."""
        fresh = AssignmentState()
        self.elected = False
        self.catalog, self.adopting, self.ledger, self.keeping = None, None, fresh.ledger, fresh.keeping
        self.work, self.waiting, self.recalled, self.chances = fresh.work, fresh.waiting, fresh.recalled, []
        self.told, self.unconfirmed, self.showing = fresh.told, fresh.unconfirmed, fresh.showing
        self.touched_pools, self.told_usage = set(), fresh.told_usage

    def _see_service(self, service: Service) -> None:
        key = service.key
        known = self.services.get(key)
        if known is not None and self._looks_as_told(known, service):
            self.services = self.services.set(key, service)  # the echo of a write: half of all that a watch says
            return
        if known is not None and known.uid != service.uid:
            self._forget_service(key)  # deleted and created again under its name, and we missed the end
        self.services = self.services.set(key, service)
        self.recalled = self.recalled.remove(key)
        if self.adopting is not None:  # otherwise it is lined up with all the others when the decisions begin
            self.work = self.work.touch(key)

    def _looks_as_told(self, known: Service, service: Service) -> bool:
        """Whether nothing about a Service has changed but what was to be written, and that it shows."""
        told = self.told.get(service.key)
        if told is None or told.uid != service.uid:
            return False
        if told.addresses != service.held or not _says(service, told.refusal):
            return False
        before = known.annotations
        expected = before if told.pool is None else before.set(PREFIX + _POOL, told.pool)
        if service.annotations not in (expected, before):
            return False
        return evolve(known, held=service.held, annotations=service.annotations, pending=service.pending) == service

    def _forget_service(self, key: ServiceKey) -> None:
        self.services = self.services.delete(key)
        self.work = self.work.strike(key)
        self.waiting, self.recalled = self.waiting.remove(key), self.recalled.remove(key)
        self._keep(key)
        self._confirm(key)
        if key in self.told:
            self.told = self.told.delete(key)

    def _confirm(self, key: ServiceKey) -> None:
        """Nothing more is to be written about a Service: what it gave up it shows no more."""
        written = self.unconfirmed.get(key)
        if written is None:
            return
        self.unconfirmed = self.unconfirmed.delete(key)
        for address in written.gives_up:
            self._shows_no_more(address, key)

    def _shows_no_more(self, address: Address, key: ServiceKey) -> None:
        others = self.showing.get(address, frozenset()) - {key}
        if others:
            self.showing = self.showing.set(address, others)
        elif address in self.showing:
            self.showing = self.showing.delete(address)

    def _keep(self, key: ServiceKey) -> None:
        """What a deleted Service held stays reserved for one of its name, as far as the pools say so."""
        claim = self.ledger.of(key)
        reservation = self.keeping.of(key)  # of one that was deleted before, if this one never took it
        if reservation is None and claim is not None and self.catalog is not None:
            reservation = Reservation.of(claim, self.catalog, self.now)
        self._reserve(key, reservation)

    def _reserve(self, key: ServiceKey, reservation: Reservation | None) -> None:
        """Enter what is kept under a key, or the end of it."""
        self.keeping = self.keeping.put(reservation) if reservation is not None else self.keeping.remove(key)
        self._hold(key, reservation.claim if reservation is not None else None)
        if key not in self.services:
            # Enrolled, it is looked at when the pools change.
            self.work = self.work.enrol(key) if reservation is not None else self.work.strike(key)

    def _see_namespaces(self, namespaces: Map[str, Labels]) -> None:
        if namespaces == self.namespaces:
            return
        self.namespaces = namespaces
        if self.catalog is None:
            return
        self.catalog = Catalog(self.catalog.pools, namespaces)
        if any(pool.allocation and pool.allocation.namespace_selectors for pool in self.catalog.pools):
            self._look_at_all()

    # Configuration.

    def _config_changed(self) -> None:
        settings = self.before.settings
        if self.config_latest is None:
            self.config_latest = self.now + settings.config_patience
        quiet = settings.config_quiet if Kind.CONFIG in self.listed else 0.0
        self.config_due = min(self.now + quiet, self.config_latest)

    def _put_config_in_force(self) -> None:
        self.config_due = self.config_latest = None
        before = self.configuration
        self.configuration = before.settled()
        current, problems = self.configuration.current, self.configuration.problems
        if current != before.current or problems != before.problems:
            self.intents.append(ReportConfig(config=current, problems=problems))
        if current is None or (self.catalog is not None and current.pools == self.catalog.pools):
            return
        old_pools = self.catalog.pools if self.catalog is not None else ()
        self.catalog = Catalog(current.pools, self.namespaces)
        self.touched_pools |= {pool.name for pool in (*old_pools, *current.pools)}
        if self.adopting is None:
            self._begin()
        else:
            self._look_at_all()

    def _look_at_all(self) -> None:
        """Holders first, in case they must move; then those who wait, in the order in which they came."""
        self.work = self.work.sweep()
        self.recalled = self.waiting.line

    def _begin(self) -> None:
        """The first configuration: line everybody up, holders first, the older first."""
        self.adopting = Fifo.of(service.key for service in sorted(self.services.values(), key=_seniority))
        self.work = Worklist.of(self.adopting)

    # The work itself.

    def work_on(self) -> None:
        if self.before.settings.elected and not self.elected:
            return
        if not self.listed >= NEEDS:
            return
        nothing_configured = self.configuration == Configuration() and self.config_due is None
        if nothing_configured or (self.config_due is not None and self.now >= self.config_due):
            self._put_config_in_force()
        if self.catalog is None or self.adopting is None:
            return
        budget = self.before.settings.slice_size
        while budget > 0 and self._is_unfinished():
            budget -= 1
            holder = self.adopting.first()
            if holder is not None:
                self.adopting = self.adopting.remove(holder)
                self._adopt(holder)
            elif (due := self.keeping.due(self.now)) is not None:
                self._look_at(due)
            elif self.chances:
                self._offer(self.chances.pop(0))
            elif self.work:
                key, self.work = self.work.take()
                if key is not None and key not in self.recalled:
                    self._look_at(key)
            elif (first := self.recalled.first()) is not None:
                self.recalled = self.recalled.remove(first)
                self._look_at(first)
        if not self._is_unfinished():
            self._tell_usage()

    def _is_unfinished(self) -> bool:
        lined_up = self.adopting or self.chances or self.work or self.recalled
        return bool(lined_up) or self.keeping.due(self.now) is not None

    def _is_ours(self, service: Service) -> bool:
        return service.is_load_balancer and service.load_balancer_class == self.before.settings.load_balancer_class

    def _adopt(self, key: ServiceKey) -> None:
        """Claim what a Service holds. One that may hold it and lacks nothing is done; the others get their turn
        when all claims are in.
        """
        service = self.services.get(key)
        if service is None:
            return
        if service.held and self._is_ours(service) and self.ledger.of(key) is None:
            request = read_request(service)
            sound = request if isinstance(request, Request) else _plain_request(service)
            kept, _ = judge_held(sound, service.held, self._catalog, self.ledger)
            if kept is not None and sound is request and _lacks_nothing(sound, kept, service.held):
                self._hold(key, kept.claim(sound))
                self._tell(service, Outcome(allocation=kept), kept.addresses)
                return
            self._claim_shown(service, sound)
        self.work = self.work.touch(key)

    def _claim_shown(self, service: Service, request: Request) -> None:
        """Claim what a Service shows, may it keep that or not: nobody else is given it before it has been looked at."""
        key, ports, sharing = service.key, request.ports, request.sharing
        shown = [
            (address, pool.name)
            for address in sorted(service.held)
            if (pool := self._catalog.owner(address)) is not None
            and self.ledger.conflict(address, key, ports=ports, sharing=sharing) is None
        ]
        if shown:
            addresses, pools = zip(*shown, strict=True)
            self._hold(key, Claim(key=key, addresses=addresses, pools=pools, ports=ports, sharing=sharing))

    def _look_at(self, key: ServiceKey) -> None:
        """Work out what one Service should have, and write the difference."""
        reservation = self.keeping.of(key)
        if reservation is not None:
            reservation = reservation.still(self._catalog, self.now)
            self._reserve(key, reservation)
        service = self.services.get(key)
        if service is None:
            return
        if not self._is_ours(service):
            self._let_be(service)
            return
        claim = self.ledger.of(key) if reservation is None else None
        held = claim.addresses if claim is not None else service.held
        request = read_request(service)
        outcome, sound = self._settle(service, request, held, reservation)
        if outcome.allocation is None and held != service.held:
            # What was given instead is lost before it was ever shown: better what it still shows than nothing.
            outcome, sound = self._settle(service, request, service.held, reservation)
        if outcome.allocation is not None:
            self.keeping = self.keeping.remove(key)
            self._hold(key, outcome.allocation.claim(sound))
        elif reservation is None:
            self._hold(key, None)
        whats = _waits_for(sound, outcome, self._catalog, self.ledger) if isinstance(request, Request) else ()
        self.waiting = self.waiting.put(key, whats)
        self._tell(service, outcome, held)

    @property
    def _catalog(self) -> Catalog:
        assert self.catalog is not None
        return self.catalog

    def _settle(
        self,
        service: Service,
        request: Request | Refusal,
        held: tuple[Address, ...],
        reservation: Reservation | None,
    ) -> tuple[Outcome, Request]:
        if isinstance(request, Request):
            if reservation is not None and not held:
                # It is back: what was kept is its own again, unless it asks for something else now.
                back = settle(request, reservation.claim.addresses, self._catalog, self.ledger)
                if back.refusal is None:
                    return back, request
            return settle(request, held, self._catalog, self.ledger), request
        # A request that makes no sense takes nothing away: what it has, it keeps.
        plain = _plain_request(service)
        kept, _ = judge_held(plain, held, self._catalog, self.ledger)
        return Outcome(allocation=kept, refusal=request), plain

    def _let_be(self, service: Service) -> None:
        """Not, or no longer, ours: give back what it held, and clear the status that we wrote."""
        key = service.key
        had = self.ledger.of(key) is not None and key not in self.keeping
        left_over = bool(service.held) and not service.is_load_balancer
        self.keeping = self.keeping.remove(key)
        self._hold(key, None)
        self.waiting = self.waiting.remove(key)
        if had or left_over:
            self._write(SetAddresses(key=key, uid=service.uid), service)

    def _hold(self, key: ServiceKey, claim: Claim | None) -> None:
        """Enter a claim (or its end) into the ledger, and give those who wait their chance."""
        before = self.ledger.of(key)
        if before == claim:
            return
        self.ledger = self.ledger.claim(claim) if claim is not None else self.ledger.release(key)
        for each in (before, claim):
            if each is not None:
                self.touched_pools.update(each.pools)
        if not self.waiting:
            return
        left = before.addresses if before is not None else ()
        entered = claim.addresses if claim is not None else ()
        for address in dict.fromkeys(left + entered):
            self._give_chance(address, joined=address not in left)
            if (before is not None and before.kept) is not (claim is not None and claim.kept):
                self._recall(address)

    def _recall(self, address: Address) -> None:
        """Tell the first of those whom an address keeps waiting that it is kept now, or no longer."""
        pool = self._catalog.owner(address)
        places: list[Place] = [address, *([(pool.name, address.family)] if pool is not None else [])]
        firsts = (self.waiting.queue(place).first() for place in places)
        for key in firsts:
            self.recalled = self.recalled.push(key) if key is not None else self.recalled

    def _give_chance(self, address: Address, *, joined: bool) -> None:
        """Line up those who could use an address now that its holders have changed.

        Where one more has `joined` others, there is less to have than before, and nothing to give.
        """
        holders = self.ledger.holders(address)
        if joined and len(holders) > 1:
            return
        places: list[Place] = [address]
        pool = self._catalog.owner(address)
        # An address that a pool no longer gives out helps nobody who waits for any address of that pool.
        if pool is not None and not (pool.avoid_buggy_ips and is_buggy(address)):
            places.append((pool.name, address.family))
        queues: list[WaitsFor] = []
        if not holders:
            queues += [place for place in places if self.waiting.anyone_for(place)]
        elif (claim := self.ledger.of(holders[0])) is not None and claim.sharing is not None:
            for place in places:
                queues += self.waiting.companies(place, claim.sharing)
        queues = [what for what in queues if self._is_open(address, what)]
        if queues:
            self.chances.append(Chance(address=address, queues=tuple(queues)))

    def _is_open(self, address: Address, what: WaitsFor) -> bool:
        """Whether an address is what somebody waits for: free, or held on the right terms with the ports to spare."""
        if not isinstance(what, Company):
            return not self.ledger.holders(address)
        return self.ledger.conflict(address, _NOBODY, ports=what.ports, sharing=what.sharing) is None

    def _offer(self, chance: Chance) -> None:
        """Ask the next of those who could use a chance; what is left of it stays in line."""
        key, left = None, chance.elsewhere
        if self._is_open(chance.address, chance.queues[0]):
            key, left = self.waiting.next(chance)
        if left is not None:
            self.chances.insert(0, left)
        if key is not None:
            self._look_at(key)

    # What the world is told.

    def _tell(self, service: Service, outcome: Outcome, held: tuple[Address, ...]) -> None:
        allocation, refusal = outcome.allocation, outcome.refusal
        addresses = allocation.addresses if allocation is not None else ()
        pool = ",".join(dict.fromkeys(allocation.pools)) if allocation is not None else None
        # The trace stays here: `explain` works it out anew, and a status that lists every pool would
        # be written again whenever any of them changed.
        said = evolve(refusal, pools=()) if refusal is not None else None
        wanted = SetAddresses(key=service.key, uid=service.uid, addresses=addresses, pool=pool, refusal=said)
        before = self.told.get(service.key)
        self._write(wanted, service)
        if before == wanted:
            return
        if addresses and (set(addresses) != set(held) or (before is not None and before.addresses != addresses)):
            text = f"assigned {_listed(addresses)} from pool {pool}"
            moved = f" in place of {_listed(held)}" if held else ""
            self._record(service, EventType.NORMAL, "IPAllocated", text + moved)
        elif held and not addresses:
            self._record(service, EventType.NORMAL, "ClearAssignment", f"{_listed(held)} had to be given up")
        if said is not None and not (_says(service, said) if before is None else before.refusal == said):
            malformed = said.reason in (Reason.BAD_REQUEST, Reason.CONFLICTING_REQUEST)
            reason = "LoadBalancerFailed" if malformed else "AllocationFailed"
            self._record(service, EventType.WARNING, reason, str(said))

    def _write(self, wanted: SetAddresses, service: Service) -> None:
        """Ask for a status write, unless it says so already or is about to."""
        key = wanted.key
        before = self.told.get(key)
        # In which order the addresses stand says nothing to us, but elections go by the first: leave it.
        shown = service.held == wanted.addresses or tuple(sorted(service.held)) == wanted.addresses
        if before is None and shown and _says(service, wanted.refusal) and _shows_pool(service, wanted):
            self.told = self.told.set(key, wanted)
            return
        if before == wanted and (shown or key in self.unconfirmed):
            return
        wanted = self._in_order(wanted, service)
        self.told = self.told.set(key, wanted)
        self.unconfirmed = self.unconfirmed.set(key, wanted)
        self.intents.append(wanted)

    def _in_order(self, wanted: SetAddresses, service: Service) -> SetAddresses:
        """The write, to be done after those of whoever may still show what it gives."""
        key, under_way = wanted.key, self.unconfirmed.get(wanted.key)
        shown = {*service.held, *(under_way.addresses if under_way else ()), *(under_way.gives_up if under_way else ())}
        gives_up = frozenset(shown.difference(wanted.addresses))
        # Several, where they shared it: the write must wait for every one of them.
        shown_by = frozenset[ServiceKey]().union(*(self.showing.get(each, ()) for each in wanted.addresses))
        for address in wanted.addresses:
            self._shows_no_more(address, key)
        for address in gives_up:
            self.showing = self.showing.set(address, self.showing.get(address, frozenset()) | {key})
        return evolve(wanted, gives_up=gives_up, after=tuple(sorted(shown_by - {key})))

    def _record(self, service: Service, type_: EventType, reason: str, message: str) -> None:
        about = f"Service {service.key}"
        self.intents.append(RecordEvent(about=about, type=type_, reason=reason, message=message))

    def _tell_usage(self) -> None:
        for name in sorted(self.touched_pools):
            pool = self._catalog.named(name)
            if pool is None:
                self.told_usage = self.told_usage.delete(name) if name in self.told_usage else self.told_usage
                continue
            wanted = usage_of(pool, self.ledger)
            if self.told_usage.get(name) != wanted:
                self.told_usage = self.told_usage.set(name, wanted)
                self.intents.append(wanted)
        self.touched_pools = set()


def _seniority(service: Service) -> tuple[bool, str, str, str]:
    """Holders first, the older first. Keys as texts: to compare two of attrs takes ten times as long."""
    return (not service.held, service.created, service.key.namespace, service.key.name)


def usage_of(pool: Pool, ledger: Ledger) -> SetPoolUsage:
    """A pool's counts. Addresses that it no longer gives out can still be held: free is never below zero."""
    used = ledger.usage(pool.name)
    return SetPoolUsage(
        pool=pool.name,
        assigned_ipv4=used.ipv4,
        assigned_ipv6=used.ipv6,
        available_ipv4=max(0, capacity(pool, Family.IPV4) - used.ipv4),
        available_ipv6=max(0, capacity(pool, Family.IPV6) - used.ipv6),
    )


def _listed(addresses: tuple[Address, ...]) -> str:
    return " and ".join(str(address) for address in addresses)


def _shows_pool(service: Service, wanted: SetAddresses) -> bool:
    shown = annotation(service, _POOL)
    return shown is None or shown == wanted.pool


def _says(service: Service, refusal: Refusal | None) -> bool:
    """Whether a Service's status says why it lacks something, or that it lacks nothing, as before a restart."""
    return service.pending == (refusal.shown if refusal is not None else None)


def _plain_request(service: Service) -> Request:
    """What a Service whose wishes make no sense may at least keep: one address of each family."""
    return Request(
        key=service.key,
        families=(Family.IPV4, Family.IPV6),
        all_families=False,
        ports=tuple(sorted(set(service.ports))),
        sharing=sharing_of(service, annotation(service, "allow-shared-ip") or ""),
        labels=service.labels,
    )


def _lacks_nothing(request: Request, kept: Allocation, held: tuple[Address, ...]) -> bool:
    """Whether what a Service may keep is all it holds and all it asks for."""
    return (
        len(kept.addresses) == len(request.families) == len(held)
        and (not request.addresses or kept.addresses == request.addresses)
        and (request.pool is None or {request.pool} == set(kept.pools))
    )


def _waits_for(request: Request, outcome: Outcome, catalog: Catalog, ledger: Ledger) -> tuple[WaitsFor, ...]:
    """What could give a Service what it does not have yet; nothing if it has all it asked for.

    Only what cannot be had now: when that changes, it is time to look again.
    """
    kept = outcome.allocation
    has = {address.family for address in kept.addresses} if kept is not None else set()
    if outcome.refusal is None and has.issuperset(request.families):
        return ()
    places = _places(request, outcome, catalog, ledger)
    if request.sharing is None:
        return tuple(places)
    return tuple(what for place in places for what in (place, Company(place, request.sharing, request.ports)))


def _places(request: Request, outcome: Outcome, catalog: Catalog, ledger: Ledger) -> list[Place]:
    if request.addresses:
        ports, sharing = request.ports, request.sharing
        conflicts = (
            (each, ledger.conflict(each, request.key, ports=ports, sharing=sharing)) for each in request.addresses
        )
        return [each for each, conflict in conflicts if conflict is not None]
    asked = [pool for pool, verdict in candidates(request, catalog) if verdict.reason is Reason.OK]
    if request.pool is None and outcome.allocation is not None:
        # A family that it lacks may come from the pool it is in, even if that is not automatic.
        named = (catalog.named(name) for name in outcome.allocation.pools)
        asked = [*dict.fromkeys((*asked, *(pool for pool in named if pool is not None)))]
    lacking = [family for family in request.families if _is_lacking(family, request, catalog, ledger)]
    return [(pool.name, family) for pool in asked for family in lacking if family in pool.families]


def _is_lacking(family: Family, request: Request, catalog: Catalog, ledger: Ledger) -> bool:
    """Whether no pool has an address of that family for a request that was not granted in full."""
    if len(request.families) == 1:
        return True
    alone = evolve(request, families=(family,), all_families=True)
    return isinstance(allocate(alone, catalog, ledger), Refusal)


@frozen(kw_only=True)
class PendingReason:
    """Why a Service has what it has: the refusal in force, if any, and what each pool says to it now."""

    key: ServiceKey
    addresses: tuple[Address, ...]
    refusal: Refusal | None
    pools: tuple[PoolVerdict, ...]


def explain(state: AssignmentState, key: ServiceKey) -> PendingReason | None:
    """Why a Service has the addresses it has, or none, pool by pool; None for a Service that is not known."""
    service = state.services.get(key)
    if service is None:
        return None
    claim = state.ledger.of(key)
    if claim is not None and claim.kept:
        claim = None  # kept for it, but not what it asks for
    addresses = claim.addresses if claim is not None else ()
    request = read_request(service)
    if isinstance(request, Refusal):
        return PendingReason(key=key, addresses=addresses, refusal=request, pools=())
    if state.catalog is None:
        return PendingReason(key=key, addresses=addresses, refusal=None, pools=())
    # Worked out anew: the status still names the holder that was in the way when it was written.
    refusal = settle(request, addresses, state.catalog, state.ledger).refusal if key in state.told else None
    pools = tuple(_pool_verdicts(request, state.catalog, state.ledger, claim))
    return PendingReason(key=key, addresses=addresses, refusal=refusal, pools=pools)


def _pool_verdicts(request: Request, catalog: Catalog, ledger: Ledger, claim: Claim | None) -> Iterator[PoolVerdict]:
    # Asked as if the Service held nothing, so that its own address shows as one it could have.
    for verdict in verdicts(request, catalog, ledger.release(request.key)):
        pairs = zip(claim.addresses, claim.pools, strict=True) if claim is not None else ()
        given = _listed(tuple(address for address, pool in pairs if pool == verdict.pool))
        yield evolve(verdict, detail=f"gave {given}") if given and verdict.reason is Reason.OK else verdict


@frozen(kw_only=True)
class AddressStory:
    """What is to be said of one address: the pool it lies in, who holds it, and what a Service that
    asked for it now would be told.
    """

    address: Address
    pool: str | None
    holders: tuple[ServiceKey, ...]
    verdict: PoolVerdict


def explain_address(state: AssignmentState, address: Address) -> AddressStory | None:
    """Who has an address, and could another Service have it; None before there is any configuration."""
    if state.catalog is None:
        return None
    asking = Request(key=ServiceKey("", ""), families=(address.family,), addresses=(address,))
    (verdict,) = verdicts(asking, state.catalog, state.ledger)
    owner = state.catalog.owner(address)
    return AddressStory(
        address=address,
        pool=owner.name if owner is not None else None,
        holders=state.ledger.holders(address),
        verdict=verdict,
    )
