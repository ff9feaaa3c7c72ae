"""The values of Secrets stay out of what is written down."""

from __future__ import annotations

import copy

from pytest_kube.diagnostics.redact import redacted

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "s",
        "annotations": {LAST_APPLIED: '{"data": {"key": "dmFsdWU="}}', "team": "a"},
    },
    "type": "Opaque",
    "data": {"key": "dmFsdWU=", "empty": ""},
    "stringData": {"text": "value"},
}


def test_values_of_a_secret_are_masked() -> None:
    """The keys stay: which of them are there often explains a failure."""
    assert redacted(SECRET) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "s",
            "annotations": {LAST_APPLIED: "REDACTED", "team": "a"},
        },
        "type": "Opaque",
        "data": {"key": "REDACTED", "empty": "REDACTED"},
        "stringData": {"text": "REDACTED"},
    }


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


def test_other_objects_stay_as_they_are() -> None:
    """A ConfigMap hides nothing."""
    config_map = {"kind": "ConfigMap", "data": {"key": "value"}}

    assert redacted(config_map) is config_map
