"""Logs of the containers of pods, asked of the API server. Never raises."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from pytest_kube.errors import KubeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from pytest_kube.client import Client

LINES = 5000
"""Of each log, the last ones."""

TIMEOUT = 10.0
"""Seconds for one log; a node that hangs is not to keep the others' from us."""

_SECTIONS = (
    ("initContainers", "initContainerStatuses"),
    ("containers", "containerStatuses"),
    ("ephemeralContainers", "ephemeralContainerStatuses"),
)


class ContainerLog(NamedTuple):
    """What a container has written.

    Attributes:
        pod: The pod, ``NAMESPACE/NAME``.
        container: The container's name.
        previous: Whether it is that of the container's last life, before a restart.
        text: The log, each line with its time; or why there is none.
    """

    pod: str
    container: str
    previous: bool
    text: str

    @property
    def name(self) -> str:
        """The container's name, and which life of it is meant."""
        return f"{self.container}{'.previous' if self.previous else ''}"


def pod_logs(
    client: Client,
    pods: Iterable[Mapping[str, Any]],
    *,
    deadline: float,
    since: datetime | None = None,
    lines: int = LINES,
) -> Iterator[ContainerLog]:
    """Yield the logs of pods, container by container, that of the last life first.

    Containers that never started have none, and are left out. What cannot be had is
    told in place of the text.

    Args:
        client: Who asks.
        pods: The pods, as the API server answers.
        deadline: Until when, by ``time.monotonic()``. What comes too late is left out
            with a text that says so.
        since: Leave out what was written before.
        lines: Of each log, the last ones.
    """
    query = {"timestamps": "true", "tailLines": str(lines)}
    if since is not None:
        query["sinceTime"] = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    for pod in pods:
        metadata = pod["metadata"]
        namespace, name = metadata.get("namespace", "default"), metadata["name"]
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}/log"
        for container, previous in _lives(pod):
            asked = {**query, "container": container}
            if previous:
                asked["previous"] = "true"
            text = _text(client, f"{path}?{urlencode(asked)}", deadline)
            yield ContainerLog(f"{namespace}/{name}", container, previous, text)


def _lives(pod: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield each container that has a log, and whether its previous one is meant."""
    status = pod.get("status") or {}
    for section, reported in _SECTIONS:
        statuses = {each["name"]: each for each in status.get(reported) or ()}
        for container in (pod.get("spec") or {}).get(section) or ():
            found = statuses.get(container["name"]) or {}
            # One that crashes again and again waits between two lives.
            if found.get("restartCount") or (found.get("lastState") or {}):
                yield container["name"], True
            state = found.get("state") or {}
            if "running" in state or "terminated" in state:
                yield container["name"], False


def _text(client: Client, path: str, deadline: float) -> str:
    left = deadline - time.monotonic()
    if left <= 0:
        return "(not fetched: it took too long to get the logs before it)"
    try:
        return client.text(path, timeout=min(left, TIMEOUT))
    except (KubeError, OSError) as e:
        return f"(not to be had: {e})"
