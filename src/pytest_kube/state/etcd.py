"""The one module that speaks to etcd, whosever etcd it is, by its JSON gateway."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3

from pytest_kube.errors import ClusterError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

REQUEST_TIMEOUT = 30.0


class Entry(NamedTuple):
    """One key of etcd and its value."""

    key: str
    value: bytes


class Etcd:
    """Requests to one etcd server."""

    def __init__(self, url: str, tls: ssl.SSLContext) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(ssl_context=tls, retries=False)

    def check_health(self) -> None:
        """Raise ClusterError unless the server has a leader and answers."""
        answer = self._send("GET", "/health", timeout=1.0)
        if answer.get("health") != "true":
            raise ClusterError(f"{self._url} is not healthy: {answer}")

    def entries(self, prefix: str) -> list[Entry]:
        """Return all keys that start with *prefix*."""
        start = prefix.encode()
        end = start[:-1] + bytes([start[-1] + 1])
        answer = self._send(
            "POST", "/v3/kv/range", {"key": _encoded(start), "range_end": _encoded(end)}
        )
        return [
            Entry(base64.b64decode(kv["key"]).decode(), base64.b64decode(kv["value"]))
            for kv in answer.get("kvs", ())
        ]

    def put(self, entries: Iterable[Entry]) -> None:
        """Write all *entries* in one transaction."""
        operations = [
            {
                "request_put": {
                    "key": _encoded(entry.key.encode()),
                    "value": _encoded(entry.value),
                }
            }
            for entry in entries
        ]
        answer = self._send("POST", "/v3/kv/txn", {"success": operations})
        if not answer.get("succeeded"):
            raise ClusterError(
                f"{self._url}: the transaction did not succeed: {answer}"
            )

    def _send(
        self, method: str, path: str, body: Any = None, timeout: float = REQUEST_TIMEOUT
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            response = self._pool.request(
                method, self._url + path, body=data, timeout=timeout
            )
        except urllib3.exceptions.HTTPError as e:
            raise ClusterError(f"{method} {self._url}{path}: no answer: {e}") from e
        if response.status != 200:  # noqa: PLR2004
            text = response.data.decode("utf-8", "replace")
            raise ClusterError(f"{method} {self._url}{path}: {response.status}: {text}")
        answer: dict[str, Any] = json.loads(response.data)
        return answer


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
