"""Who leads, by a Lease (coordination.k8s.io/v1): an engine that reads and writes one object and keeps the time.

The rules are those of Kubernetes' own leader election, read strictly. A Lease belongs to its holder until it has
not changed **as we see it** for as long as it says it lasts; times in it are other clocks' and are never compared.
Whoever leads counts from the moment at which its last renewal was *sent*, for less than that (`renew_deadline`):
so the old leader has given up before a new one can begin, as long as no clock runs faster than another by more
than the margin between the two (15 s against 10 s: a third). `now` is the time of a clock that goes on while the
machine sleeps (CLOCK_BOOTTIME): one that stood still would believe for ever.
"""

from __future__ import annotations

from random import Random

from attrs import evolve, frozen

__all__ = ["Leading", "LeaseEngine", "LeaseRecord", "LeaseTimes", "ReadLease", "WriteLease"]


@frozen(kw_only=True)
class LeaseTimes:
    """Seconds. `duration`: how long a Lease lasts without being renewed; `renew_deadline`: how long its holder
    believes in it; `retry_period`: between two attempts.
    """

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def __attrs_post_init__(self) -> None:
        if not 0 < self.retry_period < self.renew_deadline < self.duration:
            raise ValueError("a Lease needs retry_period < renew_deadline < duration")


@frozen(kw_only=True)
class LeaseRecord:
    """What a Lease says, and which version of it (`resourceVersion`) said so. `holder` is '' when it was given up."""

    holder: str
    duration: float
    transitions: int = 0
    version: str = ""


@frozen
class ReadLease:
    """Read the Lease; answer with `seen` or `failed`."""


@frozen
class WriteLease:
    """Write this: over the version that it names, or anew where that is ''. Answer with `written`, or with
    `failed` when somebody was faster or nothing was heard.
    """

    record: LeaseRecord


@frozen
class Leading:
    """From now on we lead, or no longer; `why` is for people."""

    leading: bool
    why: str


LeaseOutput = ReadLease | WriteLease | Leading


class LeaseEngine:
    """One candidate. At most one question is open at a time; `deadline` is when `tick` is due."""

    def __init__(self, identity: str, *, rng: Random, times: LeaseTimes | None = None) -> None:
        self.times = times or LeaseTimes()
        self._identity = identity
        self._rng = rng
        self._seen: LeaseRecord | None = None
        self._changed_at = 0.0
        self._leading_until: float | None = None
        self._asked_at: float | None = None  # when the open question was asked
        self._next_at = 0.0
        self._ending = False

    @property
    def holder(self) -> str:
        """Who held the Lease when it was last seen; '' for nobody."""
        return self._seen.holder if self._seen is not None else ""

    @property
    def deadline(self) -> float:
        """When `tick` is due: for the next attempt, or for the end of what we believe."""
        times = [] if self._asked_at is not None else [self._next_at]
        if self._leading_until is not None:
            times.append(self._leading_until)
        return min(times, default=float("inf"))

    def leads(self, now: float, margin: float = 0.0) -> bool:
        """Whether we lead now, and will for `margin` seconds more whatever happens."""
        return self._leading_until is not None and now + margin < self._leading_until

    def tick(self, now: float) -> list[LeaseOutput]:
        """Stop believing when it is time; try again when that is due."""
        outputs = self._give_up_late(now)
        if self._asked_at is None and now >= self._next_at and not self._ending:
            self._asked_at = now
            outputs.append(ReadLease() if self._leading_until is None or self._seen is None else self._renewal())
        return outputs

    def seen(self, record: LeaseRecord | None, now: float) -> list[LeaseOutput]:
        """The Lease was read; None when there is none."""
        self._asked_at = None
        outputs = self._give_up_late(now)
        self._note(record, now)
        if self._ending or not self._is_free(now):
            self._pause(now)
            return outputs
        self._asked_at = now
        return [*outputs, self._renewal()]

    def written(self, version: str, now: float) -> list[LeaseOutput]:
        """Our write was taken, and made this version."""
        sent = self._asked_at if self._asked_at is not None else now
        self._asked_at = None
        self._pause(now)
        if self._ending:
            return []
        before = self._seen
        changes = before is not None and before.holder != self._identity
        transitions = (before.transitions if before is not None else 0) + (1 if changes else 0)
        self._note(evolve(self._ours(), version=version, transitions=transitions), now)
        until = sent + self.times.renew_deadline
        outputs = self._give_up_late(now)
        if until <= now:
            return outputs  # the answer came too late to be worth anything
        began = self._leading_until is None
        self._leading_until = until
        return [*outputs, Leading(True, "the Lease is ours")] if began else outputs

    def failed(self, now: float) -> list[LeaseOutput]:
        """The open question was not answered, or our write was refused. It may have been taken all the same."""
        self._asked_at = None
        self._pause(now)
        # Read before the next write: whoever was faster is seen then.
        return self._give_up_late(now)

    def refused(self, now: float) -> list[LeaseOutput]:
        """Somebody else has written the Lease since we read it: what we believe is worth nothing any more."""
        outputs = self.failed(now)
        self._seen = None
        if self._leading_until is not None:
            self._leading_until = None
            outputs.append(Leading(False, "somebody else has written the Lease"))
        self._next_at = now
        return outputs

    def release(self, now: float) -> list[LeaseOutput]:
        """We end: no longer lead, and say so, so that the next one need not wait."""
        led = self.leads(now)
        self._ending, self._leading_until = True, None
        if not led or self._seen is None:
            return []
        return [Leading(False, "ending"), WriteLease(evolve(self._seen, holder=""))]

    def _give_up_late(self, now: float) -> list[LeaseOutput]:
        if self._leading_until is None or now < self._leading_until:
            return []
        self._leading_until = None
        return [Leading(False, f"the Lease could not be renewed for {self.times.renew_deadline:g} s")]

    def _note(self, record: LeaseRecord | None, now: float) -> None:
        if record is None or self._seen is None or record.version != self._seen.version:
            self._changed_at = now
        self._seen = record

    def _is_free(self, now: float) -> bool:
        """Whether we may write: it is ours, nobody's, or has not changed for as long as it lasts."""
        record = self._seen
        return record is None or record.holder in ("", self._identity) or now >= self._ends_at(record)

    def _ends_at(self, record: LeaseRecord) -> float:
        """When another's Lease ends if it is not renewed."""
        # The longer of the two: an older version of us may have been given other times.
        return self._changed_at + max(record.duration, self.times.duration)

    def _ours(self) -> LeaseRecord:
        return LeaseRecord(holder=self._identity, duration=self.times.duration)

    def _renewal(self) -> WriteLease:
        before = self._seen
        if before is None:
            return WriteLease(self._ours())
        changes = before.holder != self._identity
        return WriteLease(
            evolve(self._ours(), version=before.version, transitions=before.transitions + (1 if changes else 0))
        )

    def _pause(self, now: float) -> None:
        # Up to a fifth later, so that candidates do not ask in step.
        self._next_at = now + self.times.retry_period * (1 + self._rng.random() / 5)
        record = self._seen
        if record is None or record.holder in ("", self._identity):
            return
        # Whoever follows looks when there may be something to take, not up to an attempt later. Candidates that ask
        # in the same moment do no harm: one write is taken, the others are refused.
        ends_at = self._ends_at(record)
        if now < ends_at < self._next_at:
            self._next_at = ends_at
