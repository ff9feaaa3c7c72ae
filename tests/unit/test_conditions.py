"""Conditions on real-looking objects, their names, and what they say when misused."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kube.conditions import (
    Condition,
    as_condition,
    condition,
    deleted,
    deleted_uid,
    exists,
    failed,
    field,
    jsonpath,
    observed,
    parse,
    phase,
    ready,
)

WIDGET: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Widget",
    "metadata": {
        "name": "w1",
        "uid": "b2c1",
        "generation": 2,
        "annotations": {"example.com/note": "hi"},
    },
    "spec": {"containers": [{"name": "a", "image": "one"}, {"name": "b"}]},
    "status": {
        "observedGeneration": 2,
        "phase": "Running",
        "readyReplicas": 3,
        "load": 0.5,
        "whole": 2.0,
        "enabled": True,
        "nothing": None,
        "empty": [],
        "numbers": [1, 2, 3, 4],
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "AllUp", "n": 1},
            {"type": "Degraded", "status": "False", "n": 2, "flag": False},
        ],
    },
}


def reporting(*conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    """Return a widget of generation 2 that reports these conditions."""
    return {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w1", "generation": 2},
        "spec": {},
        "status": {"conditions": list(conditions), **status},
    }


READY = {"type": "Ready", "status": "True"}


def test_condition_ok() -> None:
    """A reported type and status satisfy the condition."""
    assert condition("Ready")(WIDGET)
    assert condition("Degraded", "False")(WIDGET)
    assert condition("Ready", reason="AllUp")(WIDGET)


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"status": None},
        {"status": {"conditions": None}},
        {"status": {"conditions": {"Ready": "True"}}},
        {"status": {"conditions": ["Ready", None, {"type": None}]}},
        reporting({"type": "Ready"}),
        reporting({"type": "Ready", "status": "Unknown"}),
    ],
)
def test_condition_pending(obj: dict[str, Any]) -> None:
    """An object that does not report it, or otherwise, does not satisfy it."""
    assert not condition("Ready")(obj)


def test_condition_missing() -> None:
    """An absent object satisfies no status condition."""
    assert not condition("Ready")(None)
    assert not condition("Ready", "False")(None)


def test_condition_reads_type_and_status_regardless_of_case() -> None:
    """Like kubectl wait, ``ready=true`` finds ``Ready=True``."""
    assert condition("ready", "true")(WIDGET)


def test_condition_with_another_reason_does_not_hold() -> None:
    """A reason that was asked for must be the one reported."""
    assert not condition("Ready", reason="Other")(WIDGET)


@pytest.mark.parametrize(
    ("obj", "holds"),
    [
        (reporting({**READY, "observedGeneration": 1}), False),
        (reporting({**READY, "observedGeneration": 2}), True),
        (reporting(READY, observedGeneration=1), False),
        (reporting(READY, observedGeneration=2), True),
        (reporting({**READY, "observedGeneration": 2}, observedGeneration=1), True),
        (reporting({**READY, "observedGeneration": "1"}), True),
    ],
)
def test_condition_about_an_older_spec_does_not_count(
    obj: dict[str, Any], *, holds: bool
) -> None:
    """What was observed on an older generation says nothing about this one."""
    assert condition("Ready")(obj) is holds


def workload(kind: str, spec: dict[str, Any], **status: Any) -> dict[str, Any]:
    """Return a workload of generation 1."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "x", "generation": 1},
        "spec": spec,
        "status": status,
    }


def plain(api_version: str, kind: str, **fields: Any) -> dict[str, Any]:
    """Return an object of that kind."""
    meta = {"name": "x", "generation": 1}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **fields}


UP = {
    "observedGeneration": 1,
    "replicas": 3,
    "updatedReplicas": 3,
    "availableReplicas": 3,
}
DAEMONS = {
    "observedGeneration": 1,
    "desiredNumberScheduled": 2,
    "currentNumberScheduled": 2,
    "updatedNumberScheduled": 2,
    "numberAvailable": 2,
}
ROLLING = {"updateStrategy": {"rollingUpdate": {"partition": 2}}, "replicas": 3}


