"""The engine of one BFD session in asynchronous mode: states, timers, Poll sequences (RFC 5880 section 6.8).

No sockets and no addresses: who sent a packet is found out by `lbcore.adapters.bfd.engine`. Times in seconds on
the clock of `now`; on the wire and in `_micro` names they are microseconds.
"""

from __future__ import annotations

import random

from lbcore.adapters.bfd.packets import ControlPacket
from lbcore.bfd import BfdDiagnostic, BfdState, Watch, WatchStatus

__all__ = ["BfdSession"]

_SLOW = 1_000_000  # µs; a session that is not Up sends no faster (section 6.8.3)
_UNHEARD = 1  # µs, bfd.RemoteMinRxInterval before the peer has said anything (section 6.8.1)

# The local state after a packet, by what it was and what the packet says (section 6.8.6).
_AFTER: dict[BfdState, dict[BfdState, BfdState]] = {
    BfdState.DOWN: {
        BfdState.ADMIN_DOWN: BfdState.DOWN,
        BfdState.DOWN: BfdState.INIT,
        BfdState.INIT: BfdState.UP,
        BfdState.UP: BfdState.DOWN,
    },
    BfdState.INIT: {
        BfdState.ADMIN_DOWN: BfdState.DOWN,
        BfdState.DOWN: BfdState.INIT,
        BfdState.INIT: BfdState.UP,
        BfdState.UP: BfdState.UP,
    },
    BfdState.UP: {
        BfdState.ADMIN_DOWN: BfdState.DOWN,
        BfdState.DOWN: BfdState.DOWN,
        BfdState.INIT: BfdState.UP,
        BfdState.UP: BfdState.UP,
    },
}


