"""Logs of containers in a folder of artifacts, whoever made it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pytest_kube import container_logs
from pytest_kube.container_logs import Container, Wanted, read, utc
from pytest_kube.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path

MAIN = Container("test", "web-0", "main")
ALL = Wanted(has_times=True)
TIMES = [f"2026-01-02T03:04:0{n}.5Z" for n in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of artifacts, with a log."""
    folder = tmp_path / "artifacts"
    (folder / "pods/test/web-0").mkdir(parents=True)
    put(folder, "early\n{} a\n{} b\n  of b\n{} c".format(*TIMES))
    return folder


def put(folder: Path, text: str | bytes, file: str = "main.log") -> None:
    data = text.encode() if isinstance(text, str) else text
    (folder / "pods/test/web-0" / file).write_bytes(data)


def lines(folder: Path, wanted: Wanted) -> list[str]:
    return read(folder, MAIN, wanted).decode().splitlines()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), ["early", "a", "b", "  of b", "c"]),
        (Wanted(tail=0), []),
        (Wanted(tail=2), ["  of b", "c"]),
        (Wanted(tail=99), ["early", "a", "b", "  of b", "c"]),
        (Wanted(since=utc(TIMES[1])), ["early", "b", "  of b", "c"]),
        (Wanted(since=utc(TIMES[2]), tail=1), ["c"]),
        (Wanted(since=datetime(2027, 1, 1, tzinfo=UTC)), ["early"]),
        (Wanted(limit=7), ["early", "a"]),
        (Wanted(tail=1, has_times=True), [f"{TIMES[2]} c"]),
    ],
)
def test_part_of_a_log_is_read(
    folder: Path, wanted: Wanted, expected: list[str]
) -> None:
    """A line without a time is as old as the one before."""
    assert lines(folder, wanted) == expected


def test_log_of_the_last_life_is_another_file(folder: Path) -> None:
    """A container cannot have its name, which has no dot."""
    put(folder, "before\n", "main.previous.log")

    assert read(folder, MAIN._replace(is_previous=True), ALL) == b"before\n"
    with pytest.raises(ArchiveError, match="^the archive has no log of container main"):
        read(folder, MAIN._replace(name="main.previous"), ALL)


def test_only_the_first_time_of_a_line_is_ours(folder: Path) -> None:
    """What programs write of the time themselves stays, as do times that are none."""
    put(folder, f"{TIMES[0]} {TIMES[1]} a\n{TIMES[0]} \n2026-99-02T03:04:05Z b\n")

    assert lines(folder, Wanted()) == [f"{TIMES[1]} a", "", "2026-99-02T03:04:05Z b"]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"\x1b[31mred\x1b[0m\ttab", b"\x1b[31mred\x1b[0m\ttab"),
        (b"\x1b]0;title\x07", b"?]0;title?"),
        (b"\x1b[2Jgone\x9b\0", "?[2Jgone\N{REPLACEMENT CHARACTER}?".encode()),
        ("\x9b2J".encode(), b"?2J"),
        (b"ends\r", b"ends?"),
        (b"hidden\rseen", b"hidden?seen"),
        ("grüße".encode(), "grüße".encode()),
    ],
)
def test_terminal_is_told_nothing_but_colours(
    folder: Path, written: bytes, shown: bytes
) -> None:
    """Titles, keys and what hides a text are not for a log of others."""
    put(folder, written)

    assert read(folder, MAIN, ALL) == shown + b"\n"


def test_lines_may_end_as_on_windows(folder: Path) -> None:
    """The end of a line is no control character in it."""
    put(folder, b"a\r\nb\r\n")

    assert read(folder, MAIN, ALL) == b"a\nb\n"


def test_only_the_end_of_a_large_log_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the beginning of a line, and it says so."""
    monkeypatch.setattr(container_logs, "LARGEST", 10)
    put(folder, "12345\n" * 4)

    assert lines(folder, ALL) == ["(the first 18 bytes are left out)", "12345"]


@pytest.mark.parametrize(
    "container",
    [
        Container("..", "web-0", "main"),
        Container("test", "..", "main"),
        Container("test", "../test/web-0", "main"),
        Container("test", "web-0", "../web-0/main"),
        Container("test", "web-0", ""),
        Container("test", "web-0\n", "main"),
        Container("/etc", "web-0", "main"),
        Container("test", "web-0", "main\0"),
        Container("test", "web-0", "MAIN"),
        Container("test", "w" * 400, "main"),
        Container("test", "web-1", "main"),
    ],
)
def test_what_is_no_name_has_no_log(folder: Path, container: Container) -> None:
    """No way leads out of the folder."""
    with pytest.raises(ArchiveError) as caught:
        read(folder, container, ALL)

    assert str(caught.value) == (
        f"the archive has no log of {container}; one that never started has none"
    )


@pytest.mark.parametrize("part", ["pods", "pods/test", "pods/test/web-0"])
def test_link_to_a_folder_is_not_followed(
    folder: Path, tmp_path: Path, part: str
) -> None:
    """Wherever it stands on the way."""
    (folder / part).rename(tmp_path / "elsewhere")
    (folder / part).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ArchiveError, match="^the archive has no log of container main"):
        read(folder, MAIN, ALL)


def test_what_is_no_file_is_not_read(folder: Path, tmp_path: Path) -> None:
    """A link shows files of this user's; a pipe would be waited for without end."""
    (tmp_path / "secret").write_text("hunter2")
    pod = folder / "pods/test/web-0"
    (pod / "link.log").symlink_to(tmp_path / "secret")
    os.mkfifo(pod / "pipe.log")
    (pod / "folder.log").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(ArchiveError, match=f"has no log of container {name} of"):
            read(folder, MAIN._replace(name=name), ALL)


def test_folder_without_any_log_says_where_there_are_some(tmp_path: Path) -> None:
    """That of a test on kwok or envtest."""
    with pytest.raises(ArchiveError) as caught:
        read(tmp_path, MAIN, ALL)

    assert str(caught.value) == (
        "the archive has no log of container main of pod test/web-0, nor of any other: "
        "there are logs of pods only where their containers really run, as on kind"
    )


def test_time_of_another_form_is_none() -> None:
    """The API server writes one form only."""
    assert utc("2026-01-02T04:04:05.123456789+01:00") == datetime(
        2026, 1, 2, 3, 4, 5, 123456, UTC
    )
    with pytest.raises(ValueError, match="^yesterday$"):
        utc("yesterday")
