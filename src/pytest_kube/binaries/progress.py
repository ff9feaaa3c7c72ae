"""Lines that say how far a download or a build is."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

UNFINISHED = "..."
"""How a line ends that a later one about the same job replaces."""


def say(line: str) -> None:
    """Write *line* to stderr; on a terminal it replaces an unfinished one."""
    if not sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)  # noqa: T201
        return
    end = "" if line.endswith(UNFINISHED) else "\n"
    print(f"\r\033[K{line}", end=end, file=sys.stderr, flush=True)  # noqa: T201


@dataclass
class Progress:
    """The lines of one job, from its start, at most one per *interval* in between."""

    report: Callable[[str], None]
    interval: float
    started: float = field(default_factory=time.monotonic)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.started
        if self.report is say and sys.stderr.isatty():
            self.interval = min(self.interval, 0.2)

    @property
    def elapsed(self) -> float:
        """Seconds since the job started."""
        return time.monotonic() - self.started

    def tick(self, line: str) -> None:
        """Report *line* if the last report is long enough ago."""
        now = time.monotonic()
        if now - self._last >= self.interval:
            self._last = now
            self.report(f"{line}, {now - self.started:.0f} s {UNFINISHED}")


def megabytes(size: int) -> str:
    """Return *size* as a person reads it."""
    return f"{size / 1e6:.1f} MB"
