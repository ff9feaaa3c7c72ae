"""Waits for one and for many, how long they hold, and what ends them early."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import condition, deleted, exists
from pytest_kube import field as field_of
from pytest_kube.errors import (
    ClusterError,
    ControllerExitedError,
    UnknownResourceError,
    WaitFailedError,
    WaitTimeoutError,
)
from pytest_kube.kube import Kube
from pytest_kube.profiles import Profile
from pytest_kube.providers import envtest
from pytest_kube.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kube.cluster import Cluster

APP = {"app": "web"}


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": APP},
        "data": data,
    }


def job(name: str = "j") -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "c", "image": "none"}],
                }
            }
        },
    }


@pytest.fixture
def soon() -> Iterator[Callable[..., None]]:
    """Call something in a moment, while the test waits."""
    timers: list[threading.Timer] = []

    def call(function: Callable[..., object], *args: Any, **how: Any) -> None:
        timers.append(threading.Timer(0.15, function, args, how))
        timers[-1].start()

    yield call
    for timer in timers:
        timer.join()


@dataclass
class Controller:
    """What a wait needs to know of a controller under test."""

    name: str = "mine"
    user: str = "pytest-kube-admin"
    credential: str = ""
    exited: Future[None] = field(default_factory=Future)
    errors: list[str] = field(default_factory=list)
    output: str = ""

    def tail(self, lines: int = 15) -> str:
        return ""[-lines:]

    def failure(self) -> Exception | None:
        return ControllerExitedError("it ended") if self.exited.done() else None

    def summary(self) -> str:
        return f"{self.name}: running"


def lines_of(error: BaseException) -> list[str]:
    """Return the lines of an error, without its times."""
    return re.sub(r"\d+\.\d+ s", "T s", str(error)).splitlines()


# --- one object ---------------------------------------------------------------


def test_deleted_is_judged_by_uid(handle: Kube) -> None:
    """A namesake that took its place is not the object that was meant."""
    old = handle.apply(config_map("a"))
    handle.delete(old)
    handle.apply(config_map("a"))

    handle.wait_for(old, deleted, timeout=0)
    with pytest.raises(WaitTimeoutError, match="it still exists"):
        handle.wait_for("cm/a", deleted, timeout=0)


def test_deletion_is_seen_though_a_namesake_follows_at_once(
    handle: Kube, soon: Callable[..., None]
) -> None:
    """Nothing that lasts but a moment is missed."""
    handle.apply(config_map("a"))

    def replace() -> None:
        handle.delete("cm/a", wait=False)
        handle.apply(config_map("a"))

    soon(replace)
    handle.wait_for("cm/a", deleted)


def test_object_that_is_deleted_ends_the_wait_at_once(
    handle: Kube, soon: Callable[..., None]
) -> None:
    """Nobody makes it again, so nobody waits for that."""
    handle.apply(config_map("a"))
    soon(handle.delete, "cm/a", wait=False)

    with pytest.raises(WaitFailedError) as error:
        handle.wait_for("cm/a", field_of("data.x", "1"))

    assert lines_of(error.value)[:2] == [
        f"ConfigMap {handle.namespace}/a: data.x = 1 cannot be reached any more, after "
        "T s: it was deleted, and has no owner who makes it again",
        "  last seen    no such object; it was deleted meanwhile",
    ]
    assert error.value.elapsed < 5


def test_object_that_is_owned_may_come_back(
    handle: Kube, soon: Callable[..., None]
) -> None:
    """A StatefulSet makes its pods again under the same name."""
    owner = handle.apply(config_map("owner"))
    owned = config_map("owned")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner"}
    owned["metadata"]["ownerReferences"] = [{**reference, "uid": owner.uid}]
    handle.apply(owned)

    def replace() -> None:
        handle.delete("cm/owned")
        handle.apply({**owned, "data": {"x": "1"}})

    soon(replace)
    handle.wait_for("cm/owned", field_of("data.x", "1"))


def report(kube: Kube, ref: str, *reported: dict[str, Any]) -> None:
    now = "2026-01-01T00:00:00Z"
    entries = [
        {"lastTransitionTime": now, "lastProbeTime": now, **entry} for entry in reported
    ]
    status = {"startTime": now, "conditions": entries}
    kube.patch(ref, {"status": status}, subresource="status")


FAILED = (
    {"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"},
    {
        "type": "Failed",
        "status": "True",
        "reason": "BackoffLimitExceeded",
        "message": "it did not work",
    },
)


@pytest.fixture
def on_envtest(envtest_cluster: Cluster) -> Kube:
    """A handle where nobody else writes a status."""
    kube = Kube(envtest_cluster, "default", timeout=20)
    for each in kube.list("jobs"):
        kube.delete(each)
    return kube


def test_failure_for_good_ends_the_wait_at_once(on_envtest: Kube) -> None:
    """A Job that has failed will never be complete; the text says how it failed."""
    on_envtest.create(job())
    report(on_envtest, "job/j", *FAILED)

    with pytest.raises(WaitFailedError) as error:
        on_envtest.wait_for("job/j", "condition=Complete")

    first, second, *_ = lines_of(error.value)
    assert first == (
        "Job default/j: Complete=True cannot be reached any more, after T s: it reports "
        "Failed=True, reason BackoffLimitExceeded: it did not work"
    )
    assert second.startswith("  because      no condition Complete; there are ")
    assert error.value.last is not None


def test_what_failed_can_still_be_deleted(on_envtest: Kube) -> None:
    """A wait for its end is not given up."""
    created = on_envtest.create(job())
    report(on_envtest, "job/j", *FAILED)
    timer = threading.Timer(0.1, on_envtest.delete, ["job/j"], {"wait": False})
    timer.start()

    on_envtest.wait_for(created, deleted)
    timer.join()


def test_failure_that_the_test_knows_of_is_no_news(on_envtest: Kube) -> None:
    """After it has waited for the failure, a test waits for what comes of it."""
    on_envtest.create(job())
    report(on_envtest, "job/j", *FAILED)

    on_envtest.wait_for("job/j", "condition=Failed")

    with pytest.raises(WaitTimeoutError):
        on_envtest.wait_for("job/j", field_of("metadata.labels.x"), timeout=0.1)


def test_test_decides_what_is_a_failure(handle: Kube) -> None:
    """Any condition, or none at all."""
    handle.apply(config_map("a", state="broken"))
    broken = field_of("data.state", "broken")

    with pytest.raises(
        WaitFailedError, match="any more, .*: data.state = broken holds"
    ):
        handle.wait_for("cm/a", field_of("data.x"), unless=broken)
    handle.delete("cm/a")
    with pytest.raises(WaitTimeoutError):
        handle.wait_for("cm/a", field_of("data.x"), unless=None, timeout=0.1)


def test_changes_seen_while_waiting_are_told(
    handle: Kube, soon: Callable[..., None]
) -> None:
    """Each version as what it changed; the first ones are left out where many came."""
    handle.apply(config_map("a", x="0"))

    def change() -> None:
        for i in range(1, 9):
            handle.patch("cm/a", {"data": {"x": str(i)}})

    soon(change)
    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for("cm/a", field_of("data.x", "nine"), timeout=0.6)

    lines = lines_of(error.value)
    assert "  because      data.x is 8" in lines
    start = lines.index("  changes      (2 earlier ones)")
    assert lines[start + 1] == '               +T s  data.x: "2" -> "3"'
    assert lines[start + 6] == '               +T s  data.x: "7" -> "8"'


def test_values_of_a_secret_are_not_told(
    handle: Kube, soon: Callable[..., None]
) -> None:
    """Output of tests is read by many."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    handle.apply({**secret, "stringData": {"password": "first"}})
    soon(handle.apply, {**secret, "stringData": {"password": "second"}})

    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for("secret/s", field_of("data.other"), timeout=0.5)

    assert "  changes      +T s  data: changed (values are not shown)" in lines_of(
        error.value
    )


