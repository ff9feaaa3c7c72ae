"""Collect what explains a failed test, for people and as files. Never raises."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pytest_kube.diagnostics import evidence, report, section
from pytest_kube.diagnostics.folder import Folder
from pytest_kube.state import archive_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_kube.kube import Kube


def collect(
    kube: Kube,
    folder: Path | None,
    *,
    shown: str = "",
    test: str,
    failure: str = "",
    outcome: str = "failed",
    secrets: Iterable[str] = (),
) -> str:
    """Collect into *folder*, if there is one, and return the section for the report.

    Args:
        kube: The handle of the test.
        folder: Where files go, replaced if it exists; ``None`` for none.
        shown: The folder as the section names it.
        test: The node id of the test.
        failure: The text of its failure; empty if it has not failed.
        outcome: How it ended, in a word.
        secrets: What may not be shown, besides what stands in Secrets.
    """
    try:
        found = evidence.gather(kube, secrets)
        explained = section.explain(kube, found, failure=failure)
        lines = [found.redactor.text(line) for line in explained]
        if folder is None:
            return section.fit(lines, found.problems, [])
        files = Folder(folder, kube, found, test, outcome, failure)
        ends = _written(files, shown)
        text = section.fit(lines, found.problems, ends)
        files.summarize(text)
    except Exception as e:  # noqa: BLE001  # a failure must not become another error
        return f"diagnostics could not be collected: {type(e).__name__}: {e}"
    return text


def _written(files: Folder, shown: str) -> list[str]:
    """Write the files; return the lines that say where they are."""
    try:
        files.write()
    except OSError as e:
        return [f"artifacts   could not be written: {e}"]
    lines = [f"artifacts   {shown}"]
    if report.NAME in files.written:
        lines.append(f"report      {shown}/{report.NAME}")
    if archive_file.NAME in files.written:
        lines.append(f"replay      pytest-kube replay {shlex.quote(shown)}")
    elif files.kube.cluster.state is None:
        name = files.kube.cluster.name
        lines.append(
            f"replay      not possible: the etcd of the {name} is out of reach"
        )
    return lines
