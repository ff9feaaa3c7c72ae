"""What somebody has asked of the API server, as its audit log tells."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kube.audit import raw_lines

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

REFUSED = 400
CHANGES = {"create", "update", "patch", "delete", "deletecollection"}
"""The verbs that change something."""

UNTOLD = {"events", "leases"}
"""Resources that are written all the time, and are nobody's work."""

_CREDENTIAL = "authentication.kubernetes.io/credential-id"
_SLACK = timedelta(seconds=1)
_WEBHOOK = "webhook.admission.k8s.io/"
_REFUSALS = {
    r'admission webhook "([^"]+)" denied the request': "refused the request",
    r'failed calling webhook "([^"]+)"': "could not be called",
}


class WebhookCall(NamedTuple):
    """A webhook that was asked about a request.

    Attributes:
        name: The webhook.
        effect: What it did.
        patch: What it changed: ``add /metadata/labels/team``.
    """

    name: str
    effect: str
    patch: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """A request that was answered, or a watch that was opened.

    Attributes:
        user: Who asked.
        credential: By which of its credentials, as the API server names it; empty where
            it does not. One user may have several: each start of a controller that
            runs as a ServiceAccount has a token of its own.
        verb: ``get``, ``list``, ``watch``, ``create``, ``update``, ``patch``, …
        group: The group of what it was about; empty for the core group.
        resource: What it was about, with its subresource: ``widgets/status``.
        namespace: Where; empty for all namespaces, or none.
        name: Which object; empty for a collection.
        code: The status of the answer.
        message: What the server said to one that it refused.
        version: Of a write, the uid and the resourceVersion that it was answered with.
        time: When it was answered, in UTC.
        webhooks: What admission webhooks made of it, as far as the API server tells: a
            validating one that agrees leaves no trace.
    """

    user: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    code: int
    message: str
    time: datetime
    version: tuple[str, str] | None = None
    credential: str = ""
    webhooks: tuple[WebhookCall, ...] = ()

    def has(self, credential: str) -> bool:
        """Tell whether it came by a credential, as far as both are known."""
        return not (credential and self.credential) or credential == self.credential

    def __str__(self) -> str:
        where = "/".join(part for part in (self.namespace, self.name) if part)
        text = f"{self.verb} {self.resource}{f' {where}' if where else ''}: {self.code}"
        return f"{text} {self.message}" if self.message else text


def requests(
    path: Path,
    since: datetime,
    users: Collection[str] | None = None,
    credential: str = "",
) -> list[Request]:
    """Return what some users have asked since then, newest first.

    Args:
        path: The audit log.
        since: The earliest time.
        users: The users; all, if there are none.
        credential: Leave out what came by another one.
    """
    return [
        request
        for _, request in lines(path, since)
        if (users is None or request.user in users) and request.has(credential)
    ]


def lines(path: Path, since: datetime) -> Iterator[tuple[bytes, Request]]:
    """Yield the lines of the log since then, as written and as read, newest first."""
    with contextlib.suppress(FileNotFoundError):
        for raw in raw_lines(path):
            request = _parsed(raw)
            if request is None:
                continue
            if request.time < since - _SLACK:
                break  # written in the order of answers, but for a moment
            if request.time >= since:
                yield raw, request


class Follower:
    """What a user asks from now on.

    Args:
        path: The audit log.
        user: The user.
        credential: Leave out what came by another one.
    """

    def __init__(self, path: Path, user: str, credential: str = "") -> None:
        self._path = path
        self._user = user
        self._credential = credential
        self._position = path.stat().st_size if path.exists() else 0

    def read(self) -> Iterator[Request]:
        """Yield what was asked since the last call, oldest first."""
        named = f'"{self._user}"'.encode()
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._position:
                    self._position = 0  # rotated
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        for raw in whole.splitlines():
            request = _parsed(raw) if named in raw else None
            if request is None or request.user != self._user:
                continue
            if request.has(self._credential):
                yield request


def _parsed(raw: bytes) -> Request | None:
    """Read a line; ``None`` for a damaged one, and for the end of a watch."""
    try:
        event = json.loads(raw)
        begun = event["stage"] == "ResponseStarted"
        code = event["responseStatus"]["code"]
        if event["verb"] == "watch" and not begun and code < REFUSED:
            return None
        return _request(event, code)
    except (ValueError, KeyError, TypeError):
        return None  # the last line may be written right now


def _request(event: Mapping[str, Any], code: int) -> Request:
    about = event.get("objectRef") or {}
    metadata = (event.get("responseObject") or {}).get("metadata") or {}
    uid, version = metadata.get("uid"), metadata.get("resourceVersion")
    names = (about.get("resource"), about.get("subresource"))
    return Request(
        user=(event.get("impersonatedUser") or event["user"])["username"],
        verb=event["verb"],
        group=about.get("apiGroup", ""),
        resource="/".join(n for n in names if n) or event["requestURI"],
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=code,
        message=event["responseStatus"].get("message", ""),
        time=datetime.fromisoformat(event["stageTimestamp"]),
        version=(uid, version) if uid and version else None,
        # Of who did it, not of whom it was done as.
        credential=((event["user"].get("extra") or {}).get(_CREDENTIAL) or [""])[0],
        webhooks=_webhooks(event),
    )


def _webhooks(event: Mapping[str, Any]) -> tuple[WebhookCall, ...]:
    """Read what the API server noted of webhooks that it asked about a request."""
    calls: dict[str, WebhookCall] = {}
    patches: dict[str, tuple[str, ...]] = {}
    for key, value in (event.get("annotations") or {}).items():
        source, _, place = key.partition(_WEBHOOK)
        if not place:
            continue
        if source.startswith("failed-open."):
            calls[key] = WebhookCall(value, "failed, and is ignored when it does")
            continue
        told = json.loads(value)
        if source == "patch.":
            operations = told["patch"]
            patches[place] = tuple(
                f"{each['op']} {each['path']}" for each in operations
            )
        elif source == "mutation.":
            effect = "changed the object" if told["mutated"] else "changed nothing"
            calls[place] = WebhookCall(told["webhook"], effect)
    found = [c._replace(patch=patches.get(key, ())) for key, c in calls.items()]
    message = event["responseStatus"].get("message", "")
    for pattern, effect in _REFUSALS.items():
        if refused := re.search(pattern, message):
            found = [c for c in found if c.name != refused[1]]
            found.append(WebhookCall(refused[1], effect))
    return tuple(found)