# --- near misses --------------------------------------------------------------


def instead(error: BaseException) -> list[str]:
    start = "  instead      "
    return [
        line.removeprefix(start) for line in lines_of(error) if line.startswith(start)
    ]


def test_object_in_another_namespace_is_named(handle: Kube) -> None:
    """The usual mistake of who tests controllers of several namespaces."""
    other = f"{handle.namespace}-other"
    handle.cluster.create_namespace(other)
    obj = config_map("settings")
    obj["metadata"]["namespace"] = other
    handle.apply(obj)

    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for("cm/settings", exists, timeout=0)

    assert f"there is a ConfigMap settings in namespace {other}" in instead(error.value)
    handle.delete(f"ns/{other}", wait=False)


def test_near_names_come_first(handle: Kube) -> None:
    """A typo in the name is seen at once."""
    for name in ("apple", "banana", "settigns"):
        handle.apply(config_map(name))

    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for("cm/settings", exists, timeout=0)

    (text,) = instead(error.value)
    there = f"of that kind there is in namespace {handle.namespace}: settigns, "
    assert text.startswith(there)


def test_kind_of_which_there_is_none_is_said_to_have_none(handle: Kube) -> None:
    """Perhaps nothing ever made one."""
    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for("podtemplate/a", exists, timeout=0)

    assert instead(error.value) == ["there is no PodTemplate at all"]


