"""The archived state of a test: the file, what may be wrong with it, its moments."""

from __future__ import annotations

import gzip
import json
import os
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.errors import ArchiveError
from pytest_kube.state import archive_file
from pytest_kube.state.archive import About, Archive, Done, Stored, served
from pytest_kube.state.etcd import Change

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BEGAN = datetime(2026, 11, 23, 13, 43, 35, 935_700, tzinfo=UTC)
ABOUT = About(
    version="1.36.3",
    provider="kwok",
    namespace="test-a-1",
    test="tests/test_a.py::test_a",
    made=BEGAN + timedelta(seconds=5),
    first=31,
    last=36,
)


def obj(kind: str, name: str, **further: Any) -> dict[str, Any]:
    """Return an object as it is stored."""
    return {"kind": kind, "apiVersion": "v1", "metadata": {"name": name}, **further}


def changed(revision: int, value: Any, seconds: float | None = None) -> Stored:
    """Return a change of the ConfigMap a."""
    when = None if seconds is None else BEGAN + timedelta(seconds=seconds)
    return Stored("/registry/configmaps/x/a", revision, value, when, "jane", "patch")


NODE = Stored("/registry/minions/node-0", 7, obj("Node", "node-0"))
BASELINE = [NODE, Stored("/registry/configmaps/x/b", 9, obj("ConfigMap", "b"))]
CHANGES = [
    changed(32, obj("ConfigMap", "a", data={"k": "1"}), 0.0),
    changed(34, obj("ConfigMap", "a", data={"k": "2"}), 1.5001),
    changed(36, None, 2.0),
]
ARCHIVE = Archive(ABOUT, BASELINE, CHANGES)
NEW = {"steps", "flags"}
"""What was not in the first line from the beginning."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An archive that is as it should be."""
    path = tmp_path / archive_file.NAME
    archive_file.write(path, ABOUT, BASELINE, CHANGES)
    return path


@pytest.fixture
def edited(file: Path) -> Callable[..., Path]:
    """Change lines of the archive, counted from 1."""

    def edit(number: int, line: str | dict[str, Any]) -> Path:
        lines = gzip.decompress(file.read_bytes()).decode().splitlines()
        if isinstance(line, dict):
            line = json.dumps({**json.loads(lines[number - 1]), **line})
        lines[number - 1] = line
        file.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
        return file

    return edit


# --- the file -------------------------------------------------------------------


def test_what_was_written_is_read(file: Path) -> None:
    """By the name of the file, or of its folder."""
    assert archive_file.read(file) == ARCHIVE
    assert archive_file.read(file.parent) == ARCHIVE


