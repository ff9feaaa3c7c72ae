"""What is known of a test that failed, read while everything is still there."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pytest_kube import requests_log
from pytest_kube.diagnostics import timeline, watched
from pytest_kube.diagnostics.bounded import Budget, reason
from pytest_kube.diagnostics.pod_logs import ContainerLog, pod_logs
from pytest_kube.diagnostics.timeline import Entry, Line
from pytest_kube.errors import ClusterError, KubeError
from pytest_kube.history import Selection, changes
from pytest_kube.redact import Redactor
from pytest_kube.reports import at
from pytest_kube.state import archive_file
from pytest_kube.state.archive import Stored
from pytest_kube.state.etcd import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_kube.discovery import Resource
    from pytest_kube.history import Version
    from pytest_kube.kube import Kube
    from pytest_kube.requests_log import Request
    from pytest_kube.steps import Step

TIME_LIMIT = 20.0
"""Seconds for everything that is collected of one test."""

SOURCE_LIMIT = 4.0
"""Seconds for one source, such as the API server: it may stand still."""

OBJECT_LIMIT = 500

LOG_LIMIT = 1024 * 1024
"""Bytes of one log, at most; the end of it."""

AUDIT_LIMIT = 8 * 1024 * 1024

_REQUEST = 2.0
"""Seconds for one answer of the API server."""

_PAUSE = 0.1


@dataclass
class Evidence:
    """What is known of a test.

    Attributes:
        budget: The time that is left, and what could not be found out.
        objects: Those of the test, as they are now.
        events: The Events of its namespace.
        changes: What has changed, as etcd and as the API have it.
        baseline: What there was when the test began.
        requests: What everybody asked of the API server, oldest first.
        audit: The same as the API server wrote it.
        lines: What controllers wrote.
        steps: What the test did.
        logs: What the components wrote during the test.
        pod_logs: What the containers of its pods wrote, where they really run.
        entries: All that, in order of time.
        has_history: Whether the changes are known.
        redactor: Has taken the secrets out of all that, but for what is as it was
            stored: the baseline, the audit log, the bytes of changes.
    """

    budget: Budget = field(default_factory=lambda: Budget(TIME_LIMIT))
    objects: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    changes: list[tuple[Change, Version]] = field(default_factory=list)
    baseline: list[Stored] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    audit: list[bytes] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    pod_logs: list[ContainerLog] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    has_history: bool = False
    redactor: Redactor = field(default_factory=Redactor)

    @property
    def problems(self) -> list[str]:
        """What could not be found out, and why."""
        return self.budget.problems

    @property
    def versions(self) -> list[Version]:
        """What has changed, as the API has it."""
        return [version for _, version in self.changes]


def gather(kube: Kube, secrets: Iterable[str]) -> Evidence:
    """Read all there is to know of a test; first what perishes first.

    Args:
        kube: The handle of the test.
        secrets: What may not be shown, besides what stands in Secrets.
    """
    evidence = Evidence()
    budget = evidence.budget

    def attempt(what: str, function: Callable[[], None]) -> None:
        budget.attempt(what, function, None, seconds=SOURCE_LIMIT)

    found = _Found()
    attempt("objects", lambda: _look(kube, found))
    # It may go on in its thread, if it took too long.
    evidence.objects, evidence.events = list(found.objects), list(found.events)
    budget.problems += list(found.problems)
    if "pods" in kube.cluster.capabilities:
        attempt("logs of pods", lambda: _read_pod_logs(kube, evidence))
    evidence.steps = kube.steps.all()
    attempt("what controllers wrote", lambda: _listen(kube, evidence))
    attempt("what has changed", lambda: _look_back(kube, evidence))
    if kube.first_version:
        attempt("what has changed", lambda: _recall(kube, evidence))
    attempt("the audit log", lambda: _read_audit(kube, evidence))
    attempt("component logs", lambda: _read_logs(kube, evidence))
    _hide(evidence, secrets)
    attempt("the timeline", lambda: _put_in_order(evidence))
    return evidence


# --- from the API server ---------------------------------------------------------


@dataclass
class _Found:
    objects: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _look(kube: Kube, found: _Found) -> None:
    """Read what is in the test's namespace, and what it made elsewhere."""
    deadline = time.monotonic() + SOURCE_LIMIT
    client = kube.cluster.client
    for resource in _resources(kube, deadline):
        if not _is_collected(resource):
            continue
        left = deadline - time.monotonic()
        if left <= 0 or len(found.objects) >= OBJECT_LIMIT:
            found.problems.append(f"stopped before {resource.full_name}")
            break
        path = resource.path(kube.namespace)
        query = {"limit": str(OBJECT_LIMIT - len(found.objects))}
        try:
            answer = client.request(
                "GET", path, query=query, timeout=min(_REQUEST, left)
            )
        except KubeError as e:
            found.problems.append(reason(e))
            if isinstance(e, ClusterError):
                return  # it does not answer
            continue
        items = resource.whole(answer["items"])
        target = found.events if resource.kind == "Event" else found.objects
        target += items
        if (answer.get("metadata") or {}).get("continue"):
            text = f"only the first {len(items)} of {resource.full_name}"
            found.problems.append(text)
    for resource, namespace, name in kube.leftovers.made:
        left = deadline - time.monotonic()
        if left <= 0 or len(found.objects) >= OBJECT_LIMIT:
            found.problems.append(f"stopped before {resource.full_name} {name}")
            break
        try:
            path = resource.path(namespace, name)
            obj = client.request("GET", path, timeout=min(_REQUEST, left))
            found.objects.append(obj)
        except KubeError as e:
            found.problems.append(reason(e))


