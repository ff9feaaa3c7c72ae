"""What the archive of a failed test costs, and how soon it answers again."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import yaml
from children import ChildError, progress
from figures import Figure
from objects import config_map, crd, custom
from starter import cluster, each, since

from pytest_kube.diagnostics import archiving
from pytest_kube.kube import Kube
from pytest_kube.state import archive_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from children import Bench

OBJECTS = 50
CHANGES = 200
DEADLINE = 60.0
"""Seconds for one replay."""

MAIN = "import sys; from pytest_kube.cli import main; sys.exit(main())"


def replay(bench: Bench) -> Iterator[Figure]:
    folder = bench.folder / "replay"
    folder.mkdir()
    (folder / "crd.yaml").write_text(yaml.safe_dump(crd(0)))
    written = []
    with cluster("kwok", 3) as ours:
        ours.install_crds([folder / "crd.yaml"])
        mark = ours.mark()
        kube = Kube(ours, "default", mark_revision=mark.since)
        kube.create(custom(0, "first"))
        each(lambda i: kube.create(config_map(f"change-{i}")), OBJECTS)
        for number in range(CHANGES // OBJECTS - 1):
            _change(kube, number)
        for _ in range(bench.runs + 1):
            began = time.monotonic()
            if problem := archiving.save(kube, folder, test="bench"):
                raise ChildError(f"replay: {problem}")
            written.append(since(began))
    progress(f"replay: written in {written}")
    size = (folder / archive_file.NAME).stat().st_size / 1024
    yield Figure(
        f"the archive of a failed test, {CHANGES} changes of {OBJECTS} objects",
        written[1:],
        unit="ms",
        note=f"{size:.0f} kB",
    )
    answers = [_first_answer(folder) for _ in range(bench.runs + 1)][1:]
    progress(f"replay: answered after {answers}")
    yield Figure(
        "`pytest-kube replay`, to the first answer of kubectl", answers, bar=1.5
    )


def _change(kube: Kube, number: int) -> None:
    data = {"data": {"number": str(number)}}
    each(lambda i: kube.patch(f"configmap/change-{i}", data), OBJECTS)


def _first_answer(folder: Path) -> float:
    """Replay, and ask for a custom resource; return the seconds until it is named."""
    command = [sys.executable, "-c", MAIN, "replay", str(folder), "--"]
    ask = ["kubectl", "get", "thing0s.bench.example.com", "-n", "default", "-o", "name"]
    began = time.monotonic()
    with subprocess.Popen(
        [*command, *ask],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101  # for the type checker
        answer = process.stdout.readline()
        seconds = since(began)
        process.wait(DEADLINE)
    if "first" not in answer:
        raise ChildError(f"replay: kubectl answered {answer!r}")
    return seconds
