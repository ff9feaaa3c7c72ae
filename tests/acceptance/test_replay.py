"""The command pytest-kube replay: an API server on what a failed test left."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store
from pytest_kube.state import archive_file

from .conftest import CRD, OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kube.state.archive import Archive

INI = """\
[tool.pytest.ini_options]
kube_crds = ["crds"]
kube_controller = "kopf:src/widget_operator.py"
"""
TEST = """\
from pytest_kube import field

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
          "stringData": {"password": "hunter2"}}
WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget",
          "metadata": {"name": "w"}, "spec": {"size": 1}}
LABELS = {"app": "web"}
WEB = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
       "spec": {"selector": {"matchLabels": LABELS}, "template": {
           "metadata": {"labels": LABELS},
           "spec": {"containers": [{"name": "main", "image": "none"}]}}}}
GADGET = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}}
NOBODY = {"apiVersion": "admissionregistration.k8s.io/v1",
          "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "nobody"},
          "webhooks": [{
              "name": "nobody.example.com", "sideEffects": "None",
              "admissionReviewVersions": ["v1"],
              "clientConfig": {"url": "https://127.0.0.1:1/"},
              "rules": [{"apiGroups": ["example.com"], "apiVersions": ["*"],
                         "operations": ["*"], "resources": ["gadgets"]}]}]}

def test_fails(kube, kube_controller):
    kube.apply(SECRET)
    kube.apply(WIDGET)
    kube.wait_for("widget/w", field("status.size", 1))
    kube.apply(WEB)
    kube.wait_for("deployment/web", "condition=Available")
    kube.apply("gadgets.yaml")
    kube.create(GADGET)
    kube.create(NOBODY)
    kube.patch("widget/w", {"spec": {"size": 2}})
    kube.wait_for("widget/w", field("status.size", 2))
    kube.delete("secret/s")
    raise LookupError("as expected")
"""
MAIN = "import sys; from pytest_kube.cli import main; sys.exit(main())"
COMMAND = [sys.executable, "-c", MAIN, "replay"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of a test that failed, with a controller on kwok."""
    project = tmp_path_factory.mktemp("project")
    gadgets = CRD.replace("widget", "gadget").replace("Widget", "Gadget")
    for name, text in {
        "pyproject.toml": INI,
        "crds/widgets.yaml": CRD,
        "gadgets.yaml": gadgets,
        "src/widget_operator.py": OPERATOR,
        "test_widgets.py": TEST,
    }.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text, "utf-8")
    run = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--kube=kwok"]
    env = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        run,
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "LookupError: as expected" in done.stdout, done.stdout
    (found,) = (project / ".pytest-kube/artifacts").glob("*/")
    assert f"replay      pytest-kube replay {found.relative_to(project)}" in done.stdout
    return found


@pytest.fixture(scope="module")
def archive(folder: Path) -> Archive:
    """What they hold."""
    return archive_file.read(folder)


