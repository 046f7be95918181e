"""How long the first listing of a folder takes, beside parsing the same YAML and doing nothing with it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

import yaml

from lbcore.backends.files import FilesCluster
from lbcore.events import Kind, Listed

__all__ = ["run"]

SERVICES, FILES, ROUNDS = 10_000, 20, 3

SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: web-{number}
  namespace: default
  labels:
    app: web-{number}
  annotations:
    metallb.io/address-pool: production
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  ipFamilyPolicy: PreferDualStack
  selector:
    app: web-{number}
  ports:
  - name: http
    port: 80
    targetPort: 8080
    protocol: TCP
"""
STATUS = '{{"service": "default/web-{number}", "addresses": ["2001:db8::{number:x}"], "pool": "production"}}'


def run() -> list[tuple[str, str]]:
    """Rows for the table: what was measured, and the figure. Each is the best of three rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_manifests(folder)
        parsing = min(_parsing(folder) for _ in range(ROUNDS))
        bare = min(asyncio.run(_listing(folder)) for _ in range(ROUNDS))
        _write_statuses(folder)
        held = min(asyncio.run(_listing(folder)) for _ in range(ROUNDS))
    return [
        (f"parse the YAML of {SERVICES:,} Services (PyYAML, C loader)", f"{parsing:.2f} s"),
        (f"list {SERVICES:,} Services from {FILES} files", f"{bare:.2f} s ({bare / parsing:.2f} times parsing)"),
        ("the same, each with a status beside it", f"{held:.2f} s ({held / parsing:.2f} times parsing)"),
    ]


def _write_manifests(folder: Path) -> None:
    each = SERVICES // FILES
    for file in range(FILES):
        texts = (SERVICE.format(number=number) for number in range(file * each, (file + 1) * each))
        (folder / f"services-{file:02}.yaml").write_text("---\n".join(texts))


def _write_statuses(folder: Path) -> None:
    statuses = folder / ".lbcore" / "services" / "default"
    statuses.mkdir(parents=True)
    for number in range(SERVICES):
        (statuses / f"web-{number}.json").write_text(STATUS.format(number=number))


def _parsing(folder: Path) -> float:
    begin = time.perf_counter()
    for path in sorted(folder.glob("*.yaml")):
        for _document in yaml.load_all(path.read_text(), yaml.CSafeLoader):
            pass
    return time.perf_counter() - begin


async def _listing(folder: Path) -> float:
    begin = time.perf_counter()
    seen = 0
    async with aclosing(FilesCluster(folder).source([Kind.SERVICES]).events()) as events:
        async for event in events:
            if isinstance(event, Listed):
                break
            seen += 1
    assert seen == SERVICES
    return time.perf_counter() - begin


if __name__ == "__main__":
    for row in run():
        print(*row, sep=": ")
