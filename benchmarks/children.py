"""The programs that are measured: found or built, run, timed, weighed, ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kube.binaries.releases import DEFAULT_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
STARTER = str(HERE / "starter.py")
KWOK_VERSION = "v0.8.0"
KWOKCTL = f"sigs.k8s.io/kwok/cmd/kwokctl@{KWOK_VERSION}"
PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "kwok",
)
Measured = dict[str, Any]


@dataclass
class Bench:
    """What every row needs.

    Attributes:
        runs: How often small things are measured; big ones less often.
        folder: Where files can be.
        environment: Lets the peers use the binaries that we use ourselves.
        built: The peers that were looked for: their paths, ``None`` without them.
    """

    runs: int
    folder: Path
    environment: dict[str, str]
    built: dict[str, str | None] = field(default_factory=dict)

    def few(self, most: int) -> int:
        """How often big things are measured."""
        return min(self.runs, most)

    def in_turn(
        self, commands: dict[str, list[str]], runs: int, deadline: float = 120.0
    ) -> dict[str, list[Measured]]:
        """Run every command in turn, *runs* times, after one that nobody counts."""
        taken: dict[str, list[Measured]] = {name: [] for name in commands}
        for i in range(runs + 1):
            for name, command in commands.items():
                progress(f"{name}: {f'run {i} of {runs}' if i else 'to warm up'}")
                measured = self.measure(command, deadline)
                progress(f"    {measured}")
                if i:
                    taken[name].append(measured)
        return taken

    def measure(self, command: Sequence[str], deadline: float) -> Measured:
        """Run a command; return the seconds to each word, and what it told.

        Raises:
            ChildError: It failed, or took longer than *deadline*; it is gone, and all
                that it started.
        """
        mark = uuid.uuid4().hex
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            tempfile.TemporaryFile("w+", dir=self.folder) as errors,
            swept(mark),
        ):
            env = {**os.environ, **self.environment, "BENCH_MARK": mark}
            env["KWOK_WORKDIR"] = folder
            began = time.monotonic()
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env,
                cwd=folder,
                text=True,
            )
            timer = threading.Timer(deadline, process.kill)
            timer.start()
            try:
                with process:
                    seconds = _listen(process, began, mark)
            finally:
                timer.cancel()
            if process.returncode:
                errors.seek(0)
                raise ChildError(
                    f"{Path(command[0]).name} {' '.join(command[1:])} ended with "
                    f"{process.returncode} after {time.monotonic() - began:.0f} s:\n"
                    f"{errors.read()[-2000:]}"
                )
        return seconds

    # --- the peers ----------------------------------------------------------

    def ours(self, provider: str, nodes: int, *task: str) -> list[str]:
        """Return the command that starts a cluster of ours, and does a task on it."""
        return [sys.executable, STARTER, provider, str(nodes), *task]

    def kwokctl(self, nodes: int, *task: str) -> list[str] | None:
        """Return the command that does with kwokctl what ours does; None without."""
        if "kwokctl" not in self.built:
            self.built["kwokctl"] = _found_kwokctl() or self._build(
                "kwokctl",
                ["install", "-trimpath", "-ldflags", "-s -w", KWOKCTL],
                HERE,
            )
        path = self.built["kwokctl"]
        return path and [sys.executable, STARTER, path, str(nodes), *task]  # type: ignore[return-value]

    def envtest(self, *task: str) -> list[str] | None:
        """Return the command of the peer in Go; ``None`` without."""
        if "envtest-peer" not in self.built:
            self.built["envtest-peer"] = self._build(
                "envtest-peer",
                ["build", "-trimpath", "-o", str(self.folder / "envtest-peer"), "."],
                HERE / "peers" / "envtest",
            )
        path = self.built["envtest-peer"]
        return path and [path, *task]  # type: ignore[return-value]

    def _build(self, name: str, arguments: list[str], folder: Path) -> str | None:
        go = shutil.which("go")
        if go is None:
            progress(f"{name}: cannot be built without Go")
            return None
        progress(f"{name}: being built")
        env = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(self.folder)}
        built = subprocess.run(
            [go, *arguments],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=900,
        )
        if built.returncode:
            progress(f"{name}: cannot be built: {built.stderr[-1000:]}")
            return None
        return str(self.folder / name)


class ChildError(Exception):
    """A program that was to be measured failed."""


def progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def environment(folder: Path, binaries: dict[str, Path]) -> dict[str, str]:
    """Point the peers at the binaries that we use ourselves."""
    assets = folder / "assets"
    assets.mkdir()
    for name, path in binaries.items():
        (assets / name).symlink_to(path)
    named = {
        "KWOK_KUBE_APISERVER_BINARY": "kube-apiserver",
        "KWOK_KUBE_CONTROLLER_MANAGER_BINARY": "kube-controller-manager",
        "KWOK_KUBE_SCHEDULER_BINARY": "kube-scheduler",
        "KWOK_KUBECTL_BINARY": "kubectl",
        "KWOK_ETCD_BINARY": "etcd",
        "KWOK_CONTROLLER_BINARY": "kwok",
    }
    return {
        "KUBEBUILDER_ASSETS": str(assets),
        "KWOK_KUBE_VERSION": f"v{DEFAULT_VERSION}",
        **{variable: str(binaries[name]) for variable, name in named.items()},
    }


def _found_kwokctl() -> str | None:
    """Return kwokctl of the right version, if it is on the path."""
    path = shutil.which("kwokctl")
    if path is None:
        return None
    told = subprocess.run([path, "--version"], capture_output=True, text=True)
    return path if re.search(rf"\b{re.escape(KWOK_VERSION)}\b", told.stdout) else None


def _listen(process: subprocess.Popen[str], began: float, mark: str) -> dict[str, Any]:
    seconds: dict[str, Any] = {}
    try:
        for line in process.stdout or ():
            _note(line.strip(), seconds, process, began, mark)
    except BaseException:
        process.kill()  # else it would be waited for
        raise
    if "stopped" in seconds:
        seconds["stop"] = seconds["stopped"] - seconds["stopping"]
    return seconds


def _note(
    word: str,
    seconds: Measured,
    process: subprocess.Popen[str],
    began: float,
    mark: str,
) -> None:
    if word.startswith("{"):
        seconds |= json.loads(word)
    elif word == "weigh":
        # The starter itself is no part of the cluster.
        seconds["memory"] = memory(mark, but=process.pid)
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    else:
        seconds[word] = time.monotonic() - began


# --- processes by a mark in their environment -------------------------------


def marked(mark: str) -> Iterator[Path]:
    """Find all processes that were started under a mark: their folders in /proc."""
    wanted = f"BENCH_MARK={mark}".encode()
    for proc in Path("/proc").iterdir():
        if proc.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (proc / "environ").read_bytes().split(b"\0"):
                    yield proc


@contextlib.contextmanager
def swept(mark: str) -> Iterator[None]:
    """End what was started under a mark and is left; normally nothing is."""
    try:
        yield
    except BaseException:
        # Ours go by themselves when their user is gone; kwokctl's do not.
        for proc in marked(mark):
            with contextlib.suppress(OSError):
                os.kill(int(proc.name), signal.SIGKILL)
        raise


def memory(mark: str, *, but: int) -> float:
    """Return the megabytes of all marked processes, shared pages counted in parts."""
    total = 0
    for proc in marked(mark):
        if int(proc.name) != but:
            with contextlib.suppress(OSError):
                lines = (proc / "smaps_rollup").read_text().splitlines()
                total += next(int(x.split()[1]) for x in lines if x[:4] == "Pss:")
    return total / 1024


def values(measured: Sequence[Measured], *words: str) -> list[float]:
    """Return what each run measured, several words summed up."""
    return [sum(m[w] for w in words) for m in measured if all(w in m for w in words)]
