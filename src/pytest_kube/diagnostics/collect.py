"""Collect the objects, events, logs and versions of a failed test. Never raises."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kube import events, manifests
from pytest_kube.diagnostics import archiving, crust_gather, hints, report, timeline
from pytest_kube.diagnostics.bounded import within
from pytest_kube.diagnostics.timeline import Entry, Line
from pytest_kube.errors import KubeError
from pytest_kube.history import Selection, changes
from pytest_kube.redact import redacted
from pytest_kube.requests_log import requests
from pytest_kube.state import archive_file
from pytest_kube.system.processes import tail

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_kube.history import Version
    from pytest_kube.kube import Kube
    from pytest_kube.observation import Running
    from pytest_kube.requests_log import Request
    from pytest_kube.state.etcd import Change

TIME_LIMIT = 15.0
"""Seconds for everything that is collected of one test."""

OBJECT_LIMIT = 500
CHANGES = 10
"""Changes that the section shows."""

_QUOTED = re.compile(r'"[^"]*"')
LOG_LINES = 400
SECTION_LINES = 40
LINE_LENGTH = 500


def collect(
    kube: Kube, folder: Path | None, *, shown: str | None, test: str, failure: str = ""
) -> str:
    """Collect into *folder*, if there is one, and return the section for the report.

    Args:
        kube: The handle of the test.
        folder: Where files go; ``None`` for none.
        shown: The folder as the section names it.
        test: The node id of the test.
        failure: The text of its failure.
    """
    try:
        return _collect(kube, folder, shown=shown, test=test, failure=failure)
    except Exception as e:  # noqa: BLE001  # a failure must not become another error
        return f"diagnostics could not be collected: {type(e).__name__}: {e}"


@dataclass
class _Evidence:
    """What is known of a test.

    Attributes:
        objects: Those of the test, as they are now.
        events: The Events of its namespace.
        changes: What has changed, as etcd and as the API have it.
        requests: What everybody asked of the API server, oldest first.
        problems: What could not be found out, and why.
    """

    objects: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    changes: list[tuple[Change, Version]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _collect(
    kube: Kube, folder: Path | None, *, shown: str | None, test: str, failure: str
) -> str:
    evidence = _look(kube)
    _look_back(kube, evidence)
    entries = _timeline(kube, evidence)
    lines = [f"cluster     {kube.cluster.name}; namespace {kube.namespace}"]
    lines += _told("objects", _counted(evidence.objects))
    lines += _told("changes", _last_changes(kube, entries))
    lines += _told("warnings", events.warnings(evidence.events))
    for controller in kube.controllers:
        lines.append(f"controller  {controller.summary()}")
        lines += [f"            | {line}" for line in _last_error(controller)]
    found = hints.find(
        evidence.objects,
        evidence.requests,
        kube.controllers,
        failure=failure,
        provider=kube.cluster.provider,
    )
    lines += _told("hint", [line for hint in found for line in hint.splitlines()])
    lines += _told("incomplete", evidence.problems)
    if folder is not None:
        try:
            about = _write(kube, folder, evidence, entries, test)
        except OSError as e:
            lines.append(f"artifacts   could not be written: {e}")
        else:
            lines.append(f"artifacts   {shown}")
            outcome = "failed" if failure else "passed"
            missing = _report(folder, about, evidence, entries, outcome)
            told = f"not possible: {missing}" if missing else f"{shown}/{report.NAME}"
            lines.append(f"report      {told}")
            missing = archiving.save(kube, folder, evidence.changes, test=test)
            told = f"not possible: {missing}" if missing else _command(shown or "")
            lines.append(f"replay      {told}")
    if len(lines) > SECTION_LINES:
        rest = len(lines) - SECTION_LINES + 1
        where = "left out" if folder is None else "more in the artifacts"
        last = 1 if folder is None else 3
        cut = [f"            … {rest} lines {where}"]
        lines[SECTION_LINES - 1 - last : -last] = cut
    return "\n".join(_cut(line) for line in lines)


def _command(folder: str) -> str:
    return f"pytest-kube replay {shlex.quote(folder)}"


def _look(kube: Kube) -> _Evidence:
    """Read what is in the test's namespace, and what it made elsewhere."""
    deadline = time.monotonic() + TIME_LIMIT
    evidence = _Evidence()
    client = kube.cluster.client
    try:
        resources = [
            r
            for r in client.resources(refresh=True)
            if r.namespaced and "list" in r.verbs and r.group != "events.k8s.io"
        ]
    except KubeError as e:
        evidence.problems.append(str(e))
        return evidence
    for resource in resources:
        left = deadline - time.monotonic()
        if left <= 0 or len(evidence.objects) >= OBJECT_LIMIT:
            evidence.problems.append(f"stopped before {resource.full_name}")
            break
        path = resource.path(kube.namespace)
        query = {"limit": str(OBJECT_LIMIT - len(evidence.objects))}
        try:
            answer = client.request("GET", path, query=query, timeout=min(5.0, left))
        except KubeError as e:
            evidence.problems.append(str(e).splitlines()[0])
            continue
        found = resource.whole(answer["items"])
        target = evidence.events if resource.kind == "Event" else evidence.objects
        target += found
        if (answer.get("metadata") or {}).get("continue"):
            text = f"only the first {len(found)} of {resource.full_name}"
            evidence.problems.append(text)
    for resource, namespace, name in kube.leftovers.made:
        left = deadline - time.monotonic()
        if left <= 0 or len(evidence.objects) >= OBJECT_LIMIT:
            evidence.problems.append(f"stopped before {resource.full_name} {name}")
            break
        try:
            path = resource.path(namespace, name)
            obj = client.request("GET", path, timeout=min(5.0, left))
            evidence.objects.append(obj)
        except KubeError as e:
            evidence.problems.append(str(e).splitlines()[0])
    return evidence


