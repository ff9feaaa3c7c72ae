"""Child processes end as asked, and none outlives the process that wanted it."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.errors import ClusterError
from pytest_kube.system import connection
from pytest_kube.system.connection import BusyError
from pytest_kube.system.kept import Kept, end, kept, status
from pytest_kube.system.processes import (
    FORMAT,
    Guardian,
    OutputLine,
    sweep,
    tail,
    timed_lines,
)

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

KEEPING = """\
import os, signal
from pytest_kube.system.processes import Guardian

guardian = Guardian()
stays = guardian.start("stays", ["sleep", "60"])
guardian.keep(idle=60, about={"name": "kwok"})
goes = guardian.start("goes", ["sleep", "60"])
print(guardian.directory, stays.pid, goes.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

FORKING_USER = """\
import os, signal, sys
from pathlib import Path
from pytest_kube.system.processes import Guardian

guardian = Guardian.connect(Path(sys.argv[1]), shared=False)
forked = os.fork()
if forked:
    print(forked, flush=True)
signal.pause()
"""

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="death signals are Linux's")


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Guardians have their folders in the folder of the test, and end with it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield
    for left in kept():
        end(left.directory)


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


# --- output with times --------------------------------------------------------


def texts(log: Path) -> list[str]:
    """Return the lines of a log with times, without those."""
    return [line.text for line in timed_lines(log)]


def test_lines_get_the_times_at_which_they_came(
    guardian: Guardian, tmp_path: Path
) -> None:
    """Both streams, in order; the log is as that of kubectl logs with times."""
    os.mkfifo(tmp_path / "go-on")
    script = f"echo one; read _ < {tmp_path}/go-on; echo two >&2"
    before = datetime.now(UTC)
    process = guardian.start("child", ["sh", "-c", script], timestamps=True)
    until(lambda: timed_lines(process.log))
    between = datetime.now(UTC)
    (tmp_path / "go-on").write_text("now\n")
    process.exited.result(2)

    one, two = timed_lines(process.log)
    assert (one.text, two.text) == ("one", "two")
    assert before <= one.time <= between <= two.time <= datetime.now(UTC)
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    assert re.fullmatch(f"({stamp} (one|two)\n){{2}}", process.log.read_text())


def test_begun_line_is_there_at_once(guardian: Guardian) -> None:
    """Who prints without ending the line, or waits behind a prompt, is heard."""
    script = "printf 'ready'; exec sleep 60"
    process = guardian.start("child", ["sh", "-c", script], timestamps=True)

    assert until(lambda: texts(process.log)) == ["ready"]


def test_what_a_child_wrote_is_whole_when_it_has_ended(guardian: Guardian) -> None:
    """As much as there is: its pipe was full when it ended."""
    for _ in range(10):
        script = "seq 20000; printf last"
        process = guardian.start("child", ["sh", "-c", script], timestamps=True)
        process.exited.result(5)
        expected = [*map(str, range(1, 20001)), "last"]

        assert texts(process.log) == expected
        process.log.unlink()


def test_output_need_not_be_text(guardian: Guardian) -> None:
    """Every byte is in the log; what is read of it is shown as well as it can be."""
    script = r"printf '\377\000\n\n a\r\nb\rc'"
    process = guardian.start("child", ["sh", "-c", script], timestamps=True)
    process.exited.result(2)

    raw = re.sub(rb"(?m)^\d{4}-\S+Z ", b"", process.log.read_bytes())
    assert raw == b"\xff\0\n\n a\r\nb\rc\n"
    shown = ["\N{REPLACEMENT CHARACTER}\0", "", " a", "b", "c"]
    assert texts(process.log) == shown


def test_line_without_end_is_broken(guardian: Guardian) -> None:
    """Each part has its time, so that the end of a huge log can be read."""
    script = "import sys; sys.stdout.write('x' * 2_000_000)"
    process = guardian.start("child", python(script), timestamps=True)
    process.exited.result(5)

    parts = texts(process.log)
    assert 0 < len("".join(parts)) < 1024 * 1024
    assert set("".join(parts)) == {"x"}
    assert process.log.read_bytes().count(b"x") == 2_000_000