@pytest.mark.parametrize(
    "obj",
    [
        plain("v1", "Pod", spec={}, status={"conditions": [READY]}),
        plain("v1", "Node", spec={}, status={"conditions": [READY]}),
        plain("v1", "Namespace", spec={}, status={"phase": "Active"}),
        plain("v1", "PersistentVolumeClaim", spec={}, status={"phase": "Bound"}),
        plain("v1", "Service", spec={"clusterIP": "10.0.0.1"}),
        plain("v1", "ConfigMap", data={}),
        plain("networking.k8s.io/v1", "NetworkPolicy", spec={}),
        plain("batch/v1", "CronJob", spec={}, status={}),
        plain(
            "batch/v1",
            "Job",
            spec={},
            status={"conditions": [{"type": "Complete", "status": "True"}]},
        ),
        plain(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            spec={},
            status={"conditions": [{"type": "Established", "status": "True"}]},
        ),
        workload("Deployment", {"replicas": 3}, **UP),
        workload("Deployment", {"replicas": 0}, observedGeneration=1),
        workload("ReplicaSet", {"replicas": 3}, **UP),
        workload("StatefulSet", {"replicas": 3}, **UP),
        workload("StatefulSet", ROLLING, **{**UP, "updatedReplicas": 1}),
        workload(
            "StatefulSet",
            {"replicas": 3, "updateStrategy": {"type": "OnDelete"}},
            **{**UP, "updatedReplicas": 0},
        ),
        workload("DaemonSet", {}, **DAEMONS),
        reporting(READY, observedGeneration=2),
        reporting({"type": "Available", "status": "True"}),
        reporting(observedGeneration=2),
        reporting(READY, {"type": "Stalled", "status": "False"}),
        # Another group's Service has a status of its own.
        plain(
            "serving.knative.dev/v1", "Service", spec={}, status={"conditions": [READY]}
        ),
    ],
    ids=lambda obj: obj["kind"],
)
def test_ready_ok(obj: dict[str, Any]) -> None:
    """An object in service is ready, by the rules of its kind."""
    assert ready(obj)