def _is_collected(resource: Resource) -> bool:
    # Events are served by two groups.
    return (
        resource.namespaced
        and "list" in resource.verbs
        and resource.group != "events.k8s.io"
    )


def _resources(kube: Kube, deadline: float) -> list[Resource]:
    """Return what the API server serves; one that restarts is waited for a while."""
    while True:
        try:
            return kube.cluster.client.resources(refresh=True)
        except ClusterError:
            kube.cluster.check()  # it is known to be gone, and why
            if time.monotonic() > deadline - _REQUEST:
                raise
            time.sleep(_PAUSE)


# --- from where it is kept --------------------------------------------------------


def _listen(kube: Kube, evidence: Evidence) -> None:
    evidence.lines = [
        Line(line.time, controller.name, line.text)
        for controller in kube.controllers
        for line in controller.lines()
    ]


def _look_back(kube: Kube, evidence: Evidence) -> None:
    """Read what there was when the test began, and every change since."""
    state, first = kube.cluster.state, kube.mark_revision
    if state is None or first is None:
        return
    evidence.changes = [
        each
        for each in changes(kube.cluster, first, Selection())
        if not archive_file.is_noise(each[0])
    ]
    evidence.baseline = [
        Stored(entry.key, entry.revision, value)
        for entry in state.entries(first)
        if (value := archive_file.value_of(entry.value)) is not None
    ]
    evidence.has_history = True
    if not evidence.objects:  # the API server does not tell any more
        newest = {stored.key: stored.value for stored in evidence.baseline}
        for change, version in evidence.changes:
            newest[change.key] = version.object
        evidence.objects = [
            obj
            for obj in newest.values()
            if obj and at(obj, "metadata", "namespace") == kube.namespace
        ][:OBJECT_LIMIT]


def _recall(kube: Kube, evidence: Evidence) -> None:
    """Ask the API server for what it remembers, where etcd is out of reach."""
    client = kube.cluster.client
    resources = [r for r in client.resources() if _is_collected(r)]
    found = watched.recalled(client, resources, kube.namespace, kube.first_version)
    evidence.changes = [
        (Change(version.revision, "", None, None), version)
        for version in found.versions
    ]
    evidence.budget.problems += found.missed


def _read_audit(kube: Kube, evidence: Evidence) -> None:
    if kube.cluster.audit is None:
        return
    size = 0
    for raw, request in requests_log.lines(kube.cluster.audit, kube.started):
        size += len(raw)
        if size > AUDIT_LIMIT:
            evidence.problems.append("the audit log: only the end of it")
            break
        evidence.audit.append(raw)
        evidence.requests.append(request)
    evidence.audit.reverse()
    evidence.requests.reverse()


def _read_logs(kube: Kube, evidence: Evidence) -> None:
    for name, path in kube.cluster.logs.items():
        size = kube.log_sizes.get(name)
        text = _since(path, size or 0)
        evidence.logs[name] = text if size is not None else _later(text, kube.started)


def _read_pod_logs(kube: Kube, evidence: Evidence) -> None:
    pods = [obj for obj in evidence.objects if obj.get("kind") == "Pod"]
    deadline = time.monotonic() + SOURCE_LIMIT - _PAUSE
    for log in pod_logs(kube.cluster.client, pods, deadline=deadline):
        evidence.pod_logs.append(log)


def _since(path: Path, start: int) -> str:
    """Return what was written to a log since it had a size; the end of it."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            begin = start if start <= size else 0
            cut = max(begin, size - LOG_LIMIT)
            file.seek(cut)
            data = file.read(size - cut)
    except OSError as e:
        return f"({e.strerror})\n"
    left_out = f"(the first {cut - begin} bytes are left out)\n" if cut > begin else ""
    return left_out + data.decode("utf-8", "replace")


def _hide(evidence: Evidence, values: Iterable[str]) -> None:
    """Take the secrets out, before anything is cut or compared."""
    stored = (s.value for s in evidence.baseline if s.value)
    versions = (o for v in evidence.versions for o in (v.previous, v.object) if o)
    secrets = [
        obj
        for obj in (*stored, *versions, *evidence.objects)
        if obj.get("kind") == "Secret"
    ]
    public = {
        name
        for obj in (*evidence.objects, *(v.object or {} for v in evidence.versions))
        for name in (at(obj, "metadata", "name"), at(obj, "metadata", "namespace"))
        if isinstance(name, str)
    }
    redactor = evidence.redactor = Redactor.knowing(secrets, values, public)
    text, show = redactor.text, redactor.object
    evidence.objects = [show(obj) for obj in evidence.objects]
    evidence.events = [show(event) for event in evidence.events]
    evidence.changes = [(c, v.with_objects(show)) for c, v in evidence.changes]
    evidence.requests = [replace(r, message=text(r.message)) for r in evidence.requests]
    evidence.lines = [each._replace(text=text(each.text)) for each in evidence.lines]
    evidence.logs = {name: text(log) for name, log in evidence.logs.items()}
    evidence.pod_logs = [log._replace(text=text(log.text)) for log in evidence.pod_logs]
    for step in evidence.steps:
        step.text, step.error = text(step.text), text(step.error)
    evidence.budget.problems[:] = map(text, evidence.problems)


def _later(text: str, moment: datetime) -> str:
    """Return a log from the first line that begins with a time from then on."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        with contextlib.suppress(ValueError, IndexError):
            if datetime.fromisoformat(line.split()[0]) >= moment:
                return "".join(lines[number:])
    return text


def _put_in_order(evidence: Evidence) -> None:
    evidence.entries = timeline.merged(
        evidence.versions,
        evidence.requests,
        evidence.lines,
        evidence.events,
        evidence.steps,
    )