def test_values_of_secrets_are_not_written(tmp_path: Path) -> None:
    """Neither those at first nor those that came later."""
    secret = obj("Secret", "s", data={"password": "aHVudGVyMg=="})
    stored = Stored("/registry/secrets/x/s", 9, secret)

    archive_file.write(tmp_path / "a", ABOUT, [stored], [stored])

    written = gzip.decompress((tmp_path / "a").read_bytes())
    assert b"aHVudGVyMg" not in written
    assert written.count(b'"password": "UkVEQUNURUQ="') == 2
    assert secret["data"] == {"password": "aHVudGVyMg=="}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_file_is_for_this_user_only_and_alone(tmp_path: Path, umask: int) -> None:
    """It is written aside and renamed, also over what a killed run left."""
    left = tmp_path / f".a.{os.getpid()}"
    left.write_text("half")
    left.chmod(0o666)
    before = os.umask(umask)
    try:
        archive_file.write(tmp_path / "a", ABOUT, BASELINE, CHANGES)
    finally:
        os.umask(before)

    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_archive_that_is_too_large_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither half of it; the limit is that of the file, and of what is in it."""
    noise = obj("ConfigMap", "a", data={"k": os.urandom(100_000).hex()})
    for limit in ("LARGEST", "LARGEST_PLAIN"):
        with monkeypatch.context() as patch:
            patch.setattr(archive_file, limit, 50 * 1024)
            with pytest.raises(ArchiveError, match="^it would be larger than .* MB$"):
                archive_file.write(
                    tmp_path / "a", ABOUT, [Stored("/registry/a", 1, noise)], []
                )

        assert list(tmp_path.iterdir()) == []


def test_archive_that_takes_too_long_is_not_written(tmp_path: Path) -> None:
    """Who waits for it has given up by then."""
    with pytest.raises(ArchiveError, match="^it took too long$"):
        archive_file.write(
            tmp_path / "a", ABOUT, BASELINE, CHANGES, deadline=time.monotonic() - 1
        )

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"kind": "Pod"}\n', {"kind": "Pod"}),
        (b"k8s\0\n\x0c\n\x02v1", None),
        (b"k8s:enc:aescbc:v1:key1:\xff\x00", None),
        (b"[1]", None),
        (b"", None),
    ],
)
def test_only_objects_in_json_are_archived(data: bytes, value: Any) -> None:
    """Protobuf, and what is encrypted, nobody else can read."""
    assert archive_file.value_of(data) == value


def test_heartbeats_are_noise() -> None:
    """Leases of nodes, and nodes of which only the time of a heartbeat differs."""

    def node(heartbeat: str, ready: str = "True") -> bytes:
        conditions = [{"lastHeartbeatTime": heartbeat, "status": ready}]
        status = {"conditions": conditions}
        return json.dumps(obj("Node", "n", status=status)).encode()

    def is_noise(key: str, before: bytes | None, after: bytes | None) -> bool:
        return archive_file.is_noise(Change(5, f"/registry/{key}", before, after))

    assert is_noise("leases/kube-node-lease/n", b"{}", b'{"a": 1}')
    assert is_noise("minions/n", node("1"), node("2"))
    assert not is_noise("minions/n", node("1"), node("2", "False"))
    assert not is_noise("minions/n", None, node("1"))
    assert not is_noise("minions/n", node("1"), None)
    assert not is_noise("pods/x/a", b"{}", b'{"a": 1}')


# --- what may be wrong with it ----------------------------------------------------


def error(path: Path) -> str:
    """Read an archive that is wrong; return the text, without where it is."""
    with pytest.raises(ArchiveError) as caught:
        archive_file.read(path)
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize("name", [".", "missing", "missing.jsonl.gz"])
def test_missing_archive_says_what_one_is(tmp_path: Path, name: str) -> None:
    """A folder without one, or nothing at all."""
    assert error(tmp_path / name) == (
        "FILE: there is no archive of a state: a folder of artifacts with a "
        "state.jsonl.gz, or that file. Tests on kwok, envtest and kind leave one "
        "when they fail"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"kind: Pod\n",
        b"\x1f\x8b is not enough",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"text\n", mtime=0),
        gzip.compress(b"[1]\n", mtime=0),
        gzip.compress(b'{"format": 1}\n', mtime=0),
        gzip.compress(b"[" * 100_000, mtime=0),
        gzip.compress(b"\xff\xfe\n", mtime=0),
    ],
)
def test_other_file_is_no_archive(tmp_path: Path, data: bytes) -> None:
    """Whatever it is."""
    path = tmp_path / "state.jsonl.gz"
    path.write_bytes(data)

    assert error(path) == "FILE is no archive of a state of pytest-kube"


def test_other_format_is_named(edited: Callable[..., Path]) -> None:
    """It is that of another version of ours."""
    assert error(edited(1, {"format": 2})) == (
        "FILE, line 1: format 2; this pytest-kube reads format 1, another version may "
        "read it"
    )


@pytest.mark.parametrize(
    ("number", "line", "text"),
    [
        (1, {"version": "latest"}, "no Kubernetes version, or no namespace"),
        (1, {"version": "../../bin"}, "no Kubernetes version, or no namespace"),
        (1, {"namespace": "a; rm -rf"}, "no Kubernetes version, or no namespace"),
        (1, {"first": "31"}, "'31' is no number of something"),
        (1, {"keys": -1}, "-1 is no number of something"),
        (1, {"keys": True}, "True is no number of something"),
        (1, {"made": "now"}, "'now' is no time"),
        (1, {"made": None}, "None is no time"),
        (1, {"test": None}, "None is no text"),
        (1, {"flags": None}, "None are no flags"),
        (
            1,
            {"flags": ["--token-auth-file=/x"]},
            "['--token-auth-file=/x'] are no flags",
        ),
        (1, {"flags": {"feature-gates": 1}}, "1 is no text"),
        (2, "{", "no JSON"),
        (2, "[" * 100_000, "no JSON"),
        (2, "1", "no JSON object"),
        (2, {"key": 1}, "1 is no text"),
        (2, {"key": "/etc/x"}, "the key '/etc/x' is not below /registry/"),
        (2, {"key": "compact_rev_key"}, "the key 'compact_rev_key' is not below /reg"),
        (2, {"value": None}, "/registry/minions/node-0 has no value"),
        (3, {"value": [1]}, "the value of /registry/configmaps/x/b is no object of Ku"),
        (3, {"value": {}}, "the value of /registry/configmaps/x/b is no object of Ku"),
        (3, {"revision": 1.5}, "1.5 is no number of something"),
        (4, {"value": "x"}, "the value of /registry/configmaps/x/a is no object of Ku"),
        (4, {"time": "yesterday"}, "'yesterday' is no time"),
        (4, {"time": 5}, "5 is no time"),
        (4, {"user": ["x"]}, "['x'] is no text"),
        (4, {"verb": 1}, "1 is no text"),
        (5, {"revision": 3}, "its revision is lower than that of the line before"),
    ],
)
def test_line_that_is_wrong_is_named(
    edited: Callable[..., Path], number: int, line: Any, text: str
) -> None:
    """It may come from anywhere: nothing of it is used before all is checked."""
    path = edited(number, line)

    assert error(path).startswith(f"FILE, line {number}: {text}")
    with pytest.raises(ArchiveError) as caught:
        archive_file.read(path)
    assert caught.value.line == number


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audit-log-path", "/home/jane/.bashrc"),
        ("authorization-mode", "AlwaysAllow"),
        ("bind-address", "0.0.0.0"),  # noqa: S104  # is refused
        ("etcd-servers", "https://192.0.2.1"),
        ("Feature-Gates", "A=true"),
        ("", ""),
        ("feature-gates", ""),
        ("feature-gates", "A"),
        ("feature-gates", "A=maybe"),
        ("feature-gates", "A=true,"),
        ("feature-gates", "A=true B=true"),
        ("feature-gates", "A=true\n"),
        ("feature-gates", "A=true --audit-log-path=/x"),
        ("feature-gates", "wardle:A=true"),
        ("runtime-config", "=true"),
        ("runtime-config", "api/all=2"),
        ("runtime-config", "api/all=true,--x=1"),
        ("runtime-config", "API/all"),
    ],
)
def test_flag_of_something_else_is_refused(
    edited: Callable[..., Path], name: str, value: str
) -> None:
    """An API server reads and writes files that its flags name."""
    path = edited(1, {"flags": {"runtime-config": "api/all=true", name: value}})

    assert error(path) == (
        f"FILE, line 1: no flag of what is served: {name!r}={value!r}"
    )


def test_older_archive_has_no_flags(edited: Callable[..., Path], file: Path) -> None:
    """Nor steps; it is read nevertheless."""
    header = json.loads(gzip.decompress(file.read_bytes()).splitlines()[0])
    path = edited(1, json.dumps({k: header[k] for k in header if k not in NEW}))

    assert archive_file.read(path) == ARCHIVE


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"feature-gates": "A=true", "runtime-config": "api/all=true"},
        {"feature-gates": "kube:A=1,AllAlpha=False,B2=t"},
        {"runtime-config": "certificates.k8s.io/v1beta1,a.b/v1/things=false"},
    ],
)
def test_flags_of_what_was_served_are_kept(
    tmp_path: Path, flags: dict[str, str]
) -> None:
    """In every form that an API server takes; no others are written."""
    further = {"audit-log-path": "/x", "vmodule": "a=1"}
    kept = served({**flags, **further})
    assert kept == flags
    about = replace(ABOUT, flags=kept)

    archive_file.write(tmp_path / "a", about, BASELINE, CHANGES)

    assert archive_file.read(tmp_path / "a").about == about


@pytest.mark.parametrize("lines", [1, 20_000])
def test_bomb_is_not_unpacked(
    file: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    """A small file may hold a terabyte, in one line or in many."""
    monkeypatch.setattr(archive_file, "LARGEST_PLAIN", 1024**2)
    header, line, *_ = gzip.decompress(file.read_bytes()).splitlines()
    header = json.dumps({**json.loads(header), "keys": lines}).encode()
    padded = line.ljust(3 * 1024**2 // lines)
    file.write_bytes(gzip.compress(b"\n".join([header, *[padded] * lines])))

    assert error(file).endswith("more than 1 MB, which no archive of a state has")


def large(path: Path) -> tuple[bytes, list[Stored]]:
    """Write an archive with changes that do not compress; return it, and them."""
    changes = [
        changed(32 + n, obj("ConfigMap", "a", data={"k": os.urandom(2000).hex()}), n)
        for n in range(100)
    ]
    archive_file.write(path, ABOUT, BASELINE, changes)
    return path.read_bytes(), changes


def test_archive_that_was_cut_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    """A copy that was interrupted; what is there is true."""
    path = tmp_path / "a"
    data, changes = large(path)
    path.write_bytes(data[: len(data) // 2])

    archive = archive_file.read(path)

    assert list(archive.baseline) == BASELINE
    count = len(archive.changes)
    assert 30 < count < 70
    assert list(archive.changes) == changes[:count]
    assert archive.warning == (
        f"{path} ends in the middle: {count} of 100 changes are there"
    )
    with pytest.raises(ArchiveError, match=f"which has 31 to {31 + count}$"):
        archive.find("131")


def test_archive_that_was_cut_before_the_state_is_whole_is_no_use(
    tmp_path: Path,
) -> None:
    """A cluster never starts from half a state."""
    path = tmp_path / "a"
    noise = obj("ConfigMap", "a", data={"k": os.urandom(100_000).hex()})
    archive_file.write(path, ABOUT, [NODE, Stored("/registry/a", 1, noise)], [])
    path.write_bytes(path.read_bytes()[:50_000])

    assert error(path) == (
        "FILE ends in the middle, before the state is complete with which the test "
        "began; was it copied whole?"
    )


def test_lines_that_were_taken_out_are_noticed(file: Path) -> None:
    """The first line says how many there are."""
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    file.write_bytes(gzip.compress(b"".join(lines[:5])))
    assert archive_file.read(file).warning == (
        f"{file} ends in the middle: 2 of 3 changes are there"
    )

    file.write_bytes(gzip.compress(b"".join(lines[:2])))
    assert "before the state is complete" in error(file)


def test_damaged_archive_is_refused(tmp_path: Path) -> None:
    """A byte is another one: what follows is not what was written."""
    path = tmp_path / "a"
    data, _ = large(path)
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :])

    assert re.match(r"FILE, line \d+: ", error(path))


def test_archive_that_cannot_be_read_says_why(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may belong to somebody else."""

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(archive_file.gzip, "open", refuse)

    assert error(file) == "FILE cannot be read: Permission denied"


