"""PEM certificates and keys: do they belong together, for which names, until when; and one made for want of another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lbcore.ingress import Certificate

__all__ = ["make_fake", "read_pair"]

_FAKE_NAME = "Kubernetes Ingress Controller Fake Certificate"  # what ingress-nginx calls it, and scripts look for


def read_pair(chain: bytes, key: bytes) -> Certificate | str:
    """The certificate that a chain (leaf first) and a key make, written anew from what was understood;
    or why they make none, without a byte of the key.
    """
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        return "tls.crt holds no PEM certificate"
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except Exception:  # it raises several of its own, and OpenSSL's, some of them with bytes of the key
        return "tls.key holds no PEM key without a passphrase"
    leaf = certificates[0]
    spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        if private.public_key().public_bytes(*spki) != leaf.public_key().public_bytes(*spki):
            return "tls.key does not belong to tls.crt"
    except (ValueError, TypeError, AttributeError):
        return "tls.crt has a kind of key that TLS does not know"
    return Certificate(
        names=_names(leaf),
        expires=leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        chain=b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates),
        key=private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def make_fake(now: datetime, host: str = "ingress.local", common_name: str = _FAKE_NAME) -> Certificate:
    """A self-signed certificate for a year, for hosts that have none. `now` is aware."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme Co"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    start = now.astimezone(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    found = read_pair(made.public_bytes(serialization.Encoding.PEM), private)
    assert isinstance(found, Certificate)
    return found


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of the subjectAltName; the common name only where there is no such extension (RFC 6125, 6.4.4)."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(each.value).lower() for each in common)
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))
