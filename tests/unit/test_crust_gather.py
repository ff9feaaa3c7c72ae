"""Archives of crust-gather, read as its server reads them."""

from __future__ import annotations

import itertools
import json
import math
import re
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.diagnostics import crust_gather
from pytest_kube.diagnostics.timeline import Line
from pytest_kube.errors import ArchiveError
from pytest_kube.history import Version
from pytest_kube.kubectl_yaml import parse
from pytest_kube.objects import Object
from pytest_kube.state.archive import Stored

from .fake_api import fake_api, group, resource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kube.client import Client

BEGAN = datetime(2026, 11, 23, 13, tzinfo=UTC)
STAMPS = re.compile(r"/metadata/annotations/crust-gather\.io~1(added|updated|deleted)")
CRD = "CustomResourceDefinition"


@pytest.fixture
def client() -> Iterator[Client]:
    """A server with widgets, whose singular is a word of its own, in two versions."""
    widget = {**resource("widgets", "Widget"), "singularResource": "gizmo"}
    crds = resource("customresourcedefinitions", CRD, scope="Cluster")
    example = group("example.com", "v1", widget)
    example["versions"].append({"version": "v1beta1", "resources": [widget]})
    core = group("", "v1", resource("secrets", "Secret"), resource("pods", "Pod"))
    with fake_api() as api:
        api.answers["/version"] = 200, {"gitVersion": "v1.36.3"}
        api.answers["/api"] = 200, {"items": [core]}
        apis = [example, group("apiextensions.k8s.io", "v1", crds)]
        api.answers["/apis"] = 200, {"items": apis}
        yield api.client


def widget(size: int = 1, name: str = "w", **rest: Any) -> Object:
    """Return a widget."""
    metadata = {"name": name, "namespace": "team", "managedFields": []}
    return Object(
        {
            "kind": "Widget",
            "apiVersion": "example.com/v1",
            "metadata": metadata,
            "spec": {"size": size, "a/b~c": [size, {"x": None}]},
            **rest,
        }
    )


def versions(*objects: Object | None, second: float = 1.0) -> list[Version]:
    """Return the history that goes from each object to the next."""
    return [
        Version(
            after,
            before,
            10 + i,
            (BEGAN + timedelta(seconds=second * (i + 1))).isoformat(),
            lambda *_: None,
        )
        for i, (before, after) in enumerate(itertools.pairwise(objects))
    ]


def read(path: Path) -> Any:
    """Read a file of an archive as YAML."""
    (document,) = parse(path.read_text("utf-8"), path)
    return document.object


def states(path: Path) -> list[Any]:
    """Return each state of an object, as serve would make them of its files."""
    found = [read(path)]
    patches = path.with_suffix(".patch")
    for line in patches.read_text("utf-8").splitlines() if patches.exists() else ():
        operations = json.loads(line)
        # It skips a line that tells no time.
        assert any(
            STAMPS.fullmatch(o["path"]) and o["op"] in {"add", "replace"}
            for o in operations
        )
        found.append(patched(found[-1], operations))
    return found


def patched(obj: Any, operations: list[dict[str, Any]]) -> Any:
    """Apply a JSON patch."""
    result = deepcopy(obj)
    for operation in operations:
        *parents, last = (
            step.replace("~1", "/").replace("~0", "~")
            for step in operation["path"].split("/")[1:]
        )
        target = result
        for step in parents:
            target = target[int(step)] if isinstance(target, list) else target[step]
        key = int(last) if isinstance(target, list) else last
        if operation["op"] == "remove":
            del target[key]
        else:
            assert operation["op"] == "add" or isinstance(key, int) or key in target
            target[key] = operation["value"]
    return result


def plain(obj: Any) -> Any:
    """Return an object without the stamps."""
    metadata = {k: v for k, v in obj["metadata"].items() if k != "annotations"}
    kept = {
        k: v
        for k, v in obj["metadata"].get("annotations", {}).items()
        if not k.startswith("crust-gather.io/")
    }
    return {**obj, "metadata": {**metadata, **({"annotations": kept} if kept else {})}}


def stamps(path: Path) -> list[tuple[str, str]]:
    """Return what each state says that happened, and when."""
    found = []
    for state in states(path):
        annotations = state["metadata"]["annotations"]
        ((what, when),) = (
            (name, value)
            for name, value in annotations.items()
            if name.startswith("crust-gather.io/")
        )
        found.append((what.partition("/")[2], when))
    return found


