"""What our etcd client and the marks do, on an etcd alone: no API server, no noise."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pytest_kube.binaries.store import Store
from pytest_kube.controlplane import certs
from pytest_kube.controlplane import etcd as program
from pytest_kube.errors import ClusterError, RollbackError
from pytest_kube.state import etcd as client
from pytest_kube.state import rollback
from pytest_kube.state.etcd import Change, CompactedError, Entry, Etcd
from pytest_kube.state.keys import EVENTS, HEARTBEATS, NODES, NOT_STATE
from pytest_kube.state.rollback import State
from pytest_kube.system.ports import free_ports
from pytest_kube.system.processes import Guardian

from .conftest import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

A, B, C, D = (f"/registry/configmaps/default/{name}" for name in "abcd")
LEASE = f"{NOT_STATE[0]}xyz"
NODE_LEASE = f"{HEARTBEATS}node-0"
EVENT = f"{EVENTS}default/e"


def start_etcd(guardian: Guardian, **flags: str) -> Etcd:
    """Start an etcd as control planes have it, and return a client when it answers."""
    pki = guardian.directory / "pki"
    pki.mkdir()
    made = certs.files(["etcd"], {"etcd-client": ("etcd-client", ())})
    for name, content in made.items():
        (pki / name).write_bytes(content)
    port, peer_port = free_ports(2)
    data = guardian.directory / "etcd"
    usual = program.flags(data=data, pki=pki, port=port, peer_port=peer_port)
    wanted = {**usual, **{k.replace("_", "-"): v for k, v in flags.items()}}
    binary = Store(VERSION, environ=dict(os.environ)).require("etcd")["etcd"]
    argv = [str(binary), *(f"--{name}={value}" for name, value in wanted.items())]
    process = guardian.start("etcd", argv)
    trust = ssl.create_default_context(cadata=made["ca.crt"].decode())
    trust.load_cert_chain(pki / "etcd-client.crt", pki / "etcd-client.key")
    etcd = Etcd(f"https://127.0.0.1:{port}", trust)
    deadline = time.monotonic() + 20
    while True:
        try:
            etcd.check_health()
        except ClusterError:
            assert time.monotonic() < deadline, process.log_tail()
            assert not process.exited.done(), process.log_tail()
        else:
            return etcd


@pytest.fixture(scope="module")
def server() -> Iterator[Etcd]:
    """One etcd for all tests that leave it in order."""
    with Guardian() as guardian:
        yield start_etcd(guardian)


@pytest.fixture
def etcd(server: Etcd) -> Etcd:
    """An etcd without keys, but with a past."""
    server.write(dict.fromkeys(entry.key for entry in server.entries("/")))
    return server


@pytest.fixture
def state(etcd: Etcd) -> State:
    return State(etcd)


def stored(etcd: Etcd, prefix: str = "/") -> dict[str, bytes]:
    """Return what etcd stores now."""
    return {entry.key: entry.value for entry in etcd.entries(prefix)}


def revision(etcd: Etcd) -> int:
    return etcd.count("/")[0]


# --- the client --------------------------------------------------------------


def test_written_keys_are_read_with_their_revisions(etcd: Etcd) -> None:
    """Which revision wrote a key and which created it; any bytes are a value."""
    first = etcd.write({A: b"1", B: b"\x00\xff"})
    second = etcd.write({A: b"2", C: b""})

    assert etcd.entries("/registry/") == [
        Entry(A, b"2", second, first),
        Entry(B, b"\x00\xff", first, first),
        Entry(C, b"", second, second),
    ]
    assert etcd.entries("/registry/", revision=first) == [
        Entry(A, b"1", first, first),
        Entry(B, b"\x00\xff", first, first),
    ]
    assert etcd.values([A, B, D], revision=first) == {A: b"1", B: b"\x00\xff"}
    assert etcd.values([A, C, D]) == {A: b"2", C: b""}
    assert etcd.values([]) == {}
    assert etcd.keys("/registry/") == {A, B, C}
    assert etcd.keys("/registry/", revision=first) == {A, B}
    assert etcd.count("/registry/") == (second, 3)


def test_prefix_is_a_prefix(etcd: Etcd) -> None:
    """Neighbours in the order of keys are not meant."""
    etcd.write(dict.fromkeys(["/registry", "/registry/a", "/registry0", "/a"], b""))

    assert etcd.keys("/registry/") == {"/registry/a"}
    assert etcd.count("/registry/")[1] == 1


def test_changed_are_the_keys_that_exist_and_were_written(etcd: Etcd) -> None:
    """Deleted ones show in the number of keys only."""
    before = etcd.write({A: b"1", B: b"1", C: b"1"})
    etcd.write({A: b"2"})
    etcd.write({B: None})
    newest = etcd.write({D: b"1"})

    found = etcd.changed("/registry/", before)

    assert found.revision == newest
    assert [entry.key for entry in found.entries] == [A, D]
    assert [entry.value for entry in found.entries] == [b"", b""]
    assert found.total == 3


def test_changes_are_told_once_each_in_order_with_both_values(etcd: Etcd) -> None:
    """Created, changed, changed to nothing, deleted; several keys in one revision."""
    start = revision(etcd)
    one = etcd.write({A: b"1"})
    two = etcd.write({A: b"2", B: b"1"})
    three = etcd.write({A: b""})
    four = etcd.write({A: None, B: None})
    five = etcd.write({A: b"3"})

    found = etcd.changes(start, five)

    assert found == [
        Change(one, A, None, b"1"),
        Change(two, A, b"1", b"2"),
        Change(two, B, None, b"1"),
        Change(three, A, b"2", b""),
        Change(four, A, b"", None),
        Change(four, B, b"1", None),
        Change(five, A, None, b"3"),
    ]
    assert etcd.changes(two, four) == found[3:6]
    assert etcd.changes(five, five) == []


@pytest.mark.parametrize("keys", [1, 3])
def test_thousands_of_changes_are_complete(etcd: Etcd, keys: int) -> None:
    """They are read in pieces, side by side; none is lost or told twice."""
    names = [f"/registry/many/{i}" for i in range(keys)]
    start = revision(etcd)
    expected = []
    before: dict[str, bytes | None] = dict.fromkeys(names)
    for number in range(2300):
        after = str(number).encode()
        written = etcd.write(dict.fromkeys(names, after))
        expected += [Change(written, name, before[name], after) for name in names]
        before = dict.fromkeys(names, after)

    found = etcd.changes(start, revision(etcd))

    assert len(found) == 2300 * keys
    assert found == expected
    middle = start + client._BATCH + 17
    assert etcd.changes(middle, middle + client._BATCH * 2) == [
        c for c in expected if middle < c.revision <= middle + client._BATCH * 2
    ]


def test_changes_end_where_they_are_asked_to(etcd: Etcd) -> None:
    """Somebody who writes on and on does not keep the reader."""
    start = revision(etcd)
    until = [etcd.write({A: b"%d" % i}) for i in range(5)][-1]
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            etcd.write({B: b"noise"})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = [etcd.changes(start, until) for _ in range(20)]
    finally:
        stop.set()
        writer.join()

    assert [[c.after for c in changes] for changes in found] == [
        [b"0", b"1", b"2", b"3", b"4"]
    ] * 20


def test_what_is_compacted_cannot_be_asked_for(etcd: Etcd) -> None:
    """It is an error of its own, for changes, keys, values and entries alike."""
    start = revision(etcd)
    revisions = [etcd.write({A: b"%d" % i}) for i in range(5)]
    etcd.compact(revisions[3])

    with pytest.raises(CompactedError, match=f"forgotten.*; {start + 1} was asked for"):
        etcd.changes(start, revisions[4])
    for ask in (etcd.keys, etcd.entries):
        with pytest.raises(CompactedError, match="has been compacted"):
            ask("/registry/", revision=revisions[1])
    with pytest.raises(CompactedError, match="has been compacted"):
        etcd.values([A], revision=revisions[1])
    assert etcd.changes(revisions[3], revisions[4]) == [
        Change(revisions[4], A, b"3", b"4")
    ]
    assert etcd.values([A], revision=revisions[3]) == {A: b"3"}
    etcd.compact(revisions[0])
    with pytest.raises(ClusterError, match="future revision"):
        etcd.compact(revisions[4] + 1)


def test_transaction_is_whole_or_not_at_all() -> None:
    """What etcd refuses as too large has written nothing; the text says so."""
    with Guardian() as guardian:
        etcd = start_etcd(guardian, max_request_bytes="100000", max_txn_ops="10")
        etcd.write({A: b"1"})

        with pytest.raises(ClusterError, match="request is too large") as error:
            etcd.write({A: b"x" * 60_000, B: b"x" * 60_000})
        with pytest.raises(ClusterError, match="too many operations in txn request"):
            etcd.write({f"/registry/{i}": b"" for i in range(11)})

        assert "/v3/kv/txn: " in str(error.value)
        assert stored(etcd) == {A: b"1"}


def test_server_that_ends_is_an_error_not_the_end_of_the_changes() -> None:
    """Part of the changes is never taken for all of them."""
    with Guardian() as guardian:
        etcd = start_etcd(guardian)
        start = revision(etcd)
        until = etcd.write({A: b"1"})
        (process,) = guardian.processes()
        caught: list[Exception] = []

        def read() -> None:
            try:
                etcd.changes(start, until + 1)
            except ClusterError as e:
                caught.append(e)

        reader = threading.Thread(target=read)
        reader.start()
        reader.join(0.5)
        guardian.stop(process)
        reader.join(20)

        assert not reader.is_alive()
        (error,) = caught
        assert "watch" in str(error)
        with pytest.raises(ClusterError, match="/v3/kv/range: no answer: "):
            etcd.count("/")
        with pytest.raises(ClusterError, match="no answer"):
            etcd.check_health()


# --- marks -------------------------------------------------------------------


def put(etcd: Etcd, values: Mapping[str, bytes | None]) -> None:
    """Write one after the other, each in a revision of its own."""
    for key, value in values.items():
        etcd.write({key: value})


def test_rollback_of_created_changed_deleted_and_recreated(
    etcd: Etcd, state: State
) -> None:
    """The state is the mark's, and what was written is told."""
    put(etcd, {A: b"1", B: b"1", C: b"1"})
    mark = state.mark()
    put(etcd, {A: b"2", B: None, C: None, D: b"1"})
    put(etcd, {C: b"other"})

    written = state.roll_back(mark)

    assert stored(etcd) == {A: b"1", B: b"1", C: b"1"}
    assert written == {A: b"1", B: b"1", C: b"1", D: None}


