"""What a run tells CI systems of its failed tests, beside what pytest prints.

The process that the user has started writes everything; workers of pytest-xdist send
what is to be known of a test with its report.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import pytest

from pytest_kube.diagnostics import ci

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from pytest_kube.failures import Failures

_SECTION = "kube diagnostics"
_ANNOTATES = "pytest_github_actions_annotate_failures"


class RunReport:
    """The hooks that write it: a plugin of its own, while there is a cluster."""

    def __init__(
        self, config: pytest.Config, failures: Failures, environ: Mapping[str, str]
    ) -> None:
        self._config = config
        self._failures = failures
        self._environ = environ
        self._is_worker = hasattr(config, "workerinput")
        self._failed: dict[str, ci.Failure] = {}
        self._problems: dict[str, None] = {}

    # --- where the test ran -------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note what is to be known of a test, after its artifacts were collected."""
        report = yield
        handle = self._failures.handle_of(item)
        if handle is None or not (report.failed or report.when == "call"):
            return report
        name, folder = handle.cluster.name, self._failures.kept(item, report)
        noted = {"cluster": name, "folder": str(folder) if folder else None}
        vars(report)["kube"] = noted
        if self._option("xmlpath"):
            self._add_properties(item, report, name, folder)
        if folder and self._config.pluginmanager.hasplugin("html"):
            self._add_link(report, folder)
        return report

    def _add_properties(
        self,
        item: pytest.Item,
        report: pytest.TestReport,
        cluster: str,
        folder: Path | None,
    ) -> None:
        found = [("kube_cluster", cluster)]
        if folder:
            found.append((ci.ARTIFACTS, ci.relative(folder, self._config.rootpath)))
        for each in found:
            if each not in item.user_properties:
                item.user_properties.append(each)  # for the reports to come
                report.user_properties.append(each)

    def _add_link(self, report: pytest.TestReport, folder: Path) -> None:
        page = self._option("htmlpath")
        if not page:
            return
        with contextlib.suppress(ImportError):
            from pytest_html import extras

            # Only a relative one works where both were downloaded from a CI.
            link = os.path.relpath(folder, Path(page).absolute().parent)
            found = [*getattr(report, "extras", [])]
            found.append(extras.url(Path(link).as_posix() + "/", name="kube artifacts"))
            vars(report)["extras"] = found

    def pytest_keyboard_interrupt(
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> None:
        """Collect what the test that was interrupted did; its fixtures still stand."""
        if excinfo.errisinstance(KeyboardInterrupt):
            self._failures.interrupted()

    # --- in the process of the user -----------------------------------------

    def pytest_sessionstart(self) -> None:
        """Remove the index of an earlier run: its tests are not those of this one."""
        if not self._is_worker and not self._config.option.collectonly:
            with self._told(self._failures.artifacts_dir):
                ci.remove_index(self._failures.artifacts_dir)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write down the first failure of each test, at once: a run may be killed."""
        noted: dict[str, Any] | None = getattr(report, "kube", None)
        if self._is_worker or noted is None or not report.failed:
            return
        if report.nodeid in self._failed:
            return
        folder = Path(noted["folder"]) if noted["folder"] else None
        failure = self._failure(report, noted["cluster"], folder)
        new = all(known.folder is None for known in self._failed.values())
        self._failed[report.nodeid] = failure
        if folder:
            with self._told(folder.parent):
                ci.add_to_index(folder.parent, failure, new=new)
        if summary := self._environ.get("GITHUB_STEP_SUMMARY"):
            with self._told(Path(summary)):
                ci.add_to_summary(Path(summary), failure)

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Mark the lines of failures on GitHub; say what could not be written."""
        on_github = self._environ.get("GITHUB_ACTIONS") == "true"
        # That plugin marks the same lines.
        if on_github and not self._config.pluginmanager.hasplugin(_ANNOTATES):
            for failure in self._failed.values():
                terminalreporter.write_line(ci.error_command(failure))
        for problem in self._problems:
            terminalreporter.write_line(f"kube: {problem}")

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        """Attach the artifacts on GitLab, after pytest has written its JUnit XML."""
        yield
        page = self._option("xmlpath")
        if not page or self._is_worker or not self._environ.get("GITLAB_CI"):
            return
        path, root = Path(os.path.expandvars(page)).expanduser(), self._config.rootpath
        project = Path(self._environ.get("CI_PROJECT_DIR") or root)
        with self._told(path):
            ci.attach(path, root=root, project=project)

    def _failure(
        self, report: pytest.TestReport, cluster: str, folder: Path | None
    ) -> ci.Failure:
        workspace = Path(self._environ.get("GITHUB_WORKSPACE") or self._config.rootpath)
        name, line, _ = report.location
        file, line = self._config.rootpath / name, (line or 0) + 1
        crash = getattr(report.longrepr, "reprcrash", None)
        error = crash.message if crash else report.longreprtext.strip()
        if crash and Path(crash.path).is_relative_to(workspace):
            file, line = Path(crash.path), crash.lineno
        sections = [text for name, text in report.sections if name == _SECTION]
        return ci.Failure(
            test=report.nodeid,
            cluster=cluster,
            folder=folder,
            time=datetime.fromtimestamp(report.stop, UTC),
            error=error,
            diagnostics="\n".join(sections),
            file=ci.relative(file, workspace),
            line=line,
        )

    def _option(self, name: str) -> str | None:
        found: str | None = self._config.getoption(name, default=None)
        return found

    @contextlib.contextmanager
    def _told(self, path: Path) -> Generator[None, None, None]:
        """Make what cannot be written a line at the end, and no error of a test."""
        try:
            yield
        except (OSError, ParseError) as e:
            reason = (isinstance(e, OSError) and e.strerror) or str(e)
            place = getattr(e, "filename", None) or path
            self._problems[f"{place} could not be written: {reason}"] = None