def test_lines_that_are_being_written_are_left_out(tmp_path: Path) -> None:
    """Nor are lines read whose beginning is out of reach, or of no log at all."""
    log = tmp_path / "log"
    log.write_text("2026-11-23T19:08:17.123456Z one\n2026-11-2")
    line = OutputLine(datetime(2026, 11, 23, 19, 8, 17, 123456, UTC), "one")

    assert timed_lines(log) == [line]
    assert timed_lines(log, at_most=20) == []
    assert timed_lines(tmp_path / "missing") == []


@pytest.fixture
def detached() -> Iterator[list[int]]:
    """The ids of processes in sessions of their own, ended after the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


DETACHED = """\
import os, signal, sys
if child := os.fork():
    while os.getsid(child) != child:
        pass
    os._exit(3)
os.setsid()
print(os.getpid(), flush=True)
while sys.argv[1:] and os.write(1, b"more" * 1000 + b"\\n"):
    pass
signal.pause()
"""


@pytest.mark.parametrize("endless", [False, True])
def test_what_a_child_leaves_running_holds_up_nothing(
    guardian: Guardian, detached: list[int], *, endless: bool
) -> None:
    """It has the pipe still, and is copied on; the child's end is told at once."""
    argv = [*python(DETACHED), *["endless"] * endless]
    process = guardian.start("child", argv, timestamps=True)

    assert process.exited.result(2) == 3
    with until(lambda: timed_lines(process.log) and process.log.open()) as log:
        detached.append(int(log.readline().split()[1]))
    assert guardian.start("next", ["true"]).exited.result(2) == 0
    if endless:
        size = process.log.stat().st_size
        until(lambda: process.log.stat().st_size > size)


def test_child_may_close_its_output(guardian: Guardian) -> None:
    """Daemons do so; the guardian neither spins nor stumbles over it."""
    script = "printf bye; exec >&- 2>&-; read _ < /dev/null; kill -TERM $$"
    process = guardian.start("child", ["sh", "-c", script], timestamps=True)

    assert process.exited.result(2) == -signal.SIGTERM
    assert texts(process.log) == ["bye"]
    assert guardian.start("next", ["true"]).exited.result(2) == 0


def test_loud_child_does_not_hold_up_others(guardian: Guardian) -> None:
    """One that writes as fast as it can is copied in turns."""
    loud = guardian.start("loud", ["yes", "x" * 1000], timestamps=True)
    until(lambda: len(timed_lines(loud.log)) > 100)

    quiet = guardian.start("quiet", ["echo", "hello"], timestamps=True)

    assert quiet.exited.result(2) == 0
    assert texts(quiet.log) == ["hello"]
    assert guardian.stop(loud) == -signal.SIGKILL


def test_log_with_times_is_continued_after_a_restart(guardian: Guardian) -> None:
    """What the first one wrote last is a line, although it did not end it."""
    script = "printf hello; exec sleep 60"
    before = guardian.start("child", ["sh", "-c", script], timestamps=True)
    until(lambda: texts(before.log))
    after = guardian.restart(before)

    assert until(lambda: texts(after.log)[1:]) == ["hello"]


def test_program_with_times_that_cannot_be_run_is_named(guardian: Guardian) -> None:
    """As without them; nothing of it is left in the way."""
    for _ in range(2):
        with pytest.raises(ClusterError, match="^child: FileNotFoundError"):
            guardian.start("child", ["/no/such/program"], timestamps=True)

    assert guardian.start("child", ["true"], timestamps=True).exited.result(2) == 0


