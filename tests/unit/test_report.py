"""The page of a test: what stands in the file, and what never does."""

from __future__ import annotations

import base64
import json
import re
import tempfile
import zlib
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kube.diagnostics import report, timeline
from pytest_kube.diagnostics.timeline import Entry
from pytest_kube.history import Version
from pytest_kube.objects import Object

if TYPE_CHECKING:
    from collections.abc import Sequence

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028&lt;"
ABOUT = {"cluster": "kwok 1.34"}


def widget(name: str = "w", *, api: str = "example.com/v1", **spec: Any) -> Object:
    metadata = {
        "name": name,
        "namespace": "default",
        "creationTimestamp": START.isoformat(),
        "managedFields": [{"manager": "somebody"}],
        "resourceVersion": "7",
    }
    return Object(apiVersion=api, kind="Widget", metadata=metadata, spec=spec)


def version(
    revision: int, obj: Object | None, previous: Object | None = None
) -> Version:
    time = START + timedelta(seconds=revision)
    return Version(obj, previous, revision, time.isoformat(), lambda *_: None)


def written(
    folder: Path, versions: Sequence[Version] = (), **arguments: Any
) -> tuple[str, dict[str, Any]]:
    """Write a report; return its text and the data in it."""
    path = folder / report.NAME
    given: dict[str, Any] = {
        "test": "test_widgets.py::test_it",
        "outcome": "failed",
        "about": ABOUT,
        "entries": timeline.merged(versions, [], [], []),
        "logs": {},
    }
    report.write(path, versions=versions, **{**given, **arguments})
    text = path.read_text("utf-8")
    return text, json.loads(Elements(text).data)


