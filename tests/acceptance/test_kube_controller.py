"""The fixtures kube_controller and run_controller: ready, reported, stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store

if TYPE_CHECKING:
    from .conftest import Project

WIDGET = """\
WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget",
          "metadata": {"name": "w"}, "spec": {"size": 3}}
"""
RECONCILED = f"""\
{WIDGET}
def test_reconciled(kube, kube_controller):
    kube.apply(WIDGET)
    kube.wait_for("widget/w", "jsonpath={{.status.size}}=3")
"""


@pytest.mark.parametrize("provider", ["envtest", "kwok"])
def test_kopf_operator_reconciles(project: Project, provider: str) -> None:
    """Each test has an operator that runs, in turn, and none is left."""
    again = RECONCILED.replace("test_reconciled", "test_again")
    project.test(
        f"{RECONCILED}\n{again}\nimport threading\n"
        "def test_no_thread_is_left():\n"
        "    left = [t.name for t in threading.enumerate()\n"
        "            if t.name.startswith('controller')]\n"
        "    assert left == []\n"
    )

    result = project.run(f"--kube={provider}")

    result.assert_outcomes(passed=3)


def test_watches_are_open_when_the_controller_is_ready(project: Project) -> None:
    """What happens right after is seen as it happens, not found by a list."""
    project.write(
        "src/widget_operator.py",
        "import kopf\n\n"
        "@kopf.on.event('widgets')\n"
        "def note(type, name, memo, **_):\n"
        "    open('seen.txt', 'a').write(f'{type}\\n')\n",
    )
    project.test(
        f"{WIDGET}\n"
        "from pathlib import Path\n"
        "def test_event(kube, kube_controller):\n"
        "    Path('seen.txt').touch()\n"
        "    kube.create(WIDGET)\n"
        "    kube.delete('widget/w')\n"
        "    kube.wait_for('widget/w',\n"
        "                  lambda _: 'DELETED' in Path('seen.txt').read_text())\n"
        "    assert Path('seen.txt').read_text().split() == ['ADDED', 'DELETED']\n"
    )

    result = project.run("--kube=envtest", "-x")

    result.assert_outcomes(passed=1)


def test_several_controllers_run_in_one_test(project: Project) -> None:
    """A kopf operator, a coroutine and a function with a stop event, side by side."""
    project.test(
        f"{WIDGET}\n"
        "import asyncio\n"
        "async def ticking(kubeconfig, namespace):\n"
        "    while True:\n"
        "        await asyncio.sleep(0.01)\n"
        "def waiting(stop, ready):\n"
        "    ready()\n"
        "    stop.wait()\n"
        "def test_three(kube, run_controller):\n"
        "    first = run_controller('kopf:src/widget_operator.py')\n"
        "    others = [run_controller(ticking), run_controller(waiting)]\n"
        "    kube.apply(WIDGET)\n"
        "    kube.wait_for('widget/w', 'jsonpath={.status.size}=3')\n"
        "    assert not any(c.exited.done() for c in [first, *others])\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


def test_several_kopf_operators_run_in_one_test(project: Project) -> None:
    """Each has the handlers of its own file, and its own thread and loop."""
    project.write(
        "src/gadget_operator.py",
        "import kopf\n\n"
        "@kopf.on.create('configmaps', labels={'gadget': 'yes'})\n"
        "def mark(patch, **_):\n"
        "    patch['data'] = {'marked': 'yes'}\n",
    )
    project.test(
        f"{WIDGET}\n"
        "GADGET = {'apiVersion': 'v1', 'kind': 'ConfigMap',\n"
        "          'metadata': {'name': 'g', 'labels': {'gadget': 'yes'}}}\n"
        "def test_two(kube, run_controller):\n"
        "    widgets = run_controller('kopf:src/widget_operator.py')\n"
        "    gadgets = run_controller('kopf:src/gadget_operator.py')\n"
        "    kube.apply([WIDGET, GADGET])\n"
        "    kube.wait_for('widget/w', 'jsonpath={.status.size}=3')\n"
        "    kube.wait_for('cm/g', 'jsonpath={.data.marked}=yes')\n"
        "    gadgets.stop()\n"
        "    kube.patch('widget/w', {'spec': {'size': 4}})\n"
        "    kube.wait_for('widget/w', 'jsonpath={.status.size}=4')\n"
        "    assert widgets.errors == gadgets.errors == []\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


def test_handler_error_is_reported_with_its_traceback(project: Project) -> None:
    """kopf retries quietly; a failed test says what was retried."""
    project.write(
        "src/widget_operator.py",
        "import kopf\n\n"
        "@kopf.on.create('widgets')\n"
        "def reconcile(**_):\n"
        "    raise KeyError('flavour')\n",
    )
    project.test(RECONCILED)

    result = project.run("--kube=envtest", "--kube-timeout=1")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *WaitTimeoutError: Widget *w: {.status.size} = 3 not reached within*",
            "E * controller   kopf:src/widget_operator.py: running, * handler error*",
            "*kube diagnostics*",
            "*widget_operator.py*, line 5, in reconcile",
            "*KeyError: 'flavour'",
        ]
    )


def test_controller_that_ends_fails_the_waiting_test_at_once(project: Project) -> None:
    """Nobody waits for a dead controller; its own traceback is the failure."""
    project.write(
        "src/app.py",
        "def run(stop):\n"
        "    stop.wait(0.2)\n"
        "    raise LookupError('the database is gone')\n",
    )
    project.ini(
        'kube_crds = ["crds"]', 'kube_controller = "app:run"', 'pythonpath = ["src"]'
    )
    project.test(RECONCILED)

    result = project.run("--kube=envtest", "--kube-timeout=60")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *ControllerExitedError: controller run ended while the test needed it: "
            "LookupError: the database is gone",
            "E *app.py*, line 3, in run",
        ]
    )
    assert result.duration < 30


def test_controller_that_ends_unnoticed_fails_the_test_at_its_end(
    project: Project,
) -> None:
    """A test that does not wait learns of it too."""
    project.test(
        "import threading\n"
        "go = threading.Event()\n"
        "def dies(stop, ready):\n"
        "    ready()\n"
        "    go.wait(10)\n"
        "    raise LookupError('gone')\n"
        "def test_careless(run_controller):\n"
        "    controller = run_controller(dies)\n"
        "    go.set()\n"
        "    assert controller.exited.exception(10)\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_careless*",
            "E *controller dies ended while the test needed it: LookupError: gone",
        ]
    )


def test_controller_that_is_expected_to_end_is_no_error(project: Project) -> None:
    """Whoever has caught its error is not told again."""
    project.test(
        "import pytest\n"
        "from pytest_kube import ControllerExitedError\n"
        "def dies(stop, ready):\n"
        "    ready()\n"
        "    stop.wait(0.2)\n"
        "    raise LookupError('gone')\n"
        "def test_careful(kube, run_controller):\n"
        "    run_controller(dies)\n"
        "    with pytest.raises(ControllerExitedError, match='LookupError: gone'):\n"
        "        kube.wait_for('cm/never', 'create')\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        pytest.param(
            "import no_such_module\n",
            "E *ControllerError: controller kopf:src/widget_operator.py: importing it "
            "failed: ModuleNotFoundError: No module named 'no_such_module'",
            id="import-error",
        ),
        pytest.param(
            "import kopf\n@kopf.on.startup()\ndef start(**_):\n"
            "    raise kopf.PermanentError('no licence')\n"
            "@kopf.on.create('widgets')\ndef f(**_): pass\n",
            "E *ControllerExitedError: controller kopf:src/widget_operator.py ended *"
            "no licence*",
            id="exception-at-start",
        ),
        pytest.param(
            "import kopf\n@kopf.on.create('gadgets')\ndef f(**_): pass\n",
            "E *ControllerNotReadyError: controller kopf:src/widget_operator.py was not "
            "ready within 2.0 s: it watches nothing: the cluster serves none of the "
            "kinds that its handlers are for. Is their CRD in kube_crds?",
            id="never-ready",
        ),
    ],
)
def test_operator_that_cannot_run_is_an_error_with_its_reason(
    project: Project, source: str, error: str
) -> None:
    """The operator's own words come first."""
    project.write("src/widget_operator.py", source)
    project.test(RECONCILED)

    result = project.run("--kube=envtest", "--kube-timeout=2")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([error])


