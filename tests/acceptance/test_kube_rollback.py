"""Isolation by rollback: each test finds the cluster as its wider fixtures left it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from .conftest import CRD

if TYPE_CHECKING:
    from .conftest import Project

CONFTEST = """\
import pytest

def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": data}

def role(name):
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}}

@pytest.fixture(scope="session")
def run(kube_session):
    kube_session.apply([config_map("run", of="session"), role("run")])
    return kube_session

@pytest.fixture(scope="module")
def module(kube_module):
    kube_module.apply([config_map("module", of="module"), role("module")])
    return kube_module

def look(kube):
    \"\"\"Return what is there of all that any test makes, by name, with its data.\"\"\"
    made = {c["metadata"]["name"]: c.get("data") or {} for c in kube.cluster.client
            .request("GET", "/api/v1/configmaps")["items"]}
    roles = {r["metadata"]["name"] for r in kube.list("clusterroles")}
    return ({n: d for n, d in made.items() if n in ("run", "module", "test")},
            roles & {"run", "module", "test"})
"""
WIDE = """\
from conftest import config_map, look, role

RUN = {"run": {"of": "session"}}
BOTH = {**RUN, "module": {"of": "module"}}

def check(run, module, kube):
    assert look(kube) == (BOTH, {"run", "module"})
    assert module.get("cm/module")["metadata"]["uid"] == uids.setdefault(
        "module", module.get("cm/module")["metadata"]["uid"])
    assert len({run.namespace, module.namespace, kube.namespace}) == 3

uids = {}

def test_first(run, module, kube):
    check(run, module, kube)
    kube.apply([config_map("test"), role("test")])

def test_changes(run, module, kube):
    check(run, module, kube)
    module.patch("cm/module", {"data": {"of": "test"}})
    run.patch("cm/run", {"data": {"of": "test"}})

def test_deletes(run, module, kube):
    check(run, module, kube)
    for ref in ("clusterrole/module", "clusterrole/run", f"ns/{kube.namespace}"):
        path = kube._path(ref)
        kube.cluster.client.request("DELETE", path)
    module.delete("cm/module")
    run.delete("cm/run")

def test_deletes_and_makes_again(run, module, kube):
    check(run, module, kube)
    module.delete("cm/module")
    module.apply(config_map("module", of="somebody else"))

def test_last(run, module, kube):
    check(run, module, kube)
"""
AFTER = """\
from conftest import config_map, look

def test_what_the_module_made_is_gone(run, kube):
    assert look(kube) == ({"run": {"of": "session"}}, {"run"})

def test_module_has_a_new_one(run, module, kube):
    assert set(look(kube)[0]) == {"run", "module"}
"""
ALONE = """\
from conftest import look

def test_nothing_is_there_yet(kube):
    assert look(kube) == ({}, set())
"""


@pytest.mark.parametrize("provider", ["envtest", "kwok"])
def test_marks_nest_as_scopes_do(project: Project, provider: str) -> None:
    """What a wider fixture made survives the tests inside, and goes with its scope."""
    project.write("conftest.py", CONFTEST)
    project.write("test_0.py", ALONE)
    project.write("test_1.py", WIDE)
    project.write("test_2.py", AFTER)

    result = project.run(f"--kube={provider}", "-p", "no:randomly")

    result.assert_outcomes(passed=8)


def test_wide_handles_may_be_asked_for_in_any_order(project: Project) -> None:
    """Arguments in any order, in fixtures or not: pytest makes wider ones first."""
    project.write("conftest.py", CONFTEST)
    project.test(
        "from conftest import config_map\n"
        "def test_one(kube, module, run):\n"
        "    assert module.get('cm/module') and run.get('cm/run')\n"
        "def test_other(kube, kube_module, kube_session, kube_cluster):\n"
        "    assert kube_module.cluster is kube.cluster is kube_cluster\n"
        "    assert kube_session.get('cm/run')\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=2)


LATE = """\
def test_late(kube, request):
    request.getfixturevalue({name!r})

def test_next(kube):
    kube.apply({{"apiVersion": "v1", "kind": "ConfigMap", "metadata":
        {{"name": "a"}}}})
