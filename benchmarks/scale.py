"""1,000 nodes, 10,000 pods, and taking them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from children import progress, values
from figures import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from children import Bench, Measured

NODES = 1000
DEADLINE = 700.0
UNLIMITED = "--disable-qps-limits"
PEER = f"kwokctl {UNLIMITED}"
"""At its best: as it is, its controllers need two minutes for the nodes alone."""


def nodes(bench: Bench) -> Iterator[Figure]:
    """Row 10."""
    task = ("nodes", str(NODES))
    commands = {"ours": bench.ours("kwok", NODES, *task)}
    if theirs := _unlimited(bench, task):
        commands["theirs"] = theirs
    taken = bench.in_turn(commands, bench.few(3), DEADLINE)
    for what, word, bar in (
        ("to the first authenticated write", "write", 2.0),
        ("until all of them are Ready", "nodes", None),
        ("to the first Running pod", "pod", 2.0),
    ):
        # Of kwokctl's first write there are no nodes yet: that would compare nothing.
        beside = values(taken.get("theirs", ()), word) if word != "write" else []
        yield Figure(
            f"kwok cluster of 1,000 nodes, cold, {what}",
            values(taken["ours"], word),
            PEER if word != "write" else "",
            beside,
            bar=bar,
        )


def pods(bench: Bench) -> Iterator[Figure]:
    """Row 11, and the rollback of what it made."""
    task = ("pods", str(NODES))
    ours = _several(bench, "ours", bench.ours("kwok", NODES, *task), 1)
    command = _unlimited(bench, task)
    theirs = _several(bench, PEER, command, 1) if command else []
    for what, word, unit, bar in (
        ("10,000 pods to Running on 1,000 nodes", "run", "s", 1.0),
        ("of that, until the last one is created", "create", "s", None),
        ("memory with 10,000 pods", "memory", "MB", None),
    ):
        yield Figure(
            what,
            values(ours, word),
            PEER,
            values(theirs, word),
            unit=unit,
            bar=bar,
            relative=True,
        )
    yield from _rollback("10,000 running pods", ours, None)


def rollback(bench: Bench) -> Iterator[Figure]:
    """Row 12."""
    command = bench.ours("kwok", NODES, "rollback", str(NODES))
    ours = _several(bench, "ours", command, bench.few(3))
    yield Figure(
        "5,000 pods of 10 Deployments, until all are available", values(ours, "run")
    )
    yield from _rollback("5,000 running pods", ours, 0.5)


def _rollback(what: str, ours: list[Measured], bar: float | None) -> Iterator[Figure]:
    failures = {m["failed"].partition("\n")[0] for m in ours if "failed" in m}
    note = "; ".join(sorted(failures)).replace("|", "/")
    yield Figure(f"rollback of {what}", values(ours, "rollback"), bar=bar, note=note)
    yield Figure(
        f"rollback of {what}, until the next test's first write is accepted",
        values(ours, "next"),
    )


def _unlimited(bench: Bench, task: tuple[str, ...]) -> list[str] | None:
    command = bench.kwokctl(NODES, *task)
    return command and ["env", f"BENCH_KWOKCTL_OPTIONS={UNLIMITED}", *command]


def _several(bench: Bench, name: str, command: list[str], runs: int) -> list[Measured]:
    """Measure without a run to warm up: that is what the row ``nodes`` is."""
    taken = []
    for i in range(runs):
        progress(f"{name}: run {i + 1} of {runs}")
        taken.append(bench.measure(command, DEADLINE))
        progress(f"    {taken[-1]}")
    return taken