def test_killed_user_leaves_no_child_whose_output_has_times() -> None:
    """The guardian reads to the last, and nobody keeps anybody alive by the pipe."""
    script = (
        "import os, signal\n"
        "from pytest_kube.system.processes import Guardian\n"
        "guardian = Guardian()\n"
        "child = guardian.start('child', ['yes'], timestamps=True)\n"
        "print(guardian.directory, guardian._pid, child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen(python(script), stdout=subprocess.PIPE, text=True) as user:
        directory, *pids = user.communicate(timeout=10)[0].split()

    until(lambda: not any(is_running(int(pid)) for pid in pids))
    assert not Path(directory).exists()


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


# --- kept ---------------------------------------------------------------------


def keep(
    argv: tuple[str, ...] = ("sleep", "60"), *, idle: float = 60, shared: bool = False
) -> Guardian:
    """Return a guardian that keeps one child."""
    guardian = Guardian()
    guardian.start("child", argv)
    guardian.keep(idle=idle, about={"name": "kwok"}, shared=shared)
    return guardian


@pytest.fixture
def folder() -> Path:
    """What a kept guardian that nobody uses left there."""
    with keep() as guardian:
        return guardian.directory


def test_kept_children_are_found_alive_by_the_next_user() -> None:
    """They are the same processes, with the same logs, and can be watched."""
    with keep(("sh", "-c", "echo hello; sleep 60")) as first:
        (child,) = first.processes()
        until(child.log_tail)

    with Guardian.connect(first.directory, shared=False) as second:
        (found,) = second.processes()
        same = [
            (one.name, one.argv, one.log, one.pid, one.log_tail())
            for one in (child, found)
        ]
        os.kill(found.pid, signal.SIGTERM)
        code = found.exited.result(2)

    assert second.directory == first.directory
    assert same[0] == same[1]
    assert code == -signal.SIGTERM
    assert not child.exited.done()


def test_what_is_started_later_ends_with_its_lease() -> None:
    """A controller of one run is gone in the next, the control plane is not."""
    first = keep()
    (stays,) = first.processes()
    goes = first.start("goes", python(IMMORTAL))
    until(goes.log_tail)
    first.close()

    gone = [goes.pid]
    with Guardian.connect(first.directory, shared=False) as second:
        script = "sleep 60 & echo $!; wait"
        child = second.start("goes", ["sh", "-c", script])
        gone += [child.pid, int(until(child.log_tail))]
        assert [one.pid for one in second.processes()] == [stays.pid, child.pid]
        assert not is_running(goes.pid)

    until(lambda: not any(map(is_running, gone)))
    assert is_running(stays.pid)
    assert [goes.exited.result(2), child.exited.result(2)] == [-signal.SIGKILL] * 2


def test_closing_a_kept_guardian_warns_of_nothing(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """It is meant to go on; the module that started it must not object."""
    keep().close()
    gc.collect()

    assert list(recwarn) == []


def test_kept_guardian_ends_when_nobody_comes() -> None:
    """The idle time is counted from the end of the last lease."""
    with keep(idle=0.2) as guardian:
        (child,) = guardian.processes()
        guardian.start("clock", ["sleep", "0.3"]).exited.result(2)
        in_use = status(guardian.directory)
        started = time.monotonic()

    until(lambda: not guardian.directory.exists())
    assert time.monotonic() - started >= 0.2
    assert not is_running(child.pid)
    assert in_use == {"leases": 1, "idle_left": None}


def test_lease_in_the_idle_time_starts_it_anew() -> None:
    """Nothing is left of the earlier idle time, which would end sooner."""
    with keep(idle=2) as keeper:
        pass
    with Guardian.connect(keeper.directory, shared=False) as guardian:
        guardian.keep(idle=60, about={})

    assert 50 < status(keeper.directory)["idle_left"] <= 60


def test_without_idle_time_it_ends_with_the_last_lease() -> None:
    """Closing returns when everything is gone, as it does when nothing is kept."""
    first = keep(idle=0, shared=True)
    (child,) = first.processes()
    second = Guardian.connect(first.directory, shared=True)
    first.close()
    alive = is_running(child.pid)

    second.close()

    assert alive
    assert not is_running(child.pid)
    assert not first.directory.exists()


def test_idle_time_can_be_endless() -> None:
    """No clock of the system overflows."""
    with keep(idle=float("inf")) as guardian:
        pass

    assert status(guardian.directory) == {"leases": 0, "idle_left": float("inf")}


def test_clean_up_commands_wait_for_the_end(tmp_path: Path) -> None:
    """What is kept must not be undone when one run ends."""
    log = tmp_path / "log"
    with Guardian() as guardian:
        guardian.at_end(["sh", "-c", f"pwd > {log}"], timeout=5)
        guardian.keep(idle=60, about={})
    early = log.exists()

    end(guardian.directory)

    assert not early
    assert log.read_text() == f"{Path.cwd()}\n"


def test_nobody_waits_for_one_that_is_about_to_end(tmp_path: Path) -> None:
    """Clean-up commands may take a minute; whoever comes meanwhile is told at once."""
    os.mkfifo(tmp_path / "fifo")
    with Guardian() as guardian:
        guardian.at_end(["cat", str(tmp_path / "fifo")], timeout=10)
        guardian.keep(idle=60, about={})
    with (
        connection.dial(guardian.directory) as early,
        connection.dial(guardian.directory) as ending,
    ):
        early.settimeout(2)
        ending.sendall(b'{"id": 1, "do": "end"}\n')
        with (tmp_path / "fifo").open("w"):
            assert early.recv(1) == b""
            assert kept() == []
            with pytest.raises(ClusterError, match="no guardian can be reached"):
                Guardian.connect(guardian.directory, shared=False)
            assert guardian.directory.exists()

    until(lambda: not guardian.directory.exists())


def test_second_exclusive_lease_is_refused() -> None:
    """Two runs that roll back one cluster would destroy each other's objects."""
    keeper = keep()
    text = f"^another run uses what is kept in {keeper.directory}$"

    for shared in (False, True):
        with pytest.raises(BusyError, match=text):
            Guardian.connect(keeper.directory, shared=shared)
    keeper.close()
    with Guardian.connect(keeper.directory, shared=False):
        for shared in (False, True):
            with pytest.raises(BusyError, match=text):
                Guardian.connect(keeper.directory, shared=shared)

    assert status(keeper.directory)["leases"] == 0


def test_shared_leases_exclude_exclusive_ones_only() -> None:
    """The workers of one run use one cluster; another run has to wait."""
    with (
        keep(shared=True) as first,
        Guardian.connect(first.directory, shared=True) as second,
        Guardian.connect(first.directory, shared=True) as third,
    ):
        leases = status(first.directory)["leases"]
        pids = [user.processes()[0].pid for user in (first, second, third)]
        with pytest.raises(BusyError):
            Guardian.connect(first.directory, shared=False)

    assert leases == 3
    assert len(set(pids)) == 1


def test_users_have_their_own_names_and_logs() -> None:
    """Workers start a controller each; they need not know of each other."""
    with (
        keep(shared=True) as first,
        Guardian.connect(first.directory, shared=True) as second,
    ):
        children = [
            user.start("manager", ["sh", "-c", f"echo {number}; sleep 60"])
            for number, user in enumerate((first, second))
        ]
        logs = [until(child.log_tail) for child in children]
        code = second.stop(children[1])
        alive = is_running(children[0].pid)
        clash = second.start("child", ["true"]).name

    assert [child.name for child in children] == ["manager", "manager"]
    assert logs == ["0", "1"]
    assert (code, alive, clash) == (-signal.SIGKILL, True, "child-2")
    assert not children[1].log.exists()


def test_end_of_a_kept_child_is_reported_to_all() -> None:
    """Each user learns it, who asked for it or not; later ones do not see it."""
    with (
        keep(shared=True) as first,
        Guardian.connect(first.directory, shared=True) as second,
    ):
        child = first.processes()[0]
        code = second.stop(second.processes()[0])
        told = child.exited.result(2)
        with Guardian.connect(first.directory, shared=True) as third:
            left = third.processes()

    assert (code, told, left) == (-signal.SIGKILL, -signal.SIGKILL, [])


def test_silence_ends_no_lease(folder: Path) -> None:
    """Only the first answer has to come soon; reports may take hours."""
    with Guardian() as first, Guardian.connect(folder, shared=False) as second:
        timeouts = [user._lease.gettimeout() for user in (first, second)]

    assert timeouts == [None, None]


def test_end_of_a_child_is_not_reported_to_strangers(folder: Path) -> None:
    """Who only asks gets answers to that, and nothing in between."""
    with connection.dial(folder) as stranger, stranger.makefile("rb") as lines:
        connection.exchange(stranger, lines, do="status")
        with Guardian.connect(folder, shared=False) as guardian:
            guardian.stop(guardian.processes()[0])
            answer = connection.exchange(stranger, lines, do="status")

    assert answer == {"id": 0, "leases": 1, "idle_left": None}


def test_broken_rest_is_not_kept(folder: Path) -> None:
    """When a child ends by itself while nobody is there, everything does."""
    with Guardian.connect(folder, shared=False) as guardian:
        (child,) = guardian.processes()

    os.kill(child.pid, signal.SIGKILL)

    until(lambda: not folder.exists())


def test_what_broke_in_use_ends_with_the_last_lease(folder: Path) -> None:
    """Its user may still look at the logs; nobody after that."""
    with Guardian.connect(folder, shared=False) as guardian:
        (child,) = guardian.processes()
        os.kill(child.pid, signal.SIGKILL)
        child.exited.result(2)
        there = child.log.exists()

    assert (there, folder.exists()) == (True, False)


def test_what_ended_before_is_not_kept() -> None:
    """A finished step of the preparations is no missing part."""
    with Guardian() as guardian:
        guardian.start("step", ["true"]).exited.result(2)
        guardian.keep(idle=60, about={})

    assert guardian.directory.exists()


def test_killed_user_leaves_what_is_kept() -> None:
    """SIGKILL ends a lease, and what was started under it, as closing does."""
    with subprocess.Popen(python(KEEPING), stdout=subprocess.PIPE, text=True) as keeper:
        directory, stays, goes = keeper.communicate(timeout=10)[0].split()

    assert keeper.returncode == -signal.SIGKILL
    until(lambda: not is_running(int(goes)))
    with Guardian.connect(Path(directory), shared=False) as guardian:
        assert [child.pid for child in guardian.processes()] == [int(stays)]
    assert is_running(int(stays))


def test_forked_child_of_a_user_holds_no_lease(folder: Path) -> None:
    """A leftover of multiprocessing would make the cluster busy for ever."""
    with subprocess.Popen(
        [*python(FORKING_USER), str(folder)], stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        forked = int(user.stdout.readline())
        user.kill()
    try:
        until(lambda: status(folder)["leases"] == 0)
        assert is_running(forked)
    finally:
        os.kill(forked, signal.SIGKILL)


def test_unclosed_lease_is_warned_of_and_given_back(folder: Path) -> None:
    """A forgotten lease must not keep others away."""
    guardian = Guardian.connect(folder, shared=False)
    text = repr(guardian)

    with pytest.warns(ResourceWarning) as caught:  # noqa: PT031  # one thing in two steps
        del guardian
        gc.collect()

    assert f"unclosed {text}" in {str(warning.message) for warning in caught}
    until(lambda: status(folder)["leases"] == 0)


def test_kept_again_with_other_words() -> None:
    """The later call replaces what is told about it, and keeps no more children."""
    with keep(idle=0) as guardian:
        goes = guardian.start("goes", ["sleep", "60"])
        guardian.keep(idle=60, about={"name": "envtest", "nodes": [1, 2]})

    (found,) = kept()
    assert found.about == {"name": "envtest", "nodes": [1, 2]}
    assert 50 < status(found.directory)["idle_left"] <= 60
    assert not is_running(goes.pid)


# --- what is kept, from outside -----------------------------------------------


def test_kept_guardians_are_found(folder: Path) -> None:
    """Whoever looks for a cluster sees what was said about it, and the versions."""
    (found,) = kept()

    assert found == Kept(folder, {"name": "kwok"}, found.pid, FORMAT)
    assert is_running(found.pid)


def test_only_living_and_whole_guardians_are_found(
    guardian: Guardian, folder: Path, tmp_path: Path
) -> None:
    """Others' files, dead ones and damaged ones are passed over."""
    content = (folder / "kept.json").read_text()
    dead = tmp_path / "pytest-kube-dead"
    unlocked = tmp_path / "pytest-kube-unlocked"
    for other in (dead, unlocked):
        other.mkdir()
        (other / "kept.json").write_text(content)
    (dead / "lock").touch()
    living = kept()

    found = []
    for damaged in ("", "{", "[]", "{}", '{"format": 1}', "\0", content[:-3]):
        (folder / "kept.json").write_text(damaged)
        found += kept()
    (folder / "kept.json").write_text(content)

    assert [one.directory for one in living] == [folder]
    assert found == []
    assert len(kept()) == 1


def test_end_ends_everything_whoever_uses_it() -> None:
    """The command that takes a cluster down asks nobody."""
    with keep() as guardian:
        (child,) = guardian.processes()

        ended = end(guardian.directory)

        assert not guardian.directory.exists()
        assert not is_running(child.pid)
        assert child.exited.result(2) == -signal.SIGKILL
    assert (ended, end(guardian.directory)) == (True, False)


def test_user_can_end_everything(folder: Path) -> None:
    """With a lease it is one call too, and closing after it does nothing."""
    with Guardian.connect(folder, shared=True) as guardian:
        (child,) = guardian.processes()

        guardian.end()

        assert not folder.exists()
        assert not is_running(child.pid)


def test_keeper_can_end_everything() -> None:
    """A start that fails after all leaves nothing behind."""
    with keep() as guardian:
        guardian.end()

        assert not guardian.directory.exists()
        assert not is_running(guardian._pid)


def test_terminated_kept_guardian_leaves_nothing(folder: Path) -> None:
    """SIGTERM of the guardian itself cleans up, idle or not."""
    os.kill(kept()[0].pid, signal.SIGTERM)

    until(lambda: not folder.exists())


@LINUX
def test_killed_kept_guardian_is_gone(folder: Path) -> None:
    """Its children die with it; nobody takes its folder for a cluster."""
    with Guardian.connect(folder, shared=False) as guardian:
        (child,) = guardian.processes()
        os.kill(guardian._pid, signal.SIGKILL)
        code = child.exited.result(2)
    until(lambda: not is_running(child.pid))

    assert code == -signal.SIGKILL
    assert kept() == []
    with pytest.raises(ClusterError, match=f"{folder}: .*refused"):
        Guardian.connect(folder, shared=False)
    with pytest.raises(ClusterError, match=f"{folder}: .*refused"):
        status(folder)
    assert end(folder) is False
    sweep()
    assert not folder.exists()


def test_folder_without_a_guardian_is_named(guardian: Guardian, tmp_path: Path) -> None:
    """Nothing there, no folder at all, or one that keeps nothing: the path helps."""
    for directory in (tmp_path, tmp_path / "missing", guardian.directory):
        text = f"^no guardian can be reached in {directory}: .*No such file"
        with pytest.raises(ClusterError, match=text):
            Guardian.connect(directory, shared=True)
        assert end(directory) is False


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no way around")
def test_path_of_the_socket_may_be_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's limit of about a hundred bytes is ours to get around."""
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    with keep() as keeper:
        (child,) = keeper.processes()
    with Guardian.connect(kept()[0].directory, shared=False) as guardian:
        (found,) = guardian.processes()

    files = set(Path("/proc/self/fd").iterdir())
    status(guardian.directory)

    assert set(Path("/proc/self/fd").iterdir()) == files
    assert found.pid == child.pid
    assert found.log.is_relative_to(long)
    assert end(guardian.directory)


def test_long_path_without_a_way_around_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text says what to change."""
    monkeypatch.setattr(connection, "_OPEN_FILES", tmp_path / "missing")
    directory = tmp_path / ("long" * 30)

    with pytest.raises(ClusterError) as caught:
        Guardian.connect(directory, shared=False)

    assert str(caught.value) == (
        f"{directory}/socket is longer than the 100 bytes that the path of a socket "
        "may have; set TMPDIR to a shorter one"
    )


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\n",
        b"hello\n",
        b"\xff\n",
        b"[]\n",
        b"{}\n",
        b'{"id": 1}\n',
        b'{"do": "lease", "shared": false}\n',
        b'{"id": 1, "do": "lea',
        b"[" * 10_000 + b"\n",
    ],
    ids=lambda garbage: repr(garbage[:20]),
)
def test_who_talks_nonsense_harms_nobody(folder: Path, garbage: bytes) -> None:
    """A stranger has no lease, whatever it says or leaves unsaid."""
    with connection.dial(folder) as stranger:
        with contextlib.suppress(ConnectionError):  # it may well be thrown out
            stranger.sendall(garbage)
        with Guardian.connect(folder, shared=False) as guardian:
            assert len(guardian.processes()) == 1
        assert status(folder)["leases"] == 0

    with Guardian.connect(folder, shared=False):
        pass


def test_endless_line_is_not_stored(folder: Path) -> None:
    """The memory of the machine is not for those who never come to the point."""
    with (
        connection.dial(folder) as stranger,
        pytest.raises(ConnectionError),
    ):
        stranger.sendall(b"x" * 20_000_000)

    assert status(folder)["leases"] == 0


def test_without_a_lease_nothing_can_be_started(folder: Path) -> None:
    """What is started must have an end."""
    with connection.dial(folder) as stranger, stranger.makefile("rb") as lines:
        answers: list[dict[str, Any]] = [
            connection.exchange(stranger, lines, do=do, name="x", argv=["true"])
            for do in ("start", "stop", "keep", "finally", "fly")
        ]

    assert [list(answer) for answer in answers] == [["id", "error"]] * 5


def test_silent_stranger_does_not_prolong_the_idle_time() -> None:
    """Only leases count."""
    keeper = keep(idle=0.2)
    with connection.dial(keeper.directory) as stranger:
        keeper.close()

        until(lambda: not keeper.directory.exists())
        stranger.settimeout(2)
        assert stranger.recv(1) == b""


def test_user_who_does_not_read_is_dropped() -> None:
    """One that hangs must not hold up the others for longer than a moment."""
    with (
        keep(shared=True) as guardian,
        connection.dial(guardian.directory) as hanging,
        hanging.makefile("rb") as lines,
    ):
        connection.exchange(hanging, lines, do="lease", shared=True)
        hanging.setblocking(False)
        question = b'{"id": 1, "do": "status"}\n' * 1000
        with contextlib.suppress(BlockingIOError):
            for _ in range(100):
                hanging.send(question)

        code = guardian.start("next", ["true"]).exited.result(5)

        assert code == 0
        until(lambda: status(guardian.directory)["leases"] == 1)


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
        {"do": "keep", "idle": 60},
        {"do": "keep", "idle": -1, "about": {}, "format": 1, "shared": False},
        {"do": "lease"},
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


def test_restarted_child_is_kept_as_the_first_one_was() -> None:
    """Same command, same log, another process; the plane is not broken by it."""
    with keep(("sh", "-c", "echo hello; sleep 60")) as guardian:
        (before,) = guardian.processes()
        until(lambda: before.log_tail() == "hello")
        after = guardian.restart(before)
        assert after.pid != before.pid
        assert after.argv == before.argv
        assert not is_running(before.pid)
        until(lambda: after.log_tail() == "hello\nhello")
        assert guardian.processes() == [after]
        directory = guardian.directory
    with Guardian.connect(directory, shared=False) as again:
        assert [p.pid for p in again.processes()] == [after.pid]
        again.end()


def test_restart_of_what_has_ended_is_an_error() -> None:
    """There is nothing whose environment could be taken."""
    with Guardian() as guardian:
        process = guardian.start("short", ["true"])
        process.exited.result(10)
        with pytest.raises(ClusterError, match="short: FileNotFoundError: there is"):
            guardian.restart(process)
