"""Kubernetes Events: what components and controllers tell about objects."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_kube.client import Client
    from pytest_kube.discovery import Resource

WARNINGS = 8
"""Lines of :func:`warnings`."""


def about(
    client: Client, resource: Resource, name: str, namespace: str
) -> list[dict[str, Any]]:
    """Return the Events about an object, oldest first.

    Those about an earlier object of that name are among them.
    """
    # Those about cluster-scoped objects are in this one.
    path = f"/api/v1/namespaces/{namespace or 'default'}/events"
    involved = {"involvedObject.kind": resource.kind, "involvedObject.name": name}
    common = {"apiVersion": "v1", "kind": "Event"}
    found = client.list(path, fields=involved).items
    return [{**common, **event} for event in in_order(found)]


def of_namespace(client: Client, namespace: str) -> list[dict[str, Any]]:
    """Return the Warnings about all objects of a namespace."""
    path = f"/api/v1/namespaces/{namespace}/events"
    return client.list(path, fields="type=Warning").items


def in_order(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return Events oldest first."""
    return sorted(events, key=lambda e: int(e["metadata"]["resourceVersion"]))


def warnings(events: Iterable[dict[str, Any]]) -> list[str]:
    """Return a line for each kind of warning about each object, the latest last."""
    latest: dict[tuple[Any, Any, Any], str] = {}
    times: Counter[tuple[Any, Any, Any]] = Counter()
    for event in in_order(events):
        if event.get("type") == "Warning":
            involved = event.get("involvedObject") or {}
            key = (involved.get("kind"), involved.get("name"), event.get("reason"))
            times[key] += 1
            latest.pop(key, None)
            latest[key] = line(event).removeprefix("Warning  ")
    lines = [
        text + (f" ({times[key]} times)" if times[key] > 1 else "")
        for key, text in latest.items()
    ]
    return lines[-WARNINGS:]


def line(event: dict[str, Any]) -> str:
    """Return an Event in a line."""
    involved = event.get("involvedObject") or {}
    what = f"{involved.get('kind')}/{involved.get('name')}"
    return f"{event.get('type')}  {event.get('reason')}  {what}  {event.get('message')}"


def own_line(event: Mapping[str, Any]) -> str:
    """Return an Event about a known object in a line, with how often it came."""
    text = f"{event.get('type')}  {event.get('reason')}  {event.get('message')}"
    count = event.get("count") or (event.get("series") or {}).get("count") or 1
    return f"{text} ({count} times)" if count > 1 else text
