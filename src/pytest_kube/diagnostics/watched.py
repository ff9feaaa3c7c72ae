"""What changed in a test on a cluster whose etcd is out of reach.

Nothing is recorded while a test runs. An API server remembers recent changes for those
who watch: asked to begin where the test began, it tells them again. It does not
remember for long, and what it has forgotten is said.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pytest_kube.audit import Write
from pytest_kube.errors import KubeError
from pytest_kube.history import Version
from pytest_kube.objects import Object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_kube.client import Client
    from pytest_kube.discovery import Resource

THREADS = 32
SECONDS = 1
"""For which each watch is open: what happened is told at once."""

_TIMEOUT = 3.0


@dataclass
class Recalled:
    """What an API server remembers.

    Attributes:
        versions: The changes, in order.
        missed: What may be missing, a line each.
    """

    versions: list[Version] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def recalled(
    client: Client, resources: Iterable[Resource], namespace: str, since: str
) -> Recalled:
    """Ask for all changes in a namespace since then.

    Who made a change is what managedFields call its manager, and when is known to the
    second; the order is that of the API server.

    Args:
        client: Who asks.
        resources: What is asked for; those that cannot be watched are left out.
        namespace: The namespace.
        since: The resourceVersion of a list when the test began.
    """
    found = Recalled()
    watched = [r for r in resources if r.namespaced and "watch" in r.verbs]
    with ThreadPoolExecutor(THREADS) as pool:
        asked = [pool.submit(_ask, client, r, namespace, since) for r in watched]
    for resource, answer in zip(watched, asked, strict=True):
        try:
            found.versions += _versions(answer.result(), resource, found.missed)
        except (KubeError, ValueError, KeyError) as e:
            reason = str(e).partition("\n")[0]
            found.missed.append(f"changes of {resource.full_name}: {reason}")
    found.versions.sort(key=lambda version: version.revision)
    return found


def _ask(client: Client, resource: Resource, namespace: str, since: str) -> str:
    query = {
        "watch": "true",
        "resourceVersion": since,
        "timeoutSeconds": str(SECONDS),
    }
    path = f"{resource.path(namespace)}?{urlencode(query)}"
    return client.text(path, timeout=SECONDS + _TIMEOUT)


def _versions(text: str, resource: Resource, missed: list[str]) -> Iterator[Version]:
    newest: dict[str, Object] = {}
    for line in text.splitlines():
        event = json.loads(line)
        if event["type"] == "ERROR":
            reason = event["object"].get("message") or "it does not say why"
            missed.append(f"changes of {resource.full_name}: {reason}")
            return
        obj = Object(event["object"])
        obj.setdefault("apiVersion", resource.api_version)
        obj.setdefault("kind", resource.kind)
        before = newest.pop(obj.uid, None)
        if event["type"] == "MODIFIED" and before is None:
            # It was there when the test began; what it was then, nobody knows.
            missed.append(f"what {obj.kind} {obj.name} was when the test began")
            kept = ("apiVersion", "kind", "metadata")
            before = Object({name: obj[name] for name in kept})
        after = None if event["type"] == "DELETED" else obj
        if after is not None:
            newest[obj.uid] = after
        write = _write(obj, event["type"])
        revision = int(obj["metadata"]["resourceVersion"])
        yield Version(
            after,
            before if after is not None else before or obj,
            revision,
            "",
            lambda *_, write=write: write,
        )


def _write(obj: Mapping[str, Any], type_: str) -> Write:
    """Say who has probably made a change, and when, as far as the object tells."""
    metadata = obj["metadata"]
    times = [metadata["creationTimestamp"]]
    manager = ""
    for entry in metadata.get("managedFields") or ():
        if entry.get("time", "") >= max(times):
            times.append(entry["time"])
            manager = entry.get("manager", "")
    if type_ == "DELETED":
        when = datetime.now(UTC).replace(microsecond=0)
        if told := metadata.get("deletionTimestamp"):
            when = min(when, datetime.fromisoformat(told))
        return Write("", "delete", when)
    verb = "create" if type_ == "ADDED" else "update"
    return Write(manager, verb, datetime.fromisoformat(max(times)))
