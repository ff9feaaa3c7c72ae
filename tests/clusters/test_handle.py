"""The handle: verbs and waits against real API servers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import condition, deleted, exists, field
from pytest_kube.errors import (
    APIError,
    ConflictError,
    NotFoundError,
    UnknownResourceError,
    WaitTimeoutError,
)
from pytest_kube.kube import Object

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kube.cluster import Cluster
    from pytest_kube.kube import Kube


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": data,
    }


def test_applied_object_comes_back_as_the_server_has_it(handle: Kube) -> None:
    """Apply returns the object, in the namespace of the handle."""
    applied = handle.apply(config_map("a", x="1"))

    assert isinstance(applied, Object)
    assert applied.namespace == handle.namespace
    assert applied.kind == "ConfigMap"
    assert applied.uid
    assert handle.get("cm/a") == applied


def test_apply_again_changes_the_object(handle: Kube) -> None:
    """Apply is declarative: fields that went from the source go from the object."""
    handle.apply(config_map("a", x="1", y="2"))

    handle.apply(config_map("a", x="3"))

    assert handle.get("configmap/a")["data"] == {"x": "3"}


def test_apply_reads_files_and_folders(handle: Kube, tmp_path: Path) -> None:
    """All documents of all files are applied."""
    two = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n---\n"
    (tmp_path / "b.yaml").write_text(two + two.replace("name: b", "name: c"))

    applied = handle.apply(tmp_path)

    assert [o.name for o in applied] == ["b", "c"]


def test_apply_of_a_crd_makes_its_kind_usable_at_once(handle: Kube) -> None:
    """One file may hold a CRD and objects of its kind; both go with the test."""
    group = f"{handle.namespace}.example.com"
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    }
    gadget = {"apiVersion": f"{group}/v1", "kind": "Gadget", "metadata": {"name": "g"}}

    handle.apply([gadget, crd])

    assert [g.name for g in handle.list(f"gadgets.{group}")] == ["g"]
    handle.leftovers.clean_up()
    handle.wait_for(f"crd/gadgets.{group}", deleted)


def test_unknown_field_is_an_error_that_names_field_and_file(
    handle: Kube, tmp_path: Path
) -> None:
    """A typo is not silently pruned."""
    path = tmp_path / "typo.yaml"
    path.write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndatum: {x: '1'}\n"
    )

    with pytest.raises(APIError) as error:
        handle.apply(path)

    assert str(error.value).startswith(f"applying ConfigMap a from {path}: ")
    assert ".datum: field not declared in schema" in str(error.value)


def test_create_generates_names(handle: Kube) -> None:
    """metadata.generateName works."""
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}}

    names = {handle.create(obj).name for _ in range(2)}

    assert len(names) == 2
    assert all(name.startswith("x-") for name in names)


def test_create_of_what_exists_is_a_conflict(handle: Kube) -> None:
    """Create does not overwrite."""
    handle.create(config_map("a"))

    with pytest.raises(ConflictError, match='configmaps "a" already exists'):
        handle.create(config_map("a"))


def test_create_refuses_unknown_fields(handle: Kube) -> None:
    """Create is strict as apply is."""
    with pytest.raises(APIError, match='unknown field "datum"'):
        handle.create({**config_map("a"), "datum": {}})


def test_get_of_what_does_not_exist_raises_and_find_does_not(handle: Kube) -> None:
    """Two verbs for two expectations."""
    with pytest.raises(NotFoundError, match='configmaps "a" not found'):
        handle.get("cm/a")

    assert handle.find("cm/a") is None


def test_list_selects_by_labels_and_fields(handle: Kube) -> None:
    """Selectors are the server's; items know their kind."""
    for name, tier in (("a", "web"), ("b", "db")):
        obj = config_map(name)
        obj["metadata"]["labels"] = {"tier": tier}
        handle.apply(obj)

    by_label = handle.list("configmaps", labels={"tier": "db"})
    by_field = handle.list("cm", fields="metadata.name=a")

    assert [o.name for o in by_label] == ["b"]
    assert [(o.name, o.kind) for o in by_field] == [("a", "ConfigMap")]


