"""The state of a fresh cluster: what is kept of it, and when it is not used."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.state import template as templates
from pytest_kube.state.etcd import Entry
from pytest_kube.state.template import Content, Template

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DAY = 24 * 3600.0

PKI = {"ca.crt": b"-----BEGIN CERTIFICATE-----\n", "ca.key": b"\x00secret\xff"}
VALUES = {
    "/registry/clusterroles/view": b"role",
    "/registry/namespaces/default": b"\x00no text\xff",
    "/registry/configmaps/default/kube-root-ca.crt": b"a copy of ca.crt",
}
CONTENT = Content(PKI, VALUES)
LEFT_OUT = [
    Entry("/registry/leases/kube-system/kube-scheduler", b"x"),
    Entry("/registry/leases/kube-node-lease/node-0", b"x"),
    Entry("/registry/events/default/e1", b"x"),
    Entry("/registry/masterleases/10.0.0.1", b"x"),
    Entry("/registry/peerserverleases/apiserver-1", b"x"),
]


@pytest.fixture
def template(tmp_path: Path) -> Template:
    """A template that was not made yet."""
    return Template.of(tmp_path / "templates", "1.36.3", ["flags"])


def rewrite(template: Template, **changes: Any) -> None:
    """Change the body of a stored template, with a checksum that fits."""
    stored = json.loads(template.path.read_text("utf-8"))
    body = {**stored["body"], **changes}
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    template.path.write_text(json.dumps({"sha256": digest, "body": body}), "utf-8")


def test_saved_content_is_read_again(template: Template) -> None:
    """Certificates, keys and values come back as they were, any bytes, in order."""
    template.save(CONTENT)

    found = template.read()

    assert found == CONTENT
    assert found is not None
    assert [*found.values] == [*VALUES]


def test_what_belongs_to_processes_that_are_gone_is_left_out() -> None:
    """Leases, events and addresses are the next cluster's own; the rest stays."""
    entries = [Entry(key, value, 7, 3) for key, value in VALUES.items()]

    assert Content.of(PKI, [*LEFT_OUT, *entries]) == CONTENT


def test_missing_template_reads_as_nothing(template: Template) -> None:
    """The first cluster of its kind makes its state itself."""
    assert template.read() is None


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_file_is_for_this_user_only(template: Template, umask: int) -> None:
    """It holds the key of an authority that clusters trust."""
    before = os.umask(umask)
    try:
        template.save(CONTENT)
    finally:
        os.umask(before)

    assert template.path.stat().st_mode & 0o777 == 0o600
    assert template.path.parent.stat().st_mode & 0o777 == 0o700


def test_file_that_others_can_read_is_made_private_by_the_next_save(
    template: Template,
) -> None:
    """The file is a new one each time; the modes of the old one do not matter."""
    template.save(CONTENT)
    template.path.chmod(0o644)

    template.save(CONTENT)

    assert template.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("age", [0.0, 299 * DAY, -0.9 * DAY])
def test_template_serves_as_long_as_its_certificates(
    template: Template, age: float
) -> None:
    """For 300 days; a clock that goes a few hours wrong does not matter."""
    template.save(CONTENT)
    rewrite(template, made=time.time() - age)

    assert template.read() == CONTENT


@pytest.mark.parametrize("age", [301 * DAY, -1.1 * DAY, float("inf"), float("nan")])
def test_template_out_of_its_time_is_removed(template: Template, age: float) -> None:
    """Too old, or made in the future by a clock that was set back since."""
    template.save(CONTENT)
    rewrite(template, made=time.time() - age)

    assert template.read() is None
    assert not template.path.exists()


