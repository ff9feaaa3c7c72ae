"""What known causes a failed test may have, and what to do about each."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_kube import rbac
from pytest_kube.reports import at
from pytest_kube.requests_log import UNTOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_kube.observation import Running
    from pytest_kube.requests_log import Request

CONFLICTS = 5
"""Conflicts about one object from which on they are no accident."""

HINTS = 8

_CONFLICT = 409
_WEBHOOK = re.compile(r'failed calling webhook "([^"]+)"(.*)', re.DOTALL)
_NO_IMAGE = re.compile(r"ErrImage|ImagePull|image never")

Object = dict[str, Any]


def find(
    objects: Sequence[Object],
    requests: Sequence[Request],
    controllers: Sequence[Running],
    *,
    failure: str,
    provider: str,
) -> list[str]:
    """Look for known causes, and return a line or several for each.

    Args:
        objects: Those of the test, as they are now; CRDs as well.
        requests: What was asked of the API server in the test, oldest first.
        controllers: The controllers under test.
        failure: The text of the test's failure.
        provider: What the cluster is one of.
    """
    looks: list[Callable[[], Iterator[str]]] = [
        lambda: _lacking(requests),
        lambda: _webhooks(requests),
        lambda: _conflicts(requests),
        lambda: _not_served(objects),
        lambda: _waiting_for_finalizers(objects),
        lambda: _untouched(objects, requests, controllers),
        lambda: _behind(objects),
        lambda: _no_images(failure, provider),
    ]
    found: list[str] = []
    for look in looks:
        try:
            found += look()
        except Exception as e:  # noqa: BLE001  # objects may look like anything
            found.append(f"a hint could not be made: {type(e).__name__}: {e}")
    return found[:HINTS]


def _lacking(requests: Sequence[Request]) -> Iterator[str]:
    for user in dict.fromkeys(r.user for r in requests):
        rules = rbac.missing(r for r in requests if r.user == user)
        if rules:
            yield "\n".join([f"{user} needs a role with", *rbac.as_yaml(rules)])


def _webhooks(requests: Sequence[Request]) -> Iterator[str]:
    failed = {
        match[1]: match[2] for r in requests if (match := _WEBHOOK.search(r.message))
    }
    for name, why in failed.items():
        reason = why.rpartition(": ")[2].strip()
        yield (
            f"webhook {name} could not be reached ({reason}): does its server run, and "
            "does the URL or Service of its configuration lead to it?"
        )


def _conflicts(requests: Sequence[Request]) -> Iterator[str]:
    counted = Counter(
        (r.user, r.resource.partition("/")[0], r.namespace, r.name)
        for r in requests
        if r.code == _CONFLICT and r.verb in {"update", "patch"}
    )
    for (user, resource, namespace, name), count in counted.items():
        if count >= CONFLICTS:
            yield (
                f"{user} has written an outdated {resource} "
                f"{'/'.join(filter(None, (namespace, name)))} {count} times: read it "
                "anew before each update, or patch only the fields it owns"
            )


def _not_served(objects: Sequence[Object]) -> Iterator[str]:
    for crd in objects:
        if crd.get("kind") != "CustomResourceDefinition":
            continue
        for condition in at(crd, "status", "conditions") or ():
            wanted = {"Established": "True", "NamesAccepted": "True"}.get(
                condition.get("type")
            )
            if wanted and condition.get("status") != wanted:
                yield (
                    f"CRD {_name(crd)} is not served: {condition.get('type')} is "
                    f"{condition.get('status')}: {condition.get('message')}"
                )


def _waiting_for_finalizers(objects: Sequence[Object]) -> Iterator[str]:
    for obj in objects:
        metadata = obj.get("metadata") or {}
        finalizers = metadata.get("finalizers")
        if metadata.get("deletionTimestamp") and finalizers:
            yield (
                f"{obj.get('kind')} {_name(obj)} is being deleted, and waits for who "
                f"takes away its finalizers: {', '.join(finalizers)}"
            )


def _untouched(
    objects: Sequence[Object],
    requests: Sequence[Request],
    controllers: Sequence[Running],
) -> Iterator[str]:
    """Find custom resources that no controller under test has written to or about."""
    users = {controller.user for controller in controllers}
    if not users:
        return
    written = any(
        r.user in users
        and r.verb not in {"get", "list", "watch"}
        and r.resource not in UNTOLD
        for r in requests
    )
    custom = [o for o in objects if _is_custom(o) and not o.get("status")]
    if custom and not written:
        names = ", ".join(f"{o.get('kind')} {_name(o)}" for o in custom[:3])
        who = ", ".join(controller.name for controller in controllers)
        yield (
            f"nothing was written by {who}, about {names} or anything else: does it "
            "watch that kind, in that namespace?"
        )


def _behind(objects: Sequence[Object]) -> Iterator[str]:
    for obj in objects:
        generation = at(obj, "metadata", "generation")
        observed = at(obj, "status", "observedGeneration")
        known = isinstance(generation, int) and isinstance(observed, int)
        if known and observed < generation:
            yield (
                f"{obj.get('kind')} {_name(obj)} has generation {generation}, its "
                f"status is of {observed}: its controller has not seen the last "
                "change of its spec, or does not say so"
            )


def _no_images(failure: str, provider: str) -> Iterator[str]:
    if provider in {"kwok", "envtest"} and _NO_IMAGE.search(failure):
        yield (
            f"{provider} pulls no images and runs no containers: what depends on that "
            "needs --kube=kind"
        )


def _is_custom(obj: Mapping[str, Any]) -> bool:
    group = str(obj.get("apiVersion")).rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def _name(obj: Mapping[str, Any]) -> str:
    metadata = obj.get("metadata") or {}
    return "/".join(filter(None, (metadata.get("namespace"), metadata.get("name"))))
