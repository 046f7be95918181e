"""The Kubernetes demo's chapter of Ingress: the layout that users of bare metal have, from the chart, with kubectl.

A DaemonSet on the nodes' own network with a default backend, behind a Service of type LoadBalancer that our controller
gives an address and our speakers announce.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

from lbcore.backends.nginx import find_capabilities
from lbcore.ingress import Certificate
from lbcore.lab.controlplane import ASSETS
from lbcore.lab.demo.ingress import BLOG, CANARY_REQUESTS, SHOP
from lbcore.lab.demo.scene import Scene
from lbcore.lab.demo.stage import manifest
from lbcore.lab.demo.visitor import Visitor, self_signed
from lbcore.lab.demo.workers import NginxWorkers
from lbcore.lab.errors import LabError
from lbcore.lab.ingress import start_ingress

__all__ = ["web_sites"]

_CHART = Path(__file__).parents[4] / "deploy" / "ingress-chart"  # of the source tree; a wheel does not have it
_NAME = "ingress-nginx"  # the release, its namespace and its account
_LOOK = 20  # requests at once, to see whether a new pod is among those that answer


def web_sites(scene: Scene) -> None:
    """The chart's programs, two hosts, and what a visitor gets."""
    missing = _missing()
    if missing:
        scene.screen.warn(f"this chapter needs {missing}")
        return
    _install(scene)
    (address, *_) = scene.addresses(f"{_NAME}-controller", _NAME)
    certificate = self_signed(SHOP)
    visitor = Visitor.trusting(
        certificate, scene.lab.directory, client=scene.lab.client.namespace, screen=scene.screen, address=address
    )
    _serve(scene, visitor, certificate)
    _visit(scene, visitor)
    _scale(scene, visitor)


def _missing() -> str:
    """What is not here, and how to get it."""
    if shutil.which("nginx") is None:
        return "nginx, which is not installed here: apt-get install nginx-light libnginx-mod-http-lua"
    if _helm() is None:
        return f"helm, in PATH or in the folder that {ASSETS} names"
    return "" if _CHART.is_dir() else f"the source tree of lbcore: there is no {_CHART}"


def _helm() -> str | None:
    return shutil.which("helm", path=os.pathsep.join([os.environ.get(ASSETS, ""), os.environ.get("PATH", "")]))


def _install(scene: Scene) -> None:
    lab, screen = scene.lab, scene.screen
    screen.say(
        "ingress-nginx's users on bare metal run it on every node, with a default backend for what nobody serves. The "
        "chart takes their values file:"
    )
    screen.file("values.yaml", manifest("ingress/values.yaml"))
    lab.kubectl("create", "namespace", _NAME)
    scene.kubectl(
        *("apply", "-f", "-"),
        text=_chart(scene),
        shown=f"helm template {_NAME} deploy/ingress-chart -n {_NAME} -f values.yaml | kubectl apply -f -",
    )
    with screen.step("lbcore ingress and its nginx are ready on each node"):
        start_ingress(lab, _NAME, f"{_NAME}-controller", lab.api.kubeconfig_of(_NAME, _NAME))
        lab.kubectl("rollout", "status", "deployment", "-n", _NAME, "--timeout=60s")
    scene.kubectl("get", "daemonsets,deployments,services", "-n", _NAME)


def _chart(scene: Scene) -> str:
    """The chart's manifests for the values."""
    helm, nginx = _helm(), find_capabilities("nginx")
    assert helm is not None
    argv = [helm, "template", _NAME, str(_CHART), "-n", _NAME, "-f", "-"]
    if not nginx.fixed:
        version = ".".join(map(str, nginx.version))
        scene.screen.warn(f"nginx {version} has known overflows, and would be refused; here nobody reaches it")
        argv += ["--set-string", "controller.extraArgs.allow-vulnerable-nginx="]
    done = subprocess.run(
        argv, input=manifest("ingress/values.yaml"), capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    if done.returncode != 0:
        raise LabError(f"helm template failed: {done.stderr.strip()}")
    return done.stdout


def _serve(scene: Scene, visitor: Visitor, certificate: Certificate) -> None:
    scene.apply("ingress/backends.yaml", show=False)
    key = visitor.trusted.with_suffix(".key")
    key.touch(mode=0o600)
    key.write_bytes(certificate.key)
    words = ("create", "secret", "tls", "shop-tls")
    scene.kubectl(
        *(*words, f"--cert={visitor.trusted}", f"--key={key}"),
        shown=f"kubectl {' '.join(words)} --cert={visitor.trusted.name} --key={key.name}",
    )
    scene.apply("ingress/hosts.yaml")
    with scene.screen.step("both hosts are served, and show the address"):
        for url in (f"https://{SHOP}/", f"http://{BLOG}/blog/"):
            scene.wait(partial(visitor.answers, url), f"a page from {url}")
        scene.wait(
            lambda: scene.lab.kubectl("get", "ingress").count(str(visitor.address)) == 3, "addresses of the Ingresses"
        )
    scene.kubectl("get", "ingress")


def _visit(scene: Scene, visitor: Visitor) -> None:
    screen = scene.screen
    visitor.show(f"http://{SHOP}/")
    visitor.show(f"https://{SHOP}/")
    screen.say("The blog's pods have no /blog: its Ingress rewrites the path. And a host that no Ingress names:")
    visitor.show(f"http://{BLOG}/blog/")
    reply = visitor.show("http://nobody.example/")
    screen.say("That is the default backend. (In this lab every pod is an nginx with its welcome page, this one, too.)")
    node = scene.wait(lambda: scene.lab.announcer(visitor.address), f"a node to announce {visitor.address}")
    scene.findings.append(("Ingress: two hosts, TLS, a rewrite", f"at {visitor.address}, announced by {node}"))
    scene.findings.append(("Ingress: what nobody serves", f"answered by {reply.served_by}"))
    screen.say("The canary: new-shop is to get 30 of 100 requests, chosen by lot.")
    rows = visitor.show_spread(f"https://{SHOP}/", CANARY_REQUESTS)
    spread = ", ".join(f"{count} of {CANARY_REQUESTS} by {name}" for name, count in rows)
    scene.findings.append(("Ingress: a canary", spread))


def _scale(scene: Scene, visitor: Visitor) -> None:
    """One pod more, without a reload."""
    url = f"https://{SHOP}/"
    workers, known = NginxWorkers.of(scene.lab), visitor.pods(url, CANARY_REQUESTS)
    scene.kubectl("scale", "deployment", "shop", "--replicas=3")
    with scene.screen.step("a pod more answers") as results:
        start = time.monotonic()
        new = scene.wait(lambda: visitor.pods(url, _LOOK) - known, "an answer of the new pod")
        results.append(f"{', '.join(new)}, {time.monotonic() - start:.1f} s after kubectl scale")
    scene.findings.append(("Ingress: reloads of nginx for a new pod", workers.show_reloads(scene.lab, scene.screen)))
