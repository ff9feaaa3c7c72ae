"""Verbs beyond the daily ones: conflicts, subresources, identities, what is wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.errors import (
    APIError,
    ClusterError,
    ConflictError,
    ManifestError,
    NotFoundError,
    NotRejectedError,
    UnknownResourceError,
    WaitTimeoutError,
)
from pytest_kube.kube import Kube

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kube.cluster import Cluster

POSITIVE = {
    "rule": "self >= 0",
    "message": "size must not be negative",
}
FIXED = {"rule": "self == oldSelf", "message": "the zone cannot be changed"}


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": data,
    }


def crd(group: str, kind: str, **names: Any) -> dict[str, Any]:
    """A CRD whose objects have a scale, and rules."""
    plural = f"{kind.lower()}s"
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer", "x-kubernetes-validations": [POSITIVE]},
                    "zone": {"type": "string", "x-kubernetes-validations": [FIXED]},
                },
            },
            "status": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
            },
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "plural": plural,
                "singular": kind.lower(),
                "kind": kind,
                **names,
            },
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.size",
                            "statusReplicasPath": ".status.size",
                        },
                    },
                }
            ],
        },
    }


@pytest.fixture
def widgets(handle: Kube) -> Iterator[str]:
    """The apiVersion of widgets, which are there for this test only."""
    group = f"{handle.namespace}.example.com"
    handle.apply(crd(group, "Widget"))
    yield f"{group}/v1"
    handle.delete(f"crd/widgets.{group}")


def widget(api_version: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": spec,
    }


# --- writing ------------------------------------------------------------------


def test_apply_of_what_somebody_else_has_set_says_whose_it_is(handle: Kube) -> None:
    """A controller's field is not taken away by accident; force takes it."""
    handle.apply(config_map("a", x="1", y="1"))
    path = handle._path("cm/a")
    handle.cluster.client.patch(
        path,
        {"data": {"x": "2"}},
        type_="merge",
        query={"fieldManager": "the-controller"},
    )

    with pytest.raises(ConflictError) as error:
        handle.apply(config_map("a", x="3", y="3"))

    assert str(error.value).splitlines()[0] == (
        "applying ConfigMap a: .data.x belongs to the-controller, who set another "
        "value; leave it out of what is applied, or take it over by force=True"
    )
    forced = handle.apply(config_map("a", x="3", y="3"), force=True)
    assert forced["data"] == {"x": "3", "y": "3"}


def test_apply_of_what_the_test_has_patched_is_no_conflict(handle: Kube) -> None:
    """A test may use both, in any order."""
    handle.apply(config_map("a", x="1"))
    handle.patch("cm/a", {"data": {"x": "2"}})

    assert handle.apply(config_map("a", x="3"))["data"] == {"x": "3"}


def test_apply_takes_models(handle: Kube) -> None:
    """Whatever has to_dict() or model_dump(), alone or in a list."""
    to_dict = SimpleNamespace(to_dict=lambda: config_map("a"))
    model = SimpleNamespace(model_dump=lambda **_: config_map("b"))

    one = handle.apply(to_dict)
    several = handle.apply([to_dict, model])

    assert one.name == "a"
    assert [o.name for o in several] == ["a", "b"]


def test_apply_of_a_generated_name_says_what_to_use(handle: Kube) -> None:
    """Server-side apply needs to know which object is meant."""
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}}

    with pytest.raises(ManifestError, match="has a generateName is created by create"):
        handle.apply(obj)


def test_update_replaces_what_was_read(handle: Kube) -> None:
    """The object as it was read, changed, is what is there then."""
    obj = handle.apply(config_map("a", x="1"))
    obj["data"] = {"y": "2"}

    assert handle.update(obj)["data"] == {"y": "2"}


def test_update_of_what_was_changed_meanwhile_says_by_whom(handle: Kube) -> None:
    """Optimistic locking: nobody's change is lost."""
    obj = handle.apply(config_map("a", x="1"))
    there = handle.patch("cm/a", {"data": {"x": "2"}})

    with pytest.raises(ConflictError) as error:
        handle.update(obj)

    assert str(error.value).startswith(
        "updating ConfigMap a: it was changed meanwhile, last by pytest-kube: "
        f"resourceVersion {obj['metadata']['resourceVersion']} was read, "
        f"{there['metadata']['resourceVersion']} is there; read it again"
    )