"""


@pytest.mark.parametrize("name", ["kube_module", "kube_session"])
def test_wide_handle_in_the_middle_of_a_test_is_refused(
    project: Project, name: str
) -> None:
    """The test's rollback would undo what it makes; the next test is well."""
    project.test(LATE.format(name=name))

    result = project.run("--kube=envtest")

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            f"E *SettingsError: {name} was asked for while kube was in use, whose "
            "rollback would undo it; ask for it by a fixture or an argument, not by "
            "getfixturevalue in the middle of a test"
        ]
    )


def test_session_handle_after_a_modules_is_refused(project: Project) -> None:
    """The module's rollback would undo what it makes; the remedy is another one."""
    project.test(
        "def test_module(kube, kube_module): pass\n"
        "def test_session(kube, kube_session): pass\n"
        "def test_next(kube, kube_module): pass\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *SettingsError: kube_session was asked for while kube_module was in use, "
            "whose rollback would undo it; the first test that uses kube_module has to "
            "use it, too"
        ]
    )


EVERYTHING = """\
import pytest

UIDS = set()

def test_leaves_all_kinds_of_things(kube):
    UIDS.add(kube.get("ns/default")["metadata"]["uid"])
    stuck = {"finalizers": ["example.com/never"]}
    kube.apply([
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mine"}},
        {"apiVersion": "v1", "kind": "ConfigMap",
         "metadata": {"name": "stuck", "namespace": "mine", **stuck}},
        {"apiVersion": "example.com/v1", "kind": "Widget",
         "metadata": {"name": "stuck", "namespace": "default", **stuck}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
         "metadata": {"name": "stuck", **stuck}},
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
         "metadata": {"name": "mine"}, "value": 7},
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "mine"},
         "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                  "hostPath": {"path": "/none"}}},
        {"apiVersion": "admissionregistration.k8s.io/v1",
         "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "mine"},
         "webhooks": [{
             "name": "nowhere.example.com", "failurePolicy": "Fail",
             "sideEffects": "None", "admissionReviewVersions": ["v1"],
             "clientConfig": {"url": "https://127.0.0.1:1/"}, "rules": [
                 {"apiGroups": [""], "apiVersions": ["v1"],
                  "operations": ["CREATE"], "resources": ["secrets"]}]}]},
    ])
    for ref, where in (("cm/stuck", "mine"), ("clusterrole/stuck", None)):
        kube.delete(ref, namespace=where, wait=False)
        assert kube.get(ref, namespace=where)["metadata"]["deletionTimestamp"]
    kube.cluster.client.request("DELETE", "/api/v1/namespaces/mine")
    kube.cluster.client.request(
        "DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
        "widgets.example.com")

@pytest.mark.parametrize("number", [1, 2])
def test_finds_none_of_it(kube, number):
    names = [n.name for n in kube.list("namespaces") if n.name != "local-path-storage"]
    assert sorted(names) == sorted(
        ["default", "kube-node-lease", "kube-public", "kube-system", kube.namespace])
    assert kube.find("widget/stuck", namespace="default") is None
    for ref in ("clusterrole/stuck", "pv/mine", "priorityclass/mine",
                "validatingwebhookconfiguration/mine"):
        assert kube.find(ref) is None, ref
    # What was gone is back, and works at once.
    kube.create({"apiVersion": "example.com/v1", "kind": "Widget",
                 "metadata": {"name": "w"}, "spec": {"size": 1}})
    kube.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mine"}})
    assert kube.get("ns/default")["metadata"]["uid"] in UIDS
"""


@pytest.mark.parametrize("provider", ["envtest", "kwok"])
def test_nothing_of_a_test_is_left(project: Project, provider: str) -> None:
    """Namespaces, cluster-scoped objects, finalizers, CRDs that it deleted, webhooks."""
    project.test(EVERYTHING)

    result = project.run(f"--kube={provider}")

    result.assert_outcomes(passed=3)


