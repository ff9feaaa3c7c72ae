"""History on real clusters: complete, exact, and with the names of who wrote it."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import ClusterError, HistoryError, deleted, exists, field, phase
from pytest_kube.client import Client
from pytest_kube.kube import Kube
from pytest_kube.login import read
from pytest_kube.profiles import Profile
from pytest_kube.providers import envtest
from pytest_kube.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kube.cluster import Cluster

ADMIN = "pytest-kube-admin"
MANAGER = "system:kube-controller-manager"


def config_map(name: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    containers = [{"name": "c", "image": "none"}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": containers},
            },
        },
    }


@pytest.fixture(params=["envtest", "kwok", "kind"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Each kind of cluster in turn, real nodes included where there is docker."""
    found: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return found


def marked(kube: Kube) -> Iterator[Kube]:
    """Lend a handle whose history begins now, as those of the fixtures do."""
    assert kube.cluster.state is not None
    mark = kube.cluster.state.mark()
    kube.mark_revision = mark.since
    state = kube.cluster.state
    yield kube
    state.release(mark)


@pytest.fixture
def kube(handle: Kube) -> Iterator[Kube]:
    yield from marked(handle)


@pytest.fixture
def kwok_kube(on_kwok: Kube) -> Iterator[Kube]:
    yield from marked(on_kwok)


@pytest.fixture
def ann(kube: Kube) -> Client:
    """Requests by somebody else."""
    return Client.from_kubeconfig(kube.cluster.identity("ann", ["system:masters"]))


def told(kube: Kube, ref: Any) -> list[tuple[str, str | None, str]]:
    """Return for each version what happened, who did it, and how."""
    return [
        (
            "created" if not v.previous else "changed" if v.object else "deleted",
            v.user,
            v.verb,
        )
        for v in kube.history(ref)
    ]


# --- exactly once, in order -----------------------------------------------------


