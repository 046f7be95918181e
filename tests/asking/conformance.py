# ruff: noqa: E501 - a table is read in rows
"""What Kubernetes asks of every Ingress controller: the conformance features for hosts, paths, the default backend, classes
and load, in our own words.
"""

from __future__ import annotations

from typing import Any

from asking.case import HTTPS, Ask, Case, case
from gateway import ingress


def hosts() -> dict[str, Any]:
    """One Ingress with a wildcard host, one without a certificate, and one with."""
    made = ingress("conformance-hosts", "*.foo.test")
    second = ingress("second", "plain.test", "b")["spec"]["rules"][0]
    third = ingress("third", "tls.conformance.test", "b")["spec"]["rules"][0]
    made["spec"]["rules"] += [second, third]
    made["spec"]["tls"] = [{"hosts": ["tls.conformance.test"], "secretName": "conformance"}]
    made["metadata"]["annotations"]["nginx.ingress.kubernetes.io/ssl-redirect"] = "false"
    return made


def paths() -> dict[str, Any]:
    """One Ingress with every kind of path that the features name."""
    made = ingress("conformance-paths", "conformance-paths.test")
    kinds = (
        ("/exact", "Exact", "a"), ("/prefix", "Prefix", "b"), ("/aaa/bbb", "Prefix", "a"), ("/aaa", "Prefix", "b"),
        ("/both", "Prefix", "a"), ("/both", "Exact", "b"), ("/slashed/", "Prefix", "a"), ("/exact-slashed/", "Exact", "b"),
    )  # fmt: skip
    made["spec"]["rules"][0]["http"]["paths"] = [
        {"path": path, "pathType": kind, "backend": {"service": {"name": name, "port": {"number": 80}}}}
        for path, kind, name in kinds
    ]
    return made


def classed(name: str, class_name: str | None, **annotations: str) -> dict[str, Any]:
    """An Ingress of a class, or of none."""
    made = ingress(name, f"{name}.test")
    made["spec"].pop("ingressClassName")
    if class_name is not None:
        made["spec"]["ingressClassName"] = class_name
    made["metadata"]["annotations"] |= annotations
    return made


OLD = {"kubernetes.io/ingress.class": "nginx"}

CASES: tuple[Case, ...] = (
    Case("conformance-hosts", (hosts(),), (
        Ask("a wildcard host is served for a name of one more label", host="bar.foo.test"),
        Ask("a wildcard host is not served for a name of two more labels", host="baz.bar.foo.test", status=404),
        Ask("a wildcard host is not served for the name that it is below", host="foo.test", status=404),
        Ask("a host without a wildcard is served", host="plain.test", backend="b"),
        Ask("a sibling of a host is not served", host="sibling.plain.test", status=404),
        Ask("a host with a certificate is served by TLS", host="tls.conformance.test", backend="b", **HTTPS))),
    Case("conformance-paths", (paths(),), (
        Ask("an exact path is served", "/exact"),
        Ask("an exact path is not served with a slash at its end", "/exact/", 404),
        Ask("an exact path is not served in capitals", "/EXACT", 404),
        Ask("a path that no rule has is not served", "/nothing", 404),
        Ask("a prefix is served", "/prefix", backend="b"),
        Ask("a prefix is served with a slash at its end", "/prefix/", backend="b"),
        Ask("a prefix is not served in capitals", "/PREFIX", 404),
        Ask("the longer of two prefixes is served", "/aaa/bbb"),
        Ask("the longer of two prefixes is served below itself", "/aaa/bbb/ccc"),
        Ask("the shorter of two prefixes is served for the rest", "/aaa/ccc", backend="b"),
        Ask("a prefix is not served for a label that begins with it", "/aaaccc", 404),
        Ask("of an exact path and a prefix the exact one is served", "/both", backend="b"),
        Ask("and below it the prefix", "/both/x"),
        Ask("a prefix with a slash at its end is served with it", "/slashed/"),
        Ask("and leads there without it", "/slashed", 301, answers={"location": "http://conformance-paths.test/slashed/"}),
        Ask("an exact path with a slash at its end is served with it", "/exact-slashed/", backend="b"),
        Ask("and not without it", "/exact-slashed", 301))),
    Case("class-other", (classed("class-other", "other"),), (Ask("an Ingress of a class that nobody defines is not served", status=404),)),
    Case("class-of-others", (classed("class-of-others", "others"),), (Ask("nor one whose class is another controller's", status=404),)),
    Case("class-none", (classed("class-none", None),), (Ask("nor one without a class", status=404),)),
    Case("class-annotation", (classed("class-annotation", None, **OLD),), (Ask("the annotation of old names the class as well"),)),
    Case("class-annotation-other", (classed("class-annotation-other", None, **{"kubernetes.io/ingress.class": "other"}),), (
        Ask("or another one", status=404),)),
    Case("class-annotation-empty", (classed("class-annotation-empty", None, **{"kubernetes.io/ingress.class": ""}),), (
        Ask("or none", status=404),)),
    Case("class-both", (classed("class-both", "other", **OLD),), (Ask("and says nothing beside spec.ingressClassName", status=404),)),
    case("conformance-load", Ask("a Service with ten endpoints is served", backend="-"), service="ten"),
)  # fmt: skip
