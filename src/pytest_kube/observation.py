"""What becomes of objects: list them, watch them, tell of every version."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kube.client import GONE, selected
from pytest_kube.errors import APIError, ClusterError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from pytest_kube.client import Client, Watch
    from pytest_kube.discovery import Resource
    from pytest_kube.system.processes import OutputLine

__tracebackhide__ = hide_frames

_FIRST_LOOK = 2.0
"""Seconds for the first answer, however short the wait: even one of 0 s looks once."""


class Running(Protocol):
    """What a wait needs to know of a controller under test."""

    name: str
    user: str
    credential: str
    exited: Future[None]

    @property
    def errors(self) -> list[str]:
        """What its handlers raised without ending it."""

    @property
    def output(self) -> str:
        """What it logged or printed so far."""

    def lines(self) -> Sequence[OutputLine]:
        """Return what it wrote, with times."""

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of its output."""

    def failure(self) -> Exception | None:
        """Return the error to raise when it is not running any more."""

    def summary(self) -> str:
        """Say in one line how it is doing."""


@dataclass(frozen=True)
class Change:
    """One version of one object after another, as a watch tells it.

    Attributes:
        before: The version before it; ``None`` when there was none.
        after: The version; ``None`` when the object was deleted.
        seconds: How long after the beginning of the wait it was seen.
    """

    before: dict[str, Any] | None
    after: dict[str, Any] | None
    seconds: float = 0.0


@dataclass(frozen=True)
class Target:
    """The objects that a wait is about.

    Attributes:
        resource: Their resource.
        namespace: Where they are; empty for all namespaces, or none.
        name: Of the one object; empty when there may be several.
        labels: The label selector of several.
    """

    resource: Resource
    namespace: str
    name: str = ""
    labels: str | Mapping[str, str] = ""

    @property
    def path(self) -> str:
        """The collection."""
        return self.resource.path(self.namespace)

    @property
    def selector(self) -> dict[str, str]:
        """What narrows the collection down to them."""
        fields = {"metadata.name": self.name} if self.name else ""
        return selected(self.labels, fields)

    def __str__(self) -> str:
        if self.name:
            where = f"{self.namespace}/" if self.resource.namespaced else ""
            return f"{self.resource.kind} {where}{self.name}"
        labels = ",".join(self.selector.get("labelSelector", "").split(","))
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.resource.plural}{where}{f' with {labels}' if labels else ''}"


class _Exited:
    """In the queue of an observation: some controller ended."""


