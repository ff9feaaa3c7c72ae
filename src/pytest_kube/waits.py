"""One wait for one object: list, watch, look at every version, explain a timeout."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kube.errors import APIError, ClusterError, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from pytest_kube.client import Resource, Watch
    from pytest_kube.cluster import Cluster
    from pytest_kube.conditions import Condition

ConditionLike = Callable[[Any], Any] | str
"""A condition, a function of the object or ``None``, or what kubectl wait takes."""

_GONE = 410
_EVENTS_SHOWN = 5


class Running(Protocol):
    """What a wait needs to know of a controller under test."""

    name: str
    exited: Future[None]

    @property
    def errors(self) -> list[str]:
        """What its handlers raised without ending it."""

    @property
    def output(self) -> str:
        """What it logged or printed so far."""

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of its output."""

    def failure(self) -> Exception | None:
        """Return the error to raise when it is not running any more."""

    def summary(self) -> str:
        """Say in one line how it is doing."""


class Wait:
    """One wait: list, then watch from there, in a thread that feeds a queue.

    The queue is what lets a controller's end, which is no event of the API, end the
    wait as well.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        resource: Resource,
        name: str,
        namespace: str,
        condition: Condition,
        timeout: float,
        controllers: Sequence[Running],
    ) -> None:
        self.cluster = cluster
        self.controllers = controllers
        self.resource = resource
        self.name = name
        self.namespace = namespace
        self.condition = condition
        self.timeout = timeout
        self.last: dict[str, Any] | None = None
        self.seen: dict[str, Any] | None = None
        self.error: Exception | None = None
        self.news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ended = threading.Event()
        self.watch: Watch | None = None

    def run(self) -> dict[str, Any]:
        """Wait, and return the object for which the condition held."""
        __tracebackhide__ = True
        started = time.monotonic()
        for controller in self.controllers:
            controller.exited.add_done_callback(lambda _: self.news.put(_CONTROLLER))
        thread = threading.Thread(
            target=self._observe, name=f"pytest-kube wait {self.name}", daemon=True
        )
        thread.start()
        try:
            while (left := started + self.timeout - time.monotonic()) > 0 or (
                not self.news.empty()
            ):
                try:
                    news = self.news.get(timeout=max(0.0, left))
                except queue.Empty:
                    break
                self._check_controllers()
                if isinstance(news, Exception):
                    self.error = news
                elif news is not _CONTROLLER and self._holds(news):
                    return self.last or self.seen or {}
        finally:
            self.ended.set()
            if self.watch is not None:
                self.watch.close()
        self._check_controllers()
        elapsed = time.monotonic() - started
        raise WaitTimeoutError(self._explain(elapsed), last=self.last, elapsed=elapsed)

    def _check_controllers(self) -> None:
        __tracebackhide__ = True
        for controller in self.controllers:
            if failure := controller.failure():
                raise failure

    def _holds(self, obj: dict[str, Any] | None) -> bool:
        self.last = obj
        self.seen = self.last or self.seen
        return bool(self.condition(self.last))

    # --- in the thread ------------------------------------------------------

    def _observe(self) -> None:
        while not self.ended.is_set():
            try:
                self._list_and_watch()
            except (APIError, ClusterError) as e:
                # The API server may be starting again; the deadline is the caller's.
                self.news.put(e)
                self.ended.wait(0.1)

    def _list_and_watch(self) -> None:
        client = self.cluster.client
        path = self.resource.path(self.namespace)
        query = {"fieldSelector": f"metadata.name={self.name}"}
        answer = client.request("GET", path, query=query)
        common = {"apiVersion": self.resource.api_version, "kind": self.resource.kind}
        items = answer["items"]
        self.news.put({**common, **items[0]} if items else None)
        version = answer["metadata"]["resourceVersion"]
        while not self.ended.is_set():
            self.watch = client.watch(path, {**query, "resourceVersion": version})
            if self.ended.is_set():
                self.watch.close()
            for event in self.watch:
                obj = event["object"]
                if event["type"] == "ERROR":
                    if obj.get("code") == _GONE:
                        return
                    self.news.put(
                        ClusterError(f"watch of {path}: {obj.get('message')}")
                    )
                    self.ended.wait(0.1)
                    return
                version = obj["metadata"]["resourceVersion"]
                self.news.put(None if event["type"] == "DELETED" else obj)

    # --- the text of a timeout ----------------------------------------------

    def _explain(self, elapsed: float) -> str:
        where = f"{self.namespace}/" if self.resource.namespaced else ""
        what = f"{self.resource.kind} {where}{self.name}"
        lines = [f"{what}: {self.condition.name} not reached within {elapsed:.1f} s"]
        lines += self._explain_object()
        if self.error is not None:
            lines.append(f"  API server   {self.error}")
        lines += [f"  events       {event}" for event in self._events()]
        lines += [f"  controller   {c.summary()}" for c in self.controllers]
        return "\n".join(lines)

    def _explain_object(self) -> list[str]:
        obj = self.last
        if obj is None:
            was = "it was deleted meanwhile" if self.seen else "it was never there"
            return [f"  last seen    no such object; {was}"]
        metadata, status = obj["metadata"], obj.get("status") or {}
        text = f"resourceVersion {metadata.get('resourceVersion')}"
        if "generation" in metadata:
            text += f", generation {metadata['generation']}"
        observed = status.get("observedGeneration")
        if observed is not None:
            text += f", observedGeneration {observed}"
            if observed < metadata.get("generation", 0):
                text += " (the controller has not seen the latest spec)"
        lines = [f"  last seen    {text}"]
        if metadata.get("deletionTimestamp"):
            finalizers = ", ".join(metadata.get("finalizers") or ["none"])
            lines.append(
                f"  deleting     since {metadata['deletionTimestamp']}, "
                f"finalizers left: {finalizers}"
            )
        if not status:
            lines.append("  status       empty: nothing has written to it yet")
        for entry in status.get("conditions") or ():
            details = "".join(
                f"  {key}={entry[key]!r}"
                if key == "message"
                else f"  {key}={entry[key]}"
                for key in ("reason", "message")
                if entry.get(key)
            )
            lines.append(f"  conditions   {entry['type']}={entry['status']}{details}")
        rest = {k: v for k, v in status.items() if k not in _TOLD}
        if rest:
            lines.append(f"  status       {_short(rest)}")
        return lines

    def _events(self) -> list[str]:
        if not self.resource.namespaced:
            return []
        selector = f"involvedObject.name={self.name}"
        try:
            answer = self.cluster.client.request(
                "GET",
                f"/api/v1/namespaces/{self.namespace}/events",
                query={"fieldSelector": selector},
            )
        except (APIError, ClusterError):
            return []
        events = sorted(
            answer["items"], key=lambda e: int(e["metadata"]["resourceVersion"])
        )
        return [
            f"{e.get('type')}  {e.get('reason')}  {e.get('message')}"
            for e in events[-_EVENTS_SHOWN:]
        ]


_CONTROLLER = object()
"""In the queue of a wait: some controller ended."""

_TOLD = {"conditions", "observedGeneration"}


def _short(value: object, limit: int = 300) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
