"""What CI systems show of failed tests: texts in their formats. Knows no pytest.

Node ids, errors and logs are whatever a test makes them: nothing in them may end a
block, start a command or colour a terminal.
"""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

SUMMARY_LIMIT = 1024**2
"""Bytes; GitHub refuses a step's summary that is larger, all of it."""

SUMMARY_FULL = "\nMore tests failed; a summary of a step has no room for them.\n"
INDEX = "index"
ARTIFACTS = "kube_artifacts"
"""The property of a test in JUnit XML that names its folder."""

_TITLE = "# Failed tests"
_ERROR_LENGTH = 300
_ESCAPES = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]"  # colours and cursors
    "|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?"  # titles and links
    "|\x1b."
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    "|[\u202a-\u202e\u2066-\u2069]"  # which turn the rest of a line around
    "|[\ud800-\udfff]"
)


@dataclass(frozen=True)
class Failure:
    """A test that failed.

    Attributes:
        test: Its node id.
        cluster: What it ran on.
        folder: Its artifacts, if there are any.
        time: When it failed, in UTC.
        error: What it failed with.
        diagnostics: The section of its report.
        file: Where it failed, as the CI system names files.
        line: The line there, from 1.
    """

    test: str
    cluster: str
    folder: Path | None
    time: datetime
    error: str
    diagnostics: str = ""
    file: str = ""
    line: int = 1


def plain(text: str) -> str:
    """Return text without what terminals obey."""
    return _ESCAPES.sub("", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Return the first line of a text that has something in it, cut if it is long."""
    lines = (line.strip() for line in plain(text).splitlines())
    line = next(filter(None, lines), "")
    return line if len(line) <= _ERROR_LENGTH else line[: _ERROR_LENGTH - 1] + "…"


# --- GitHub ---------------------------------------------------------------------


def add_to_summary(path: Path, failure: Failure) -> None:
    """Append a test to the summary of a step, or say that there is no room for it.

    Raises:
        OSError: The file cannot be written.
    """
    text = f"\n### {code(failure.test)}\n\n{fenced(_told(failure))}\n".encode()
    full = SUMMARY_FULL.encode()
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        if size + len(text) + len(full) <= SUMMARY_LIMIT:
            file.write(text)
            return
        file.seek(max(0, size - len(full)))
        if file.read() != full and size + len(full) <= SUMMARY_LIMIT:
            file.write(full)


def _told(failure: Failure) -> str:
    return f"{one_line(failure.error)}\n\n{plain(failure.diagnostics)}".strip()


def fenced(text: str) -> str:
    """Return text as a block of Markdown that nothing in it ends."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}text\n{text}\n{fence}"


def code(text: str) -> str:
    """Return text as code within a line of Markdown."""
    line = " ".join(plain(text).split())
    marks = "`" * (1 + _longest_run(line))
    space = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{marks}{space}{line}{space}{marks}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def error_command(failure: Failure) -> str:
    """Return the line that makes GitHub mark the line where a test failed."""
    where = {"file": failure.file, "line": str(failure.line), "title": failure.test}
    given = ",".join(
        f"{name}={_property(plain(value))}" for name, value in where.items() if value
    )
    message = one_line(failure.error) or "failed"
    if failure.folder:
        message += f"\nkube artifacts: {failure.folder.name}"
    return f"::error {given}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# --- GitLab, Jenkins ------------------------------------------------------------


def attach(report: Path, *, root: Path, project: Path) -> None:
    """Name the artifacts of tests in a JUnit XML file, in the way GitLab looks for.

    Args:
        report: The file, as pytest has written it.
        root: What paths in it are relative to.
        project: What paths of attachments are relative to.

    Raises:
        OSError: The file cannot be read or written.
        xml.etree.ElementTree.ParseError: It is no XML.
    """
    tree = ET.parse(report)  # noqa: S314  # ours
    for case in tree.iter("testcase"):
        for each in case.iterfind("properties/property"):
            if each.get("name") != ARTIFACTS:
                continue
            out = case.find("system-out")
            if out is None:
                out = ET.SubElement(case, "system-out")
            lines = _attachments(root / str(each.get("value")), project)
            out.text = "\n".join(filter(None, [out.text, *lines]))
    tree.write(report, encoding="utf-8", xml_declaration=True)


def _attachments(folder: Path, project: Path) -> Iterator[str]:
    if not folder.is_dir():
        return
    files = [path for path in folder.iterdir() if path.is_file()]
    # GitLab may show one of them only: what is for people comes first.
    suffixes = (".html", ".md", ".txt")
    order = {suffix: i for i, suffix in enumerate(suffixes)}
    files.sort(key=lambda p: (order.get(p.suffix, len(order)), p.name))
    for path in files:
        yield f"[[ATTACHMENT|{relative(path, project)}]]"


def relative(path: Path, start: Path) -> str:
    """Return a path as seen from a folder that it is in; else as it is."""
    if path.is_relative_to(start):
        path = path.relative_to(start)
    return path.as_posix()


# --- the index of a run ---------------------------------------------------------


def add_to_index(folder: Path, failure: Failure, *, new: bool) -> None:
    """Add a test to ``index.md`` and ``index.jsonl`` of the folder of artifacts.

    Args:
        folder: The folder.
        failure: The test.
        new: Whether it is the first one of its run, which replaces those of another.

    Raises:
        OSError: They cannot be written, or others made them.
    """
    where = failure.folder.name if failure.folder else ""
    line = {
        "test": failure.test,
        "folder": where,
        "cluster": failure.cluster,
        "time": failure.time.isoformat(),
        "error": one_line(failure.error),
    }
    text = (
        f"- [{code(failure.test)}]({where}/)\n"
        f"  {code(failure.cluster)}, {failure.time:%Y-%m-%d %H:%M:%S} UTC\n"
        f"  {code(line['error'] or 'failed')}\n"
    )
    _append(folder / f"{INDEX}.jsonl", json.dumps(line) + "\n", new=new)
    _append(folder / f"{INDEX}.md", f"{_TITLE}\n\n{text}" if new else text, new=new)


def remove_index(folder: Path) -> None:
    """Remove the index of an earlier run; one that others made stays."""
    for suffix in ("jsonl", "md"):
        path = folder / f"{INDEX}.{suffix}"
        if path.is_file() and _is_ours(path):
            path.unlink()


def _append(path: Path, text: str, *, new: bool) -> None:
    if new and path.exists() and not _is_ours(path):
        raise FileExistsError(None, "somebody else's file is there", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w" if new else "a", encoding="utf-8") as file:
        file.write(text)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.readline(1024)
    return start.startswith((_TITLE.encode() + b"\n", b'{"test": "'))