def test_without_a_configured_controller_the_fixture_says_how(
    project: Project,
) -> None:
    """Two places can name it."""
    project.ini('kube_crds = ["crds"]')
    project.test(RECONCILED)

    result = project.run("--kube=envtest")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["E *set kube_controller in the ini file, for example*"]
    )


def test_marker_names_another_controller(project: Project) -> None:
    """The closest wins."""
    project.ini('kube_crds = ["crds"]', 'kube_controller = "kopf:src/missing.py"')
    project.test(
        "import pytest\n\n"
        "pytestmark = pytest.mark.kube(controller='kopf:src/widget_operator.py')\n"
        + RECONCILED
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


def test_program_is_run_with_the_clusters_kubeconfig(project: Project) -> None:
    """Controllers in other languages are programs; this one is a shell script."""
    script = project.write(
        "bin/manager",
        '#!/bin/sh\necho "$1 in $NAMESPACE with $KUBECONFIG"\nexec sleep 60\n',
    )
    script.chmod(0o755)
    project.test(
        "import pytest\nimport time\n\n"
        "@pytest.mark.kube(controller='exec:./bin/manager --leader-elect=false',\n"
        "                  ready='log:in .* with')\n"
        "def test_program(kube, kube_controller):\n"
        "    deadline = time.monotonic() + 10\n"
        "    while not kube_controller.output:\n"
        "        assert time.monotonic() < deadline\n"
        "    kube_controller.stop()\n"
        "    assert f'--leader-elect=false in {kube.namespace} with /' in (\n"
        "        kube_controller.output)\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


def test_program_is_ready_when_its_watches_are_open(project: Project) -> None:
    """Nothing is needed of it; one that watches nothing is told what else there is."""
    kubectl = Store(DEFAULT_VERSION).require("kubectl")["kubectl"]
    project.test(
        "import pytest\n"
        f"WATCH = ['{kubectl}', 'get', 'cm', '-w', '-n', '{{namespace}}', '-o', 'name']\n"
        "@pytest.mark.kube(controller=WATCH)\n"
        "def test_watching(kube, kube_controller):\n"
        "    kube.apply({'apiVersion': 'v1', 'kind': 'ConfigMap',\n"
        "                'metadata': {'name': 'seen'}})\n"
        "    kube.eventually(lambda: 'configmap/seen' in kube_controller.output)\n"
        "@pytest.mark.kube(controller=['sleep', '60'])\n"
        "def test_sleeping(kube, kube_controller): pass\n"
    )

    result = project.run("--kube=envtest", "--kube-timeout=2")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *ControllerNotReadyError: controller exec:sleep was not ready within 2.0 "
            "s: it has opened no watch, and asked the API server for no other things; "
            "one that watches nothing is ready when another thing tells: see ready"
        ]
    )


