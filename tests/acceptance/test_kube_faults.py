"""What goes wrong with a rollback: an error that says it, and a cluster that works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Project

HEAD = """\
import contextlib, os, signal, threading
import pytest
from pytest_kube import APIError, ClusterError
from pytest_kube.client import Client

def config_map(name, text="x"):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"text": text}}

def kill(cluster, name):
    (process,) = [p for p in cluster.guardian.processes() if p.name == name]
    os.kill(process.pid, signal.SIGKILL)
    assert process.exited.result(10) == -9

def newest(cluster):
    return cluster.state._etcd.count("/registry/")[0]

clusters, uids = [], set()

@pytest.fixture(scope="module")
def wide(kube_module):
    kube_module.apply(config_map("wide"))
    return kube_module

def test_before(kube, kube_cluster, wide):
    clusters.append(kube_cluster)
    uids.add(kube.get("ns/default")["metadata"]["uid"])
    uids.add(kube.cluster.kubeconfig)
"""
NEXT = """
@pytest.mark.parametrize("number", [1, 2])
def test_next(kube, kube_cluster, number):
    assert [kube_cluster, kube.cluster] == clusters * 2
    assert kube.cluster.kubeconfig not in uids
    assert kube.find("cm/fault", namespace="default") is None
    kube.create({**config_map("fault"), "metadata":
        {"name": "fault", "namespace": "default"}})
    found = kube.cluster.client.request("GET", "/api/v1/configmaps")["items"]
    assert {c["metadata"]["name"] for c in found} - {"fault"} <= {
        "kube-root-ca.crt", "extension-apiserver-authentication", "cluster-info",
        "kube-apiserver-legacy-service-account-token-tracking"}

def test_wide(kube, wide):
    pass

def test_last(kube):
    assert kube.find("cm/fault", namespace="default") is None
"""
FAULT = """
def test_fault(kube, wide):
    kube.create({{**config_map("fault"), "metadata":
        {{"name": "fault", "namespace": "default"}}}})
    {fault}
""" + NEXT.replace("{", "{{").replace("}", "}}")
GONE = (
    "E *ClusterError: what kube_module made is gone: the cluster was lost in an "
    "earlier test, whose error says why, and this is a new one"
)


def run(
    project: Project, test: str, provider: str = "envtest", *arguments: str
) -> pytest.RunResult:
    """Run the fault between the other tests; it passes, its teardown does not."""
    project.ini()
    project.test(HEAD + test)

    result = project.run(f"--kube={provider}", *arguments)

    # Those of the fault, and of the test which needs what is gone.
    result.assert_outcomes(passed=5, errors=2)
    result.stdout.fnmatch_lines([GONE])
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_fault*"])
    result.stdout.no_fnmatch_line("*ResourceWarning*")
    return result


@pytest.mark.parametrize(
    ("component", "provider"),
    [
        ("etcd", "envtest"),
        ("kube-apiserver", "envtest"),
        ("kube-scheduler", "kwok"),
        ("kube-controller-manager", "kwok"),
        ("kwok", "kwok"),
    ],
)
def test_component_that_is_killed_is_named(
    project: Project, component: str, provider: str
) -> None:
    """Whichever it is: the test's error says so, and the next one has a new cluster."""
    fault = f"kill(kube.cluster, {component!r})"

    result = run(project, FAULT.format(fault=fault), provider)

    result.stdout.fnmatch_lines(
        [
            f"E *RollbackError: after this test: {component} ended with signal 9 "
            "while it was needed.",
            "*From its log:*",
            "*The next test gets a new cluster.",
        ]
    )


@pytest.mark.parametrize("component", ["etcd", "kube-apiserver"])
def test_component_that_is_killed_without_a_rollback_is_replaced(
    project: Project, component: str
) -> None:
    """With another isolation nobody looks after the test; the next one does."""
    project.ini()
    project.test(
        f"{HEAD}\n"
        "@pytest.mark.kube(isolation='none')\n"
        "def test_fault(kube, wide):\n"
        f"    kill(kube.cluster, {component!r})\n"
        f"{NEXT}"
    )

    result = project.run("--kube=envtest")

    lost = component == "etcd"  # its mark cannot be released
    result.assert_outcomes(passed=5, errors=1 + lost)
    result.stdout.fnmatch_lines([GONE])
    if not lost:
        result.stdout.fnmatch_lines(
            [
                f"*kube: the cluster is lost: {component} ended with signal 9 while "
                "it was needed."
            ]
        )


def test_component_that_dies_during_the_rollback_is_no_rollback(
    project: Project,
) -> None:
    """Nobody knows what the state is; half a rollback is never taken for one."""
    fault = (
        "etcd, write = kube.cluster.state._etcd, kube.cluster.state._etcd.write\n"
        "    def dying(values, **how):\n"
        "        kill(clusters[0], 'etcd')\n"
        "        return write(values, **how)\n"
        "    etcd.write = dying"
    )

    result = run(project, FAULT.format(fault=fault))

    result.stdout.fnmatch_lines(
        [
            "E *RollbackError: after this test: *https://127.0.0.1:*/v3/kv/txn: no answer*"
        ]
    )


def test_rollback_that_breaks_in_any_other_way_is_no_rollback(project: Project) -> None:
    """An error of ours, or Ctrl-C in the middle: the next test gets a new cluster."""
    fault = (
        "def broken(values, **how):\n"
        "        raise RuntimeError('nobody thought of this')\n"
        "    kube.cluster.state._etcd.write = broken"
    )

    result = run(project, FAULT.format(fault=fault))

    result.stdout.fnmatch_lines(["E *RuntimeError: nobody thought of this"])


