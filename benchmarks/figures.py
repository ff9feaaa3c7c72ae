"""A figure of ours, the peer's beside it, the bar, and whether it is met."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

HEAD = (
    "| what | ours | peer | ratio | bar | met |\n| --- | --- | --- | --- | --- | --- |"
)
SCALES = {"s": (1.0, 2), "ms": (1000.0, 1), "MB": (1.0, 0)}
"""Unit: its factor for seconds or megabytes, digits after the point."""


@dataclass
class Figure:
    """One row of the table.

    Attributes:
        what: What was measured.
        ours: Each run's figure, in seconds or megabytes; none when it failed.
        peer: What the peer is.
        theirs: Each of its runs.
        unit: How it is shown.
        bar: What ours may be at most.
        relative: Whether the bar is a multiple of theirs.
        note: What else there is to say, for example why there is no figure.
    """

    what: str
    ours: list[float]
    peer: str = ""
    theirs: list[float] = field(default_factory=list)
    unit: str = "s"
    bar: float | None = None
    relative: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours by theirs, if both are there."""
        if not self.ours or not self.theirs:
            return None
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; ``None`` when there is none, or nobody can tell."""
        if self.bar is None:
            return None
        if self.relative:
            return None if self.ratio is None else self.ratio <= self.bar
        return bool(self.ours) and statistics.median(self.ours) <= self.bar

    def __str__(self) -> str:
        ours = _spread(self.ours, self.unit) if self.ours else "none"
        ours += f"; {self.note}" if self.note else ""
        theirs = _spread(self.theirs, self.unit) if self.theirs else "not here"
        peer = f"{self.peer}: {theirs}" if self.peer else ""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        if self.bar is not None and self.met is None:
            met = "unknown"
        cells = (self.what, ours, peer, ratio, self._bar(), met)
        return f"| {' | '.join(cells)} |"

    def _bar(self) -> str:
        if self.bar is None:
            return ""
        if self.relative:
            return f"<= {self.bar:g} x"
        return f"<= {self.bar * SCALES[self.unit][0]:g} {self.unit}"


def _spread(values: list[float], unit: str) -> str:
    """Format a median, with the least, the most, and how many there were."""
    factor, digits = SCALES[unit]
    scaled = [value * factor for value in values]
    median = f"{statistics.median(scaled):.{digits}f} {unit}"
    if len(values) == 1:
        return f"{median} (once)"
    least, most = min(scaled), max(scaled)
    return f"{median} ({least:.{digits}f}–{most:.{digits}f}, {len(values)} runs)"
