"""A duration as Kubernetes writes it (`90s`, `1m30s`, `1.5h`) -> nanoseconds. Source: Go's time.ParseDuration."""

from __future__ import annotations

import re

__all__ = ["SECOND", "parse_duration"]

SECOND = 1_000_000_000

_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000}
_UNITS |= {"s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_PART = r"([0-9]{0,19})(?:\.([0-9]{0,40}))?(ns|us|µs|μs|ms|s|m|h)"  # both letters mu, as in Go
_WHOLE = re.compile(rf"([-+]?)((?:{_PART})+|0)")
_PARTS = re.compile(_PART)


def parse_duration(text: str) -> int:
    """The nanoseconds in a duration, fractions of one cut off.

    Raises `ValueError` with what to write for a text that is none, or longer than Go can hold (292 years).
    """
    whole = _WHOLE.fullmatch(text)
    parts = _PARTS.findall(text) if whole else []
    if whole is None or not all(number or fraction for number, fraction, _ in parts):
        raise ValueError(f"{text[:60]!r} is not a duration; write for example 90s, 1m30s or 2h")
    nanoseconds = sum(_nanoseconds(*part) for part in parts)
    if nanoseconds >= 1 << 63:
        raise ValueError(f"{text[:60]!r} is longer than 292 years; write a shorter one")
    return -nanoseconds if whole[1] == "-" else nanoseconds


def _nanoseconds(number: str, fraction: str, unit: str) -> int:
    scale: int = 10 ** len(fraction)
    return int(f"{number}{fraction}") * _UNITS[unit] // scale
