"""When a program is ready: what it logs, serves, holds, or asks of the API server."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kube.errors import APIError, ClusterError, ControllerError, hide_frames
from pytest_kube.requests_log import REFUSED, Follower

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_kube.controllers.runner import Surroundings

__tracebackhide__ = hide_frames

QUIET = 0.1
"""Seconds without a new list or watch, after which all watches count as open."""

HTTP_TIMEOUT = 1.0
"""Seconds for an answer of a health endpoint."""

_TIMES = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ", re.MULTILINE)
_LOG_LIMIT = 1024 * 1024
_GOOD = range(200, 300)

_UNAUDITED = {"kube-system", "kube-node-lease"}
"""Namespaces whose Leases the audit policy leaves out."""


class Check(Protocol):
    """Tells whether a program is ready."""

    def passes(self, log: Path) -> bool:
        """Look now; *log* is where the output of the program goes."""

    def missing(self) -> str:
        """Say what the last look has missed."""


def check(text: str, surroundings: Surroundings) -> Check:
    """Read ``log:REGEX``, ``http://…``, ``lease:NAME``, ``watches`` or ``started``.

    Raises:
        ControllerError: It is none of them.
    """
    kind, _, rest = text.partition(":")
    if kind == "log" and rest:
        return LogCheck(rest)
    if kind in {"http", "https"} and rest.startswith("//"):
        return HTTPCheck(text)
    if kind == "lease" and rest:
        return LeaseCheck(rest, surroundings)
    if text == "watches":
        return WatchesCheck(surroundings)
    if text == "started":
        return StartedCheck()
    raise ControllerError(
        f"ready={text!r} says not when a controller is ready. It is one of:\n"
        "  log:REGEX                             a line of its output\n"
        "  http://127.0.0.1:{port:health}/readyz an answer of 200\n"
        "  lease:NAME, lease:NAMESPACE/NAME      it holds the Lease\n"
        "  watches                               its watches are open\n"
        "  started                               its process runs"
    )


class StartedCheck:
    """Ready as soon as it runs."""

    def passes(self, log: Path) -> bool:  # noqa: ARG002
        """Hold."""
        return True

    def missing(self) -> str:
        """Say that it does not run."""
        return "the program was not started"


class LogCheck:
    """A line of its output."""

    def __init__(self, pattern: str) -> None:
        try:
            self._pattern = re.compile(pattern, re.MULTILINE)
        except re.error as e:
            raise ControllerError(
                f"ready='log:{pattern}': no regular expression: {e}"
            ) from e

    def passes(self, log: Path) -> bool:
        """Look through all of the output, without the times that lines have there."""
        with log.open("rb") as file:
            text = file.read(_LOG_LIMIT).decode("utf-8", "replace")
        return self._pattern.search(_TIMES.sub("", text)) is not None

    def missing(self) -> str:
        """Say which line."""
        return f"no line of its output matches {self._pattern.pattern!r}"


class HTTPCheck:
    """A health endpoint that answers."""

    def __init__(self, url: str) -> None:
        import urllib3

        self._url = url
        self._seen = "nobody has asked yet"
        self._errors = urllib3.exceptions.HTTPError
        self._pool = urllib3.PoolManager(
            retries=False, timeout=HTTP_TIMEOUT, cert_reqs="CERT_NONE"
        )

    def passes(self, log: Path) -> bool:  # noqa: ARG002
        """Ask."""
        import warnings

        try:
            with warnings.catch_warnings(action="ignore"):  # its own certificate
                answer = self._pool.request("GET", self._url)
        except self._errors as e:
            self._seen = str(getattr(e, "reason", None) or e)
            return False
        text = answer.data[:200].decode("utf-8", "replace").strip()
        self._seen = f"it answered {answer.status}{f': {text}' if text else ''}"
        return answer.status in _GOOD

    def missing(self) -> str:
        """Say what it answered."""
        return f"{self._url}: {self._seen}"


class LeaseCheck:
    """A Lease that this program holds.

    It does if the Lease, as it is stored, has a holder and was written by the program
    itself since it was started, as the API server's audit log tells. Without one, the
    holder has to be another than before the start.
    """

    def __init__(self, ref: str, surroundings: Surroundings) -> None:
        from pytest_kube.client import Client

        namespace, _, name = ref.rpartition("/")
        namespace = namespace or surroundings.namespace
        self._ref = f"{namespace}/{name}"
        self._path = (
            f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        )
        self._client = Client.from_kubeconfig(surroundings.kubeconfig)
        self._seen = ""
        audit = None if namespace in _UNAUDITED else surroundings.audit
        self._follower = None if audit is None else _follower(surroundings, audit)
        self._written: set[tuple[str, str] | None] = set()
        self._before = _holder(self._look()) if audit is None else ""

    def passes(self, log: Path) -> bool:  # noqa: ARG002
        """Look at the Lease, and then at what the program has written."""
        lease = self._look()
        holder = _holder(lease)
        if not holder or self._follower is None:
            return holder not in {"", self._before}
        self._written |= {
            r.version for r in self._follower.read() if r.resource == "leases"
        }
        metadata = lease["metadata"]
        return (metadata["uid"], metadata["resourceVersion"]) in self._written

    def _look(self) -> dict[str, Any]:
        """Return the Lease, read as the controller itself."""
        try:
            lease: dict[str, Any] = self._client.request("GET", self._path)
        except (APIError, ClusterError) as e:
            self._seen = str(e)
            return {}
        since = (lease.get("spec") or {}).get("acquireTime")
        self._seen = "nobody holds it"
        if holder := _holder(lease):
            self._seen = f"held by {holder!r}{f' since {since}' if since else ''}"
            self._seen += (
                ", as when the program was started; no audit log tells more"
                if self._follower is None
                else ", which is not this program"
            )
        return lease

    def missing(self) -> str:
        """Say what is with the Lease."""
        return f"Lease {self._ref}: {self._seen}"


def _holder(lease: Mapping[str, Any]) -> str:
    return (lease.get("spec") or {}).get("holderIdentity") or ""


class WatchesCheck:
    """Whatever it has listed is watched, and it opens nothing more.

    Needs nothing of the controller: the API server's audit log tells.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        if surroundings.audit is None:
            raise ControllerError(
                "ready='watches' needs the API server's audit log, which clusters of "
                "kwok, envtest and kind have; elsewhere use log:REGEX, http://… or "
                "lease:NAME"
            )
        self._follower = _follower(surroundings, surroundings.audit)
        self._listed: set[tuple[str, str]] = set()
        self._watched: set[tuple[str, str]] = set()
        self._refused: Mapping[str, None] = {}
        self._last = time.monotonic()
        self._asked = 0

    def passes(self, log: Path) -> bool:  # noqa: ARG002
        """Read on in the audit log."""
        for request in self._follower.read():
            self._asked += 1
            what = (request.group, request.resource)
            if request.code >= REFUSED:
                self._refused = {**self._refused, str(request): None}
            elif request.verb in {"list", "watch"}:
                self._last = time.monotonic()
                known = self._watched if request.verb == "watch" else self._listed
                known.add(what)
        quiet = time.monotonic() - self._last >= QUIET
        return quiet and bool(self._watched) and self._listed <= self._watched

    def missing(self) -> str:
        """Say which watches, and what was refused."""
        refused = "".join(f"\n  refused: {text}" for text in self._refused)
        if missing := sorted(name for _, name in self._listed - self._watched):
            return f"it has listed {', '.join(missing)}, and does not watch it{refused}"
        if self._watched:
            return f"it goes on opening watches{refused}"
        return (
            "it has opened no watch, and asked the API server for "
            f"{self._asked or 'no'} other things; one that watches nothing is ready "
            f"when another thing tells: see ready{refused}"
        )


def _follower(surroundings: Surroundings, audit: Path) -> Follower:
    return Follower(audit, surroundings.user, surroundings.credential)