def test_kind_that_is_not_served_any_more_is_said_to_be_gone(handle: Kube) -> None:
    """Its CRD was deleted, perhaps by the controller under test."""
    group = f"{handle.namespace}.example.com"
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    }
    handle.apply(crd)
    handle.find(f"gadgets.{group}/g")
    client = handle.cluster.client
    known = list(client.resources())
    handle.delete(f"crd/gadgets.{group}")
    handle.eventually(
        lambda: group not in {r.group for r in client.resources(refresh=True)}
    )
    client._resources = known  # as a handle has it that has not looked since

    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for(f"gadgets.{group}/g", exists, timeout=0.3)

    assert instead(error.value) == [
        f"the API server does not serve gadgets.{group} in {group}/v1 any more; was its "
        "CRD deleted?"
    ]


def test_requests_of_the_controller_are_told(
    handle: Kube, soon: Callable[..., None]
) -> None:
    """What it asked for meanwhile, and what it was refused, from the audit log."""
    handle.controllers.append(Controller())

    def work() -> None:
        handle.find("cm/a")
        obj = config_map("b")
        obj["metadata"]["namespace"] = "nowhere"
        with pytest.raises(Exception, match="not found"):
            handle.create(obj)

    soon(work)
    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for("cm/a", exists, timeout=0.6)

    lines = lines_of(error.value)
    (requests,) = [line for line in lines if line.startswith("  requests")]
    assert " get configmaps" in requests
    assert "  controller   mine: running" in lines
    assert (
        '  refused      create configmaps: 404 namespaces "nowhere" not found' in lines
    )


# --- many objects -------------------------------------------------------------


def test_all_objects_are_waited_for(handle: Kube, soon: Callable[..., None]) -> None:
    """Those that are there, and those that come; the objects are returned."""
    handle.apply(config_map("a", x="1"))

    def change() -> None:
        handle.apply(config_map("b", x="0"))
        handle.apply(config_map("b", x="1"))

    soon(change)
    found = handle.wait_for_all("cm", field_of("data.x", "1"), labels=APP, count=2)

    assert [o.name for o in found] == ["a", "b"]
    assert found[0].kind == "ConfigMap"


def test_none_at_all_is_not_all(handle: Kube) -> None:
    """Of no objects everything is true; that is never what a test means."""
    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for_all("configmaps", exists, labels="app=none", timeout=0)

    assert lines_of(error.value)[0] == (
        f"configmaps in {handle.namespace} with app=none: exists of all not reached "
        "within T s: there are 0"
    )
    assert handle.wait_for_all("cm", exists, labels="app=none", count=0) == []


def test_one_too_many_is_too_many(handle: Kube) -> None:
    """The count is exact."""
    for name in "abc":
        handle.apply(config_map(name))

    with pytest.raises(WaitTimeoutError, match="exists of 2 not .*: there are 3"):
        handle.wait_for_all("configmaps", exists, labels=APP, count=2, timeout=0)


