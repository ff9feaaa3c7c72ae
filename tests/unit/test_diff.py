"""What differs between two versions of an object."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_kube.diff import differences


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"spec": {"n": 3}}, {"spec": {"n": 5}}, ["spec.n: 3 -> 5"]),
        ({"a": "x"}, {"a": None}, ['a: "x" -> null']),
        (
            {},
            {"spec": {"n": 3, "m": {}}},
            ["spec.n: absent -> 3", "spec.m: absent -> {}"],
        ),
        ({"b": [1], "a": 1}, {"a": 2}, ["a: 1 -> 2", "b: [1] -> absent"]),
        ({"a": [1, 2]}, {"a": [1, 3, 4]}, ["a[1]: 2 -> 3", "a[2]: absent -> 4"]),
        ({"a": []}, {"a": {}}, ["a: [] -> {}"]),
        ({"a": {"b.c/d": 1}}, {"a": {"b.c/d": 2}}, ['a["b.c/d"]: 1 -> 2']),
        ({"a": "x" * 99}, {}, [f'a: "{"x" * 58}… -> absent']),
        (None, {"a": "ä"}, ['a: absent -> "ä"']),
        ({"a": 1}, None, ["a: 1 -> absent"]),
    ],
)
def test_differences(before: Any, after: Any, expected: list[str]) -> None:
    """A line for each path, in the order of the newer version."""
    assert differences(before, after) == expected


@pytest.mark.parametrize("key", ["name", "type"])
def test_items_are_told_apart_by_what_names_them(key: str) -> None:
    """A condition that comes first now is no change of the others."""
    ready, new = {key: "Ready", "status": "False"}, {key: "New", "status": "True"}

    lines = differences({"c": [ready]}, {"c": [new, {**ready, "status": "True"}]})

    assert lines == [
        f'c[New].{key}: absent -> "New"',
        'c[New].status: absent -> "True"',
        'c[Ready].status: "False" -> "True"',
    ]


def test_items_of_one_name_are_told_apart_by_place() -> None:
    """Ports may share a name, or have none."""
    ports = [{"name": "a", "port": 1}, {"name": "a", "port": 2}]

    lines = differences(
        {"ports": ports}, {"ports": [ports[0], {"name": "a", "port": 3}]}
    )

    assert lines == ["ports[1].port: 2 -> 3"]


def test_what_every_write_changes_is_left_out() -> None:
    """The revision is told elsewhere."""
    before = {"metadata": {"managedFields": [], "resourceVersion": "1"}}
    after = {"metadata": {"managedFields": [{}], "resourceVersion": "2"}}

    assert differences(before, after) == []


def test_hidden_values_are_not_shown() -> None:
    """That they changed is."""
    before = {"kind": "Secret", "data": {"password": "b25l"}}
    after = {"kind": "Secret", "data": {"password": "dHdv"}}

    lines = differences(before, after, hidden={"data"})

    assert lines == ["data: changed (values are not shown)"]
