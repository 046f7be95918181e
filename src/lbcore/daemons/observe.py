"""What a daemon says about itself: one line for each thing that happened, as text or as JSON.

An observer sees the stream of events and intents; the core has no logger. Lines name the object,
the address, the node and the reason, in fields of their own, so that they can be searched.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from attrs import define, field

from lbcore.addresses import Address
from lbcore.config import Config
from lbcore.daemons.carrier import Observer
from lbcore.events import (
    AddressHeard,
    AnsweringSeen,
    Applied,
    Event,
    Failed,
    LeadershipSeen,
    LinksSeen,
    ManifestRefused,
    MembersSeen,
    PeerSeen,
    Stopping,
    WatchSeen,
)
from lbcore.intents import (
    AdvertiseRoute,
    Announce,
    AnnounceAnew,
    EventType,
    Intent,
    LoseSession,
    PublishIngress,
    RecordEvent,
    ReportConfig,
    SetAddresses,
    SetLinks,
    SetPresence,
    SetSessions,
    SetWatches,
    StandBy,
    Withdraw,
    WithdrawRoute,
)

__all__ = ["LEVELS", "Log", "Threshold", "configure_logging", "log_observer"]

Log = Any  # structlog's bound logger: its methods are made at run time


LEVELS: Mapping[str, int] = {
    "all": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "none": logging.CRITICAL,
}
"""The names of levels, MetalLB's among them; nothing is logged as critical, so that `none` is silence."""


