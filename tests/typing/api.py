"""How users write it: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, assert_type

import nox

from pytest_kube import (
    APIError,
    Cluster,
    Condition,
    ConflictError,
    Controller,
    ExecError,
    History,
    HistoryError,
    Kube,
    KubeError,
    Node,
    NotFoundError,
    NotRejectedError,
    Object,
    Outcome,
    Version,
    WaitFailedError,
    WaitTimeoutError,
    condition,
    deleted,
    exists,
    failed,
    jsonpath,
    observed,
    phase,
    ready,
)
from pytest_kube import field as at
from pytest_kube.nox import kube_versions


@nox.session
@kube_versions("1.34", "1.36")
def tests(session: nox.Session, kube: str) -> None:
    """A session of a noxfile."""
    session.run("pytest", f"--junitxml={kube}.xml")


@dataclass
class Memcached:
    """A model with ``to_dict()``, as the official client and kr8s have them."""

    size: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the object."""
        return {"kind": "Memcached", "spec": {"size": self.size}}


@dataclass
class Website:
    """A model with ``model_dump()``, as Pydantic makes them."""

    hosts: list[str] = field(default_factory=list[str])

    def model_dump(
        self,
        *,
        mode: str = "python",
        by_alias: bool | None = None,
        exclude_none: bool = False,
    ) -> dict[str, Any]:
        """Return the object."""
        return {"hosts": self.hosts, "with": (mode, by_alias, exclude_none)}


def applying(kube: Kube) -> None:
    """One object gives one, anything else a list."""
    one = kube.apply({"apiVersion": "v1", "kind": "ConfigMap"})
    assert_type(one, Object)
    assert_type(kube.apply(Memcached(size=3)), Object)
    assert_type(kube.apply(Website(["example.com"])), Object)
    assert_type(kube.apply("examples/memcached.yaml"), list[Object])
    assert_type(kube.apply(Path("config"), force=True), list[Object])
    assert_type(kube.apply([one, Memcached(), {"kind": "ConfigMap"}]), list[Object])


def writing(kube: Kube, one: Object) -> None:
    """Each verb returns the object as it is then."""
    assert_type(kube.create(one), Object)
    assert_type(kube.update(one, subresource="status"), Object)
    assert_type(
        kube.update("memcached/sample", lambda m: m["spec"].update(size=3)), Object
    )
    assert_type(kube.update(one, enlarge, namespace="other"), Object)
    assert_type(kube.patch(one, {"data": {"a": "b"}}), Object)
    assert_type(
        kube.patch("cm/a", [{"op": "remove", "path": "/data"}], type="json"), Object
    )
    assert_type(kube.scale("deployment/web", 3), Object)
    kube.delete("pod/web", wait=False)
    kube.delete(one, propagation="Foreground", grace=0, timeout=3.5)
    status = kube.expect_rejected(one, match="must be positive")
    assert_type(status, Object)


def enlarge(memcached: Object) -> None:
    """Change an object in place."""
    memcached["spec"]["size"] += 1


def reading(kube: Kube) -> None:
    """What may be absent is told by the type."""
    one = kube.get("configmap/settings")
    assert_type(one, Object)
    assert_type(kube.get("deployment/web", subresource="scale"), Object)
    assert_type(kube.find(one, namespace="other"), Object | None)
    assert_type(kube.list("pods"), list[Object])
    kube.list("pods", labels={"app": "web"}, fields={"status.phase": "Running"})
    kube.list("pods", labels="app=web", fields="status.phase=Running", namespace="")
    assert_type(kube.events(one), list[Object])
    assert_type([one.name, one.uid, one.kind], list[str])
    assert_type(one.namespace, str | None)
    assert_type(one["spec"]["size"], Any)


def conditions(kube: Kube) -> None:
    """A condition is one of ours, a text of kubectl's, or a callable."""
    combined = (condition("Ready") & ~deleted) | ready | observed
    assert_type(combined, Condition)
    combined &= exists & phase("Running") & jsonpath("{.status.replicas}", 3)
    combined |= "condition=Available"
    mixed = combined & large
    assert_type(mixed, Condition)
    assert_type(large | exists, Condition)
    assert_type(mixed(None), bool)
    assert_type(mixed(kube.get("pod/web")), bool)
    assert_type(Condition("large", large).explain(None), str)
    at("spec.replicas", lambda n: n > 3)
    at("spec.paused", None)


def large(obj: Any) -> bool:
    """A condition of one's own."""
    return bool(obj) and obj["spec"]["size"] > 3