def test_list_of_all_namespaces(handle: Kube) -> None:
    """An empty namespace means all of them."""
    handle.apply(config_map("a"))

    found = handle.list("configmaps", namespace="")

    assert {"kube-system", handle.namespace} <= {o.namespace for o in found}


@pytest.mark.parametrize(
    ("type_", "patch"),
    [
        ("merge", {"data": {"x": "2"}}),
        ("strategic", {"data": {"x": "2"}}),
        ("json", [{"op": "replace", "path": "/data/x", "value": "2"}]),
        ("apply", {"data": {"x": "2"}}),
    ],
)
def test_patch_of_each_type(handle: Kube, type_: Any, patch: Any) -> None:
    """All of Kubernetes' patch types."""
    handle.apply(config_map("a", x="1"))

    patched = handle.patch("cm/a", patch, type=type_)

    assert patched["data"]["x"] == "2"


def test_patch_type_that_does_not_exist_lists_those_that_do(handle: Kube) -> None:
    """A wrong word is answered with the right ones."""
    with pytest.raises(ValueError, match="allowed are apply, json, merge, strategic"):
        handle.patch("cm/a", {}, type="smart")


def test_delete_waits_until_the_object_is_gone(handle: Kube) -> None:
    """After delete there is nothing, and deleting nothing is no error."""
    handle.apply(config_map("a"))

    handle.delete("cm/a")
    handle.delete("cm/a")

    assert handle.find("cm/a") is None


def test_delete_that_is_held_up_names_the_finalizers(handle: Kube) -> None:
    """The reason for a deletion that does not end is told."""
    obj = config_map("kept")
    obj["metadata"]["finalizers"] = ["example.com/keep"]
    handle.apply(obj)

    with pytest.raises(WaitTimeoutError, match="finalizers left: example.com/keep"):
        handle.delete("cm/kept", timeout=0.3)


def test_object_is_a_ref_to_itself(handle: Kube) -> None:
    """What one verb returns, another takes."""
    applied = handle.apply(config_map("a"))

    handle.delete(applied)

    assert handle.find(applied) is None


def test_ref_that_is_none_says_how_one_looks(handle: Kube) -> None:
    """Kind and name, with a slash."""
    with pytest.raises(ValueError, match="'a' names no object; write kind/name"):
        handle.get("a")


def test_unknown_kind_names_the_nearest(handle: Kube) -> None:
    """A misspelt kind is answered with what is served."""
    with pytest.raises(UnknownResourceError) as error:
        handle.get("deploymnt/a")

    assert str(error.value).startswith(
        "the API server serves no kind 'deploymnt'; near it: Deployment (apps/v1)"
    )


def test_group_selects_among_kinds_of_the_same_name(handle: Kube) -> None:
    """kind.group, as with kubectl; without a group the core one comes first."""
    core, events = (handle.list(kind) for kind in ("events", "events.events.k8s.io"))

    assert core == events == []


def test_wait_returns_at_once_when_the_condition_holds(handle: Kube) -> None:
    """What is there need not be waited for."""
    handle.apply(config_map("a", x="1"))

    assert handle.wait_for("cm/a", exists, timeout=5)["data"] == {"x": "1"}


def test_wait_sees_a_state_that_lasts_a_moment(handle: Kube) -> None:
    """Every version is looked at, also one that is replaced within a millisecond."""
    handle.apply(config_map("a", x="0"))

    def change() -> None:
        for i in range(1, 50):
            handle.patch("cm/a", {"data": {"x": str(i)}})

    thread = threading.Thread(target=change)
    seen: list[str] = []

    def note(obj: dict[str, Any]) -> bool:
        if not seen:
            thread.start()
        seen.append(obj["data"]["x"])
        return obj["data"]["x"] == "49"

    handle.wait_for("cm/a", note)
    thread.join()

    assert seen == [str(i) for i in range(50)]


