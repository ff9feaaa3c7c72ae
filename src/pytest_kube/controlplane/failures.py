"""What a component's end, or its silence, is reported as."""

from __future__ import annotations

import re
from textwrap import indent
from typing import TYPE_CHECKING

from pytest_kube.errors import ComponentExitedError, ComponentNotReadyError

if TYPE_CHECKING:
    from pytest_kube.profiles import Profile
    from pytest_kube.system.processes import Process

_TELLING = re.compile(
    r"error|unknown|invalid|fail|fatal|panic|denied|not defined|not supported|in use",
    re.IGNORECASE,
)


def exited(
    process: Process, profile: Profile, when: str = "before it was ready"
) -> ComponentExitedError:
    """Return the error for a component that ended by itself."""
    code = process.exited.result()
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    text = f"{process.name} ended with {how} {when}."
    if extra := profile.extra_args.get(process.name):
        given = " ".join(f"--{k}={v}" for k, v in extra.items())
        program = next(a for a in process.argv if a.endswith(f"/{process.name}"))
        text += (
            f"\n  The profile {profile.name!r} gives it extra arguments: {given}"
            f"\n  Does this version know them? {program} --help lists all."
        )
    log_tail = process.log_tail(lines=300)
    return ComponentExitedError(
        f"{text}\n  From its log:\n{indent(_telling(log_tail), '    ')}",
        component=process.name,
        exit_code=code,
        log_tail=log_tail,
    )


def _telling(log_tail: str) -> str:
    """Pick the lines that say what went wrong from a log that may end in usage text."""
    lines = [line.rstrip() for line in log_tail.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line) and line[:2] != "--"]
    return "\n".join(line[:400] for line in (telling or lines)[-8:])


def not_ready(
    process: Process, elapsed: float, seen: Exception | None
) -> ComponentNotReadyError:
    """Return the error for a component that runs, but was not ready in time.

    Args:
        process: The component.
        elapsed: Seconds that were waited.
        seen: What it answered last.
    """
    log_tail = process.log_tail()
    return ComponentNotReadyError(
        f"{process.name} runs (pid {process.pid}) but was not ready within "
        f"{elapsed:.0f} s"
        f"\n  last answer  {seen}"
        f"\n  log          {process.log}, which ends:\n{indent(log_tail, '    ')}",
        component=process.name,
        elapsed=elapsed,
        log_tail=log_tail,
    )