@pytest.mark.parametrize(
    "obj",
    [
        plain("v1", "Pod", spec={}, status={"phase": "Running"}),
        plain("v1", "Namespace", spec={}, status={"phase": "Terminating"}),
        plain("v1", "PersistentVolumeClaim", spec={}, status={"phase": "Pending"}),
        plain("batch/v1", "Job", spec={}, status={"active": 1}),
        plain("apiextensions.k8s.io/v1", "CustomResourceDefinition", spec={}),
        workload("Deployment", {"replicas": 3}, **{**UP, "observedGeneration": 0}),
        workload("Deployment", {"replicas": 3}, **{**UP, "replicas": 4}),
        workload("Deployment", {"replicas": 3}, **{**UP, "updatedReplicas": 2}),
        workload("Deployment", {"replicas": 3}, **{**UP, "availableReplicas": 2}),
        workload("Deployment", {}, observedGeneration=1),
        workload("Deployment", {"replicas": 0}),
        workload("ReplicaSet", {"replicas": 3}, observedGeneration=1, replicas=3),
        workload("StatefulSet", ROLLING, **{**UP, "updatedReplicas": 0}),
        workload("DaemonSet", {}, **{**DAEMONS, "numberAvailable": 1}),
        plain("example.com/v1", "Widget", spec={}),
        plain("example.com/v1", "Widget", spec={}, status={}),
        plain("serving.knative.dev/v1", "Service", spec={}),
        reporting(READY, observedGeneration=1),
        reporting({"type": "Ready", "status": "False"}),
        reporting(READY, {"type": "Reconciling", "status": "True"}),
        reporting(READY, {"type": "Stalled", "status": "True"}),
        reporting({"type": "Available", "status": "False"}),
        {**WIDGET, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
    ids=lambda obj: obj["kind"],
)
def test_ready_pending(obj: dict[str, Any]) -> None:
    """An object that is not yet, or no longer, in service is not ready."""
    assert not ready(obj)


def test_ready_missing() -> None:
    """An absent object is not ready."""
    assert not ready(None)


def test_exists_and_deleted_are_opposites() -> None:
    """An object is there or not, whatever is in it."""
    assert exists({})
    assert not exists(None)
    assert deleted(None)
    assert not deleted({})


@pytest.mark.parametrize(
    ("obj", "holds"),
    [
        (None, True),
        ({"metadata": {"uid": "new"}}, True),
        ({"metadata": {"uid": "old"}}, False),
        ({}, False),
    ],
)
def test_deleted_uid_is_not_fooled_by_a_namesake(
    obj: dict[str, Any] | None, *, holds: bool
) -> None:
    """An object created anew under the name does not hide the deletion."""
    assert deleted_uid("old")(obj) is holds


def test_phase() -> None:
    """The phase must be the one asked for."""
    assert phase("Running")(WIDGET)
    assert not phase("Pending")(WIDGET)
    assert not phase("Running")({"status": None})
    assert not phase("Running")(None)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status.readyReplicas", 3),
        (".status.readyReplicas", 3),
        ("status.phase", "Running"),
        ("status.enabled", True),
        ("status.load", 0.5),
        ("status.empty", []),
        ("spec.containers[0].image", "one"),
        ("spec.containers[-1].name", "b"),
        ("spec.containers[1]", {"name": "b"}),
        ('metadata.annotations["example.com/note"]', "hi"),
        ("metadata['annotations']['example.com/note']", "hi"),
        (r"metadata.annotations.example\.com/note", "hi"),
        ("status.nothing", None),
        ("status.absent.further", None),
        ("status.readyReplicas", lambda n: n > 2),
    ],
)
def test_field_ok(path: str, value: object) -> None:
    """A path of names and indexes leads to the value."""
    assert field(path, value)(WIDGET)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status.readyReplicas", 2),
        ("status.readyReplicas", "3"),
        ("status.readyReplicas", None),
        ("status.enabled", 1),
        ("spec.containers[2].name", "b"),
        ("spec.containers[-3].name", "a"),
        ("spec.containers.name", "a"),
        ("status.phase[0]", "R"),
        ("status.absent", lambda _: True),
    ],
)
def test_field_pending(path: str, value: object) -> None:
    """Another value, another type or a missing part does not satisfy it."""
    assert not field(path, value)(WIDGET)


def test_field_without_a_value_holds_when_present_and_not_null() -> None:
    """Asking for no value asks whether there is any."""
    assert field("status.phase")(WIDGET)
    assert field("status.empty")(WIDGET)
    assert not field("status.nothing")(WIDGET)
    assert not field("status.absent")(WIDGET)


