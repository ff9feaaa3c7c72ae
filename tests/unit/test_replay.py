"""What an API server gets of an archived state, whoever made it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_kube.replay import _is_served, _stored

CRDS = "/registry/apiextensions.k8s.io/customresourcedefinitions/"
CRD: dict[str, Any] = {
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"plural": "widgets"},
        "versions": [{"name": "v1", "served": True}],
    },
    "status": {"conditions": [{"type": "Established", "status": "True"}]},
}


def given(key: str, value: Any) -> Any:
    """Return what etcd gets; ``None`` for nothing."""
    stored = _stored({key: value}, 4711)[key]
    return None if stored is None else json.loads(stored)


def test_crd_converts_nothing() -> None:
    """Its webhook is gone, or is what somebody wants to be asked."""
    conversion = {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "x"}}}
    crd = {**CRD, "spec": {**CRD["spec"], "conversion": conversion}}

    stored = given(f"{CRDS}widgets.example.com", crd)

    assert stored == {
        **CRD,
        "spec": {**CRD["spec"], "conversion": {"strategy": "None"}},
    }
    assert crd["spec"]["conversion"] is conversion


@pytest.mark.parametrize("key", ["/registry/example.com/widgets/x/a", f"{CRDS}a"])
@pytest.mark.parametrize("spec", [{"size": 1}, None, [1], "text"])
def test_everything_else_stays_as_it_is(key: str, spec: Any) -> None:
    """Also what no API server would have stored."""
    value = {"kind": "Widget", "metadata": {"name": "a"}, "spec": spec}

    assert given(key, value) == value


def test_only_established_crds_are_waited_for() -> None:
    """The others are not served, and never were."""
    deleted = {**CRD["metadata"], "deletionTimestamp": "2026-11-23T13:43:35Z"}
    false = [{"type": "Established", "status": "False"}]

    assert _is_served(CRD)
    assert not _is_served({**CRD, "metadata": deleted})
    assert not _is_served({**CRD, "status": {"conditions": false}})
    assert not _is_served({**CRD, "status": {"conditions": None}})


@pytest.mark.parametrize(
    "change",
    [
        {"spec": None},
        {"spec": {"group": "example.com"}},
        {"spec": {**CRD["spec"], "versions": ["v1"]}},
        {"status": {"conditions": ["x"]}},
        {"metadata": {}},
    ],
)
def test_crd_of_another_shape_is_not_waited_for(change: dict[str, Any]) -> None:
    """An archive may come from anywhere."""
    assert not _is_served({**CRD, **change})


@pytest.mark.parametrize(
    ("status", "addresses"),
    [
        (None, []),
        ("text", []),
        ({"addresses": "text"}, []),
        (
            {"addresses": [1, {"type": "pytest-kube-replay", "address": "192.0.2.1"}]},
            [],
        ),
        (
            {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
            [{"type": "InternalIP", "address": "192.0.2.1"}],
        ),
    ],
)
def test_kubelet_of_each_node_is_ours(status: Any, addresses: Any) -> None:
    """Whatever an archive says of it: the API server is to ask nobody else."""
    node = {"kind": "Node", "metadata": {"name": "n"}, "status": status}

    stored = given("/registry/minions/n", node)

    ours = {"type": "pytest-kube-replay", "address": "127.0.0.1"}
    assert stored["status"] == {
        "addresses": [*addresses, ours],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 4711}},
    }


@pytest.mark.parametrize(
    ("spec", "is_there"),
    [
        ({"service": {"name": "metrics"}}, False),
        ({"service": "metrics"}, False),
        ({"service": None}, True),
        ({"group": "example.com"}, True),
        (None, True),
    ],
)
def test_apis_of_services_are_left_out(spec: Any, *, is_there: bool) -> None:
    """Those that the API server has itself stay."""
    api = {"kind": "APIService", "metadata": {"name": "a"}, "spec": spec}
    key = "/registry/apiregistration.k8s.io/apiservices/a"

    assert given(key, api) == (api if is_there else None)


def test_what_was_deleted_is_deleted() -> None:
    """Of every kind."""
    for key in ("configmaps/x/a", "minions/n", "apiregistration.k8s.io/apiservices/a"):
        assert given(f"/registry/{key}", None) is None
