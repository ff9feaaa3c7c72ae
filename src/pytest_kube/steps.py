"""What a test did with its handle, call by call: the steps of its story."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])
Answer = TypeVar("Answer")

__tracebackhide__ = True  # of a call they are in, nobody wants to see our frames

AT_MOST = 1000
"""Steps that are kept: those before them are of a loop that goes on and on."""

_brief = Repr()
_brief.maxstring = _brief.maxother = 60


@dataclass
class Step:
    """A call of one of the handle's methods by the test.

    Attributes:
        number: Its place among all of them, from 1.
        text: The call, as in the test, but shorter.
        began: When, in UTC.
        ended: When it returned or raised; ``None`` while it has not.
        error: What it raised, in a line; empty for nothing.
    """

    number: int
    text: str
    began: datetime
    ended: datetime | None = None
    error: str = ""


@dataclass
class Steps:
    """The steps of a test, oldest first."""

    _known: deque[Step] = field(default_factory=lambda: deque(maxlen=AT_MOST))
    _within: threading.local = field(default_factory=threading.local)
    _count: int = 0

    def all(self) -> list[Step]:
        """Return those that are kept."""
        return list(self._known)

    def take(self, do: Callable[[], Answer], describe: Callable[[], str]) -> Answer:
        """Make a call, and note it; not if it is made by another one of ours."""
        __tracebackhide__ = True
        if getattr(self._within, "step", False):
            return do()
        self._within.step = True
        self._count += 1
        step = Step(self._count, describe(), datetime.now(UTC))
        self._known.append(step)
        try:
            return do()
        except BaseException as e:
            step.error = f"{type(e).__name__}: {e}".partition("\n")[0]
            raise
        finally:
            step.ended = datetime.now(UTC)
            self._within.step = False


def step(method: Method) -> Method:
    """Let the calls of a method be steps of the test; its object has ``steps``."""

    @functools.wraps(method)
    def recorded(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        name = f"{type(self).__name__.lower()}.{method.__name__}"
        steps: Steps = self.steps
        return steps.take(
            lambda: method(self, *args, **kwargs), lambda: call(name, args, kwargs)
        )

    return cast("Method", recorded)


def call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a call as a test has it, but shorter."""
    shown = [*map(_shown, args), *(f"{k}={_shown(v)}" for k, v in kwargs.items())]
    return f"{name}({', '.join(shown)})"


def _shown(value: Any) -> str:
    """Return an argument as far as it says which; never what an object holds."""
    if isinstance(value, Mapping):
        metadata = value.get("metadata")
        if isinstance(metadata, Mapping):
            name = metadata.get("name") or metadata.get("generateName")
            return f"<{value.get('kind', 'object')} {name}>"
        return "{" + ", ".join(f"{k!s:.40}: …" for k in list(value)[:4]) + "}"
    if isinstance(value, Path):
        return f"{value.as_posix()!r}"
    if isinstance(value, str) and "\n" in value:
        return f"<{value.count(chr(10)) + 1} lines>"
    if isinstance(value, list | tuple):
        more = ["…"] if len(value) > 3 else []  # noqa: PLR2004
        return "[" + ", ".join([*map(_shown, value[:3]), *more]) + "]"
    name = getattr(value, "name", None) or getattr(value, "__name__", None)
    return str(name) if callable(value) and name else _brief.repr(value)
