"""A certificate authority for one cluster: servers, components and identities.

For tests only: keys lie unencrypted in a folder that only the user can read, and
everything is valid for a year from yesterday.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pytest_kube.kubeconfig import KeyPair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


class Authority:
    """A certificate authority that signs with ECDSA P-256, or with the key it is given.

    Args:
        pair: The authority's own certificate and key; a new one when omitted.
    """

    def __init__(self, pair: KeyPair | None = None) -> None:
        if pair is None:
            self._key: ec.EllipticCurvePrivateKey = ec.generate_private_key(
                ec.SECP256R1()
            )
            self._name = _name("pytest-kube-ca")
            usage = _key_usage(cert_sign=True)
            self._identifier = x509.SubjectKeyIdentifier.from_public_key(
                self._key.public_key()
            )
            certificate = (
                _builder(self._name, self._name, self._key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
                .add_extension(usage, True)
                .add_extension(self._identifier, False)
                .sign(self._key, hashes.SHA256())
            )
            self.certificate = certificate.public_bytes(serialization.Encoding.PEM)
        else:
            self._key = serialization.load_pem_private_key(pair.key, None)  # type: ignore[assignment]  # RSA signs by the same call
            certificate = x509.load_pem_x509_certificate(pair.certificate)
            self._name = certificate.subject
            self._identifier = _identifier(certificate)
            self.certificate = pair.certificate

    @property
    def key(self) -> bytes:
        """The private key, PEM."""
        return private_pem(self._key)

    def server(self, name: str) -> KeyPair:
        """Return a pair for a server on the loopback interface that is also a client.

        etcd needs both roles: its gateway is a client of the server itself.
        """
        names: list[x509.GeneralName] = [x509.DNSName(n) for n in SERVER_NAMES]
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(name, (), uses, names)

    def client(self, user: str, groups: Sequence[str] = ()) -> KeyPair:
        """Return a pair that the API server takes for *user*, member of *groups*."""
        return self._issue(user, groups, [ExtendedKeyUsageOID.CLIENT_AUTH], [])

    def _issue(
        self,
        common_name: str,
        organizations: Sequence[str],
        uses: list[x509.ObjectIdentifier],
        names: list[x509.GeneralName],
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(common_name, organizations), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(_key_usage(cert_sign=False), True)
            .add_extension(x509.ExtendedKeyUsage(uses), False)
            # Python 3.13 and newer insist on it.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                    self._identifier
                ),
                False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return KeyPair(
            certificate.public_bytes(serialization.Encoding.PEM), private_pem(key)
        )


def files(
    servers: Iterable[str], users: Mapping[str, tuple[str, Sequence[str]]]
) -> dict[str, bytes]:
    """Make all certificates and keys of a control plane, by file name.

    Args:
        servers: Names of servers, which are names of files, too.
        users: File name to user name and groups.
    """
    authority, tokens = Authority(), signing_key()
    pairs = {name: authority.server(name) for name in servers}
    pairs |= {name: authority.client(*user) for name, user in users.items()}
    made = {
        "ca.crt": authority.certificate,
        "ca.key": authority.key,
        "service-accounts.pub": tokens.certificate,
        "service-accounts.key": tokens.key,
    }
    for name, pair in pairs.items():
        made[f"{name}.crt"], made[f"{name}.key"] = pair
    return made


def kubelet() -> dict[str, bytes]:
    """Make what a kubelet and an API server trust each other by, and nobody else."""
    authority = Authority()
    made = {"kubelet-ca.crt": authority.certificate}
    for name, pair in {
        "kubelet": authority.server("kubelet"),
        "kubelet-client": authority.client("kube-apiserver"),
    }.items():
        made[f"{name}.crt"], made[f"{name}.key"] = pair
    return made


def signing_key() -> KeyPair:
    """Return a key pair for service account tokens; the certificate is a public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return KeyPair(public, private_pem(key))


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return *key* as Go's and Python's TLS read it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _identifier(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier:
    """Return what *certificate* calls its key; authorities differ in how they do."""
    kind = x509.SubjectKeyIdentifier
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return kind.from_public_key(certificate.public_key())


def _name(common_name: str, organizations: Sequence[str] = ()) -> x509.Name:
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365))
    )


def _key_usage(*, cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not cert_sign,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
