"""Our figures beside those of the peers: in turn, in one run, by medians and ratios.

    nox -s bench -- --runs 5

Every start is a process of its own, timed from outside: from its creation to the line
it prints when its first authenticated write, or its first Running pod, is there.
Peers that cannot be had (no Go, no kwokctl) are left out, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store
from pytest_kube.client import Client

HERE = Path(__file__).parent
PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "kwok",
)
KWOKCTL = "sigs.k8s.io/kwok/cmd/kwokctl@v0.8.0"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "first"},
    "spec": {"containers": [{"name": "main", "image": "none"}]},
}
NODES = 3


# --- what is measured: programs that print a line when something is reached -----


def ours(provider: str) -> None:
    """Start a cluster of ours, write, run a pod if it has nodes, wait, stop."""
    from pytest_kube.profiles import NodeGroup, Profile, providers
    from pytest_kube.settings import Settings

    profile = Profile(provider, provider, nodes=(NodeGroup(count=NODES),))
    create = providers()[provider].load()
    with create(profile, Settings(profile), lambda _: None) as cluster:
        first_write(cluster.client)
        if provider == "kwok":
            first_pod(cluster.client)
        say("up")
        sys.stdin.readline()
    say("stopped")


def kwokctl(program: str) -> None:
    """Do the same with kwokctl and the same binaries."""
    folder = Path(tempfile.mkdtemp())
    os.environ["KWOK_WORKDIR"] = str(folder)
    kubeconfig = folder / "bench-kubeconfig"
    command = [program, "create", "cluster", "--name", "bench", "--runtime", "binary"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(
        [*command, "--wait", "60s", "--kubeconfig", str(kubeconfig)],
        check=True,
        timeout=100,
        **quiet,
    )
    client = Client.from_kubeconfig(kubeconfig)
    first_write(client)
    scale = [program, "--name", "bench", "scale", "node", "--replicas", str(NODES)]
    subprocess.run(scale, check=True, timeout=60, **quiet)
    first_pod(client)
    say("up")
    sys.stdin.readline()
    delete = [program, "delete", "cluster", "--name", "bench"]
    subprocess.run(delete, check=True, timeout=100, **quiet)
    say("stopped")
    shutil.rmtree(folder, ignore_errors=True)


def first_write(client: Client) -> None:
    body = {"metadata": {"name": "first"}}
    patiently(
        lambda: client.request(
            "POST", "/api/v1/namespaces/default/configmaps", body=body
        )
    )
    say("write")


def first_pod(client: Client) -> None:
    pods = "/api/v1/namespaces/default/pods"
    patiently(lambda: client.request("POST", pods, body=POD))
    patiently(lambda: running(client.request("GET", f"{pods}/first")))
    say("pod")


def running(pod: dict[str, Any]) -> None:
    if pod["status"].get("phase") != "Running":
        raise LookupError(pod["status"])


def patiently(action: Any) -> None:
    """Try again until it works; the default ServiceAccount may take a moment."""
    pause, deadline = threading.Event(), time.monotonic() + 60
    while True:
        try:
            return action()
        except Exception:
            if time.monotonic() > deadline:
                raise
            pause.wait(0.005)


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


# --- measuring --------------------------------------------------------------


def measure(command: list[str], env: dict[str, str], folder: Path) -> dict[str, float]:
    """Run *command*; return the seconds to each word, to the end, and its memory."""
    mark = f"BENCH_MARK={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    began = time.monotonic()
    seconds: dict[str, float] = {}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **env, name: value},
        cwd=folder,
        text=True,
    ) as process:
        for line in process.stdout or ():
            word = line.strip()
            if word == "up":
                # The starter itself is no part of the cluster.
                seconds["memory"] = memory(mark, but=process.pid)
                asked = time.monotonic()
                process.stdin.write("\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
            elif word == "stopped":
                seconds["stop"] = time.monotonic() - asked
            else:
                seconds[word] = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return seconds


def memory(mark: str, *, but: int) -> float:
    """Return the megabytes of all marked processes, shared pages counted in parts."""
    total = 0
    for proc in Path("/proc").iterdir():
        if not proc.name.isdigit() or int(proc.name) == but:
            continue
        try:
            if mark.encode() not in (proc / "environ").read_bytes().split(b"\0"):
                continue
            rollup = (proc / "smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(x.split()[1]) for x in rollup.splitlines() if x[:4] == "Pss:")
    return total / 1024


def plugin_cost(runs: int, folder: Path) -> tuple[list[float], list[float]]:
    """Return CPU seconds of ``pytest -q`` on one empty test, with and without us.

    Not the time on the wall: of 200 ms, a shared machine takes or gives 50.
    """
    (folder / "test_empty.py").write_text("def test_empty(): pass\n")
    base = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    taken: tuple[list[float], list[float]] = ([], [])
    for i in range(runs + 1):
        for seconds, extra in zip(
            taken, (["-p", "pytest_kube.plugin"], []), strict=True
        ):
            process = subprocess.Popen(
                [*base, *extra], cwd=folder, env=env, stdout=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if i:  # the first run fills caches
                seconds.append(usage.ru_utime + usage.ru_stime)
    return taken


def peers(folder: Path) -> dict[str, list[str]]:
    """Build the peers; return their commands."""
    commands = {
        "our envtest": [sys.executable, __file__, "--start", "envtest"],
        "our kwok": [sys.executable, __file__, "--start", "kwok"],
    }
    go = shutil.which("go")
    if go is None:
        return commands
    env = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(folder)}
    quiet: dict[str, Any] = {"check": True, "capture_output": True, "timeout": 900}
    peer = folder / "envtest-peer"
    build = [go, "build", "-trimpath", "-o", str(peer), "."]
    subprocess.run(build, cwd=HERE / "peers" / "envtest", env=env, **quiet)
    commands["controller-runtime envtest"] = [str(peer)]
    kwokctl_path = folder / "kwokctl"
    install = [go, "install", "-trimpath", "-ldflags", "-s -w", KWOKCTL]
    subprocess.run(install, env=env, **quiet)
    commands["kwokctl"] = [sys.executable, __file__, "--start", str(kwokctl_path)]
    return commands


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


ROWS = (
    ("to the first authenticated write", "write", "s"),
    ("to the first Running pod", "pod", "s"),
    ("stop", "stop", "s"),
    ("memory", "memory", "MB"),
)


def main() -> None:
    """Measure everything, and print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--start", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start in {"envtest", "kwok"}:
        return ours(arguments.start)
    if arguments.start:
        return kwokctl(arguments.start)
    binaries = Store(DEFAULT_VERSION).require(*PROGRAMS)
    folder = Path(tempfile.mkdtemp())
    try:
        measure_all(arguments.runs, folder, binaries)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return None


