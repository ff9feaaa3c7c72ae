"""Kubeconfig files: written for identities, narrowed to a context, read for clients."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pytest_kube.errors import ClusterError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from urllib.parse import SplitResult

__tracebackhide__ = hide_frames

_FILES = {"certificate-authority", "client-certificate", "client-key", "tokenFile"}
_SECTIONS = {"contexts": "context", "clusters": "cluster", "users": "user"}


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
    save(path, config)
    return path


def save(path: Path, config: Mapping[str, Any]) -> None:
    """Write a kubeconfig that only its owner can read; who reads it sees all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as f:
        json.dump(config, f, indent=1)
    Path(f.name).replace(path)


def narrow(sources: Sequence[Path], context: str) -> dict[str, Any]:
    """Return what kubeconfig files have on one context, and nothing else.

    Where several have an entry of a name, that of the first file counts, as it does
    for kubectl; paths of files become absolute.

    Raises:
        ClusterError: They have no such context, or none that is complete; the text
            lists what they have.
    """
    configs = [(path, _load(path)) for path in sources]
    where = os.pathsep.join(map(str, sources))
    found: dict[str, dict[str, Any]] = {}
    names = {"contexts": context}
    for section, key in _SECTIONS.items():
        entries: list[tuple[Path, Mapping[str, Any]]] = [
            (path, entry)
            for path, config in configs
            for entry in _entries(config, section, path)
        ]
        details = _named([e for _, e in entries], names[section], key, where)
        path = next(p for p, e in entries if e["name"] == names[section])
        found[section] = _absolute(details, path.parent)
        if section == "contexts":
            names["clusters"] = str(details.get("cluster", ""))
            names["users"] = str(details.get("user", ""))
    config: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"}
    for section, key in _SECTIONS.items():
        config[section] = [{"name": names[section], key: found[section]}]
    return {**config, "current-context": context}


def context_names(sources: Sequence[Path]) -> list[str]:
    """Return the names of the contexts that kubeconfig files have.

    Raises:
        ClusterError: One cannot be read.
    """
    found = [_entries(_load(path), "contexts", path) for path in sources]
    return list(dict.fromkeys(str(e["name"]) for entries in found for e in entries))


def current_context(sources: Sequence[Path]) -> str:
    """Return the current context of kubeconfig files, that of the first which has one.

    Raises:
        ClusterError: One cannot be read.
    """
    names = (_load(path).get("current-context") for path in sources)
    return next((str(name) for name in names if name), "")


def _absolute(details: dict[str, Any], base: Path) -> dict[str, Any]:
    for file in _FILES & set(details):
        details[file] = str((base / details[file]).absolute())
    plug_in = details.get("exec")
    if isinstance(plug_in, dict) and "/" in str(plug_in.get("command")):
        command = str((base / plug_in["command"]).absolute())
        details["exec"] = {**plug_in, "command": command}
    return details


def impersonating(source: Path, user: str, groups: Sequence[str], target: Path) -> Path:
    """Copy a kubeconfig so that its user acts as another one."""
    config = _load(source)
    for entry in config["users"]:
        entry["user"] |= {"as": user, "as-groups": list(groups)}
    save(target, config)
    return target


def with_token(source: Path, token: str, target: Path) -> Path:
    """Copy a kubeconfig so that its user is whose token it is."""
    config = _load(source)
    for entry in config["users"]:
        entry["user"] = {"token": token}
    save(target, config)
    return target


def in_namespace(source: Path, namespace: str, target: Path) -> Path:
    """Copy a kubeconfig so that objects are in *namespace* unless they say it."""
    config = _load(source)
    for entry in config["contexts"]:
        entry["context"]["namespace"] = namespace
    save(target, config)
    return target


def through(source: Path, server: str, target: Path) -> Path:
    """Copy a kubeconfig so that its server is reached by another URL."""
    config = _load(source)
    for entry in config["clusters"]:
        entry["cluster"]["server"] = server
    save(target, config)
    return target


def current(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return cluster and user of a kubeconfig's current context."""
    config = _load(path)

    def named(section: str, name: str) -> dict[str, Any]:
        entries = _entries(config, section, path)
        return _named(entries, name, _SECTIONS[section], str(path))

    chosen = named("contexts", config.get("current-context", ""))
    return (
        named("clusters", chosen.get("cluster", "")),
        named("users", chosen.get("user", "")),
    )


def server(cluster: Mapping[str, Any], path: Path) -> str:
    """Return the URL of a kubeconfig's cluster.

    Raises:
        ClusterError: It has none.
    """
    if not (url := cluster.get("server")):
        raise ClusterError(f"kubeconfig {path}: its cluster has no server")
    return str(url).rstrip("/")


def server_of(path: Path) -> SplitResult:
    """Return the server's URL of a kubeconfig's current context.

    Raises:
        ClusterError: It has none.
    """
    cluster, _ = current(path)
    return urlsplit(server(cluster, path))


def credential(path: Path) -> str:
    """Return what the API server calls the token of a kubeconfig's user.

    Empty where it has none, or one that names no id.
    """
    _, user = current(path)
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


def _entries(
    config: Mapping[str, Any], section: str, path: Path
) -> list[Mapping[str, Any]]:
    entries = config.get(section) or []
    key = _SECTIONS[section]
    if not isinstance(entries, list) or not all(
        isinstance(e, dict)
        and isinstance(e.get("name"), str)
        and isinstance(e.get(key) or {}, dict)
        for e in entries
    ):
        raise ClusterError(
            f"kubeconfig {path}: not a kubeconfig: {section} is no list of entries "
            f"with a name and a {key}"
        )
    return entries


def _named(
    entries: Iterable[Mapping[str, Any]], name: str, key: str, where: str
) -> dict[str, Any]:
    """Return an entry of a kubeconfig's section.

    Raises:
        ClusterError: There is none of that name; the text lists those there are.
    """
    names = []
    for entry in entries:
        if entry["name"] == name:
            return dict(entry.get(key) or {})
        names.append(entry["name"])
    near = get_close_matches(name, names, n=1)
    guess = f"did you mean {near[0]}? There" if near else "there"
    raise ClusterError(
        f"kubeconfig {where}: no {key} {name!r}; {guess} are: "
        f"{', '.join(names) or 'none'}"
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