REPLICAS = """\
import pytest
from pytest_kube import ControllerNotReadyError

KUBECTL = {kubectl!r}
LEASE = {{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
         "metadata": {{"name": "manager"}}, "spec": {{"holderIdentity": "nobody"}}}}

@pytest.fixture
def account(kube):
    role = {{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole"}}
    subject = {{"kind": "ServiceAccount", "namespace": kube.namespace}}
    kube.apply([
        {{"apiVersion": "v1", "kind": "ServiceAccount",
         "metadata": {{"name": "manager"}}}},
        {{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
         "metadata": {{"name": "manager"}},
         "roleRef": {{**role, "name": "cluster-admin"}},
         "subjects": [{{**subject, "name": "manager"}}]}}])
    return f"{{kube.namespace}}/manager"

def test_requests(kube, run_controller, account):
    both = [run_controller([KUBECTL, "get", kind, "-w", "-n", "{{namespace}}"],
                           service_account=account) for kind in ("cm", "secrets")]
    assert both[0].user == both[1].user
    for replica, kind in zip(both, ("configmaps", "secrets")):
        assert {{r.resource for r in replica.requests()}} == {{kind}}
    assert kube.rbac_report().user == both[0].user

def test_lease(kube, run_controller, account):
    kube.apply(LEASE)
    patch = '{{"spec": {{"holderIdentity": "me"}}}}'
    take = f"{{KUBECTL}} patch lease manager -n {{{{namespace}}}} --type merge -p '{{patch}}'"
    leader = ["sh", "-c", f"{{take}} && exec sleep 60"]
    options = dict(ready="lease:manager", service_account=account)
    run_controller(leader, **options)
    with pytest.raises(ControllerNotReadyError) as error:
        run_controller(["sleep", "60"], **options)
    assert "held by 'me', which is not this program" in str(error.value)
"""