def test_rollback_is_one_transaction(etcd: Etcd, state: State) -> None:
    """Nobody who watches sees a state between the test's and the mark's."""
    put(etcd, {A: b"1", B: b"1"})
    mark = state.mark()
    put(etcd, {A: b"2", B: None, C: b"1"})
    before = revision(etcd)

    state.roll_back(mark)

    assert revision(etcd) == before + 1


@pytest.mark.parametrize(
    "there",
    [
        pytest.param({}, id="in-an-empty-folder"),
        pytest.param({A: b"1"}, id="beside-one-that-stays"),
        pytest.param({A: None}, id="beside-one-that-comes-back"),
        pytest.param({A: b"2"}, id="beside-one-that-was-changed"),
    ],
)
def test_many_keys_go_and_what_was_among_them_stays(
    etcd: Etcd, state: State, there: dict[str, bytes | None]
) -> None:
    """A folder that was empty is emptied at once; in another one, each key goes."""
    put(etcd, dict.fromkeys(there, b"1"))
    mark = state.mark()
    before = stored(etcd)
    put(etcd, {**there, **{f"{B}{i}": b"2" for i in range(2 * rollback.MANY)}})

    state.roll_back(mark)

    assert stored(etcd) == before


def test_rollback_of_what_is_as_it_was_writes_nothing(etcd: Etcd, state: State) -> None:
    """Changed and changed back, created and deleted, deleted and made the same."""
    put(etcd, {A: b"1", B: b"1"})
    mark = state.mark()
    put(etcd, {A: b"2", B: None, C: b"1"})
    put(etcd, {A: b"1", B: b"1", C: None})
    before = revision(etcd)

    assert state.roll_back(mark) == {}
    assert revision(etcd) == before
    state.release(mark)
    assert state.roll_back(state.mark()) == {}


