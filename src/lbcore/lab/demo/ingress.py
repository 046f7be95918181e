"""The demo's chapter of Ingress: two web sites behind one address, with TLS, a rewrite and a canary.

The address is given by the controller and announced by a speaker, as any other; behind it `lbcore ingress` runs nginx.
"""

from __future__ import annotations

import shutil
import time
from functools import partial
from typing import Any

import yaml
from attrs import evolve, frozen

from lbcore.backends.nginx import find_capabilities
from lbcore.ingress import Certificate
from lbcore.lab.demo.screen import Screen
from lbcore.lab.demo.stage import Findings, Stage, manifest, on_stage
from lbcore.lab.demo.visitor import Reply, Visitor, self_signed
from lbcore.lab.demo.workers import NginxWorkers

__all__ = ["BLOG", "CANARY_REQUESTS", "SHOP", "web_sites"]

SHOP, BLOG = "shop.example", "www.example"
CANARY_REQUESTS = 100  # with 30 % for the new one, none of them once in 3 * 10**15 runs
_LOOK = 20  # requests at once, to see whether a new pod is among those that answer
_RELOAD_INTERVAL = 0.2  # seconds; 1 by default


def web_sites(screen: Screen, findings: Findings) -> None:
    """A cluster with an entry for HTTP, where there is nginx to serve it."""
    if shutil.which("nginx") is None:
        screen.warn(
            "this chapter needs nginx, which is not installed here: apt-get install nginx-light libnginx-mod-http-lua"
        )
        return
    screen.say(
        "Web sites share an address: an Ingress says which host and path lead to which Service. `lbcore ingress` reads "
        "Ingresses with the annotations of ingress-nginx and runs nginx, here on two nodes. The way to them is a "
        "Service of type LoadBalancer like any other, with an address from the pool."
    )
    with on_stage(screen, findings, 2, "192.168.20.0/24") as stage:
        _Entry.opened(stage).tell()


@frozen
class _Entry:
    """A cluster whose entry is open, and who visits it."""

    stage: Stage
    visitor: Visitor

    @classmethod
    def opened(cls, stage: Stage) -> _Entry:
        """Both programs run, and the entry has its address."""
        nginx = find_capabilities("nginx")
        options = ["--reload-interval", str(_RELOAD_INTERVAL)]
        if not nginx.fixed:
            version = ".".join(map(str, nginx.version))
            stage.screen.warn(f"nginx {version} has known overflows, and would be refused; here nobody reaches it")
            options.append("--allow-vulnerable-nginx")
        stage.apply("first/pool.yaml", "ingress/class.yaml", show=False)
        stage.apply("ingress/entry.yaml")
        for node in stage.lab.nodes:
            stage.start_ingress(node, *options)
        (address,) = stage.addresses("entry")
        certificate = self_signed(SHOP)
        visitor = Visitor.trusting(
            certificate, stage.lab.directory, client=stage.lab.client.namespace, screen=stage.screen, address=address
        )
        stage.lab.apply(_secret(certificate))
        return cls(stage, visitor)

    def tell(self) -> None:
        stage = self.stage
        stage.apply("ingress/backends.yaml", show=False)
        stage.screen.say(
            f"Two sites: {SHOP} with a certificate (the Secret shop-tls, just made), where new-shop is to get a part "
            f"of the requests; and {BLOG}/blog, whose pods know nothing of /blog."
        )
        stage.apply("ingress/hosts.yaml")
        with stage.screen.step("the pods are ready, and both nginx serve both hosts"):
            stage.lab.wait_for_pods(20)
            for node in stage.lab.nodes.values():
                there = evolve(self.visitor, address=node.address())
                for url in (f"https://{SHOP}/", f"http://{BLOG}/blog/"):
                    stage.wait(partial(there.answers, url), f"a page from {url} on {node.name}")
            stage.wait(partial(self.visitor.answers, f"http://{BLOG}/blog/"), f"a page from {self.visitor.address}")
        self._hosts()
        self._canary()
        self._endpoints()

    def _hosts(self) -> None:
        stage, visitor = self.stage, self.visitor
        node = stage.announcer(visitor.address)
        stage.screen.say(f"Both names lead to {visitor.address}, which {node} announces. First the one with TLS:")
        visitor.show(f"http://{SHOP}/")
        visitor.show(f"https://{SHOP}/")
        stage.screen.say("And the one with a rewrite:")
        reply = visitor.show(f"http://{BLOG}/blog/")
        stage.screen.say(f"The pod has no /blog. What it was asked for stands in its own log: {self._asked(reply)}")
        stage.found("Ingress: two hosts, TLS, a rewrite", f"at {visitor.address}, announced by {node}")

    def _asked(self, reply: Reply) -> str:
        """The last request in the log of the pod that answered, as nginx writes it."""
        pod = reply.served_by.partition("/")[0]
        log = self.stage.lab.directory / "pods" / f"default_{pod}" / "access.log"
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if "curl/" in line]
        return lines[-1].split('"')[1]

    def _canary(self) -> None:
        self.stage.screen.say("The canary: new-shop is to get 30 of 100 requests, chosen by lot.")
        rows = self.visitor.show_spread(f"https://{SHOP}/", CANARY_REQUESTS)
        self.stage.found(
            "Ingress: a canary", ", ".join(f"{count} of {CANARY_REQUESTS} by {name}" for name, count in rows)
        )

    def _endpoints(self) -> None:
        """One pod more: how soon it is asked, and whether nginx was reloaded for it."""
        stage, url = self.stage, f"https://{SHOP}/"
        workers, known = NginxWorkers.of(stage.lab), self.visitor.pods(url, CANARY_REQUESTS)
        shop = next(each for each in yaml.safe_load_all(manifest("ingress/backends.yaml")) if _is_shop(each))
        shop["spec"]["replicas"] += 1
        with stage.screen.step(f"shop is scaled to {shop['spec']['replicas']} pods") as results:
            stage.lab.apply(yaml.safe_dump(shop))
            stage.lab.wait_for_pods(20)
            start = time.monotonic()
            new = stage.wait(lambda: self.visitor.pods(url, _LOOK) - known, "an answer of the new pod")
            results.append(f"{', '.join(new)} answers {time.monotonic() - start:.1f} s after it was ready")
        stage.found("Ingress: reloads of nginx for a new pod", workers.show_reloads(stage.lab, stage.screen))


def _is_shop(document: dict[str, Any]) -> bool:
    return (document["kind"], document["metadata"]["name"]) == ("Deployment", "shop")


def _secret(certificate: Certificate) -> str:
    """The Secret with a certificate, as `kubectl create secret tls shop-tls` makes it."""
    data = {"tls.crt": certificate.chain.decode(), "tls.key": certificate.key.decode()}
    document = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "stringData": data}
    return yaml.safe_dump({**document, "metadata": {"name": "shop-tls"}})