def test_wait_for_an_object_that_does_not_exist_yet(handle: Kube) -> None:
    """Controllers create objects later than tests wait for them."""
    timer = threading.Timer(0.1, handle.apply, [config_map("late", x="1")])
    timer.start()

    found = handle.wait_for("cm/late", field("data.x", "1"))
    timer.join()

    assert found.name == "late"


def test_wait_for_deletion_returns_the_object_as_last_seen(handle: Kube) -> None:
    """What is gone can still be looked at."""
    handle.apply(config_map("a", x="1"))
    handle.delete("cm/a", wait=False)

    last = handle.wait_for("cm/a", deleted)

    assert last == {} or last["data"] == {"x": "1"}


def test_wait_takes_kubectls_words(handle: Kube) -> None:
    """What stands behind kubectl wait --for works here too."""
    handle.apply(config_map("a", x="1"))

    handle.wait_for("cm/a", "jsonpath={.data.x}=1")
    handle.wait_for("cm/a", "create")
    handle.delete("cm/a", wait=False)
    handle.wait_for("cm/a", "delete")


def test_wait_that_times_out_tells_what_it_saw(handle: Kube) -> None:
    """Who reads it learns what was expected, what was there, and what happened."""
    handle.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {
                "schedulerName": "nobody",
                "containers": [{"name": "c", "image": "none"}],
            },
        }
    )
    conditions = [
        {
            "type": "Ready",
            "status": "False",
            "reason": "QuotaExceeded",
            "message": "3 of 5 replicas",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]
    handle.patch(
        "pod/p",
        {"status": {"phase": "Pending", "conditions": conditions}},
        subresource="status",
    )
    handle.create(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "p.1"},
            "type": "Warning",
            "reason": "FailedCreate",
            "message": "exceeded quota",
            "involvedObject": {
                "kind": "Pod",
                "name": "p",
                "namespace": handle.namespace,
            },
        }
    )

    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for("pod/p", condition("Ready"), timeout=0.3)

    lines = str(error.value).splitlines()
    first = f"Pod {handle.namespace}/p: Ready=True not reached within 0.3 s"
    assert lines[0] == first
    assert lines[1] == (
        "  because      Ready=False, reason QuotaExceeded: 3 of 5 replicas"
    )
    assert lines[2].startswith("  last seen    resourceVersion ")
    ready = "Ready=False  reason=QuotaExceeded  message='3 of 5 replicas'"
    assert f"  conditions   {ready}" in lines
    assert "  events       Warning  FailedCreate  exceeded quota" in lines
    assert error.value.last is not None
    assert error.value.elapsed >= 0.3


def test_wait_for_what_never_existed_says_so(handle: Kube) -> None:
    """Nothing was there: perhaps the name is wrong."""
    with pytest.raises(
        WaitTimeoutError, match="no such object, from the first look on"
    ):
        handle.wait_for("cm/nothing", exists, timeout=0.1)


def test_clean_up_leaves_no_namespace_and_nothing_cluster_scoped(
    cluster: Cluster,
) -> None:
    """Finalizers, which nobody handles any more, hold nothing up."""
    from pytest_kube.kube import Kube

    kube = Kube(cluster, "left-behind", timeout=20)
    cluster.create_namespace(kube.namespace)
    obj = config_map("kept")
    obj["metadata"]["finalizers"] = ["example.com/keep"]
    kube.apply(obj)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "left-behind", "finalizers": ["example.com/keep"]},
    }
    kube.apply(role)

    kube.leftovers.clean_up()

    assert kube.find("clusterrole/left-behind") is None
    kube.wait_for("namespace/left-behind", deleted)


def test_clean_up_leaves_what_others_made(cluster: Cluster, handle: Kube) -> None:
    """A cluster-scoped object that was there before stays."""
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    role = {"metadata": {"name": f"theirs-{handle.namespace}"}}
    cluster.client.request("POST", path, body=role, query={"fieldManager": "they"})
    full = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        **role,
        "rules": [],
    }
    handle.apply(full)

    handle.leftovers.clean_up()

    assert handle.find(f"clusterrole/theirs-{handle.namespace}") is not None
