"""Certificates that API servers, etcd and their clients accept."""

from __future__ import annotations

import datetime as dt
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pytest_kube.controlplane.certs import Authority, KeyPair, signing_key

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def certificate(pair: KeyPair) -> x509.Certificate:
    """Return the certificate of a pair, parsed."""
    return x509.load_pem_x509_certificate(pair.certificate)


def context_of(
    pair: KeyPair, purpose: ssl.Purpose, ca: bytes, folder: Path
) -> ssl.SSLContext:
    """Return what a server or a client with this pair uses; it asks for the other's."""
    file = folder / f"{purpose.name}.pem"
    file.write_bytes(pair.certificate + pair.key)
    context = ssl.create_default_context(purpose, cadata=ca.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(file)
    return context


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """Let both sides of a connection in memory verify each other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for side in sides * 3:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "kubernetes.default.svc"])
def test_server_and_client_accept_each_other(
    authority: Authority, tmp_path: Path, host: str
) -> None:
    """A TLS handshake with certificates on both sides succeeds, strictly checked."""
    ca = authority.certificate
    server = context_of(authority.server("etcd"), ssl.Purpose.CLIENT_AUTH, ca, tmp_path)
    client = context_of(authority.client("jane"), ssl.Purpose.SERVER_AUTH, ca, tmp_path)

    shake_hands(server, client, host)


def test_servers_pair_is_a_clients_too(authority: Authority, tmp_path: Path) -> None:
    """The gateway of etcd is a client of etcd, with the server's own certificate."""
    ca, pair = authority.certificate, authority.server("etcd")
    server = context_of(pair, ssl.Purpose.CLIENT_AUTH, ca, tmp_path)
    client = context_of(pair, ssl.Purpose.SERVER_AUTH, ca, tmp_path)

    shake_hands(server, client, "localhost")


def test_other_host_is_refused(authority: Authority, tmp_path: Path) -> None:
    """A certificate is good for the loopback interface only."""
    ca, pair = authority.certificate, authority.server("etcd")
    server = context_of(pair, ssl.Purpose.CLIENT_AUTH, ca, tmp_path)
    client = context_of(pair, ssl.Purpose.SERVER_AUTH, ca, tmp_path)

    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server, client, "example.com")


def test_client_is_no_server(authority: Authority, tmp_path: Path) -> None:
    """Whoever has a user's key cannot pretend to be the API server."""
    ca, pair = authority.certificate, authority.client("jane")
    server = context_of(pair, ssl.Purpose.CLIENT_AUTH, ca, tmp_path)
    client = context_of(pair, ssl.Purpose.SERVER_AUTH, ca, tmp_path)

    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake_hands(server, client, "localhost")


def test_other_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    """Two clusters on one machine do not take each other's users."""
    other, pair = Authority(), authority.server("etcd")
    server = context_of(pair, ssl.Purpose.CLIENT_AUTH, authority.certificate, tmp_path)
    client = context_of(pair, ssl.Purpose.SERVER_AUTH, other.certificate, tmp_path)

    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        shake_hands(server, client, "localhost")


def test_user_and_groups_are_name_and_organizations(authority: Authority) -> None:
    """This is where the API server reads them."""
    subject = certificate(authority.client("jane", ["devs", "system:masters"])).subject

    def values(oid: x509.ObjectIdentifier) -> list[object]:
        return [attribute.value for attribute in subject.get_attributes_for_oid(oid)]

    assert values(NameOID.COMMON_NAME) == ["jane"]
    assert values(NameOID.ORGANIZATION_NAME) == ["devs", "system:masters"]


def test_client_has_no_names_of_hosts(authority: Authority) -> None:
    """A user is no machine."""
    extensions = certificate(authority.client("jane")).extensions

    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.SubjectAlternativeName)
    uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_clocks_may_differ_by_a_day(authority: Authority) -> None:
    """A virtual machine with another clock still accepts the certificate."""
    now = dt.datetime.now(dt.UTC)
    found = certificate(authority.server("etcd"))

    assert found.not_valid_before_utc < now - dt.timedelta(hours=23)
    assert found.not_valid_after_utc > now + dt.timedelta(days=364)


def test_authority_can_be_a_given_one(authority: Authority, tmp_path: Path) -> None:
    """Users of a cluster that somebody else made are signed by its own authority."""
    key = authority._key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    same = Authority(KeyPair(authority.certificate, key))
    ca = authority.certificate
    server = context_of(authority.server("etcd"), ssl.Purpose.CLIENT_AUTH, ca, tmp_path)
    client = context_of(same.client("jane"), ssl.Purpose.SERVER_AUTH, ca, tmp_path)

    shake_hands(server, client, "localhost")


def test_signing_key_is_a_pair() -> None:
    """Tokens that the private key signs are verified by the public one."""
    pair = signing_key()
    key = serialization.load_pem_private_key(pair.key, None)
    public = serialization.load_pem_public_key(pair.certificate)

    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == public
