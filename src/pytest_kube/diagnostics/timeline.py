"""What happened in a test, in order of time: who did what, to which object."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pytest_kube import events
from pytest_kube.diff import SECRETS, differences
from pytest_kube.requests_log import CHANGES, REFUSED, UNTOLD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_kube.history import Version
    from pytest_kube.requests_log import Request
    from pytest_kube.steps import Step

NO_CHANGE = " (changed nothing)"

_RACE = ("create", "serviceaccounts", "default")
"""Made for each new namespace by us, and by who is faster."""

_UNTOLD_KINDS = {"Event", "Lease"}


@dataclass(frozen=True)
class Entry:
    """One thing that happened.

    Attributes:
        time: When, in UTC.
        kind: What it is: a ``step`` of the test, a ``change`` of an object, a
            ``request`` that was refused or that changed nothing, a call of a
            ``webhook``, a line of a controller's ``log``, an ``event``.
        who: The user, the controller or the component; empty where nobody knows.
        about: The object, as in ``Widget default/w``; may be empty.
        text: What happened, in a line.
        details: For a change, what differs, path by path.
        revision: For a change, the revision of etcd that it made, else 0.
        step: For a step, its number, else 0.
    """

    time: datetime
    kind: Literal["step", "change", "request", "webhook", "log", "event"]
    who: str
    about: str
    text: str
    details: tuple[str, ...] = ()
    revision: int = 0
    step: int = 0

    def __str__(self) -> str:
        clock = f"{self.time:%H:%M:%S.%f}"[:-3]
        parts = (clock, self.about, self.text, f"({self.who})" if self.who else "")
        return " ".join(part for part in parts if part)

    def as_json(self) -> str:
        """Return it as one line of JSON."""
        found = {**asdict(self), "time": self.time.isoformat()}
        return json.dumps({k: v for k, v in found.items() if v}, ensure_ascii=False)


class Line(NamedTuple):
    """A line of a controller's output."""

    time: datetime
    controller: str
    text: str


def merged(
    versions: Iterable[Version],
    requests: Iterable[Request],
    lines: Iterable[Line],
    happened: Iterable[dict[str, Any]],
    steps: Iterable[Step] = (),
) -> list[Entry]:
    """Merge all that is known of a test.

    Args:
        versions: The changes of its objects.
        requests: What everybody asked of the API server, oldest first.
        lines: What controllers wrote.
        happened: The Events of the cluster.
        steps: What the test did.
    """
    known, asked = list(versions), list(requests)
    events_known = (v.object for v in known if v.object and v.object.kind == "Event")
    recorded = {event["metadata"].get("uid") for event in events_known}
    found = [
        *_steps(steps),
        *_changes(known),
        *_requests(asked),
        *_webhooks(asked),
        *(Entry(each.time, "log", each.controller, "", each.text) for each in lines),
        *(
            _event(event, moment)
            for event in happened
            if event["metadata"].get("uid") not in recorded
            and (moment := _time_of(event))
        ),
    ]
    return sorted(found, key=lambda entry: entry.time)


def _changes(versions: Iterable[Version]) -> Iterator[Entry]:
    moment = datetime.min.replace(tzinfo=UTC)
    for version in versions:
        # The order of revisions is sure; times are when a request was answered, or
        # known to the second only.
        moment = max(moment, version.time)
        obj, previous = version.object, version.previous
        either = obj or previous
        if obj is not None and obj.kind == "Event":
            # By itself it tells the time to the second.
            yield _event(obj, moment)
        if either is None or either.kind in _UNTOLD_KINDS:
            continue
        hidden = SECRETS if either.kind == "Secret" else ()
        found = differences(previous, obj, hidden=hidden)
        # What people change first: metadata changes with most writes.
        details = tuple(sorted(found, key=lambda line: line.startswith("metadata")))
        if previous is None:
            text = "created"
        elif obj is None:
            text, details = "deleted", ()
        elif not details and either.kind == "Secret":
            text = "changed values that are not shown"
        elif not details:
            continue
        else:
            more = f" and {len(details) - 1} more" if len(details) > 1 else ""
            text = f"changed {details[0]}{more}"
        who = version.user or ""
        yield Entry(moment, "change", who, version.ref, text, details, version.revision)


def _requests(requests: Iterable[Request]) -> Iterator[Entry]:
    """Yield the writes that no change tells of: refused, or without an effect."""
    seen: set[Any] = set()
    for r in requests:
        if r.resource in UNTOLD or (r.verb, r.resource, r.name) == _RACE:
            continue
        failed = r.code >= REFUSED and (r.verb in CHANGES or r.code != 404)  # noqa: PLR2004
        idle = r.verb in CHANGES and r.version is not None and r.version in seen
        if r.version:
            seen.add(r.version)
        if failed or idle:
            text = str(r) if failed else f"{r}{NO_CHANGE}"
            yield Entry(r.time, "request", r.user, "", text)


def _steps(steps: Iterable[Step]) -> Iterator[Entry]:
    for step in steps:
        ended = f", {step.error}" if step.error else ""
        if step.ended:
            ended = f" ({(step.ended - step.began).total_seconds():.3f} s{ended})"
        text = f"{step.number}: {step.text}{ended}"
        yield Entry(step.began, "step", "the test", "", text, step=step.number)


def _webhooks(requests: Iterable[Request]) -> Iterator[Entry]:
    for r in requests:
        for call in r.webhooks:
            about = "/".join(part for part in (r.namespace, r.name) if part)
            changed = f" ({', '.join(call.patch)})" if call.patch else ""
            asked = f"{r.verb} {r.resource} {about} of {r.user}"
            text = f"{call.effect}{changed}: {asked}"
            yield Entry(r.time, "webhook", call.name, "", text, call.patch)


def _event(event: Mapping[str, Any], moment: datetime) -> Entry:
    involved = event.get("involvedObject") or {}
    source = (event.get("source") or {}).get("component")
    where = "/".join(filter(None, (involved.get("namespace"), involved.get("name"))))
    return Entry(
        moment,
        "event",
        event.get("reportingComponent") or source or "",
        f"{involved.get('kind')} {where}",
        events.own_line(event),
    )


def _time_of(event: Mapping[str, Any]) -> datetime | None:
    """Return when an Event happened, to the second."""
    times = (
        event.get("eventTime"),
        event.get("lastTimestamp"),
        event["metadata"].get("creationTimestamp"),
    )
    found = next((value for value in times if value), None)
    return datetime.fromisoformat(found) if found else None