def waits(kube: Kube, one: Object) -> None:
    """A wait returns what it waited for."""
    assert_type(kube.wait_for("pod/web", ready & exists, timeout=2.5), Object)
    kube.wait_for(one, "condition=Ready", namespace="other")
    kube.wait_for(one, lambda obj: obj is None or obj["spec"]["replicas"] > 3)
    kube.wait_for(one, at("spec.replicas", 3), unless=None)
    kube.wait_for(one, large, unless=condition("Stalled") | failed)
    kube.wait_for(one, large, unless="jsonpath={.status.phase}=Failed")
    assert_type(kube.wait_for_all("pods", ready, count=3), list[Object])
    kube.wait_for_all("pods", large, labels={"app": "web"}, namespace="")
    assert_type(kube.consistently(one, ~failed, seconds=0.5), Object)
    assert_type(kube.eventually(lambda: "x" in one["data"]), bool)
    assert_type(kube.eventually(lambda: kube.list("pods"), timeout=1), list[Object])
    kube.settle()
    kube.settle(quiet=0.5, timeout=3)


def pods(kube: Kube) -> None:
    """Where pods really run."""
    assert_type(kube.logs("pod/web", container="main", tail=3), str)
    assert_type(kube.exec("deployment/web", "cat", "/etc/hostname"), str)
    assert_type(kube.node(), Node)
    with kube.port_forward("service/web", 80) as port:
        assert_type(port, int)
    with ExitStack() as stack:
        assert_type(stack.enter_context(kube.port_forward("pod/web", 80)), int)


def identities(kube: Kube) -> None:
    """The same handle, as somebody else."""
    assert_type(kube.as_user("jane", "viewers", "testers"), Kube)
    assert_type(kube.as_service_account("default", namespace="other"), Kube)
    assert_type(kube.kubeconfig, Path)
    assert_type(kube.namespace, str)
    assert_type(kube.cluster, Cluster)


def history(kube: Kube) -> None:
    """A history is a sequence of versions, and asserts over them."""
    everything = kube.history()
    assert_type(everything, History)
    version = kube.history("deployment/web")[-1]
    assert_type(version, Version)
    assert_type(everything[1:], History)
    assert_type(version.previous, Object | None)
    created, done = everything.sequence("create", condition("Ready"))
    assert_type((done.time - created.time).total_seconds(), float)
    everything.never(lambda obj: obj is not None and obj["spec"]["replicas"] > 3)
    everything.never(large)
    if version.object:
        kube.history(version.object).always(exists)
    assert_type(version.user, str | None)
    assert_type([version.ref, version.verb], list[str])
    assert_type({v.revision for v in everything if v.object is None}, set[int])


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
    assert_type(started, Controller)
    assert_type(kube_cluster.kubeconfig, Path)
    assert_type(kube_cluster.version, str)
    assert_type("nodes" in kube_cluster.capabilities, bool)
    lines = started.errors + kube_controller.output.splitlines()
    assert_type(lines, list[str])
    assert_type(started.user, str)
    assert_type(started.outcomes, list[Outcome])
    outcome = started.outcomes[0]
    assert_type(outcome.result, Literal["success", "retry", "error"])
    assert_type(outcome.time, datetime)
    assert_type([outcome.handler, outcome.about, outcome.text], list[str])
    assert_type(kube_controller.reconciles(), Counter[str])
    assert_type(kube_controller.reconciles()["success"], int)
    assert_type([line.text for line in started.lines()], list[str])
    assert_type([line.time for line in started.lines()], list[datetime])
    started.stop()
    print(kube_namespace)  # noqa: T201


def errors(kube: Kube) -> None:
    """Errors carry what code wants to know, and are those of Python, too."""
    try:
        kube.wait_for("pod/web", ready)
    except (WaitTimeoutError, WaitFailedError) as e:
        assert_type(e.last, dict[str, Any] | None)
        assert_type(e.elapsed, float)
        timed_out: TimeoutError | AssertionError = e
        print(timed_out)  # noqa: T201
    except (NotFoundError, ConflictError) as e:
        refused: APIError = e
        print(refused)  # noqa: T201
    except APIError as e:
        assert_type(e.status, int)
        assert_type(e.reason, str)
        assert_type(e.details, dict[str, Any])
    except NotRejectedError as e:
        assert_type(e.object, dict[str, Any])
    except ExecError as e:
        assert_type(e.exit_code, int | None)
        assert_type(e.output + e.error, str)
    except HistoryError as e:
        print(e.version.ref if e.version else e)  # noqa: T201
    except KubeError as e:
        print(e)  # noqa: T201
