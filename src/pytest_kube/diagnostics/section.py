"""The section of a failed test's report: what explains it, in forty lines."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_kube import events
from pytest_kube.diagnostics import hints, timeline
from pytest_kube.diagnostics.ci import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kube.diagnostics.evidence import Evidence
    from pytest_kube.diagnostics.timeline import Entry
    from pytest_kube.kube import Kube
    from pytest_kube.observation import Running

LINES = 40
LINE_LENGTH = 500
CHANGES = 10
"""Changes that it shows."""

_QUOTED = re.compile(r'"[^"]*"')


def explain(kube: Kube, evidence: Evidence, *, failure: str) -> list[str]:
    """Return what explains a failure, a fact in each line.

    Args:
        kube: The handle of the test.
        evidence: What is known of the test.
        failure: The text of its failure.
    """
    lines = [f"cluster     {kube.cluster.name}; namespace {kube.namespace}"]
    lines += _told("objects", _counted(evidence.objects))
    lines += _told("changes", _last_changes(kube, evidence.entries))
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
    return lines + _told("hint", [line for hint in found for line in hint.splitlines()])


def fit(explained: Sequence[str], problems: Iterable[str], ends: Sequence[str]) -> str:
    """Put a section together, and cut it where it is too long.

    Args:
        explained: What :func:`explain` found.
        problems: What could not be collected.
        ends: Lines that stay: where the artifacts are.
    """
    lines = [*explained, *_told("incomplete", list(problems))]
    room = LINES - len(ends)
    if len(lines) > room:
        # Without artifacts the last line, which says what is missing, stays, too.
        last = [] if ends else lines[-1:]
        kept = room - 1 - len(last)
        where = "more in the artifacts" if ends else "left out"
        rest = len(lines) - kept - len(last)
        lines = [*lines[:kept], f"            … {rest} lines {where}", *last]
    return "\n".join(map(_plain, [*lines, *ends]))


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


def _plain(line: str) -> str:
    """Return a line that is no trap for a terminal, and not too long for one."""
    text = "".join(c if c.isprintable() else "?" for c in plain(line))
    return text if len(text) <= LINE_LENGTH else text[: LINE_LENGTH - 1] + "…"


def _told(title: str, lines: list[str]) -> list[str]:
    return [f"{title if not i else '':11} {line}" for i, line in enumerate(lines)]
