"""The names that a session gives to namespaces and to folders of artifacts."""

from __future__ import annotations

import re

import pytest

from pytest_kube.session import _folder_name, _namespace_name


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


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("test_a.py::test_x", "test_a.py.test_x"),
        ("test_a.py::TestX::test_y", "test_a.py.TestX.test_y"),
        ("tests/unit/test_a.py::test_x", "tests-unit-test_a.py.test_x"),
        ("test_a.py::test_x[1-b]", "test_a.py.test_x-1-b"),
    ],
)
def test_folder_name_is_the_node_id_as_far_as_it_can_be(
    nodeid: str, expected: str
) -> None:
    """Whoever looks for the artifacts of a test finds them."""
    assert _folder_name(nodeid) == expected


def test_folder_names_differ_for_different_tests() -> None:
    """No test's artifacts take the place of another's."""
    parameters = ["a b", "a-b", "a/b", "a:b", "é", "ü", "x" * 300, "x" * 301, "a]b", ""]
    nodeids = [f"tests/test_a.py::test_x[{p}]" for p in parameters]
    nodeids += ["other/test_a.py::test_x[1]", "tests/test_a.py::test_x[1]"]

    names = {_folder_name(nodeid) for nodeid in nodeids}

    assert len({name.lower() for name in names}) == len(nodeids)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,120}", name) for name in names)
