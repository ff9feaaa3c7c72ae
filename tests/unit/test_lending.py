"""The names that the namespaces of tests have."""

from __future__ import annotations

import re

import pytest

from pytest_kube.lending import _namespace_name


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("test_scales", "test-scales-"),
        ("test_scales[3-True]", "test-scales-3-true-"),
        ("TestWidget.test__x__", "testwidget-test-x-"),
        ("тест", "test-"),
        ("test_" + "long_" * 30, "test-" + "long-" * 10),
    ],
)
def test_namespace_name_is_legal_and_tells_the_test(test: str, expected: str) -> None:
    """A DNS label: at most 63 characters, letters or digits at both ends."""
    name = _namespace_name(test)

    assert name.startswith(expected)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)


def test_namespace_names_differ_between_runs() -> None:
    """A namespace that is still being deleted is not in the way of the next."""
    assert _namespace_name("test_x") != _namespace_name("test_x")
