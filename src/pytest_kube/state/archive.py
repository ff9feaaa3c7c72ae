"""The state of a failed test, with every change since it began, and its moments."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kube.errors import ArchiveError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__tracebackhide__ = hide_frames

_OFFSET = re.compile(r"\+(\d+(?:\.\d+)?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


_BOOLEAN = "(?:1|t|T|TRUE|true|True|0|f|F|FALSE|false|False)"
_SERVED = {
    "feature-gates": rf"(?:kube:)?[A-Za-z][A-Za-z0-9]*={_BOOLEAN}",
    "runtime-config": rf"[a-z0-9][a-z0-9./-]*(?:={_BOOLEAN})?",
}
"""Flags of an API server that decide what is served, and of what each is a list."""


def served(flags: Mapping[str, str]) -> dict[str, str]:
    """Return the flags that another API server may be started with, whoever says so."""
    return {
        name: value
        for name, value in flags.items()
        if (one := _SERVED.get(name)) and re.fullmatch(rf"{one}(?:,{one})*", value)
    }


class Done(NamedTuple):
    """A step of the test.

    Attributes:
        number: Its place among all steps, from 1.
        text: The call.
        ended: When it had been done; ``None`` if that was never.
    """

    number: int
    text: str
    ended: datetime | None


@dataclass(frozen=True)
class About:
    """What an archive is about.

    Attributes:
        version: The Kubernetes version of the cluster.
        provider: What created the cluster.
        namespace: The namespace of the test.
        test: Its node id.
        made: When the archive was made.
        first: The revision at which the test began.
        last: The last revision there was.
        steps: What the test did, in order.
        flags: The flags of the API server that decided what was served.
    """

    version: str
    provider: str
    namespace: str
    test: str
    made: datetime
    first: int
    last: int
    steps: tuple[Done, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)


class Stored(NamedTuple):
    """A value that a key has had since a revision; ``None`` for a deleted one.

    Attributes:
        time: When it was written, where that is known.
        user: Who wrote it, where that is known.
        verb: What the request was.
    """

    key: str
    revision: int
    value: dict[str, Any] | None
    time: datetime | None = None
    user: str | None = None
    verb: str = ""


@dataclass(frozen=True)
class Archive:
    """An archive that was read.

    A moment is how many of the changes have happened: 0 is when the test began.

    Attributes:
        about: What it is about.
        baseline: What there was when the test began.
        changes: Every change since, in order.
        warning: What is wrong with it, if it can be used nevertheless.
    """

    about: About
    baseline: Sequence[Stored]
    changes: Sequence[Stored]
    warning: str = ""

    def state(self, moment: int) -> dict[str, Stored]:
        """Return what every key is at a moment."""
        newest = {s.key: s for s in (*self.baseline, *self.changes[:moment])}
        return {key: s for key, s in newest.items() if s.value is not None}

    @cached_property
    def before(self) -> Sequence[dict[str, Any] | None]:
        """What the key of each change was before it."""
        newest = {stored.key: stored.value for stored in self.baseline}
        found = []
        for change in self.changes:
            found.append(newest.get(change.key))
            newest[change.key] = change.value
        return found

    @cached_property
    def times(self) -> Sequence[datetime]:
        """When each change was made, to the millisecond, as it is shown; rising."""
        start = self.about.made
        known = next((c.time for c in self.changes if c.time), start)
        found = accumulate((c.time or known for c in self.changes), max)
        return [_to_the_millisecond(when) for when in found]

    @property
    def began(self) -> datetime:
        """When the test began, which is when it changed something first."""
        return self.times[0] if self.times else self.about.made

    def revision(self, moment: int) -> int:
        """Return the revision of a moment."""
        return self.changes[moment - 1].revision if moment else self.about.first

    def find(self, text: str) -> int:
        """Return the moment that somebody means.

        Args:
            text: A revision; a step of the test, ``step:3``, when it had been done; a
                time since the test began, ``+1.5s``; or a time, or a time of that day,
                in UTC if it says nothing else.

        Raises:
            ArchiveError: It is none, or not one of this archive.
        """
        first, last = self.about.first, self.revision(len(self.changes))
        if text.isdecimal():
            if not first <= int(text) <= last:
                raise ArchiveError(
                    f"revision {text} is not in the archive, which has {first} to "
                    f"{last}"
                )
            return bisect_right([c.revision for c in self.changes], int(text))
        if text.startswith("step:"):
            return self._after_step(text)
        try:
            when = self._time(text)
        except (ValueError, OverflowError):
            raise ArchiveError(
                f"{text!r} is no moment: give a revision ({first} to {last}), a time "
                f"since the test began (+1.5s), a time ({_shown(self.began)}), or a "
                "step of the test (step:1)"
            ) from None
        if not self.began <= when <= self.about.made:
            lasted = (self.about.made - self.began).total_seconds()
            raise ArchiveError(
                f"{text} is not in the archive, which goes from {_shown(self.began)} "
                f"to {_shown(self.about.made)} (+{lasted:.3f}s)"
            )
        return bisect_right(self.times, when)

    def _after_step(self, text: str) -> int:
        found = [m for m, s in self.steps if str(s.number) == text.partition(":")[2]]
        if found:
            return found[0]
        known = [step.number for _, step in self.steps]
        has = f"steps {known[0]} to {known[-1]}" if known else "no steps"
        raise ArchiveError(f"{text} is not in the archive, which has {has}")

    @cached_property
    def steps(self) -> Sequence[tuple[int, Done]]:
        """Each step of the test, with the moment at which it had been done."""
        return [
            (bisect_right(self.times, s.ended) if s.ended else len(self.changes), s)
            for s in self.about.steps
        ]

    def _time(self, text: str) -> datetime:
        if offset := _OFFSET.fullmatch(text):
            seconds = float(offset[1]) * _UNITS[offset[2] or "s"]
            return self.began + timedelta(seconds=seconds)
        if "-" not in text:  # a time of day
            when = datetime.fromisoformat(f"{self.began:%Y-%m-%d}T{text}")
            when = when.replace(tzinfo=when.tzinfo or UTC)
            return when if when >= self.began else when + timedelta(days=1)
        when = datetime.fromisoformat(text)
        return when.replace(tzinfo=when.tzinfo or UTC)


def _to_the_millisecond(when: datetime) -> datetime:
    return when.replace(microsecond=when.microsecond // 1000 * 1000)


def _shown(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
