"""Certificates for tests: a pair for a name and a time, signed by itself, written as a Secret's volume shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["make_client_pair", "make_pair", "mount"]


def make_pair(*names: str, days: float = 1.0, common: str = "test") -> tuple[bytes, bytes]:
    """Certificate and key as PEM, for DNS names and addresses, valid until in `days`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    end = datetime.now(UTC) + timedelta(days=days)
    alternatives: list[x509.GeneralName] = [_name(each) for each in names]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=max(2.0, days + 1)))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), private


def make_client_pair(authority: tuple[bytes, bytes], user: str, group: str) -> tuple[bytes, bytes]:
    """Certificate and key of a user of an API server, who is in a group, signed by an authority of `make_pair`."""
    signer = x509.load_pem_x509_certificate(authority[0])
    signing = serialization.load_pem_private_key(authority[1], password=None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, user), x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)]
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(signer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(signer.not_valid_before_utc)
        .not_valid_after(signer.not_valid_after_utc)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signing, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), private


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def mount(folder: Path, certificate: bytes, key: bytes) -> None:
    """Put a pair into a folder as a kubelet does: new files in a folder of their own, and one link turned to it."""
    folder.mkdir(exist_ok=True)
    fresh = folder / f"..{x509.random_serial_number():x}"
    fresh.mkdir()
    (fresh / "tls.crt").write_bytes(certificate)
    (fresh / "tls.key").write_bytes(key)
    turn = folder / "..turn"
    turn.symlink_to(fresh.name)
    turn.rename(folder / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
