"""The exceptions of pytest-kube: what was wanted, what was seen, what can be done.

The tree::

    KubeError
    ├── SettingsError            an option, an ini value or a profile is wrong
    ├── BinaryError              a program could not be found, downloaded or built
    ├── ManifestError            a file is not what kubectl would read
    ├── ClusterError             a cluster could not be created or used
    │   ├── ComponentExitedError     one of its processes ended by itself
    │   ├── ComponentNotReadyError   one of its processes did not become ready
    │   └── RollbackError            it could not be brought back to a mark
    ├── APIError                 the API server refused a request
    │   ├── NotFoundError            404
    │   └── ConflictError            409
    ├── UnknownResourceError     the API serves no such kind
    ├── ExecError                a command in a pod failed
    ├── WaitTimeoutError         a condition was not reached in time
    ├── WaitFailedError          a condition cannot be reached any more, or did not hold
    ├── NotRejectedError         the API server took what it should have rejected
    ├── HistoryError             what happened is not what was asserted
    ├── ArchiveError             an archived state cannot be read, or written
    └── ControllerError          the controller under test
        ├── ControllerExitedError    it ended, with its own exception as the cause
        └── ControllerNotReadyError  it did not become ready
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class KubeError(Exception):
    """The base of everything that pytest-kube raises on purpose."""


class KubeWarning(UserWarning):
    """Something about the controller under test that its author wants to know."""


class SettingsError(KubeError):
    """An option, an ini value or a profile is wrong; shown as a usage error."""


class BinaryError(KubeError):
    """A program could not be found, downloaded or built.

    Attributes:
        name: The program, for example ``kube-apiserver``.
    """

    def __init__(self, text: str, *, name: str) -> None:
        super().__init__(text)
        self.name = name


class ManifestError(KubeError):
    """A manifest file is missing or is not what kubectl would accept.

    Attributes:
        source: The file, or ``None`` for text and objects.
        line: The line in it, counted from 1, where known.
    """

    def __init__(
        self, text: str, *, source: Path | None = None, line: int | None = None
    ) -> None:
        where = "" if source is None else f"{source}{f':{line}' if line else ''}: "
        super().__init__(where + text)
        self.source = source
        self.line = line


class ClusterError(KubeError):
    """A cluster could not be created, or stopped working."""


class ComponentExitedError(ClusterError):
    """A process of the control plane ended by itself.

    Attributes:
        component: Its name, for example ``etcd``.
        exit_code: Its exit code; negative is the number of a signal.
        log_tail: The last lines of its log.
    """

    def __init__(
        self, text: str, *, component: str, exit_code: int, log_tail: str
    ) -> None:
        super().__init__(text)
        self.component = component
        self.exit_code = exit_code
        self.log_tail = log_tail


class ComponentNotReadyError(ClusterError, TimeoutError):
    """A process of the control plane runs but did not become ready in time.

    Attributes:
        component: Its name.
        elapsed: Seconds that were waited.
        log_tail: The last lines of its log.
    """

    def __init__(
        self, text: str, *, component: str, elapsed: float, log_tail: str
    ) -> None:
        super().__init__(text)
        self.component = component
        self.elapsed = elapsed
        self.log_tail = log_tail


class RollbackError(ClusterError):
    """A cluster could not be brought back to a mark; the next test gets a new one."""


class APIError(KubeError):
    """The API server refused a request.

    Attributes:
        status: The HTTP status code.
        reason: Kubernetes' one-word reason, for example ``Invalid``; may be empty.
        details: The ``Status`` object as received; empty for other answers.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int,
        reason: str = "",
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.details = details or {}


class NotFoundError(APIError, LookupError):
    """The object, or the path, does not exist (404)."""


class ConflictError(APIError):
    """The object exists already, or was changed meanwhile (409)."""


class UnknownResourceError(KubeError, LookupError):
    """The API server serves no kind of that name, or several.

    Attributes:
        kind: What was asked for.
    """

    def __init__(self, text: str, *, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class ExecError(KubeError):
    """A command in a pod failed, or there is no such log.

    Attributes:
        exit_code: Of the command; ``None`` when it took too long.
        output: What it wrote to its standard output.
        error: And to its standard error.
    """

    def __init__(
        self, text: str, *, exit_code: int | None, output: str, error: str
    ) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.output = output
        self.error = error


class WaitTimeoutError(KubeError, TimeoutError):
    """A condition was not reached in time.

    Attributes:
        last: The object as last seen, or ``None`` when it did not exist.
        elapsed: Seconds that were waited.
    """

    def __init__(
        self, text: str, *, last: dict[str, Any] | None, elapsed: float
    ) -> None:
        super().__init__(text)
        self.last = last
        self.elapsed = elapsed


class WaitFailedError(KubeError, AssertionError):
    """A condition cannot be reached any more, or did not hold for as long as it should.

    Attributes:
        last: The object as last seen, or ``None`` when it did not exist.
        elapsed: Seconds after which that was clear.
    """

    def __init__(
        self, text: str, *, last: dict[str, Any] | None, elapsed: float
    ) -> None:
        super().__init__(text)
        self.last = last
        self.elapsed = elapsed


class NotRejectedError(KubeError, AssertionError):
    """The API server took an object that it should have rejected, or said another why.

    Attributes:
        object: What it answered: the object, or the ``Status`` of the rejection.
    """

    def __init__(self, text: str, *, answer: dict[str, Any]) -> None:
        super().__init__(text)
        self.object = answer


class HistoryError(KubeError, AssertionError):
    """What happened since the test began is not what was asserted.

    Attributes:
        version: The offending version, a `Version`; ``None`` when nothing happened.
    """

    def __init__(self, text: str, *, version: Any = None) -> None:
        super().__init__(text)
        self.version = version


class ArchiveError(KubeError):
    """An archived state cannot be read or written, or has no such moment.

    Attributes:
        line: The line of the file that is wrong, counted from 1, where it is one.
    """

    def __init__(self, text: str, *, line: int | None = None) -> None:
        super().__init__(text)
        self.line = line


class ControllerError(KubeError):
    """The controller under test cannot be run."""


class ControllerExitedError(ControllerError):
    """The controller under test ended by itself; its exception is the cause."""


class ControllerNotReadyError(ControllerError, TimeoutError):
    """The controller under test did not become ready in time."""


def hide_frames(excinfo: Any) -> bool:
    """Keep our own frames out of the tracebacks of errors that we raise on purpose.

    Modules set ``__tracebackhide__`` to this; pytest calls it with its ExceptionInfo.
    Of a bug of ours, every frame is shown.
    """
    return excinfo is not None and issubclass(excinfo.type, KubeError | ValueError)


# What people read is the name they import it by: pytest_kube.WaitTimeoutError.
for _error in [e for e in globals().values() if isinstance(e, type)]:
    if issubclass(_error, KubeError):
        _error.__module__ = "pytest_kube"