def test_replicas_of_one_service_account_are_told_apart(project: Project) -> None:
    """By what they asked for, and by which of them holds a Lease."""
    kubectl = Store(DEFAULT_VERSION).require("kubectl")["kubectl"]
    project.test(REPLICAS.format(kubectl=str(kubectl)))

    result = project.run("--kube=envtest", "--kube-timeout=3")

    result.assert_outcomes(passed=2)


ACCOUNT = """\
apiVersion: v1
kind: Namespace
metadata: {name: system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: operator, namespace: system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: operator}
rules:
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
- {apiGroups: [""], resources: [namespaces], verbs: [list, watch]}
- {apiGroups: ["", events.k8s.io], resources: [events], verbs: [create]}
- {apiGroups: [example.com], resources: [widgets], verbs: [list, watch, patch, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: operator}
subjects: [{kind: ServiceAccount, name: operator, namespace: system}]
"""
ON_ROLES = """\
import pytest

WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget",
          "metadata": {"name": "w"}, "spec": {"size": 3}}

def test_roles(kube, kube_controller):
    kube.apply(WIDGET)
    kube.eventually(lambda: kube.rbac_report().missing)
    report = kube.rbac_report()
    assert report.user == "system:serviceaccount:system:operator"
    assert report.missing == [{"apiGroups": ["example.com"],
        "resources": ["widgets/status"], "verbs": ["patch"]}]
    assert {"apiGroups": ["example.com"], "resources": ["widgets"],
        "verbs": ["delete"]} in [{**r, "verbs": [v for v in r["verbs"] if v == "delete"]}
        for r in report.unused]

@pytest.mark.kube(service_account="")
def test_may_do_everything(kube, kube_controller):
    kube.apply(WIDGET)
    kube.wait_for("widget/w", "jsonpath={.status.size}=3")
"""


@pytest.mark.parametrize("strict", [False, True])
def test_controller_runs_with_the_roles_of_its_service_account(
    project: Project, *, strict: bool
) -> None:
    """As it is shipped; what they lack is told as the rule that is missing."""
    project.write("config/rbac.yaml", ACCOUNT)
    project.ini(
        'kube_crds = ["crds"]',
        'kube_controller = "kopf:src/widget_operator.py"',
        'kube_manifests = ["config"]',
        'kube_service_account = "system/operator"',
        f"kube_strict = {str(strict).lower()}",
    )
    project.test(ON_ROLES)

    result = project.run("--kube=envtest")

    # The second warning is of the error that kopf makes of it.
    result.assert_outcomes(passed=2, warnings=2 * (not strict), errors=int(strict))
    start = "E *ControllerError: " if strict else "  *KubeWarning: "
    result.stdout.fnmatch_lines(
        [
            f"{start}controller kopf:src/widget_operator.py "
            "(system:serviceaccount:system:operator) was refused what it asked for; "
            "what its roles lack:",
            "* - apiGroups: [[]example.com]",
            "*   resources: [[]widgets/status]",
            "*   verbs: [[]patch]",
        ],
        consecutive=True,
    )


