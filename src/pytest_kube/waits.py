"""One wait for one object: list, watch, look at every version, explain a timeout."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kube.errors import APIError, ClusterError, WaitTimeoutError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from pytest_kube.client import Resource, Watch
    from pytest_kube.cluster import Cluster
    from pytest_kube.conditions import Condition

__tracebackhide__ = hide_frames

ConditionLike = Callable[[Any], Any] | str
"""A condition, a function of the object or ``None``, or what kubectl wait takes."""

_GONE = 410
_EVENTS_SHOWN = 5
_FIRST_LOOK = 2.0
"""Seconds for the first answer, however short the wait: even one of 0 s looks once."""


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
        self.looked = False
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
            answered = False
            while True:
                left = started + self.timeout - time.monotonic()
                if left < -_FIRST_LOOK:
                    break  # not even a flood of versions prolongs it for ever
                try:
                    news = self.news.get(
                        timeout=max(left, 0.0 if answered else _FIRST_LOOK)
                    )
                except queue.Empty:
                    break
                self._check_controllers()
                if news is _CONTROLLER:
                    continue
                answered = True
                if isinstance(news, Exception):
                    self.error = news
                elif self._holds(news):
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
        __tracebackhide__ = True  # the error is one of the user's condition
        self.looked = True
        self.error = None
        self.last = obj
        self.seen = self.last or self.seen
        try:
            return bool(self.condition(self.last))
        except Exception as e:
            what = "an object" if obj else "None, for there is no such object"
            e.add_note(
                f"The condition {self.condition.name!r} raised this when asked about "
                f"{what}: {self._what()}. It is asked about every version, also one "
                "without a status, and about None while there is none."
            )
            raise

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
            # A server, or a proxy, that closes every watch at once is not flooded.
            self.ended.wait(0.01)

    # --- the text of a timeout ----------------------------------------------

    def _explain(self, elapsed: float) -> str:
        lines = [
            f"{self._what()}: {self.condition.name} not reached within {elapsed:.1f} s"
        ]
        lines += self._explain_object()
        if self.error is not None:
            lines.append(f"  API server   {self.error}")
        lines += [f"  events       {event}" for event in self._events()]
        lines += [f"  controller   {c.summary()}" for c in self.controllers]
        if not self.controllers:
            lines.append("  controller   none was started; kube_controller starts it")
        return "\n".join(lines)

    def _what(self) -> str:
        where = f"{self.namespace}/" if self.resource.namespaced else ""
        return f"{self.resource.kind} {where}{self.name}"

    def _explain_object(self) -> list[str]:
        obj = self.last
        if not self.looked:
            return ["  last seen    never: the API server did not answer"]
        if obj is None:
            was = "it was deleted meanwhile" if self.seen else "it was never there"
            return [f"  last seen    no such object; {was}"]
        metadata, status = obj["metadata"], obj.get("status")
        if not isinstance(status, dict):  # nothing says that it has to be one
            status = {"status": status} if status else {}
        text = f"resourceVersion {metadata.get('resourceVersion')}"
        generation = metadata.get("generation")
        if generation is not None:
            text += f", generation {generation}"
        observed = status.get("observedGeneration")
        if observed is not None:
            text += f", observedGeneration {observed}"
            if isinstance(observed, int) and observed < (generation or 0):
                text += " (the controller has not seen the latest spec)"
        lines = [f"  last seen    {text}"]
        if metadata.get("deletionTimestamp"):
            finalizers = ", ".join(metadata.get("finalizers") or ["none"])
            lines.append(
                f"  deleting     since {metadata['deletionTimestamp']}, "
                f"finalizers left: {finalizers}"
            )
        if not status and "spec" in obj:
            lines.append("  status       empty: nothing has written to it yet")
        return lines + _explain_status(status)

    def _events(self) -> list[str]:
        if not self.resource.namespaced:
            return []
        kind = self.resource.kind
        selector = f"involvedObject.kind={kind},involvedObject.name={self.name}"
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


def _explain_status(status: dict[str, Any]) -> list[str]:
    conditions = status.get("conditions")
    usual = conditions is None or (
        isinstance(conditions, list) and all(map(_is_condition, conditions))
    )
    lines = []
    for entry in conditions if usual and conditions else ():
        details = "".join(
            f"  {key}={entry[key]!r}" if key == "message" else f"  {key}={entry[key]}"
            for key in ("reason", "message")
            if entry.get(key)
        )
        lines.append(f"  conditions   {entry['type']}={entry['status']}{details}")
    told = {"observedGeneration", "conditions" if usual else ""}
    if rest := {k: v for k, v in status.items() if k not in told}:
        lines.append(f"  status       {_short(rest)}")
    return lines


def _is_condition(value: Any) -> bool:
    return isinstance(value, dict) and {"type", "status"} <= set(value)


def _short(value: object, limit: int = 300) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