VERSIONS = """\
import pytest
from pathlib import Path
from pytest_kube import APIError, UnknownResourceError

def create(kube, **spec):
    kube.create({"apiVersion": "example.com/v1", "kind": "Widget",
                 "metadata": {"name": "w"}, "spec": spec})

def unknown(kube, **spec):
    with pytest.raises(APIError, match="unknown field"):
        create(kube, **spec)

@pytest.mark.parametrize("again", range(3))
@pytest.mark.parametrize("how", ["marker, size", "marker, colour", "test", "none"])
def test_version(kube, how, again):
    if how == "none":
        with pytest.raises(UnknownResourceError):
            kube.find("widget/w")
        assert not [r for r in kube.cluster.client.resources(refresh=True)
                    if r.group == "example.com"]
    if how == "test":
        kube.apply("colour/widgets.yaml")
    if how in ("test", "marker, colour"):
        unknown(kube, size=1)
        create(kube, colour=2)
    if how == "marker, size":
        unknown(kube, colour=1)
        create(kube, size=2)

"""
MARKED = """\
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        how = item.callspec.params["how"]
        if how.startswith("marker"):
            item.add_marker(pytest.mark.kube(crds=[how.partition(", ")[2]]))
"""


def test_crds_go_with_the_test_and_other_versions_can_come(project: Project) -> None:
    """Installed by the marker or by the test itself, in any order, again and again."""
    project.ini()
    project.write("size/widgets.yaml", CRD)
    project.write("colour/widgets.yaml", CRD.replace("size:", "colour:"))
    project.write("conftest.py", MARKED)
    project.test(VERSIONS)

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=12)


def test_crds_that_a_module_brings_stay_for_its_tests(project: Project) -> None:
    """Each test may change or delete them; the next one has them as they were."""
    project.ini()
    project.write(
        "test_1.py",
        "import pytest\n"
        "W = {'apiVersion': 'example.com/v1', 'kind': 'Widget',\n"
        "     'metadata': {'name': 'w'}, 'spec': {'size': 1}}\n"
        "@pytest.fixture(scope='module', autouse=True)\n"
        "def widgets(kube_module):\n"
        "    kube_module.apply('crds/widgets.yaml')\n"
        "    kube_module.apply(W)\n"
        "    return kube_module\n"
        "@pytest.mark.parametrize('again', range(3))\n"
        "def test_deletes_the_crd(kube, widgets, again):\n"
        "    assert widgets.get('widget/w')['spec'] == {'size': 1}\n"
        "    kube.apply(W)\n"
        "    kube.delete('crd/widgets.example.com')\n",
    )
    project.write(
        "test_2.py",
        "import pytest\n"
        "from pytest_kube import UnknownResourceError\n"
        "def test_crd_is_gone(kube):\n"
        "    with pytest.raises(UnknownResourceError):\n"
        "        kube.find('widget/w')\n",
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=4)


