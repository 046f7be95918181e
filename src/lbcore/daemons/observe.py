"""What a daemon says about itself: one line for each thing that happened, as text or as JSON.

An observer sees the stream of events and intents; the core has no logger. Lines name the object,
the address, the node and the reason, in fields of their own, so that they can be searched.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import structlog

from lbcore.daemons.carrier import Observer
from lbcore.events import AddressHeard, AnsweringSeen, Event, Failed, LinksSeen, ManifestRefused, MembersSeen
from lbcore.intents import (
    Announce,
    EventType,
    Intent,
    RecordEvent,
    ReportConfig,
    SetAddresses,
    SetLinks,
    SetPresence,
    Withdraw,
)

__all__ = ["Log", "configure_logging", "log_observer"]

Log = Any  # structlog's bound logger: its methods are made at run time


def configure_logging(*, json: bool, level: str) -> None:
    """Set up log lines on standard error. `level`: debug, info, warning, error."""
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=_is_a_tty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _is_a_tty() -> bool:
    return sys.stderr.isatty()


def log_observer(log: Log) -> Observer:
    """An observer that says what a brain saw that is out of the ordinary, and everything that it wants done."""

    def observe(event: Event | None, intents: Sequence[Intent]) -> None:
        _say_event(log, event)
        for intent in intents:
            _say_intent(log, intent)

    return observe


def _say_event(log: Log, event: Event | None) -> None:
    match event:
        case ManifestRefused(problem):
            log.warning("manifest refused", problem=str(problem))
        case MembersSeen(names):
            log.info("members", names=",".join(sorted(names)))
        case LinksSeen(links):
            log.debug("links", names=",".join(link.name for link in links))
        case AnsweringSeen(answering):
            log.info("reflex process taken up", answering=len(answering))
        case AddressHeard(address=address, mac=mac, link=link):
            log.warning("another station speaks for an address", ip=str(address), mac=mac.hex(":"), interface=link)
        case Failed(intent=intent, message=message, retry=retry):
            log.warning("not carried out", what="/".join(intent.subject), why=message, retry=retry)
        case _:
            pass


def _say_intent(log: Log, intent: Intent) -> None:
    match intent:
        case SetAddresses(key=key, addresses=addresses, pool=pool_name, refusal=refusal):
            ips = ",".join(str(address) for address in addresses)
            if refusal is not None:
                log.warning("service waits", service=str(key), ip=ips, reason=refusal.reason.value, why=refusal.detail)
            else:
                log.info("service addresses", service=str(key), ip=ips, pool=pool_name)
        case ReportConfig(config=config, problems=problems) if problems:
            for problem in problems:
                log.error("configuration refused, the last good one stays in force", problem=str(problem))
            if config is None:
                log.error("there is no configuration in force yet: nothing is assigned or announced")
        case ReportConfig(config=config) if config is not None:
            for pool in config.pools:
                ranges = ",".join(str(each) for each in pool.ranges)
                log.info("configuration in force", object=str(pool.origin or pool.name), addresses=ranges)
            for advert in config.l2_advertisements:
                log.info("configuration in force", object=str(advert.origin or advert.name))
            if not config.pools:
                log.warning("configuration in force has no address pools")
        case Announce(address=address, interfaces=interfaces):
            log.info("announcing", ip=str(address), interfaces=",".join(interfaces) or "all", protocol="layer2")
        case Withdraw(address=address):
            log.info("withdrawing", ip=str(address), protocol="layer2")
        case SetPresence(present=present, why=why):
            log.info("candidate" if present else "no candidate", why=why)
        case SetLinks(links=links):
            log.info("answering on", interfaces=",".join(link.name for link in links) or "none")
        case RecordEvent(about=about, type=type_, reason=reason, message=message):
            say = log.warning if type_ is EventType.WARNING else log.debug
            say("event", object=about, reason=reason, message=message)
        case _:
            pass