def _look_back(kube: Kube, evidence: _Evidence) -> None:
    """Read what has changed in the test, and what was asked of the API server."""
    cluster, first = kube.cluster, kube.mark_revision

    def look() -> None:
        if cluster.state is not None and first is not None:
            found = changes(cluster, first, Selection())
            evidence.changes = [
                each for each in found if not archive_file.is_noise(each[0])
            ]
        if cluster.audit is not None:
            evidence.requests = requests(cluster.audit, kube.started)[::-1]

    try:
        within(archiving.TIME_LIMIT, look)
    except Exception as e:  # noqa: BLE001  # what is missing is told
        text = str(e).partition("\n")[0] or type(e).__name__
        evidence.problems.append(f"what has changed: {text}")


def _timeline(kube: Kube, evidence: _Evidence) -> list[Entry]:
    try:
        return timeline.merged(
            (version for _, version in evidence.changes),
            evidence.requests,
            _lines(kube),
            evidence.events,
        )
    except Exception as e:  # noqa: BLE001  # objects may look like anything
        evidence.problems.append(f"the timeline: {type(e).__name__}: {e}")
        return []


def _last_changes(kube: Kube, entries: Iterable[Entry]) -> list[str]:
    """Return the last changes in the test's namespace, and refused requests."""
    here = f" {kube.namespace}"
    usual = {f"ServiceAccount{here}/default", f"ConfigMap{here}/kube-root-ca.crt"}
    told: dict[Any, Entry] = {}
    times: Counter[Any] = Counter()
    for entry in entries:
        key: Any = entry
        if entry.kind == "request" and here in entry.text:
            if entry.text.endswith(timeline.NO_CHANGE):
                continue
            # The same again and again; names that are made up differ.
            key = (entry.who, _QUOTED.sub("", entry.text))
        elif entry.kind != "change" or f"{here}/" not in entry.about:
            continue
        if entry.about not in usual:
            told.pop(key, None)
            told[key] = entry
            times[key] += 1
    return [
        str(entry).replace(f"{here}/", " ")
        + (f" {times[key]} times" if times[key] > 1 else "")
        for key, entry in list(told.items())[-CHANGES:]
    ]


