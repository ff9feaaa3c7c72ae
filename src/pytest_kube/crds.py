"""CRDs: created, and awaited until objects of their kinds can be created."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pytest_kube.client import FIELD_MANAGER
from pytest_kube.diff import differences
from pytest_kube.errors import (
    APIError,
    ClusterError,
    ConflictError,
    ManifestError,
    NotFoundError,
    hide_frames,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_kube.client import Client

__tracebackhide__ = hide_frames

TIMEOUT = 30.0
"""Seconds until a new CRD is served; a server under load has needed ten."""

PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

FORBIDDEN = 403

_STRICT = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
_SHOWN = 8
_AT_ONCE = 8
_PAUSE = 0.004
_NAMES_AFTER = 0.5
_LONG_AGO = "2020-01-01T00:00:00Z"


def create(client: Client, crds: Sequence[tuple[dict[str, Any], Path]]) -> None:
    """Create CRDs, several at a time.

    Args:
        client: The cluster.
        crds: Each with the file it stands in.

    Raises:
        ManifestError: The API server finds one invalid.
        ClusterError: One of that name is there already, with other content.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda crd: _create(client, *crd), crds))


def adopt(
    client: Client,
    crd: Mapping[str, Any],
    source: Path,
    *,
    labels: Mapping[str, str],
    replace: bool,
    note: Callable[[str], None],
) -> dict[str, Any] | None:
    """Create a CRD in somebody's cluster, unless it is there.

    Args:
        client: The cluster.
        crd: The CRD.
        source: The file it stands in.
        labels: For a new one.
        replace: Whether it takes the place of one with other content.
        note: Told what could not be made sure of.

    Returns:
        ``None`` for a new one; the one that was replaced; nothing in it where the one
        that is there has the same content.

    Raises:
        ManifestError: The API server finds it invalid.
        ClusterError: One is there with other content; or its kind is not served, and
            the user may not install it.
    """
    metadata = crd["metadata"]
    name = metadata["name"]
    try:
        there: dict[str, Any] = client.request("GET", f"{PATH}/{name}")
    except NotFoundError:
        labelled = {**(metadata.get("labels") or {}), **labels}
        _create(client, {**crd, "metadata": {**metadata, "labels": labelled}}, source)
        return None
    except APIError as e:
        if e.status != FORBIDDEN:
            raise
        if any(name == resource.full_name for resource in client.resources()):
            note(f"CRD {name} is there; this user may not see whether as in {source}")
            return {}
        raise ClusterError(
            f"CRD {name} from {source} is not installed, and this user may not do it: "
            f"{e.details.get('message', e)}; have it installed, or name the context of "
            "a user who may"
        ) from None
    differs = _differences(client, crd, there)
    if not differs:
        return {}
    if not replace:
        raise _other_content(
            name,
            source,
            differs,
            "others may rely on it: take a cluster of your own, or let the run replace "
            "it and put it back, by replaceCRDs: true in a profile of this cluster",
        )
    body = {**there, "spec": crd["spec"]}
    client.request("PUT", f"{PATH}/{name}", query=_STRICT, body=body)
    return there


def _create(client: Client, crd: Mapping[str, Any], source: Path) -> None:
    name = crd["metadata"]["name"]
    try:
        client.request("POST", PATH, query=_STRICT, body=crd)
    except ConflictError:
        there = client.request("GET", f"{PATH}/{name}")
        if differs := _differences(client, crd, there):
            raise _other_content(
                name,
                source,
                differs,
                "delete the one in the cluster, or name only one file",
            ) from None
    except APIError as e:
        raise ManifestError(
            f"the API server refuses CRD {name}: {e.details.get('message', e)}",
            source=source,
        ) from e


def _other_content(
    name: str, source: Path, differs: Sequence[str], remedy: str
) -> ClusterError:
    shown = [f"    {line}" for line in differs[:_SHOWN]]
    if len(differs) > _SHOWN:
        shown.append(f"    and {len(differs) - _SHOWN} more")
    return ClusterError(
        f"CRD {name} from {source} is installed already, with other content; {remedy}"
        "\n  installed -> file\n" + "\n".join(shown)
    )


def _differences(
    client: Client, crd: Mapping[str, Any], there: Mapping[str, Any]
) -> list[str]:
    """Say in what a CRD differs from the one that is there, defaults set."""
    name, known = crd["metadata"]["name"], there["metadata"]["resourceVersion"]
    body = {**crd, "metadata": {"name": name, "resourceVersion": known}}
    query = {**_STRICT, "dryRun": "All"}
    before = {"spec": there["spec"]}
    try:
        ours = client.request("PUT", f"{PATH}/{name}", query=query, body=body)
    except APIError as e:
        if e.status != FORBIDDEN:
            raise
        # Who may not write cannot ask for defaults: what the file says is compared.
        ours, before = crd, {"spec": _as_far_as(crd["spec"], there["spec"])}
    return differences(before, {"spec": ours["spec"]})


