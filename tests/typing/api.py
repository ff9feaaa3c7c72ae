"""How users write it: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_kube import (
    APIError,
    Cluster,
    Condition,
    Controller,
    History,
    HistoryError,
    Kube,
    Object,
    Version,
    WaitTimeoutError,
    condition,
    deleted,
    exists,
    field,
    jsonpath,
    phase,
    ready,
)


def verbs(kube: Kube) -> None:
    """Each verb returns objects, or nothing."""
    one: Object = kube.apply({"apiVersion": "v1", "kind": "ConfigMap"})
    several: list[Object] = kube.apply("examples/memcached.yaml")
    several = kube.apply(Path("config"))
    several = kube.apply([one, {"kind": "ConfigMap"}])
    one = kube.create(one)
    one = kube.get("configmap/settings")
    found: Object | None = kube.find(one, namespace="other")
    several = kube.list("pods", labels={"app": "web"}, fields="status.phase=Running")
    one = kube.patch(one, {"data": {"a": "b"}})
    one = kube.patch(one, [{"op": "remove", "path": "/data"}], type="json")
    kube.delete("pod/web", wait=False)
    text: str = one.name + one.uid + one.kind + (one.namespace or "")
    size: Any = one["spec"]["size"]
    print(several, found, text, size)  # noqa: T201


def conditions(kube: Kube) -> None:
    """A condition is one of ours, a text of kubectl's, or a callable."""
    combined: Condition = (condition("Ready") & ~deleted) | ready
    combined &= exists & phase("Running") & jsonpath("{.status.replicas}", 3)
    one: Object = kube.wait_for("pod/web", combined, timeout=2.5)
    one = kube.wait_for(one, "condition=Ready")
    one = kube.wait_for(one, lambda obj: obj is None or obj["spec"]["replicas"] > 3)
    one = kube.wait_for(one, field("spec.replicas", lambda n: n > 3), namespace="x")


def history(kube: Kube) -> None:
    """A history is a sequence of versions, and asserts over them."""
    everything: History = kube.history()
    version: Version = kube.history("deployment/web")[-1]
    before: Object | None = version.previous
    created, done = everything.sequence("create", condition("Ready"))
    everything.never(lambda obj: obj is not None and obj["spec"]["replicas"] > 3)
    kube.history(version.object or before).always(exists)
    texts: list[str] = [version.ref, version.verb, version.user or ""]
    seconds: float = (done.time - created.time).total_seconds()
    print(texts, seconds, version.revision + 1, everything[1:])  # noqa: T201
    try:
        everything.always("create")
    except HistoryError as e:
        print(e.version.ref if e.version else e)  # noqa: T201


def fixtures(
    kube_cluster: Cluster,
    kube_namespace: str,
    kube_controller: Controller,
    run_controller: Callable[..., Controller],
) -> None:
    """What the fixtures give."""

    async def reconcile(namespace: str) -> None:
        """A controller."""

    started = run_controller(reconcile, size=3)
    config: Path = kube_cluster.kubeconfig
    lines: list[str] = started.errors + kube_controller.output.splitlines()
    print(config, lines, kube_namespace, kube_cluster.version)  # noqa: T201


def errors(kube: Kube) -> None:
    """Errors carry what code wants to know."""
    try:
        kube.wait_for("pod/web", ready)
    except WaitTimeoutError as e:
        print(e.last, e.elapsed + 1.0)  # noqa: T201
    except APIError as e:
        print(e.status + 1, e.reason.lower(), e.details.get("causes"))  # noqa: T201
