"""How a kubeconfig's server is reached, and how its user proves who it is."""

from __future__ import annotations

import base64
import ipaddress
import os
import tempfile
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from pytest_kube import exec_plugins, kubeconfig
from pytest_kube.errors import ClusterError, hide_frames

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from pytest_kube.exec_plugins import Credential

__tracebackhide__ = hide_frames

REREAD = 60.0
"""Seconds after which a file with a token is read again: others renew it."""

_EARLY = 10.0
"""Seconds before its end at which a credential is renewed."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Login(NamedTuple):
    """What a client needs of a kubeconfig.

    Attributes:
        server: The URL of the API server.
        tls: Whom to trust, and the client's certificate.
        headers: Those that say who asks.
        proxy: The URL of a proxy on the way; empty for none.
        expires: When to read the kubeconfig again, in seconds since 1970.
        renewable: Whether to read it again when the server refuses the credential.
    """

    server: str
    tls: ssl.SSLContext
    headers: list[tuple[str, str]]
    proxy: str
    expires: float
    renewable: bool


def read(path: Path) -> Login:
    """Return how the current context of a kubeconfig is used.

    Raises:
        ClusterError: The file is wrong, a file that it names is missing, or its user's
            exec plug-in gives no credential.
    """
    cluster, user = kubeconfig.current(path)
    server = kubeconfig.server(cluster, path)
    unsupported = {"auth-provider", "username"} & set(user)
    if unsupported:
        raise ClusterError(
            f"the kubeconfig's user logs in by {', '.join(sorted(unsupported))}, which "
            "is not supported; use an exec plug-in, a client certificate or a token"
        )
    headers = [("Impersonate-User", user["as"])] if user.get("as") else []
    headers += [("Impersonate-Group", group) for group in user.get("as-groups") or ()]
    printed: Credential | None = None
    expires = time.time() + REREAD if user.get("tokenFile") else inf
    if user.get("exec"):
        printed = exec_plugins.run(user["exec"], cluster, path.parent, path)
        expires = printed.expires - _EARLY
    try:
        token = _data(user, "token", "tokenFile", path.parent, encoded=False)
        token = token or (printed.token.encode() if printed else None)
        if token:
            headers.append(("Authorization", f"Bearer {token.decode().strip()}"))
        tls = _tls_context(cluster, user, printed, path.parent)
    except (OSError, ValueError) as e:
        raise ClusterError(f"kubeconfig {path}: unusable credentials: {e}") from e
    proxy = str(cluster.get("proxy-url") or "") or proxy_for(server)
    renewable = bool(printed or user.get("tokenFile"))
    return Login(server, tls, headers, proxy, expires, renewable)


def proxy_for(server: str) -> str:
    """Return the proxy that HTTPS_PROXY and NO_PROXY name for a URL; empty for none.

    As for kubectl, none is between us and our own machine.
    """
    url = urlsplit(server)
    host = url.hostname or ""
    proxies = getproxies_environment()
    proxy = proxies.get(url.scheme, "")
    if not proxy or host in _LOOPBACK or proxy_bypass(host):
        return ""
    for part in proxies.get("no", "").split(","):
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(part.strip(), False):
                return ""
        except ValueError:
            continue  # one of them is a name
    return proxy if "://" in proxy else f"http://{proxy}"


def _data(
    section: Mapping[str, Any], key: str, file_key: str, base: Path, *, encoded: bool
) -> bytes | None:
    if value := section.get(key):
        return base64.b64decode(value) if encoded else str(value).encode()
    if value := section.get(file_key):
        return Path(base / value).read_bytes()
    return None


def _tls_context(
    cluster: Mapping[str, Any],
    user: Mapping[str, Any],
    printed: Credential | None,
    base: Path,
) -> ssl.SSLContext:
    ca = _data(
        cluster,
        "certificate-authority-data",
        "certificate-authority",
        base,
        encoded=True,
    )
    tls = _context(ca.decode() if ca else None, str(cluster.get("tls-server-name", "")))
    if cluster.get("insecure-skip-tls-verify"):
        import ssl

        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate = _data(
        user, "client-certificate-data", "client-certificate", base, encoded=True
    )
    key = _data(user, "client-key-data", "client-key", base, encoded=True)
    if printed and printed.certificate:
        certificate, key = printed.certificate.encode(), printed.key.encode()
    if certificate and key:
        # Python's TLS reads key pairs from files only; this one lives for a moment
        # and is private to the user.
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(certificate + b"\n" + key)
        try:
            tls.load_cert_chain(file.name)
        finally:
            os.unlink(file.name)  # noqa: PTH108
    return tls


def _context(authority: str | None, name: str) -> ssl.SSLContext:
    """Return a context that trusts *authority*, and expects a server of that name.

    An empty one is that of the URL.
    """
    import ssl  # not yet needed while a control plane starts

    class Named(ssl.SSLContext):
        """Every client library says which name it expects; here it is another."""

        def wrap_socket(self, *args: Any, **how: Any) -> ssl.SSLSocket:
            return super().wrap_socket(*args, **{**how, "server_hostname": name})

        def wrap_bio(self, *args: Any, **how: Any) -> ssl.SSLObject:
            return super().wrap_bio(*args, **{**how, "server_hostname": name})

    if name:
        tls: ssl.SSLContext = Named(ssl.PROTOCOL_TLS_CLIENT)
        if authority:
            tls.load_verify_locations(cadata=authority)
        else:
            tls.load_default_certs()
    else:
        tls = ssl.create_default_context(cadata=authority)
    # From Python 3.13 on it demands what other Kubernetes clients do without.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return tls