@dataclass
class Observation:
    """What becomes of some objects from now on, until a deadline.

    Attributes:
        client: The cluster.
        target: The objects.
        timeout: Seconds.
        controllers: When one of them ends, that ends the observation.
        objects: The objects as last seen, by namespace and name.
        changes: What was seen since the first look.
        looked: Whether the server has answered at all.
        error: Why the server does not answer now, if it does not.
    """

    client: Client
    target: Target
    timeout: float
    controllers: Sequence[Running] = ()
    objects: dict[Any, dict[str, Any]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    looked: bool = False
    error: Exception | None = None
    _news: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    _ended: threading.Event = field(default_factory=threading.Event)
    _watch: Watch | None = None
    _started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    def run(self) -> Generator[list[Change]]:
        """Yield what is there at first, then each change; end at the deadline.

        The first look has no time limit but a small one of its own: also an
        observation of no time looks once. The first changes have no ``before``.

        Raises:
            ControllerExitedError: A controller under test ended.
        """
        self._check_controllers()
        try:
            version = ""
            try:
                limit = max(self.timeout, _FIRST_LOOK)
                first, version = self._list(timeout=limit)
            except (APIError, ClusterError) as e:
                self.error = e
            else:
                self.looked = True
                yield self._replace(first)
            if self.elapsed >= self.timeout:
                return
            for controller in self.controllers:
                controller.exited.add_done_callback(lambda _: self._news.put(_Exited()))
            thread = threading.Thread(
                target=self._observe,
                args=(version,),
                name=f"pytest-kube wait {self.target}",
                daemon=True,
            )
            thread.start()
            yield from self._told()
        finally:
            self._ended.set()
            if self._watch is not None:
                self._watch.close()
        self._check_controllers()

    def versions(self, uid: str | None = None) -> Generator[Change]:
        """Yield what :meth:`run` tells of one object, version by version.

        An object that is not there is a change from ``None`` to ``None``.

        Args:
            uid: Which object it was; when another one has taken its place, there was
                none in between.
        """
        with contextlib.closing(self.run()) as told:
            for i, changes in enumerate(told):
                for change in changes or [Change(None, None)]:
                    if not i and uid and change.after and _uid(change.after) != uid:
                        yield Change(None, None)
                    yield change

    def _told(self) -> Iterator[list[Change]]:
        while True:
            left = self.timeout - self.elapsed
            if left < -_FIRST_LOOK:
                return  # not even a flood of versions prolongs it for ever
            try:
                news = self._news.get(timeout=max(left, 0.0))
            except queue.Empty:
                return
            self._check_controllers()
            if isinstance(news, Exception):
                self.error = news
            elif isinstance(news, list | dict):
                self.error = None
                first, self.looked = not self.looked, True
                changes = (
                    self._replace(news)
                    if isinstance(news, list)
                    else self._follow(news)
                )
                if not first:
                    self.changes += changes
                if changes or first:
                    yield changes

    def _check_controllers(self) -> None:
        for controller in self.controllers:
            if failure := controller.failure():
                raise failure

    def _replace(self, items: list[dict[str, Any]]) -> list[Change]:
        """Take over a list; what vanished between two of them was deleted."""
        there = {key_of(item): item for item in items}
        changes = []
        for key, obj in list(self.objects.items()):
            if key not in there or _uid(there[key]) != _uid(obj):
                changes += self._change(key, None)
        for key, obj in there.items():
            known = self.objects.get(key)
            if known is None or _version(known) != _version(obj):
                changes += self._change(key, obj)
        return changes

    def _follow(self, event: dict[str, Any]) -> list[Change]:
        obj = event["object"]
        key = key_of(obj)
        if event["type"] == "DELETED":
            return self._change(key, None)
        known = self.objects.get(key)
        replaced = known is not None and _uid(known) != _uid(obj)
        return (self._change(key, None) if replaced else []) + self._change(key, obj)

    def _change(self, key: Any, obj: dict[str, Any] | None) -> list[Change]:
        before = self.objects.pop(key, None)
        if obj is not None:
            self.objects[key] = obj
        return [Change(before, obj, self.elapsed)]

    # --- in the thread ------------------------------------------------------

    def _observe(self, version: str) -> None:
        while not self._ended.is_set():
            try:
                if not version:
                    items, version = self._list()
                    self._news.put(items)
                version = self._follow_watch(version)
            except (APIError, ClusterError) as e:
                # The API server may be starting again; the deadline is the caller's.
                self._news.put(e)
                self._ended.wait(0.1)
                if isinstance(e, APIError | _UnusableError):
                    version = ""

    def _list(self, **how: float) -> tuple[list[dict[str, Any]], str]:
        resource = self.target.resource
        selector = self.target.selector
        with self._understood():
            items, version = self.client.list(
                self.target.path,
                labels=selector.get("labelSelector", ""),
                fields=selector.get("fieldSelector", ""),
                **how,
            )
            whole = resource.whole(items)
            return [item for item in whole if self._is_meant(item)], version

    def _follow_watch(self, version: str) -> str:
        """Watch from a version until the server ends it; return the last one."""
        query = {**self.target.selector, "resourceVersion": version}
        self._watch = self.client.watch(self.target.path, query)
        if self._ended.is_set():
            self._watch.close()
        with self._understood():
            for event in self._watch:
                obj = event["object"]
                if event["type"] == "ERROR":
                    if obj.get("code") != GONE:
                        text = f"watch of {self.target.path}: {obj.get('message')}"
                        raise _UnusableError(text)
                    return ""
                version = obj["metadata"]["resourceVersion"]
                if self._is_meant(obj):
                    self._news.put(event)
        # A server, or a proxy, that closes every watch at once is not flooded.
        self._ended.wait(0.01)
        return version

    def _is_meant(self, obj: Mapping[str, Any]) -> bool:
        name = key_of(obj)[1]
        return not self.target.name or name == self.target.name

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Turn what an answer without sense leads to into an error that says so."""
        try:
            yield
        except (AttributeError, KeyError, TypeError) as e:
            raise _UnusableError(
                f"the answer to {self.target.path} is none of an API server: "
                f"{type(e).__name__}: {e}"
            ) from e


class _UnusableError(ClusterError):
    """An answer from which a watch cannot go on; listing again may help."""


def key_of(obj: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what tells an object from the others of its resource."""
    metadata = obj["metadata"]
    return metadata.get("namespace"), metadata["name"]


def _uid(obj: Mapping[str, Any]) -> Any:
    return obj["metadata"].get("uid")


def _version(obj: Mapping[str, Any]) -> Any:
    return obj["metadata"].get("resourceVersion")