def test_objects_that_hold_it_up_are_told(handle: Kube) -> None:
    """Each with its reason."""
    for name, x in (("a", "1"), ("b", "2"), ("c", "3")):
        handle.apply(config_map(name, x=x))

    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for_all("cm", field_of("data.x", "1"), labels=APP, timeout=0)

    assert lines_of(error.value)[:3] == [
        f"configmaps in {handle.namespace} with app=web: data.x = 1 of all not reached "
        "within T s: there are 3, and for 2 it does not hold",
        "  b            data.x is 2",
        "  c            data.x is 3",
    ]


def test_deleted_object_holds_nothing_up(
    handle: Kube, soon: Callable[..., None]
) -> None:
    """What is gone need not satisfy anything."""
    handle.apply(config_map("a", x="1"))
    handle.apply(config_map("b", x="2"))
    soon(handle.delete, "cm/b")

    (left,) = handle.wait_for_all("cm", field_of("data.x", "1"), labels=APP)

    assert left.name == "a"


def test_all_namespaces_can_be_meant(handle: Kube) -> None:
    """As with list."""
    found = handle.wait_for_all("serviceaccounts", exists, namespace="")

    assert {o.namespace for o in found} >= {handle.namespace}


# --- how long -----------------------------------------------------------------


def test_what_holds_all_the_time_returns_the_object(handle: Kube) -> None:
    """After that time, not before."""
    handle.apply(config_map("a", x="1"))
    started = time.monotonic()

    obj = handle.consistently("cm/a", field_of("data.x", "1"), seconds=0.3)

    assert obj.name == "a"
    assert time.monotonic() - started >= 0.3


def test_what_does_not_hold_for_a_moment_fails_at_once(
    handle: Kube, soon: Callable[..., None]
) -> None:
    """The version that broke it is shown, though it was there for a moment only."""
    handle.apply(config_map("a", x="1"))

    def change() -> None:
        handle.patch("cm/a", {"data": {"x": "2"}})
        handle.patch("cm/a", {"data": {"x": "1"}})

    soon(change)
    with pytest.raises(WaitFailedError) as error:
        handle.consistently("cm/a", field_of("data.x", "1"), seconds=15)

    assert lines_of(error.value)[:2] == [
        f"ConfigMap {handle.namespace}/a: data.x = 1 was to hold for 15 s, and did not "
        'after T s: data.x: "1" -> "2"',
        "  because      data.x is 2",
    ]
    assert error.value.elapsed < 10


def test_absence_can_be_consistent(handle: Kube) -> None:
    """Nothing is made that should not be."""
    handle.consistently("cm/never", ~exists, seconds=0.2)
    with pytest.raises(WaitFailedError, match="exists was to hold for 1 s"):
        handle.consistently("cm/never", exists, seconds=1)


def test_eventually_returns_what_the_call_returns(handle: Kube) -> None:
    """Errors that say "not yet" are waited out."""
    answers: list[Any] = [AssertionError("no"), KeyError("x"), None, "yes"]

    def call() -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    assert handle.eventually(call) == "yes"


def test_eventually_tells_the_last_answer(handle: Kube) -> None:
    """Or what was raised instead, which is the cause then."""

    def wrong() -> bool:
        raise AssertionError("3 != 4")

    with pytest.raises(WaitTimeoutError) as error:
        handle.eventually(wrong, timeout=0.1)
    with pytest.raises(WaitTimeoutError, match="the last call returned \\[\\]"):
        handle.eventually(list, timeout=0.1)

    assert lines_of(error.value) == [
        "wrong: nothing true within T s",
        "  the last call raised AssertionError('3 != 4')",
    ]
    assert isinstance(error.value.__cause__, AssertionError)


def test_error_that_is_no_not_yet_is_raised_at_once(handle: Kube) -> None:
    """A bug in the test is not waited out."""
    with pytest.raises(ZeroDivisionError):
        handle.eventually(lambda: 1 // 0)


def test_settle_waits_until_nobody_writes(on_kwok: Kube) -> None:
    """A Deployment that is rolled out has nothing more to do."""
    labels = {"app": "web"}
    on_kwok.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "c", "image": "none"}]},
                },
            },
        }
    )

    on_kwok.settle(quiet=0.3)

    assert on_kwok.get("deploy/web")["status"]["availableReplicas"] == 2


