"""The moments of an archived state as text: what changed, by whom, what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kube.diff import differences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kube.state.archive import Archive

AROUND = 5
"""Changes that are shown before and after the current one."""

DIFFERENCES = 8
"""Differences of one change that are shown."""


def told(archive: Archive, moment: int) -> Iterator[str]:
    """Say where a moment is, what changed last, and who did it."""
    place = f"{moment} of {len(archive.changes)}"
    if not moment:
        yield f"moment      {place}: revision {archive.about.first}, the test begins"
        return
    yield f"moment      {place}: {_line(archive, moment - 1)}"
    before, change = archive.before[moment - 1], archive.changes[moment - 1]
    if before and change.value:
        lines = differences(before, change.value)
        yield from (f"            {line}" for line in lines[:DIFFERENCES])
        if more := len(lines[DIFFERENCES:]):
            yield f"            … and {more} more"
    if done := [step for then, step in archive.steps if then <= moment]:
        yield f"after       step:{done[-1].number} {done[-1].text}"


def around(archive: Archive, moment: int) -> Iterator[str]:
    """List the changes around a moment; the last one that has happened is marked."""
    first = max(0, moment - 1 - AROUND)
    if not first:
        sign = " " if moment else ">"
        yield f"{sign}   0  revision {archive.about.first}, the test begins"
        yield from _done(archive, 0)
    for index in range(first, min(len(archive.changes), moment + AROUND)):
        sign = ">" if index == moment - 1 else " "
        yield f"{sign}{index + 1:4}  {_line(archive, index)}"
        yield from _done(archive, index + 1)


def _done(archive: Archive, moment: int) -> Iterator[str]:
    """Name the steps of the test that had been done by then, and not before."""
    for then, step in archive.steps:
        if then == moment:
            yield f"       step:{step.number} {step.text}"


def between(archive: Archive, one: int, other: int) -> Iterator[str]:
    """Say what differs in the whole state between two moments."""
    before, after = archive.state(one), archive.state(other)
    same = True
    for key in sorted({*before, *after}):
        old = before[key].value if key in before else None
        new = after[key].value if key in after else None
        if old == new:
            continue
        same = False
        sign = "~" if old and new else "+" if new else "-"
        yield f"{sign} {_ref(new or old or {})}"
        if old and new:
            yield from (f"    {line}" for line in differences(old, new))
    if same:
        revisions = f"{archive.revision(one)} and {archive.revision(other)}"
        yield f"nothing differs between revisions {revisions}"


def _line(archive: Archive, index: int) -> str:
    change, before = archive.changes[index], archive.before[index]
    when = archive.times[index]
    seconds = (when - archive.began).total_seconds()
    done = "changed" if before else "created"
    if change.value is None:
        done = "deleted"
    verb = f" ({change.verb})" if change.verb else ""
    return (
        f"revision {change.revision} at {when:%H:%M:%S}.{when.microsecond // 1000:03} "
        f"(+{seconds:.3f}s): {_ref(change.value or before or {})} {done} by "
        f"{change.user or 'an unknown user'}{verb}"
    )


def _ref(obj: Mapping[str, Any]) -> str:
    metadata = obj.get("metadata") or {}
    where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{obj.get('kind')} {where}{metadata.get('name', '')}".rstrip()
