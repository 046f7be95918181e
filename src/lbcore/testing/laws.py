"""Laws that hold of every cluster at rest, judged by what Services show; and the judge that applies laws.

Your own laws stand beside these: any function of a `Moment` that raises `AssertionError`.
"""

from __future__ import annotations

from itertools import combinations

from lbcore.assignment import AssignmentSettings
from lbcore.model import Service
from lbcore.pools import permits
from lbcore.requests import Request, read_request
from lbcore.testing.histories import History
from lbcore.testing.replay import Law, Moment, replay
from lbcore.verdicts import Reason, Refusal

__all__ = ["ALWAYS", "check_history", "each_in_a_pool_that_serves_it", "nobody_waits_in_vain", "shared_by_consent"]


def shared_by_consent(moment: Moment) -> None:
    """Where Services show one address, they share it: the same key and terms, and no port of both."""
    for address, keys in moment.held.items():
        for one, other in combinations((moment.services[key] for key in keys), 2):
            assert _share(one, other), f"{one.key} and {other.key} both show {address}"


def _share(one: Service, other: Service) -> bool:
    first, second = read_request(one), read_request(other)
    if not isinstance(first, Request) or not isinstance(second, Request):
        return True  # what a request that makes no sense may keep is not for the request to say
    return first.sharing is not None and first.sharing == second.sharing and not set(first.ports) & set(second.ports)


def each_in_a_pool_that_serves_it(moment: Moment) -> None:
    """Every address shown lies in a pool of the configuration in force that is for this Service."""
    for service in moment.served:
        request = read_request(service)
        for address in service.held:
            pool = next((each for each in (moment.config.pools if moment.config else ()) if address in each), None)
            assert pool is not None, f"{service.key} shows {address}, which is in no pool"
            if isinstance(request, Request):
                verdict = permits(pool, request, moment.state.namespaces)
                assert verdict.reason is Reason.OK, f"{service.key} shows {address}: {verdict.detail}"


def nobody_waits_in_vain(moment: Moment) -> None:
    """Nobody goes without an address that a new Service of the same wishes would be granted now."""
    if moment.config is None:
        return
    for service in moment.served:
        if not service.held:
            granted = moment.would_grant(service)
            assert isinstance(granted, Refusal), f"{service.key} waits, and could have {granted}"


ALWAYS: tuple[Law, ...] = (shared_by_consent, each_in_a_pool_that_serves_it, nobody_waits_in_vain)
"""What `check_history` always checks."""


def check_history(history: History, *laws: Law, settings: AssignmentSettings | None = None) -> Moment:
    """Live through a history, and apply `laws`, and those that always hold, to each moment; returns the last.

    Raises `AssertionError` at the first moment that breaks one, with the burst in a note.
    """
    last = None
    for moment in replay(history, settings):
        for law in (*ALWAYS, *laws):
            try:
                law(moment)
            except AssertionError as error:
                error.add_note(f"after burst {moment.number}: {', '.join(map(str, moment.changes))}")
                raise
        last = moment
    if last is None:
        raise ValueError("a history has at least one burst")
    return last
