"""Our figures beside those of the peers: in turn, in one run, by medians and ratios.

    nox -s bench -- --runs 5
    nox -s bench -- --only envtest,kwok

Starts are processes of their own, timed from outside: from their creation to the line
that they print when something is reached. The table goes to the standard output, row by
row; what is going on, and every single figure, to the standard error. Peers that cannot
be had (no Go, no kwokctl) are left out, and the table says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import controllers
import failures
import kinds
import scale
import starts
import state
import waiting
from children import PROGRAMS, Bench, environment, progress
from figures import HEAD, Figure

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "envtest": starts.envtest,
    "kwok": starts.kwok,
    "crds": starts.crds,
    "isolation": state.isolation,
    "hundred": state.hundred,
    "reuse": state.reuse,
    "history": state.history,
    "nodes": scale.nodes,
    "pods": scale.pods,
    "rollback": scale.rollback,
    "plugin": state.plugin,
    "handle": waiting.handle,
    "controllers": controllers.controllers,
    "diagnostics": failures.diagnostics,
    "kind": kinds.kinds,
}


def main() -> int:
    """Measure what is asked for, and print one table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=5, help="of each; big ones are fewer (default: 5)"
    )
    parser.add_argument(
        "--only", metavar="NAME[,NAME]", help=f"of these: {', '.join(ROWS)}"
    )
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"--only: {', '.join(unknown)}: no such row")
    if arguments.runs < 1:
        parser.error("--runs: at least 1")
    # Ended by others, too, it takes along what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    binaries = Store(DEFAULT_VERSION).require(*PROGRAMS)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        paths = Path(folder)
        bench = Bench(arguments.runs, paths, environment(paths, binaries))
        return measure_all(bench, names)


def measure_all(bench: Bench, names: list[str]) -> int:
    """Measure one row after the other; one that fails does not end the others."""
    show(
        f"Kubernetes {DEFAULT_VERSION}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores; medians (least–most)\n\n{HEAD}"
    )
    failed = 0
    for name in names:
        progress(f"--- {name}")
        try:
            for figure in ROWS[name](bench):
                show(str(figure))
        except state.FAILURES as e:
            failed += 1
            progress(f"{name}: {type(e).__name__}: {e}")
            first = str(e).partition("\n")[0].replace("|", "/")
            show(str(Figure(name, [], note=f"failed: {first}")))
    return 1 if failed else 0


def show(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
