"""What somebody was granted, has used, and was refused: the rules of roles."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pytest_kube.client import Client
    from pytest_kube.requests_log import Request

SERVICE_ACCOUNT = "system:serviceaccount"
ANY = "*"

_ROLES = "/apis/rbac.authorization.k8s.io/v1"
_REFUSED = re.compile(r'cannot (\S+) resource "([^"]*)" in API group "([^"]*)"')
"""How the API server says that no role allows it; a quota says something else. The verb
is that of the right: what is applied may have to be created."""

_CREATED = 201
_FORBIDDEN = 403


class Right(NamedTuple):
    """One verb on one resource; ``*`` stands for all."""

    group: str
    resource: str
    verb: str

    def covers(self, other: Right) -> bool:
        """Say whether who has this right has the other one."""
        _, _, subresource = other.resource.partition("/")
        resources = {ANY, other.resource}
        if subresource:
            resources.add(f"{ANY}/{subresource}")
        return (
            self.group in {ANY, other.group}
            and self.resource in resources
            and self.verb in {ANY, other.verb}
        )


@dataclass(frozen=True)
class RBACReport:
    """What the roles of a user would have to say.

    Attributes:
        user: Whose.
        missing: Rules, as a role has them, for what was refused.
        unused: Rules for what is granted, and was never asked for.
    """

    user: str
    missing: list[dict[str, list[str]]]
    unused: list[dict[str, list[str]]]

    def __str__(self) -> str:
        lines = [f"# {self.user}"]
        for title, found in (
            ("asked for, and not granted", self.missing),
            ("granted, and never asked for", self.unused),
        ):
            lines += [f"# {title}:", *(as_yaml(found) or ["# nothing"])]
        return "\n".join(lines)


def report(client: Client, user: str, asked: Collection[Request]) -> RBACReport:
    """Compare what a user has asked for with what its roles grant.

    Args:
        client: The cluster, as its administrator.
        user: Whose name it is for the API server.
        asked: Its requests.
    """
    used = {
        right
        for request in asked
        if not _lacking(request)
        for right in _needed(request)
    }
    unused = {
        right
        for right in _granted(client, user)
        if not any(right.covers(each) for each in used)
    }
    return RBACReport(user, missing(asked), rules(unused))


def missing(asked: Iterable[Request]) -> list[dict[str, list[str]]]:
    """Return the rules that would allow what was refused."""
    return rules({right for request in asked if (right := _lacking(request))})


def rules(rights: Iterable[Right]) -> list[dict[str, list[str]]]:
    """Return rights as few rules, as a role has them."""
    verbs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for group, resource, verb in sorted(rights):
        verbs[group, resource].append(verb)
    resources: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource), known in verbs.items():
        resources[group, tuple(known)].append(resource)
    return [
        {"apiGroups": [group], "resources": names, "verbs": list(known)}
        for (group, known), names in resources.items()
    ]


def as_yaml(found: Iterable[dict[str, list[str]]]) -> list[str]:
    """Return rules as lines that can be put into a role."""
    lines = []
    for rule in found:
        for i, (key, values) in enumerate(rule.items()):
            text = ", ".join(v if v.strip("*") else f'"{v}"' for v in values)
            lines.append(f"{'-' if not i else ' '} {key}: [{text}]")
    return lines


def _right(request: Request) -> Right:
    return Right(request.group, request.resource, request.verb)


def _needed(request: Request) -> Iterator[Right]:
    """Yield the rights without which it would have been refused."""
    yield _right(request)
    if request.code == _CREATED and request.verb != "create":
        yield _right(request)._replace(verb="create")  # as server-side apply may


def _lacking(request: Request) -> Right | None:
    """Return the right for whose lack it was refused, if that is why it was."""
    found = request.code == _FORBIDDEN and _REFUSED.search(request.message)
    return Right(found[3], found[2], found[1]) if found else None


def _granted(client: Client, user: str) -> Iterator[Right]:
    """Yield every right that the roles of a user grant by name."""
    for kind in ("clusterrolebindings", "rolebindings"):
        for binding in client.list(f"{_ROLES}/{kind}").items:
            if any(_is(subject, user) for subject in binding.get("subjects") or ()):
                yield from _rights(client, binding)


def _is(subject: dict[str, Any], user: str) -> bool:
    if subject["kind"] == "ServiceAccount":
        name = f"{SERVICE_ACCOUNT}:{subject.get('namespace')}:{subject['name']}"
        return name == user
    return bool(subject["kind"] == "User" and subject["name"] == user)


def _rights(client: Client, binding: dict[str, Any]) -> Iterator[Right]:
    ref = binding["roleRef"]
    path = f"{_ROLES}/clusterroles"
    if ref["kind"] == "Role":
        path = f"{_ROLES}/namespaces/{binding['metadata']['namespace']}/roles"
    found = client.list(path, fields={"metadata.name": ref["name"]}).items
    for rule in found[0].get("rules") or () if found else ():
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                for verb in rule["verbs"]:
                    yield Right(group, resource, verb)
