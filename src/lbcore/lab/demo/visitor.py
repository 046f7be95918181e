"""Somebody who visits web sites behind an Ingress, with curl: what is asked, what comes, and who answered.

Used by both demos; names lead to the address of the cluster's entry, as a name server would tell.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from attrs import frozen

from lbcore.adapters.certificates import make_fake
from lbcore.addresses import Address
from lbcore.ingress import Certificate
from lbcore.lab.demo.screen import Screen
from lbcore.lab.errors import LabError
from lbcore.lab.namespaces import Namespace

__all__ = ["Reply", "Visitor", "owner_of", "self_signed"]

_SHOWN_HEADERS = ("location", "x-served-by")
_ABOUT_CERTIFICATE = re.compile(r"^\* +((?:subject:|issuer:|SSL certificate verif).*)$", re.MULTILINE)
_SERVED_BY = re.compile(r"^X-Served-By: (\S+)", re.MULTILINE | re.IGNORECASE)


def self_signed(host: str) -> Certificate:
    """A certificate of a host, as `openssl req -x509` makes one: its own issuer."""
    return make_fake(datetime.now(UTC), host, host)


def owner_of(pod: str) -> str:
    """The Deployment of a pod that is named as `X-Served-By` has it: `shop-1/n2`, `shop-6d4cf56db6-x7k2p/n2`."""
    return re.sub(r"(-[a-z0-9]{6,10}-[a-z0-9]{5}|-\d+)?(/.*)?$", "", pod)


@frozen
class Reply:
    """An HTTP status, headers (names in lower case), and what curl said beside."""

    status: int
    headers: dict[str, str]
    lines: tuple[str, ...]
    said: str

    @property
    def served_by(self) -> str:
        """`POD/NODE`, empty where no pod answered."""
        return self.headers.get("x-served-by", "")


@frozen(kw_only=True)
class Visitor:
    """A client, where it finds all names, and the file with the certificate that it trusts."""

    client: Namespace
    screen: Screen
    address: Address
    trusted: Path

    @classmethod
    def trusting(cls, certificate: Certificate, folder: Path, **others: object) -> Self:
        """One that trusts this certificate and no other; it is written into the folder."""
        trusted = folder / "shop.crt"
        trusted.write_bytes(certificate.chain)
        return cls(trusted=trusted, **others)  # type: ignore[arg-type]

    def _run(self, url: str, *options: str) -> tuple[str, str]:
        """What curl prints and says beside; raises `LabError` when it got no answer."""
        scheme, _, rest = url.partition("://")
        host, port = re.split(r"[/?]", rest)[0], 443 if scheme == "https" else 80
        argv = ["curl", "-sS", "--noproxy", "*", "--max-time", "5", "--resolve", f"{host}:{port}:{self.address}"]
        trust = ["--cacert", str(self.trusted)] if scheme == "https" else []
        done = self.client.run([*argv, *trust, *options, url], timeout=60)
        if done.returncode != 0:
            raise LabError(f"curl {url} at {self.address}: {done.stderr.strip().splitlines()[-1]}")
        return done.stdout, done.stderr

    def ask(self, url: str) -> Reply:
        """One request."""
        shown, said = self._run(url, "--include", "--verbose")
        head, _, _ = shown.partition("\n\n")
        first, *lines = head.splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        wanted = (line for line in lines if line.partition(":")[0].lower() in _SHOWN_HEADERS)
        return Reply(int(first.split()[1]), headers, (first, *wanted), said)

    def answers(self, url: str) -> bool:
        """Whether a page comes by now."""
        try:
            return self.ask(url).status == 200
        except LabError:
            return False

    def show(self, url: str) -> Reply:
        """One request, shown with what is new of its answer, and of the certificate."""
        reply = self.ask(url)
        trust = f" --cacert {self.trusted.name}" if url.startswith("https") else ""
        lines = [*_ABOUT_CERTIFICATE.findall(reply.said), *reply.lines] if trust else list(reply.lines)
        self.screen.command("client ", f"curl --include{trust} '{url}'", "\n".join(lines))
        return reply

    def spread(self, url: str, count: int) -> Counter[str]:
        """How many of so many requests, each on a connection of its own, each Deployment answered."""
        shown, _ = self._run(f"{url}?[1-{count}]", "--include", "--http1.1", "-H", "Connection: close")
        return Counter(owner_of(pod) for pod in _SERVED_BY.findall(shown))

    def pods(self, url: str, count: int) -> set[str]:
        """Which pods answer some requests."""
        shown, _ = self._run(f"{url}?[1-{count}]", "--include", "--http1.1", "-H", "Connection: close")
        return {pod.partition("/")[0] for pod in _SERVED_BY.findall(shown)}

    def show_spread(self, url: str, count: int) -> Sequence[Sequence[str]]:
        """The same as a table: Deployment, and how many."""
        with self.screen.step(f"the client asks {url} {count} times"):
            found = self.spread(url, count)
        rows = [[name, str(found[name])] for name in sorted(found)]
        self.screen.table(["DEPLOYMENT", f"OF {count} REQUESTS"], rows)
        return rows