@pytest.fixture(autouse=True)
def path_with_kubectl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubectl of the tested version."""
    kubectl = Store(DEFAULT_VERSION).require("kubectl")["kubectl"]
    monkeypatch.setenv("PATH", f"{kubectl.parent}:{os.environ['PATH']}")


def replay(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def shell(folder: Path, script: str, *options: object) -> list[str]:
    """Run kubectl against a replay; return the lines that it wrote."""
    done = replay(folder, *options, "--", "sh", "-ec", script)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def moment_of(archive: Archive, kind: str, says: Callable[[Any], bool]) -> int:
    """Return the revision that made an object what it is to be."""
    return next(
        change.revision
        for change in archive.changes
        if change.value and change.value["kind"] == kind and says(change.value)
    )


# --- the state -------------------------------------------------------------------


def test_last_state_is_served(folder: Path, archive: Archive) -> None:
    """Reads of every kind, as the test left it."""
    lines = shell(
        folder,
        """
        kubectl get widget w -o 'jsonpath={.spec.size} {.status.size}{"\\n"}'
        kubectl get gadgets -o name
        kubectl get secrets -o name
        kubectl get pods --field-selector status.phase=Running -o name | wc -l
        kubectl get pods --field-selector status.phase=Pending -o name | wc -l
        kubectl describe pod -l app=web | grep -Eo 'default-scheduler|^Status: +Running'
        kubectl explain widget.spec.size | grep -E '^(KIND|FIELD)'
        kubectl explain gadget | grep ^KIND
        kubectl config view --minify -o 'jsonpath={..namespace}{"\\n"}'
        """,
    )

    assert [re.sub(" +", " ", line).strip() for line in lines] == [
        "2 2",
        "gadget.example.com/g",
        "1",
        "0",
        "Status: Running",
        "default-scheduler",
        "KIND: Widget",
        "FIELD: size <integer>",
        "KIND: Gadget",
        archive.about.namespace,
    ]


def test_writes_work_and_are_judged(folder: Path) -> None:
    """Schemas are enforced; webhooks, whose servers are gone, are not asked."""
    lines = shell(
        folder,
        """
        kubectl scale deployment web --replicas=0
        kubectl patch widget w --type=merge -p '{"spec": {"size": -1}}' 2>&1 | tail -n1
        kubectl get gadget g -o json | sed 's/"g"/"h"/' | kubectl apply -f - 2>&1
        kubectl delete pods --all --force -o name
        kubectl label widget w team=a
        kubectl create configmap c
        """,
    )

    assert lines[0] == "deployment.apps/web scaled"
    assert "spec.size in body should be greater than or equal to 0" in lines[1]
    assert lines[3].startswith("pod/web-")
    assert [lines[2], *lines[4:]] == [
        "gadget.example.com/h created",
        "widget.example.com/w labeled",
        "configmap/c created",
    ]


def test_state_of_an_earlier_moment_is_served(folder: Path, archive: Archive) -> None:
    """By revision: a CRD that came later is unknown, a Secret is back, masked."""
    moment = moment_of(archive, "Widget", lambda w: w.get("status") == {"size": 1})

    lines = shell(
        folder,
        """
        kubectl get widget w -o 'jsonpath={.spec.size} {.status.size}{"\\n"}'
        kubectl get secret s -o 'jsonpath={.data.password}' | base64 -d; echo
        kubectl get deployments,pods 2>&1
        kubectl get gadgets 2>&1 || true
        """,
        "--at",
        moment,
    )

    assert lines[:2] == ["1 1", "REDACTED"]
    assert lines[2].startswith("No resources found in ")
    assert lines[3] == 'error: the server doesn\'t have a resource type "gadgets"'


def test_moment_is_told(folder: Path, archive: Archive) -> None:
    """What changed last, when, and who did it."""
    moment = moment_of(archive, "Widget", lambda w: w.get("status") == {"size": 2})

    done = replay(folder, "--at", moment, "--", "true")

    place = archive.find(str(moment))
    lines = done.stderr.splitlines()
    assert lines[0] == "test        test_widgets.py::test_fails"
    assert lines[1].startswith(
        f"cluster     API server and etcd, Kubernetes v{DEFAULT_VERSION}; archived on "
        "kwok at "
    )
    assert re.fullmatch(
        rf"moment      {place} of {len(archive.changes)}: revision {moment} at "
        r"[\d:.]+ \(\+[\d.]+s\): Widget test-fails-\w+/w changed by controller-1 "
        r"\(patch\)",
        lines[2],
    )
    assert lines[3] == "            status.size: 1 -> 2"
    assert re.fullmatch(
        r"after       step:\d+ kube.wait_for\('widget/w', status.size = 2\)", lines[4]
    )
    assert re.fullmatch(r"kubeconfig  /\S+/kubeconfig.json", lines[5])
    assert re.fullmatch(
        r"try         kubectl --kubeconfig=/\S+ get all,events", lines[6]
    )
    assert done.stdout == ""


def test_step_of_the_test_is_a_moment(folder: Path, archive: Archive) -> None:
    """Right after it, whatever the controller did next."""
    (made,) = (
        step.number
        for step in archive.about.steps
        if step.text == "kube.apply(<Widget w>)"
    )

    lines = shell(folder, "kubectl get widget w -o name", "--at", f"step:{made}")

    assert lines == ["widget.example.com/w"]


def test_time_since_the_test_began_is_a_moment(folder: Path) -> None:
    """At its very beginning there is its namespace."""
    lines = shell(folder, "kubectl get widgets,secrets 2>&1", "--at", "+0s")

    assert lines[0].startswith("No resources found in test-fails-")


def test_changes_are_made_until_a_moment(folder: Path, archive: Archive) -> None:
    """At once before a command runs, which may have started anywhere."""
    moment = moment_of(archive, "Widget", lambda w: w["spec"]["size"] == 2)

    lines = shell(folder, "kubectl get gadgets,widgets -o name", "--until", moment)

    assert lines == ["gadget.example.com/g", "widget.example.com/w"]


def test_changes_are_made_at_their_pace_while_a_command_runs(
    folder: Path, archive: Archive
) -> None:
    """kubectl wait sees what the test has seen."""
    first = moment_of(archive, "Widget", lambda _: True)
    options = ("--at", first, "--until", archive.about.last, "--speed", 0.5)

    lines = shell(
        folder,
        "kubectl get widget w -o 'jsonpath={.spec.size}{\"\\n\"}';"
        "kubectl wait widget/w --for=jsonpath='{.status.size}'=2 --timeout=20s",
        *options,
    )

    assert lines == ["1", "widget.example.com/w condition met"]


def test_exit_code_is_that_of_the_command(folder: Path) -> None:
    """Of a signal as shells have it; of none that exists, too."""
    assert replay(folder, "--", "sh", "-c", "exit 3").returncode == 3
    assert replay(folder, "--", "sh", "-c", "kill -9 $$").returncode == 137
    done = replay(folder, "--", "no-such-program", "x")
    assert done.returncode == 127
    assert done.stderr.endswith("pytest-kube: no-such-program: no such program\n")


# --- at a terminal ----------------------------------------------------------------


class Terminal:
    """A replay, with somebody who types."""

    def __init__(self, *arguments: object) -> None:
        ours, theirs = pty.openpty()
        self._keys = os.fdopen(ours, "w")
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._keys.close()

    def type(self, line: str) -> None:
        self._keys.write(f"{line}\n")
        self._keys.flush()

    def line(self, start: str) -> str:
        """Return the rest of the next line that begins so, after a prompt or not."""
        assert self.process.stdout
        for line in self.process.stdout:
            text = re.sub(r"^(replay \d+/\d+> )+", "", line).rstrip("\n")
            if text.startswith(start):
                return text.removeprefix(start)
        raise AssertionError(f"it ended, without {start!r}")


@pytest.fixture
def watched() -> Iterator[Callable[..., Iterator[str]]]:
    """Watch with kubectl; yields what it writes, line by line."""
    started: list[subprocess.Popen[str]] = []

    def watch(kubeconfig: str, *arguments: str) -> Iterator[str]:
        process = subprocess.Popen(
            ["kubectl", f"--kubeconfig={kubeconfig}", "get", "--watch", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        return (line.strip() for line in process.stdout)

    yield watch
    for process in started:
        process.kill()
        process.communicate()


def test_steps_are_seen_by_an_open_watch(
    folder: Path, archive: Archive, watched: Callable[..., Iterator[str]]
) -> None:
    """Forward and back, each change of its own."""
    first = moment_of(archive, "Widget", lambda _: True)
    with Terminal(folder, "--at", first) as terminal:
        config = terminal.line("kubeconfig  ")
        lines = watched(
            config, "widgets", "--output-watch-events", "--no-headers",
            "-o", "custom-columns=A:.type,B:.object.spec.size,C:.object.status.size",
        )  # fmt: skip
        assert next(lines).split() == ["ADDED", "1", "<none>"]

        terminal.type(f"next {len(archive.changes)}")

        seen = []
        while seen[-1:] != [["MODIFIED", "2", "2"]]:
            seen.append(next(lines).split())
        sizes = [*dict.fromkeys(tuple(words[1:]) for words in seen)]
        assert sizes == [("1", "<none>"), ("1", "1"), ("2", "1"), ("2", "2")]
        place = archive.find(str(first))
        total = len(archive.changes)
        assert terminal.line("moment      ").startswith(f"{total} of {total}: ")

        terminal.type(f"back {len(archive.changes) - place + 1}")

        while (words := next(lines).split())[0] != "DELETED":
            assert words[0] == "MODIFIED"
        terminal.type("q")
        assert terminal.process.wait(10) == 0


def test_what_can_be_typed(folder: Path, archive: Archive) -> None:
    """Jumps, lists, differences, and what is wrong with the words."""
    end = len(archive.changes)
    gadgets = moment_of(archive, "Gadget", lambda _: True)
    with Terminal(folder) as terminal:
        config = terminal.line("kubeconfig  ")
        kubectl = ["kubectl", f"--kubeconfig={config}"]
        terminal.type(f"at {archive.about.first}")
        assert terminal.line("moment      ") == (
            f"0 of {end}: revision {archive.about.first}, the test begins"
        )
        gone = subprocess.call([*kubectl, "get", "gadgets"], stderr=subprocess.DEVNULL)
        assert gone == 1

        terminal.type(f"at {gadgets}")
        assert "Gadget" in terminal.line("moment      ")
        there = [*kubectl, "get", "gadgets", "-A", "-o", "name"]
        shown = subprocess.run(there, capture_output=True, text=True, check=True)
        assert shown.stdout == "gadget.example.com/g\n"

        terminal.type("")
        place = archive.find(str(gadgets))
        marked = terminal.line(">").strip()
        assert marked.startswith(f"{place}  revision {gadgets} at ")

        terminal.type(f"diff {archive.about.first}")
        assert terminal.line("+ ").startswith("CustomResourceDefinition gadgets.examp")

        for typed, answer in (
            ("b soon", "'soon' is no number of changes"),
            ("at 999999", "revision 999999 is not in the archive, which has "),
            ("at step:a/1", "step:a/1 is not in the archive, which has steps 1 to "),
            ("dance", "n, next [N]   the next change, or N of them"),
        ):
            terminal.type(typed)
            terminal.line(answer)
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0


# --- differences ------------------------------------------------------------------


def test_differences_of_two_moments(folder: Path, archive: Archive) -> None:
    """Of the whole state; nothing is started for it."""
    one = moment_of(archive, "Widget", lambda w: w.get("status") == {"size": 1})

    done = replay(folder, "--diff", one, archive.about.last)

    lines = done.stdout.splitlines()
    space = archive.about.namespace
    assert f"- Secret {space}/s" in lines
    assert f"+ Deployment {space}/web" in lines
    assert "+ CustomResourceDefinition gadgets.example.com" in lines
    widget = lines.index(f"~ Widget {space}/w")
    assert "    spec.size: 1 -> 2" in lines[widget:]
    assert "    status.size: 1 -> 2" in lines[widget:]
    assert (done.returncode, done.stderr) == (0, "")


def test_moment_does_not_differ_from_itself(folder: Path, archive: Archive) -> None:
    """It is said, or the silence could be an error."""
    last = archive.about.last

    done = replay(folder, "--diff", last, last)

    assert done.stdout == f"nothing differs between revisions {last} and {last}\n"


# --- what is wrong ----------------------------------------------------------------


def test_what_cannot_be_replayed_is_told(
    folder: Path, archive: Archive, tmp_path: Path
) -> None:
    """Nothing is started, the exit code is 1."""
    first, last = archive.about.first, archive.about.last
    other = folder / "objects.yaml"
    for arguments, text in (
        ((tmp_path,), f"{tmp_path}: there is no archive of a state: a folder of arti"),
        ((other,), f"{other} is no archive of a state of pytest-kube"),
        (
            (folder, "--at", first - 1),
            f"revision {first - 1} is not in the archive, which has {first} to {last}",
        ),
        ((folder, "--at", "noon"), "'noon' is no moment: give a revision ("),
        (
            (folder, "--until", first, "--at", last),
            f"--until={first} lies before --at={last}",
        ),
        ((folder, "--diff", "x", last), "'x' is no moment: "),
        ((folder, "--speed", "2"), "--speed needs --until: the moment where it ends"),
        ((folder, "--kube-version", "9"), "'9' is not a Kubernetes version that "),
    ):
        done = replay(*arguments)

        assert done.stderr.startswith(f"pytest-kube: {text}")
        assert (done.returncode, done.stdout) == (1, "")


def test_wrong_usage_is_told() -> None:
    """By argparse; the exit code is 2."""
    done = replay("x", "--until", "1", "--speed", "0")
    assert done.returncode == 2
    assert done.stderr.endswith("--speed: invalid number above 0 value: '0'\n")

    words = [sys.executable, "-c", MAIN, "status", "--", "ls"]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.endswith("-- ls: only replay runs a command\n")


def test_archive_of_another_version_is_replayed_with_a_warning(
    folder: Path, tmp_path: Path
) -> None:
    """The programs of its own cannot be had; what is close does."""
    lines = gzip.decompress((folder / archive_file.NAME).read_bytes()).splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), "version": "1.36.99"}).encode()
    path = tmp_path / "other.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines)))

    done = replay(
        path, "--kube-offline", "--", "kubectl", "get", "widgets", "-o", "name"
    )

    assert done.stdout == "widget.example.com/w\n"
    assert (
        f"warning: the archive is of Kubernetes v1.36.99, this is v{DEFAULT_VERSION}: "
        "kinds and fields may be missing\n"
    ) in done.stderr


def test_half_an_archive_is_replayed_with_a_warning(
    folder: Path, archive: Archive, tmp_path: Path
) -> None:
    """As far as it goes."""
    data = (folder / archive_file.NAME).read_bytes()
    path = tmp_path / "half.gz"
    path.write_bytes(data[:-2000])
    there = len(archive_file.read(path).changes)

    done = replay(path, "--", "kubectl", "get", "namespaces", "-o", "name")

    assert "namespace/default\n" in done.stdout
    assert done.stderr.startswith(
        f"warning: {path} ends in the middle: {there} of {len(archive.changes)} "
        "changes are there\n"
    )


# --- its end ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -9)],
)
@pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="finds processes in Linux' /proc"
)
def test_nothing_is_left_however_it_ends(
    folder: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    """Without a terminal and a command it serves until somebody ends it."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    mark = f"TMPDIR={temporary}".encode()

    def left() -> list[str]:
        found = [str(path) for path in temporary.glob("pytest-kube-*")]
        for proc in Path("/proc").iterdir():
            try:
                if mark in (proc / "environ").read_bytes().split(b"\0"):
                    command = (proc / "cmdline").read_bytes()
                    found += [command.decode()] if command else []
            except OSError:
                continue
        return found

    process = subprocess.Popen(
        [*COMMAND, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
        text=True,
    )
    assert process.stdout
    while not process.stdout.readline().startswith("try"):
        assert process.poll() is None
    assert any("kube-apiserver" in found for found in left())

    process.send_signal(sent)
    _, errors = process.communicate(timeout=20)

    assert (process.returncode, errors) == (code, "")
    deadline, pause = time.monotonic() + 2, threading.Event()
    while left() and time.monotonic() < deadline:
        pause.wait(0.02)
    assert left() == []