@define
class Threshold:
    """From which level on lines are written; it may change while a daemon runs."""

    chosen: str
    _least: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reset()

    def lower(self) -> None:
        """Write everything from now on."""
        self._least = logging.DEBUG

    def reset(self) -> None:
        """Back to what the operator chose at the start."""
        self._least = LEVELS[self.chosen]

    def __call__(self, _log: Any, method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Let a line pass or drop it: the first of structlog's processors, so that what is dropped costs little."""
        if LEVELS[method] < self._least:
            raise structlog.DropEvent
        return line


def configure_logging(*, json: bool, level: str) -> Threshold:
    """Set up log lines on standard error, from one of `LEVELS` on; what comes back changes that later."""
    threshold = Threshold(level)
    # Fields in the order given, not sorted: what a line is about comes first.
    text: Any = structlog.dev.ConsoleRenderer(colors=_is_a_tty(), sort_keys=False)
    renderer: Any = structlog.processors.JSONRenderer() if json else text
    structlog.configure(
        processors=[
            threshold,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return threshold


def _is_a_tty() -> bool:
    return sys.stderr.isatty()


def log_observer(log: Log) -> Observer:
    """An observer that says what a brain saw that is out of the ordinary, and everything that it wants done."""
    return _Narrator(log).observe


@define
class _Narrator:
    """What must be remembered so that one line says one thing in full."""

    log: Log
    holders: dict[Address, str] = field(factory=dict)  # for which Service we announce an address
    heard: dict[tuple[Address, bytes], int] = field(factory=dict)  # how often a stranger spoke for an address
    failing: dict[type[Intent], dict[tuple[str, str], int]] = field(factory=dict)  # how often in a row, by subject
    troubled: dict[type[Intent], None] = field(factory=dict)  # of which it has been said
    yielding: set[Address] = field(factory=set)  # what is handed over
    next_in: set[Address] = field(factory=set)  # what another announces, and this node is next for
    stopping: bool = False

    def observe(self, event: Event | None, intents: Sequence[Intent]) -> None:
        self._say_event(event)
        waiting = {f"Service {intent.key}" for intent in intents if isinstance(intent, SetAddresses) and intent.refusal}
        # The brain says for whom it announces an address in an event of the same turn, and only there.
        records = [intent for intent in intents if isinstance(intent, RecordEvent)]
        about = {word: record.about.removeprefix("Service ") for record in records for word in record.message.split()}
        for intent in intents:
            match intent:
                case RecordEvent():
                    self._say_record(intent, said_already=intent.about in waiting)
                case Announce(address=address, yielding=True):
                    holder = self.holders.get(address, "")
                    self.yielding.add(address)
                    self.log.info("handing over", service=holder, ip=str(address), protocol="layer2")
                case Announce(address=address):
                    self.yielding.discard(address)
                    self.next_in.discard(address)
                    holder = about.get(str(address)) or self.holders.get(address, "")
                    self.holders[address] = holder
                    where = ",".join(intent.interfaces) or "all"
                    self.log.info("announcing", service=holder, ip=str(address), interfaces=where, protocol="layer2")
                case StandBy(address=address):
                    self.next_in.add(address)
                    if address in self.holders:
                        self._say_withdrawn(address)
                    self.log.debug("standing by", ip=str(address), node=intent.member, protocol="layer2")
                case Withdraw(address=address) if address in self.next_in:
                    self.next_in.discard(address)
                    self.log.debug("standing by no longer", ip=str(address), protocol="layer2")
                case Withdraw(address=address):
                    self._say_withdrawn(address)
                case _:
                    self._say_intent(intent)

    def _say_withdrawn(self, address: Address) -> None:
        holder = self.holders.pop(address, "")
        self.yielding.discard(address)
        self.log.info("withdrawing", service=holder, ip=str(address), protocol="layer2")
        self.heard = {pair: times for pair, times in self.heard.items() if pair[0] != address}

    def _say_event(self, event: Event | None) -> None:
        log = self.log
        match event:
            case Stopping():
                self.stopping = True
            case PeerSeen(peer, status) if status is not None:
                about = {"peer": peer, "state": status.state.value}
                log.debug("BGP session", **about, advertised=status.advertised, error=status.error)
            case WatchSeen(peer, seen) if seen is not None:
                log.debug("BFD session", peer=peer, state=seen.state.word, remote=seen.remote.word, downs=seen.downs)
            case ManifestRefused(problem):
                log.warning("manifest refused", problem=str(problem))
            case MembersSeen(names, waiting):
                waits = {"waiting": ",".join(sorted(waiting))} if waiting else {}
                log.info("members", **waits, names=",".join(sorted(names)))
            case LinksSeen(links):
                log.debug("links", names=",".join(link.name for link in links))
            case AnsweringSeen(answering):
                log.info("reflex process taken up", answering=len(answering))
            case AddressHeard():
                self._say_heard(event)
            case Failed(intent=intent, message=message, retry=False):
                self._say_done(intent)
                log.warning("not carried out", what="/".join(intent.subject), why=message, retry=False)
            case Failed(intent=intent, message=message):
                self._say_failed(intent, message)
            case Applied(intent=intent):
                self._say_done(intent)
            case LeadershipSeen(leading=False):
                self.failing.clear()  # what was wanted is forgotten
                self.troubled.clear()
            case _:
                pass

    def _say_failed(self, intent: Intent, message: str) -> None:
        """One line when the second try fails as well, for all that fail meanwhile: a right that is missing, or a
        server that is away, stops ten thousand writes, and each is tried again and again.
        """
        kind, what = type(intent), intent.subject
        failing = self.failing.setdefault(kind, {})
        failing[what] = failing.get(what, 0) + 1
        loud = failing[what] == 2 and kind not in self.troubled
        if loud:
            self.troubled[kind] = None
        say = self.log.warning if loud else self.log.debug
        say("not carried out", what="/".join(what), why=message, retry=True)

    def _say_done(self, intent: Intent) -> None:
        kind = type(intent)
        failing = self.failing.get(kind)
        if not failing or failing.pop(intent.subject, None) is None or failing:
            return
        if kind in self.troubled:
            del self.troubled[kind]
            self.log.info("carried out, with all that waited", what="/".join(intent.subject))

    def _say_heard(self, event: AddressHeard) -> None:
        """A node that takes over speaks once, and we withdraw; who speaks on while we answer is a rival."""
        fields = {"ip": str(event.address), "mac": event.mac.hex(":"), "interface": event.link}
        times = self.heard[event.address, event.mac] = self.heard.get((event.address, event.mac), 0) + 1
        if self.stopping or event.address in self.yielding:
            self.log.info("successor heard", **fields)
        elif times == 1:
            self.log.info("another station spoke for an address", **fields)
        elif times == 2:
            why = "two stations answer for it; find the one with this MAC"
            self.log.warning("another station keeps speaking for an address", **fields, why=why)

    def _say_intent(self, intent: Intent) -> None:
        log = self.log
        match intent:
            case SetAddresses():
                self._say_addresses(intent)
            case PublishIngress(key=key, addresses=addresses):
                log.info("ingress addresses", ingress=str(key), addresses=",".join(addresses) or "none")
            case ReportConfig(config=config, problems=problems) if problems:
                stays = ", the last good one stays in force" if config is not None else ""
                for problem in problems:
                    log.error(f"configuration refused{stays}", problem=str(problem))
                if config is None:
                    log.error("there is no configuration in force yet: nothing is assigned or announced")
            case ReportConfig(config=config) if config is not None:
                self._say_config(config)
            case AnnounceAnew():
                log.info("announcing anew what may have been another's while it was away", protocol="layer2")
            case SetPresence(present=present, why=why):
                log.info("candidate" if present else "no candidate", why=why)
            case SetSessions(peers):
                routers = ", ".join(f"{peer.name} ({peer.router})" for peer in peers)
                log.info("BGP peers", peers=routers or "none")
            case SetWatches(watches) if watches:
                log.info("watching by BFD", peers=", ".join(watch.peer for watch in watches))
            case LoseSession(peer, why):
                log.warning("BGP session ended, its path is lost", peer=peer, why=why)
            case AdvertiseRoute(prefix=prefix, offers=offers):
                log.info("advertising", prefix=str(prefix), peers=",".join(offer.peer for offer in offers))
            case WithdrawRoute(prefix):
                log.info("withdrawing", prefix=str(prefix), protocol="bgp")
            case SetLinks(links=links):
                log.info("answering on", interfaces=",".join(link.name for link in links) or "none")
            case _:
                pass

    def _say_addresses(self, intent: SetAddresses) -> None:
        fields = {"service": str(intent.key)}
        if intent.addresses:
            fields["ip"] = ",".join(str(address) for address in intent.addresses)
        if intent.refusal is not None:
            why = {"reason": intent.refusal.reason.value, "why": intent.refusal.detail}
            self.log.warning("service keeps its address" if intent.addresses else "service waits", **fields, **why)
        elif intent.addresses:
            self.log.info("service addresses", **fields, pool=intent.pool)
        else:
            self.log.info("service has no address any more", **fields)

    def _say_config(self, config: Config) -> None:
        for pool in config.pools:
            ranges = ",".join(str(each) for each in pool.ranges)
            self.log.info("configuration in force", object=str(pool.origin or pool.name), addresses=ranges)
        for advert in config.l2_advertisements:
            self.log.info("configuration in force", object=str(advert.origin or advert.name))
        if not config.pools:
            self.log.warning("configuration in force has no address pools")
        for peer in config.bgp_peers:
            self.log.info("configuration in force", object=str(peer.origin or peer.name), router=peer.router)

    def _say_record(self, intent: RecordEvent, *, said_already: bool) -> None:
        loud = intent.type is EventType.WARNING and not said_already
        say = self.log.warning if loud else self.log.debug
        kind, _, name = intent.about.partition(" ")
        about = {"service": name} if kind == "Service" else {"object": intent.about}
        say("event", **about, reason=intent.reason, message=intent.message)