def test_field_missing() -> None:
    """An absent object has no field, not even an absent one."""
    assert not field("status.phase")(None)
    assert not field("status.phase", "Running")(None)
    assert not field("status.phase", None)(None)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", "field path: expected .name or [index]\n  \n  ^"),
        (
            "status..phase",
            "field path: expected .name, [index] or the end\n  status..phase\n        ^",
        ),
        (
            "status.phase=Running",
            "field path: expected .name, [index] or the end\n  status.phase=Running\n"
            + " " * 14
            + "^",
        ),
        (
            "a[*]",
            'field path: expected an index or a "key"\n  a[*]\n    ^',
        ),
        ("a[0", "field path: expected ]\n  a[0\n     ^"),
    ],
)
def test_field_points_to_the_mistake(path: str, text: str) -> None:
    """A path of another syntax is refused, with a caret under the place."""
    with pytest.raises(ValueError, match=r"^field path") as caught:
        field(path)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("{.status.phase}", "Running"),
        (".status.phase", "Running"),
        ("status.phase", "Running"),
        ("{$.status.phase}", "Running"),
        ("{ .status.phase }", "Running"),
        ("{.status.readyReplicas}", "3"),
        ("{.status.readyReplicas}", 3),
        ("{.status.enabled}", "true"),
        ("{.status.enabled}", True),
        ("{.status.load}", "0.5"),
        ("{.status.whole}", "2"),
        ("{['status']['phase']}", "Running"),
        (r"{.metadata.annotations['example\.com/note']}", "hi"),
        (r"{.metadata.annotations.example\.com/note}", "hi"),
        ("{.status.numbers[0]}", "1"),
        ("{.status.numbers[-1]}", "4"),
        ("{.status.numbers[-1:]}", "4"),
        ("{.status.numbers[1:2]}", "2"),
        ("{.status.numbers[1:4:9]}", "2"),
        ("{.status.numbers[?(@>3)]}", "4"),
        ("{.spec.containers[*].image}", "one"),
        ("{..image}", "one"),
        ("{.status..flag}", "false"),
        ('{.status.conditions[?(@.type=="Ready")].status}', "True"),
        ("{.status.conditions[?( @.type == 'Ready' )].status}", "True"),
        ('{.status.conditions[?("Ready"==@.type)].status}', "True"),
        ("{.status.conditions[?(@['type']!='Ready')].type}", "Degraded"),
        ("{.status.conditions[?(@.n<2)].type}", "Ready"),
        ("{.status.conditions[?(@.n<=1)].type}", "Ready"),
        ("{.status.conditions[?(@.n>=2)].type}", "Degraded"),
        ("{.status.conditions[?(@.n==1)].type}", "Ready"),
        ("{.status.conditions[?(@.flag)].type}", "Degraded"),
        ("{.status.conditions[?(@.flag==false)].type}", "Degraded"),
        ("{.status.conditions}", None),
        ("{.status.empty}", None),
        ("{.status.nothing}", None),
        ("{.status.nothing}", "<nil>"),
        ("{$}", None),
        ("{.status.phase} {.status.load}", "Running 0.5"),
        ("{range .status.conditions[*]}{.type}{'\\n'}{end}", "Ready\nDegraded"),
        ("{.status.absent}{.status.phase}", None),
        ("{.status.absent} ", ""),
    ],
)
def test_jsonpath_ok(expression: str, value: object) -> None:
    """The expression finds what kubectl finds, printed as kubectl prints it."""
    assert jsonpath(expression, value)(WIDGET)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("{.status.phase}", "running"),
        ("{.status.phase}", "Run"),
        ("{.status.enabled}", "True"),
        ("{.status.numbers[0,2]}", "1"),
        ("{.status.conditions[*].type}", "Ready"),
        ("{.status.empty}", "[]"),
        ("{.status.nothing}", "null"),
        ("{.status.absent}", None),
        ("{.status.absent.further[0]}", None),
        ("{.status.conditions[*].type}", None),
        ("{.status.numbers[0,2]}", None),
        ("{.status.*}", None),
        ("{..}", None),
        ("{.status.conditions[?(@.n==1.0)].type}", None),
        ("{.status.absent} {.status.further}", None),
        ("{.status.phase} {.status.load}", "Running"),
        ("{.status.numbers[9]} ", ""),
        ("{.metadata.annotations['example.com/note']}", None),
        ("{.status.numbers[4]}", None),
        ("{.status.numbers[-5]}", None),
        ("{.status.numbers[3:1]}", None),
        ("{.status.empty[*]}", None),
        ("{.status.phase[0]}", None),
        ("{.status.phase.x}", None),
        ("{.status.conditions.type}", None),
        ("{.status.conditions[?(@.n=='1')].type}", None),
        ("{.status.conditions[?(@.n!='1')].type}", None),
        ("{.status.conditions[?(@.absent!='1')].type}", None),
        ("{.status[?(@.type)]}", None),
        ("{..absent}", None),
    ],
)
def test_jsonpath_pending(expression: str, value: object) -> None:
    """Nothing, something else, or several instead of one, does not satisfy it."""
    assert not jsonpath(expression, value)(WIDGET)