def test_update_of_what_was_deleted_meanwhile_says_so(handle: Kube) -> None:
    """Also when another one of that name took its place."""
    obj = handle.apply(config_map("a", x="1"))
    handle.delete(obj)
    handle.apply(config_map("a", x="1"))

    with pytest.raises(ConflictError, match="it was deleted meanwhile"):
        handle.update(obj)


def test_update_by_a_function_tries_again_when_somebody_was_faster(
    handle: Kube,
) -> None:
    """The function is called with what is there, until its result is accepted."""
    handle.apply(config_map("a", x="1"))
    seen: list[str] = []

    def change(obj: dict[str, Any]) -> None:
        seen.append(obj["data"]["x"])
        if len(seen) == 1:
            handle.patch("cm/a", {"data": {"x": "2"}})
        obj["data"]["y"] = "mine"

    updated = handle.update("cm/a", change)

    assert seen == ["1", "2"]
    assert updated["data"] == {"x": "2", "y": "mine"}


def test_update_of_what_was_not_read_says_what_to_do(handle: Kube) -> None:
    """Without a resourceVersion nothing would protect the changes of others."""
    handle.apply(config_map("a"))

    with pytest.raises(ManifestError, match=r"no metadata\.resourceVersion; get it"):
        handle.update(config_map("a"))
    with pytest.raises(ValueError, match=r"update\('cm/a'\): pass the object as it is"):
        handle.update("cm/a")  # type: ignore[call-overload]


def test_deletion_of_an_owner_may_leave_what_it_owns(on_kwok: Kube) -> None:
    """The API server is told what to do with dependents, and for how long to wait."""
    owner = on_kwok.apply(config_map("owner"))
    owned = config_map("owned")
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid}
    ]
    on_kwok.apply(owned)

    on_kwok.delete("cm/owner", propagation="Orphan", grace=0)

    assert on_kwok.find("cm/owner") is None
    assert on_kwok.get("cm/owned")["metadata"].get("ownerReferences") is None


def test_deletion_that_nobody_finishes_says_who_would(envtest_cluster: Cluster) -> None:
    """There is no garbage collector without a controller-manager."""
    kube = Kube(envtest_cluster, "default")
    kube.apply(config_map("owner"))

    with pytest.raises(WaitTimeoutError) as error:
        kube.delete("cm/owner", propagation="Foreground", timeout=0.2)

    assert (
        "  deleting     the garbage collector removes foregroundDeletion, and an "
        "envtest cluster has none"
    ) in str(error.value).splitlines()


def test_propagation_that_is_none_lists_those_there_are(handle: Kube) -> None:
    """Before anything is asked."""
    expected = "propagation='foreground': allowed are Background, Foreground, Orphan"
    with pytest.raises(ValueError, match=expected):
        handle.delete("cm/a", propagation="foreground")  # type: ignore[arg-type]


def test_deletion_of_what_was_replaced_spares_the_namesake(handle: Kube) -> None:
    """An object is itself, not its name."""
    old = handle.apply(config_map("a"))
    handle.delete("cm/a")
    new = handle.apply(config_map("a"))

    handle.delete(old)

    assert handle.get("cm/a").uid == new.uid


def test_patch_of_another_shape_than_its_type_says_which_one(handle: Kube) -> None:
    """The server's error would be one of its programming language."""
    with pytest.raises(
        ValueError, match="a patch of type json is a list of operations"
    ):
        handle.patch("cm/a", {"op": "add"}, type="json")
    with pytest.raises(ValueError, match="a patch of type merge is a mapping"):
        handle.patch("cm/a", [{"op": "add"}])


def test_patch_with_a_typo_names_the_field_first(handle: Kube, widgets: str) -> None:
    """Not after the whole object."""
    obj = handle.create(widget(widgets, size=1))

    with pytest.raises(APIError) as error:
        handle.patch(obj, {"spec": {"sise": 2}})

    text = str(error.value)
    assert text.startswith("patching Widget w: unknown field spec.sise: PATCH /apis/")
    assert len(text) < 300


def test_kind_is_not_a_ref(handle: Kube) -> None:
    """And the other way round."""
    for call in (handle.list, lambda kind: handle.wait_for_all(kind, "create")):
        with pytest.raises(ValueError, match="'cm/a' names one object, and a kind is"):
            call("cm/a")


