"""The one module that speaks to the Kubernetes API: JSON in, JSON out, watches.

Objects stay the dictionaries that the server sent. Waiting, conditions and what a
test may do with objects live elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import urllib3

from pytest_kube import kubeconfig
from pytest_kube.errors import (
    APIError,
    ClusterError,
    ConflictError,
    NotFoundError,
    UnknownResourceError,
    hide_frames,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

__tracebackhide__ = hide_frames

FIELD_MANAGER = "pytest-kube"
"""What managedFields call us."""

REQUEST_TIMEOUT = 30.0
"""Seconds for one request that is not a watch."""

_DISCOVERY = ",".join(
    f"application/json;g=apidiscovery.k8s.io;v={v};as=APIGroupDiscoveryList"
    for v in ("v2", "v2beta1")
)
_PATCH_TYPES = {
    "apply": "application/apply-patch+yaml",
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


@dataclass(frozen=True)
class Resource:
    """One resource that the API serves, in one version of its group."""

    group: str
    version: str
    plural: str
    kind: str
    singular: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    verbs: frozenset[str] = frozenset()
    subresources: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def api_version(self) -> str:
        """Return what stands in ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """Return ``plural.group``, what CRDs are named by; core: the plural."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(
        self, namespace: str | None = None, name: str = "", subresource: str = ""
    ) -> str:
        """Return the URL path of the collection, an object, or its subresource."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [p for p in (self.plural, name, subresource) if p]
        return "/".join(parts)


class Client:
    """Requests to one API server by one identity. Safe to use from several threads.

    Attributes:
        server: The URL of the API server.
        kubeconfig: The file that the client was made from.
    """

    def __init__(
        self, server: str, tls: ssl.SSLContext, headers: dict[str, str]
    ) -> None:
        self.server = server
        self.kubeconfig = Path()
        self._pool = urllib3.PoolManager(
            num_pools=2,
            maxsize=16,
            headers={"User-Agent": "pytest-kube", **headers},
            ssl_context=tls,
            retries=False,
        )
        self._resources: list[Resource] = []
        self._discovery = threading.Lock()

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """Make a client from a kubeconfig file's current context.

        Raises:
            ClusterError: The file or the context is missing, or the user's
                credentials are of a kind that is not supported.
        """
        client = cls(*kubeconfig.credentials(path))
        client.kubeconfig = path
        return client

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
            body=None if body is None else json.dumps(body).encode(),
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

    def version(self) -> str:
        """Return the Kubernetes version of the server, without a leading ``v``."""
        return str(self.request("GET", "/version")["gitVersion"]).removeprefix("v")

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
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        # Headers given here would replace the pool's own, credentials included.
        how["headers"] = {**self._pool.headers, **how.pop("headers", {})}
        try:
            return self._pool.request(method, url, **how)
        except urllib3.exceptions.HTTPError as e:
            cause = getattr(e, "reason", None) or e
            raise ClusterError(
                f"{method} {url}: no answer from the API server: {cause}"
            ) from e

    # --- discovery ----------------------------------------------------------

    def resources(self, *, refresh: bool = False) -> list[Resource]:
        """Return everything the API serves: core first, then groups by priority."""
        with self._discovery:
            if refresh or not self._resources:
                found: list[Resource] = []
                for root in ("/api", "/apis"):
                    found += _parse_discovery(
                        self.request("GET", root, accept=_DISCOVERY)
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

        ``name.group`` or ``name.version.group`` select among several.

        Raises:
            UnknownResourceError: Nothing of that name is served.
        """
        for refresh in (False, True):
            for resource in self.resources(refresh=refresh):
                if _is_named(resource, name):
                    return resource
        raise self._unknown(name)

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
        raise self._unknown(wanted[1], f" in {wanted[0]}")

    def _unknown(self, name: str, where: str = "") -> UnknownResourceError:
        names = {
            n: r
            for r in reversed(self._resources)
            for n in (r.kind, r.plural, r.singular, r.full_name)
            if n
        }
        near = get_close_matches(name, names, n=3)
        known = sorted({f"{names[n].kind} ({names[n].api_version})" for n in near})
        return UnknownResourceError(
            f"the API server serves no kind {name!r}{where}"
            + (f"; near it: {', '.join(known)}." if known else ".")
            + " If a CRD defines it, name its file in kube_crds",
            kind=name,
        )


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


def _is_named(resource: Resource, name: str) -> bool:
    first, _, rest = name.partition(".")
    if rest and rest not in {resource.group, f"{resource.version}.{resource.group}"}:
        return False
    lower = first.lower()
    return lower in {resource.plural, resource.singular, resource.kind.lower()} or (
        lower in resource.short_names
    )


def _parse_discovery(answer: Mapping[str, Any]) -> Iterator[Resource]:
    for group in answer.get("items", ()):
        for version in group.get("versions", ()):
            if version.get("freshness") == "Stale":
                continue
            for r in version.get("resources", ()):
                subresources = r.get("subresources") or ()
                yield Resource(
                    group=group["metadata"].get("name", ""),
                    version=version["version"],
                    plural=r["resource"],
                    kind=(r.get("responseKind") or {}).get("kind", ""),
                    singular=r.get("singularResource", ""),
                    namespaced=r["scope"] == "Namespaced",
                    short_names=tuple(r.get("shortNames") or ()),
                    verbs=frozenset(r.get("verbs") or ()),
                    subresources=frozenset(s["subresource"] for s in subresources),
                )


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
