"""The values of Secrets stay out of what is written down."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

from pytest_kube.redact import redacted

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
LAST_HANDLED = "kopf.zalando.org/last-handled-configuration"
MASKED = "UkVEQUNURUQ="
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "annotations": {"team": "a"}},
    "type": "Opaque",
    "data": {"key": "dmFsdWU=", "empty": ""},
    "stringData": {"text": "value"},
}


def annotated(text: str) -> dict[str, Any]:
    """Return a Secret with one annotation."""
    return {"kind": "Secret", "metadata": {"annotations": {LAST_APPLIED: text}}}


def test_values_of_a_secret_are_masked() -> None:
    """The keys stay: which of them are there often explains a failure."""
    assert redacted(SECRET) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "annotations": {"team": "a"}},
        "type": "Opaque",
        "data": {"key": MASKED, "empty": MASKED},
        "stringData": {"text": "REDACTED"},
    }
    assert base64.b64decode(MASKED) == b"REDACTED"


@pytest.mark.parametrize("name", [LAST_APPLIED, LAST_HANDLED])
def test_copies_in_annotations_are_masked_and_stay_readable(name: str) -> None:
    """kubectl and kopf keep the whole object there, and read it again."""
    copied = json.dumps({"data": {"key": "dmFsdWU="}, "stringData": {"a": "b"}})
    secret = {"kind": "Secret", "metadata": {"annotations": {name: copied}}}

    annotation = redacted(secret)["metadata"]["annotations"][name]

    assert json.loads(annotation) == {
        "kind": "Secret",
        "data": {"key": MASKED},
        "stringData": {"a": "REDACTED"},
    }


def test_copy_in_a_copy_is_masked() -> None:
    """An object that was read and applied again brings its annotation along."""
    inner = json.dumps(annotated('{"data": {"key": "dmFsdWU="}}'))

    assert "dmFsdWU=" not in json.dumps(redacted(annotated(inner)))


def test_annotation_that_is_half_a_copy_is_masked_whole() -> None:
    """What cannot be read cannot be masked in part."""
    assert redacted(annotated('{"data": {"key": "dmFs')) == annotated("REDACTED")


def test_secret_itself_stays_as_it_was() -> None:
    """The test goes on with the object."""
    secret = copy.deepcopy(SECRET)

    redacted(secret)

    assert secret == SECRET


def test_secret_without_values_is_none_the_worse() -> None:
    """Everything but the kind may be missing or null."""
    bare = {"kind": "Secret"}
    null = {"kind": "Secret", "metadata": {"annotations": None}, "data": None}

    assert redacted(bare) == bare
    assert redacted(null) == null


def test_values_of_another_shape_are_left_out() -> None:
    """No Secret, but nothing to be written down either."""
    assert redacted({"kind": "Secret", "data": ["dmFsdWU="]}) == {
        "kind": "Secret",
        "data": None,
    }


def test_other_objects_stay_as_they_are() -> None:
    """A ConfigMap hides nothing."""
    config_map = {"kind": "ConfigMap", "data": {"key": "value"}}

    assert redacted(config_map) is config_map