# --- subresources -------------------------------------------------------------


def test_status_is_updated_apart_from_the_rest(handle: Kube, widgets: str) -> None:
    """Each write changes its own half of the object."""
    obj = handle.create(widget(widgets, size=1))
    obj |= {"status": {"phase": "Ready"}, "spec": {"size": 5}}

    updated = handle.update(obj, subresource="status")

    assert (updated["spec"], updated["status"]) == ({"size": 1}, {"phase": "Ready"})
    patch = {"status": {"phase": "Done"}}
    patched = handle.patch(f"widgets.{widgets[:-3]}/w", patch, subresource="status")
    assert patched["status"] == {"phase": "Done"}


def test_scale_of_a_custom_resource_and_of_a_deployment(
    handle: Kube, widgets: str
) -> None:
    """Whatever has a scale can be scaled."""
    obj = handle.create(widget(widgets, size=1))
    labels = {"app": "web"}
    deployment = handle.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "c", "image": "none"}]},
                },
            },
        }
    )

    scales = handle.scale(obj, 3), handle.scale(deployment, 2)

    assert [scale["spec"]["replicas"] for scale in scales] == [3, 2]
    assert handle.get(obj)["spec"]["size"] == 3
    assert handle.get("deploy/web", subresource="scale").kind == "Scale"


def test_scale_of_what_has_none_says_where_it_would_be(handle: Kube) -> None:
    """In the CRD, for a kind of the user's own."""
    handle.apply(config_map("a"))

    with pytest.raises(ValueError, match="its kind has no subresource scale; in a CRD"):
        handle.scale("cm/a", 1)


def test_subresource_that_is_none_lists_those_there_are(handle: Kube) -> None:
    """A typo, or a CRD without status."""
    expected = "ConfigMap has no subresource 'statsu'; it has: none"
    with pytest.raises(ValueError, match=expected):
        handle.get("cm/a", subresource="statsu")
    with pytest.raises(
        ValueError, match="it has: attach, binding, ephemeralcontainers"
    ):
        handle.patch("pod/p", {}, subresource="shell")


def pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    }


def test_pod_is_evicted_by_an_eviction(on_kwok: Kube) -> None:
    """What has no place of its own is created where its name points to."""
    on_kwok.create(pod("p"))

    on_kwok.create(
        {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    )

    on_kwok.wait_for("pod/p", "delete")


def test_ephemeral_container_is_added_to_a_pod(on_kwok: Kube) -> None:
    """As kubectl debug does."""
    on_kwok.create(pod("p"))
    debug = {"name": "debug", "image": "none"}

    patched = on_kwok.patch(
        "pod/p",
        {"spec": {"ephemeralContainers": [debug]}},
        type="strategic",
        subresource="ephemeralcontainers",
    )

    assert patched["spec"]["ephemeralContainers"][0]["name"] == "debug"


# --- who asks -----------------------------------------------------------------


def test_as_user_may_do_what_its_roles_allow(handle: Kube) -> None:
    """And nothing else; the error is the API server's."""
    handle.apply(config_map("a"))
    jane = handle.as_user("jane", "viewers", "others")

    with pytest.raises(APIError, match='User "jane" cannot get resource "configmaps"'):
        jane.get("cm/a")

    handle.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "viewer"},
            "rules": [
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
            ],
        }
    )
    handle.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "viewers"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "viewer",
            },
            "subjects": [
                {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "Group",
                    "name": "others",
                }
            ],
        }
    )
    assert handle.eventually(lambda: jane.find("cm/a")).name == "a"  # type: ignore[union-attr]
    me = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    status = jane.create({**me, "metadata": {}})["status"]["userInfo"]
    assert status["username"] == "jane"
    assert {"viewers", "others"} <= set(status["groups"])


def test_nobody_is_no_user(handle: Kube) -> None:
    """An empty variable would make the test one of the administrator's powers."""
    with pytest.raises(ValueError, match="as_user\\(''\\) names nobody"):
        handle.as_user("")


