"""Every change of a cluster's objects since a revision, and assertions over them.

etcd has kept them all; nothing is recorded while a test runs. Who wrote what stands in
the audit log, which is not read before somebody asks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from pytest_kube.audit import AuditLog, Write
from pytest_kube.conditions import as_condition
from pytest_kube.diff import SECRETS, differences
from pytest_kube.errors import ClusterError, HistoryError, hide_frames
from pytest_kube.objects import Object
from pytest_kube.state.etcd import CompactedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pytest_kube.cluster import Cluster
    from pytest_kube.conditions import Condition, Predicate
    from pytest_kube.state.etcd import Change

__tracebackhide__ = hide_frames

_DIFFERENCES_SHOWN = 12
# Served by two groups, stored as one.
_STORED_AS = {("events.k8s.io", "Event"): ("", "Event")}


@dataclass(frozen=True)
class Selection:
    """Which objects a history is about. What is ``None`` does not matter.

    Attributes:
        text: What a failure calls it.
    """

    text: str = "all objects"
    group: str = ""
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None

    def holds(self, obj: Mapping[str, Any]) -> bool:
        """Tell whether an object is meant, in whichever version of its group."""
        metadata = obj["metadata"]
        group = obj["apiVersion"].rpartition("/")[0]
        wanted = _STORED_AS.get((self.group, self.kind or ""), (self.group, self.kind))
        return (self.kind is None or (group, obj.get("kind")) == wanted) and all(
            given is None or there is None or given == there
            for given, there in (
                (self.name, metadata["name"]),
                (self.namespace, metadata.get("namespace")),
            )
        )

    def may_hold(self, change: Change) -> bool:
        """Say no to most other changes without reading their objects."""
        if self.name is not None and not change.key.endswith(f"/{self.name}"):
            return False
        value = change.after or change.before or b""
        return self.kind is None or f'"{self.kind}"'.encode() in value


@dataclass(frozen=True, eq=False)
class Version:
    """One change of one object.

    Attributes:
        object: The object after the change; ``None`` when it was deleted.
        previous: The object before it; ``None`` when it was created.
        revision: The ``resourceVersion`` that the change made.
    """

    object: Object | None
    previous: Object | None
    revision: int
    _since: str = field(repr=False)
    _write_of: Callable[..., Write | None] = field(repr=False)

    @property
    def ref(self) -> str:
        """What it is a version of: ``Deployment default/web``."""
        obj = self.object or self.previous or Object()
        where = f"{obj.namespace}/" if obj.namespace else ""
        return f"{obj.kind} {where}{obj.name}"

    @property
    def user(self) -> str | None:
        """Who made the change; ``None`` where the audit log does not tell for sure.

        A ServiceAccount is ``system:serviceaccount:NAMESPACE:NAME``.
        """
        return self._write.user if self._write else None

    @property
    def verb(self) -> str:
        """``create``, ``update``, ``patch``, ``delete`` or ``deletecollection``.

        It is that of the request: server-side apply, which may create, is ``patch``,
        and so may be what removes the last finalizer. Without an entry in the audit
        log it is what happened: ``create``, ``update`` or ``delete``.
        """
        if self._write:
            return self._write.verb
        if self.previous is None:
            return "create"
        return "delete" if self.object is None else "update"

    @property
    def time(self) -> datetime:
        """When the change was made, in UTC.

        Without an entry in the audit log: not before then, to the second, as far as
        the objects tell.
        """
        return self._write.time if self._write else datetime.fromisoformat(self._since)

    @cached_property
    def _write(self) -> Write | None:
        return self._write_of(self.revision, self.previous, self.object)

    def with_objects(
        self, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Version:
        """Return the same version with other objects.

        Args:
            change: Makes each of them from the one there is.
        """
        after, before = (o and Object(change(o)) for o in (self.object, self.previous))
        other = replace(self, object=after, previous=before)
        # Who wrote it was found by the objects as they were.
        vars(other)["_write"] = self._write
        return other

    def __str__(self) -> str:
        return f"{self.ref}  {_told(self)}"


class History(Sequence[Version]):
    """Every change since the test began, exactly once, in order.

    A sequence of versions, and assertions over all of them. A condition is what
    ``wait_for`` takes; it is asked about the object of each version, and about ``None``
    where it was deleted.
    """

    def __init__(self, subject: str, versions: Iterable[Version]) -> None:
        self._subject = subject
        self._versions = tuple(versions)

    def __len__(self) -> int:
        return len(self._versions)

    @overload
    def __getitem__(self, index: int) -> Version: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> Version | History:
        if isinstance(index, slice):
            return History(self._subject, self._versions[index])
        return self._versions[index]

    def __repr__(self) -> str:
        count = f"{len(self)} version{'s' if len(self) != 1 else ''}"
        return f"<History of {self._subject}: {count}>"

    def __str__(self) -> str:
        return "\n".join(map(str, self._versions))

    # --- assertions ---------------------------------------------------------

    def never(self, condition: Predicate | str) -> None:
        """Assert that a condition holds for no version.

        Where nothing changed it passes.

        Raises:
            HistoryError: It holds for one; the text says who wrote it, and what.

        Example:
            >>> kube.history("deployment/web").never(field("spec.replicas", 0))
        """
        __tracebackhide__ = True
        wanted = as_condition(condition)
        for version in self._versions:
            if _holds(wanted, version):
                raise HistoryError(
                    f"{version.ref}: {wanted.name} held, and was never to hold\n"
                    + self._shown(version),
                    version=version,
                )

    def always(self, condition: Predicate | str) -> None:
        """Assert that a condition holds for every version.

        Raises:
            HistoryError: It does not hold for one, or there is none.
        """
        __tracebackhide__ = True
        wanted = as_condition(condition)
        if not self._versions:
            raise HistoryError(self._nothing(f"{wanted.name} was always to hold"))
        for version in self._versions:
            if not _holds(wanted, version):
                raise HistoryError(
                    f"{version.ref}: {wanted.name} did not hold, and was always to "
                    f"hold\n{self._shown(version)}",
                    version=version,
                )

    def sequence(self, *conditions: Predicate | str) -> list[Version]:
        """Assert that conditions held one after the other.

        Each must hold for a version of its own, later than that of the one before it.
        Between them anything may happen.

        Returns:
            For each condition, the version that it was found to hold for.

        Raises:
            HistoryError: One of them does not hold after the one before it.

        Example:
            >>> created, ready = kube.history("deployment/web").sequence(
            ...     exists, condition("Available"))
            >>> assert ready.time - created.time < timedelta(seconds=2)
        """
        __tracebackhide__ = True
        wanted = [as_condition(condition) for condition in conditions]
        if not wanted:
            raise ValueError("sequence() without a condition asserts nothing")
        if not self._versions:
            names = ", then ".join(condition.name for condition in wanted)
            raise HistoryError(self._nothing(f"{names} was to hold"))
        found: list[int] = []
        for condition in wanted:
            start = found[-1] + 1 if found else 0
            later = range(start, len(self._versions))
            index = next(
                (i for i in later if _holds(condition, self._versions[i])), None
            )
            if index is None:
                raise HistoryError(
                    self._out_of_sequence(wanted, found), version=self._versions[-1]
                )
            found.append(index)
        return [self._versions[i] for i in found]

    # --- what a failure says ------------------------------------------------

    def _nothing(self, expected: str) -> str:
        return (
            f"{self._subject}: nothing changed since the test began, but {expected}\n"
            "  A history begins with the test: what was there before and did not "
            "change is not in it. Is the name right?"
        )

    def _shown(self, version: Version) -> str:
        """Show a version, what it changed, and the same object before and after it."""
        versions = [v for v in self._versions if v.ref == version.ref]
        index = versions.index(version)
        lines = [f"  version      {index + 1} of {len(versions)}: {_told(version)}"]
        lines += [f"  changed      {line}" for line in _changes(version)]
        lines += [f"  before it    {_told(v)}" for v in versions[:index][-1:]]
        lines += [f"  after it     {_told(v)}" for v in versions[index + 1 :][:1]]
        return "\n".join(lines)

    def _out_of_sequence(self, wanted: list[Condition], found: list[int]) -> str:
        held, missing = wanted[: len(found)], wanted[len(found)]
        after = f" after {held[-1].name}" if held else ""
        start = found[-1] + 1 if found else 0
        text = f"in none of the {len(self) - start} versions{' since' if held else ''}"
        before = [v for v in self._versions[:start] if _holds(missing, v)]
        if before and before[-1] is self._versions[start - 1]:
            text += "; in that one too, but each needs a version of its own"
        elif before:
            text += f"; before, at revision {before[-1].revision}"
        last = self._versions[-1]
        return "\n".join(
            [
                f"{self._subject}: {missing.name} did not hold{after}",
                *(
                    f"  held         {condition.name}: {_told(self._versions[i])}"
                    for condition, i in zip(held, found, strict=True)
                ),
                f"  missing      {missing.name}: {text}",
                *(f"  not reached  {c.name}" for c in wanted[len(found) + 1 :]),
                f"  last         {last}",
                *(f"  changed      {line}" for line in _changes(last)),
            ]
        )


def read(cluster: Cluster, after: int, selection: Selection) -> History:
    """Read the history of a cluster since a revision.

    Raises:
        ClusterError: It has none, or it does not reach back so far.
    """
    found = changes(cluster, after, selection)
    return History(selection.text, (version for _, version in found))


def changes(
    cluster: Cluster, after: int, selection: Selection
) -> Iterator[tuple[Change, Version]]:
    """Return each change of a cluster since a revision, as stored and as an object.

    Raises:
        ClusterError: It has none, or it does not reach back so far.
    """
    if cluster.state is None:
        raise ClusterError(
            f"{cluster.name} has no history: its etcd is out of reach. "
            "Clusters of kwok, envtest and kind have one"
        )
    try:
        found = cluster.state.changes(after)
    except CompactedError as e:
        raise ClusterError(
            f"{cluster.name}: its history after revision {after} is asked for, and "
            "partly compacted: old history goes when no mark needs it. A fixture of a "
            "narrower scope has a younger mark"
        ) from e
    log = AuditLog(cluster.audit, after + 1) if cluster.audit else None
    write_of = log.write_of if log else _nobody
    return _versions(found, selection, write_of)


def _nobody(*_: Any) -> None:
    """Tell who wrote something, without an audit log."""


def _versions(
    changes: Iterable[Change],
    selection: Selection,
    write_of: Callable[..., Write | None],
) -> Iterator[tuple[Change, Version]]:
    newest: dict[str, Object | None] = {}
    since = ""
    for change in changes:
        if not selection.may_hold(change):
            continue
        if change.key not in newest:
            newest[change.key] = _object(change.before)
        previous, obj = newest[change.key], _object(change.after, change.revision)
        newest[change.key] = obj
        either = obj or previous
        if either and selection.holds(either):
            since = max(since, _time(either))
            version = Version(obj, previous, change.revision, since, write_of)
            yield change, version


def _object(value: bytes | None, revision: int = 0) -> Object | None:
    """Read a stored value; ``None`` for what is no object of the API."""
    if not value or value[:1] != b"{":
        return None
    obj = Object(json.loads(value))
    if "apiVersion" not in obj or not obj.get("metadata", {}).get("name"):
        return None
    if revision:
        # It is not stored, for it is etcd that makes it.
        obj["metadata"]["resourceVersion"] = str(revision)
    return obj


def _time(obj: Object) -> str:
    """Return the newest time that stands in an object's metadata."""
    metadata = obj["metadata"]
    times = [entry.get("time", "") for entry in metadata.get("managedFields") or ()]
    if not metadata.get("deletionGracePeriodSeconds"):  # else that is in the future
        times.append(metadata.get("deletionTimestamp", ""))
    newest: str = max([metadata["creationTimestamp"], *times])
    return newest


