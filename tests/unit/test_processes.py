"""Child processes end as asked, and none outlives the process that wanted it."""

from __future__ import annotations

import gc
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kube.errors import ClusterError
from pytest_kube.system.processes import Guardian, sweep, tail

from .waiting import is_running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

IMMORTAL = """\
import signal, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
threading.Event().wait()
"""

POLITE = """\
import signal, sys, threading
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
threading.Event().wait()
"""

USER = """\
import json, signal, sys
from pytest_kube.system.processes import Guardian

signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
guardian = Guardian()
child = guardian.start("child", ["sh", "-c", "sleep 60 & echo $!; wait"])
found = {"guardian": guardian._process.pid, "child": child.pid}
print(json.dumps({**found, "folder": str(guardian.directory)}), flush=True)
for line in sys.stdin:
    print(guardian.start("later", ["true"]).exited.result(5), flush=True)
guardian.close()
"""

FORKING = """\
import os, signal, threading
from pytest_kube.system.processes import Guardian

guardian = Guardian()
forked = os.fork()
if forked:
    print(guardian._process.pid, forked, flush=True)
signal.pause()
"""

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="death signals are Linux's")


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guardians have their folders in the folder of the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    with Guardian() as guardian:
        yield guardian


class User:
    """Another process that owns a guardian, whose child has a child itself."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        found = json.loads(self.says())
        self.folder = Path(found["folder"])
        log = self.folder / "child.log"
        grandchild = int(until(log.read_text))
        self.pids = [found["guardian"], found["child"], grandchild]

    def says(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ask(self) -> str:
        """Have it start one process more; return the exit code of that."""
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()
        return self.says()

    def left(self) -> list[object]:
        """Return what is still there."""
        folder = [self.folder] if self.folder.exists() else []
        return [*filter(is_running, self.pids), *folder]


@pytest.fixture
def user() -> Iterator[User]:
    user = User()
    with user.process:
        yield user
        user.process.kill()


def python(script: str) -> list[str]:
    """Return the command line of a Python script."""
    return [sys.executable, "-c", script]


# --- one process --------------------------------------------------------------


def test_exit_code_is_reported(guardian: Guardian) -> None:
    """A process that ends by itself is noticed, and its code is known."""
    process = guardian.start("child", ["sh", "-c", "exit 3"])

    assert process.exited.result(2) == 3


def test_signal_is_reported_as_a_negative_code(guardian: Guardian) -> None:
    """The same convention as in the subprocess module."""
    process = guardian.start("child", ["sh", "-c", "kill -ABRT $$"])

    assert process.exited.result(2) == -signal.SIGABRT


def test_log_has_both_streams(guardian: Guardian) -> None:
    """Output and errors stand in one file, in order; the tail is its end."""
    process = guardian.start("child", ["sh", "-c", "seq 100; echo oops >&2"])
    process.exited.result(2)

    assert process.log == guardian.directory / "child.log"
    assert process.log_tail(3) == "99\n100\noops"
    assert len(process.log_tail().splitlines()) == 15


def test_tail_reads_the_end_of_a_huge_file_only(tmp_path: Path) -> None:
    """A log of gigabytes costs no more than a short one."""
    path = tmp_path / "huge.log"
    with path.open("wb") as file:
        file.truncate(5 * 1024**3)
        file.seek(0, os.SEEK_END)
        file.write(b"\nno text: \xff\nend\n")

    assert tail(path, 2) == "no text: \N{REPLACEMENT CHARACTER}\nend"
    assert tail(tmp_path / "missing.log", 2) == ""


def test_environment_and_folder_are_as_given(
    guardian: Guardian, tmp_path: Path
) -> None:
    """The environment is the given one and nothing else."""
    argv = ["/bin/sh", "-c", "echo $GIVEN $HOME; pwd"]

    process = guardian.start("child", argv, env={"GIVEN": "yes"}, cwd=tmp_path)
    process.exited.result(2)

    assert process.log_tail() == f"yes\n{tmp_path.resolve()}"


def test_program_that_cannot_be_run_is_named(
    guardian: Guardian, tmp_path: Path
) -> None:
    """The system's reason, with the path; the guardian goes on."""
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/shell\n")

    for argv, reason in (
        (["/no/such/program"], "FileNotFoundError.*'/no/such/program'"),
        ([str(broken)], f"PermissionError.*'{broken}'"),
        ([], "Error"),
    ):
        with pytest.raises(ClusterError, match=f"^child: .*{reason}"):
            guardian.start("child", argv)

    assert guardian.processes() == []
    assert guardian.start("child", ["true"]).exited.result(2) == 0


def test_child_has_default_signals(guardian: Guardian) -> None:
    """A program under test can be interrupted, though the guardian cannot."""
    process = guardian.start("child", ["sh", "-c", "kill -INT $$; exit 1"])

    assert process.exited.result(2) == -signal.SIGINT