def test_jsonpath_missing() -> None:
    """An absent object has nothing to be found."""
    assert not jsonpath("{.status}")(None)
    assert not jsonpath("{$}")(None)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (
            "{.status.conditions[0}",
            "JSONPath: expected ]\n  {.status.conditions[0}\n" + " " * 23 + "^",
        ),
        (
            "status.conditions[0",
            "JSONPath: expected ]\n  status.conditions[0\n" + " " * 21 + "^",
        ),
        ("{}", "JSONPath: expected .name or [index]\n  {}\n   ^"),
        ("", "JSONPath: expected .name or [index]\n  \n  ^"),
        (
            "{.a[b]}",
            "JSONPath: expected an index, a slice, a 'key', * or ?(filter)\n  {.a[b]}\n"
            + " " * 6
            + "^",
        ),
    ],
)
def test_jsonpath_points_to_the_mistake(expression: str, text: str) -> None:
    """An expression that is not understood is refused, with a caret under the place."""
    with pytest.raises(ValueError, match=r"^JSONPath") as caught:
        jsonpath(expression)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("condition=Ready", "Ready=True"),
        ("condition=Degraded=False", "Degraded=False"),
        ("jsonpath={.status.phase}=Running", "{.status.phase} = Running"),
        ("jsonpath='{.status.phase}'=Running", None),
        ('jsonpath={.status.phase}="Running"', "{.status.phase} = Running"),
        ("jsonpath=.status.phase=Running", "{.status.phase} = Running"),
        ("jsonpath={.status.conditions}", "{.status.conditions}"),
        (
            'jsonpath={.status.conditions[?(@.type=="Ready")].status}=True',
            '{.status.conditions[?(@.type=="Ready")].status} = True',
        ),
        ("create", "exists"),
        (" create ", "exists"),
    ],
)
def test_parse_reads_the_words_of_kubectl_wait(text: str, name: str | None) -> None:
    """What one writes after ``--for=`` is a condition that holds alike."""
    if name is None:
        with pytest.raises(ValueError, match="JSONPath"):
            parse(text)
        return

    parsed = parse(text)

    assert parsed.name == name
    assert parsed(WIDGET)


def test_parse_delete() -> None:
    """Deletion is the one form that an absent object satisfies."""
    assert parse("delete") is deleted


@pytest.mark.parametrize(
    "text", ["Ready", "", "condition=", "condition=Ready=", "jsonpath=", "Delete me"]
)
def test_parse_lists_the_forms_it_accepts(text: str) -> None:
    """Text that kubectl would refuse is refused, with an example of each form."""
    with pytest.raises(ValueError, match="no condition") as caught:
        parse(text)

    assert str(caught.value) == (
        f"no condition in kubectl's words: {text!r}; use one of\n"
        "  condition=Ready\n"
        "  condition=Ready=False\n"
        "  jsonpath={.status.phase}=Running\n"
        "  jsonpath={.status.loadBalancer.ingress}\n"
        "  create\n"
        "  delete"
    )


def test_parse_points_to_what_follows_a_jsonpath() -> None:
    """After the path only a value can follow."""
    with pytest.raises(ValueError, match="JSONPath") as caught:
        parse("jsonpath={.a}~3")

    assert (
        str(caught.value)
        == "JSONPath: expected =value, without another =, or the end\n  {.a}~3\n      ^"
    )


