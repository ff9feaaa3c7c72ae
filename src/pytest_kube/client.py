"""The one module that speaks to the Kubernetes API: JSON in, JSON out, watches.

Objects stay the dictionaries that the server sent. Waiting, conditions and what a
test may do with objects live elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import unquote, urlencode

import urllib3

from pytest_kube import discovery, login
from pytest_kube.errors import (
    APIError,
    ClusterError,
    ConflictError,
    NotFoundError,
    SettingsError,
    hide_frames,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_kube.discovery import Resource

__tracebackhide__ = hide_frames

FIELD_MANAGER = "pytest-kube"
"""What managedFields call us."""

REQUEST_TIMEOUT = 30.0
"""Seconds for one request that is not a watch."""

PAGE = 500
"""Objects in one answer to a list, as with kubectl."""

GONE = 410
"""What the server says of a version that it has forgotten."""

UNAUTHORIZED = 401
"""What the server says of a credential that it does not know."""

_BREAKING = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")
_QUESTIONS = ("/apis/authentication.k8s.io/", "/apis/authorization.k8s.io/")
_PATCH_TYPES = {
    "apply": "application/apply-patch+yaml",
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


class Listed(NamedTuple):
    """The objects of a collection, and the version from which to watch it."""

    items: list[dict[str, Any]]
    version: str


class Client:
    """Requests to one API server by one identity. Safe to use from several threads.

    Attributes:
        server: The URL of the API server.
        kubeconfig: The file that the client was made from.
        read_only: Why nothing is written, and how that is allowed; empty where it is.
    """

    def __init__(
        self,
        server: str,
        tls: ssl.SSLContext,
        headers: Iterable[tuple[str, str]],
        proxy: str = "",
    ) -> None:
        self.server = server
        self.kubeconfig = Path()
        self.read_only = ""
        self._pool = _pool(tls, headers, proxy)
        self._expires = inf
        self._is_renewable = False
        self._login = threading.Lock()
        self._resources: list[Resource] = []
        self._discovery = threading.Lock()

    @classmethod
    def from_kubeconfig(cls, path: Path, *, read_only: str = "") -> Self:
        """Make a client from a kubeconfig file's current context.

        Raises:
            ClusterError: The file or the context is missing, or the user's
                credentials cannot be had, or are of a kind that is not supported.
        """
        found = login.read(path)
        client = cls(found.server, found.tls, found.headers, found.proxy)
        client.kubeconfig = path
        client.read_only = read_only
        client._expires, client._is_renewable = found.expires, found.renewable
        return client

    def refuse_write(self, what: str) -> None:
        """Say that something is not done, where nothing may be written.

        Raises:
            SettingsError: Writes were not allowed; the text says how to.
        """
        if self.read_only:
            raise SettingsError(f"{what}: {self.read_only}")

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = REQUEST_TIMEOUT,
    ) -> Any:
        """Send one request and return the JSON answer.

        Raises:
            APIError: The server answered with an error status.
            ClusterError: There was no answer.
        """
        response = self._send(
            method,
            path,
            query,
            body=None if body is None else _encoded(body),
            headers={"Content-Type": content_type, "Accept": accept},
            timeout=urllib3.Timeout(connect=min(5.0, timeout), read=timeout),
        )
        if response.status >= 400:  # noqa: PLR2004
            raise _api_error(method, path, response.status, response.data)
        try:
            return json.loads(response.data)
        except ValueError as e:
            start = response.data[:100].decode("utf-8", "replace")
            raise ClusterError(
                f"{method} {self.server}{path}: the answer is not JSON but {start!r}; "
                "is this an API server, or a proxy before it?"
            ) from e

    def text(self, path: str, *, timeout: float = REQUEST_TIMEOUT) -> str:
        """Return the answer to a GET as text, for paths outside of the API."""
        response = self._send(
            "GET", path, None, timeout=urllib3.Timeout(connect=timeout, read=timeout)
        )
        text = response.data.decode("utf-8", "replace")
        if response.status >= 400:  # noqa: PLR2004
            raise _api_error("GET", path, response.status, response.data)
        return text

    def version(self, *, timeout: float = REQUEST_TIMEOUT) -> str:
        """Return the Kubernetes version of the server, without a leading ``v``."""
        answer = self.request("GET", "/version", timeout=timeout)
        return str(answer["gitVersion"]).removeprefix("v")

    def patch(
        self,
        path: str,
        body: Any,
        *,
        type_: str,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a patch of type ``apply``, ``json``, ``merge`` or ``strategic``."""
        if type_ not in _PATCH_TYPES:
            raise ValueError(
                f"patch type {type_!r}: allowed are {', '.join(sorted(_PATCH_TYPES))}"
            )
        content_type = _PATCH_TYPES[type_]
        return self.request(
            "PATCH", path, query=query, body=body, content_type=content_type
        )

    def watch(self, path: str, query: Mapping[str, str]) -> Watch:
        """Open a watch on a collection; events come as ``{"type":…, "object":…}``."""
        response = self._send(
            "GET",
            path,
            {**query, "watch": "true"},
            preload_content=False,
            timeout=urllib3.Timeout(connect=5.0, read=None),
        )
        if response.status >= 400:  # noqa: PLR2004
            raise _api_error("WATCH", path, response.status, response.data)
        return Watch(response)

    def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, **how: Any
    ) -> urllib3.BaseHTTPResponse:
        if method != "GET" and not _changes_nothing(path, query):
            self.refuse_write(f"{method} {path}")
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        if time.time() >= self._expires:
            self._renew(self._pool)
        pool = self._pool
        try:
            response = self._ask(pool, method, url, how)
            if response.status == UNAUTHORIZED and self._is_renewable:
                response.drain_conn()
                self._renew(pool)
                response = self._ask(self._pool, method, url, how)
        except urllib3.exceptions.HTTPError as e:
            cause = getattr(e, "reason", None) or e
            raise ClusterError(
                f"{method} {url}: no answer from the API server: {cause}"
            ) from e
        return response

    def _ask(
        self, pool: urllib3.PoolManager, method: str, url: str, how: Mapping[str, Any]
    ) -> urllib3.BaseHTTPResponse:
        # Headers given here would replace the pool's own, credentials included.
        headers = urllib3.HTTPHeaderDict(pool.headers)
        headers.update(how.get("headers", {}))
        return pool.request(method, url, **{**how, "headers": headers})

    def _renew(self, used: urllib3.PoolManager) -> None:
        """Log in again, unless another thread has since *used* was the way to ask."""
        with self._login:
            if self._pool is used:
                found = login.read(self.kubeconfig)
                self._pool = _pool(found.tls, found.headers, found.proxy)
                self._expires = found.expires

    # --- discovery ----------------------------------------------------------

    def resources(self, *, refresh: bool = False) -> list[Resource]:
        """Return everything the API serves: core first, then groups by priority."""
        with self._discovery:
            if refresh or not self._resources:
                found: list[Resource] = []
                for root in ("/api", "/apis"):
                    found += discovery.parse(
                        self.request("GET", root, accept=discovery.ACCEPT)
                    )
                if not found:
                    raise ClusterError(
                        f"{self.server} gives no aggregated discovery; "
                        "Kubernetes 1.27 or newer is needed"
                    )
                self._resources = found
            return self._resources

    def resource(self, name: str) -> Resource:
        """Find a resource by plural, singular, short name or Kind, as kubectl does.

        ``name.group``, ``name.version.group`` and, in the core group, ``name.version``
        select among several. Of Kubernetes' own groups the first one is taken, core
        before others.

        Raises:
            UnknownResourceError: Nothing of that name is served, or several groups
                serve something of that name.
        """
        for refresh in (False, True):
            found = discovery.named(self.resources(refresh=refresh), name)
            if len(found) > 1:
                raise discovery.ambiguous(name, found)
            if found:
                return found[0]
        raise discovery.unknown(name, self._resources)

    def resource_of(self, obj: Mapping[str, Any]) -> Resource:
        """Find the resource that serves objects like *obj*, by apiVersion and kind.

        Raises:
            UnknownResourceError: Nothing of that kind is served.
        """
        wanted = obj.get("apiVersion", ""), obj.get("kind", "")
        for refresh in (False, True):
            for resource in self.resources(refresh=refresh):
                if (resource.api_version, resource.kind) == wanted:
                    return resource
        raise discovery.unknown(wanted[1], self._resources, f" in {wanted[0]}")

    def parent_of(self, obj: Mapping[str, Any]) -> tuple[Resource, str] | None:
        """Find where objects like *obj* are created that are no resource of their own.

        Returns:
            The resource and its subresource: pods and ``eviction`` for an Eviction;
            ``None`` where nothing takes such objects.
        """
        wanted = obj.get("apiVersion", ""), obj.get("kind", "")
        for resource in self.resources():
            for subresource, created in resource.subresources.items():
                if created == wanted:
                    return resource, subresource
        return None

    # Last, for in a class a method hides the type of that name from then on.

    def list(
        self,
        path: str,
        *,
        labels: str | Mapping[str, str] = "",
        fields: str | Mapping[str, str] = "",
        timeout: float = REQUEST_TIMEOUT,
    ) -> Listed:
        """Return the objects of a collection, read page by page.

        Args:
            path: The collection.
            labels: A label selector, or a mapping.
            fields: A field selector, or a mapping.
            timeout: Seconds for each page.
        """
        selectors = selected(labels, fields)
        while True:
            items: list[dict[str, Any]] = []
            page = {"limit": str(PAGE)}
            try:
                while page:
                    query = {**selectors, **page}
                    answer = self.request("GET", path, query=query, timeout=timeout)
                    items += answer["items"] or ()
                    more = answer["metadata"].get("continue")
                    page = {"limit": str(PAGE), "continue": more} if more else {}
            except APIError as e:
                # Pages are of one revision, which the server forgets after a while.
                if e.status != GONE or "continue" not in page:
                    raise
            else:
                return Listed(items, answer["metadata"]["resourceVersion"])