def test_controller_is_restarted_and_asked_what_it_did(project: Project) -> None:
    """It picks up what came meanwhile; what it asked for is known, and when it rests."""
    project.test(
        "def widget(name):\n"
        "    return {'apiVersion': 'example.com/v1', 'kind': 'Widget',\n"
        "            'metadata': {'name': name}, 'spec': {'size': 3}}\n"
        "def test_it(kube, kube_controller):\n"
        "    kube.apply(widget('a'))\n"
        "    kube.wait_for('widget/a', 'jsonpath={.status.size}=3')\n"
        "    kube_controller.wait_idle()\n"
        "    asked = [(r.verb, r.resource) for r in kube_controller.requests()]\n"
        "    assert asked.index(('watch', 'widgets')) < asked.index(\n"
        "        ('patch', 'widgets/status'))\n"
        "    kube_controller.stop()\n"
        "    kube.apply(widget('b'))\n"
        "    kube_controller.restart()\n"
        "    kube.wait_for('widget/b', 'jsonpath={.status.size}=3')\n"
        "    assert kube.controllers == [kube_controller]\n"
        "    lists = [r for r in kube_controller.requests() if r.verb == 'list'\n"
        "             and r.resource == 'widgets']\n"
        "    assert len(lists) == 2\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        ("operator", "service account 'operator': write NAMESPACE/NAME, as in its*"),
        (
            "system/nobody",
            "there is no ServiceAccount system/nobody for the controller*",
        ),
    ],
)
def test_service_account_that_is_none_is_told(
    project: Project, account: str, expected: str
) -> None:
    """And where its manifest belongs."""
    project.test(
        f"def test_it(run_controller):\n"
        f"    run_controller('kopf:src/widget_operator.py',\n"
        f"                   service_account={account!r})\n"
    )

    result = project.run("--kube=envtest")

    result.stdout.fnmatch_lines([f"E *: {expected}"])


RESTLESS = """\
import kopf, threading
from kubernetes import client, config

@kopf.on.create("widgets")
def reconcile(name, namespace, patch, **_):
    if name == "broken":
        raise kopf.PermanentError("it is broken")
    patch.status["size"] = 3
    if name == "restless":
        api = client.CustomObjectsApi(config.new_client_from_config())
        for _ in range(40):
            api.get_namespaced_custom_object(
                "example.com", "v1", namespace, "widgets", name)
"""


@pytest.mark.parametrize("strict", [False, True])
def test_what_a_controller_does_unasked_is_told(
    project: Project, *, strict: bool
) -> None:
    """Hot loops, and errors of handlers that the test did not look at."""
    project.write("src/widget_operator.py", RESTLESS)
    project.ini(
        'kube_crds = ["crds"]',
        'kube_controller = "kopf:src/widget_operator.py"',
        f"kube_strict = {str(strict).lower()}",
    )
    project.test(
        "def widget(name):\n"
        "    return {'apiVersion': 'example.com/v1', 'kind': 'Widget',\n"
        "            'metadata': {'name': name}, 'spec': {'size': 3}}\n"
        "def test_calm(kube, kube_controller):\n"
        "    kube.apply(widget('calm'))\n"
        "    kube.wait_for('widget/calm', 'jsonpath={.status.size}=3')\n"
        "def test_restless(kube, kube_controller):\n"
        "    kube.apply(widget('restless'))\n"
        "    kube.wait_for('widget/restless', 'jsonpath={.status.size}=3')\n"
        "def test_broken(kube, kube_controller):\n"
        "    kube.apply(widget('broken'))\n"
        "    kube.eventually(lambda: 'broken' in kube_controller.summary())\n"
        "def test_broken_and_known(kube, kube_controller):\n"
        "    kube.apply(widget('broken'))\n"
        "    kube.eventually(lambda: kube_controller.errors)\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=4, warnings=2 * (not strict), errors=2 * strict)
    result.stdout.fnmatch_lines(
        [
            "*controller kopf:src/widget_operator.py (controller-1) is in a hot loop: get "
            "widgets test-restless-*/restless, 4* times within a second",
            "*controller kopf:src/widget_operator.py (controller-1) had 1 handler error "
            "that the test did not look at; last:",
            "*it is broken*",
        ]
    )


def test_unknown_marker_argument_is_a_usage_error(project: Project) -> None:
    """A misspelt argument would otherwise do nothing."""
    project.test(
        "import pytest\n\n@pytest.mark.kube(crd='x')\ndef test_a(kube): pass\n"
    )

    result = project.run("--kube=envtest")

    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: *test_a: @pytest.mark.kube does not take crd; it takes crds, *"]
    )
