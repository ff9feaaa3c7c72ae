"""The folder of a failed test: everything that is known of it, as files."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pytest_kube import events, manifests
from pytest_kube.diagnostics import crust_gather, report
from pytest_kube.diagnostics.ci import code, fenced, plain
from pytest_kube.state import archive_file
from pytest_kube.state.archive import About, Done, Stored, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pytest_kube.diagnostics.evidence import Evidence
    from pytest_kube.kube import Kube

SUMMARY = "summary.md"
OBJECTS = "objects.yaml"
EVENTS = "events.txt"
TIMELINE = "timeline.jsonl"
AUDIT = "audit.jsonl"
ENVIRONMENT = "environment.json"
LOGS = "logs"
PODS = "pods"

FILES = {
    report.NAME: "timeline, objects with all their versions, requests, logs: a page",
    TIMELINE: "what happened, in order of time",
    OBJECTS: "the objects of the test as they were in the end",
    EVENTS: "the Events of its namespace",
    LOGS: "what controllers and components wrote while it ran",
    PODS: "what the containers of its pods wrote, before a restart, too",
    AUDIT: "what was asked of the API server while it ran",
    ENVIRONMENT: "versions, and how the tests were run",
    archive_file.NAME: "the state at every moment, for pytest-kube replay",
    crust_gather.NAME: "the same for crust-gather serve",
}
"""What may be in a folder, and what it is good for."""

FILE_LIMIT = 5.0
"""Seconds for one file."""

_FAILURE_LINES = 200
_PACKAGES = ("pytest-kube", "pytest", "pytest-xdist", "kopf", "kubernetes", "docker")


@dataclass
class Folder:
    """The artifacts of a test, being written.

    What cannot be written is a problem of the evidence's, and no reason to leave out
    the rest.

    Attributes:
        path: The folder.
        kube: The handle of the test.
        evidence: What is known of the test.
        test: The node id of the test.
        outcome: How it ended, in a word.
        failure: The text of its failure.
        written: The names of what is there.
    """

    path: Path
    kube: Kube
    evidence: Evidence
    test: str
    outcome: str
    failure: str = ""
    written: set[str] = field(default_factory=set)

    def write(self) -> None:
        """Write everything but the summary.

        Raises:
            OSError: The folder cannot be made.
        """
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        found = self.evidence
        happened = [events.line(event) for event in events.in_order(found.events)]
        about, logs = self._environment(), self._logs()
        self._text(OBJECTS, lambda: manifests.dump(found.objects))
        self._text(EVENTS, lambda: _lines(happened))
        self._text(TIMELINE, lambda: _lines(e.as_json() for e in found.entries))
        for name, text in logs.items():
            self._text(f"{LOGS}/{name}.log", lambda text=text: text)  # type: ignore[misc]
        for log in found.pod_logs:
            self._text(f"{PODS}/{log.pod}/{log.name}.log", lambda log=log: log.text)  # type: ignore[misc]
        if found.audit:
            self._text(AUDIT, lambda: _lines(map(self._audited, found.audit)))
        self._text(ENVIRONMENT, lambda: json.dumps(about, indent=1) + "\n")
        self._attempt(report.NAME, lambda path: self._report(path, about, logs))
        if found.has_history:
            self._attempt(archive_file.NAME, self._archive)
        if found.changes or found.has_history:
            self._attempt(crust_gather.NAME, self._record)

    def summarize(self, section: str) -> None:
        """Write the page that one reads first: the section, and what else there is."""
        there = [f"- [{n}]({n}): {what}" for n, what in FILES.items() if self._has(n)]
        text = "\n".join(self.failure.splitlines()[-_FAILURE_LINES:])
        parts = [
            f"# {self.outcome}: {code(self.test)}",
            fenced(plain(section)),
            "\n".join(there),
            f"## Failure\n\n{fenced(plain(self.evidence.redactor.text(text)))}"
            if text
            else "",
        ]
        self._text(SUMMARY, lambda: "\n\n".join(filter(None, parts)) + "\n")

    def _has(self, name: str) -> bool:
        return any(each.split("/")[0] == name for each in self.written)

    # --- one at a time ----------------------------------------------------------

    def _attempt(self, name: str, write: Callable[[Path], None]) -> None:
        path = self.path / name

        def attempted() -> bool:
            write(path)
            return True

        budget = self.evidence.budget
        if budget.attempt(name, attempted, otherwise=False, seconds=FILE_LIMIT):
            self.written.add(name)
        elif path.is_file():
            path.unlink(missing_ok=True)  # half a file misleads

    def _text(self, name: str, text: Callable[[], str]) -> None:
        def put(path: Path) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text().encode("utf-8", "replace"))

        self._attempt(name, put)

    # --- what is in them ----------------------------------------------------------

    def _logs(self) -> dict[str, str]:
        found = {}
        for i, controller in enumerate(self.kube.controllers, 1):
            text = "\n".join([controller.output, *controller.errors, ""])
            found[f"controller-{i}"] = self.evidence.redactor.text(text)
        pods = {f"{log.pod} {log.name}": log.text for log in self.evidence.pod_logs}
        return found | self.evidence.logs | pods

    def _audited(self, raw: bytes) -> str:
        event = json.loads(raw)
        if (event.get("objectRef") or {}).get("resource") == "secrets":
            # What changes a Secret need not say that it is one.
            for body in ("requestObject", "responseObject"):
                if isinstance(event.get(body), dict):
                    event[body] = {**event[body], "kind": "Secret"}
                elif event.get(body):
                    event[body] = None
        return json.dumps(self.evidence.redactor.object(event))

    def _environment(self) -> dict[str, Any]:
        cluster = self.kube.cluster
        return {
            "test": self.test,
            "cluster": cluster.name,
            "namespace": self.kube.namespace,
            "controllers": [controller.name for controller in self.kube.controllers],
            "command": [self.evidence.redactor.text(word) for word in sys.argv],
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "platform": platform.platform(),
            "python": platform.python_version(),
            **{name: found for name in _PACKAGES if (found := _version(name))},
            "incomplete": self.evidence.problems,
        }

    def _report(
        self, path: Path, about: Mapping[str, Any], logs: Mapping[str, str]
    ) -> None:
        report.write(
            path,
            test=self.test,
            outcome=self.outcome,
            about={name: _shown(value) for name, value in about.items() if value},
            entries=self.evidence.entries,
            versions=self.evidence.versions,
            logs=logs,
            failure=self.failure,
            redactor=self.evidence.redactor,
        )

    def _archive(self, path: Path) -> None:
        """Write the state, with which the cluster can be brought back."""
        cluster, first = self.kube.cluster, self.kube.mark_revision or 0
        changed = [
            Stored(
                change.key,
                change.revision,
                archive_file.value_of(change.after) if change.after else None,
                version.time,
                version.user,
                version.verb,
            )
            for change, version in self.evidence.changes
        ]
        about = About(
            version=cluster.version,
            provider=cluster.provider,
            namespace=self.kube.namespace,
            test=self.test,
            made=datetime.now(UTC),
            first=first,
            last=changed[-1].revision if changed else first,
            steps=tuple(Done(s.number, s.text, s.ended) for s in self.evidence.steps),
            flags=served(cluster.flags),
        )
        deadline = time.monotonic() + FILE_LIMIT
        baseline = self.evidence.baseline
        archive_file.write(
            path,
            about,
            baseline,
            changed,
            deadline=deadline,
            redactor=self.evidence.redactor,
        )

    def _record(self, path: Path) -> None:
        """Write the archive for crust-gather."""
        crust_gather.write(
            path,
            self.kube.cluster.client,
            crust_gather.first(self.evidence.baseline, self.kube.namespace),
            self.evidence.versions,
            self.evidence.lines,
            pod_logs=self.evidence.pod_logs,
            namespace=self.kube.namespace,
            deadline=time.monotonic() + FILE_LIMIT,
            redactor=self.evidence.redactor,
        )


def _lines(lines: Iterable[str]) -> str:
    return "\n".join([*lines, ""])


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