def test_processes_of_one_name_are_told_apart(guardian: Guardian) -> None:
    """Two copies of one controller run side by side, each with its own log."""
    first = guardian.start("manager", ["sh", "-c", "echo first; sleep 60"])
    second = guardian.start("manager", ["sh", "-c", "echo second; exit 2"])

    assert second.exited.result(2) == 2
    assert second.log_tail() == "second"
    assert (first.name, second.name) == ("manager", "manager-2")
    assert guardian.processes() == [first]
    assert guardian.stop(first) == -signal.SIGKILL


def test_next_process_of_a_name_continues_its_log(guardian: Guardian) -> None:
    """What a component said before it was started again is not lost."""
    for text in ("one", "two"):
        process = guardian.start("child", ["echo", text])
        process.exited.result(2)

    assert process.log_tail() == "one\ntwo"


# --- stop ---------------------------------------------------------------------


def test_stop_kills_at_once_by_default(guardian: Guardian) -> None:
    """Without a grace period nothing can object."""
    process = guardian.start("child", python(IMMORTAL))
    until(process.log_tail)

    assert guardian.stop(process) == -signal.SIGKILL
    assert not is_running(process.pid)


def test_stop_with_grace_lets_it_end(guardian: Guardian) -> None:
    """SIGTERM comes first; what the process does on it decides its exit code."""
    process = guardian.start("child", python(POLITE))
    until(process.log_tail)

    assert guardian.stop(process, grace=60) == 7


def test_stop_kills_after_the_grace_period(guardian: Guardian) -> None:
    """A process that ignores SIGTERM is killed, neither sooner nor much later."""
    process = guardian.start("child", python(IMMORTAL))
    until(process.log_tail)
    started = time.monotonic()

    code = guardian.stop(process, grace=0.2)

    assert code == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - started < 1.5


def test_others_are_served_during_a_grace_period(guardian: Guardian) -> None:
    """A process that takes its time to stop holds up nothing else."""
    slow = guardian.start("slow", python(IMMORTAL))
    until(slow.log_tail)
    with pytest.raises(ClusterError, match="gave no answer within 0 s"):
        guardian._ask(0.01, do="stop", name="slow", grace=60)

    assert guardian.start("quick", ["true"]).exited.result(2) == 0


def test_stop_of_what_has_ended_returns_its_code(guardian: Guardian) -> None:
    """To stop twice, or too late, is no error."""
    process = guardian.start("child", ["sh", "-c", "exit 4"])
    process.exited.result(2)

    assert [guardian.stop(process), guardian.stop(process, grace=1)] == [4, 4]


@pytest.mark.parametrize("ending", ["by itself", "stopped"])
def test_grandchildren_end_with_their_parent(guardian: Guardian, ending: str) -> None:
    """The whole process group goes, whoever of it is left."""
    wait = "exit" if ending == "by itself" else "wait"
    script = f"sleep 60 & echo $!; {wait}"
    process = guardian.start("child", ["sh", "-c", script])
    grandchild = int(until(process.log_tail))

    if ending == "stopped":
        guardian.stop(process)

    until(lambda: not is_running(grandchild))


# --- the end ------------------------------------------------------------------


def test_closing_ends_everything_and_removes_the_folder() -> None:
    """Leaving the context leaves nothing behind."""
    with Guardian() as guardian:
        process = guardian.start("child", python(IMMORTAL))
        (guardian.directory / "data").mkdir()

    guardian.close()

    assert not is_running(process.pid)
    assert not is_running(guardian._process.pid)
    assert not guardian.directory.exists()
    assert process.exited.result(2) == -signal.SIGKILL


def test_closed_guardian_starts_nothing() -> None:
    """What comes too late is told so."""
    with Guardian() as guardian:
        pass

    with pytest.raises(ClusterError, match=r"^late: the guardian process is gone$"):
        guardian.start("late", ["true"])


def test_clean_up_commands_run_in_reverse_order(tmp_path: Path) -> None:
    """What was made last is undone first; a command that fails stops no other."""
    log = tmp_path / "log"
    with Guardian() as guardian:
        for word in ("first", "second"):
            guardian.at_end(["sh", "-c", f"echo {word} >> {log}; exit 1"], timeout=5)
        guardian.at_end(["/no/such/program"], timeout=5)

    assert log.read_text() == "second\nfirst\n"


def test_clean_up_commands_are_bounded_in_time(tmp_path: Path) -> None:
    """A command that hangs is killed with its children; the next one runs."""
    pids, log = tmp_path / "pids", tmp_path / "log"
    started = time.monotonic()
    with Guardian() as guardian:
        guardian.at_end(["touch", str(log)], timeout=5)
        script = f"sleep 60 & echo $! > {pids}; wait"
        guardian.at_end(["sh", "-c", script], timeout=0.3)

    assert time.monotonic() - started < 1.5
    assert log.exists()
    until(lambda: not is_running(int(pids.read_text())))