def _write(
    kube: Kube,
    folder: Path,
    evidence: _Evidence,
    entries: list[Entry],
    test: str,
) -> dict[str, Any]:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    objects = [redacted(_without_noise(obj)) for obj in evidence.objects]
    (folder / "objects.yaml").write_text(manifests.dump(objects), "utf-8")
    lines = [events.line(e) for e in events.in_order(evidence.events)]
    (folder / "events.txt").write_text("\n".join([*lines, ""]), "utf-8")
    with (folder / "timeline.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f"{entry.as_json()}\n" for entry in entries)
    for i, controller in enumerate(kube.controllers, 1):
        text = "\n".join([controller.output, *controller.errors, ""])
        (folder / f"controller-{i}.log").write_text(text, "utf-8")
    logs = folder / "logs"
    logs.mkdir()
    for name, path in kube.cluster.logs.items():
        (logs / f"{name}.log").write_text(tail(path, LOG_LINES) + "\n", "utf-8")
    if kube.cluster.state is not None and (why := _record(kube, folder, evidence)):
        evidence.problems.append(f"{crust_gather.NAME}: {why}")
    versions = {
        "test": test,
        "cluster": kube.cluster.name,
        "namespace": kube.namespace,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "pytest-kube": _version("pytest-kube"),
        "pytest": _version("pytest"),
        "incomplete": evidence.problems,
    }
    (folder / "versions.json").write_text(
        json.dumps(versions, indent=1) + "\n", "utf-8"
    )
    return versions


def _report(
    folder: Path,
    about: dict[str, Any],
    evidence: _Evidence,
    entries: list[Entry],
    outcome: str,
) -> str | None:
    """Write the page that shows it all; return why there is none, or ``None``."""
    paths = (*folder.glob("*.log"), *folder.glob("logs/*.log"))
    logs = {path.stem: path.read_text("utf-8") for path in paths}
    try:
        within(
            archiving.TIME_LIMIT,
            lambda: report.write(
                folder / report.NAME,
                test=about["test"],
                outcome=outcome,
                about={name: str(text) for name, text in about.items() if text},
                entries=entries,
                versions=[version for _, version in evidence.changes],
                logs=logs,
            ),
        )
    except Exception as e:  # noqa: BLE001  # a failure must not become another error
        return str(e).partition("\n")[0] or type(e).__name__
    return None


def _record(kube: Kube, folder: Path, evidence: _Evidence) -> str | None:
    """Write the archive for crust-gather; return why there is none, or ``None``."""
    deadline = time.monotonic() + archiving.TIME_LIMIT

    def write() -> None:
        known = archiving.baseline(kube)
        crust_gather.write(
            folder / crust_gather.NAME,
            kube.cluster.client,
            crust_gather.first(known, kube.namespace),
            [version for _, version in evidence.changes],
            _lines(kube),
            namespace=kube.namespace,
            deadline=deadline,
        )

    try:
        within(archiving.TIME_LIMIT, write)
    except Exception as e:  # noqa: BLE001  # a failure must not become another error
        return str(e).partition("\n")[0] or type(e).__name__
    return None


def _lines(kube: Kube) -> list[Line]:
    return [
        Line(line.time, controller.name, line.text)
        for controller in kube.controllers
        for line in controller.lines()
    ]


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _without_noise(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    return {**obj, "metadata": metadata}


def _counted(objects: Iterable[dict[str, Any]]) -> list[str]:
    names: dict[str, list[str]] = {}
    for obj in objects:
        names.setdefault(obj["kind"], []).append(obj["metadata"]["name"])
    return [
        f"{kind} {', '.join(found[:3])}"
        + (f" and {len(found) - 3} more" if len(found) > 3 else "")  # noqa: PLR2004
        for kind, found in names.items()
        if not (kind == "ServiceAccount" and found == ["default"])
        and not (kind == "ConfigMap" and found == ["kube-root-ca.crt"])
    ]


def _last_error(controller: Running) -> list[str]:
    if controller.errors:
        return list(controller.errors[-1].splitlines()[-10:])
    return list(controller.tail(5).splitlines())


def _cut(line: str) -> str:
    return line if len(line) <= LINE_LENGTH else line[: LINE_LENGTH - 1] + "…"


def _told(title: str, lines: list[str]) -> list[str]:
    return [f"{title if not i else '':11} {line}" for i, line in enumerate(lines)]