def test_every_state_of_an_object_can_be_read_back(
    client: Client, tmp_path: Path
) -> None:
    """First state, changes, deletion: in order, each with its time."""
    history = [
        None,
        widget(1),
        widget(2, status={"ready": True}),
        widget(2, status={"ready": 1}),
        None,
        widget(3),
    ]

    crust_gather.write(tmp_path / "cg", client, [], versions(*history))

    path = tmp_path / "cg/namespaces/team/example.com-v1/widget/w.yaml"
    assert list(read(path))[:2] == ["apiVersion", "kind"]
    expected = [w if w is not None else history[3] for w in history[1:]]
    assert [plain(state) for state in states(path)] == expected
    assert states(path)[2]["status"]["ready"] is not True
    assert stamps(path) == [
        ("added", "2026-11-23T13:00:01.000000Z"),
        ("updated", "2026-11-23T13:00:02.000000Z"),
        ("updated", "2026-11-23T13:00:03.000000Z"),
        ("deleted", "2026-11-23T13:00:04.000000Z"),
        ("added", "2026-11-23T13:00:05.000000Z"),
    ]
    collected = (tmp_path / "cg/collected.timestamp").read_text()
    assert collected == '"2026-11-23T13:00:00.999999Z"'


def test_changes_at_one_time_are_told_apart(client: Client, tmp_path: Path) -> None:
    """Without an audit log times are to the second; serve skips what is not later."""
    history = versions(widget(1), widget(2), widget(3), second=0)

    crust_gather.write(tmp_path / "cg", client, [], history)

    path = tmp_path / "cg/namespaces/team/example.com-v1/widget/w.yaml"
    times = [when for _, when in stamps(path)]
    assert times == sorted(set(times))
    assert len(times) == 3


def test_what_did_not_change_is_there_from_the_beginning(
    client: Client, tmp_path: Path
) -> None:
    """With a stamp, but no patch."""
    crust_gather.write(tmp_path / "cg", client, [widget()], [])

    path = tmp_path / "cg/namespaces/team/example.com-v1/widget/w.yaml"
    assert plain(read(path)) == widget()
    assert not path.with_suffix(".patch").exists()


def test_server_finds_files_by_what_discovery_says(
    client: Client, tmp_path: Path
) -> None:
    """The singular is that of the file; kubectl is sent to the version that is there."""
    old = Object({**widget(), "apiVersion": "example.com/v1beta1"})

    crust_gather.write(tmp_path / "cg", client, [old], [])

    apis = json.loads((tmp_path / "cg/apis.json").read_text())
    new, stored = apis["items"][0]["versions"]
    assert new["resources"] == []
    assert [r["singularResource"] for r in stored["resources"]] == ["widget"]
    path = tmp_path / "cg/namespaces/team/example.com-v1beta1/widget/w.yaml"
    assert path.exists()
    assert read(tmp_path / "cg/version.yaml") == {"gitVersion": "v1.36.3"}


def test_crds_are_in_the_version_that_is_served(client: Client, tmp_path: Path) -> None:
    """They are stored in an older one; printer columns come from there."""
    column = {"name": "Size", "type": "integer", "JSONPath": ".spec.size"}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1beta1",
        "kind": CRD,
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "version": "v1",
            "validation": {"openAPIV3Schema": {"type": "object"}},
            "additionalPrinterColumns": [column],
            "preserveUnknownFields": False,
            "versions": [{"name": "v1", "served": True, "storage": True}],
            "conversion": {
                "strategy": "Webhook",
                "webhookClientConfig": {"url": "https://example.com"},
                "conversionReviewVersions": ["v1"],
            },
        },
    }

    crust_gather.write(tmp_path / "cg", client, [crd], [])

    folder = "apiextensions.k8s.io-v1/customresourcedefinition"
    found = read(tmp_path / f"cg/cluster/{folder}/widgets.example.com.yaml")
    assert found["apiVersion"] == "apiextensions.k8s.io/v1"
    assert found["spec"] == {
        "group": "example.com",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object"}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"}
                ],
            }
        ],
        "conversion": {
            "strategy": "Webhook",
            "webhook": {
                "clientConfig": {"url": "https://example.com"},
                "conversionReviewVersions": ["v1"],
            },
        },
    }