# --- moments --------------------------------------------------------------------


def test_state_of_a_moment() -> None:
    """What was there at first, with as many changes as have happened."""
    key = "/registry/configmaps/x/a"
    values = [ARCHIVE.state(moment).get(key) for moment in range(4)]

    assert values == [None, *CHANGES[:2], None]
    assert ARCHIVE.state(3) == {stored.key: stored for stored in BASELINE}
    assert ARCHIVE.before == [None, CHANGES[0].value, CHANGES[1].value]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("31", 0),
        ("32", 1),
        ("33", 1),
        ("36", 3),
        ("+0s", 1),
        ("+1.499s", 1),
        ("+1.5s", 2),
        ("+1.5", 2),
        ("+1500ms", 2),
        ("+0.05m", 3),
        ("13:43:35.935", 1),
        ("13:43:37.436", 2),
        ("2026-11-23T13:43:37", 1),
        ("2026-11-23T13:43:38Z", 3),
        ("2026-11-23T14:43:38+01:00", 3),
    ],
)
def test_moment_is_found(text: str, moment: int) -> None:
    """By revision, by time since the test began, by time, as each of them is shown."""
    assert ARCHIVE.find(text) == moment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("30", "revision 30 is not in the archive, which has 31 to 36"),
        ("37", "revision 37 is not in the archive, which has 31 to 36"),
        (
            "+6s",
            "+6s is not in the archive, which goes from 2026-11-23T13:43:35.935Z to "
            "2026-11-23T13:43:40.935Z (+5.00",
        ),
        ("2026-11-22", "2026-11-22 is not in the archive, which goes from 2026-11-23T"),
        ("13:43:34", "13:43:34 is not in the archive, which goes from 2026-11-23T13:4"),
        ("step:apply/2", "step:apply/2 is not in the archive, which has no steps"),
        (
            "soon",
            "'soon' is no moment: give a revision (31 to 36), a time since the test "
            "began (+1.5s), a time (2026-11-23T13:43:35.935Z), or a step of the test (s",
        ),
        ("+1h", "'+1h' is no moment: "),
        ("-1", "'-1' is no moment: "),
        ("", "'' is no moment: "),
    ],
)
def test_what_is_no_moment_says_what_there_is(text: str, message: str) -> None:
    """Beyond its ends there is no state to show."""
    with pytest.raises(ArchiveError) as caught:
        ARCHIVE.find(text)

    assert str(caught.value).startswith(message)


