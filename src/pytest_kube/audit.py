"""The API server's audit log: which request made which revision of which object.

The answer to a write holds the ``resourceVersion`` that it made, which is etcd's
revision. Not every one: a request that changes nothing is answered with the revision
that stands, one that deletes may be answered with a ``Status``, and may make several
revisions. Where two users come into question, none is named: a wrong name is worse.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from pytest_kube.reports import at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PATIENCE = 1.0
"""Seconds until the line of a write that was answered is in the log, at most."""

_PAUSE = 0.01
_CHUNK = 1024 * 1024
_SLACK = timedelta(seconds=1)
_WRITES = b'"level":"RequestResponse"'
"""The audit policy gives this level to writes only."""

_HEAD = 200
"""Bytes at the start of a line in which its level stands."""

_CREATED = 201
_ERRORS = 300
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Write:
    """Who made a revision, how and when."""

    user: str
    verb: str
    time: datetime


@dataclass(frozen=True)
class _Line:
    """A write that succeeded, as far as it matters here.

    Attributes:
        revision: The ``resourceVersion`` of the object in the answer.
        known: The one in the request: it is to be changed from that.
        uids: The objects that it is about.
        target: The namespace and name of the object that it is about.
        grace: The seconds of grace of a deletion, where it says so.
        node: To which node it binds a pod.
        last: Whether the answer is an object that this request let go.
    """

    user: str
    verb: str
    subresource: str
    code: int
    received: datetime
    done: datetime
    revision: int
    known: str
    uids: frozenset[str]
    target: tuple[Any, Any]
    grace: int | None
    node: str
    last: bool

    @property
    def deletes(self) -> bool:
        return self.verb in {"delete", "deletecollection"} or self.evicts

    @property
    def evicts(self) -> bool:
        return self.subresource == "eviction"


class AuditLog:
    """The part of an audit log that tells of what was written since a revision.

    Args:
        path: The log; rotated files stand beside it. It need not exist.
        first: The first revision that matters.
    """

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        self._first = first
        self._by_revision: dict[int, list[_Line]] = {}
        self._by_object: dict[Any, list[_Line]] = {}
        self._revisions: list[int] = []
        self._made_by = [_NEVER]
        self._deadline = time.monotonic() + PATIENCE
        self._size = -1
        self._complete = False

    def write_of(
        self,
        revision: int,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
    ) -> Write | None:
        """Return who changed an object from *before* to *after*, where that is sure.

        The log is read at the first call, and again while the line may be on its way.
        """
        while True:
            self._read()
            lines = self._candidates(revision, before, after)
            if lines or self._complete:
                break
            time.sleep(_PAUSE)
        if len({line.user for line in lines}) != 1:
            return None
        line = min(lines, key=lambda line: line.done)
        verb = line.verb
        if line.subresource in {"binding", "eviction"}:
            # Created is but the request.
            verb = "delete" if line.evicts else "update"
        return Write(line.user, verb, line.done)

    # --- which line ---------------------------------------------------------

    def _candidates(
        self,
        revision: int,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
    ) -> list[_Line]:
        """Return the lines of requests that may have made a revision."""
        obj = after or before or {}
        uid = at(obj, "metadata", "uid")
        target = (at(obj, "metadata", "namespace"), at(obj, "metadata", "name"))
        # Whoever was answered with it, or with a later one, has seen it made. Whoever
        # asked after that had no part in it.
        made_by = self._made_by[bisect.bisect_left(self._revisions, revision)]
        exact, about = (
            [line for line in lines if line.received <= made_by]
            for lines in (
                self._by_revision.get(revision, ()),
                (*self._by_object.get(uid, ()), *self._by_object.get(target, ())),
            )
        )
        exact = [line for line in exact if uid in line.uids and not line.last]
        if before is None:
            return [line for line in exact if line.code == _CREATED]
        if after is None:
            return _removing(exact, about, before)
        if _marks(before) != _marks(after):
            return _marking(exact, about, after, revision)
        node = at(after, "spec", "nodeName")
        if node and not at(before, "spec", "nodeName"):
            return [line for line in about if line.node == node]
        # Answered with the revision that it knew, a request changed nothing.
        changing = [line for line in exact if line.known != str(revision)]
        return changing or [line for line in about if line.evicts]

    # --- reading ------------------------------------------------------------

    def _read(self) -> None:
        """Read the log, unless it is as it was, or was read when it was complete."""
        if self._complete:
            return
        self._complete = time.monotonic() >= self._deadline
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:  # the profile logs elsewhere, or not at all
            self._complete = True
            return
        if size == self._size:
            return
        self._size = size
        by_revision: dict[int, list[_Line]] = defaultdict(list)
        by_object: dict[Any, list[_Line]] = defaultdict(list)
        latest: dict[int, datetime] = {}
        for line in _lines_since(self._path, self._first):
            if line.revision:
                by_revision[line.revision].append(line)
                known = latest.get(line.revision, line.done)
                latest[line.revision] = min(known, line.done)
            if line.deletes or line.last or line.node:
                for uid in line.uids:
                    by_object[uid].append(line)
                if line.evicts:
                    by_object[line.target].append(line)
        self._by_revision, self._by_object = by_revision, by_object
        self._revisions = sorted(latest)
        made_by = [_NEVER]
        for revision in reversed(self._revisions):
            made_by.append(min(made_by[-1], latest[revision]))
        self._made_by = made_by[::-1]


def _removing(
    exact: list[_Line], about: list[_Line], before: Mapping[str, Any]
) -> list[_Line]:
    """Return the lines that may have removed an object."""
    if answered := [line for line in exact if line.verb == "delete"]:
        return answered
    # What has finalizers goes when the last of them goes, not when it is deleted.
    held = bool(at(before, "metadata", "finalizers"))
    return [
        line
        for line in about
        if line.last or (not held and line.deletes and not line.revision)
    ]


def _marking(
    exact: list[_Line], about: list[_Line], after: Mapping[str, Any], revision: int
) -> list[_Line]:
    """Return the lines that may have marked an object as being deleted."""
    if answered := [line for line in exact if line.verb == "delete"]:
        return answered
    # One request may mark it first, and then remove it.
    deleting = [
        line for line in about if line.deletes and not 0 < line.revision < revision
    ]
    usual = at(after, "spec", "terminationGracePeriodSeconds") or 0
    granted = at(after, "metadata", "deletionGracePeriodSeconds")
    fitting = [
        line
        for line in deleting
        if (usual if line.grace is None else line.grace) == granted
    ]
    return fitting or deleting


def _marks(obj: Mapping[str, Any]) -> tuple[Any, Any]:
    return (
        at(obj, "metadata", "deletionTimestamp"),
        at(obj, "metadata", "deletionGracePeriodSeconds"),
    )


# --- the log --------------------------------------------------------------------


def _lines_since(path: Path, first: int) -> Iterator[_Line]:
    """Yield the writes that may have made *first* or later revisions, newest first."""
    before = None
    for raw in raw_lines(path):
        line = _line(raw)
        if line is None:
            continue
        if before and line.done < before - _SLACK:
            return
        # An object that is new has a new revision; no other answer is sure to.
        if line.code == _CREATED and 0 < line.revision < first:
            before = max(before or line.received, line.received)
        yield line


def raw_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of the log and its rotated files, last to first."""
    with contextlib.ExitStack() as stack:
        # What is rotated away from now on stays open, and so readable.
        files = [stack.enter_context(path.open("rb"))]
        for rotated in sorted(path.parent.glob(f"{path.stem}-*{path.suffix}")):
            with contextlib.suppress(FileNotFoundError):
                files.insert(1, stack.enter_context(rotated.open("rb")))
        for file in files:
            yield from _backwards(file)


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    position, rest = file.seek(0, 2), b""
    while position:
        size = min(_CHUNK, position)
        position -= size
        file.seek(position)
        rest, *lines = (file.read(size) + rest).split(b"\n")
        yield from reversed(lines)
    yield rest


