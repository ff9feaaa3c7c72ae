"""What a controller does that no test asks about, and its author wants to know."""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pytest_kube import rbac
from pytest_kube.requests_log import REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from pytest_kube.requests_log import Request

WINDOW = timedelta(seconds=1)
HOT = 20
"""Requests of one kind about one object within the window, from which on it is no
reconciliation any more but a loop."""

IDLE_WRITES = 20
"""Writes of a test that changed nothing; one now and then is nobody's fault."""

_WRITES = {"create", "update", "patch"}
_UNTOLD = {"leases", "events"}
_FORBIDDEN = 403


def findings(asked: Sequence[Request]) -> list[str]:
    """Say what is wrong with what a controller has asked of the API server.

    Args:
        asked: Its requests in one test, oldest first.

    Returns:
        A text for each thing, of one line or several.
    """
    told = [r for r in asked if r.resource not in _UNTOLD and r.verb != "watch"]
    return [*lacking(asked), *_hot(told), *_refused(told), *_idle(told)]


def lacking(asked: Iterable[Request]) -> Iterator[str]:
    """Find what no role allowed."""
    if rules := rbac.missing(asked):
        headline = "was refused what it asked for; what its roles lack:"
        yield "\n".join([headline, *rbac.as_yaml(rules)])


def _hot(asked: Iterable[Request]) -> Iterator[str]:
    """Find the same request about the same object, again and again."""
    named = (r for r in asked if r.verb != "create" and r.code < REFUSED)
    for request, count in _bursts(named, _about):
        what = str(request).rpartition(":")[0]
        yield f"is in a hot loop: {what}, {count} times within a second"


def _refused(asked: Iterable[Request]) -> Iterator[str]:
    """Find what was refused again and again, roles left out."""
    failed = (r for r in asked if r.code >= REFUSED and r.code != _FORBIDDEN)
    for request, count in _bursts(failed, lambda r: (*_about(r), r.code)):
        yield f"was refused {count} times within a second: {request}"


def _idle(asked: Iterable[Request]) -> Iterator[str]:
    """Find writes that were answered with a version that was there before."""
    seen: set[Any] = set()
    idle: dict[Hashable, list[Request]] = defaultdict(list)
    for request in asked:
        if request.verb in _WRITES and request.version:
            if request.version in seen:
                idle[_about(request)].append(request)
            seen.add(request.version)
    for found in idle.values():
        if len(found) >= IDLE_WRITES:
            what = str(found[0]).rpartition(":")[0]
            yield f"wrote what was there already: {what}, {len(found)} times"


def _about(request: Request) -> tuple[str, ...]:
    return (
        request.verb,
        request.group,
        request.resource,
        request.namespace,
        request.name,
    )


def _bursts(
    asked: Iterable[Request], key: Callable[[Request], Hashable]
) -> Iterator[tuple[Request, int]]:
    """Yield an example of each kind that came too often, and how often at most."""
    recent: dict[Hashable, deque[Request]] = defaultdict(deque)
    worst: dict[Hashable, tuple[Request, int]] = {}
    for request in asked:
        window = recent[key(request)]
        window.append(request)
        while request.time - window[0].time > WINDOW:
            window.popleft()
        known = worst.get(key(request))
        if len(window) >= HOT and (known is None or len(window) > known[1]):
            worst[key(request)] = (request, len(window))
    yield from worst.values()
