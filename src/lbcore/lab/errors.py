"""What can go wrong with a lab, as types: the machine does not allow one, or it was used wrongly."""

from __future__ import annotations

from lbcore.errors import LbcoreError

__all__ = ["LabError", "LabUnavailable", "UnsteadyError"]


class LabError(LbcoreError):
    """The lab could not do what it was asked; the message says what to do."""


class LabUnavailable(LabError):  # noqa: N818 - the state of a machine, not a mistake
    """The machine cannot have a lab as it is; the message is one line and names the cure."""


class UnsteadyError(LabError):
    """What was to answer again after a fault did not do so for long enough; the message says how long that is."""
