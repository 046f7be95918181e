"""What a snippet may ask for: a closed list, each with the types of its arguments."""

from __future__ import annotations

from attrs import frozen

from lbcore.proxy.words import Template

__all__ = ["Comparison", "Return", "Reworded", "Snippet", "Step"]


@frozen(kw_only=True)
class Comparison:
    """A variable of the request that equals a text, matches a pattern, or (with neither) is neither empty nor 0."""

    variable: str
    equals: str | None = None
    matches: str | None = None
    negated: bool = False


@frozen(kw_only=True)
class Return:
    """An answer of the proxy's own: a code, and where to (3xx) or a text."""

    code: int
    text: Template | None = None


@frozen(kw_only=True)
class Reworded:
    """A redirect to what a path is rewritten to, where it matches."""

    pattern: str
    to: Template
    permanent: bool


@frozen(kw_only=True)
class Step:
    """What ends a request early, and when."""

    what: Return | Reworded
    when: Comparison | None = None


@frozen(kw_only=True)
class Snippet:
    """What a `configuration-snippet` asks for, as far as it is in the closed list.

    `answered` are headers of answers (name, value, of every status), `hidden` those of the backend that are left
    out, `sent` those of the request to it.
    """

    steps: tuple[Step, ...] = ()
    answered: tuple[tuple[str, Template, bool], ...] = ()
    hidden: tuple[str, ...] = ()
    sent: tuple[tuple[str, Template], ...] = ()
    cookie_path: tuple[str, str] | None = None
    gzip: bool | None = None
