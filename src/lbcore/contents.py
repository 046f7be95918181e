"""What is in the Secrets and ConfigMaps that an Ingress names? Passwords, authorities, certificates, headers.

What an access hangs on and is missing, or holds what it may not, denies. One in another namespace counts as missing,
unless the options allow those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Contract

from attrs import evolve

from lbcore.annotations.maps import answered, fastcgi_params, sent
from lbcore.ingress import Certificate, ConfigMap, Ingress, ObjectKey, Secret
from lbcore.proxy import BasicAuth, ClientCertificates, Options, Policies, Protocol

__all__ = ["Store", "certificate_for", "with_authorities", "with_contents"]


class Store(Contract):
    """The objects that can be named."""

    @property
    def options(self) -> Options:
        """Of this moment."""
        ...

    def secret(self, key: ObjectKey) -> Secret | None:
        """Of this moment."""
        ...

    def config_map(self, key: ObjectKey) -> ConfigMap | None:
        """Of this moment."""
        ...


def with_contents(policies: Policies, namespace: str, store: Store) -> tuple[Policies, str]:
    """The policies of an Ingress in a namespace with what they name, and what is missing there (empty: nothing)."""
    for annotation, fill in _NAMED:
        try:
            policies = fill(policies, namespace, store)
        except ValueError as error:
            why = f"{annotation}: {error}"
            return evolve(policies, denied=policies.denied or why), why
    return policies, ""


def certificate_for(host: str, ingress: Ingress, store: Store) -> tuple[Certificate | None, str]:
    """The certificate of a host by an Ingress's `tls`. None: the default one; and why, where another was meant."""
    listed = [tls for tls in ingress.tls if host in {name.lower() for name in tls.hosts}]
    for tls in listed[:1] or ingress.tls:
        if not tls.secret:
            continue
        secret = store.secret(ObjectKey(ingress.key.namespace, tls.secret))
        found = secret.certificate if secret is not None else "is not there"
        if isinstance(found, Certificate) and _is_for(found, host):
            return found, ""
        if listed:
            why = "is for other names" if isinstance(found, Certificate) else found or "holds no certificate"
            return None, f"tls: Secret {tls.secret} {why}; the default certificate is shown"
    return None, ""


def with_authorities(wanted: ClientCertificates, namespace: str, store: Store) -> ClientCertificates | None:
    """With the authorities that clients' certificates are of; None: its Secret has none."""
    secret = _secret(wanted.secret, namespace, store)
    authorities = secret.data.get("ca.crt", b"") if secret is not None else b""
    if secret is None or not authorities:
        return None
    return evolve(wanted, authorities=authorities, revoked=secret.data.get("ca.crl", b""))


def _secret(key: ObjectKey, namespace: str, store: Store) -> Secret | None:
    return store.secret(key) if key.namespace == namespace or store.options.cross_namespace else None


def _config_map(key: ObjectKey, namespace: str, store: Store) -> ConfigMap:
    if key.namespace != namespace and not store.options.cross_namespace:
        raise ValueError(f"ConfigMap {key} is in another namespace")
    found = store.config_map(key)
    if found is None:
        raise ValueError(f"there is no ConfigMap {key}, or it is very large")
    return found


# Each raises `ValueError` that says what is missing.


def _with_passwords(policies: Policies, namespace: str, store: Store) -> Policies:
    auth = policies.basic_auth
    if auth is None:
        return policies
    users = _users(auth, _secret(auth.secret, namespace, store))
    if users is None:
        raise ValueError(f"no passwords in Secret {auth.secret}")
    return evolve(policies, basic_auth=evolve(auth, users=users))


def _with_upstream_tls(policies: Policies, namespace: str, store: Store) -> Policies:
    tls = policies.upstream_tls
    if tls is None:
        return policies
    secret = _secret(tls.secret, namespace, store)
    authorities = secret.data.get("ca.crt", b"") if secret is not None else b""
    certificate = secret.certificate if secret is not None else ""
    pair = certificate if isinstance(certificate, Certificate) else None
    if secret is None or (pair is None and not authorities) or (tls.verify and not authorities):
        raise ValueError(f"Secret {tls.secret} lacks what it is for")
    return evolve(policies, upstream_tls=evolve(tls, certificate=pair, authorities=authorities))


def _with_asking_headers(policies: Policies, namespace: str, store: Store) -> Policies:
    auth = policies.external_auth
    if auth is None or auth.headers_from is None:
        return policies
    headers = sent(_config_map(auth.headers_from, namespace, store).data)
    return evolve(policies, external_auth=evolve(auth, headers=headers))


def _with_answered_headers(policies: Policies, namespace: str, store: Store) -> Policies:
    if policies.response_headers is None:
        return policies
    data = _config_map(policies.response_headers, namespace, store).data
    return evolve(policies, answered=answered(data, store.options.allowed_response_headers))


def _with_params(policies: Policies, namespace: str, store: Store) -> Policies:
    fastcgi = policies.fastcgi
    if policies.protocol is not Protocol.FCGI or fastcgi.config_map is None:
        return policies
    params = fastcgi_params(_config_map(fastcgi.config_map, namespace, store).data)
    return evolve(policies, fastcgi=evolve(fastcgi, params=params))


# By the annotation that names the object, in the order in which they are looked at: the first fault is said.
_NAMED: tuple[tuple[str, Callable[[Policies, str, Store], Policies]], ...] = (
    ("auth-secret", _with_passwords),
    ("proxy-ssl-secret", _with_upstream_tls),
    ("auth-proxy-set-headers", _with_asking_headers),
    ("custom-headers", _with_answered_headers),
    ("fastcgi-params-configmap", _with_params),
)


def _users(auth: BasicAuth, secret: Secret | None) -> bytes | None:
    """The lines of a password file; None where there is none."""
    if secret is None:
        return None
    if not auth.by_user:
        return secret.data.get("auth") or None
    lines = [name.encode() + b":" + value.strip() for name, value in sorted(secret.data.items())]
    return b"\n".join(line for line in lines if b"\n" not in line) + b"\n" if lines else None


def _is_for(certificate: Certificate, host: str) -> bool:
    wildcard = "*." + host.partition(".")[2]
    return host in certificate.names or wildcard in certificate.names