def test_cluster_that_does_not_settle_is_told_who_writes(handle: Kube) -> None:
    """The last writes, and whose they are."""
    handle.apply(config_map("busy"))
    ended = threading.Event()

    def write() -> None:
        i = 0
        while not ended.is_set():
            i += 1
            handle.patch("cm/busy", {"data": {"x": str(i)}})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(WaitTimeoutError) as error:
            handle.settle(quiet=0.2, timeout=0.5)
    finally:
        ended.set()
        writer.join()

    first, *lines = lines_of(error.value)
    expected = "the cluster did not settle within T s: never T s without a write. Last:"
    assert first == expected
    assert f"  ConfigMap {handle.namespace}/busy  " in lines[-1]


def test_settle_without_etcd_says_what_it_needs(handle: Kube) -> None:
    """Only who sees every write knows that there is none."""
    from dataclasses import replace

    blind = Kube(replace(handle.cluster, state=None), handle.namespace)

    with pytest.raises(ClusterError, match="settle needs to see every write, and its"):
        blind.settle()


def test_deadline_cuts_every_wait_short(handle: Kube) -> None:
    """The one of pytest-timeout, before which the text has to be printed."""
    handle.deadline = time.monotonic() + 0.2

    with pytest.raises(WaitTimeoutError) as error:
        handle.wait_for("cm/never", exists)

    assert lines_of(error.value)[0] == (
        f"ConfigMap {handle.namespace}/never: exists not reached within T s instead of "
        "20, for then pytest-timeout would end the test"
    )


@pytest.mark.timeout(60)
def test_wait_outlives_the_api_server() -> None:
    """It is restarted in the middle; what comes afterwards is seen."""
    profile = Profile("envtest", "envtest")
    with envtest.create(profile, Settings(profile), print) as cluster:
        kube = Kube(cluster, "default", timeout=30)
        kube.apply(config_map("a", x="0"))
        processes = {p.name: p for p in cluster.guardian.processes()}
        seen: list[str] = []

        def is_two(obj: dict[str, Any]) -> bool:
            if not seen:
                cluster.guardian.restart(processes["kube-apiserver"])
                changing.start()
            seen.append(obj["data"]["x"])
            return obj["data"]["x"] == "2"

        def change() -> None:
            for value in "12":
                patch = {"data": {"x": value}}
                kube.eventually(lambda patch=patch: kube.patch("cm/a", patch))

        changing = threading.Thread(target=change)

        kube.wait_for("cm/a", is_two)

        changing.join()
        assert seen == ["0", "1", "2"]


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_time_that_is_none_is_refused(handle: Kube, timeout: float) -> None:
    """By every wait, before anything is asked."""
    for wait in (
        lambda: handle.wait_for("cm/a", exists, timeout=timeout),
        lambda: handle.wait_for_all("cm", exists, timeout=timeout),
        lambda: handle.consistently("cm/a", exists, seconds=timeout),
        lambda: handle.eventually(bool, timeout=timeout),
        lambda: handle.settle(timeout=timeout),
        lambda: handle.delete("cm/a", timeout=timeout),
    ):
        with pytest.raises(ValueError, match="expected seconds, 0 or more"):
            wait()


def test_hundreds_of_waits_at_once(handle: Kube) -> None:
    """Each sees what it waits for."""
    count = 200
    with ThreadPoolExecutor(count) as pool:
        waits = [
            pool.submit(handle.wait_for, f"cm/{i}", exists, timeout=60)
            for i in range(count)
        ]
        for i in range(count):
            handle.create(config_map(str(i)))
        names = {wait.result().name for wait in waits}

    assert len(names) == count


def test_condition_is_asked_about_every_kind_that_is_served(handle: Kube) -> None:
    """A kind that is not served is no wait but an error."""
    with pytest.raises(UnknownResourceError, match="serves no kind 'wdiget'"):
        handle.wait_for("wdiget/a", condition("Ready"))