def test_thread_that_writes_for_ever_is_an_error_that_names_the_key(
    project: Project,
) -> None:
    """What goes on writing would be in the next test's way."""
    fault = (
        "def write():\n"
        "        client, number = Client.from_kubeconfig(kubeconfig), 0\n"
        "        path = '/api/v1/namespaces/default/configmaps/restless'\n"
        "        with contextlib.suppress(ClusterError):  # until nobody answers\n"
        "            while True:\n"
        "                number += 1\n"
        "                with contextlib.suppress(APIError):\n"
        "                    client.patch(\n"
        "                        path, config_map('restless', str(number)),\n"
        "                        type_='apply', query={'fieldManager': 'me'})\n"
        "    kubeconfig = kube.kubeconfig\n"
        # Several, so that a busy machine makes no pause that looks like an end.
        "    for _ in range(3):\n"
        "        threading.Thread(target=write, daemon=True).start()\n"
        "    kube.wait_for('cm/restless', 'create', namespace='default')"
    )

    result = run(project, FAULT.format(fault=fault))

    result.stdout.fnmatch_lines(
        [
            "E *RollbackError: after this test: the cluster cannot be rolled back: "
            "something went on writing to it for 5 s. Written last:",
            "*configmaps/default/restless",
            "*Is a thread or a process of the test, or a controller that it started "
            "by itself, still running? run_controller stops those it starts",
            "*The next test gets a new cluster.",
        ]
    )


def test_state_that_was_compacted_by_somebody_else_is_an_error(
    project: Project,
) -> None:
    """What the mark was is not known any more."""
    fault = (
        "wide.patch('cm/wide', {'data': {'text': 'changed'}})\n"
        "    kube.cluster.state._etcd.compact(newest(kube.cluster))"
    )

    result = run(project, FAULT.format(fault=fault))

    result.stdout.fnmatch_lines(
        [
            "E *RollbackError: after this test: the cluster cannot be rolled back: "
            "etcd has forgotten revision *, at which the mark was taken; something "
            "compacted it that is not us. *",
            "*The next test gets a new cluster.",
        ]
    )


def profile(project: Project, **etcd: int) -> None:
    """Write the profile 'small', whose etcd has these limits."""
    arguments = ", ".join(f"{k.replace('_', '-')}: {v}" for k, v in etcd.items())
    project.write(
        "clusters/small.yaml",
        f"provider: envtest\nextraArgs:\n  etcd: {{{arguments}}}\n",
    )


@pytest.mark.parametrize("changed", [False, True])
def test_full_etcd_is_replaced(project: Project, *, changed: bool) -> None:
    """Also where the rollback itself has nothing to write, only to delete."""
    profile(project, quota_backend_bytes=16 * 1024**2)
    change = "wide.patch('cm/wide', {'data': {'text': 'changed'}})\n    "
    fault = (
        f"{change * changed}"
        "with pytest.raises(APIError, match='database space exceeded'):\n"
        "        for number in range(100):\n"
        "            kube.create(config_map(f'big-{number}', 'x' * 900_000))"
    )

    result = run(project, FAULT.format(fault=fault), "small")

    told = "space exceeded" if changed else "/health: ALARM NOSPACE"
    result.stdout.fnmatch_lines(
        [
            f"E *RollbackError: after this test: *{told}*",
            "*The next test gets a new cluster.",
        ]
    )


def test_transaction_that_is_too_large_has_not_happened(project: Project) -> None:
    """A rollback is one transaction or none; etcd's limit is in the text."""
    profile(project, max_request_bytes=1_500_000)
    project.ini()
    test = FAULT.format(
        fault=(
            "for number in range(3):\n"
            "        wide.patch(f'cm/big-{number}', {'data': {'text': 'small'}})"
        )
    )
    test = (
        "\n@pytest.fixture(scope='module')\n"
        "def wide(kube_module):\n"
        "    for number in range(3):\n"
        "        kube_module.create(config_map(f'big-{number}', 'x' * 600_000))\n"
        "    return kube_module\n" + test
    )

    result = run(project, test, "small")

    result.stdout.fnmatch_lines(
        [
            "E *RollbackError: after this test: etcd https://127.0.0.1:*/v3/kv/txn: "
            "etcdserver: request is too large",
            "*The next test gets a new cluster.",
        ]
    )


def test_what_the_session_made_is_gone_for_those_who_need_it(
    project: Project,
) -> None:
    """Each of them says so; tests of other files that do without are well."""
    project.ini()
    project.write(
        "conftest.py",
        "import pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def run(kube_session):\n"
        "    return kube_session\n",
    )
    kill = HEAD.partition("clusters, uids")[0]
    project.write(
        "test_1.py",
        f"{kill}\n"
        "def test_fault(kube, run):\n"
        "    kill(kube.cluster, 'etcd')\n"
        "def test_needs_it(kube, run): pass\n"
        "def test_does_not(kube): kube.apply(config_map('a'))\n",
    )
    project.write(
        "test_2.py",
        f"{kill}\n"
        "def test_other(kube, kube_module): kube_module.apply(config_map('a'))\n"
        "def test_needs_it(kube, kube_module, run): pass\n",
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=3, errors=3)
    result.stdout.fnmatch_lines(
        ["E *ClusterError: what kube_session made is gone: *"] * 2
    )