def test_step_is_the_moment_when_it_had_been_done(tmp_path: Path) -> None:
    """Written, read, and found by its number; one that never ended is the last."""
    second = ARCHIVE.times[1]
    steps = (Done(4, "kube.apply(…)", second), Done(5, "kube.settle()", None))
    about = replace(ARCHIVE.about, steps=steps)
    archive_file.write(tmp_path / "a", about, ARCHIVE.baseline, ARCHIVE.changes)

    archive = archive_file.read(tmp_path / "a")

    assert archive.about.steps == steps
    assert archive.find("step:4") == 2
    assert archive.find("step:5") == len(ARCHIVE.changes)
    with pytest.raises(ArchiveError, match="^step:1 is not in .* has steps 4 to 5$"):
        archive.find("step:1")


def test_times_never_go_back() -> None:
    """Those that nobody knows are those of the change before."""
    values = [obj("ConfigMap", "a", data={"k": str(n)}) for n in range(4)]
    seconds = (None, 1.0, 0.5, None)
    changes = [
        changed(40 + n, v, s)
        for n, (v, s) in enumerate(zip(values, seconds, strict=True))
    ]
    archive = Archive(ABOUT, BASELINE, changes)

    assert [(when - archive.began).total_seconds() for when in archive.times] == [0] * 4
    assert archive.began == datetime(2026, 11, 23, 13, 43, 36, 935_000, tzinfo=UTC)


def test_archive_without_changes_has_one_moment() -> None:
    """A test may fail before it does anything."""
    archive = Archive(ABOUT, BASELINE, [])

    assert archive.find("31") == 0
    assert archive.revision(0) == 31
    assert archive.state(0) == {stored.key: stored for stored in BASELINE}