def test_clock_that_is_set_back_after_the_save_ends_the_template(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificates are not valid yet; servers that use them would be refused."""
    template.save(CONTENT)
    real = time.time
    monkeypatch.setattr(templates.time, "time", lambda: real() - 2 * DAY)

    assert template.read() is None
    template.save(CONTENT)
    assert template.read() == CONTENT


def damages(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return by name what can become of a stored template, as JSON."""
    body = stored["body"]
    values = dict(body["values"])
    values.popitem()
    return {
        "a list": [1, 2],
        "nothing in it": {},
        "no body": {"sha256": stored["sha256"]},
        "no checksum": {"body": body},
        "wrong checksum": {**stored, "sha256": "0" * 64},
        "a value lost": {**stored, "body": {**body, "values": values}},
        "a certificate lost": {**stored, "body": {**body, "pki": {}}},
        "made later": {**stored, "body": {**body, "made": body["made"] + 1}},
    }


DAMAGES = (
    "truncated",
    "empty",
    "no JSON",
    "other text",
    *damages({"sha256": "", "body": {"values": {"k": "v"}, "made": 0.0}}),
)


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_file_is_removed_not_used(template: Template, how: str) -> None:
    """A cluster never starts from half a state; the next save makes a new one."""
    template.save(CONTENT)
    text = template.path.read_text("utf-8")
    texts = {
        "truncated": text[: len(text) // 2],
        "empty": "",
        "no JSON": "\x00" * 20,
        "other text": text.replace("view", "edit"),
        **{name: json.dumps(d) for name, d in damages(json.loads(text)).items()},
    }
    template.path.write_text(texts[how], "utf-8")

    assert template.read() is None
    assert not template.path.exists()
    template.save(CONTENT)
    assert template.read() == CONTENT


@pytest.mark.parametrize(
    "changes",
    [
        {"values": [1]},
        {"values": {"/registry/a": 1}},
        {"values": {"/registry/a": "é"}},
        {"pki": None},
        {"made": "yesterday"},
        {"made": None},
    ],
    ids=str,
)
def test_content_of_another_shape_is_removed_though_its_checksum_fits(
    template: Template, changes: dict[str, Any]
) -> None:
    """Whoever wrote it: what cannot be understood is not used."""
    template.save(CONTENT)
    rewrite(template, **changes)

    assert template.read() is None
    assert not template.path.exists()


def test_file_that_cannot_be_read_is_not_used(template: Template) -> None:
    """Something else lies in its place."""
    template.path.mkdir(parents=True)

    assert template.read() is None


def test_discarded_template_is_gone(template: Template) -> None:
    """To discard what is not there is no error."""
    template.save(CONTENT)

    template.discard()
    template.discard()

    assert template.read() is None


def test_template_is_found_by_what_it_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same version and flags share a file; anything else has its own."""
    one = Template.of(tmp_path, "1.36.3", {"a": "b"})

    assert Template.of(tmp_path, "1.36.3", {"a": "b"}) == one
    assert Template.of(tmp_path, "1.36.2", {"a": "b"}) != one
    assert Template.of(tmp_path, "1.36.3", {"a": "c"}) != one
    assert Template.of(tmp_path, "1.36.3", {"a": "b"}, "content") != one
    monkeypatch.setattr(templates, "FORMAT", templates.FORMAT + 1)
    assert Template.of(tmp_path, "1.36.3", {"a": "b"}) != one


def test_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """Without a cache every start is a first one, slower but right."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    template = Template.of(blocked / "templates", "1.36.3")

    template.save(CONTENT)

    assert template.read() is None
    template.discard()


def test_saving_leaves_no_other_file(template: Template) -> None:
    """A file is written aside and renamed: a reader sees the old or the new one."""
    template.save(CONTENT)
    template.save(Content(PKI, {}))

    assert list(template.path.parent.iterdir()) == [template.path]
    assert template.read() == Content(PKI, {})


def test_save_over_what_a_killed_run_left_is_private_and_whole(
    template: Template,
) -> None:
    """Half a file of the same process id, longer and open to all, is no hindrance."""
    template.path.parent.mkdir(parents=True)
    left = template.path.with_suffix(f".{os.getpid()}.new")
    left.write_text("x" * 100_000)
    left.chmod(0o666)

    template.save(CONTENT)

    assert template.path.stat().st_mode & 0o777 == 0o600
    assert template.read() == CONTENT


def test_oldest_templates_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each edit of a CRD makes another one; they do not fill the disk."""
    monkeypatch.setattr(templates, "KEPT", 3)
    made = [Template.of(tmp_path, number) for number in range(5)]
    for number, template in enumerate(made):
        template.save(CONTENT)
        os.utime(template.path, (number, number))

    assert [t.read() is not None for t in made] == [False, False, True, True, True]
