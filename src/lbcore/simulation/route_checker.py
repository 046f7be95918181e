"""The judge of what routers learn: whether it is what their nodes are to tell, and gone when these are.

It shares no code with the core, as `checker`: it reads what routers have heard (`rib`), works out what they should
have (`route_oracle`), and knows what was done to machines and ways (`contacts`). Its bounds, in seconds, are sums of
the stated times of the engines: a router's hold time, the longest pause between two attempts to connect, and so on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from lbcore.simulation.contacts import Contact, Contacts
from lbcore.simulation.oracle import Cluster, Document, is_drained, name_of
from lbcore.simulation.rib import Rib, Route
from lbcore.simulation.route_oracle import GRACEFUL_SHUTDOWN, End, Plan, RouterFacts, peer_of

__all__ = ["SLOWEST", "RouteChecker", "SessionFacts"]

ROUTE_REACTION = 3.0  # from a change in the cluster to a route at a router, in fair weather
PEER_REACTION = 15.0  # until another session stands in the place of one: an attempt too early waits for connectTime
DRAIN_TIME = 10.0  # that routers are given before a drained node withdraws
RESTART_TIME = 120.0  # that a router keeps the routes of a speaker that restarts
LONGEST_PAUSE = 37.5  # between two attempts: 30, give or take a quarter
CONNECT_WAIT = 10.0  # for a connection to come about
OPEN_WAIT = 30.0  # for an OPEN that does not come
MARGIN = 2.0
WINDOW = 60.0
ATTEMPTS = 8  # in WINDOW: pauses of 1, 2, 4, 8, 16, 30, each a quarter less
HOLD_TIME = 90  # the longest that is negotiated
# After which any session is up whose ends can talk: the other end may believe in a connection that is none.
SLOWEST = max(HOLD_TIME, OPEN_WAIT) + CONNECT_WAIT + LONGEST_PAUSE + MARGIN
_ROUTED = ("bgppeers", "bgpadvertisements", "bfdprofiles", "communities")


class SessionFacts(Protocol):
    """A router's end of a session."""

    @property
    def rib(self) -> Rib:
        """What it has learnt."""
        ...

    @property
    def up(self) -> bool:
        """Whether it is established."""
        ...

    @property
    def keeps(self) -> bool:
        """Whether its routes outlive it for a while."""
        ...

    @property
    def stale_since(self) -> float | None:
        """Since when they do."""
        ...

    @property
    def hold_time(self) -> int:
        """As it was negotiated, in seconds."""
        ...

    def detection(self) -> float | None:
        """Seconds of silence after which BFD says that it is lost; None when it is not watched."""
        ...


class Health(Protocol):
    """What was done to the machines."""

    lossy_at: float

    @property
    def members(self) -> Iterable[str]:
        """The nodes whose records are kept alive."""
        ...

    def healthy_since(self, node: str) -> float | None:
        """Since when nothing has been wrong with a node; None while something is."""
        ...


