"""What an address costs: finding, taking, refusing and giving back, up to a million holders.

Holders get their addresses through `allocate` and `claim`, as in the daemon, so that the ledgers
measured are those that it would have. Old ledgers stay whole while new ones grow from them, so one
run up to a million leaves a ledger of each size behind.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable

from benchmarks.report import Row, Spread, frozen_heap, progress, samples
from lbcore.addresses import Address, Family
from lbcore.allocation import Allocation, allocate
from lbcore.config import Pool
from lbcore.ledger import Claim, Ledger
from lbcore.model import Port, ServiceKey
from lbcore.pools import Catalog
from lbcore.requests import Request
from lbcore.sharing import Sharing
from lbcore.verdicts import Refusal

__all__ = ["NAME", "run"]

NAME = "allocation: growth is from the fewest holders to the most; the heap is frozen after building"
ROUNDS, TIMES = 7, 1000
EIGHT, TWELVE, SIXTEEN, SIX = "10.0.0.0/8", "10.0.0.0/12", "10.0.0.0/16", "2001:db8::/64"
HTTP = (Port("TCP", 80),)


def run() -> list[Row]:
    """All of it; about two minutes, most of them to build the ledgers."""
    dice = random.Random(7)
    four, six = (Family.IPV4,), (Family.IPV6,)
    rows = _mostly_full(dice)
    # The lowest addresses of a /8 are taken first, so on the way to a million a /16 and a /12 fill up.
    ledgers = _filled(_catalog(EIGHT), (1_000, 10_000, 1 << 16, 100_000, 1_000_000, 1 << 20), four, None)
    full_sixteen, full_twelve = ledgers.pop(1 << 16), ledgers.pop(1 << 20)
    rows += _growth("a /8", EIGHT, four, None, ledgers, dice)
    rows += _one_hole("a full /16", SIXTEEN, full_sixteen, dice)
    rows += _one_hole("a full /12", TWELVE, full_twelve, dice)
    ledgers = _filled(_catalog(SIX), (1_000, 100_000), six, None)
    rows += _growth("an IPv6 /64", SIX, six, None, ledgers, dice)
    sharing = Sharing("one")
    ledgers = _filled(_catalog(EIGHT), (1_000, 10_000, 100_000), four, sharing)
    return rows + _growth("a /8, all with one sharing key and one port", EIGHT, four, sharing, ledgers, dice)


def _catalog(text: str) -> Catalog:
    return Catalog.of([Pool.parse("pool", text)])


def _request(number: int, families: tuple[Family, ...] = (Family.IPV4,), sharing: Sharing | None = None) -> Request:
    key = ServiceKey(f"namespace-{number % 100}", f"service-{number}")
    return Request(key=key, families=families, ports=HTTP, sharing=sharing)


def _taken(request: Request, catalog: Catalog, ledger: Ledger) -> Ledger:
    granted = allocate(request, catalog, ledger)
    assert isinstance(granted, Allocation)
    return ledger.claim(granted.claim(request))


def _filled(
    catalog: Catalog, sizes: tuple[int, ...], families: tuple[Family, ...], sharing: Sharing | None
) -> dict[int, Ledger]:
    """A ledger of each size, holders on the lowest addresses."""
    progress(f"{max(sizes):,} holders")
    ledgers, ledger = {}, Ledger()
    gc.disable()
    for number in range(max(sizes)):
        ledger = _taken(_request(number, families, sharing), catalog, ledger)
        if len(ledger) in sizes:
            ledgers[len(ledger)] = ledger
    gc.enable()
    return ledgers


def _in_turns(*operations: Callable[[], list[int]]) -> list[Spread]:
    """Each operation's samples, taken in turns so that a noisy moment meets all of them."""
    rounds: list[list[list[int]]] = [[] for _ in operations]
    with frozen_heap():
        for _ in range(ROUNDS):
            for found, operation in zip(rounds, operations, strict=True):
                found.append(operation())
    return [Spread.of_rounds(found) for found in rounds]


def _asking(
    catalog: Catalog, ledger: Ledger, families: tuple[Family, ...], sharing: Sharing | None
) -> Callable[[], list[int]]:
    newcomers = [_request(-1 - number, families, sharing) for number in range(TIMES)]
    return lambda: samples(TIMES, lambda number: allocate(newcomers[number], catalog, ledger))


def _taking(
    catalog: Catalog,
    ledger: Ledger,
    families: tuple[Family, ...],
    sharing: Sharing | None,
    *,
    collecting: bool = True,
) -> Callable[[], list[int]]:
    """One newcomer after the other, each on the ledger that the last one left."""
    newcomers = [_request(-1 - number, families, sharing) for number in range(TIMES)]

    def round_of() -> list[int]:
        now = ledger

        def take(number: int) -> None:
            nonlocal now
            now = _taken(newcomers[number], catalog, now)

        return samples(TIMES, take, collecting=collecting)

    return round_of