def three_replicas(obj: Any) -> object:
    """Tell whether there are three; fails on None like many a user's function."""
    return obj["status"]["readyReplicas"] == 3


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (condition("Ready"), "Ready=True"),
        (condition("Ready", "False", reason="Failed"), "Ready=False (reason Failed)"),
        (ready, "ready"),
        (exists, "exists"),
        (deleted, "deleted"),
        (deleted_uid("x"), "deleted"),
        (phase("Running"), "phase Running"),
        (field("status.readyReplicas", 3), "status.readyReplicas = 3"),
        (field("status.enabled", True), "status.enabled = true"),
        (field("spec.x", {"a": 1}), 'spec.x = {"a": 1}'),
        (field("spec.x", None), "spec.x = null"),
        (field("status.phase"), "status.phase present"),
        (field("status.n", three_replicas), "status.n satisfies three_replicas"),
        (jsonpath("{.status.phase}", "Running"), "{.status.phase} = Running"),
        (jsonpath(".status.phase"), "{.status.phase}"),
        ("condition=Ready", "Ready=True"),
        (three_replicas, "three_replicas"),
        (functools.partial(three_replicas), "partial"),
        (condition("Ready") & phase("Running"), "(Ready=True and phase Running)"),
        (condition("Ready") | deleted, "(Ready=True or deleted)"),
        (~condition("Ready"), "not Ready=True"),
        (~(ready & exists), "not (ready and exists)"),
        (ready & three_replicas, "(ready and three_replicas)"),
        (three_replicas & ready, "(three_replicas and ready)"),
        (three_replicas | ready, "(three_replicas or ready)"),
        (ready & "delete", "(ready and deleted)"),
    ],
)
def test_names_are_what_a_timeout_can_report(given: Any, name: str) -> None:
    """Each condition says in one line what is waited for."""
    assert as_condition(given).name == name


