"""What a controller does that no test asks about, and its author wants to know."""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pytest_kube import rbac
from pytest_kube.requests_log import CHANGES, REFUSED, UNTOLD

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from pytest_kube.history import Version
    from pytest_kube.requests_log import Request

WINDOW = timedelta(seconds=1)
HOT = 20
"""Requests of one kind about one object within the window, from which on it is no
reconciliation any more but a loop."""

IDLE_WRITES = 20
"""Writes of a test that changed nothing; one now and then is nobody's fault."""

RESTLESS, RESTLESS_FOR = 10, timedelta(seconds=1)
"""Changes of one object in a row, and for how long, while nobody else makes any."""

_WRITES = {"create", "update", "patch"}
_CREATED, _FORBIDDEN = 201, 403


def findings(everything: Sequence[Request], user: str, credential: str) -> list[str]:
    """Say what is wrong with what a controller has asked of the API server.

    Args:
        everything: What everybody has asked in one test, oldest first.
        user: As whom the controller did.
        credential: With which token, where that matters.

    Returns:
        A text for each thing, of one line or several.
    """

    def is_its(request: Request) -> bool:
        return request.user == user and request.has(credential)

    asked = [request for request in everything if is_its(request)]
    told = [r for r in asked if r.resource not in UNTOLD and r.verb != "watch"]
    hot = _hot(told)
    return [
        *lacking(asked),
        *(
            f"is in a hot loop: {_what(request)}, {count} times within a second"
            for request, count in hot
        ),
        *_refused(told),
        *_idle(told),
        *_restless(everything, is_its, {_target(request) for request, _ in hot}),
    ]


def lacking(asked: Iterable[Request]) -> Iterator[str]:
    """Find what no role allowed."""
    if rules := rbac.missing(asked):
        headline = "was refused what it asked for; what its roles lack:"
        yield "\n".join([headline, *rbac.as_yaml(rules)])


def _hot(asked: Iterable[Request]) -> list[tuple[Request, int]]:
    """Find the same request about the same object, again and again."""
    named = (r for r in asked if r.verb != "create" and r.code < REFUSED)
    return list(_bursts(named, _about))


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
            what = _what(found[0])
            yield f"wrote what was there already: {what}, {len(found)} times"


def _restless(
    everything: Iterable[Request],
    is_its: Callable[[Request], bool],
    told: Collection[Hashable],
) -> Iterator[str]:
    """Find objects that it changes on and on, when nobody else changes anything."""
    runs: dict[Hashable, list[Request]] = defaultdict(list)
    worst: dict[Hashable, list[Request]] = {}
    seen: set[Any] = set()
    for request in everything:
        changes = request.verb in CHANGES and request.code < REFUSED
        if not changes or request.resource in {*UNTOLD, "nodes/status"}:
            continue
        if request.version in seen:
            continue  # it changed nothing
        if request.version:
            seen.add(request.version)
        if not is_its(request):
            runs.clear()
            continue
        about = _target(request)
        run = runs[about]
        run.append(request)
        if len(run) > len(worst.get(about, ())):
            worst[about] = run
    for target, run in worst.items():
        duration = run[-1].time - run[0].time
        is_long = len(run) >= RESTLESS and duration >= RESTLESS_FOR
        if is_long and target not in told:
            yield (
                f"went on writing while nobody else did: {_what(run[-1])}, "
                f"{len(run)} times in {duration.total_seconds():.1f} s"
            )


def may_leave_orphans(everything: Iterable[Request], user: str) -> bool:
    """Tell whether the history of a test is worth a look for :func:`orphans`."""
    created = deleted = False
    for r in everything:
        told = r.resource not in UNTOLD and r.code < REFUSED
        created |= told and r.user == user and r.code == _CREATED
        deleted |= told and r.verb == "delete" and "." in r.group
    return created and deleted


def orphans(
    history: Iterable[Version], user: str, custom: Collection[str]
) -> Iterator[str]:
    """Find what a controller has created and nobody removes.

    That is an object that never had an owner, when all the custom resources are gone
    that were there when it was created. Who orphans it on purpose takes its owner away.

    Args:
        history: All of a test.
        user: As whom the controller created objects.
        custom: The API groups of custom resources.
    """
    there: dict[str, set[str]] = {}
    alive: dict[str, str] = {}
    gone: dict[str, str] = {}
    made: dict[str, Version] = {}
    for version in history:
        obj: Mapping[str, Any] = version.object or version.previous or {}
        uid = obj["metadata"].get("uid", "")
        is_custom = obj["apiVersion"].rpartition("/")[0] in custom
        if version.object is None:
            made.pop(uid, None)
            if is_custom:
                gone[uid] = alive.pop(uid, version.ref)
        elif is_custom:
            alive[uid] = version.ref
        elif version.previous is None and version.user == user:
            made[uid] = version
            there[uid] = set(alive)
        if obj["metadata"].get("ownerReferences"):
            made.pop(uid, None)
    for uid, version in made.items():
        if there[uid] and there[uid] <= gone.keys():
            names = ", ".join(gone[each] for each in gone if each in there[uid])
            yield (
                f"left {version.ref} behind, when {names} was gone: it has no owner. "
                "Set its ownerReferences, or delete it before you remove the finalizer"
            )


def _what(request: Request) -> str:
    return str(request).rpartition(":")[0]


def _about(request: Request) -> tuple[str, ...]:
    return (request.verb, *_target(request))


def _target(request: Request) -> tuple[str, ...]:
    return (request.group, request.resource, request.namespace, request.name)


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
