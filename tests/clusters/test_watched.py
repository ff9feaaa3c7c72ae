"""Diagnostics of a cluster whose etcd is out of reach, as somebody else's is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.diagnostics import watched
from pytest_kube.diagnostics.collect import collect
from pytest_kube.kube import Kube

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kube.cluster import Cluster


def config_map(text: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"text": text},
    }


@pytest.fixture
def theirs(envtest_cluster: Cluster) -> Iterator[Kube]:
    """A handle as on an existing cluster, in a namespace of its own."""
    mark = envtest_cluster.mark()
    envtest_cluster.create_namespace("theirs")
    cluster = replace(envtest_cluster, provider="existing", state=None, audit=None)
    kube = Kube(cluster, "theirs")
    kube.first_version = cluster.newest_version()
    yield kube
    envtest_cluster.roll_back(mark)
    envtest_cluster.release(mark)


def test_timeline_tells_what_the_api_server_remembers(
    theirs: Kube, tmp_path: Path
) -> None:
    """Created, changed, deleted, created again: each with what differs, in order."""
    theirs.apply(config_map("one"))
    theirs.apply(config_map("two"))
    theirs.delete("configmap/settings")
    theirs.create(
        {
            **config_map("three"),
            "kind": "Secret",
            "stringData": {"k": "vvv"},
            "data": None,
        }
    )

    section = collect(theirs, tmp_path / "t", shown="t", test="t", failure="E  no")

    text = (tmp_path / "t" / "timeline.jsonl").read_text("utf-8")
    entries = [e for e in map(json.loads, text.splitlines()) if e["kind"] == "change"]
    assert [(e["about"], e["text"]) for e in entries] == [
        ("ConfigMap theirs/settings", "created"),
        ("ConfigMap theirs/settings", 'changed data.text: "one" -> "two"'),
        ("ConfigMap theirs/settings", "deleted"),
        ("Secret theirs/settings", "created"),
    ]
    assert entries[0]["who"] == "pytest-kube"
    assert [e["revision"] for e in entries] == sorted(e["revision"] for e in entries)
    assert 'ConfigMap settings changed data.text: "one" -> "two"' in section
    assert "incomplete" not in section
    assert "replay      not possible: the etcd of the existing cluster, " in section
    recorded = tmp_path / "t/crust-gather/namespaces/theirs/v1/configmap/settings.patch"
    assert recorded.exists()


def test_what_may_be_missing_is_told(theirs: Kube, tmp_path: Path) -> None:
    """What was there before, and changed: nobody knows what it was."""
    theirs.apply(config_map("before"))
    theirs.first_version = theirs.cluster.newest_version()
    theirs.apply(config_map("after"))

    section = collect(theirs, tmp_path / "t", shown="t", test="t", failure="E  no")

    assert "ConfigMap settings changed data" in section
    assert "incomplete  what ConfigMap settings was when the test began" in section


def test_what_the_api_server_has_forgotten_is_told(theirs: Kube) -> None:
    """It says so itself."""
    client = theirs.cluster.client
    resources = [client.resource("configmaps")]

    found = watched.recalled(client, resources, "theirs", "1")

    assert found.versions == []
    (told,) = found.missed
    assert told.startswith("changes of configmaps: ")
    assert "too old resource version" in told