def test_mark_can_be_gone_back_to_again_and_again(etcd: Etcd, state: State) -> None:
    """Also when the second test deletes what the first one's rollback restored."""
    put(etcd, {A: b"1", B: b"1"})
    mark = state.mark()

    for values in ({A: None}, {A: None, C: b"1"}, {}, {B: b"2"}, {A: b"1", B: None}):
        put(etcd, values)
        state.roll_back(mark)
        assert stored(etcd) == {A: b"1", B: b"1"}


def test_marks_nest(etcd: Etcd, state: State) -> None:
    """What was there at the inner mark survives it, and goes with the outer one."""
    put(etcd, {A: b"1", B: b"1"})
    outer = state.mark()
    put(etcd, {A: b"outer", B: None, C: b"outer"})
    for values in ({A: b"inner", B: b"inner"}, {C: None, D: b"inner"}, {A: None}):
        inner = state.mark()
        put(etcd, values)
        state.roll_back(inner)
        state.release(inner)
        assert stored(etcd) == {A: b"outer", C: b"outer"}
    state.roll_back(outer)

    assert stored(etcd) == {A: b"1", B: b"1"}


def test_history_starts_at_the_mark_and_leaves_the_planes_own_out(
    etcd: Etcd, state: State
) -> None:
    """In order of revision, whatever the clock did; leases of processes do not show."""
    mark = state.mark()
    times = ["2030-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "1970-01-01T00:00:00Z"]
    for time_ in times:
        body = {"metadata": {"creationTimestamp": time_}}
        put(etcd, {LEASE: b"held", A: json.dumps(body).encode()})

    found = state.changes(mark.since)

    assert [c.key for c in found] == [A, A, A]
    assert [
        json.loads(c.after or b"")["metadata"]["creationTimestamp"] for c in found
    ] == times
    assert [c.revision for c in found] == sorted(c.revision for c in found)


# --- what no rollback touches -------------------------------------------------


@pytest.mark.parametrize("prefix", NOT_STATE)
def test_what_processes_hold_is_not_touched(
    etcd: Etcd, state: State, prefix: str
) -> None:
    """New ones stay, changed ones stay changed, gone ones stay gone."""
    old, gone, new = (f"{prefix}{name}" for name in ("old", "gone", "new"))
    put(etcd, {A: b"1", old: b"1", gone: b"1"})
    mark = state.mark()
    put(etcd, {A: None, old: b"2", gone: None, new: b"1"})

    written = state.roll_back(mark)

    assert stored(etcd) == {A: b"1", old: b"2", new: b"1"}
    assert written == {A: b"1"}


def test_new_lease_of_a_node_goes_with_the_node_only(etcd: Etcd, state: State) -> None:
    """Who simulates a node would else think that it has lost it to somebody."""
    stored_node = b"{}"
    put(etcd, {f"{NODES}old": stored_node})
    mark = state.mark()
    put(
        etcd,
        {
            f"{HEARTBEATS}old": b"1",
            f"{NODES}new": stored_node,
            f"{HEARTBEATS}new": b"1",
        },
    )

    state.roll_back(mark)

    assert stored(etcd) == {f"{NODES}old": stored_node, f"{HEARTBEATS}old": b"1"}


def test_leases_of_nodes_keep_their_time_and_their_existence(
    etcd: Etcd, state: State
) -> None:
    """Renewed ones stay renewed, new ones go, and missing ones come back."""
    old, gone, new = (f"{HEARTBEATS}{name}" for name in ("old", "gone", "new"))
    put(etcd, {old: b"1", gone: b"1"})
    mark = state.mark()
    put(etcd, {old: b"2", gone: None, new: b"1"})

    state.roll_back(mark)

    assert stored(etcd) == {old: b"2", gone: b"1"}


def test_new_events_go_and_others_are_left_alone(etcd: Etcd, state: State) -> None:
    """Those that expired do not come back, those that were counted up stay so."""
    old, gone, new = (f"{EVENTS}default/{name}" for name in ("old", "gone", "new"))
    put(etcd, {old: b"1", gone: b"1"})
    mark = state.mark()
    put(etcd, {old: b"2", gone: None, new: b"1"})

    state.roll_back(mark)

    assert stored(etcd) == {old: b"2"}


def node(heartbeat: str, **spec: Any) -> bytes:
    """Return a node as it is stored, with the time of its last heartbeat."""
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat}
    metadata = {"name": "n", "managedFields": [{"time": heartbeat}]}
    body = {"metadata": metadata, "spec": spec, "status": {"conditions": [ready]}}
    return json.dumps(body).encode()


