"""Who wrote a revision, from the lines of an audit log."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_kube import audit
from pytest_kube.audit import AuditLog, Write

START = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


def at(milliseconds: float) -> datetime:
    return START + timedelta(milliseconds=milliseconds)


def line(
    user: str,
    verb: str = "patch",
    *,
    answer: dict[str, Any] | None = None,
    asked: Any = None,
    code: int = 200,
    took: tuple[float, float] = (0, 1),
    **more: Any,
) -> dict[str, Any]:
    """Return an event of a write, answered *took* milliseconds after the start."""
    about = {"resource": "widgets", "namespace": "default", "name": "w"}
    received, done = (at(ms).isoformat().replace("+00:00", "Z") for ms in took)
    return {
        "kind": "Event",
        "level": "RequestResponse",
        "requestURI": "/apis/example.com/v1/namespaces/default/widgets/w",
        "verb": verb,
        "user": {"username": user},
        "objectRef": about | more.pop("objectRef", {}),
        "responseStatus": {"code": code},
        "requestObject": asked,
        "responseObject": answer,
        "requestReceivedTimestamp": received,
        "stageTimestamp": done,
        **more,
    }


def widget(revision: int = 0, uid: str = "u1", **metadata: Any) -> dict[str, Any]:
    """Return a version of the widget w, as answers and histories have it."""
    version = {"resourceVersion": str(revision)} if revision else {}
    return {
        "kind": "Widget",
        "metadata": {
            "name": "w",
            "namespace": "default",
            "uid": uid,
            **version,
            **metadata,
        },
    }


def pod(revision: int = 0, **metadata: Any) -> dict[str, Any]:
    spec = {"terminationGracePeriodSeconds": 30, "nodeName": "n"}
    return {**widget(revision, **metadata), "kind": "Pod", "spec": spec}


def gone(uid: str = "u1") -> dict[str, Any]:
    """Return what answers the deletion of an object that is gone at once."""
    return {"kind": "Status", "status": "Success", "details": {"uid": uid}}


def text_of(*events: dict[str, Any]) -> str:
    """Return lines as an API server writes them."""
    return "".join(json.dumps(e, separators=(",", ":")) + "\n" for e in events)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no line: they are all there."""
    monkeypatch.setattr(audit, "PATIENCE", 0.0)


def log_of(tmp_path: Path, *events: dict[str, Any], first: int = 1) -> AuditLog:
    path = tmp_path / "audit.log"
    path.write_text(text_of(*events))
    return AuditLog(path, first)


