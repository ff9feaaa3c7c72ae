"""CRDs: created, and awaited until objects of their kinds can be created."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pytest_kube.client import FIELD_MANAGER
from pytest_kube.errors import (
    APIError,
    ClusterError,
    ConflictError,
    ManifestError,
    NotFoundError,
    hide_frames,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_kube.client import Client

__tracebackhide__ = hide_frames

TIMEOUT = 30.0
"""Seconds until a new CRD is served; a server under load has needed ten."""

PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

_AT_ONCE = 8
_PAUSE = 0.004


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


def _create(client: Client, crd: dict[str, Any], source: Path) -> None:
    name = crd["metadata"]["name"]
    strict = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
    try:
        client.request("POST", PATH, query=strict, body=crd)
    except ConflictError:
        there = client.request("GET", f"{PATH}/{name}")
        metadata = {
            "name": name,
            "resourceVersion": there["metadata"]["resourceVersion"],
        }
        ours = client.request(
            "PUT",
            f"{PATH}/{name}",
            query={**strict, "dryRun": "All"},
            body={**crd, "metadata": metadata},
        )
        if ours["spec"] != there["spec"]:
            raise ClusterError(
                f"CRD {name} from {source} is installed already, with other "
                "content; delete the one in the cluster, or name only one file"
            ) from None
    except APIError as e:
        raise ManifestError(
            f"the API server refuses CRD {name}: {e.details.get('message', e)}",
            source=source,
        ) from e


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
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        late = list(pool.map(lambda c: _served(client, c, deadline, single), crds))
    names = {crd["metadata"]["name"]: True for crd in crds}
    missing = next(filter(None, late), None) or _undiscovered(client, names, deadline)
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


def _served(
    client: Client,
    crd: Mapping[str, Any],
    deadline: float,
    single: bool,  # noqa: FBT001
) -> tuple[str, str] | None:
    """Wait until a CRD is established and served; return what is missing in the end."""
    name, spec = crd["metadata"]["name"], crd["spec"]
    versions = [v["name"] for v in spec["versions"] if v.get("served")]
    established, missing = False, "status condition Established"
    while time.monotonic() < deadline:
        if not established:
            established = _established(client, name, single)
        else:
            plural = spec["names"]["plural"]
            lacks = (_unserved(client, spec["group"], v, plural) for v in versions)
            missing = next(filter(None, lacks), "")
            if not missing:
                return None
        time.sleep(_PAUSE)
    return name, missing


def _established(client: Client, name: str, single: bool) -> bool:  # noqa: FBT001
    crd = client.request("GET", f"{PATH}/{name}")
    conditions = crd.get("status", {}).get("conditions") or []
    state = {c["type"]: c for c in conditions}
    if state.get("NamesAccepted", {}).get("status") == "False":
        raise ClusterError(
            f"CRD {name} is not accepted: {state['NamesAccepted']['message']}"
        )
    if state.get("Established", {}).get("status") != "True":
        return False
    if single and any(c["lastTransitionTime"] > _LONG_AGO for c in conditions):
        # The API server holds the first create of a kind whose CRD was established
        # less than 2 s ago, for other API servers' sake. There is none.
        for condition in conditions:
            condition["lastTransitionTime"] = _LONG_AGO
        client.patch(
            f"{PATH}/{name}/status",
            {"status": {"conditions": conditions}},
            type_="merge",
        )
    return True


_LONG_AGO = "2020-01-01T00:00:00Z"


def _unserved(client: Client, group: str, version: str, plural: str) -> str:
    """Say what is still missing before objects can be created, if anything is."""
    path = f"/apis/{group}/{version}"
    try:
        listed = client.request("GET", path)["resources"]
        if plural not in {r["name"] for r in listed}:
            return f"{plural} in discovery of {path}"
        client.request("GET", f"{path}/{plural}", query={"limit": "1"})
    except NotFoundError:
        return f"answer from {path}/{plural}"
    return ""