def test_node_with_another_heartbeat_is_the_same(etcd: Etcd, state: State) -> None:
    """With the old time in it, it would seem dead; other changes are taken back."""
    alive, changed = f"{NODES}alive", f"{NODES}changed"
    put(etcd, {alive: node("1"), changed: node("1")})
    mark = state.mark()
    put(etcd, {alive: node("2"), changed: node("2", unschedulable=True)})

    state.roll_back(mark)

    assert stored(etcd) == {alive: node("2"), changed: node("1")}


def test_keys_outside_of_the_registry_are_nobodys_state(
    etcd: Etcd, state: State
) -> None:
    """The API server notes its compactions there."""
    put(etcd, {"compact_rev_key": b"1", "/other": b"1"})
    mark = state.mark()
    put(etcd, {"compact_rev_key": b"2", "/other": b"2", A: b"1"})

    state.roll_back(mark)

    assert stored(etcd) == {"/other": b"2"}
    assert etcd.values(["compact_rev_key"]) == {"compact_rev_key": b"2"}


# --- compaction --------------------------------------------------------------


def always_compact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "COMPACT_AFTER", 1)


def test_mark_outlives_compaction(
    etcd: Etcd, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was before is forgotten, but not what the mark needs."""
    always_compact(monkeypatch)
    put(etcd, {A: b"1", B: b"1", C: b"1"})
    outer = state.mark()
    first = outer.since
    put(etcd, {A: b"2", B: None, C: None, D: b"1"})
    put(etcd, {C: b"other"})
    for values in ({A: b"3"}, {B: b"3"}, {D: None}):
        inner = state.mark()
        put(etcd, values)
        state.roll_back(inner)
        state.release(inner)
        assert stored(etcd) == {A: b"2", C: b"other", D: b"1"}
    with pytest.raises(CompactedError, match="forgotten"):
        state.changes(first)

    assert state.roll_back(outer) == {A: b"1", B: b"1", C: b"1", D: None}
    assert stored(etcd) == {A: b"1", B: b"1", C: b"1"}


def test_compaction_spares_what_others_may_need(
    etcd: Etcd, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers who share an etcd do not know each other's marks."""
    always_compact(monkeypatch)
    state.spared = 1000
    begin = state.mark().since
    put(etcd, {A: b"1"})
    state.release(state.mark())

    assert [change.key for change in state.changes(begin)] == [A]


def test_mark_that_outlived_compaction_can_be_gone_back_to_again(
    etcd: Etcd, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not anything was written since."""
    always_compact(monkeypatch)
    put(etcd, {A: b"1", B: b"1"})
    mark = state.mark()
    put(etcd, {A: b"2", B: None})
    state.release(state.mark())

    for values in ({}, {A: None}, {A: b"5", C: b"1"}):
        put(etcd, values)
        state.release(state.mark())
        state.roll_back(mark)
        assert stored(etcd) == {A: b"1", B: b"1"}


@pytest.mark.parametrize("prefix", [*NOT_STATE, EVENTS])
def test_mark_that_outlived_compaction_counts_what_is_not_restored(
    etcd: Etcd, state: State, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    """A lease that came meanwhile does not hide that something else is gone."""
    put(etcd, {A: b"1", B: b"1"})
    mark = state.mark()
    always_compact(monkeypatch)
    put(etcd, {f"{prefix}new": b"1"})
    state.release(state.mark())
    put(etcd, {A: None})

    state.roll_back(mark)

    assert stored(etcd, "/registry/configmaps") == {A: b"1", B: b"1"}


def test_history_is_kept_while_a_mark_needs_it_and_not_for_ever(
    etcd: Etcd, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session of thousands of tests stays small."""
    monkeypatch.setattr(rollback, "COMPACT_AFTER", 100)
    start = revision(etcd)
    for number in range(150):
        etcd.write({A: b"%d" % number})
    mark = state.mark()
    assert len(state.changes(start)) == 150

    state.release(mark)

    with pytest.raises(CompactedError):
        state.changes(start)


def test_mark_older_than_what_was_compacted_is_an_error_that_says_so(
    etcd: Etcd, state: State
) -> None:
    """Somebody else compacted; the state cannot be known any more."""
    put(etcd, {A: b"1"})
    mark = state.mark()
    put(etcd, {A: b"2"})
    etcd.compact(revision(etcd))

    with pytest.raises(RollbackError) as error:
        state.roll_back(mark)

    assert str(error.value).startswith(
        f"the cluster cannot be rolled back: etcd has forgotten revision {mark.since}, "
        "at which the mark was taken; something compacted it that is not us. "
    )
    assert isinstance(error.value.__cause__, CompactedError)
    assert stored(etcd) == {A: b"2"}


def test_what_was_only_created_is_taken_back_without_history(
    etcd: Etcd, state: State
) -> None:
    """Whatever was compacted: nothing of the mark's is needed for that."""
    put(etcd, {A: b"1"})
    mark = state.mark()
    put(etcd, {B: b"2", C: b"2"})
    etcd.compact(revision(etcd))

    state.roll_back(mark)

    assert stored(etcd) == {A: b"1"}


# --- others who write meanwhile ----------------------------------------------


class Interrupted(Etcd):
    """An etcd where somebody does something just before a write of ours."""

    def __init__(self, etcd: Etcd, *meanwhile: Callable[[], object]) -> None:
        self.__dict__.update(etcd.__dict__)
        self.meanwhile = list(meanwhile)
        self.writes = 0

    def write(self, values: Mapping[str, bytes | None], **how: Any) -> int:
        if self.meanwhile:
            self.meanwhile.pop(0)()
        self.writes += 1
        return super().write(values, **how)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({A: b"theirs"}, id="a-key-that-is-restored"),
        pytest.param({A: None}, id="a-key-that-is-restored-is-deleted"),
        pytest.param({B: b"theirs"}, id="a-key-that-was-not-touched"),
        pytest.param({B: None}, id="a-key-that-was-not-touched-is-deleted"),
        pytest.param({C: b"theirs"}, id="a-key-that-is-deleted"),
        pytest.param({C: None}, id="a-key-that-is-deleted-is-gone"),
        pytest.param({D: b"theirs"}, id="a-new-key"),
        pytest.param({B: None, D: b"theirs"}, id="one-new-key-for-an-old"),
    ],
)
@pytest.mark.parametrize("rounds", [1, 2])
def test_writer_between_look_and_write_is_noticed(
    etcd: Etcd, values: dict[str, bytes | None], rounds: int
) -> None:
    """Whatever somebody still writes is taken back, too."""
    interrupted = Interrupted(etcd, *[lambda: put(etcd, values)] * rounds)
    state = State(interrupted)
    put(etcd, {A: b"1", B: b"1"})
    mark = state.mark()
    put(etcd, {A: b"2", C: b"2"})

    state.roll_back(mark)

    assert not interrupted.meanwhile or interrupted.writes == 1
    assert stored(etcd) == {A: b"1", B: b"1"}


