"""Controllers that are programs: Go and Rust binaries, scripts."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING, Any

from pytest_kube.errors import ControllerError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kube.controllers.runner import Controller, Surroundings
    from pytest_kube.system.processes import Process

__tracebackhide__ = hide_frames

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL."""


class ExecutableWork:
    """A program with KUBECONFIG and NAMESPACE in its environment.

    ``{kubeconfig}`` and ``{namespace}`` in its arguments are filled in. It counts as
    ready when it runs.
    """

    def __init__(
        self, command: str, surroundings: Surroundings, options: Mapping[str, Any]
    ) -> None:
        if options:
            raise ControllerError(
                f"exec:{command}: no options are known, got {', '.join(options)}"
            )
        try:
            words = shlex.split(command)
        except ValueError as e:
            raise ControllerError(f"exec:{command}: {e}; quote as in a shell") from e
        if not words:
            raise ControllerError(f"exec:{command}: no program is named")
        self.name = f"exec:{words[0]}"
        self._surroundings = surroundings
        self._argv = [self._filled(word) for word in words]
        program = surroundings.folder / self._argv[0]
        found = str(program) if program.is_file() else shutil.which(self._argv[0])
        if found is None:
            raise ControllerError(
                f"controller {self.name}: no such program; looked at {program} and on "
                "PATH. Was it built?"
            )
        if not os.access(found, os.X_OK):
            raise ControllerError(
                f"controller {self.name}: {found} is not executable; chmod +x it"
            )
        self._argv[0] = found
        self._process: Process | None = None

    def run(self, controller: Controller) -> None:
        """Start the program and wait for its end."""
        where = self._surroundings
        env = {
            **os.environ,
            "KUBECONFIG": str(where.kubeconfig),
            "NAMESPACE": where.namespace,
        }
        name = f"controller-{where.namespace}-{os.path.basename(self._argv[0])}"  # noqa: PTH119
        self._process = where.guardian.start(
            name, self._argv, env=env, cwd=where.folder
        )
        controller.writes_to(self._process.log)
        controller.ready()
        code = self._process.exited.result()
        if code != 0 and not self._stopped:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ControllerError(f"{self._argv[0]} ended with {how}")

    _stopped = False

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after a grace period."""
        self._stopped = True
        if self._process is not None:
            self._surroundings.guardian.stop(self._process, grace=GRACE)

    def waiting_for(self) -> str:
        """Say that it has not been started."""
        return "the program was not started"

    def _filled(self, word: str) -> str:
        return word.replace("{kubeconfig}", str(self._surroundings.kubeconfig)).replace(
            "{namespace}", self._surroundings.namespace
        )