def test_history_is_what_a_watch_saw(kube: Kube) -> None:
    """Four threads write at random; each revision is there once, in order."""
    path = f"/api/v1/namespaces/{kube.namespace}/configmaps"
    client = kube.cluster.client
    version = client.request("GET", path)["metadata"]["resourceVersion"]
    watch = client.watch(path, {"resourceVersion": version})

    def write(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  # the same each time
        for i in range(60):
            name = f"m{seed}-{chance.randrange(3)}"
            if chance.random() < 0.3:
                kube.delete(f"cm/{name}", wait=False)
            else:
                kube.apply(config_map(name, i=str(i)))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    kube.apply(config_map("last"))
    seen: list[tuple[str, str, Any]] = []
    for event in watch:
        obj = event["object"]
        data = None if event["type"] == "DELETED" else obj.get("data")
        name = obj["metadata"]["name"]
        seen.append((obj["metadata"]["resourceVersion"], name, data))
        if name == "last":
            break
    watch.close()

    found = [
        (str(v.revision), v.ref.rpartition("/")[2], v.object and v.object.get("data"))
        for v in kube.history("configmaps")
        if v.ref.startswith(f"ConfigMap {kube.namespace}/")
    ]

    # The controller-manager may have written its own before the watch was open.
    assert [f for f in found if f[1] != "kube-root-ca.crt"] == [
        s for s in seen if s[1] != "kube-root-ca.crt"
    ]
    assert len(seen) > 100


def test_objects_are_those_that_the_api_serves(kube: Kube) -> None:
    """Also their resourceVersion, which is not stored."""
    first = kube.apply(config_map("a", x="1"))
    second = kube.patch("cm/a", {"data": {"x": "2"}})

    created, changed = kube.history("cm/a")

    assert (created.object, created.previous) == (first, None)
    assert (changed.object, changed.previous) == (second, first)


def test_object_that_is_deleted_and_created_again(kube: Kube) -> None:
    """Both lives are in its history."""
    kube.apply(config_map("a"))
    kube.delete("cm/a")
    kube.apply(config_map("a", x="2"))

    found = told(kube, "cm/a")

    assert found == [
        ("created", ADMIN, "patch"),
        ("deleted", ADMIN, "delete"),
        ("created", ADMIN, "patch"),
    ]
    first, _, last = kube.history("cm/a")
    assert first.object != last.object


def test_every_form_of_ref(kube: Kube) -> None:
    """An object by its names or by itself, a kind, or everything."""
    kube.apply(config_map("a"))
    other = kube.apply(config_map("b"))
    kube.apply({**config_map("a"), "kind": "Secret"} | {"data": {}})

    def names(ref: Any) -> set[str]:
        there = f" {kube.namespace}/"
        return {v.ref for v in kube.history(ref) if there in v.ref} - {
            f"ConfigMap{there}kube-root-ca.crt"
        }

    one, two = (f"ConfigMap {kube.namespace}/{name}" for name in "ab")
    assert names("cm/a") == names("ConfigMap/a") == names("configmaps.v1./a") == {one}
    assert names(other) == {two}
    assert names("configmaps") == {one, two}
    assert {one, two, f"Secret {kube.namespace}/a"} <= names(None)
    assert list(kube.history("cm/nothing")) == []


def test_namespaces_are_kept_apart(kube: Kube) -> None:
    """A ref means the handle's namespace, an object its own."""
    kube.apply(config_map("a"))
    elsewhere = {**config_map("a")}
    elsewhere["metadata"] = {"name": "a", "namespace": "default"}
    there = kube.apply(elsewhere)

    assert [v.ref for v in kube.history("cm/a")] == [f"ConfigMap {kube.namespace}/a"]
    assert [v.ref for v in kube.history(there)] == ["ConfigMap default/a"]


def test_what_came_before_the_mark_is_not_in_it(kube: Kube) -> None:
    """The history of a test begins with it; without a mark it is everything."""
    kube.apply(config_map("a", x="1"))
    assert kube.cluster.state is not None
    kube.mark_revision = kube.cluster.state.mark().since
    kube.patch("cm/a", {"data": {"x": "2"}})

    assert len(kube.history("cm/a")) == 1
    kube.mark_revision = None
    assert len(kube.history("cm/a")) == 2


# --- who, how and when ----------------------------------------------------------


def test_who_wrote_what_of_a_deployment(kwok_kube: Kube) -> None:
    """Components, simulated kubelets and the test, each by name."""
    kube = kwok_kube
    kube.apply(deployment("web", 1))
    kube.wait_for("deployment/web", field("status.availableReplicas", 1))
    (pod,) = kube.list("pods")
    kube.patch("deployment/web", {"spec": {"replicas": 0}}, subresource="scale")
    kube.wait_for(pod, deleted)

    found = told(kube, pod)
    by_test = [v.user for v in kube.history("deployment/web") if v.verb == "patch"]

    assert found == [
        ("created", MANAGER, "create"),
        ("changed", "system:kube-scheduler", "update"),
        ("changed", "kwok", "patch"),
        ("changed", MANAGER, "delete"),
        ("changed", "kwok", "delete"),
        ("deleted", "kwok", "delete"),
    ]
    assert by_test == [ADMIN, ADMIN]
    here = [v for v in kube.history() if f" {kube.namespace}/" in v.ref]
    assert {v.ref.split()[0] for v in here} >= {
        "Deployment",
        "ReplicaSet",
        "Pod",
        "Event",
    }
    assert [str(v) for v in here if v.user is None] == []


def test_pod_that_is_evicted_and_collections_that_are_deleted(kwok_kube: Kube) -> None:
    """Their answers hold no revision; all the same it is clear who did it."""
    kube = kwok_kube
    spec = deployment("x", 1)["spec"]["template"]["spec"]
    for name in ("a", "b"):
        kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name},
                "spec": spec,
            }
        )
        kube.wait_for(f"pod/{name}", phase("Running"))
    pods = f"/api/v1/namespaces/{kube.namespace}/pods"
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "a"},
    }
    client = Client.from_kubeconfig(kube.cluster.identity("eve", ["system:masters"]))

    client.request("POST", f"{pods}/a/eviction", body=eviction)
    kube.wait_for("pod/a", deleted)
    client.request("DELETE", pods)
    kube.wait_for("pod/b", deleted)

    marks = [
        (v.ref[-1], v.user, v.verb)
        for v in kube.history("pods")
        if v.object and v.object["metadata"].get("deletionGracePeriodSeconds") == 30
    ]
    assert marks == [("a", "eve", "delete"), ("b", "eve", "deletecollection")]