def test_what_comes_while_a_folder_is_emptied_goes_too(etcd: Etcd) -> None:
    """It is as new as the rest, and no second write is needed for it."""
    interrupted = Interrupted(etcd, lambda: put(etcd, {D: b"late"}))
    state = State(interrupted)
    mark = state.mark()
    put(etcd, {f"{B}{i}": b"2" for i in range(2 * rollback.MANY)})

    state.roll_back(mark)

    assert stored(etcd) == {}
    assert interrupted.writes == 1


def test_writer_that_never_stops_is_an_error_that_names_the_key(
    etcd: Etcd, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback that does not hold is none."""
    monkeypatch.setattr(rollback, "SETTLE_TIMEOUT", 1.0)
    mark = state.mark()
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            etcd.write({A: b"%d" % number})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(RollbackError) as error:
            state.roll_back(mark)
    finally:
        stop.set()
        writer.join()

    assert str(error.value) == (
        "the cluster cannot be rolled back: something went on writing to it for 1 s. "
        "Written last:\n    configmaps/default/a\n"
        "  Is a thread or a process of the test, or a controller that it started by "
        "itself, still running? run_controller stops those it starts"
    )


class Still:
    """Components that never have to be started again."""

    def refreshed(self, _: Sequence[Change]) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def follow(self, written: Mapping[str, bytes | None]) -> None:
        """Nothing runs outside of etcd."""

    def author(self, _: Change) -> str | None:
        return None


@pytest.mark.parametrize("manager", ["kubectl", "kube-controller-manager"])
def test_slow_writer_is_waited_for_unless_it_is_a_component(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch, manager: str
) -> None:
    """Who is none writes on after a pause; components answer at once, and are done."""
    monkeypatch.setattr(rollback, "SETTLE_TIMEOUT", 0.5)
    stop = threading.Event()
    pause = 0.06
    assert rollback.RESTLESS < pause < rollback.FOREIGN

    def write() -> None:
        while not stop.wait(pause):
            etcd.write({A: made_by(manager)})

    writer = threading.Thread(target=write)

    def begin() -> None:
        etcd.write({A: made_by(manager)})
        writer.start()

    state = State(Interrupted(etcd, begin), Still())
    mark = state.mark()
    put(etcd, {B: b"1"})
    try:
        if manager == "kubectl":
            with pytest.raises(RollbackError, match="something went on writing"):
                state.roll_back(mark)
        else:
            state.roll_back(mark)
    finally:
        stop.set()
        writer.join()


def test_writer_of_what_no_rollback_touches_is_in_nobodys_way(
    etcd: Etcd, state: State
) -> None:
    """Nodes and processes renew their leases as they always do."""
    put(etcd, {A: b"1", NODE_LEASE: b"0", EVENT: b"0"})
    mark = state.mark()
    put(etcd, {A: None})
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.005):
            number += 1
            put(etcd, dict.fromkeys([LEASE, NODE_LEASE, EVENT], b"%d" % number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        state.roll_back(mark)
    finally:
        stop.set()
        writer.join()

    assert stored(etcd, A) == {A: b"1"}


def test_compaction_between_rollback_and_mark_is_no_hindrance(
    etcd: Etcd, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a mark compares with is remembered, too, though its mark is released."""
    always_compact(monkeypatch)
    put(etcd, {f"{NODES}n": node("1"), A: b"1"})
    mark = state.mark()
    put(etcd, {A: b"2"})
    state.roll_back(mark)
    put(etcd, {f"{NODES}n": node("2")})
    state.release(mark)
    put(etcd, {f"{NODES}n": node("3"), A: b"3"})

    state.roll_back(state.mark())

    assert stored(etcd) == {f"{NODES}n": node("3"), A: b"3"}


def made_by(manager: str, namespace: str = "default") -> bytes:
    """Return an object that *manager* wrote."""
    metadata = {"namespace": namespace, "managedFields": [{"manager": manager}]}
    return json.dumps({"metadata": metadata}).encode()


def test_late_answer_of_a_component_goes_before_the_next_mark(
    etcd: Etcd, state: State
) -> None:
    """It belongs to the test before, not to the state of the next one."""
    mark = state.mark()
    put(etcd, {A: b"1"})
    state.roll_back(mark)
    state.release(mark)
    put(etcd, {B: made_by("kube-controller-manager")})

    state.mark()

    assert stored(etcd) == {}


def test_what_somebody_made_between_two_tests_stays(etcd: Etcd, state: State) -> None:
    """A wider fixture makes objects after the rollback; they are part of the mark."""
    mark = state.mark()
    put(etcd, {A: b"1"})
    state.roll_back(mark)
    state.release(mark)
    homeless = made_by("kube-controller-manager", namespace="gone")
    answer = made_by("kube-controller-manager")
    space = "/registry/namespaces/default"
    put(etcd, {space: b"{}", B: made_by("pytest-kube"), C: answer, D: homeless})

    state.mark()

    assert stored(etcd).keys() == {space, B, C}


# --- anything at all ---------------------------------------------------------

KEYS = (A, B, C, D, LEASE, NODE_LEASE, EVENT)
VALUES = st.sampled_from([b"", b"1", b"2", b"\xff"])
OPERATIONS = st.one_of(
    st.tuples(
        st.just("write"),
        st.dictionaries(st.sampled_from(KEYS), VALUES | st.none(), min_size=1),
    ),
    st.tuples(st.sampled_from(["mark", "roll back", "end", "compact"]), st.none()),
)


def as_it_should_be(then: dict[str, bytes], now: dict[str, bytes]) -> dict[str, bytes]:
    """Return the state after a rollback, by the rules of the module."""
    result = {k: v for k, v in then.items() if k.startswith("/registry/configmaps")}
    if LEASE in now:
        result[LEASE] = now[LEASE]
    if NODE_LEASE in then:
        result[NODE_LEASE] = now.get(NODE_LEASE, then[NODE_LEASE])
    if EVENT in then and EVENT in now:
        result[EVENT] = now[EVENT]
    return result


@pytest.mark.timeout(300)
def test_any_order_of_writes_marks_rollbacks_and_compactions(etcd: Etcd) -> None:
    """The state is what a plain model says, after every single operation."""

    @settings(
        max_examples=150,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operations=st.lists(OPERATIONS, max_size=25))
    def check(operations: list[tuple[str, Any]]) -> None:
        etcd.write(dict.fromkeys(KEYS))
        state = State(etcd)
        model: dict[str, bytes] = {}
        marks: list[tuple[rollback.Mark, dict[str, bytes]]] = []
        for name, values in operations:
            if name == "write":
                etcd.write(values)
                written = {**model, **values}
                model = {k: v for k, v in written.items() if v is not None}
            elif name == "mark":
                marks.append((state.mark(), model))
            elif name == "compact":
                state._compacted = -rollback.COMPACT_AFTER
                state._compact(revision(etcd))
            elif marks:
                mark, then = marks[-1]
                state.roll_back(mark)
                model = as_it_should_be(then, model)
                if name == "end":
                    state.release(marks.pop()[0])
            assert stored(etcd) == model
        for mark, then in reversed(marks):
            state.roll_back(mark)
            model = as_it_should_be(then, model)
            assert stored(etcd) == model

    check()