def measure_all(runs: int, folder: Path, binaries: dict[str, Path]) -> None:
    """Take every command in turn, *runs* times after one to warm up."""
    commands = peers(folder)
    env = environment(folder, binaries)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for i in range(runs + 1):
        for name, command in commands.items():
            measured = measure(command, env, folder)
            if i:
                taken[name].append(measured)
    print(f"Kubernetes {DEFAULT_VERSION}, Python {platform.python_version()},")
    print(f"{os.cpu_count()} cores, medians of {runs} runs in turn (least to most)\n")
    print("| what | ours | peer | ratio |\n| --- | --- | --- | --- |")
    pairs = (("our envtest", "controller-runtime envtest"), ("our kwok", "kwokctl"))
    for mine, theirs in pairs:
        for text, word, unit in ROWS:
            row(f"{mine} / {theirs}: {text}", taken, (mine, theirs), word, unit)
    with_us, without = plugin_cost(max(runs, 25), folder)
    pairs_of_runs = zip(with_us, without, strict=True)
    added = statistics.median(a - b for a, b in pairs_of_runs) * 1000
    print(
        f"| `pytest -q`, one empty test: CPU with the plugin | {spread(with_us, 's')} "
        f"| without: {spread(without, 's')} | {added:+.0f} ms by pairs |"
    )
    (folder / "raw.json").write_text(json.dumps(taken))


def row(
    text: str,
    taken: dict[str, list[dict[str, float]]],
    names: tuple[str, str],
    word: str,
    unit: str,
) -> None:
    """Print one row of the table, if both sides have the figure."""
    mine, theirs = (
        [t[word] for t in taken.get(name, ()) if word in t] for name in names
    )
    if not mine:
        return
    if not theirs:
        print(f"| {text} | {spread(mine, unit)} | not here | |")
        return
    ratio = statistics.median(mine) / statistics.median(theirs)
    print(f"| {text} | {spread(mine, unit)} | {spread(theirs, unit)} | {ratio:.2f} |")


def spread(values: list[float], unit: str) -> str:
    """Format a median with the least and the most."""
    digits = 0 if unit == "MB" else 2
    median = statistics.median(values)
    least, most = min(values), max(values)
    return f"{median:.{digits}f} {unit} ({least:.{digits}f}–{most:.{digits}f})"


if __name__ == "__main__":
    main()
