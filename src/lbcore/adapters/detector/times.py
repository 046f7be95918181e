"""The times of the detector, in seconds, and what follows from them."""

from __future__ import annotations

from attrs import frozen

__all__ = ["FAST", "SLOW", "Times"]


@frozen(kw_only=True)
class Times:
    """`interval` lies between two beats; after `doubt` without one a neighbour is asked, every `again`, and after
    `expiry` it is accused. `slack` is how late an observer may be called before it counts itself as
    late. Where not all observers vote, `patience` after the first accusation those that did decide. A vote
    counts for `memory`. `hold` is how long a member that was held for dead is no candidate, doubled for each
    time up to `longest`, forgotten after `calm` without one.
    """

    interval: float = 0.05
    doubt: float = 0.12
    again: float = 0.03
    expiry: float = 0.22
    slack: float = 0.02
    patience: float = 0.1
    memory: float = 0.5
    hold: float = 1.0
    longest: float = 60.0
    calm: float = 600.0


# Five beats may be lost and three questions and answers after them: at one loss in ten, one false accusation in
# some 10^7 beats, and it takes several observers to believe it.
FAST = Times()

# For isolation where memberlist alone says who lives: it asks one member a second.
SLOW = Times(interval=0.5, doubt=2.0, again=0.25, expiry=3.0, slack=0.2, patience=1.0)