def writer(
    log: AuditLog,
    revision: int,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> str | None:
    """Return who wrote it and how, in one word."""
    write = log.write_of(revision, before, after)
    return write and f"{write.user}:{write.verb}"


# --- the answer holds the revision ----------------------------------------------


def test_write_is_told_by_the_revision_in_its_answer(tmp_path: Path) -> None:
    """User, verb and time are those of the request that was answered with it."""
    log = log_of(
        tmp_path,
        line("ann", "create", answer=widget(5), code=201),
        line("bob", "update", answer=widget(6), took=(2, 3)),
    )

    assert log.write_of(5, None, widget()) == Write("ann", "create", at(1))
    assert log.write_of(6, widget(), widget()) == Write("bob", "update", at(3))


def test_change_through_a_subresource_counts(tmp_path: Path) -> None:
    """The answer to a write of scale is a Scale, with the uid of what it scales."""
    scaled = line("ann", answer={**widget(5), "kind": "Scale"}, took=(0, 1))
    scaled["objectRef"]["subresource"] = "scale"

    assert writer(log_of(tmp_path, scaled), 5, widget(), widget()) == "ann:patch"


def test_user_is_the_one_that_was_impersonated(tmp_path: Path) -> None:
    """Who acts as somebody else is that somebody to the API."""
    other = {"username": "system:serviceaccount:default:other"}
    log = log_of(tmp_path, line("ann", answer=widget(5), impersonatedUser=other))

    found = writer(log, 5, widget(), widget())

    assert found == "system:serviceaccount:default:other:patch"


def test_request_that_changes_nothing_wrote_nothing(tmp_path: Path) -> None:
    """It came later and was answered with the revision that stood."""
    log = log_of(
        tmp_path,
        line("ann", answer=widget(5), took=(0, 2)),
        line("bob", answer=widget(5), took=(3, 4)),
    )

    assert writer(log, 5, widget(), widget()) == "ann:patch"


def test_update_answered_with_the_revision_that_it_knew_wrote_nothing(
    tmp_path: Path,
) -> None:
    """Also when both were under way at the same time."""
    log = log_of(
        tmp_path,
        line("bob", "update", answer=widget(5), asked=widget(5), took=(1, 2)),
        line("ann", answer=widget(5), took=(0, 3), asked=[{"op": "add"}]),
    )

    assert writer(log, 5, widget(), widget()) == "ann:patch"


def test_nobody_is_named_where_it_may_have_been_two(tmp_path: Path) -> None:
    """A wrong name is worse than none."""
    log = log_of(
        tmp_path,
        line("ann", answer=widget(5), took=(0, 3)),
        line("bob", answer=widget(5), took=(1, 2)),
    )

    assert writer(log, 5, widget(), widget()) is None


def test_creation_is_told_by_its_code(tmp_path: Path) -> None:
    """Of two that apply the same at the same time, one created it."""
    log = log_of(
        tmp_path,
        line("bob", answer=widget(5), took=(1, 2)),
        line("ann", answer=widget(5), code=201, took=(0, 3)),
    )

    assert writer(log, 5, None, widget()) == "ann:patch"


def test_whoever_came_after_a_later_revision_wrote_no_earlier_one(
    tmp_path: Path,
) -> None:
    """The line of revision 5 is lost; what changed nothing does not take its place."""
    log = log_of(
        tmp_path,
        line("ann", "create", answer=widget(6, "u2"), code=201, took=(1, 2)),
        line("bob", answer=widget(5), took=(3, 4)),
    )

    assert writer(log, 5, widget(), widget()) is None


def test_lists_and_other_objects_do_not_count(tmp_path: Path) -> None:
    """The revision of a list is not that of a write."""
    items = {"kind": "WidgetList", "metadata": {"resourceVersion": "5"}, "items": []}
    log = log_of(
        tmp_path,
        line("ann", "deletecollection", answer=items),
        line("bob", answer=widget(5, "u2")),
    )

    assert writer(log, 5, widget(), widget()) is None


# --- deletion -------------------------------------------------------------------


def test_deletion_is_told_by_the_uid(tmp_path: Path) -> None:
    """The answer to the deletion of most kinds is a Status."""
    log = log_of(
        tmp_path,
        line("ann", "delete", answer=gone("another"), took=(0, 1)),
        line("bob", "delete", answer=gone(), took=(2, 3)),
    )

    assert writer(log, 7, widget(), None) == "bob:delete"


def test_deletion_of_a_collection_is_told_by_its_items(tmp_path: Path) -> None:
    """They are listed as they were before."""
    items = {
        "kind": "WidgetList",
        "metadata": {},
        "items": [widget(5), widget(6, "u2")],
    }
    log = log_of(tmp_path, line("ann", "deletecollection", answer=items))

    assert writer(log, 8, widget(uid="u2"), None) == "ann:deletecollection"


def test_who_removes_the_last_finalizer_removes_the_object(tmp_path: Path) -> None:
    """Who deleted it only marked it; the answer holds the revision of the mark."""
    mark = {
        "deletionTimestamp": "2026-11-23T13:00:00Z",
        "deletionGracePeriodSeconds": 0,
    }
    held = mark | {"finalizers": ["example.com/keep"]}
    items = {"kind": "WidgetList", "metadata": {}, "items": [widget(5)]}
    log = log_of(
        tmp_path,
        line("ann", "delete", answer=widget(7, **held), took=(0, 1)),
        line("cid", "deletecollection", answer=items, took=(2, 9)),
        line("bob", answer=widget(7, **mark), took=(3, 4)),
    )
    alive = widget(finalizers=["example.com/keep"])

    assert writer(log, 7, alive, widget(**held)) == "ann:delete"
    assert writer(log, 8, widget(**held), None) == "bob:patch"


def test_namespace_goes_when_it_is_finalized(tmp_path: Path) -> None:
    """Its finalizers stand in the spec; writes of its status let nothing go."""
    mark = {"deletionTimestamp": "2026-11-23T13:00:00Z"}
    ends: Any = {**widget(7, **mark), "kind": "Namespace"}
    held = {**ends, "spec": {"finalizers": ["kubernetes"]}}
    log = log_of(
        tmp_path,
        line("bob", "update", answer={**held}, took=(0, 4)),
        line("ann", "update", answer=ends, took=(3, 4)),
    )

    assert writer(log, 8, held, None) == "ann:update"


def test_pod_is_marked_by_one_and_removed_by_another(tmp_path: Path) -> None:
    """A kubelet grants no more time by one revision, and removes by the next."""
    soon = {
        "deletionTimestamp": "2026-11-23T13:00:30Z",
        "deletionGracePeriodSeconds": 30,
    }
    now = {"deletionTimestamp": "2026-11-23T13:00:00Z", "deletionGracePeriodSeconds": 0}
    items = {"kind": "PodList", "metadata": {}, "items": [pod(5)]}
    log = log_of(
        tmp_path,
        line("ann", "deletecollection", answer=items, took=(0, 9)),
        line(
            "kubelet",
            "delete",
            asked={"gracePeriodSeconds": 0},
            answer=pod(9, **now),
            took=(1, 5),
        ),
    )

    assert writer(log, 7, pod(), pod(**soon)) == "ann:deletecollection"
    assert writer(log, 8, pod(**soon), pod(**now)) == "kubelet:delete"
    assert writer(log, 9, pod(**now), None) == "kubelet:delete"


def test_eviction_is_told_by_the_name(tmp_path: Path) -> None:
    """Its answer is a Status without a uid; what it does is a deletion."""
    soon = {
        "deletionTimestamp": "2026-11-23T13:00:30Z",
        "deletionGracePeriodSeconds": 30,
    }
    evicted = line(
        "ann",
        "create",
        code=201,
        answer={"kind": "Status", "metadata": {}},
        objectRef={"resource": "pods", "subresource": "eviction"},
    )
    log = log_of(tmp_path, evicted)

    assert writer(log, 6, pod(), pod(labels={"a": "b"})) == "ann:delete"
    assert writer(log, 7, pod(), pod(**soon)) == "ann:delete"


def test_binding_of_a_pod_is_the_schedulers(tmp_path: Path) -> None:
    """Its answer is a Status; the request names the node."""
    bound = line(
        "scheduler",
        "create",
        code=201,
        asked={"kind": "Binding", "target": {"name": "n"}},
        answer={"kind": "Status", "metadata": {}},
        objectRef={"resource": "pods", "subresource": "binding", "uid": "u1"},
    )
    log = log_of(tmp_path, bound, line("kwok", answer=pod(5), took=(2, 3)))
    unbound = {**pod(), "spec": {}}

    assert writer(log, 5, unbound, pod()) == "scheduler:update"


# --- the log --------------------------------------------------------------------


def test_refused_and_dry_requests_wrote_nothing(tmp_path: Path) -> None:
    """Both are in the log."""
    dry = line("bob", answer=widget(5), requestURI="/apis/widgets/w?dryRun=All")
    log = log_of(
        tmp_path,
        line("cid", answer=widget(5), code=409),
        dry,
        line("dan", "delete", asked={"dryRun": ["All"]}, answer=gone()),
    )

    assert writer(log, 5, widget(), widget()) is None
    assert writer(log, 6, widget(), None) is None


def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    """So are half ones, other levels, and what is no event."""
    good = text_of(line("ann", answer=widget(5)))
    path = tmp_path / "audit.log"
    noise = [
        "\0\xff not JSON",
        '{"level":"RequestResponse"}',
        '{"level":"RequestResponse","responseStatus":[]}',
        text_of(line("bob", answer=widget(5))).replace("RequestResponse", "Metadata"),
        good[: len(good) // 2],
    ]
    path.write_text("\n".join([*noise[:3], good, *noise[3:]]), "latin-1")

    assert writer(AuditLog(path, 1), 5, widget(), widget()) == "ann:patch"


def test_without_a_log_nobody_is_named_and_nothing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile may have turned it off."""
    monkeypatch.setattr(audit, "PATIENCE", 60.0)
    started = time.monotonic()

    assert writer(AuditLog(tmp_path / "none", 1), 5, None, widget()) is None
    assert time.monotonic() - started < 5


def test_line_that_is_on_its_way_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch may tell of a change before its line is written."""
    monkeypatch.setattr(audit, "PATIENCE", 5.0)
    log = log_of(tmp_path)

    timer = threading.Timer(0.05, log_of, (tmp_path, line("ann", answer=widget(5))))
    timer.start()
    found = writer(log, 5, widget(), widget())
    timer.join()

    assert found == "ann:patch"


def test_rotated_files_are_read(tmp_path: Path) -> None:
    """What was written just before the rotation stands in them, newest last."""
    rotated = tmp_path / "audit-2026-11-23T13-01-02.123.log"
    rotated.write_text(text_of(line("ann", answer=widget(5))))
    older = tmp_path / "audit-2026-11-23T12-01-02.123.log"
    older.write_text(text_of(line("bob", answer=widget(4), took=(-2, -1))))
    log = log_of(tmp_path, line("cid", answer=widget(6), took=(5, 6)))

    writers = [writer(log, n, widget(), widget()) for n in (4, 5, 6)]

    assert writers == ["bob:patch", "ann:patch", "cid:patch"]


def test_only_the_part_since_the_mark_is_read(tmp_path: Path) -> None:
    """A new object of an earlier revision tells that what is before it is old."""
    old = [line("bob", answer=widget(5), took=(n, n)) for n in range(-9000, -8000, 50)]
    log = log_of(
        tmp_path,
        *old,
        line("cid", "create", answer=widget(4, "u2"), code=201),
        line("ann", answer=widget(5), took=(2, 3)),
        first=5,
    )

    assert writer(log, 5, widget(), widget()) == "ann:patch"


def test_lines_longer_than_what_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is read from its end, piece by piece."""
    monkeypatch.setattr(audit, "_CHUNK", 64)
    log = log_of(
        tmp_path,
        line("ann", answer=widget(5)),
        line("bob", answer=widget(6), took=(2, 3)),
    )

    assert writer(log, 5, widget(), widget()) == "ann:patch"
    assert writer(log, 6, widget(), widget()) == "bob:patch"
