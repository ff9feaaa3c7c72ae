"""The moments of an archived state as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pytest_kube import moments
from pytest_kube.state.archive import About, Archive, Stored

BEGAN = datetime(2026, 11, 23, 13, 43, 35, 935_000, tzinfo=UTC)
ABOUT = About("1.36.3", "kwok", "x", "t", BEGAN + timedelta(seconds=60), 31, 50)
KEY = "/registry/configmaps/x/a"


def config_map(**data: str) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "x"}, **data}


def changed(number: int, value: Any, user: str | None = "jane") -> Stored:
    when = BEGAN + timedelta(seconds=number)
    return Stored(KEY, 32 + number, value, when, user, "patch" if user else "")


ARCHIVE = Archive(
    ABOUT,
    [],
    [
        changed(0, config_map()),
        changed(1, config_map(a="1", b="2")),
        changed(2, None, user=None),
    ],
)


def test_moment_tells_what_changed_last() -> None:
    """When, what, by whom; of a change, what differs."""
    assert list(moments.told(ARCHIVE, 0)) == [
        "moment      0 of 3: revision 31, the test begins"
    ]
    assert list(moments.told(ARCHIVE, 1)) == [
        "moment      1 of 3: revision 32 at 13:43:35.935 (+0.000s): "
        "ConfigMap x/a created by jane (patch)"
    ]
    assert list(moments.told(ARCHIVE, 2)) == [
        "moment      2 of 3: revision 33 at 13:43:36.935 (+1.000s): "
        "ConfigMap x/a changed by jane (patch)",
        '            a: absent -> "1"',
        '            b: absent -> "2"',
    ]
    assert list(moments.told(ARCHIVE, 3)) == [
        "moment      3 of 3: revision 34 at 13:43:37.935 (+2.000s): "
        "ConfigMap x/a deleted by an unknown user"
    ]


def test_differences_of_a_moment_are_bounded() -> None:
    """The first of them, and how many there are."""
    many = config_map(**{f"k{n}": "v" for n in range(20)})
    archive = Archive(ABOUT, [], [changed(0, config_map()), changed(1, many)])

    lines = list(moments.told(archive, 2))

    assert len(lines) == 1 + 8 + 1
    assert lines[-1] == "            … and 12 more"


def test_changes_around_a_moment_are_listed() -> None:
    """Five before and after it; the one that happened last is marked."""
    changes = [changed(n, config_map(n=str(n))) for n in range(30)]
    archive = Archive(ABOUT, [], changes)

    def marked(moment: int) -> list[tuple[str, int]]:
        lines = moments.around(archive, moment)
        return [(line[0], int(line[1:].split()[0])) for line in lines]

    assert marked(0) == [(">", 0), *((" ", n) for n in range(1, 6))]
    assert marked(3) == [(">" if n == 3 else " ", n) for n in range(9)]
    assert marked(20) == [(">" if n == 20 else " ", n) for n in range(15, 26)]
    assert marked(30) == [(">" if n == 30 else " ", n) for n in range(25, 31)]


def test_differences_between_moments() -> None:
    """What came, what went, and what is another."""
    assert list(moments.between(ARCHIVE, 0, 1)) == ["+ ConfigMap x/a"]
    assert list(moments.between(ARCHIVE, 1, 0)) == ["- ConfigMap x/a"]
    assert list(moments.between(ARCHIVE, 2, 1)) == [
        "~ ConfigMap x/a",
        '    a: "1" -> absent',
        '    b: "2" -> absent',
    ]
    assert list(moments.between(ARCHIVE, 0, 3)) == [
        "nothing differs between revisions 31 and 34"
    ]