def test_own_identities_are_told_apart(kube: Kube, ann: Client) -> None:
    """Who deleted it is not who created it."""
    path = f"/api/v1/namespaces/{kube.namespace}/configmaps"
    kube.apply(config_map("a", x="1"))
    ann.request("PUT", f"{path}/a", body=config_map("a", x="2"))
    kube.apply(config_map("a", x="2"))
    ann.request("DELETE", f"{path}/a")
    ann.request("POST", path, body=config_map("b"))
    kube.delete("cm/b")

    assert told(kube, "cm/a")[:2] == [
        ("created", ADMIN, "patch"),
        ("changed", "ann", "update"),
    ]
    assert told(kube, "cm/a")[-1] == ("deleted", "ann", "delete")
    assert told(kube, "cm/b") == [
        ("created", "ann", "create"),
        ("deleted", ADMIN, "delete"),
    ]


def test_who_removes_the_last_finalizer_is_named(kube: Kube, ann: Client) -> None:
    """One marks it, another lets it go."""
    obj = config_map("a")
    obj["metadata"]["finalizers"] = ["example.com/keep"]
    kube.apply(obj)
    kube.delete("cm/a", wait=False)
    path = f"/api/v1/namespaces/{kube.namespace}/configmaps/a"
    ann.patch(path, {"metadata": {"finalizers": None}}, type_="merge")

    assert told(kube, "cm/a") == [
        ("created", ADMIN, "patch"),
        ("changed", ADMIN, "delete"),
        ("deleted", "ann", "patch"),
    ]


def test_impersonated_user_is_the_user(kube: Kube) -> None:
    """A ServiceAccount by its whole name."""
    server, tls, headers, *_ = read(kube.cluster.kubeconfig)
    robot = f"system:serviceaccount:{kube.namespace}:robot"
    acting = [("Impersonate-User", robot), ("Impersonate-Group", "system:masters")]
    client = Client(server, tls, [*headers, *acting])

    client.request(
        "POST",
        f"/api/v1/namespaces/{kube.namespace}/configmaps",
        body=config_map("a"),
    )

    assert told(kube, "cm/a") == [("created", robot, "create")]


def test_refused_and_dry_writes_leave_no_trace(kube: Kube, ann: Client) -> None:
    """Nobody is named for what did not happen."""
    path = f"/api/v1/namespaces/{kube.namespace}/configmaps"
    kube.apply(config_map("a"))
    ann.request("DELETE", f"{path}/a", query={"dryRun": "All"})
    ann.patch(f"{path}/a", {"data": {"x": "1"}}, type_="merge", query={"dryRun": "All"})
    kube.delete("cm/a")

    assert told(kube, "cm/a") == [
        ("created", ADMIN, "patch"),
        ("deleted", ADMIN, "delete"),
    ]


def test_time_is_when_it_was_written(kube: Kube) -> None:
    """To the microsecond, in order, in UTC."""
    before = datetime.now(UTC)
    for i in range(3):
        kube.apply(config_map("a", i=str(i)))
    after = datetime.now(UTC)

    times = [v.time for v in kube.history("cm/a")]

    # The clock of the API server is that of this machine.
    assert [before, *times, after] == sorted([before, *times, after])
    assert after - before < timedelta(seconds=20)


