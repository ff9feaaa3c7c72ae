"""A history: which changes are in it, what it asserts, what its failures say."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_kube import condition, deleted, exists, field
from pytest_kube.errors import ClusterError, HistoryError
from pytest_kube.history import History, Selection, Version, read
from pytest_kube.state.etcd import Change, CompactedError

WIDGET = Selection("Widget default/w", "example.com", "Widget", "default", "w")


def widget(
    size: int = 1, name: str = "w", kind: str = "Widget", **metadata: Any
) -> dict[str, Any]:
    """Return a version of a widget, as etcd stores it."""
    return {
        "apiVersion": "example.com/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"u-{name}",
            "creationTimestamp": "2026-11-23T13:00:00Z",
            **metadata,
        },
        "spec": {"size": size},
    }


def changed(
    revision: int,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    key: str = "/registry/example.com/widgets/default/w",
) -> Change:
    """Return a change as etcd tells it."""
    stored = [None if v is None else json.dumps(v).encode() for v in (before, after)]
    return Change(revision, key, *stored)


def sizes(*sizes: int | None, first: int = 10) -> list[Change]:
    """Return the changes that give the widget one size after the other."""
    objects = [None if size is None else widget(size) for size in (None, *sizes)]
    pairs = itertools.pairwise(objects)
    return [changed(first + i, *pair) for i, pair in enumerate(pairs)]


def history(
    changes: list[Change], selection: Selection = WIDGET, audit: Path | None = None
) -> History:
    """Return the history that is read from changes."""
    state = SimpleNamespace(changes=lambda after: [c for c in changes if c[0] > after])
    cluster: Any = SimpleNamespace(name="my cluster", state=state, audit=audit)
    return read(cluster, 5, selection)


def text_of(error: pytest.ExceptionInfo[HistoryError]) -> list[str]:
    return str(error.value).splitlines()


# --- versions -------------------------------------------------------------------


def test_every_change_is_a_version() -> None:
    """Created, changed, deleted: each side as it was, with its revision."""
    versions = history(sizes(1, 2, None))

    assert [v.revision for v in versions] == [10, 11, 12]
    assert [v.object and v.object["spec"]["size"] for v in versions] == [1, 2, None]
    assert [v.previous and v.previous["spec"]["size"] for v in versions] == [None, 1, 2]
    assert [v.verb for v in versions] == ["create", "update", "delete"]
    assert {v.ref for v in versions} == {"Widget default/w"}
    assert {v.user for v in versions} == {None}


def test_objects_have_the_resource_version_that_the_change_made() -> None:
    """It is not stored; what was there before the test began comes without."""
    older = changed(9, widget(1), widget(2))
    versions = history([older, changed(10, widget(2), widget(3))])

    found = [
        obj and obj["metadata"].get("resourceVersion")
        for version in versions
        for obj in (version.previous, version.object)
    ]

    assert found == [None, "9", "9", "10"]


def test_what_happened_before_the_mark_is_not_in_it() -> None:
    """The history begins with the test."""
    assert [v.revision for v in history(sizes(1, 2, 3, first=4))] == [6]


def test_history_is_a_sequence() -> None:
    """Length, index, slices, iteration, and a repr for assertions."""
    versions = history(sizes(1, 2, 3))

    assert len(versions) == 3
    assert versions[-1].revision == 12
    assert isinstance(versions[1:], History)
    assert list(versions[1:]) == list(versions)[1:]
    assert repr(versions) == "<History of Widget default/w: 3 versions>"
    assert repr(versions[:1]) == "<History of Widget default/w: 1 version>"
    assert str(versions[:2]).splitlines() == [
        "Widget default/w  revision 10 at 13:00:00.000: created by an unknown user "
        "(create)",
        "Widget default/w  revision 11 at 13:00:00.000: changed by an unknown user "
        "(update)",
    ]


def test_time_is_the_newest_that_the_objects_tell() -> None:
    """Without an audit log; of what was deleted they only tell after when."""
    fields = [{"manager": "m", "time": "2026-11-23T13:00:07Z"}, {"manager": "n"}]
    mark = {"deletionTimestamp": "2026-11-23T13:00:09Z"}
    grace = {
        "deletionTimestamp": "2026-11-23T13:09:09Z",
        "deletionGracePeriodSeconds": 9,
    }
    objects = [
        None,
        widget(1),
        widget(2, managedFields=fields),
        widget(3, **grace),
        widget(4, **mark),
        None,
    ]
    pairs = list(itertools.pairwise(objects))

    versions = history([changed(10 + i, *pair) for i, pair in enumerate(pairs)])

    assert [v.time.second for v in versions] == [0, 7, 7, 9, 9]
    assert versions[0].time == datetime(2026, 11, 23, 13, tzinfo=UTC)


def test_user_verb_and_time_are_those_of_the_audit_log(tmp_path: Path) -> None:
    """It is read when somebody asks, not before."""
    log = tmp_path / "audit.log"
    versions = history(sizes(1), audit=log)
    answer = widget(1, resourceVersion="10")
    event = {
        "level": "RequestResponse",
        "requestURI": "/",
        "verb": "patch",
        "user": {"username": "ann"},
        "objectRef": {},
        "responseStatus": {"code": 201},
        "responseObject": answer,
        "requestReceivedTimestamp": "2026-11-23T13:00:00.100000Z",
        "stageTimestamp": "2026-11-23T13:00:00.200000Z",
    }
    log.write_text(json.dumps(event, separators=(",", ":")) + "\n")

    (version,) = versions

    assert (version.user, version.verb) == ("ann", "patch")
    assert version.time == datetime(2026, 11, 23, 13, 0, 0, 200_000, tzinfo=UTC)


# --- which objects --------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [10, 11, 12, 13, 14]),
        (WIDGET, [10]),
        (Selection("widgets", "example.com", "Widget"), [10, 11, 12]),
        (Selection("widgets", "other.com", "Widget"), []),
        (Selection("node", "", "Node", None, "w"), [14]),
        (Selection("event", "events.k8s.io", "Event"), [13]),
        (Selection("event", "", "Event"), [13]),
    ],
)
def test_selection(selection: Selection, expected: list[int]) -> None:
    """By group and kind in any version, namespace and name."""
    node = {**widget(kind="Node"), "apiVersion": "v1"}
    del node["metadata"]["namespace"]
    keys = "/registry/example.com/widgets/"
    changes = [
        changed(10, None, {**widget(), "apiVersion": "example.com/v1beta1"}),
        changed(11, None, widget(name="x"), f"{keys}default/x"),
        changed(12, None, widget(namespace="other"), f"{keys}other/w"),
        changed(13, None, {**widget(kind="Event"), "apiVersion": "v1"}, "/events/w"),
        changed(14, None, node, "/registry/minions/w"),
    ]

    assert [v.revision for v in history(changes, selection)] == expected


def test_what_is_no_object_is_not_in_it() -> None:
    """etcd stores allocations and protobuf, too."""
    allocation = {"kind": "RangeAllocation", "apiVersion": "v1", "metadata": {}}
    changes = [
        changed(10, None, allocation, "/registry/ranges/serviceips"),
        Change(11, "/registry/odd", None, b"k8s\0\n\x0c"),
        Change(12, "/registry/odd", None, b"[]"),
        Change(13, "/registry/odd", b"", b'{"metadata": {"name": "x"}}'),
    ]

    assert list(history(changes, Selection())) == []


def test_cluster_without_etcd_says_which_have_a_history() -> None:
    """The name of the cluster, the reason, and what does have one."""
    cluster: Any = SimpleNamespace(name="kind cluster, Kubernetes v1.36.3", state=None)

    with pytest.raises(ClusterError) as error:
        read(cluster, 5, WIDGET)

    assert str(error.value) == (
        "kind cluster, Kubernetes v1.36.3 has no history: its etcd is out of reach. "
        "Clusters of kwok, envtest and kind have one"
    )


def test_history_that_is_compacted_says_what_to_do() -> None:
    """Old history goes when no mark needs it."""

    def compacted(_: int) -> list[Change]:
        raise CompactedError("mvcc: required revision has been compacted")

    state = SimpleNamespace(changes=compacted)
    cluster: Any = SimpleNamespace(name="my cluster", state=state, audit=None)

    with pytest.raises(ClusterError) as error:
        read(cluster, 5, WIDGET)

    assert str(error.value) == (
        "my cluster: its history after revision 5 is asked for, and partly compacted: "
        "old history goes when no mark needs it. A fixture of a narrower scope has a "
        "younger mark"
    )


# --- never and always -----------------------------------------------------------


def test_never_passes_when_no_version_satisfies_it() -> None:
    """Also when nothing changed: then nothing went wrong."""
    history(sizes(1, 2)).never(field("spec.size", 3))
    history([]).never(exists)


def test_never_fails_with_the_version_that_satisfies_it() -> None:
    """What it was, who wrote it, what changed, what was before and after."""
    with pytest.raises(HistoryError) as error:
        history(sizes(1, 2, 5, 3, 2)).never(field("spec.size", 5))

    assert text_of(error) == [
        "Widget default/w: spec.size = 5 held, and was never to hold",
        "  version      3 of 5: revision 12 at 13:00:00.000: changed by an unknown user "
        "(update)",
        "  changed      spec.size: 2 -> 5",
        "  before it    revision 11 at 13:00:00.000: changed by an unknown user (update)",
        "  after it     revision 13 at 13:00:00.000: changed by an unknown user (update)",
    ]
    assert isinstance(error.value, AssertionError)
    assert isinstance(error.value.version, Version)
    assert error.value.version.revision == 12


def test_deletion_is_asked_about_as_none() -> None:
    """An object that is to stay is never to be deleted."""
    with pytest.raises(HistoryError) as error:
        history(sizes(1, None)).never(deleted)

    assert text_of(error) == [
        "Widget default/w: deleted held, and was never to hold",
        "  version      2 of 2: revision 11 at 13:00:00.000: deleted by an unknown user "
        "(delete)",
        "  before it    revision 10 at 13:00:00.000: created by an unknown user (create)",
    ]


def test_always_passes_when_every_version_satisfies_it() -> None:
    """All of them are asked."""
    history(sizes(1, 2, 1)).always(field("spec.size", lambda size: size < 3))


def test_always_fails_with_the_version_that_does_not_satisfy_it() -> None:
    """What is new shows what it is, without its metadata."""
    with pytest.raises(HistoryError) as error:
        history(sizes(3)).always("jsonpath={.spec.size}=2")

    assert text_of(error) == [
        "Widget default/w: {.spec.size} = 2 did not hold, and was always to hold",
        "  version      1 of 1: revision 10 at 13:00:00.000: created by an unknown user "
        "(create)",
        "  changed      spec.size: absent -> 3",
    ]


@pytest.mark.parametrize(
    ("assertion", "expected"),
    [
        (lambda h: h.always(exists), "exists was always to hold"),
        (lambda h: h.sequence(exists, deleted), "exists, then deleted was to hold"),
    ],
)
def test_nothing_that_changed_satisfies_nothing(assertion: Any, expected: str) -> None:
    """A test that cannot fail is worse than none."""
    with pytest.raises(HistoryError) as error:
        assertion(history([]))

    assert text_of(error) == [
        f"Widget default/w: nothing changed since the test began, but {expected}",
        "  A history begins with the test: what was there before and did not change is "
        "not in it. Is the name right?",
    ]
    assert error.value.version is None


def test_versions_of_other_objects_are_not_mixed_in() -> None:
    """Before and after it is the same object."""
    other = changed(11, None, widget(9, "x"), "/registry/example.com/widgets/default/x")
    first, last = sizes(1, 2)
    changes = [first, other, last._replace(revision=12)]

    with pytest.raises(HistoryError) as error:
        history(changes, Selection()).never(field("spec.size", 2))

    assert text_of(error)[1].startswith("  version      2 of 2: revision 12 ")
    assert text_of(error)[3].startswith("  before it    revision 10 ")


def test_long_difference_is_cut() -> None:
    """A failure fits on a screen."""
    after = {**widget(), "spec": {f"f{i}": i for i in range(20)}}

    with pytest.raises(HistoryError) as error:
        history([changed(10, widget(), after)]).never(exists)

    shown = [line for line in text_of(error) if line.startswith("  changed ")]
    assert len(shown) == 13
    assert shown[-1] == "  changed      … and 9 more"


def test_values_of_secrets_are_not_shown() -> None:
    """Failures end up in logs."""
    secret = {**widget(kind="Secret"), "apiVersion": "v1", "data": {"a": "czNjcjN0"}}
    selection = Selection("secrets", "", "Secret")

    with pytest.raises(HistoryError) as error:
        history([changed(10, None, secret)], selection).never(exists)

    assert "  changed      data: changed (values are not shown)" in text_of(error)
    assert "czNjcjN0" not in str(error.value)


def test_condition_that_raises_names_the_version() -> None:
    """The user's own error, with what it was asked about."""

    def small(obj: Any) -> bool:
        return bool(obj["spec"]["size"] < 3)

    with pytest.raises(TypeError) as error:
        history(sizes(1, None)).always(small)

    (note,) = error.value.__notes__
    assert note.startswith(
        "The condition 'small' raised this when asked about None, for it was deleted: "
        "Widget default/w  revision 11 at "
    )


