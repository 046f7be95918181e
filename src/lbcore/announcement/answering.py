"""Layer 2: which addresses this node answers for, and how it takes up, hands over and lets go of one."""

from __future__ import annotations

from immutables import Map

from lbcore.addresses import Address
from lbcore.announcement.state import number
from lbcore.announcement.turn import Turn
from lbcore.handover import HandOver
from lbcore.intents import Announce, AnnounceAnew, EventType, RecordEvent, SetLinks, SetPresence, StandBy, Withdraw
from lbcore.model import Service, ServiceKey

__all__ = [
    "announce_anew", "be_next", "others_of", "see_answering", "set_links", "set_presence", "show", "want", "withdraw",
    "withdraw_orphans",
]  # fmt: skip


def want(
    turn: Turn, service: Service, address: Address, interfaces: tuple[str, ...] | None, *, moved: bool = False
) -> None:
    """One Service wants (or no longer wants) this node to announce an address; `moved`: another is to."""
    wanted, key = turn.state.wanted, service.key
    by = wanted.get(address, Map[ServiceKey, tuple[str, ...]]())
    if by.get(key) == interfaces:
        if address in turn.state.handing_over and not moved:
            show(turn, address)  # nobody is to take it over any more
        return
    if interfaces is not None:
        turn.change(wanted=wanted.set(address, by.set(key, interfaces)))
        _tell(turn, service, address, interfaces)
    else:
        rest = by.delete(key)
        turn.change(wanted=wanted.set(address, rest) if rest else wanted.delete(address))
    show(turn, address, moved=moved)


def show(turn: Turn, address: Address, *, moved: bool = False) -> None:
    """Announce, hand over or withdraw, if that is a change."""
    by = turn.state.wanted.get(address)
    if by is None:
        if moved and _may_hand_over(turn):
            _hand_over(turn, address)
        elif turn.state.stop_at is None or turn.now >= turn.state.stop_at or not others_of(turn):
            withdraw(turn, address)
        _stand_by(turn, address)
        return
    # Several Services on one address: answer wherever one of them wants it; empty means everywhere.
    sets = list(by.values())
    interfaces = () if not all(sets) else tuple(sorted({name for names in sets for name in names}))
    if turn.state.stop_at is not None and address not in turn.state.announced:
        return  # who leaves takes up nothing new
    if turn.state.announced.get(address) != interfaces or address in turn.state.handing_over:
        taken = turn.state.handing_over.end(address)
        turn.change(announced=turn.state.announced.set(address, interfaces), handing_over=taken)
        if address in turn.state.standing_by:
            turn.change(standing_by=turn.state.standing_by.delete(address))
        turn.intents.append(Announce(address=address, interfaces=interfaces))


def others_of(turn: Turn) -> frozenset[str]:
    """The members besides this node; who waits takes over as well, when there is nobody else."""
    return (turn.state.members | turn.state.waiting) - {turn.state.settings.node}


def _may_hand_over(turn: Turn) -> bool:
    """Whether this is a planned move: the others know that we live, or see us leave in order."""
    state = turn.state
    stopping = state.stop_at is not None and turn.now < state.stop_at
    return bool(others_of(turn)) and (stopping or (state.stop_at is None and state.settings.node in state.members))


def _hand_over(turn: Turn, address: Address) -> None:
    """Go on answering for what is another's, until it is heard or the time is over."""
    if address not in turn.state.announced or address in turn.state.handing_over:
        return
    stop_at = turn.state.stop_at
    until = stop_at if stop_at is not None else turn.now + turn.state.settings.hand_over
    if until <= turn.now:
        withdraw(turn, address)
        return
    turn.change(handing_over=turn.state.handing_over.begin(address, until))
    interfaces = turn.state.announced[address]
    turn.intents.append(Announce(address=address, interfaces=interfaces, yielding=True))


