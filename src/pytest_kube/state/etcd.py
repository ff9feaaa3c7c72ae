"""The one module that speaks to etcd, whosever etcd it is, by its JSON gateway."""

from __future__ import annotations

import base64
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3

from pytest_kube.errors import ClusterError, hide_frames

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Mapping

__tracebackhide__ = hide_frames

REQUEST_TIMEOUT = 30.0

_BATCH, _WATCHES = 500, 6

_ALL = b"\0"
"""As key and range end: all keys there are."""


class Entry(NamedTuple):
    """One key of etcd, its value, the revisions that wrote and that created it."""

    key: str
    value: bytes = b""
    revision: int = 0
    created: int = 0


class Change(NamedTuple):
    """One change of one key.

    Attributes:
        revision: The revision it made; several keys may share one.
        key: The key.
        before: The value before, or ``None`` when it did not exist.
        after: The value after, or ``None`` when it was deleted.
    """

    revision: int
    key: str
    before: bytes | None
    after: bytes | None


class Changed(NamedTuple):
    """What was written after some revision.

    Attributes:
        revision: The newest revision.
        entries: The keys that were written and exist, without their values.
        total: How many keys exist.
    """

    revision: int
    entries: list[Entry]
    total: int


class CompactedError(ClusterError):
    """A revision was asked for that etcd does not have any more."""


class Etcd:
    """Requests to one etcd server. Safe to use from several threads."""

    def __init__(self, url: str, tls: ssl.SSLContext) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(
            ssl_context=tls, retries=False, maxsize=_WATCHES + 1
        )

    def check_health(self, *, timeout: float = 1.0) -> None:
        """Raise ClusterError unless the server has a leader, answers, and has space."""
        answer = self._send("GET", "/health", timeout=timeout)
        if answer.get("health") != "true":
            raise ClusterError(f"{self._url} is not healthy: {answer}")

    def entries(self, prefix: str, *, revision: int = 0) -> list[Entry]:
        """Return all keys that start with *prefix*, in order, with their values.

        Args:
            prefix: How the keys start.
            revision: As they were at that revision; 0 for now.

        Raises:
            CompactedError: etcd does not have that revision any more.
        """
        return _entries(self._ask("/v3/kv/range", _range(prefix, revision=revision)))

    def keys(self, prefix: str, *, revision: int = 0) -> set[str]:
        """Return all keys that start with *prefix*, now or at a revision.

        Raises:
            CompactedError: etcd does not have that revision any more.
        """
        query = _range(prefix, revision=revision, keys_only=True)
        return {entry.key for entry in _entries(self._ask("/v3/kv/range", query))}

    def count(self, prefix: str) -> tuple[int, int]:
        """Return the newest revision, and how many keys start with *prefix*."""
        answer = self._ask("/v3/kv/range", _range(prefix, count_only=True))
        return int(answer["header"]["revision"]), int(answer.get("count", 0))

    def changed(self, prefix: str, after: int) -> Changed:
        """Return which keys were written after a revision, and how many there are."""
        ranges = (
            _range(prefix, keys_only=True, min_mod_revision=str(after + 1)),
            _range(prefix, count_only=True),
        )
        query = {"success": [{"request_range": r} for r in ranges]}
        answer = self._ask("/v3/kv/txn", query)
        written, existing = (r["response_range"] for r in answer["responses"])
        return Changed(
            int(answer["header"]["revision"]),
            _entries(written),
            int(existing.get("count", 0)),
        )

    def values(self, keys: Iterable[str], *, revision: int = 0) -> dict[str, bytes]:
        """Return the values of those of *keys* that exist, all at one revision.

        Raises:
            CompactedError: etcd does not have that revision any more.
        """
        ranges = [
            {
                "request_range": {
                    "key": _encoded(key.encode()),
                    "revision": str(revision),
                }
            }
            for key in keys
        ]
        if not ranges:
            return {}
        answer = self._ask("/v3/kv/txn", {"success": ranges})
        found = (_entries(r["response_range"]) for r in answer["responses"])
        return {entry.key: entry.value for entries in found for entry in entries}

    def counts(self, prefixes: Iterable[str], revision: int) -> dict[str, int]:
        """Return how many keys there were with each prefix, at a revision."""
        prefixes = list(prefixes)
        if not prefixes:
            return {}
        ranges = [_range(p, revision=revision, count_only=True) for p in prefixes]
        query = {"success": [{"request_range": r} for r in ranges]}
        answers = self._ask("/v3/kv/txn", query)["responses"]
        found = (int(answer["response_range"].get("count", 0)) for answer in answers)
        return dict(zip(prefixes, found, strict=True))

    def write(
        self, values: Mapping[str, bytes | None], *, emptied: Iterable[str] = ()
    ) -> int:
        """Write all *values* in one transaction, and return its revision.

        Args:
            values: What each key is to be; ``None`` deletes it.
            emptied: Prefixes of which every key is deleted.

        Raises:
            ClusterError: etcd refused, for example too large a transaction; then
                nothing was written.
        """
        operations = [_operation(key, value) for key, value in values.items()]
        for prefix in emptied:
            place = {k: v for k, v in _range(prefix).items() if k != "revision"}
            operations.append({"request_delete_range": place})
        answer = self._ask("/v3/kv/txn", {"success": operations})
        return int(answer["header"]["revision"])

    def fill(self, values: Mapping[str, bytes], prefix: str) -> bool:
        """Write all *values* in one transaction, if no key starts with *prefix* yet.

        Returns:
            Whether they were written.
        """
        nothing = {
            **_range(prefix),
            "target": "CREATE",
            "result": "EQUAL",
            "create_revision": "0",
        }
        del nothing["revision"]
        operations = [_operation(key, value) for key, value in values.items()]
        query = {"compare": [nothing], "success": operations}
        return bool(self._ask("/v3/kv/txn", query).get("succeeded"))

    def changes(self, after: int, until: int) -> list[Change]:
        """Return every change of every key after a revision, until another, in order.

        Raises:
            CompactedError: etcd does not have the first revisions any more.
        """
        # etcd hands out the past every 100 ms, about this many revisions at a time,
        # to each watch by itself.
        starts = range(after, until, _BATCH)
        spans = [(start, min(start + _BATCH, until)) for start in starts]
        if len(spans) <= 1:
            return [change for span in spans for change in self._watched(*span)]
        with ThreadPoolExecutor(min(len(spans), _WATCHES)) as pool:
            found = pool.map(lambda span: list(self._watched(*span)), spans)
            return [change for changes in found for change in changes]

    def _watched(self, after: int, until: int) -> Iterator[Change]:
        request = {
            "create_request": {
                "key": _encoded(_ALL),
                "range_end": _encoded(_ALL),
                "start_revision": str(after + 1),
                "prev_kv": True,
            }
        }
        response = self._request("POST", "/v3/watch", request, preload_content=False)
        try:
            for told in _lines(response):
                result = told.get("result", {})
                if "error" in told:
                    raise ClusterError(f"etcd {self._url}: watch: {told['error']}")
                if "compact_revision" in result:
                    raise CompactedError(
                        f"etcd {self._url} has forgotten what was before revision "
                        f"{result['compact_revision']}; {after + 1} was asked for"
                    )
                if result.get("canceled"):
                    raise ClusterError(
                        f"etcd {self._url}: watch: {result.get('cancel_reason')}"
                    )
                for change in map(_change, result.get("events", ())):
                    if change.revision > until:
                        return
                    yield change
                # Each revision arrives whole.
                events = result.get("events")
                if events and int(events[-1]["kv"]["mod_revision"]) >= until:
                    return
            raise ClusterError(
                f"etcd {self._url}: watch: it ended before revision {until}"
            )
        except urllib3.exceptions.HTTPError as e:
            raise ClusterError(f"etcd {self._url}: watch: no answer: {e}") from e
        finally:
            response.close()

    def compact(self, revision: int) -> None:
        """Forget what keys were before *revision*, if that has not happened yet."""
        with contextlib.suppress(CompactedError):
            self._ask("/v3/kv/compaction", {"revision": str(revision)})

    def _ask(self, path: str, body: Any) -> dict[str, Any]:
        return self._send("POST", path, body)

    def _send(
        self, method: str, path: str, body: Any = None, timeout: float = REQUEST_TIMEOUT
    ) -> dict[str, Any]:
        response = self._request(method, path, body, timeout=timeout)
        answer: dict[str, Any] = json.loads(response.data)
        return answer

    def _request(
        self, method: str, path: str, body: Any, **how: Any
    ) -> urllib3.BaseHTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        how.setdefault("timeout", REQUEST_TIMEOUT)
        try:
            response = self._pool.request(method, self._url + path, body=data, **how)
            if response.status == 200:  # noqa: PLR2004
                return response
            text = response.data.decode("utf-8", "replace")
        except urllib3.exceptions.HTTPError as e:
            raise ClusterError(f"{method} {self._url}{path}: no answer: {e}") from e
        raise self._error(text, path)

    def _error(self, text: str, path: str) -> ClusterError:
        kind = CompactedError if "compacted" in text else ClusterError
        return kind(f"etcd {self._url}{path}: {_message(text)}")


