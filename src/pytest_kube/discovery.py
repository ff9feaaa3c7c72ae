"""What an API server serves: resources, found by the names that people use. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pytest_kube.errors import UnknownResourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ACCEPT = ",".join(
    f"application/json;g=apidiscovery.k8s.io;v={v};as=APIGroupDiscoveryList"
    for v in ("v2", "v2beta1")
)
"""The header that asks for everything at once."""


@dataclass(frozen=True)
class Resource:
    """One resource that the API serves, in one version of its group.

    Attributes:
        subresources: Each with the apiVersion and kind of what is created there.
    """

    group: str
    version: str
    plural: str
    kind: str
    singular: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    verbs: frozenset[str] = frozenset()
    subresources: Mapping[str, tuple[str, str] | None] = field(
        default_factory=dict, compare=False
    )

    @property
    def api_version(self) -> str:
        """Return what stands in ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """Return ``plural.group``, what CRDs are named by; core: the plural."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def whole(self, items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the items of a list with the kind, which the list has once for all."""
        common = {"apiVersion": self.api_version, "kind": self.kind}
        return [{**common, **item} for item in items]

    def path(
        self, namespace: str | None = None, name: str = "", subresource: str = ""
    ) -> str:
        """Return the URL path of the collection, an object, or its subresource."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [p for p in (self.plural, name, subresource) if p]
        return "/".join(parts)


def named(resources: Iterable[Resource], name: str) -> list[Resource]:
    """Return what a name may mean: one resource for each group that has it."""
    first, _, rest = name.partition(".")
    lower = first.lower()
    within = [r for r in resources if not rest or rest.rstrip(".") in _places(r)]
    # A short name of one kind may be the full name of another.
    found = [r for r in within if lower in {r.plural, r.singular, r.kind.lower()}]
    found = found or [r for r in within if lower in r.short_names]
    groups: dict[str, Resource] = {}
    for resource in found:
        groups.setdefault(
            "" if _is_built_in(resource.group) else resource.group, resource
        )
    return list(groups.values())


def _places(resource: Resource) -> set[str]:
    if not resource.group:
        return {resource.version}
    return {resource.group, f"{resource.version}.{resource.group}"}


def _is_built_in(group: str) -> bool:
    return "." not in group or group.endswith(".k8s.io")


def ambiguous(name: str, found: Iterable[Resource]) -> UnknownResourceError:
    """Return the error that lists what a name may mean."""
    names = [
        f"    {r.full_name if r.group else f'{r.plural}.{r.version}'}  "
        f"({r.kind}, {r.api_version})"
        for r in found
    ]
    return UnknownResourceError(
        f"{name!r} is served by several groups; write one of\n" + "\n".join(names),
        kind=name,
    )


def parse(answer: Mapping[str, Any]) -> Iterator[Resource]:
    """Yield what an answer of aggregated discovery lists."""
    for group in answer.get("items", ()):
        for version in group.get("versions", ()):
            if version.get("freshness") == "Stale":
                continue
            for r in version.get("resources", ()):
                subresources = {
                    s["subresource"]: _created_by(s)
                    for s in r.get("subresources") or ()
                }
                yield Resource(
                    group=group["metadata"].get("name", ""),
                    version=version["version"],
                    plural=r["resource"],
                    kind=(r.get("responseKind") or {}).get("kind", ""),
                    singular=r.get("singularResource", ""),
                    namespaced=r["scope"] == "Namespaced",
                    short_names=tuple(r.get("shortNames") or ()),
                    verbs=frozenset(r.get("verbs") or ()),
                    subresources=subresources,
                )


def _created_by(subresource: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return apiVersion and kind of what is created at a subresource."""
    if "create" not in (subresource.get("verbs") or ()):
        return None
    kind = subresource.get("responseKind") or {}
    places = (kind.get("group"), kind.get("version"))
    return "/".join(p for p in places if p), kind.get("kind", "")


def unknown(
    name: str, resources: Iterable[Resource], where: str = ""
) -> UnknownResourceError:
    """Return the error that says that nothing of that name is served."""
    names = {
        n: r
        for r in reversed(list(resources))
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