def test_who_may_only_delete_can_delete(handle: Kube) -> None:
    """Nothing else is asked."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete"]}]
    group = "rbac.authorization.k8s.io"
    name = {"name": "deleter"}
    handle.create(
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": name, "rules": rules}
    )
    handle.create(
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": group, "kind": "Role", **name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}],
        }
    )
    jane = handle.as_user("jane")
    handle.apply(config_map("a"))

    def delete() -> bool:
        jane.delete("cm/a", wait=False)
        return True

    handle.eventually(delete)

    assert handle.find("cm/a") is None


def test_as_service_account_is_who_its_token_says(handle: Kube) -> None:
    """A real token, also in the handle's kubeconfig."""
    handle.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    )

    robot = handle.as_service_account("robot")

    name = f"system:serviceaccount:{handle.namespace}:robot"
    with pytest.raises(APIError, match=f'User "{name}" cannot list'):
        robot.list("secrets")
    assert robot.kubeconfig != handle.kubeconfig
    with pytest.raises(NotFoundError, match='serviceaccounts "nobody" not found'):
        handle.as_service_account("nobody")


# --- reading ------------------------------------------------------------------


def test_list_of_more_than_a_page_is_whole(handle: Kube) -> None:
    """A selector goes with every page."""
    for i in range(7):
        obj = config_map(f"a-{i}")
        obj["metadata"]["labels"] = {"odd": str(i % 2)}
        handle.create(obj)
    client = handle.cluster.client

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pytest_kube.client.PAGE", 2)
        found = handle.list("configmaps", labels={"odd": "1"})
        listed = client.list(handle._path("cm/a-0").rpartition("/")[0])

    assert [o.name for o in found] == ["a-1", "a-3", "a-5"]
    assert len(listed.items) >= 7
    assert int(listed.version) >= int(listed.items[-1]["metadata"]["resourceVersion"])


def test_events_about_an_object_come_in_order(handle: Kube) -> None:
    """Those about others do not."""
    for name, about in (("e1", "a"), ("e0", "a"), ("e2", "b")):
        handle.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name},
                "reason": name,
                "involvedObject": {
                    "kind": "ConfigMap",
                    "name": about,
                    "namespace": handle.namespace,
                },
            }
        )

    events = handle.events("cm/a")

    assert [(e["reason"], e.kind) for e in events] == [("e1", "Event"), ("e0", "Event")]


def test_name_of_several_kinds_lists_them(handle: Kube) -> None:
    """No group is guessed; Kubernetes' own kinds are named by their version."""
    group = f"{handle.namespace}.example.com"
    handle.apply(crd(group, "Service"))
    try:
        with pytest.raises(UnknownResourceError) as error:
            handle.get("service/a")
        assert handle.list("services.v1") == []
        assert handle.list(f"services.{group}") == []
        assert handle.list(f"services.v1.{group}") == []
    finally:
        handle.delete(f"crd/services.{group}")

    assert str(error.value) == (
        "'service' is served by several groups; write one of\n"
        "    services.v1  (Service, v1)\n"
        f"    services.{group}  (Service, {group}/v1)"
    )


# --- what is wrong ------------------------------------------------------------


@pytest.mark.parametrize(
    "ref", ["a", "", "/a", "cm/", "cm/a/b", " cm/a", "cm/a\n", "cm a"]
)
def test_ref_that_is_none_is_refused(handle: Kube, ref: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ValueError, match="names no object; write kind/name as for"):
        handle.get(ref)


def test_namespace_of_a_cluster_scoped_object_is_refused(handle: Kube) -> None:
    """It would be ignored, and that is never what was meant."""
    expected = (
        "Namespace is cluster-scoped: its objects are in no namespace, and 'x' was "
        "given; leave it out"
    )
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "a", "namespace": "x"},
    }
    for attempt in (
        lambda: handle.get("ns/default", namespace="x"),
        lambda: handle.list("namespaces", namespace="x"),
        lambda: handle.wait_for_all("namespaces", "create", namespace="x"),
        lambda: handle.create(namespace),
        lambda: handle.apply(namespace),
    ):
        with pytest.raises(ValueError, match=expected):
            attempt()


def test_no_namespace_for_a_namespaced_object_is_refused(handle: Kube) -> None:
    """All namespaces are for lists."""
    with pytest.raises(ValueError, match="means all namespaces, and that is for list"):
        handle.get("cm/a", namespace="")


def test_two_namespaces_for_one_object_are_refused(handle: Kube) -> None:
    """One of them is wrong."""
    obj = handle.apply(config_map("a"))

    with pytest.raises(ValueError, match="and namespace='other' was given; leave one"):
        handle.get(obj, namespace="other")