def _operation(key: str, value: bytes | None) -> dict[str, Any]:
    place = {"key": _encoded(key.encode())}
    if value is None:
        return {"request_delete_range": place}
    return {"request_put": {**place, "value": _encoded(value)}}


def _range(prefix: str, *, revision: int = 0, **further: Any) -> dict[str, Any]:
    start = prefix.encode()
    end = start[:-1] + bytes([start[-1] + 1])
    return {
        "key": _encoded(start),
        "range_end": _encoded(end),
        "revision": str(revision),
        **further,
    }


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[dict[str, Any]]:
    rest = b""
    for chunk in response.stream(256 * 1024):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield json.loads(line)


def _change(event: dict[str, Any]) -> Change:
    kv, before = event["kv"], event.get("prev_kv")
    return Change(
        int(kv["mod_revision"]),
        base64.b64decode(kv["key"]).decode(),
        base64.b64decode(before.get("value", "")) if before else None,
        None
        if event.get("type") == "DELETE"
        else base64.b64decode(kv.get("value", "")),
    )


def _entries(answer: Mapping[str, Any]) -> list[Entry]:
    return [
        Entry(
            base64.b64decode(kv["key"]).decode(),
            base64.b64decode(kv.get("value", "")),
            int(kv["mod_revision"]),
            int(kv["create_revision"]),
        )
        for kv in answer.get("kvs", ())
    ]


def _message(text: str) -> str:
    """Return what etcd says went wrong, of an answer that may be JSON."""
    try:
        answer = json.loads(text)
        return str(answer.get("message") or answer["reason"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return text.strip()


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