class BfdSession:
    """One session. `start`, then `receive` what comes and `tick` at `deadline`; each returns the packets to send."""

    def __init__(self, watch: Watch, discriminator: int, rng: random.Random) -> None:
        self.discriminator = discriminator
        self._watch = watch
        self._rng = rng
        self._state = BfdState.DOWN
        self._diagnostic = BfdDiagnostic.NONE
        self._remote = BfdState.DOWN
        self._yours = 0
        self._remote_rx_micro = _UNHEARD
        self._remote_tx_micro = 0
        self._remote_multiplier = 0
        # What holds until the peer has confirmed a change by an F (section 6.8.3).
        self._pace_micro = max(watch.transmit_interval * 1000, _SLOW)
        self._allowed_micro = watch.receive_interval * 1000
        self._polling = False
        self._send_at: float | None = None
        self._heard_at: float | None = None
        self._failed = False
        self._ups = self._downs = self._received = self._sent = 0

    @property
    def watch(self) -> Watch:
        """What is wanted of this session."""
        return self._watch

    @property
    def deadline(self) -> float | None:
        """When `tick` is due; None while there is nothing to wait for."""
        return min((each for each in (self._send_at, self._silent_at) if each is not None), default=None)

    @property
    def status(self) -> WatchStatus:
        """How it is."""
        return WatchStatus(
            state=self._state,
            diagnostic=self._diagnostic,
            remote=self._remote,
            failed=self._failed,
            detection=self._detection_micro // 1000,
            ups=self._ups,
            downs=self._downs,
            received=self._received,
            sent=self._sent,
        )

    def start(self, now: float) -> list[ControlPacket]:
        """Begin: with a packet at once, unless it is for the peer to begin (section 6.1)."""
        self._schedule(now)
        return [] if self._is_quiet else [self._emit(now)]

    def change(self, watch: Watch, now: float) -> list[ControlPacket]:
        """Other intervals, another multiplier: told to the peer by a Poll sequence, and the session stays as it is."""
        before, self._watch = self._watch, watch
        if (before.transmit_interval, before.receive_interval) != (watch.transmit_interval, watch.receive_interval):
            self._poll()
        self._schedule(now)
        return [] if self._is_quiet else [self._emit(now)]

    def stop(self, now: float) -> list[ControlPacket]:
        """The last word: switched off, so that the peer takes it for no failure (section 6.8.16)."""
        self._state, self._diagnostic = BfdState.ADMIN_DOWN, BfdDiagnostic.ADMINISTRATIVELY_DOWN
        last = [self._emit(now)] if self._yours or not self._watch.passive else []
        self._send_at = self._heard_at = None
        return last

    def receive(self, packet: ControlPacket, now: float) -> list[ControlPacket]:
        """A packet of this session's peer, which the engine has found to be for us."""
        if self._state is BfdState.ADMIN_DOWN:
            return []
        self._received += 1
        self._heard_at = now
        self._yours, self._remote = packet.mine, packet.state
        self._remote_rx_micro, self._remote_tx_micro = packet.required_min_rx, packet.desired_min_tx
        self._remote_multiplier = packet.detect_multiplier
        if packet.final and self._polling:
            self._polling = False
            self._pace_micro, self._allowed_micro = self._desired_micro, self._required_micro
        before, after = self._state, _AFTER[self._state][packet.state]
        if after is not before:
            self._enter(after, BfdDiagnostic.NEIGHBOR_DOWN)
        self._schedule(now)
        outputs = []
        if packet.poll:
            outputs.append(self._emit(now, final=True))
        elif after is not before and not self._is_quiet:
            outputs.append(self._emit(now))
        return outputs

    def tick(self, now: float) -> list[ControlPacket]:
        """Whatever is due: a packet, or the end of patience with a silent peer."""
        outputs: list[ControlPacket] = []
        if self._silent_at is not None and now >= self._silent_at:
            self._heard_at, self._yours, self._remote = None, 0, BfdState.DOWN
            self._remote_rx_micro = _UNHEARD
            fell = self._state is not BfdState.DOWN
            if fell:
                self._enter(BfdState.DOWN, BfdDiagnostic.DETECTION_EXPIRED)
            self._schedule(now)
            if fell and not self._is_quiet:
                outputs.append(self._emit(now))
        if self._send_at is not None and now >= self._send_at and not outputs:
            outputs.append(self._emit(now))
        return outputs

    # Intervals

    @property
    def _desired_micro(self) -> int:
        """bfd.DesiredMinTxInterval: what we would like, which is slow unless the session is Up."""
        wanted = self._watch.transmit_interval * 1000
        return wanted if self._state is BfdState.UP else max(wanted, _SLOW)

    @property
    def _required_micro(self) -> int:
        """bfd.RequiredMinRxInterval."""
        return self._watch.receive_interval * 1000

    @property
    def _detection_micro(self) -> int:
        return self._remote_multiplier * max(self._allowed_micro, self._remote_tx_micro)

    @property
    def _silent_at(self) -> float | None:
        """When the peer has been silent for the detection time."""
        return None if self._heard_at is None else self._heard_at + self._detection_micro / 1e6

    @property
    def _is_quiet(self) -> bool:
        """Whether nothing is to be sent of our own accord (section 6.8.7)."""
        return (self._watch.passive and not self._yours) or not self._remote_rx_micro

    def _enter(self, state: BfdState, reason: BfdDiagnostic) -> None:
        was_up = self._state is BfdState.UP
        self._state = state
        if state is BfdState.UP:
            self._ups += 1
            self._diagnostic, self._failed = BfdDiagnostic.NONE, False
        elif state is BfdState.DOWN:
            self._diagnostic = reason
            self._downs += was_up
            # A peer that switches BFD off has not gone away (RFC 5882 section 4.2).
            self._failed |= was_up and self._remote is not BfdState.ADMIN_DOWN
        if was_up or state is BfdState.UP:
            self._poll()

    def _poll(self) -> None:
        """Our intervals have changed: ask for an F, and until it comes be no slower and no less patient than before."""
        settled = self._state is not BfdState.UP
        self._polling = not settled and bool(self._yours)
        self._pace_micro = self._desired_micro if settled else min(self._pace_micro, self._desired_micro)
        self._allowed_micro = self._required_micro if settled else max(self._allowed_micro, self._required_micro)

    def _schedule(self, now: float) -> None:
        """Count the next packet from the last one, sooner if the interval has become shorter, but not in the past.

        FRR expects the new pace as soon as both are Up; what was planned at the slow one would come too late.
        """
        if self._is_quiet or self._state is BfdState.ADMIN_DOWN:
            self._send_at = None
            return
        interval = max(self._pace_micro, self._remote_rx_micro) / 1e6
        # Section 6.8.7: up to a quarter early, and never less than a tenth where one lost packet is the end.
        jittered = interval * self._rng.uniform(0.75, 0.9 if self._watch.detect_multiplier == 1 else 1.0)
        planned = now + jittered
        self._send_at = planned if self._send_at is None else min(self._send_at, planned)

    def _emit(self, now: float, *, final: bool = False) -> ControlPacket:
        self._sent += 1
        if not final:  # an F goes out of turn (section 6.5)
            self._send_at = None
            self._schedule(now)
        return ControlPacket(
            state=self._state,
            diagnostic=self._diagnostic,
            poll=self._polling and not final,
            final=final,
            detect_multiplier=self._watch.detect_multiplier,
            mine=self.discriminator,
            yours=self._yours,
            desired_min_tx=self._desired_micro,
            required_min_rx=self._required_micro,
        )
