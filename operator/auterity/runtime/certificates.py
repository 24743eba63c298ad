"""The certificate of the admission webhook: made here, shared by all replicas in one Secret."""

import importlib.util
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from auterity.engine.contract import SecretStore
from auterity.engine.errors import Busy

LASTS: Final = timedelta(days=90)
RENEWED_AFTER: Final = timedelta(days=60)
AUTHORITY_LASTS: Final = timedelta(days=5 * 365)
AUTHORITY_RENEWED_AFTER: Final = timedelta(days=4 * 365)
EARLIER: Final = timedelta(minutes=10)
"""Clocks of machines differ."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the webhook serves with, and what the API server is to trust."""

    authorities: str
    """PEM; while an authority is replaced, the old one too."""
    chain: str
    key: str = field(repr=False)


def must_be_installed() -> None:
    """Raises ModuleNotFoundError with what to do if no certificate could be made."""
    if importlib.util.find_spec("cryptography") is None:
        raise ModuleNotFoundError("admission needs certificates: install auterity[admission]")


async def shared(
    store: SecretStore, name: str, names: Sequence[str], now: datetime | None = None
) -> Certificate:
    """The certificate of all replicas: as the Secret has it, or made and kept there if it is due.

    Raises Busy if other replicas were faster again and again.
    """
    now = now or datetime.now(UTC)
    for _ in range(3):
        found = await store.read(name)
        held, version = found if found is not None else ({}, None)
        if _good(held, names, now):
            return Certificate(held["ca.crt"], held["tls.crt"], held["tls.key"])
        made = issue(names, now, held)
        try:
            await store.write(name, made, version)
        except Busy:
            continue
        return Certificate(made["ca.crt"], made["tls.crt"], made["tls.key"])
    raise Busy(f"Secret {name} is changed by someone else all the time")


def _good(held: Mapping[str, str], names: Sequence[str], now: datetime) -> bool:
    try:
        same = set(json.loads(held["names"])) == set(names)
        due = min(held["renewedAfter"], held["authorityRenewedAfter"])
        return same and now < datetime.fromisoformat(due) and bool(held["tls.key"])
    except (KeyError, ValueError):
        return False


def issue(names: Sequence[str], now: datetime, held: Mapping[str, str]) -> dict[str, str]:
    """A new certificate for these DNS names and addresses, as the Secret keeps it.

    It is of the authority held, unless that is due: then the new one is trusted beside the old
    one, which other replicas still serve with.
    """
    # Loaded only where a certificate is made: some megabytes.
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    authority = _authority(held, now)
    data = authority or _new_authority(now, held.get("ca.crt", ""))
    signer = _loaded_key(data["ca.key"])
    # The newest stands first.
    issuer = x509.load_pem_x509_certificates(data["ca.crt"].encode())[0]
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
    certificate = (
        x509.CertificateBuilder()
        # A common name has 64 characters at most; nobody looks at it.
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "auterity admission")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(min(now + LASTS, issuer.not_valid_after_utc))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, _sha256())
    )
    return {
        **data,
        "tls.crt": _pem(certificate),
        "tls.key": _pem_of_key(key),
        "names": json.dumps(sorted(names)),
        "renewedAfter": (now + RENEWED_AFTER).isoformat(),
    }


def _authority(held: Mapping[str, str], now: datetime) -> dict[str, str] | None:
    """The authority that a Secret holds, if it can still sign."""
    from cryptography import x509

    try:
        if now >= datetime.fromisoformat(held["authorityRenewedAfter"]):
            return None
        _loaded_key(held["ca.key"])
        x509.load_pem_x509_certificates(held["ca.crt"].encode())
    except (KeyError, ValueError):
        return None
    return {name: held[name] for name in ("ca.crt", "ca.key", "authorityRenewedAfter")}


def _new_authority(now: datetime, before: str) -> dict[str, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own: two authorities of one name are taken for each other.
    made_at = now.strftime("%Y%m%d%H%M%S")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"auterity admission {made_at}")])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + AUTHORITY_LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
                **usage,
            ),
            critical=True,
        )
        .sign(key, _sha256())
    )
    try:
        trusted = x509.load_pem_x509_certificates(before.encode())[:1]
    except ValueError:
        trusted = []
    return {
        "ca.crt": "".join(map(_pem, [certificate, *trusted])),
        "ca.key": _pem_of_key(key),
        "authorityRenewedAfter": (now + AUTHORITY_RENEWED_AFTER).isoformat(),
    }


def _alternative(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _loaded_key(pem: str) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(pem.encode(), password=None)


def _pem(certificate: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return str(certificate.public_bytes(Encoding.PEM).decode())


def _pem_of_key(key: Any) -> str:
    from cryptography.hazmat.primitives import serialization as form

    raw: bytes = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return raw.decode()


def _sha256() -> Any:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()
