"""Specifications of controllers: the strings of ``kube_controller``, and functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_kube.controllers import callables, executables
from pytest_kube.errors import ControllerError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kube.controllers.runner import Surroundings, Work

__tracebackhide__ = hide_frames


def load(
    spec: str | Sequence[str] | Callable[..., Any] | object,
    surroundings: Surroundings,
    **options: Any,
) -> Work:
    """Turn a specification into work.

    Args:
        spec: ``kopf:FILE.py``, ``kopf:package.module``, ``package.module:callable``,
            ``exec:PROGRAM ARGUMENTS``, a list of a program and its arguments, or a
            function, a registry of kopf, or an object with ``start()`` and ``stop()``
            or a context manager.
        surroundings: What it is given.
        options: For kopf, arguments of ``kopf.operator``; for functions, further
            keyword arguments; for programs, ``ready`` and ``env``.

    Raises:
        ControllerError: The specification is wrong, or what it names cannot be
            imported or found; the cause is the controller's own exception.
    """
    if not isinstance(spec, str | Sequence):
        return _python(spec, "registry", surroundings, options)
    if not isinstance(spec, str):
        return executables.ExecutableWork(spec, surroundings, options)
    kind, colon, rest = spec.partition(":")
    if kind == "kopf" and rest:
        return _kopf(rest, surroundings, options)
    if kind == "exec" and rest:
        return executables.ExecutableWork(rest, surroundings, options)
    if colon and rest.isidentifier():
        return _python(callables.imported(kind, rest), spec, surroundings, options)
    raise ControllerError(
        f"{spec!r} names no controller. It is one of:\n"
        "  kopf:src/operator.py        a kopf operator by file\n"
        "  kopf:package.module         a kopf operator by module\n"
        "  package.module:callable     a function, async or with a stop event,\n"
        "                              or an object with start() and stop()\n"
        "  package.module:registry     a kopf operator by its OperatorRegistry\n"
        "  exec:./bin/manager --flag   a program"
    )


def runs_here(spec: object) -> bool:
    """Tell whether a specification is of something that runs in this process."""
    if isinstance(spec, str):
        return not spec.startswith("exec:")
    return not isinstance(spec, Sequence)


def _kopf(
    target: str,
    surroundings: Surroundings,
    options: dict[str, Any],
    registry: Any = None,
) -> Work:
    from pytest_kube.controllers import kopf

    return kopf.KopfWork(target, surroundings, options, registry)


def _python(
    target: Any, name: str, surroundings: Surroundings, options: dict[str, Any]
) -> Work:
    if callables.is_registry(target):
        return _kopf(name, surroundings, options, registry=target)
    if callables.is_object(target):
        return callables.ObjectWork(target, options)
    if not callable(target):
        raise ControllerError(
            f"{target!r} is no controller: neither a function nor an object with "
            "start() and stop(), nor a context manager, nor a registry of kopf"
        )
    return callables.work(target, surroundings, options)