def withdraw(turn: Turn, address: Address) -> None:
    """Stop answering for an address, if that is done."""
    if address in turn.state.announced:
        turn.change(handing_over=turn.state.handing_over.end(address))
        turn.change(announced=turn.state.announced.delete(address))
        if address in turn.state.next_in and turn.state.stop_at is None:
            _stand_by(turn, address)
        else:
            turn.intents.append(Withdraw(address=address))


def be_next(turn: Turn, address: Address, stand_by: StandBy | None) -> None:
    """Be the one that takes an address over when who announces it goes, or (None) be it no longer."""
    next_in = turn.state.next_in
    if next_in.get(address) != stand_by:
        turn.change(next_in=next_in.delete(address) if stand_by is None else next_in.set(address, stand_by))
    _stand_by(turn, address)


def _stand_by(turn: Turn, address: Address) -> None:
    """Tell who answers what it is to take over; of what it answers for, it is told when it lets go of that."""
    state = turn.state
    wanted, told = state.next_in.get(address), state.standing_by.get(address)
    if wanted == told or address in state.announced or state.stop_at is not None:
        return
    if wanted is not None:
        turn.change(standing_by=state.standing_by.set(address, wanted))
        turn.intents.append(wanted)
    else:
        turn.change(standing_by=state.standing_by.delete(address))
        turn.intents.append(Withdraw(address=address))


def withdraw_orphans(turn: Turn) -> None:
    """What a process that we found running answers for, though nobody wants it."""
    turn.change(orphans=False)
    orphans = [address for address in turn.state.announced if address not in turn.state.wanted]
    for address in sorted(orphans, key=number):
        show(turn, address)


def see_answering(turn: Turn, answering: tuple[tuple[Address, tuple[str, ...]], ...]) -> None:
    """A process that answers was taken up: what it does is what is announced, whatever we had told another."""
    unshown = tuple(sorted({*turn.state.wanted, *turn.state.next_in}, key=number))
    turn.change(announced=Map(answering), taken_up=True, unshown=unshown, handing_over=HandOver())
    turn.change(standing_by=Map())
    turn.change(sent_links=None, sent_peers=(), present=None, orphans=True)
    turn.change(sent_watches=(), peers_due=turn.state.peers_due or bool(turn.state.sent_watches))


def _tell(turn: Turn, service: Service, address: Address, interfaces: tuple[str, ...]) -> None:
    about, node = f"Service {service.key}", turn.state.settings.node
    names = {link.name for link in turn.state.links}
    if interfaces and not names.intersection(interfaces):
        text = (
            f"node {node} is to announce {address} on {', '.join(interfaces)}, and has no such usable interface; "
            "correct the interfaces of the L2Advertisement, or its nodeSelectors"
        )
        turn.intents.append(RecordEvent(about=about, type=EventType.WARNING, reason="announceFailed", message=text))
        return
    text = f"announcing {address} from node {node} with protocol layer2"
    turn.intents.append(RecordEvent(about=about, type=EventType.NORMAL, reason="nodeAssigned", message=text))


def announce_anew(turn: Turn) -> None:
    """Somebody who was held for dead is back: clients near it may believe what it announced meanwhile.

    Once it is seen what of that stays ours; who has nothing to announce, or leaves, has nothing to say.
    """
    state = turn.state
    if not state.anew or state.unfinished:
        return
    turn.change(anew=False)
    if state.taken_up and state.stop_at is None and any(each in state.wanted for each in state.announced):
        turn.intents.append(AnnounceAnew(state.reunions))


def set_links(turn: Turn) -> None:
    """Tell the answering process which links may be used, if that is a change."""
    if turn.state.sent_links != turn.state.links:
        turn.change(sent_links=turn.state.links)
        turn.intents.append(SetLinks(links=turn.state.links))


def set_presence(turn: Turn) -> None:
    """Be a candidate while somebody could hear us, and nobody has asked us to go."""
    stopping, heard = turn.state.stop_at is not None, bool(turn.state.links)
    present = heard and not stopping
    if present == turn.state.present:
        return
    turn.change(present=present)
    why = "it can be heard" if present else "it is stopping" if stopping else "no usable link has a carrier"
    turn.intents.append(SetPresence(present=present, why=why))
