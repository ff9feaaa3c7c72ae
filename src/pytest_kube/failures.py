"""What is done when a test fails: diagnostics are collected while all still stands."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.errors import KubeError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kube.kube import Kube
    from pytest_kube.session import Session

__tracebackhide__ = hide_frames

_CONTEXTLIB = Path(contextlib.__file__)
_FOLDER_NAME_LENGTH = 120

_HANDLE = pytest.StashKey["Kube"]()
_IS_COLLECTED = pytest.StashKey[bool]()
_SECTION = pytest.StashKey[str]()


class Failures:
    """The failed tests of one pytest run.

    Attributes:
        artifacts_dir: Where their diagnostics are kept.
        timer: The test that pytest-timeout counts down, and with which settings.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.artifacts_dir = session.settings.artifacts_dir
        self.timer: tuple[pytest.Item, Any] | None = None
        self._running: pytest.Item | None = None

    @contextlib.contextmanager
    def watch(
        self, node: pytest.Item | pytest.Collector, handle: Kube
    ) -> Iterator[None]:
        """Know the handle of a test, and that the test runs now."""
        node.stash[_HANDLE] = handle
        node.stash[_IS_COLLECTED] = False
        self._running = node if isinstance(node, pytest.Item) else self._running
        try:
            yield
        finally:
            if self._running is node:
                self._running = None

    def note(self, item: pytest.Item, failure: str) -> None:
        """Collect now what pytest will ask for after the test has been torn down."""
        item.stash[_SECTION] = self._section(item, failure)

    def tidy(self, error: pytest.ExceptionInfo[BaseException]) -> None:
        """Leave the standard library's frames out of the traceback of an error of ours.

        Our own are hidden; those between them say even less.
        """
        if error.errisinstance(KubeError):
            told = error.traceback.filter(lambda f: f.path != _CONTEXTLIB)
            error.traceback = told or error.traceback

    def handle_of(self, item: pytest.Item) -> Kube | None:
        """Return the handle that a test has, or had."""
        return item.stash.get(_HANDLE, None)

    def kept(self, item: pytest.Item, report: pytest.TestReport) -> Path | None:
        """Return the folder in which the artifacts of a report are, if it has any."""
        mode = self._session.settings.artifacts
        wanted = report.failed or (mode == "all" and report.when == "call")
        if mode == "none" or not wanted or _HANDLE not in item.stash:
            return None
        folder = self.artifacts_dir / _folder_name(item.nodeid)
        return folder if folder.is_dir() else None

    def collect(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Collect diagnostics of a failed test, while everything is still there."""
        wanted = report.failed or (
            self._session.settings.artifacts == "all" and report.when == "call"
        )
        if not wanted or _HANDLE not in item.stash:
            return
        text = item.stash.get(_SECTION, "")
        if text:
            del item.stash[_SECTION]
        else:
            outcome = "failed" if report.failed else "passed"
            text = self._section(item, report.longreprtext, outcome=outcome)
        if report.failed:
            report.sections.append(("kube diagnostics", text))

    def interrupted(self) -> None:
        """Collect diagnostics of the test that runs, before it is torn down."""
        item = self._running
        if (
            item is None
            or item.stash[_IS_COLLECTED]
            or self._session.settings.artifacts == "none"
        ):
            return
        folder = self._session.shown(self.artifacts_dir / _folder_name(item.nodeid))
        try:
            self._section(item, "", outcome="interrupted")
        except KeyboardInterrupt:
            self._session.tell("interrupted again: diagnostics are not complete")
        else:
            self._session.tell(f"{item.nodeid} was interrupted: {folder}")

    def _section(
        self, item: pytest.Item, failure: str, *, outcome: str = "failed"
    ) -> str:
        """Collect what explains a failure; return the section for the report."""
        folder = None
        # What the failure of the test has left is not replaced by that of its teardown.
        if self._session.settings.artifacts != "none" and not item.stash[_IS_COLLECTED]:
            item.stash[_IS_COLLECTED] = True
            folder = self.artifacts_dir / _folder_name(item.nodeid)
            self._session.artifacts += 1
        shown = self._session.shown(folder) if folder else ""
        with self._without_timer():
            from pytest_kube.diagnostics import collect  # half a second, the first time

            return collect.collect(
                item.stash[_HANDLE],
                folder,
                shown=shown,
                test=item.nodeid,
                failure=failure,
                outcome=outcome,
                secrets=self._session.settings.redacted_values(os.environ),
            )

    @contextlib.contextmanager
    def _without_timer(self) -> Iterator[None]:
        """Let pytest-timeout not end what has a limit of its own.

        It would end all of pytest: no test would be there to fail. Afterwards it counts
        from the beginning.
        """
        timer = self.timer
        if timer is None:
            yield
            return
        item, settings = timer
        item.ihook.pytest_timeout_cancel_timer(item=item)
        try:
            yield
        finally:
            item.ihook.pytest_timeout_set_timer(item=item, settings=settings)


def _folder_name(nodeid: str) -> str:
    """Make a folder name of a node id that every file system and CI accepts.

    Where that loses what tells tests apart, a hash of the node id does.
    """
    path, _, test = nodeid.partition("::")
    test = test.replace("::", ".").replace("[", "-", 1).removesuffix("]")
    plain = f"{path.replace('/', '-')}.{test}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)
    if name != plain or len(name) > _FOLDER_NAME_LENGTH:
        digest = hashlib.sha256(nodeid.encode()).hexdigest()[:8]
        name = f"{name[: _FOLDER_NAME_LENGTH - 9].strip('-')}-{digest}"
    return name