def _returning(ledger: Ledger, dice: random.Random, total: int) -> Callable[[], list[int]]:
    """A holder anywhere gives its address back and takes it again."""
    keys = [_request(dice.randrange(total)).key for _ in range(TIMES)]
    claims = [claim for claim in map(ledger.of, keys) if claim is not None]
    return lambda: samples(len(claims), lambda number: ledger.release(claims[number].key).claim(claims[number]))


def _rows(what: str, spread: Spread, p99_at_most: float | None = None, note: str = "") -> list[Row]:
    return [
        Row(what=f"{what}, median", figure=spread.p50, unit="us", note=note),
        Row(what=f"{what}, 99th percentile", figure=spread.p99, unit="us", at_most=p99_at_most),
    ]


def _mostly_full(dice: random.Random) -> list[Row]:
    catalog, ledger = _catalog(SIXTEEN), Ledger()
    holders = dice.sample(range(1 << 16), int(0.9 * (1 << 16)))
    progress(f"{len(holders):,} holders at random in a /16")
    for number, offset in enumerate(holders):
        address = Address(4, (10 << 24) + offset)
        key = _request(number).key
        ledger = ledger.claim(Claim(key=key, addresses=(address,), pools=("pool",), ports=HTTP))
    asked, taken, returned = _in_turns(
        _asking(catalog, ledger, (Family.IPV4,), None),
        _taking(catalog, ledger, (Family.IPV4,), None),
        _returning(ledger, dice, len(holders)),
    )
    return [
        *_rows("a /16 that is 90 % full: allocate", asked, p99_at_most=20),
        *_rows("the same, and claim", taken),
        *_rows("the same: release and claim again", returned),
    ]


# What is measured at each size. The first ledgers are kept, so each claim leaves new nodes beside the
# old ones for the collector to look through; the daemon keeps none, hence the line without it.
QUESTIONS = ("allocate", "allocate and claim", "allocate and claim, collector off", "release and claim again")


def _growth(
    where: str, text: str, families: tuple[Family, ...], sharing: Sharing | None, by_size: dict[int, Ledger],
    dice: random.Random,
) -> list[Row]:  # fmt: skip
    """The cost at each size, and how many times the cost at the smallest it is at the largest."""
    catalog, sizes, ledgers = _catalog(text), tuple(by_size), by_size.values()
    asks = [_asking(catalog, ledger, families, sharing) for ledger in ledgers]
    takes = [_taking(catalog, ledger, families, sharing) for ledger in ledgers]
    quiet = [_taking(catalog, ledger, families, sharing, collecting=False) for ledger in ledgers]
    returns = [_returning(ledger, dice, size) for size, ledger in by_size.items()]
    spreads = _in_turns(*asks, *takes, *quiet, *returns)
    rows = []
    for index, what in enumerate(QUESTIONS):
        spread = spreads[index * len(sizes) : (index + 1) * len(sizes)]
        rows.append(_growth_row(f"{where}: {what}, median", sizes, [each.p50 for each in spread], at_most=3))
        aim = 3 if what in ("allocate", "allocate and claim, collector off") else None
        rows.append(_growth_row(f"{where}: {what}, 99th percentile", sizes, [each.p99 for each in spread], at_most=aim))
    return rows


def _growth_row(what: str, sizes: tuple[int, ...], figures: list[float], at_most: float | None) -> Row:
    course = ", ".join(f"{size // 1000:,}k: {figure:.1f}" for size, figure in zip(sizes, figures, strict=True))
    note = f"us at thousands of holders: {course}"
    return Row(what=what, figure=figures[-1] / figures[0], unit="times", at_most=at_most, note=note)


def _one_hole(where: str, text: str, full: Ledger, dice: random.Random) -> list[Row]:
    """Every address taken but one, at a place that differs from sample to sample."""
    catalog = _catalog(text)
    holed = [full.release(_request(dice.randrange(len(full))).key) for _ in range(TIMES)]
    newcomer = _request(-1)

    def refuse(_number: int) -> None:
        assert isinstance(allocate(newcomer, catalog, full), Refusal)

    found, refused = _in_turns(
        lambda: samples(TIMES, lambda number: allocate(newcomer, catalog, holed[number])),
        lambda: samples(TIMES, refuse),
    )
    return [*_rows(f"{where} with one hole: find it", found), *_rows(f"{where}: refuse", refused)]
