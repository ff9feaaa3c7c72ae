"""How long a cluster needs: to a write, a pod, a Deployment, a CRD; to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from children import values
from figures import Figure
from objects import crd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from children import Bench, Measured

NODES = 3
ENVTEST = "controller-runtime"


def both(
    bench: Bench, ours: list[str], theirs: list[str] | None, runs: int
) -> tuple[list[Measured], list[Measured]]:
    """Measure two commands in turn; the second one may not be there."""
    commands = {"ours": ours, **({"theirs": theirs} if theirs else {})}
    taken = bench.in_turn(commands, runs)
    return taken["ours"], taken.get("theirs", [])


def envtest(bench: Bench) -> Iterator[Figure]:
    """Rows 1 and 2."""
    command = bench.ours("envtest", 0, "write")
    ours, theirs = both(bench, command, bench.envtest(), bench.runs)
    for what, words, bar in (
        ("to the first authenticated write", ("write",), 0.35),
        ("the same, start + stop", ("write", "stop"), 0.25),
    ):
        yield Figure(
            f"envtest cluster, cold, {what}",
            values(ours, *words),
            ENVTEST,
            values(theirs, *words),
            bar=bar,
            relative=True,
        )
    memory = values(ours, "memory"), values(theirs, "memory")
    yield Figure("envtest cluster: memory", memory[0], ENVTEST, memory[1], unit="MB")


def kwok(bench: Bench) -> Iterator[Figure]:
    """Rows 3 and 4, each by starts of its own."""
    for task, what, bar in (
        ("pod", "first scheduled Running pod", 0.3),
        ("deployment", "first available Deployment of 3", 0.4),
    ):
        ours, theirs = both(
            bench,
            bench.ours("kwok", NODES, task),
            bench.kwokctl(NODES, task),
            bench.runs,
        )
        yield Figure(
            f"kwok cluster of {NODES} nodes, cold, to the {what}",
            values(ours, task),
            "kwokctl",
            values(theirs, task),
            bar=bar,
            relative=True,
        )
        if task == "pod":
            for text, word, unit in (
                ("to the first authenticated write", "write", "s"),
                ("stop", "stop", "s"),
                ("memory", "memory", "MB"),
            ):
                yield Figure(
                    f"kwok cluster: {text}",
                    values(ours, word),
                    "kwokctl",
                    values(theirs, word),
                    unit=unit,
                )


def crds(bench: Bench) -> Iterator[Figure]:
    """Row 5."""
    files = bench.folder / "one.yaml", bench.folder / "ten.yaml"
    for file, numbers in zip(files, (range(1), range(1, 11)), strict=True):
        file.write_text(yaml.safe_dump_all(map(crd, numbers)))
    task = ("crds", *map(str, files))
    command = bench.ours("envtest", 0, *task)
    ours, theirs = both(bench, command, bench.envtest(*task), bench.runs)
    for what, first, last, bar in (
        ("CRD file to the first accepted object", "calm", "one", 0.06),
        ("10 CRDs in a file, to an object of each", "one", "ten", 0.15),
    ):
        yield Figure(
            what,
            [m[last] - m[first] for m in ours],
            ENVTEST,
            [m[last] - m[first] for m in theirs],
            unit="ms",
            bar=bar,
        )