AVAILABLE = {"type": "Available", "status": "False", "reason": "QuotaExceeded"}
PROGRESSING = {"type": "Progressing", "status": "True"}
DELETING: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("given", "obj", "text"),
    [
        (
            condition("Available"),
            reporting({**AVAILABLE, "message": "3 of 5 replicas"}),
            "Available=False, reason QuotaExceeded: 3 of 5 replicas",
        ),
        (
            condition("Available"),
            reporting(READY, PROGRESSING),
            "no condition Available; there are Ready=True, Progressing=True",
        ),
        (
            condition("Availabel"),
            reporting(READY, AVAILABLE),
            "no condition Availabel; did you mean Available?",
        ),
        (
            condition("Ready"),
            reporting(READY, observedGeneration=1),
            "Ready=True, but for generation 1 of 2",
        ),
        (
            condition("Ready"),
            reporting({**AVAILABLE, "type": "Ready", "observedGeneration": 1}),
            "Ready=False, for generation 1 of 2, reason QuotaExceeded",
        ),
        (condition("Ready"), {"spec": {}}, "no status yet"),
        (condition("Ready"), {"status": {"phase": "x"}}, "no conditions yet"),
        (
            condition("Ready", reason="Other"),
            WIDGET,
            "Ready=True, but its reason is AllUp",
        ),
        (condition("Ready"), None, "there is no such object"),
        (condition("Ready"), WIDGET, ""),
        (phase("Done"), WIDGET, "phase is Running"),
        (phase("Done"), {"status": {"x": 1}}, "no phase yet"),
        (phase("Done"), {}, "no status yet"),
        (phase("Done"), None, "there is no such object"),
        (field("status.readyReplicas", 5), WIDGET, "status.readyReplicas is 3"),
        (
            field("status.readyReplicas", "3"),
            WIDGET,
            "status.readyReplicas is 3, a number",
        ),
        (field("status.load", lambda n: n > 1), WIDGET, "status.load is 0.5"),
        (field("status.phase", None), WIDGET, "status.phase is Running"),
        (
            field("status.readyReplica"),
            {"status": {"replicas": 1, "phase": "x", "readyReplicas": 2}},
            "status has no readyReplica; it has readyReplicas, replicas, phase",
        ),
        (
            field("sttus.x"),
            {"spec": {}, "status": {}},
            "the object has no sttus; it has status, spec",
        ),
        (field("status.x"), {"spec": {}}, "no status yet"),
        (field("status.x"), {"status": {}}, "status is empty"),
        (field("status.nothing"), WIDGET, "status.nothing is null"),
        (
            field("spec.containers[2].name"),
            WIDGET,
            "spec.containers has 2 items, and none at [2]",
        ),
        (
            field('metadata.annotations["a.b"][0]', 1),
            {"metadata": {"annotations": {"a.b": "x"}}},
            'metadata.annotations["a.b"] is x, which has no [0]',
        ),
        (field("status.x"), None, "there is no such object"),
        (jsonpath("{.status.phase}", "Done"), WIDGET, "found Running"),
        (
            jsonpath("{.status.phse}", "Done"),
            {"status": {"phase": "Running"}},
            "status has no phse; it has phase",
        ),
        (
            jsonpath("{.status.numbers[*]}", "1"),
            WIDGET,
            "4 values are found instead of one: 1, 2, 3",
        ),
        (
            jsonpath("{.status.empty}", "x"),
            WIDGET,
            "found no single value, but []",
        ),
        (
            jsonpath("{.status.numbers[7]}", "x"),
            WIDGET,
            "kubectl fails there: index 7 is out of bounds of a list of 4",
        ),
        (
            jsonpath("{.status.conditions[?(@.type=='Up')].status}", "True"),
            WIDGET,
            "status.conditions has nothing that passes the filter",
        ),
        (jsonpath("{.status.phase} {.status.load}", "x"), WIDGET, "found Running 0.5"),
        (jsonpath("{.status.phase}"), None, "there is no such object"),
        (deleted, {}, "it still exists"),
        (deleted_uid("x"), {"metadata": {"uid": "x"}}, "it still exists"),
        (
            deleted,
            {"metadata": {**DELETING, "finalizers": ["a/b", "c/d"]}},
            "it is being deleted, finalizers left: a/b, c/d",
        ),
        (
            deleted,
            {"metadata": DELETING},
            "it is being deleted, finalizers left: none",
        ),
        (exists, None, ""),
        (failed, WIDGET, "it reports no failure"),
        (failed, None, "there is no such object"),
        (three_replicas & deleted, WIDGET, "it still exists"),
        (deleted & phase("Done"), WIDGET, "it still exists; phase is Running"),
        (condition("Ready") & phase("Done"), WIDGET, "phase is Running"),
        (deleted | phase("Done"), WIDGET, "it still exists; phase is Running"),
        (ready & condition("Ready"), None, "there is no such object"),
        (~condition("Ready"), WIDGET, "Ready=True holds"),
        (~(exists & ready), WIDGET, "(exists and ready) holds"),
        (as_condition(three_replicas), {"status": {"readyReplicas": 1}}, ""),
        (exists & three_replicas, {}, ""),
    ],
)
def test_explain_tells_what_is_there_instead(
    given: Condition, obj: dict[str, Any] | None, text: str
) -> None:
    """The most telling fact comes first, near misses included."""
    assert given.explain(obj) == text


def test_explanations_fit_on_one_line() -> None:
    """What is long is cut, of each part of a combination as well."""
    message = "line\n" * 1_000
    obj = reporting({"type": "Ready", "status": "False", "message": message})
    obj["status"]["phase"] = "x" * 1_000

    text = (condition("Ready") & phase("Done") & field("status.phase", "y")).explain(
        obj
    )

    assert len(text) <= 160
    assert "\n" not in text
    assert text.startswith("Ready=False: line line")
    assert "status.phase is xxx" in text


def test_a_lambda_is_named_after_its_place() -> None:
    """A nameless function is found by file and line."""
    here = as_condition(lambda obj: obj is None)

    assert here.name.startswith("lambda at test_conditions.py:")
    assert here(None)


