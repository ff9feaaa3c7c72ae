"""Controllers that are programs: Go and Rust binaries, scripts."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kube.controllers import ready
from pytest_kube.errors import ClusterError, ControllerError, hide_frames
from pytest_kube.system.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kube.controllers.runner import Controller, Surroundings
    from pytest_kube.system.processes import Process

__tracebackhide__ = hide_frames

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL."""

OPTIONS = ("ready", "env")
INTERVAL = 0.01
"""Seconds between two looks whether it is ready."""

_FORMAT = "Exec format error"
_FIELD = re.compile(r"\{(kubeconfig|namespace|port:[\w.-]+)\}")


class ExecutableWork:
    """A program with KUBECONFIG and NAMESPACE in its environment.

    ``{kubeconfig}``, ``{namespace}`` and ``{port:NAME}``, a free port, the same one for
    the same name, are filled in, in its arguments, its environment and where it says
    that it is ready.

    Args:
        command: The program and its arguments; text is split as a shell does.
        surroundings: What it is given.
        options: ``ready``: see `ready.check`; where the API server has an audit log,
            ``watches`` is the default, else ``started``. ``env``: further variables.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        surroundings: Surroundings,
        options: Mapping[str, Any],
    ) -> None:
        shown = command if isinstance(command, str) else shlex.join(command)
        if unknown := sorted(options.keys() - set(OPTIONS)):
            raise ControllerError(
                f"exec:{shown}: no option {', '.join(unknown)}; there are "
                f"{', '.join(OPTIONS)}"
            )
        try:
            words = shlex.split(command) if isinstance(command, str) else list(command)
        except ValueError as e:
            raise ControllerError(f"exec:{shown}: {e}; quote as in a shell") from e
        if not words:
            raise ControllerError(f"exec:{shown}: no program is named")
        self.name = f"exec:{words[0]}"
        self.ports: dict[str, int] = {}
        self._surroundings = surroundings
        self._argv = [self._filled(word) for word in words]
        self._argv[0] = self._program(self._argv[0])
        self._env = {k: self._filled(v) for k, v in options.get("env", {}).items()}
        usual = "started" if surroundings.audit is None else "watches"
        self._check = ready.check(
            self._filled(options.get("ready") or usual), surroundings
        )
        self._process: Process | None = None
        self._stopped = threading.Event()

    def _program(self, word: str) -> str:
        path = self._surroundings.folder / word
        found = str(path) if path.is_file() else shutil.which(word)
        if found is None:
            raise ControllerError(
                f"controller {self.name}: no such program; looked at {path} and on "
                "PATH. Was it built?"
            )
        if not os.access(found, os.X_OK):
            raise ControllerError(
                f"controller {self.name}: {found} is not executable; chmod +x it"
            )
        return found

    def run(self, controller: Controller) -> None:
        """Start the program, and wait until it is ready, then until it ends."""
        where = self._surroundings
        env = {
            **os.environ,
            "KUBECONFIG": str(where.kubeconfig),
            "NAMESPACE": where.namespace,
            **self._env,
        }
        # A log of its own for each start: what an earlier one wrote says nothing.
        program = Path(self._argv[0]).name
        name = f"controller-{where.namespace}-{program}-{secrets.token_hex(3)}"
        try:
            self._process = where.guardian.start(
                name, self._argv, env=env, cwd=where.folder, timestamps=True
            )
        except ClusterError as e:
            other = "; was it built for another machine?" if _FORMAT in str(e) else ""
            raise ControllerError(f"{self._argv[0]}: {e}{other}") from e
        controller.writes_to(self._process.log)
        ended = self._process.exited
        while not (ended.done() or self._stopped.is_set()):
            if self._check.passes(self._process.log):
                controller.ready()
                break
            self._stopped.wait(INTERVAL)
        code = ended.result()
        if code != 0 and not self._stopped.is_set():
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ControllerError(f"{self._argv[0]} ended with {how}")

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after a grace period."""
        self._end(GRACE)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._end(0.0)

    def _end(self, grace: float) -> None:
        self._stopped.set()
        if self._process is not None:
            self.resume()  # who stands still hears no SIGTERM
            self._surroundings.guardian.stop(self._process, grace=grace)

    def pause(self) -> None:
        """Send SIGSTOP to it and its children."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and not self._process.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def waiting_for(self) -> str:
        """Say what is missing until it is ready."""
        return self._check.missing()

    def _filled(self, text: str) -> str:
        return _FIELD.sub(lambda match: self._value(match[1]), str(text))

    def _value(self, field: str) -> str:
        if field == "kubeconfig":
            return str(self._surroundings.kubeconfig)
        if field == "namespace":
            return self._surroundings.namespace
        name = field.partition(":")[2]
        if name not in self.ports:
            (self.ports[name],) = free_ports(1)
        return str(self.ports[name])