class RouteChecker:
    """Watches one history. Told what happens by `changed`, `dialed`, `parted` and as a router's hearer."""

    def __init__(
        self,
        now: Callable[[], float],
        after: Callable[..., None],
        cluster: Callable[[], Cluster | None],
        health: Health,
        complain: Callable[[str, str], None],
    ) -> None:
        self._now = now
        self._after = after
        self._cluster = cluster
        self._health = health
        self._complain = complain
        self.contacts: Contacts | None = None
        self.routers: dict[str, RouterFacts] = {}
        self.sessions: dict[tuple[str, str, int], SessionFacts] = {}  # by router, node, version
        self.ends: dict[tuple[str, int], End] = {}
        self._resources: dict[str, dict[str, Document]] = {resource: {} for resource in _ROUTED}
        self._touched = 0.0  # when anything was last changed, but for a drain
        self._touched_peers: dict[str, float] = {}
        self._touched_nodes: dict[str, float] = {}
        self._drained_since: dict[str, float] = {}
        self._unsound_at: float | None = None
        self._sound_since = 0.0
        self._attempts: dict[tuple[str, str, int], deque[float]] = {}
        self._still: dict[tuple[str, str, int], None] = {}  # sessions whose routers are to notice nothing
        self._falls = 0
        self.judged = 0  # sessions that were compared, route by route

    # What happens

    def changed(self, resource: str, before: Document | None, after: Document | None, _who: str) -> None:
        """An object was created, changed or deleted."""
        now, name = self._now(), name_of(after or before or {})
        if resource in _ROUTED:
            if after is None:
                del self._resources[resource][name]
            else:
                self._resources[resource][name] = after
        if resource == "bgppeers":
            for document in (before, after):
                if document is not None:
                    self._touched_peers[document["spec"]["peerAddress"]] = now
        if resource == "nodes":
            drains = [document is not None and is_drained(document) for document in (before, after)]
            if drains == [False, True]:
                self._drained_since[name] = now
                return
            if drains[0] and not drains[1]:
                self._drained_since.pop(name, None)
            self._touched_nodes[name] = now
        self._touched = now
        self._note_soundness()

    def _note_soundness(self) -> None:
        """What was changed while the configuration was broken counts from when it is mended."""
        if self._cluster() is None:
            self._unsound_at = self._now()
        elif self._unsound_at is not None:
            self._sound_since, self._unsound_at = self._now(), None

    def dialed(self, node: str, peer: str, number: int, pause: int | None) -> None:
        """A node tries to connect, in the `number`th of its sessions; `pause`: as it is told by connectTime."""
        now = self._now()
        times = self._attempts.setdefault((node, peer, number), deque())
        times.append(now)
        while times[0] < now - WINDOW:
            times.popleft()
        if len(times) > (WINDOW / (0.75 * pause) + 2 if pause else ATTEMPTS):
            self._complain("no peer is asked again and again", f"{node} tried {peer} {len(times)} times in a minute")
            times.clear()

    def withdrawn(self, router: str, node: str, version: int, prefix: str, route: Route) -> None:
        """A route was taken back in a session that goes on, or not told again in one that came back."""
        if (router, node, version) in self._still:
            self._complain("a planned restart moves nothing", f"{node} took {prefix} back from {router}")
        drained, healthy = self._drained_since.get(node), self._health.healthy_since(node)
        since = max(self._touched, healthy or 0.0, self._sound_since)
        cluster = self._cluster()
        if (
            route.stale
            or drained is None
            or healthy is None
            or cluster is None
            or self._now() - since <= ROUTE_REACTION
        ):
            return
        marked = GRACEFUL_SHUTDOWN in route.communities or route.local_pref == 0
        could = self._plan(cluster).told(self.ends[node, version], self.routers[router], spared=False)
        if prefix in could and not marked:
            self._complain("a drain is told before it is done", f"{node} took {prefix} {route} back from {router}")

    def fell(self, _router: str, _node: str, _version: int) -> None:
        """A session that was up has ended."""
        self._falls += 1

    def lost(self, router: str, node: str, version: int, count: int) -> None:
        """A session's routes went without being taken back."""
        if (router, node, version) in self._still:
            self._complain("a planned restart moves nothing", f"{router} lost {count} routes of {node}")

    def parted(self, contact: Contact) -> None:
        """A node and a router can talk no more."""
        for (router, node, version), session in self.sessions.items():
            if (router, node) == (contact.router, contact.node) and session.rib.routes:
                detection = session.detection() if not contact.linked else None
                limit = session.hold_time if detection is None else detection
                key, since = (router, node, version), contact.since
                self._after(limit + MARGIN, self._look_whether_gone, key, contact, since, limit)

    def _look_whether_gone(self, key: tuple[str, str, int], contact: Contact, since: float, limit: float) -> None:
        session, now = self.sessions[key], self._now()
        if contact.joined or contact.since != since or not session.rib.routes:
            return
        if not contact.running or now - contact.running_since <= limit:  # it stood still itself
            self._after(limit + MARGIN, self._look_whether_gone, key, contact, since, limit)
        elif session.stale_since is not None and now <= session.stale_since + RESTART_TIME + MARGIN:
            self._after(RESTART_TIME, self._look_whether_gone, key, contact, since, limit)
        else:
            text = f"{key[0]} has {len(session.rib.routes)} routes of {key[1]}, gone {now - since:.1f} s ago"
            self._complain("no router keeps the routes of who is gone", f"{text}; {limit:.1f} s were enough")

    # What is judged

    def expect_stillness(self, node: str | None) -> None:
        """A node's speaker is being restarted in order: routers that keep its routes are to notice nothing.

        That of a drained node is another matter: a speaker that starts as one does not wait until it withdraws.
        """
        sessions = self.sessions.items() if node not in self._drained_since else ()
        self._still = {key: None for key, session in sessions if key[1] == node and session.up and session.keeps}

    def end_stillness(self) -> None:
        """It has restarted."""
        self._still = {}

    def begin_quiet(self) -> None:
        """From now on nothing happens."""
        self._falls = 0

    def end_quiet(self) -> None:
        """No session may have fallen."""
        if self._falls:
            self._complain("quiet when settled", f"{self._falls} sessions with routers fell while all was settled")

    def settled(self) -> None:
        """Judge every session that has had its time."""
        cluster = self._cluster()
        touched = max(self._touched, *self._drained_since.values(), 0.0)
        if cluster is None or self._now() - touched <= ROUTE_REACTION:
            return
        plan = self._plan(cluster)
        for key, session in self.sessions.items():
            if self._has_had_its_time(key, session):
                self._judge(plan, cluster, key, session)

    def _has_had_its_time(self, key: tuple[str, str, int], session: SessionFacts) -> bool:
        router, node, version = key
        assert self.contacts is not None
        contact, now = self.contacts.pairs[node, router], self._now()
        touched = self._touched_peers.get(self.routers[router].addresses[version], 0.0)
        touched = max(touched, self._touched_nodes.get(node, 0.0), self._sound_since)
        calm = max(contact.since, self._health.lossy_at)
        return contact.joined and now - calm > SLOWEST and now - touched > PEER_REACTION

    def _judge(self, plan: Plan, cluster: Cluster, key: tuple[str, str, int], session: SessionFacts) -> None:
        router, node, version = key
        facts, end = self.routers[router], self.ends[node, version]
        document = cluster.nodes.get(node, {"metadata": {"name": node}})  # without a Node there are no labels
        wanted = peer_of(self._resources["bgppeers"].values(), facts, document, version) is not None
        if wanted is not session.up:
            state = "has no session" if wanted else "has a session that nobody asks for"
            self._complain("a session is up when both ends can talk", f"{node} {state} with {router} over IPv{version}")
            return
        self.judged += 1
        allowed = [plan.told(end, facts, spared=spared) for spared in self._ways(node)]
        if session.rib.routes not in allowed:
            text = " or ".join(_differences(session.rib.routes, each) for each in allowed)
            self._complain("a router knows what its node is to tell", f"{router} of {node} over IPv{version}: {text}")

    def _ways(self, node: str) -> tuple[bool, ...]:
        """How a drained node may count itself just now: as one that has its time still, or as one that had it."""
        since = self._drained_since.get(node)
        if since is None:
            return (True,)  # the same
        return (True,) if self._now() - since > DRAIN_TIME + ROUTE_REACTION else (True, False)

    def _plan(self, cluster: Cluster) -> Plan:
        return Plan(cluster, self._resources, self._health.members)


def _differences(found: dict[str, Route], wanted: dict[str, Route]) -> str:
    return ", ".join(list(_each_difference(found, wanted))[:3])


def _each_difference(found: dict[str, Route], wanted: dict[str, Route]) -> Iterator[str]:
    for prefix in sorted({**found, **wanted}):
        if prefix not in found:
            yield f"{prefix} is missing"
        elif prefix not in wanted:
            yield f"{prefix} is too much"
        elif found[prefix] != wanted[prefix]:
            stale = ", stale," if found[prefix].stale else ""
            yield f"{prefix} is {found[prefix]}{stale} and should be {wanted[prefix]}"