def test_killed_owner_leaves_nothing(user: User) -> None:
    """Not even SIGKILL of the process that owns a guardian orphans anything."""
    user.process.kill()

    until(lambda: not user.left())


def test_forked_child_of_the_owner_keeps_nothing_alive() -> None:
    """A lease is not inherited: multiprocessing may fork, and outlive its parent."""
    owner = subprocess.Popen(
        [sys.executable, "-c", FORKING], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    with owner.stdout:
        guardian, forked = map(int, owner.stdout.readline().split())
    try:
        owner.kill()
        owner.wait(5)

        until(lambda: not is_running(guardian))
        assert is_running(forked)
    finally:
        os.kill(forked, signal.SIGKILL)


def test_terminated_guardian_leaves_nothing(user: User) -> None:
    """SIGTERM of the guardian itself cleans up too."""
    os.kill(user.pids[0], signal.SIGTERM)

    until(lambda: not user.left())


@LINUX
def test_killed_guardian_takes_its_children_and_its_folder_is_swept(
    user: User,
) -> None:
    """What a killed guardian could not remove, the next one does."""
    os.kill(user.pids[0], signal.SIGKILL)
    until(lambda: not any(map(is_running, user.pids[:2])))

    there = user.folder.exists()
    sweep()

    assert (there, user.folder.exists()) == (True, False)


@LINUX
def test_killed_guardian_is_reported() -> None:
    """Who waits for a process learns at once that nobody looks after it any more."""
    with Guardian() as guardian:
        process = guardian.start("child", ["sleep", "60"])
        guardian._process.kill()

        assert process.exited.result(2) == -signal.SIGKILL
        with pytest.raises(ClusterError, match="the guardian process is gone"):
            guardian.at_end(["true"], timeout=1)


def test_sweep_leaves_the_living_alone(guardian: Guardian, tmp_path: Path) -> None:
    """Several pytest runs share a folder for temporary files; others' things stay."""
    other = tmp_path / "pytest-kube-notes"
    other.mkdir()

    sweep()

    assert guardian.directory.is_dir()
    assert other.is_dir()


def test_interrupt_does_not_end_a_guardian(user: User) -> None:
    """Ctrl-C reaches the tests; what they need to tear down is still there."""
    os.killpg(user.process.pid, signal.SIGINT)
    os.kill(user.pids[0], signal.SIGINT)

    assert user.says() == "interrupted\n"
    assert user.ask() == "0\n"
    assert len(user.left()) == 4


def test_unclosed_guardian_is_warned_of() -> None:
    """An owner that nobody closes is a mistake, and takes its processes along."""
    guardian = Guardian()
    process = guardian.start("child", ["sleep", "60"])
    folder, text = guardian.directory, repr(guardian)

    with pytest.warns(ResourceWarning) as caught:  # noqa: PT031  # one thing in two steps
        del guardian
        gc.collect()

    assert f"unclosed {text}" in {str(warning.message) for warning in caught}
    until(lambda: not folder.exists())
    assert not is_running(process.pid)


# --- faults -------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "fly"},
        {"do": "leave_nothing"},
        {"do": "start"},
        {"do": "start", "name": "x", "argv": [], "log": "x.log"},
        {"do": "start", "name": "x", "argv": ["true"], "log": "no/folder/x.log"},
        {"do": "start", "name": "x", "argv": ["true"], "log": "x", "env": {"a": 1}},
        {"do": "stop", "name": "x"},
        {"do": "finally"},
    ],
    ids=str,
)
def test_wrong_request_is_answered_with_an_error(
    guardian: Guardian, request_: dict[str, object]
) -> None:
    """A guardian that died of a mistake would take the cluster with it."""
    with pytest.raises(ClusterError, match="Error: "):
        guardian._ask(**request_)

    assert guardian.start("next", ["true"]).exited.result(2) == 0


def test_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The likely cause of a guardian that ends at once stands in the text."""
    missing = tmp_path / "missing"
    monkeypatch.setattr(tempfile, "tempdir", str(missing))

    with pytest.raises(ClusterError) as caught:
        Guardian()

    text = f"the guardian process ended at once; is {missing} writable?"
    assert str(caught.value) == text


def test_users_environment_cannot_break_a_guardian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules of the user that hide those of the standard library do not reach it."""
    (tmp_path / "json.py").write_text("raise SystemExit('hidden')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", shlex.quote(str(tmp_path / "json.py")))
    monkeypatch.chdir(tmp_path)

    with Guardian() as guardian:
        code = guardian.start("child", ["true"]).exited.result(2)

    assert code == 0