def test_object_without_metadata_is_refused(handle: Kube) -> None:
    """Nothing says which one is meant."""
    bare = {"apiVersion": "v1", "kind": "ConfigMap"}

    with pytest.raises(ManifestError, match=r"this object has no metadata\.name"):
        handle.get(bare)
    with pytest.raises(ManifestError, match=r"ConfigMap without metadata\.name; add"):
        handle.apply(bare)


def test_object_that_is_too_large_is_the_servers_error(handle: Kube) -> None:
    """It says how much it takes."""
    with pytest.raises(APIError, match="may not be more than 1048576 bytes|too large"):
        handle.create(config_map("huge", x="x" * 4_000_000))


def test_unicode_comes_back_as_it_went(handle: Kube) -> None:
    """In values, and as an error in names."""
    text = "Ünïcödé ✓ \U0001f680 \u2028"

    assert handle.apply(config_map("a", x=text))["data"]["x"] == text
    with pytest.raises(APIError, match="a lowercase RFC 1123 subdomain"):
        handle.create(config_map("ä"))


# --- what has to be rejected --------------------------------------------------


def test_rejection_is_returned_with_its_causes(handle: Kube, widgets: str) -> None:
    """Of a rule that holds for every object."""
    status = handle.expect_rejected(
        widget(widgets, size=-1), match="must not be negative"
    )

    causes = status["details"]["causes"]
    assert (status.kind, status["code"]) == ("Status", 422)
    assert "spec.size" in {cause["field"] for cause in causes}


def test_rejected_update_is_one_of_an_object_that_was_read(
    handle: Kube, widgets: str
) -> None:
    """Of a rule about oldSelf, and the object is as it was."""
    obj = handle.create(widget(widgets, zone="a"))
    obj["spec"]["zone"] = "b"

    handle.expect_rejected(obj, match="the zone cannot be changed")

    assert handle.get(obj)["spec"] == {"zone": "a"}


def test_object_that_is_accepted_fails_the_test(handle: Kube, widgets: str) -> None:
    """The text says what was expected."""
    with pytest.raises(NotRejectedError) as error:
        handle.expect_rejected(widget(widgets, size=1), match="negative")

    assert str(error.value).startswith(
        "Widget w was to be rejected for 'negative', and was accepted (created)"
    )
    assert error.value.object["spec"] == {"size": 1}


def test_rejection_for_another_reason_fails_the_test(
    handle: Kube, widgets: str
) -> None:
    """The text says what the reason was."""
    with pytest.raises(NotRejectedError) as error:
        handle.expect_rejected(widget(widgets, size="big"), match="negative")

    text = str(error.value)
    assert text.startswith("Widget w was rejected, but not for 'negative':\n")
    assert 'spec.size: Invalid value: "string"' in text


def test_typo_is_no_rejection(handle: Kube, widgets: str) -> None:
    """Unless that is what is expected."""
    wrong = widget(widgets, sise=-1)

    with pytest.raises(NotRejectedError, match="Widget w was not even judged, for it"):
        handle.expect_rejected(wrong)
    handle.expect_rejected(wrong, match='unknown field "spec.sise"')


def test_failure_that_is_no_rejection_is_raised(handle: Kube, widgets: str) -> None:
    """A namespace that does not exist says nothing about the object."""
    obj = widget(widgets, size=-1)
    obj["metadata"]["namespace"] = "nowhere"

    with pytest.raises(NotFoundError, match='namespaces "nowhere" not found'):
        handle.expect_rejected(obj)


# --- what needs pods that run -------------------------------------------------


def test_pods_that_do_not_run_have_no_logs(on_kwok: Kube) -> None:
    """The remedy is named."""
    on_kwok.create(pod("p"))

    expected = "pods of kwok clusters do not run; those of --kube=kind do"
    with pytest.raises(ClusterError, match=f"Pod p has no logs: {expected}"):
        on_kwok.logs("pod/p")
    with pytest.raises(ClusterError, match=f"Pod p runs no commands: {expected}"):
        on_kwok.exec("pod/p", "true")
    with (
        pytest.raises(ClusterError, match=f"Pod p has no ports: {expected}"),
        on_kwok.port_forward("pod/p", 80),
    ):
        pass
