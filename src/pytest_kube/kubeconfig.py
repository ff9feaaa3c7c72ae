"""Kubeconfig files: written for identities, narrowed to a context, read for clients."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pytest_kube.errors import ClusterError, hide_frames

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from urllib.parse import SplitResult

__tracebackhide__ = hide_frames

_FILES = {"certificate-authority", "client-certificate", "client-key", "tokenFile"}


class KeyPair(NamedTuple):
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def new_path(folder: Path, user: str) -> Path:
    """Return where in the folder of a run a kubeconfig of *user* can be written."""
    slug = re.sub(r"[^a-zA-Z0-9.-]+", "-", user)
    return folder / "kubeconfigs" / f"{slug}-{secrets.token_hex(4)}.json"


def write(path: Path, *, server: str, ca: bytes, user: str, pair: KeyPair) -> Path:
    """Write a kubeconfig that only its owner can read, and return its path.

    It is JSON, which every YAML reader reads alike.
    """
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pytest-kube",
        "clusters": [
            {
                "name": "pytest-kube",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _base64(ca),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(pair.certificate),
                    "client-key-data": _base64(pair.key),
                },
            }
        ],
        "contexts": [
            {"name": "pytest-kube", "context": {"cluster": "pytest-kube", "user": user}}
        ],
    }
    _write_private(path, config)
    return path


def select(source: Path, context: str, target: Path) -> Path:
    """Copy a kubeconfig so that *context* is its current and only one.

    Raises:
        ClusterError: The file has no such context, or none that is complete; the text
            lists what it has.
    """
    config = _load(source)
    chosen = _named(config, "contexts", context, "context", source)
    config["contexts"] = [{"name": context, "context": chosen}]
    config["current-context"] = context
    for section, key in (("clusters", "cluster"), ("users", "user")):
        name = chosen.get(key, "")
        details = _named(config, section, name, key, source)
        for file in _FILES & set(details):
            details[file] = str((source.parent / details[file]).absolute())
        config[section] = [{"name": name, key: details}]
    _write_private(target, config)
    return target


def impersonating(source: Path, user: str, groups: Sequence[str], target: Path) -> Path:
    """Copy a kubeconfig so that its user acts as another one."""
    config = _load(source)
    for entry in config["users"]:
        entry["user"] |= {"as": user, "as-groups": list(groups)}
    _write_private(target, config)
    return target


def with_token(source: Path, token: str, target: Path) -> Path:
    """Copy a kubeconfig so that its user is whose token it is."""
    config = _load(source)
    for entry in config["users"]:
        entry["user"] = {"token": token}
    _write_private(target, config)
    return target


def in_namespace(source: Path, namespace: str, target: Path) -> Path:
    """Copy a kubeconfig so that objects are in *namespace* unless they say it."""
    config = _load(source)
    for entry in config["contexts"]:
        entry["context"]["namespace"] = namespace
    _write_private(target, config)
    return target


def through(source: Path, server: str, target: Path) -> Path:
    """Copy a kubeconfig so that its server is reached by another URL."""
    config = _load(source)
    for entry in config["clusters"]:
        entry["cluster"]["server"] = server
    _write_private(target, config)
    return target


def server_of(path: Path) -> SplitResult:
    """Return the server's URL of a kubeconfig's current context.

    Raises:
        ClusterError: It has none.
    """
    cluster, _ = _current(path)
    return urlsplit(_server(cluster, path))


def credentials(
    path: Path,
) -> tuple[str, ssl.SSLContext, list[tuple[str, str]]]:
    """Return server URL, TLS context and headers of a kubeconfig's current context."""
    cluster, user = _current(path)
    headers = [("Impersonate-User", user["as"])] if user.get("as") else []
    headers += [("Impersonate-Group", group) for group in user.get("as-groups") or ()]
    try:
        if token := _data(user, "token", "tokenFile", path.parent, encoded=False):
            headers.append(("Authorization", f"Bearer {token.decode().strip()}"))
        tls = _tls_context(cluster, user, path.parent)
    except (OSError, ValueError) as e:
        raise ClusterError(f"kubeconfig {path}: unusable credentials: {e}") from e
    return _server(cluster, path), tls, headers


def credential(path: Path) -> str:
    """Return what the API server calls the token of a kubeconfig's user.

    Empty where it has none, or one that names no id.
    """
    _, user = _current(path)
    try:
        payload = user["token"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        return f"JTI={claims['jti']}"
    except (KeyError, IndexError, ValueError, TypeError):
        return ""


def _load(path: Path) -> dict[str, Any]:
    """Return a kubeconfig file's content.

    Raises:
        ClusterError: It cannot be read.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as e:
        raise ClusterError(f"kubeconfig {path}: {e.strerror}") from e
    except UnicodeError as e:
        raise ClusterError(f"kubeconfig {path}: not a kubeconfig: {e}") from e
    try:
        config = json.loads(text)  # as we write them; YAML takes longer to read
    except ValueError:
        import yaml

        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError as e:
            raise ClusterError(f"kubeconfig {path}: not YAML: {e}") from e
    if not isinstance(config, dict):
        raise ClusterError(f"kubeconfig {path}: not a kubeconfig")
    return config


def _current(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    config = _load(path)
    name = config.get("current-context", "")
    chosen = _named(config, "contexts", name, "context", path)
    return (
        _named(config, "clusters", chosen.get("cluster", ""), "cluster", path),
        _named(config, "users", chosen.get("user", ""), "user", path),
    )


def _server(cluster: Mapping[str, Any], path: Path) -> str:
    if not (server := cluster.get("server")):
        raise ClusterError(f"kubeconfig {path}: its cluster has no server")
    return str(server).rstrip("/")


def _named(
    config: Mapping[str, Any], section: str, name: str, key: str, path: Path
) -> dict[str, Any]:
    """Return an entry of a kubeconfig's section, of the file *path*.

    Raises:
        ClusterError: There is none of that name; the text lists those there are.
    """
    entries = config.get(section) or ()
    for entry in entries:
        if entry["name"] == name:
            return dict(entry.get(key) or {})
    known = ", ".join(e["name"] for e in entries) or "none"
    raise ClusterError(f"kubeconfig {path}: no {key} {name!r}; there are: {known}")


def _data(
    section: Mapping[str, Any], key: str, file_key: str, base: Path, *, encoded: bool
) -> bytes | None:
    if value := section.get(key):
        return base64.b64decode(value) if encoded else str(value).encode()
    if value := section.get(file_key):
        return Path(base / value).read_bytes()
    return None


def _tls_context(
    cluster: Mapping[str, Any], user: Mapping[str, Any], base: Path
) -> ssl.SSLContext:
    import ssl  # not yet needed while a control plane starts

    unsupported = {"exec", "auth-provider", "username"} & set(user)
    if unsupported:
        raise ClusterError(
            f"the kubeconfig's user logs in by {', '.join(sorted(unsupported))}, which "
            "is not supported; use a client certificate or a token"
        )
    ca = _data(
        cluster,
        "certificate-authority-data",
        "certificate-authority",
        base,
        encoded=True,
    )
    tls = ssl.create_default_context(cadata=ca.decode() if ca else None)
    # From Python 3.13 on it demands what other Kubernetes clients do without.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate = _data(
        user, "client-certificate-data", "client-certificate", base, encoded=True
    )
    key = _data(user, "client-key-data", "client-key", base, encoded=True)
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


def _write_private(path: Path, config: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(path, flags, 0o600), "w") as f:
        os.fchmod(f.fileno(), 0o600)  # it may have been there before
        json.dump(config, f, indent=1)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