def _as_far_as(wanted: Any, there: Any) -> Any:
    """Return of *there* what *wanted* says something about."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        both = wanted.keys() & there.keys()
        return {key: _as_far_as(wanted[key], there[key]) for key in both}
    if isinstance(wanted, list) and isinstance(there, list):
        if len(wanted) != len(there):
            return there
        return [_as_far_as(*pair) for pair in zip(wanted, there, strict=True)]
    return there


def await_served(
    client: Client,
    crds: Sequence[Mapping[str, Any]],
    *,
    single: bool,
    log: Path | None,
) -> None:
    """Wait until objects of these kinds can be created, and discovery lists them.

    Args:
        client: The cluster.
        crds: They exist already.
        single: Whether there is one API server only.
        log: The log of the API server, for the text of an error.

    Raises:
        ClusterError: It took too long, or one of them is not accepted.
    """
    if not crds:
        return
    deadline = time.monotonic() + TIMEOUT
    names = {crd["metadata"]["name"]: True for crd in crds}
    missing = _unserved(client, crds, deadline)
    if not missing:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda crd: _open(client, crd, single=single), crds))
        missing = _undiscovered(client, names, deadline)
    if missing:
        name, what = missing
        raise ClusterError(
            f"CRD {name} was not ready within {TIMEOUT:.0f} s: no {what}. "
            f"kubectl get crd {name} -o yaml tells more, so does the API server's log: "
            f"{log or 'not collected'}"
        )


def await_discovery(client: Client, expected: Mapping[str, bool]) -> None:
    """Wait until discovery lists kinds by the names of their CRDs, or does not.

    Raises:
        ClusterError: It took too long.
    """
    if missing := _undiscovered(client, expected, time.monotonic() + TIMEOUT):
        raise ClusterError(
            f"after a rollback, discovery was still wrong about {missing[0]} after "
            f"{TIMEOUT:.0f} s"
        )


def _undiscovered(
    client: Client, expected: Mapping[str, bool], deadline: float
) -> tuple[str, str] | None:
    """Return what is wrong in discovery until the end; nothing when it is right."""
    while True:
        listed = {resource.full_name for resource in client.resources(refresh=True)}
        wrong = [name for name, there in expected.items() if (name in listed) != there]
        if not wrong:
            return None
        if time.monotonic() >= deadline:
            return wrong[0], f"{wrong[0]} in aggregated discovery"
        time.sleep(_PAUSE)


def _unserved(
    client: Client, crds: Sequence[Mapping[str, Any]], deadline: float
) -> tuple[str, str] | None:
    """Wait until all are served; return what is not in the end.

    What is established is served by its group, for which one request is enough.
    """
    wanted = {
        (f"/apis/{crd['spec']['group']}/{version['name']}", crd["metadata"]["name"])
        for crd in crds
        for version in crd["spec"]["versions"]
        if version.get("served")
    }
    check_names = time.monotonic() + _NAMES_AFTER
    while True:
        for path in {path for path, _ in wanted}:
            served = _listed(client, path)
            wanted -= {(p, n) for p, n in wanted if p == path and _plural(n) in served}
        now = time.monotonic()
        if not wanted:
            return None
        path, name = min(wanted)
        if now >= deadline:
            return name, f"{_plural(name)} in discovery of {path}"
        if now >= check_names:
            check_names = now + _NAMES_AFTER
            _check_names(client, name)
        time.sleep(_PAUSE)


def _listed(client: Client, path: str) -> set[str]:
    try:
        return {r["name"] for r in client.request("GET", path)["resources"]}
    except NotFoundError:
        return set()


def _plural(name: str) -> str:
    return name.partition(".")[0]


def _check_names(client: Client, name: str) -> None:
    for condition in _conditions(client, name):
        if condition["type"] == "NamesAccepted" and condition["status"] == "False":
            raise ClusterError(f"CRD {name} is not accepted: {condition['message']}")


def _open(client: Client, crd: Mapping[str, Any], *, single: bool) -> None:
    """See to it that the first object can be created at once."""
    path = f"{PATH}/{crd['metadata']['name']}"
    conditions = _conditions(client, crd["metadata"]["name"]) if single else []
    if any(c["lastTransitionTime"] != _LONG_AGO for c in conditions):
        # The API server holds the first create of a kind whose CRD was established
        # less than 2 s ago, for other API servers' sake. There is none.
        old = [{**c, "lastTransitionTime": _LONG_AGO} for c in conditions]
        patch = {"status": {"conditions": old}}
        client.patch(f"{path}/status", patch, type_="merge")
    spec = crd["spec"]
    for version in spec["versions"]:
        if version.get("served"):
            served = (
                f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}"
            )
            try:
                client.request("GET", served, query={"limit": "1"})
            except APIError as e:
                if e.status != FORBIDDEN:  # a user of one namespace may not
                    raise


def _conditions(client: Client, name: str) -> list[dict[str, Any]]:
    status = client.request("GET", f"{PATH}/{name}").get("status") or {}
    return status.get("conditions") or []  # null until somebody has looked at it
