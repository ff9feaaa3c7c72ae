"""What a failed test costs, how soon its archive answers, and its report opens."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from children import ChildError, progress
from figures import Figure
from objects import config_map, crd, custom
from starter import cluster, each, since

from pytest_kube.audit import Write
from pytest_kube.diagnostics import report, timeline
from pytest_kube.diagnostics.collect import collect
from pytest_kube.history import Version
from pytest_kube.kube import Kube
from pytest_kube.objects import Object
from pytest_kube.state import archive_file
from pytest_kube.steps import Steps, call

sys.path.append(str(Path(__file__).parents[1] / "tests" / "diagnostics"))
import headless  # the tests', too

if TYPE_CHECKING:
    from collections.abc import Iterator

    from children import Bench

    from pytest_kube.cluster import Cluster

OBJECTS = 50
CHANGES = 200
LARGE = 10_000
STEPS = 20
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEADLINE = 60.0
"""Seconds for one replay."""

MAIN = "import sys; from pytest_kube.cli import main; sys.exit(main())"


def diagnostics(bench: Bench) -> Iterator[Figure]:
    """Measure what a failed test costs, and what one that passes pays for it."""
    folder = bench.folder / "diagnostics"
    (folder / "crds").mkdir(parents=True)
    (folder / "crds" / "crd.yaml").write_text(yaml.safe_dump(crd(0)))
    artifacts = folder / "artifacts"
    collected, paid = [], []
    with cluster("kwok", 3) as ours:
        ours.install_crds([folder / "crds" / "crd.yaml"])
        mark = ours.mark()
        kube = Kube(ours, "default", mark_revision=mark.since)
        kube.log_sizes = ours.log_sizes()
        kube.create(custom(0, "first"))
        each(lambda i: kube.create(config_map(f"change-{i}")), OBJECTS)
        for number in range(CHANGES // OBJECTS - 1):
            _change(kube, number)
        for _ in range(bench.runs + 1):
            began = time.monotonic()
            section = collect(
                kube, artifacts, shown="a", test="bench", failure="E  no", secrets=()
            )
            collected.append(since(began))
            if "incomplete" in section or "replay " not in section:
                raise ChildError(f"diagnostics: {section}")
            paid.append(_pays(ours))
    progress(f"diagnostics: collected in {collected}")
    size = (artifacts / archive_file.NAME).stat().st_size / 1024
    yield Figure(
        f"diagnostics of a failed test: {CHANGES} changes of {OBJECTS} objects",
        collected[1:],
        unit="ms",
        bar=0.5,
        note=f"{size:.0f} kB of it the archive",
    )
    yield Figure(
        f"what a test that passes pays: sizes of logs noted, {STEPS} steps recorded",
        paid[1:],
        unit="ms",
        bar=0.005,
    )
    answers = [_first_answer(artifacts) for _ in range(bench.runs + 1)][1:]
    progress(f"diagnostics: replay answered after {answers}")
    yield Figure(
        "`pytest-kube replay`, to the first answer of kubectl", answers, bar=1.5
    )
    yield from _page(bench)


def _pays(ours: Cluster) -> float:
    """Return the seconds that all take that is done while nothing has failed."""
    steps = Steps()
    began = time.monotonic()
    ours.log_sizes()
    for number in range(STEPS):
        words = (f"configmap/change-{number}", "create")
        steps.take(lambda: None, lambda words=words: call("kube.wait_for", words, {}))  # type: ignore[misc]
    return since(began)


def _page(bench: Bench) -> Iterator[Figure]:
    """Measure a report of many changes, in a browser."""
    program = headless.program()
    what = f"report.html of {LARGE:,} changes"
    if program is None:
        yield Figure(f"{what}, opened", [], bar=2, note="no browser here")
        return
    path = bench.folder / "report.html"
    versions = _versions()
    entries = timeline.merged(versions, [], [], [])
    written, shown = [], []
    with headless.running(program, bench.folder / "chromium") as address:
        browser = headless.Browser(address)
        for _ in range(bench.runs + 1):
            began = time.monotonic()
            report.write(
                path,
                test="bench",
                outcome="failed",
                about={},
                entries=entries,
                versions=versions,
                logs={},
            )
            written.append(since(began))
            began = time.monotonic()
            browser.open(path)
            browser.wait("document.documentElement.dataset.complete")
            shown.append(since(began))
        browser.close()
    progress(f"diagnostics: written in {written}, shown in {shown}")
    size = path.stat().st_size / 1024**2
    yield Figure(f"{what}, written", written[1:], note=f"{size:.1f} MB (bar: 10 MB)")
    yield Figure(f"{what}, opened until all rows are there", shown[1:], bar=2.0)


def _versions() -> list[Version]:
    """Return changes of 200 Deployments, each by one of two users."""
    found: list[Version] = []
    for number in range(LARGE):
        name, when = f"web-{number % 200}", START + timedelta(milliseconds=7 * number)
        env = [{"name": f"E{i}", "value": f"value {i}"} for i in range(10)]
        container = {"name": "main", "image": f"web:{number}", "env": env}
        obj = Object(
            apiVersion="apps/v1",
            kind="Deployment",
            metadata={"name": name, "namespace": "default", "generation": number},
            spec={"template": {"spec": {"containers": [container]}}},
            status={"conditions": [{"type": "Ready", "message": f"round {number}"}]},
        )
        before = found[-200].object if number >= 200 else None  # noqa: PLR2004
        write = Write(f"controller-{number % 2}", "patch", when)
        found.append(
            Version(obj, before, number + 1, "", lambda *_, write=write: write)
        )
    return found


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