class Elements(HTMLParser):
    """The elements of a page, as a browser sees them, and its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.links: list[str] = []
        self.data = ""
        self._in_data = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.links += [v or "" for k, v in attrs if k in {"src", "href", "action"}]
        self._in_data = ("id", "data") in attrs

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data += data
            self._in_data = False


def unpacked(data: dict[str, Any], index: int = 0) -> Any:
    """Return what stands of an object: what it was before, and its versions."""
    *_, chunk, place = data["objects"][index]
    return json.loads(zlib.decompress(base64.b64decode(data["chunks"][chunk])))[place]


def test_what_happened_is_in_the_page(tmp_path: Path) -> None:
    """Each entry is there with its time since the first of them."""
    first = version(3, widget(size=1))
    second = version(5, widget(size=2), first.object)
    _, data = written(tmp_path, [first, second])

    who = "Widget default/w"
    assert data["entries"] == [
        [0.0, "change", "", who, "created", 3],
        [2000.0, "change", "", who, "changed spec.size: 1 -> 2", 5],
    ]
    assert data["leftOut"] == [0, 0]


def test_an_object_has_all_its_versions(tmp_path: Path) -> None:
    """What it was before the test, then each change, the deletion at the end."""
    before = widget(size=1)
    changed = version(3, widget(size=2), before)
    deleted = version(4, None, changed.object)
    _, data = written(tmp_path, [changed, deleted])

    assert data["objects"] == [["Widget default/w", "example.com", 2, 0, 0]]
    first, rows = unpacked(data)
    assert first["spec"] == {"size": 1}
    assert [(row[0], row[3], row[4] and row[4]["spec"]) for row in rows] == [
        (3, "update", {"size": 2}),
        (4, "delete", None),
    ]


def test_what_changes_with_every_write_is_left_out(tmp_path: Path) -> None:
    """Managed fields and the resource version say nothing in a diff."""
    _, data = written(tmp_path, [version(3, widget())])

    metadata = unpacked(data)[1][0][4]["metadata"]
    assert not {"managedFields", "resourceVersion"} & set(metadata)


def test_objects_of_two_groups_are_told_apart(tmp_path: Path) -> None:
    """A Service of Knative is not the Service of the core group of the same name."""
    ours = version(3, widget())
    theirs = version(4, widget(api="v1"))
    _, data = written(tmp_path, [ours, theirs])

    assert [row[:3] for row in data["objects"]] == [
        ["Widget default/w", "", 1],
        ["Widget default/w", "example.com", 1],
    ]


def test_objects_that_the_timeline_does_not_tell_of_have_no_page(
    tmp_path: Path,
) -> None:
    """Events and Leases would bury the others."""
    lease = Object({**widget(), "kind": "Lease"})
    _, data = written(tmp_path, [version(3, lease), version(4, widget())])

    assert [row[0] for row in data["objects"]] == ["Widget default/w"]


@pytest.mark.parametrize("section", ["data", "stringData"])
def test_values_of_secrets_are_not_in_the_file(tmp_path: Path, section: str) -> None:
    """Neither in the timeline nor in any version, the one before the test included."""
    values = [base64.b64encode(f"pass{i}".encode()).decode() for i in range(3)]
    secrets = [
        Object({**widget(), "kind": "Secret", section: {"password": value}})
        for value in values
    ]
    versions = [version(3, secrets[1], secrets[0]), version(4, secrets[2], secrets[1])]
    text, data = written(tmp_path, versions)

    whole = text + json.dumps(unpacked(data))
    assert "password" in whole
    assert not [value for value in values if value in whole]


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    """Wherever they stand, the page has the same elements."""
    plain, _ = written(tmp_path, [version(3, widget(note="n"))], logs={"l": "x"})
    hostile, data = written(
        tmp_path,
        [version(3, widget(HOSTILE, note=HOSTILE))],
        test=HOSTILE,
        outcome=HOSTILE,
        about={HOSTILE: HOSTILE},
        logs={HOSTILE: HOSTILE},
    )

    assert Elements(hostile).names == Elements(plain).names
    assert data["logs"] == {HOSTILE: HOSTILE}
    assert data["entries"][0][3] == f"Widget default/{HOSTILE}"
    assert unpacked(data)[1][0][4]["spec"] == {"note": HOSTILE}


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    """The data cannot end its element, and reads back the same, surrogates too."""
    entry = Entry(START, "log", text, text, text)
    with tempfile.TemporaryDirectory() as folder:
        page, data = written(
            Path(folder),
            test=text,
            about={text: text},
            entries=[entry],
            logs={"": text},
        )

    assert data["entries"] == [[0.0, "log", text, text, text, 0]]
    assert data["logs"] == {"": text}
    assert page.count("<script") == page.count("</script>") == 2


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    """It has a policy that allows what is in it, and no address of anything else."""
    text, _ = written(tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)

    assert policy
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert Elements(text).links == []


def test_without_javascript_the_page_says_what_the_test_was(tmp_path: Path) -> None:
    """The test, the outcome and the environment stand in the page itself."""
    text, _ = written(tmp_path)

    assert "test_widgets.py::test_it</h1>" in text
    assert "<dt>cluster</dt><dd>kwok 1.34</dd>" in text
    assert "takes JavaScript" in text


def test_ten_thousand_changes_fit(tmp_path: Path) -> None:
    """All of them are there, and the file is not larger than 10 MB."""
    versions = [
        version(i, widget(f"w-{i}", size=i, env=[{"name": f"E{k}"} for k in range(40)]))
        for i in range(10_000)
    ]
    text, data = written(tmp_path, versions)

    assert len(data["entries"]) == len(data["objects"]) == 10_000
    assert data["leftOut"] == [0, 0]
    assert len(text) < 10_000_000


def test_what_has_no_room_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest entries and objects stay, of logs the end."""
    monkeypatch.setattr(report, "ENTRIES_LIMIT", 200)
    monkeypatch.setattr(report, "OBJECTS_LIMIT", 700)
    monkeypatch.setattr(report, "LOGS_LIMIT", 20)
    monkeypatch.setattr(report, "_CHUNK", 1)
    versions = [version(i, widget(f"w-{i}")) for i in range(10)]
    _, data = written(tmp_path, versions, logs={"a": "first, last", "b": "b"})

    entries, objects = data["entries"], data["objects"]
    assert 0 < len(entries) < 10
    assert 0 < len(objects) < 10
    assert data["leftOut"] == [10 - len(entries), 10 - len(objects)]
    assert entries[-1][3] == objects[0][0] == "Widget default/w-9"
    assert data["logs"] == {"a": "…last", "b": "b"}


def test_a_test_in_which_nothing_happened_has_a_page(tmp_path: Path) -> None:
    """Nothing is shown, and nothing fails."""
    _, data = written(tmp_path)

    assert data["entries"] == data["objects"] == data["chunks"] == []
