"""The state of a fresh cluster: what is kept of it, and when it is not used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.state.etcd import Entry
from pytest_kube.state.template import Template

if TYPE_CHECKING:
    from pathlib import Path

KEPT = [
    Entry("/registry/clusterroles/view", b"role"),
    Entry("/registry/namespaces/default", b"\x00no text\xff"),
    Entry("/registry/configmaps/default/kube-root-ca.crt.mine", b"other"),
]
LEFT_OUT = [
    Entry("/registry/leases/kube-system/kube-scheduler", b"x"),
    Entry("/registry/events/default/e1", b"x"),
    Entry("/registry/masterleases/10.0.0.1", b"x"),
    Entry("/registry/peerserverleases/apiserver-1", b"x"),
    Entry("/registry/configmaps/default/kube-root-ca.crt", b"x"),
    Entry("/registry/configmaps/kube-system/extension-apiserver-authentication", b"x"),
]


class Store:
    """Keys and values, and nothing of etcd besides."""

    def __init__(self, *entries: Entry) -> None:
        self.content = list(entries)

    def entries(self, prefix: str) -> list[Entry]:
        return [entry for entry in self.content if entry.key.startswith(prefix)]

    def put(self, entries: list[Entry]) -> None:
        self.content += entries


@pytest.fixture
def template(tmp_path: Path) -> Template:
    """A template that was not made yet."""
    return Template.of(tmp_path / "templates", "1.36.3", ["flags"])


def save(template: Template, *entries: Entry) -> None:
    template.save(Store(*entries))  # type: ignore[arg-type]


def load(template: Template) -> list[Entry] | None:
    """Return what the template puts into an empty store; ``None`` for nothing."""
    store: Any = Store()
    loaded = template.load(store)
    assert loaded or not store.content
    return store.content if loaded else None


def test_saved_state_is_loaded_again(template: Template) -> None:
    """Keys and values come back as they were, any bytes, in order."""
    save(template, *KEPT)

    assert load(template) == KEPT


def test_what_belongs_to_one_cluster_is_left_out(template: Template) -> None:
    """Leases, events, addresses and certificates are the next cluster's own."""
    save(template, *LEFT_OUT, *KEPT, Entry("compact_rev_key", b"1"))

    assert load(template) == KEPT


def test_missing_template_loads_nothing(template: Template) -> None:
    """The first cluster of its kind makes its state itself."""
    assert load(template) is None


def damaged(template: Template, how: str) -> None:
    """Damage the file of a template."""
    text = template.path.read_text("utf-8")
    stored = json.loads(text)
    texts = {
        "truncated": text[: len(text) // 2],
        "empty": "",
        "no JSON": "\x00" * 20,
        "other JSON": "[1, 2]",
        "no entries": json.dumps({"sha256": stored["sha256"]}),
        "no checksum": json.dumps({"entries": stored["entries"]}),
        "wrong checksum": json.dumps({**stored, "sha256": "0" * 64}),
        "entries lost": json.dumps({**stored, "entries": stored["entries"][1:]}),
        "no pairs": json.dumps({**stored, "entries": [1]}),
        "other text": text.replace("view", "edit"),
    }
    template.path.write_text(texts[how], "utf-8")


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "empty",
        "no JSON",
        "other JSON",
        "no entries",
        "no checksum",
        "wrong checksum",
        "entries lost",
        "no pairs",
        "other text",
    ],
)
def test_damaged_file_is_removed_not_loaded(template: Template, how: str) -> None:
    """A cluster never starts from half a state; the next save makes a new one."""
    save(template, *KEPT)
    damaged(template, how)

    assert load(template) is None
    assert not template.path.exists()
    save(template, *KEPT)
    assert load(template) == KEPT


def test_discarded_template_is_gone(template: Template) -> None:
    """To discard what is not there is no error."""
    save(template, *KEPT)

    template.discard()
    template.discard()

    assert load(template) is None


def test_template_is_found_by_what_it_describes(tmp_path: Path) -> None:
    """The same version and flags share a file; anything else has its own."""
    one = Template.of(tmp_path, "1.36.3", {"a": "b"})

    assert Template.of(tmp_path, "1.36.3", {"a": "b"}) == one
    assert Template.of(tmp_path, "1.36.2", {"a": "b"}) != one
    assert Template.of(tmp_path, "1.36.3", {"a": "c"}) != one


def test_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """Without a cache every start is a first one, slower but right."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    template = Template.of(blocked / "templates", "1.36.3")

    save(template, *KEPT)

    assert load(template) is None
    template.discard()


def test_saving_leaves_no_other_file(template: Template) -> None:
    """A file is written aside and renamed: a reader sees the old or the new one."""
    save(template, *KEPT)
    save(template, KEPT[0])

    assert list(template.path.parent.iterdir()) == [template.path]
    assert load(template) == KEPT[:1]
