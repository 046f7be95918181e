"""The controller's brain: which Service has which address.

Level-triggered: an event only says what to look at again; what a Service should have is worked out
anew from the pools and the ledger, and only a difference becomes an intent. Nothing is decided
before everything that exists has been told (`Listed`), and then every address that is held is
claimed before a new one is given, so that a restart moves nobody.

A step looks at no more than `slice_size` Services; the rest stays in the state, and `wake_at` asks
for another turn, so that a pool edit under 100,000 Services keeps nothing else waiting.
"""

from __future__ import annotations

from lbcore.assignment.deciding import adopt, is_unfinished, look_at, offer
from lbcore.assignment.explaining import AddressStory, PendingReason, explain, explain_address
from lbcore.assignment.knowing import note, put_config_in_force
from lbcore.assignment.reporting import tell_usage, usage_of
from lbcore.assignment.state import NEEDS, AssignmentSettings, AssignmentState
from lbcore.assignment.turn import Turn
from lbcore.brain import Step
from lbcore.config import Configuration
from lbcore.events import Applied, Event, Failed
from lbcore.intents import SetAddresses

__all__ = [
    "NEEDS",
    "AddressStory",
    "AssignmentSettings",
    "AssignmentState",
    "PendingReason",
    "explain",
    "explain_address",
    "step",
    "usage_of",
]


def step(state: AssignmentState, event: Event, now: float) -> Step[AssignmentState]:
    """One event: what is known afterwards, and what is to be written.

    Intents: `SetAddresses`, `RecordEvent`, `SetPoolUsage`, `ReportConfig`. The same event twice
    yields no second intent. Never raises for anything a cluster can contain.
    """
    if _is_news_of_nothing(state, event):
        return Step(state=state, intents=(), wake_at=_wake_at(state, now))
    turn = Turn(state, now)
    note(turn, event)
    _work_on(turn)
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


def _work_on(turn: Turn) -> None:
    if turn.before.settings.elected and not turn.elected:
        return
    if not turn.listed >= NEEDS:
        return
    nothing_configured = turn.configuration == Configuration() and turn.config_due is None
    if nothing_configured or (turn.config_due is not None and turn.now >= turn.config_due):
        put_config_in_force(turn)
    if turn.catalog is None or turn.adopting is None:
        return
    budget = turn.before.settings.slice_size
    while budget > 0 and is_unfinished(turn):
        budget -= 1
        holder = turn.adopting.first()
        if holder is not None:
            turn.adopting = turn.adopting.remove(holder)
            adopt(turn, holder)
        elif (due := turn.keeping.due(turn.now)) is not None:
            look_at(turn, due)
        elif turn.chances:
            offer(turn, turn.chances.pop(0))
        elif turn.work:
            key, turn.work = turn.work.take()
            if key is not None and key not in turn.recalled:
                look_at(turn, key)
        elif (first := turn.recalled.first()) is not None:
            turn.recalled = turn.recalled.remove(first)
            look_at(turn, first)
    if not is_unfinished(turn):
        tell_usage(turn)