class Watch:
    """An open watch; iterate it for events, close it from any thread."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rest = b""
        try:
            for chunk in self._response.stream(None):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)
        except (urllib3.exceptions.HTTPError, OSError, AttributeError, ValueError):
            # Closed by us or cut off: the end either way. (urllib3 has no one error
            # for a body that another thread shut down.)
            return

    def close(self) -> None:
        """End the iteration, also one that waits in another thread."""
        # Errors say that it ended by itself.
        with contextlib.suppress(ValueError, OSError, RuntimeError):
            self._response.shutdown()


class _Unverified(urllib3.connection.HTTPSConnection):
    """A connection to a server whose certificate nobody looks at, as was asked for."""

    def connect(self) -> None:
        super().connect()
        self.is_verified = True  # else each request warns, and warnings may be errors


class _UnverifiedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Unverified


def _pool(
    tls: ssl.SSLContext, headers: Iterable[tuple[str, str]], proxy: str
) -> urllib3.PoolManager:
    how: dict[str, Any] = {
        "num_pools": 2,
        "maxsize": 16,
        "headers": urllib3.HTTPHeaderDict([("User-Agent", "pytest-kube"), *headers]),
        "ssl_context": tls,
        "retries": False,
    }
    if not proxy:
        pool = urllib3.PoolManager(**how)
    else:
        url = urllib3.util.parse_url(proxy)
        if url.scheme not in {"http", "https"}:
            raise ClusterError(
                f"the proxy on the way to the API server is {url._replace(auth=None)}; "
                "those of http and https are supported"
            )
        auth = url.auth and urllib3.util.make_headers(
            proxy_basic_auth=unquote(url.auth)
        )
        pool = urllib3.ProxyManager(proxy, proxy_headers=auth or None, **how)
    if not tls.verify_mode:
        pool.pool_classes_by_scheme = {
            **pool.pool_classes_by_scheme,
            "https": _UnverifiedPool,
        }
    return pool


def _changes_nothing(path: str, query: Mapping[str, str] | None) -> bool:
    """Say whether a request is a question, though it is no GET."""
    return path.startswith(_QUESTIONS) or (query or {}).get("dryRun") == "All"


def selected(
    labels: str | Mapping[str, str] = "", fields: str | Mapping[str, str] = ""
) -> dict[str, str]:
    """Return selectors as the query of a list or a watch has them."""
    query = {"labelSelector": _selector(labels), "fieldSelector": _selector(fields)}
    return {key: text for key, text in query.items() if text}


def _selector(wanted: str | Mapping[str, str]) -> str:
    if isinstance(wanted, str):
        return wanted
    return ",".join(f"{key}={value}" for key, value in wanted.items())


def _encoded(body: Any) -> bytes:
    # The server reads what is applied as YAML, which knows no surrogate pairs, and
    # breaks lines at characters that are ordinary ones in JSON.
    text = json.dumps(body, ensure_ascii=False)
    return _BREAKING.sub(lambda m: f"\\u{ord(m[0]):04x}", text).encode()


def _api_error(method: str, path: str, status: int, data: bytes) -> APIError:
    details: dict[str, Any] = {}
    text = data.decode("utf-8", "replace").strip()
    try:
        answer = json.loads(data)
        if answer.get("kind") == "Status":
            details, text = answer, answer.get("message", "")
    except (ValueError, AttributeError):
        pass  # paths outside of the API answer in plain text
    reason = details.get("reason", "")
    kinds: dict[int, type[APIError]] = {404: NotFoundError, 409: ConflictError}
    return kinds.get(status, APIError)(
        f"{method} {path}: {status}{f' {reason}' if reason else ''}: {text}",
        status=status,
        reason=reason,
        details=details,
    )
