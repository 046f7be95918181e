"""The queues against plain lists: order, repetition, gaps, and a sweep that meets every key once."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lbcore.worklist import Fifo, Worklist

letters = st.sampled_from("abcdef")


class FifoAgainstAList(RuleBasedStateMachine):
    """A queue is a list without repetition."""

    def __init__(self) -> None:
        super().__init__()
        self.real: Fifo[str] = Fifo()
        self.model: list[str] = []
        self.past: list[tuple[Fifo[str], list[str]]] = []

    @rule(key=letters)
    def push(self, key: str) -> None:
        self.past = [*self.past[-3:], (self.real, list(self.model))]
        if key in self.model:
            assert self.real is self.real.push(key)
        else:
            self.real = self.real.push(key)
            self.model.append(key)

    @rule(key=letters)
    def remove(self, key: str) -> None:
        self.past = [*self.past[-3:], (self.real, list(self.model))]
        if key in self.model:
            self.real = self.real.remove(key)
            self.model.remove(key)
        else:
            assert self.real is self.real.remove(key)

    @rule()
    def go_through_it_in_portions(self) -> None:
        found, place = [], 0
        while (portion := self.real.following(place)) is not None:
            found.append(portion[1])
            place = portion[0] + 1
        assert self.model == found

    @invariant()
    def it_is_the_list(self) -> None:
        for real, model in [(self.real, self.model), *self.past]:
            assert model == list(real)
            assert len(model) == len(real)
            assert next(iter(model), None) == real.first()
            assert [key in model for key in "abcdef"] == [key in real for key in "abcdef"]


TestFifo = FifoAgainstAList.TestCase
TestFifo.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class WorklistAgainstLists(RuleBasedStateMachine):
    """What is urgent comes first; a sweep looks at all that were known when it began, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.real: Worklist[str] = Worklist()
        self.urgent: list[str] = []
        self.known: list[str] = []
        self.to_sweep: list[str] = []

    @rule(key=letters)
    def touch(self, key: str) -> None:
        self.real = self.real.touch(key)
        self.urgent += [] if key in self.urgent else [key]
        self.known += [] if key in self.known else [key]

    @rule(key=letters)
    def enrol(self, key: str) -> None:
        self.real = self.real.enrol(key)
        self.known += [] if key in self.known else [key]

    @rule(key=letters)
    def strike(self, key: str) -> None:
        self.real = self.real.strike(key)
        for listed in (self.urgent, self.known, self.to_sweep):
            if key in listed:
                listed.remove(key)

    @rule()
    def sweep(self) -> None:
        self.real = self.real.sweep()
        self.to_sweep = list(self.known)

    @rule()
    def take(self) -> None:
        """The real one may pass over a gap with an empty hand, but only in a sweep."""
        expected = next(iter(self.urgent or self.to_sweep), None)
        key, self.real = self.real.take()
        for _ in range(1000):
            if key is not None or not self.real:
                break
            assert not self.urgent
            key, self.real = self.real.take()
        assert expected == key
        if self.urgent:
            self.urgent.pop(0)
        elif self.to_sweep:
            self.to_sweep.pop(0)

    @invariant()
    def what_is_known_is_known_in_order(self) -> None:
        assert self.known == list(self.real)
        if self.urgent or self.to_sweep:
            assert self.real

    def teardown(self) -> None:
        for _ in range(10_000):
            if not self.real:
                break
            _, self.real = self.real.take()
        assert (None, self.real) == self.real.take()


TestWorklist = WorklistAgainstLists.TestCase
TestWorklist.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