# --- sequence -------------------------------------------------------------------


def test_sequence_returns_the_versions_that_it_found() -> None:
    """Anything may happen between them."""
    found = history(sizes(1, 2, 1, 3, None)).sequence(
        exists, field("spec.size", 1), field("spec.size", 3), deleted
    )

    assert [v.revision for v in found] == [10, 12, 13, 14]


def test_sequence_that_stops_says_how_far_it_came() -> None:
    """Which conditions held where, which did not, which were not reached."""
    with pytest.raises(HistoryError) as error:
        history(sizes(1, 2, 3)).sequence(
            field("spec.size", 2), field("spec.size", 4), deleted
        )

    assert text_of(error) == [
        "Widget default/w: spec.size = 4 did not hold after spec.size = 2",
        "  held         spec.size = 2: revision 11 at 13:00:00.000: changed by an "
        "unknown user (update)",
        "  missing      spec.size = 4: in none of the 1 versions since",
        "  not reached  deleted",
        "  last         Widget default/w  revision 12 at 13:00:00.000: changed by an "
        "unknown user (update)",
        "  changed      spec.size: 2 -> 3",
    ]
    assert error.value.version.revision == 12


@pytest.mark.parametrize(
    ("conditions", "headline", "missing"),
    [
        (
            [condition("Ready")],
            "Ready=True did not hold",
            "Ready=True: in none of the 3 versions",
        ),
        (
            [field("spec.size", 3), field("spec.size", 1)],
            "spec.size = 1 did not hold after spec.size = 3",
            "spec.size = 1: in none of the 0 versions since; before, at revision 10",
        ),
        (
            [field("spec.size", 2), field("spec.size", 2)],
            "spec.size = 2 did not hold after spec.size = 2",
            "spec.size = 2: in none of the 1 versions since; in that one too, but each "
            "needs a version of its own",
        ),
    ],
)
def test_sequence_tells_what_is_missing(
    conditions: list[Any], headline: str, missing: str
) -> None:
    """Never, too early, or at the same time as what was to be before it."""
    with pytest.raises(HistoryError) as error:
        history(sizes(1, 2, 3)).sequence(*conditions)

    assert text_of(error)[0] == f"Widget default/w: {headline}"
    assert f"  missing      {missing}" in text_of(error)


def test_sequence_of_nothing_is_a_mistake() -> None:
    """It would assert nothing."""
    with pytest.raises(ValueError, match=r"sequence\(\) without a condition"):
        history(sizes(1)).sequence()