def _holds(condition: Condition, version: Version) -> bool:
    __tracebackhide__ = True  # the error is one of the user's condition
    try:
        return condition(version.object)
    except Exception as e:
        what = "an object" if version.object else "None, for it was deleted"
        e.add_note(
            f"The condition {condition.name!r} raised this when asked about {what}: "
            f"{version}. It is asked about every version, also one without a status, "
            "and about None where the object was deleted."
        )
        raise


def _told(version: Version) -> str:
    done = "changed" if version.object else "deleted"
    if version.previous is None:
        done = "created"
    when = f"{version.time:%H:%M:%S.%f}"[:-3]
    user = version.user or "an unknown user"
    return f"revision {version.revision} at {when}: {done} by {user} ({version.verb})"


def _changes(version: Version) -> list[str]:
    obj, previous = version.object, version.previous
    if obj is None:
        return []
    if previous is None:
        # What is new is told by what it is; its metadata says little.
        previous = Object({k: obj.get(k) for k in ("apiVersion", "kind", "metadata")})
    hidden = SECRETS if obj.kind == "Secret" else ()
    lines = differences(previous, obj, hidden=hidden)
    more = len(lines) - _DIFFERENCES_SHOWN
    if more > 0:
        lines[_DIFFERENCES_SHOWN:] = [f"… and {more} more"]
    return lines
