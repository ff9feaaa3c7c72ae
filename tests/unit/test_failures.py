"""The names that folders of artifacts have."""

from __future__ import annotations

import re

import pytest

from pytest_kube.failures import _folder_name


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
