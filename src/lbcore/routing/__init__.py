"""The Ingress brain: objects -> `RoutingTable`, host by host.

An event names what may have changed; the hosts that looked at it are built anew, at most 100 in a step, and the
table goes out when none is left and everything has been listed once. A host that comes out the same is the same object.
No host looks at endpoints: what they change are the upstreams of their Service (`backing`).
"""

from __future__ import annotations

from attrs import evolve

from lbcore import streams
from lbcore.brain import Step
from lbcore.events import Event, Stopping
from lbcore.intents import Intent, PublishIngress, RecordEvent, ServeRoutes
from lbcore.publishing import clear, hear, publish
from lbcore.routing.building import build_some, build_streams
from lbcore.routing.hosting import hosts_of, why_not_served
from lbcore.routing.knowing import note
from lbcore.routing.state import NEEDS, RoutingSettings, RoutingState, needs

__all__ = ["NEEDS", "RoutingSettings", "RoutingState", "hosts_of", "needs", "step", "why_not_served"]


def step(state: RoutingState, event: Event, now: float) -> Step[RoutingState]:
    """What one event changes; `now` is looked at for when statuses are to be compared again."""
    publishing, heard = hear(state.publishing, event), streams.hear(state.streams, event)
    if publishing is not state.publishing or heard is not state.streams:
        state = evolve(state, publishing=publishing, streams=heard)
    state, said = note(state, event)
    state, more = build_some(state)
    state, about_streams = build_streams(state)
    if state.table.upstreams is not state.backing.upstreams:
        state = evolve(state, table=evolve(state.table, upstreams=state.backing.upstreams))
    intents: list[Intent] = [*said, *more, *about_streams]
    if not state.publishing.leads:  # who leads tells users; what is served is everybody's own
        intents = [each for each in intents if not isinstance(each, RecordEvent)]
    wake_at = now if state.dirty and not state.missing else None
    if state.settled:
        if state.table != state.sent:
            state = evolve(state, sent=state.table)
            intents.append(ServeRoutes(table=state.table))
        state, statuses, wake_at = _publish(state, event, now)
        intents += statuses
    return Step(state=state, intents=tuple(intents), wake_at=wake_at)


def _publish(state: RoutingState, event: Event, now: float) -> tuple[RoutingState, list[PublishIngress], float | None]:
    """Whose status is to be written."""
    if isinstance(event, Stopping):
        return state, clear(state.publishing, state.entries), None
    publishing, intents, wake_at = publish(state.publishing, state.entries, now)
    state = state if publishing is state.publishing else evolve(state, publishing=publishing)
    return state, intents, wake_at