# --- assertions -----------------------------------------------------------------


def test_never_sees_a_state_that_lasted_one_version(kube: Kube) -> None:
    """No watch was open, and it is gone again; the failure tells all of it."""
    kube.apply(config_map("a", x="1"))
    kube.patch("cm/a", {"data": {"x": "bad"}})
    kube.patch("cm/a", {"data": {"x": "2"}})
    history = kube.history("cm/a")

    with pytest.raises(HistoryError) as error:
        history.never(field("data.x", "bad"))

    def told(index: int, what: str) -> str:
        version = history[index]
        when = f"{version.time:%H:%M:%S.%f}"[:-3]
        return f"revision {version.revision} at {when}: {what} by {ADMIN} (patch)"

    assert error.value.version is history[1]
    assert str(error.value).splitlines() == [
        f"ConfigMap {kube.namespace}/a: data.x = bad held, and was never to hold",
        f"  version      2 of 3: {told(1, 'changed')}",
        '  changed      data.x: "1" -> "bad"',
        f"  before it    {told(0, 'created')}",
        f"  after it     {told(2, 'changed')}",
    ]


def test_always_and_sequence(kube: Kube) -> None:
    """What was so all the time, and what came in which order."""
    kube.apply(config_map("a", x="1"))
    kube.patch("cm/a", {"data": {"x": "2"}})
    history = kube.history("cm/a")

    history.always(field("data.x"))
    history.always(lambda obj: obj["data"]["x"] in "12")
    one, two = history.sequence(field("data.x", "1"), "jsonpath={.data.x}=2")
    with pytest.raises(HistoryError, match="data.x = 1 did not hold after data.x = 2"):
        history.sequence(field("data.x", "2"), field("data.x", "1"))

    assert (one, two) == tuple(history)


def test_wrong_kind_is_an_error(kube: Kube) -> None:
    """A typo is no empty history."""
    with pytest.raises(LookupError, match="serves no kind 'podz'; near it: Pod"):
        kube.history("podz")


# --- clusters that cannot -------------------------------------------------------


@pytest.fixture(scope="module")
def unaudited() -> Iterator[Cluster]:
    """A cluster whose profile turns the audit log off."""
    off = {"audit-log-path": "", "audit-policy-file": ""}
    profile = Profile("quiet", "envtest", extra_args={"kube-apiserver": off})
    with envtest.create(profile, Settings(profile), print) as cluster:
        yield cluster


@pytest.fixture
def on_unaudited(unaudited: Cluster) -> Iterator[Kube]:
    yield from marked(Kube(unaudited, "default"))


def test_without_audit_log_nobody_is_named(on_unaudited: Kube) -> None:
    """What happened is known all the same."""
    kube = on_unaudited
    kube.apply(config_map("a"))
    kube.delete("cm/a")

    history = kube.history("cm/a")

    found = told(kube, "cm/a")
    assert found == [("created", None, "create"), ("deleted", None, "delete")]
    assert history[1].time >= history[0].time
    history.sequence(exists, deleted)


def test_what_is_compacted_is_an_error(on_unaudited: Kube) -> None:
    """A part of a history would look like all of it."""
    kube = on_unaudited
    last = kube.apply(config_map("b"))
    assert kube.cluster.state is not None
    kube.cluster.state._etcd.compact(int(last["metadata"]["resourceVersion"]))
    kube.mark_revision = 1

    with pytest.raises(ClusterError, match="and partly compacted: old history goes"):
        kube.history("cm/b")


def test_cluster_whose_etcd_is_out_of_reach_says_so(on_unaudited: Kube) -> None:
    """As those of kind and existing are."""
    on_unaudited.cluster = replace(on_unaudited.cluster, state=None)

    with pytest.raises(ClusterError, match="has no history: its etcd is out of reach"):
        on_unaudited.history()