def _line(raw: bytes) -> _Line | None:
    """Read a line of the log; ``None`` for what is no write, or damaged."""
    if _WRITES not in raw[:_HEAD]:
        return None
    try:
        return _parsed(json.loads(raw))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _parsed(event: dict[str, Any]) -> _Line | None:
    code = event["responseStatus"]["code"]
    asked = event.get("requestObject")
    asked = asked if isinstance(asked, dict) else {}  # a JSON patch is a list
    dry = "dryRun=" in event["requestURI"] or "dryRun" in asked
    if code >= _ERRORS or dry:
        return None
    about = event["objectRef"]
    subresource = about.get("subresource", "")
    options = asked.get("deleteOptions") or asked
    answer = event.get("responseObject") or {}
    metadata = answer.get("metadata") or {}
    items = answer.get("items") if event["verb"] == "deletecollection" else None
    uids = [item["metadata"]["uid"] for item in items or ()]
    uids += [metadata.get("uid"), at(answer, "details", "uid"), about.get("uid")]
    return _Line(
        user=(event.get("impersonatedUser") or event["user"])["username"],
        verb=event["verb"],
        subresource=subresource,
        code=code,
        received=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        done=datetime.fromisoformat(event["stageTimestamp"]),
        # A list has one, too, which is not that of an object.
        revision=int(metadata["resourceVersion"]) if metadata.get("uid") else 0,
        known=about.get("resourceVersion")
        or at(asked, "metadata", "resourceVersion")
        or "",
        uids=frozenset(uid for uid in uids if uid),
        target=(about.get("namespace"), about.get("name")),
        grace=options.get("gracePeriodSeconds"),
        node=asked["target"]["name"] if subresource == "binding" else "",
        last=event["verb"] in {"update", "patch"} and _let_go(answer),
    )


def _let_go(obj: Mapping[str, Any]) -> bool:
    """Tell whether nothing holds an object any more that is being deleted."""
    metadata = obj.get("metadata") or {}
    return bool(metadata.get("deletionTimestamp")) and not (
        metadata.get("finalizers")
        or metadata.get("deletionGracePeriodSeconds")
        or (obj.get("kind") == "Namespace" and at(obj, "spec", "finalizers"))
    )
