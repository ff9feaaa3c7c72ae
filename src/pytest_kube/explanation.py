"""What a wait that came to nothing says: the most telling line first, one screen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pytest_kube import events
from pytest_kube.diff import SECRETS, differences
from pytest_kube.errors import APIError, KubeError
from pytest_kube.requests_log import REFUSED, requests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kube.cluster import Cluster
    from pytest_kube.conditions import Condition
    from pytest_kube.observation import Change, Observation, Target
    from pytest_kube.requests_log import Request

_EVENTS_SHOWN = 5
_OTHERS_SHOWN = 3
_CHANGES_SHOWN = 6
_DIFFERENCES_SHOWN = 3
_OBJECTS_SHOWN = 5
_REQUESTS_SHOWN = 4
_NAMES_SHOWN = 5
_WIDTH = 300
_COLLECTED = {"foregroundDeletion", "orphan"}
"""Finalizers that the garbage collector removes."""

_LOOK = 2.0
"""Seconds for each request that only serves the text."""


@dataclass
class Explanation:
    """The text of a wait that failed, line by line.

    Args:
        cluster: Where to look further.
        observation: What was seen.
        condition: What was waited for.
    """

    cluster: Cluster
    observation: Observation
    condition: Condition
    lines: list[str] = field(default_factory=list)

    def of_one(self, headline: str, obj: Mapping[str, Any] | None) -> str:
        """Return the text about one object, as it was at the end."""
        self.lines = [headline]
        self._add("because", self._why(obj))
        self._add_object(obj)
        seen = self.observation.changes or self.observation.objects
        answered = self.observation.looked or self._refused()
        if answered and not obj and not seen:
            self._add_absence()
        self._add_changes(self.observation.changes)
        target = self.observation.target
        self._add_events([target.name])
        self._add_controllers()
        return "\n".join(self.lines)

    def of_several(self, headline: str, failing: Sequence[Mapping[str, Any]]) -> str:
        """Return the text about many objects, of which some do not satisfy it."""
        self.lines = [headline]
        for obj in failing[:_OBJECTS_SHOWN]:
            self._add(obj["metadata"]["name"], self._why(obj) or "does not hold")
        if len(failing) > _OBJECTS_SHOWN:
            self._add("", f"and {len(failing) - _OBJECTS_SHOWN} more")
        if not self.observation.looked:
            self._add_object(None)
        elif not self.observation.objects:
            self._add_absence()
        self._add_changes(self.observation.changes)
        self._add_events([obj["metadata"]["name"] for obj in failing[:1]])
        self._add_controllers()
        return "\n".join(self.lines)

    def _add(self, title: str, text: str) -> None:
        if text:
            self.lines.append(f"  {title:<12} {_cut(text)}")

    def _why(self, obj: Mapping[str, Any] | None) -> str:
        return self.condition.explain(obj) if obj else ""

    def _refused(self) -> bool:
        return isinstance(self.observation.error, APIError)

    # --- the object ---------------------------------------------------------

    def _add_object(self, obj: Mapping[str, Any] | None) -> None:
        if self.observation.error is not None:
            self._add("API server", str(self.observation.error))
        if not self.observation.looked:
            why = "refused" if self._refused() else "did not answer"
            self._add("last seen", f"never: the API server {why}")
            return
        if obj is None:
            seen = any(c.before or c.after for c in self.observation.changes)
            since = "; it was deleted meanwhile" if seen else ", from the first look on"
            self._add("last seen", f"no such object{since}")
            return
        metadata, status = obj["metadata"], obj.get("status")
        if not isinstance(status, dict):  # nothing says that it has to be one
            status = {"status": status} if status else {}
        self._add("last seen", _version(metadata, status))
        if metadata.get("deletionTimestamp"):
            finalizers = ", ".join(metadata.get("finalizers") or ["none"])
            self._add(
                "deleting",
                f"since {metadata['deletionTimestamp']}, finalizers left: {finalizers}",
            )
            collected = _COLLECTED & set(metadata.get("finalizers") or ())
            if collected and "controllers" not in self.cluster.capabilities:
                self._add(
                    "deleting",
                    f"the garbage collector removes {', '.join(sorted(collected))}, "
                    f"and an {self.cluster.provider} cluster has none",
                )
        if not status and "spec" in obj:
            self._add("status", "empty: nothing has written to it yet")
        for title, text in _status(status):
            self._add(title, text)

    def _add_absence(self) -> None:
        """Say what is there instead: the usual reasons are a name or a namespace."""
        target = self.observation.target
        client = self.cluster.client
        try:
            served = client.resources(refresh=True)
            if target.resource not in served:
                self._add(
                    "instead",
                    f"the API server does not serve {target.resource.full_name} in "
                    f"{target.resource.api_version} any more; was its CRD deleted?",
                )
                return
            elsewhere = client.list(target.resource.path(), timeout=_LOOK).items
        except KubeError:
            return
        for text in _elsewhere(target, [item["metadata"] for item in elsewhere]):
            self._add("instead", text)

    # --- what happened ------------------------------------------------------

    def _add_changes(self, changes: Sequence[Change]) -> None:
        title = "changes"
        if len(changes) > _CHANGES_SHOWN:
            self._add(title, f"({len(changes) - _CHANGES_SHOWN} earlier ones)")
            title = ""
        for change in changes[-_CHANGES_SHOWN:]:
            which = ""
            if not self.observation.target.name:
                which = f"{(change.after or change.before or {})['metadata']['name']}: "
            self._add(title, f"+{change.seconds:.2f} s  {which}{told(change)}")
            title = ""

    def _add_events(self, names: Sequence[str]) -> None:
        """Show the Events about the objects; without Warnings, those about others."""
        target, client = self.observation.target, self.cluster.client
        found: list[dict[str, Any]] = []
        others: list[str] = []
        try:
            for name in names:
                found += events.about(client, target.resource, name, target.namespace)
            warnings = [event for event in found if event.get("type") == "Warning"]
            if not warnings and target.namespace:
                others = events.warnings(events.of_namespace(client, target.namespace))
        except KubeError:
            return
        for event in (warnings or found)[-_EVENTS_SHOWN:]:
            self._add("events", events.own_line(event))
        for text in others[-_OTHERS_SHOWN:]:
            self._add("elsewhere", text)

    def _add_controllers(self) -> None:
        controllers = self.observation.controllers
        if not controllers:
            self._add("controller", "none was started; kube_controller starts it")
            return
        asked = self._requests()
        for controller in controllers:
            self._add("controller", controller.summary())
            own = [
                r
                for r in asked
                if r.user == controller.user and r.has(controller.credential)
            ]
            if asked:
                self._add("requests", _counted(own, self.observation.elapsed))
            refused = Counter(
                f"{r.verb} {r.resource}: {r.code} {r.message}"
                for r in own
                if r.code >= REFUSED
            )
            for text, count in refused.most_common(_REQUESTS_SHOWN):
                self._add("refused", f"{text} ({count} times)" if count > 1 else text)

    def _requests(self) -> list[Request]:
        if self.cluster.audit is None:
            return []
        since = datetime.now(UTC) - timedelta(seconds=self.observation.elapsed)
        users = {controller.user for controller in self.observation.controllers}
        return requests(self.cluster.audit, since, users)


def told(change: Change) -> str:
    """Return what a change changed, in a line."""
    if change.after is None:
        return "deleted"
    if change.before is None:
        return "created"
    kind = change.after.get("kind")
    found = differences(
        change.before, change.after, hidden=SECRETS if kind == "Secret" else ()
    )
    more = len(found) - _DIFFERENCES_SHOWN
    return "; ".join(
        [*found[:_DIFFERENCES_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    )


def _version(metadata: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    text = f"resourceVersion {metadata.get('resourceVersion')}"
    generation = metadata.get("generation")
    if generation is not None:
        text += f", generation {generation}"
    observed = status.get("observedGeneration")
    if observed is not None:
        text += f", observedGeneration {observed}"
        if isinstance(observed, int) and observed < (generation or 0):
            text += " (the controller has not seen the latest spec)"
    return text


def _status(status: Mapping[str, Any]) -> list[tuple[str, str]]:
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
        lines.append(("conditions", f"{entry['type']}={entry['status']}{details}"))
    known = {"observedGeneration", "conditions" if usual else ""}
    if rest := {k: v for k, v in status.items() if k not in known}:
        lines.append(("status", repr(rest)))
    return lines


def _is_condition(value: Any) -> bool:
    return isinstance(value, dict) and {"type", "status"} <= set(value)


def _elsewhere(target: Target, there: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what is there of the kind, nearest first."""
    kind = target.resource.kind
    if not there:
        return [f"there is no {kind} at all"]
    lines = []
    others = sorted({m["namespace"] for m in there if m.get("name") == target.name})
    if target.name and others:
        where = ", ".join(others[:_NAMES_SHOWN])
        lines.append(f"there is a {kind} {target.name} in namespace {where}")
    names = [
        m["name"] for m in there if m.get("namespace", "") == (target.namespace or "")
    ]
    if not names:
        places = Counter(m.get("namespace") for m in there).most_common(_NAMES_SHOWN)
        if not others:
            where = ", ".join(f"{count} in {place}" for place, count in places)
            lines.append(f"none in namespace {target.namespace}; {where}")
        return lines
    near = get_close_matches(target.name, names, _NAMES_SHOWN)
    shown = list(dict.fromkeys([*near, *names]))[:_NAMES_SHOWN]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    labels = ", with other labels" if target.labels else ""
    where = f" in namespace {target.namespace}" if target.namespace else ""
    lines.append(f"of that kind there is{where}{labels}: {', '.join(shown)}{more}")
    return lines


def _counted(requests: Sequence[Request], seconds: float) -> str:
    if not requests:
        return f"none in these {seconds:.1f} s"
    counts = Counter(f"{r.verb} {r.resource}" for r in requests)
    parts = [f"{count} {what}" for what, count in counts.most_common(_REQUESTS_SHOWN)]
    if more := len(requests) - sum(c for _, c in counts.most_common(_REQUESTS_SHOWN)):
        parts.append(f"{more} others")
    return f"{len(requests)} in {seconds:.1f} s: {', '.join(parts)}"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