def test_combinations_hold_like_their_parts() -> None:
    """``&``, ``|`` and ``~`` mean and, or and not; the right side is asked if needed."""
    assert (condition("Ready") & three_replicas)(WIDGET)
    assert not (condition("Ready") & deleted)(WIDGET)
    assert (deleted | three_replicas)(WIDGET)
    assert (deleted | three_replicas)(None)
    assert not (exists & three_replicas)(None)
    assert (~deleted)(WIDGET)


def test_a_callables_own_error_passes_through() -> None:
    """Whether an error means "not yet" is for the waiting code to decide."""
    with pytest.raises(KeyError):
        as_condition(three_replicas)({})


@pytest.mark.parametrize("value", [None, 3, ["condition=Ready"]])
def test_as_condition_says_what_it_accepts(value: Any) -> None:
    """Something that is no condition is refused with the alternatives."""
    with pytest.raises(TypeError) as caught:
        as_condition(value)

    assert str(caught.value) == (
        f"no condition: {value!r}; pass one of pytest_kube.conditions, a text like"
        " 'condition=Ready', or a callable that takes the object or None"
    )


def test_and_or_not_are_refused() -> None:
    """Python's own ``and`` would silently drop the left condition."""
    with pytest.raises(TypeError) as caught:
        ready and exists  # noqa: B018

    assert str(caught.value) == (
        "the condition 'ready' is neither true nor false; combine conditions by & | ~,"
        " and ask them by a call with the object"
    )


PARTS = ["status", "spec", "metadata", "conditions", "type", "phase", "uid", "replicas"]
PARTS += ["generation", "observedGeneration", "updateStrategy", "deletionTimestamp"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(PARTS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
KINDS = ["Pod", "Deployment", "DaemonSet", "StatefulSet", "Job", "Service", "Widget"]
ALL: list[Condition] = [
    condition("Ready"),
    ready,
    observed,
    failed,
    exists,
    deleted,
    deleted_uid("x"),
    phase("Running"),
    field("status.conditions[0].type", "x"),
    field("status.phase", None),
    jsonpath("{..type}", "x"),
    jsonpath("{.status[?(@.type<3)].*}", 3),
    jsonpath("{.status.conditions[?(@.type!=@.phase)][::2]['type',0]}"),
    jsonpath("{range .status.*}{.type}{..}{end}"),
    ~ready,
    (ready | phase("Running")) & condition("Ready", "False"),
    condition("Ready", reason="Up"),
]


@settings(derandomize=True, deadline=None)
@given(
    obj=st.none()
    | st.dictionaries(st.sampled_from(["status", "spec", "metadata"]), JSON),
    kind=st.sampled_from(KINDS) | JSON,
    group=st.sampled_from(["v1", "apps/v1", "batch/v1", "example.com/v1"]),
)
def test_conditions_never_raise(
    obj: dict[str, Any] | None, kind: Any, group: str
) -> None:
    """Whatever an object looks like, a condition holds or does not."""
    if obj is not None:
        obj.update(apiVersion=group, kind=kind)

    assert {type(each(obj)) for each in ALL} == {bool}
    for each in ALL:
        text = each.explain(obj)
        assert "\n" not in text
        assert len(text) <= 160
        told = not each(obj) and each is not exists
        assert bool(text) is told


def test_deep_objects_are_searched_without_recursion() -> None:
    """The recursive descent survives more levels than Python has frames."""
    obj: dict[str, Any] = {"found": "yes"}
    for _ in range(5_000):
        obj = {"inner": obj}

    assert jsonpath("{..found}", "yes")(obj)


def test_conditions_import_only_the_standard_library() -> None:
    """The module stands alone: nothing of ours, no dependency."""
    code = (
        "import sys; before = set(sys.modules); import pytest_kube.conditions;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )

    assert shown.stdout == "pytest_kube\n"
