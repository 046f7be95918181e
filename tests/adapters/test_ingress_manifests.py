"""Ingress, IngressClass, Secret and ConfigMap: what each field becomes, and that no secret is shown."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from lbcore.adapters.certificates import make_fake, read_pair
from lbcore.adapters.kubernetes.documents import read, read_text
from lbcore.errors import ManifestError
from lbcore.events import ConfigMapSeen, IngressClassSeen, IngressSeen, SecretSeen
from lbcore.ingress import (
    Backend,
    Certificate,
    ConfigMap,
    Ingress,
    IngressClass,
    IngressPath,
    IngressRule,
    IngressTLS,
    ObjectKey,
    PathType,
    Secret,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)

WEB = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  namespace: shop
  uid: u1
  creationTimestamp: 2024-05-01T10:20:30Z
  annotations:
    nginx.ingress.kubernetes.io/rewrite-target: /$1
    kubectl.kubernetes.io/last-applied-configuration: "{}"
spec:
  ingressClassName: nginx
  defaultBackend: {service: {name: rest, port: {number: 8080}}}
  tls: [{hosts: [shop.example], secretName: shop}]
  rules:
  - host: shop.example
    http:
      paths:
      - {path: /a, pathType: Exact, backend: {service: {name: a, port: {name: http}}}}
      - {pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}
      - {path: /r, backend: {resource: {kind: Bucket, name: r}}}
  - host: bare.example
"""


def secret(**data: str) -> Secret:
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": data}
    seen = read(document, "")
    assert isinstance(seen, SecretSeen)
    return seen.secret


def test_every_field_of_an_ingress_is_read() -> None:
    [seen] = read_text(WEB, "web.yaml")
    expected = Ingress(
        key=ObjectKey("shop", "web"),
        uid="u1",
        created="2024-05-01T10:20:30Z",
        class_name="nginx",
        annotations={"nginx.ingress.kubernetes.io/rewrite-target": "/$1"},
        default_backend=Backend("rest", "8080"),
        rules=(
            IngressRule(
                host="shop.example",
                paths=(
                    IngressPath(path="/a", type=PathType.EXACT, backend=Backend("a", "http")),
                    IngressPath(path="/", type=PathType.PREFIX, backend=Backend("b", "80")),
                    IngressPath(path="/r", type=PathType.IMPLEMENTATION_SPECIFIC, backend=None),
                ),
            ),
            IngressRule(host="bare.example"),
        ),
        tls=(IngressTLS(hosts=("shop.example",), secret="shop"),),
    )
    assert IngressSeen(expected) == seen


def test_a_class_and_a_config_map_are_read() -> None:
    text = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: options}
data: {proxy-body-size: 8m}
"""
    assert [
        IngressClassSeen(IngressClass(name="nginx", controller="k8s.io/ingress-nginx")),
        ConfigMapSeen(ConfigMap(key=ObjectKey("default", "options"), data={"proxy-body-size": "8m"})),
    ] == list(read_text(text, "x.yaml"))


def test_data_is_decoded_and_string_data_goes_over_it() -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"a": base64.b64encode(b"\xff\x00").decode(), "b": "Yg=="},
        "stringData": {"b": "over"},
    }
    seen = read(document, "")
    assert isinstance(seen, SecretSeen)
    assert {"a": b"\xff\x00", "b": b"over"} == dict(seen.secret.data)


def test_no_secret_is_shown() -> None:
    fake = make_fake(NOW)
    shown = repr(secret(auth="hunter2", **{"tls.crt": fake.chain.decode(), "tls.key": fake.key.decode()}))
    assert "hunter2" not in shown
    assert "PRIVATE" not in shown
    with pytest.raises(ManifestError) as caught:
        read({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "hunter2!"}}, "")
    assert "hunter2" not in str(caught.value)


def test_a_pair_that_belongs_together_is_a_certificate_for_its_names() -> None:
    fake = make_fake(NOW, "*.shop.example")
    found = secret(**{"tls.crt": fake.chain.decode(), "tls.key": fake.key.decode()}).certificate
    assert isinstance(found, Certificate)
    assert (("*.shop.example",), "2027-01-01T00:00:00Z") == (found.names, found.expires)


@pytest.mark.parametrize(
    ("chain", "key", "why"),
    [
        ("", "x", "lacks tls.crt"),
        ("x", "", "lacks tls.key"),
        ("x", "x", "no PEM certificate"),
        ("good", "x", "no PEM key"),
        ("good", "other", "does not belong"),
    ],
)
def test_a_pair_that_cannot_serve_says_why(chain: str, key: str, why: str) -> None:
    fake, other = make_fake(NOW), make_fake(NOW)
    texts = {"good": fake.chain.decode(), "other": other.key.decode()}
    found = secret(**{"tls.crt": texts.get(chain, chain), "tls.key": texts.get(key, key)}).certificate
    assert isinstance(found, str)
    assert why in found


def test_what_follows_the_certificates_does_not_reach_the_chain() -> None:
    fake = make_fake(NOW)
    found = read_pair(fake.chain + b"\n; load_module evil;", fake.key)
    assert isinstance(found, Certificate)
    assert fake.chain == found.chain


@pytest.mark.parametrize("version", ["extensions/v1beta1", "networking.k8s.io/v1beta1"])
def test_an_ingress_of_an_old_version_is_refused_and_not_passed_over(version: str) -> None:
    with pytest.raises(ManifestError, match=r"apiVersion: must be networking\.k8s\.io/v1"):
        read({"apiVersion": version, "kind": "Ingress", "metadata": {"name": "old"}, "spec": {}}, "")


def test_data_that_is_no_base64_is_named_by_its_key() -> None:
    with pytest.raises(ManifestError, match=r"data\['tls.crt'\]: is not base64"):
        read({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"tls.crt": "!!"}}, "")