def test_secret_values_are_in_no_file(client: Client, tmp_path: Path) -> None:
    """Neither in first states nor in patches."""

    def secret(value: str) -> Object:
        metadata = {"name": "s", "namespace": "team"}
        kind = {"apiVersion": "v1", "kind": "Secret"}
        return Object({**kind, "metadata": metadata, "data": {"p": value}})

    history = versions(None, secret("aHVudGVyMg=="), secret("aHVudGVyMw=="), None)

    crust_gather.write(tmp_path / "cg", client, [], history)

    files = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    assert any("UkVEQUNURUQ=" in text for text in files)
    assert not any("aHVudGVy" in text for text in files)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("system:node*?|x", "system-node---x"),
        ('a"<b>', "a--b-"),
        ("../../../etc/passwd", "..-..-..-etc-passwd"),
        ("..", "--"),
        ("a\\b\x00\n", "a-b--"),
        ("n" * 253, "n" * 240 + "-1f2036e5"),
    ],
)
def test_names_make_no_path_that_somebody_refuses(
    client: Client, tmp_path: Path, name: str, expected: str
) -> None:
    """Nor one that leads out of the folder."""
    crust_gather.write(tmp_path / "cg", client, [widget(name=name)], [])

    folder = tmp_path / "cg/namespaces/team/example.com-v1/widget"
    assert [p.name for p in folder.iterdir()] == [f"{expected}.yaml"]
    assert [p.name for p in tmp_path.iterdir()] == ["cg"]


def test_names_that_differ_in_illegal_characters_are_kept_apart(
    client: Client, tmp_path: Path
) -> None:
    """No file is written over another one."""
    both = [widget(1, "a:b"), widget(2, "a*b")]

    crust_gather.write(tmp_path / "cg", client, both, [])

    folder = tmp_path / "cg/namespaces/team/example.com-v1/widget"
    assert {read(p)["spec"]["size"] for p in folder.iterdir()} == {1, 2}


def test_any_text_survives(client: Client, tmp_path: Path) -> None:
    """What YAML breaks lines at, and what looks like another type."""
    texts = ["10:30", "yes", "\u2028\x85\x7f", "\U0001f600", "a: |\n  - b\t", "\0"]

    crust_gather.write(tmp_path / "cg", client, [widget(spec=texts)], [])

    path = tmp_path / "cg/namespaces/team/example.com-v1/widget/w.yaml"
    assert read(path)["spec"] == texts


def test_controllers_are_dressed_as_pods_with_their_logs(
    client: Client, tmp_path: Path
) -> None:
    """Each line with its time, which serve takes away."""
    lines = [
        Line(BEGAN, "exec:one", "hello world"),
        Line(BEGAN, "exec:two", "other"),
        Line(BEGAN + timedelta(seconds=1), "exec:one", "two\nlines"),
    ]

    crust_gather.write(tmp_path / "cg", client, [], [], lines, namespace="team")

    pods = tmp_path / "cg/namespaces/team/v1/pod"
    pod = read(pods / "pytest-kube-controller-1.yaml")
    assert pod["metadata"]["annotations"]["pytest-kube/controller"] == "exec:one"
    log = pods / "pytest-kube-controller-1/controller/current.log"
    assert log.read_text() == (
        "2026-11-23T13:00:00.000000Z hello world\n"
        "2026-11-23T13:00:01.000000Z two lines\n"
    )


def test_first_state_is_that_of_the_namespace_and_the_crds() -> None:
    """What every cluster begins with would only hide it."""

    def stored(kind: str, name: str, **metadata: str) -> Stored:
        about = {"name": name, **metadata}
        return Stored(name, 7, {"apiVersion": "v1", "kind": kind, "metadata": about})

    everything = [
        stored("Namespace", "team"),
        stored("Namespace", "default"),
        stored("ConfigMap", "mine", namespace="team"),
        stored("ConfigMap", "other", namespace="default"),
        stored("ClusterRole", "admin"),
        stored(CRD, "widgets.example.com"),
        Stored("deleted", 7, None),
    ]

    found = [
        (o["metadata"]["name"], o["metadata"]["resourceVersion"])
        for o in crust_gather.first(everything, "team")
    ]

    assert found == [("team", "7"), ("mine", "7"), ("widgets.example.com", "7")]


@pytest.mark.parametrize(
    ("largest", "deadline"), [(10, math.inf), (crust_gather.LARGEST, 0)]
)
def test_archive_that_grows_too_large_or_slow_is_none(
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    largest: int,
    deadline: float,
) -> None:
    """Nothing of it stays."""
    monkeypatch.setattr(crust_gather, "LARGEST", largest)

    with pytest.raises(ArchiveError, match="larger than 0 MB|took too long"):
        crust_gather.write(tmp_path / "cg", client, [widget()], [], deadline=deadline)

    assert list(tmp_path.iterdir()) == []