def test_cluster_is_one_object_for_the_whole_run(project: Project) -> None:
    """Whoever holds it goes on holding the right one."""
    project.test(
        "import pytest\n"
        "seen = set()\n"
        "@pytest.mark.parametrize('number', range(3))\n"
        "def test_same(kube_cluster, kube, kube_module, number):\n"
        "    assert kube_cluster is kube.cluster is kube_module.cluster\n"
        "    seen.add((id(kube_cluster), kube.kubeconfig))\n"
        "    assert len(seen) == 1\n"
        "    kube.apply({'apiVersion': 'v1', 'kind': 'ConfigMap',\n"
        "                'metadata': {'name': 'a'}})\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=3)


def test_kopf_operator_is_stopped_before_the_rollback(project: Project) -> None:
    """It does not see its objects vanish, and what it does last is undone, too."""
    project.write(
        "src/widget_operator.py",
        "import kopf\n"
        "from pathlib import Path\n"
        "from pytest_kube.client import Client\n"
        "import os\n"
        "def note(text):\n"
        "    with Path('seen.txt').open('a') as file:\n"
        "        file.write(text + '\\n')\n"
        "@kopf.on.event('widgets')\n"
        "def event(type, name, **_):\n"
        "    note(f'{type} {name}')\n"
        "@kopf.on.cleanup()\n"
        "def cleanup(**_):\n"
        "    note('stopped')\n",
    )
    project.test(
        "import pytest, time\n"
        "from pathlib import Path\n"
        "SEEN = Path('seen.txt')\n"
        "SEEN.touch()\n"
        "@pytest.mark.parametrize('number', range(3))\n"
        "def test_operator(kube, kube_controller, number):\n"
        "    kube.create({'apiVersion': 'example.com/v1', 'kind': 'Widget',\n"
        "                 'metadata': {'name': f'w{number}'}, 'spec': {'size': 3}})\n"
        "    deadline = time.monotonic() + 10\n"
        "    while f'w{number}' not in SEEN.read_text():\n"
        "        assert time.monotonic() < deadline\n"
        "def test_seen():\n"
        "    told = [f'ADDED w{n} stopped' for n in range(3)]\n"
        "    assert SEEN.read_text().split() == ' '.join(told).split()\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=4)


PROGRAM = """\
import json, os, signal, sys
from pathlib import Path
from pytest_kube.client import Client

client = Client.from_kubeconfig(Path(os.environ["KUBECONFIG"]))
namespace = f"/api/v1/namespaces/{os.environ['NAMESPACE']}"

def end(*_):
    # While it is asked to end, the cluster is as the test left it.
    found = client.request("GET", namespace + "/configmaps/mine")["data"]
    client.request("POST", "/api/v1/namespaces/default/configmaps",
                   body={"metadata": {"name": "last-words"}, "data": found})
    with open("seen.txt", "a") as file:
        file.write(json.dumps(found))
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
print("running", flush=True)
while True:
    signal.pause()
"""


def test_program_is_stopped_before_the_rollback(project: Project) -> None:
    """It ends as in a cluster, with SIGTERM; what it writes then is rolled back."""
    project.write("bin/program.py", PROGRAM)
    project.ini(
        f"kube_controller = 'exec:{sys.executable} bin/program.py'",
        'kube_controller_ready = "log:running"',
    )
    project.test(
        "import pytest\n"
        "from pathlib import Path\n"
        "@pytest.mark.parametrize('number', range(2))\n"
        "def test_program(kube, kube_controller, number):\n"
        "    assert kube.find('cm/last-words', namespace='default') is None\n"
        "    kube.create({'apiVersion': 'v1', 'kind': 'ConfigMap',\n"
        "                 'metadata': {'name': 'mine'}, 'data': {'a': str(number)}})\n"
        "def test_seen(kube):\n"
        '    assert Path(\'seen.txt\').read_text() == \'{"a": "0"}{"a": "1"}\'\n'
        "    assert kube.find('cm/last-words', namespace='default') is None\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=3)


def test_workload_of_a_test_is_gone_with_its_pods(project: Project) -> None:
    """On nodes, with all controllers alive; the next test schedules as the first."""
    project.test(
        "import pytest, threading, time\n"
        "WEB = {'apiVersion': 'apps/v1', 'kind': 'Deployment',\n"
        "       'metadata': {'name': 'web', 'namespace': 'default'}, 'spec': {\n"
        "           'replicas': 3, 'selector': {'matchLabels': {'a': 'b'}},\n"
        "           'template': {'metadata': {'labels': {'a': 'b'}}, 'spec':\n"
        "               {'containers': [{'name': 'c', 'image': 'none'}]}}}}\n"
        "@pytest.mark.parametrize('number', range(4))\n"
        "def test_deploys(kube, number):\n"
        # On a busy machine a controller may answer late, and cleans up itself then.
        "    deadline = time.monotonic() + 5\n"
        "    for kind in ('deployments', 'replicasets', 'pods'):\n"
        "        while left := kube.list(kind, namespace='default'):\n"
        "            assert time.monotonic() < deadline, left\n"
        "            threading.Event().wait(0.05)\n"
        "    kube.apply(WEB)\n"
        "    kube.wait_for('deployment/web', 'condition=Available',\n"
        "                  namespace='default')\n"
    )

    result = project.run("--kube=kwok")

    result.assert_outcomes(passed=4)
