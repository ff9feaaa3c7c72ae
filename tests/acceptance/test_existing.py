"""--kube=existing: a cluster of somebody else's, played by one of ours."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import kubeconfig
from pytest_kube.errors import NotFoundError
from pytest_kube.profiles import Profile
from pytest_kube.providers import kwok
from pytest_kube.settings import Settings

from .conftest import CRD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kube.client import Client
    from pytest_kube.cluster import Cluster

    from .conftest import Project

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
TEST = """\
def test_reconciled(kube, kube_controller):
    kube.apply({"apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": "w"}, "spec": {"size": 3}})
    kube.wait_for("widget/w", "jsonpath={.status.size}=3")
"""
WRITES = """\
THING = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}

def test_writes(kube):
    kube.apply(THING)
"""


@pytest.fixture(scope="module")
def theirs() -> Iterator[Cluster]:
    profile = Profile("kwok", "kwok")
    with kwok.create(profile, Settings(profile), print) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _as_it_was(theirs: Cluster) -> Iterator[None]:
    """Each test finds the cluster as its owner has left it."""
    mark = theirs.mark()
    yield
    theirs.roll_back(mark)
    theirs.release(mark)


def config(*users: tuple[str, dict[str, Any]], cluster: dict[str, Any]) -> str:
    """Return a kubeconfig with contexts named as their users, staging the first one."""
    names = ["staging", *(name for name, _ in users[1:])]
    elsewhere = {"server": "https://127.0.0.1:1"}
    clusters = {"production": elsewhere, "elsewhere": elsewhere, "staging": cluster}
    contexts = [
        {"name": name, "context": {"cluster": "staging", "user": user}}
        for name, (user, _) in zip(names, users, strict=True)
    ]
    contexts += [
        {"name": name, "context": {"cluster": name, "user": users[0][0]}}
        for name in ("production", "elsewhere")
    ]
    content = {
        "current-context": "production",
        "clusters": [{"name": n, "cluster": c} for n, c in clusters.items()],
        "users": [{"name": name, "user": user} for name, user in users],
        "contexts": contexts,
    }
    return json.dumps(content)


@pytest.fixture
def file(theirs: Cluster, tmp_path: Path) -> Path:
    """A kubeconfig whose current context is another, unreachable cluster."""
    cluster, user = kubeconfig.current(theirs.kubeconfig)
    path = tmp_path / "kubeconfig"
    path.write_text(config(("admin", user), cluster=cluster))
    return path


@pytest.fixture
def run(project: Project, file: Path) -> Callable[..., pytest.RunResult]:
    """Run the tests on a context of the kubeconfig."""

    def run(*arguments: str, context: str = "staging") -> pytest.RunResult:
        words = [f"--kube-config={file}", f"--kube-context={context}"]
        return project.run("--kube=existing", *words, *arguments)

    return run


@pytest.fixture
def limited(theirs: Cluster, file: Path) -> Client:
    """A user jane who may do everything in the namespace team, and its context."""
    client = theirs.client
    theirs.create_namespace("team")
    role = {
        "metadata": {"name": "all"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
    }
    client.request("POST", f"{ROLES}/namespaces/team/roles", body=role)
    binding = {
        "metadata": {"name": "jane"},
        "roleRef": {"apiGroup": ROLES.split("/")[2], "kind": "Role", "name": "all"},
        "subjects": [{"kind": "User", "name": "jane"}],
    }
    client.request("POST", f"{ROLES}/namespaces/team/rolebindings", body=binding)
    cluster, user = kubeconfig.current(theirs.identity("jane", ()))
    file.write_text(config(("jane", user), cluster=cluster))
    content = json.loads(file.read_text())
    content["contexts"][0]["context"]["namespace"] = "team"
    file.write_text(json.dumps(content))
    return client


def names(client: Client, path: str) -> set[str]:
    """Return the names of what there is in a collection."""
    return {item["metadata"]["name"] for item in client.list(path).items}


def is_going(client: Client, path: str) -> bool:
    """Say whether an object was deleted, whatever still has to happen."""
    try:
        return "deletionTimestamp" in client.request("GET", path)["metadata"]
    except NotFoundError:
        return True


# --- which cluster ------------------------------------------------------------


def test_named_context_is_used_and_nothing_else(
    project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """Neither our handle nor the controller goes to the current context."""
    project.test(TEST)

    result = run("--kube-allow-writes")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "kube: existing, context staging: https://127.0.0.1:* as admin",
            "kube: using the existing cluster staging at https://127.0.0.1:* as "
            "pytest-kube-admin",
        ]
    )


def test_without_a_context_it_is_refused(project: Project, file: Path) -> None:
    """The current context is never assumed."""
    project.test(TEST)

    result = project.run("--kube=existing", f"--kube-config={file}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --kube=existing needs --kube-context=NAME: tests create and delete *"]
    )


def test_unknown_context_lists_the_known(
    project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """A misspelt context is answered with those of the file."""
    project.test(TEST)

    result = run(context="stagin")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: kubeconfig */kubeconfig: no context 'stagin'; did you mean staging? "
            "There are: staging, production, elsewhere"
        ]
    )


def test_production_is_refused(
    project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """Before anything is asked of it; the text says why, and how to go on."""
    project.test(TEST)

    result = run("--kube-allow-writes", context="production")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --kube-context=production: tests keep away from it, for 'production' "
            "of kube_refuse matches the name of its context, production",
            "  server https://127.0.0.1:1",
            "  If it is the right one, leave the pattern out: "
            "kube_refuse = ['prod', 'prd', 'live'] in the ini file",
        ]
    )


def test_cluster_that_does_not_answer_is_named(
    project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """The context, the URL, what the network said, and what to look at."""
    project.test(TEST)

    result = run(context="elsewhere")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *ClusterError: context elsewhere: https://127.0.0.1:1 as admin: it cannot "
            "be reached: POST https://127.0.0.1:1/*: no answer from the API server: *",
            "*Is it running, and is there a way to it: a VPN, a proxy *",
        ]
    )


def test_user_whom_the_server_does_not_know_is_told_so(
    theirs: Cluster,
    project: Project,
    file: Path,
    run: Callable[..., pytest.RunResult],
) -> None:
    """A token that has ended looks like this."""
    cluster, _ = kubeconfig.current(theirs.kubeconfig)
    file.write_text(config(("jane", {"token": "old"}), cluster=cluster))
    project.test(TEST)

    result = run()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *context staging: https://127.0.0.1:* as jane: the user is not known: *: "
            "401 Unauthorized: Unauthorized",
            "*Log in again, or name another context; kubectl --kubeconfig=* "
            "--context=staging auth whoami tells the same",
        ]
    )


# --- reading only -------------------------------------------------------------


def test_without_allowed_writes_tests_only_read(
    theirs: Cluster, project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """In the namespace of the context; nothing is made, nothing installed."""
    project.test(
        "def test_reads(kube):\n"
        "    assert kube.namespace == 'default'\n"
        "    assert kube.get('namespace/default') and kube.list('nodes')\n"
    )
    before = names(theirs.client, "/api/v1/namespaces")

    result = run()

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "kube: existing, context staging: https://127.0.0.1:* as admin; only read, "
            "see --kube-allow-writes",
            "kube: only read: kube_crds and kube_manifests are not installed",
        ]
    )
    assert names(theirs.client, "/api/v1/namespaces") == before
    assert names(theirs.client, CRDS) == set()


@pytest.mark.parametrize(
    ("test", "what"),
    [
        ("kube.apply(THING)", "PATCH /api/v1/namespaces/default/configmaps/a"),
        ("kube.create(THING)", "POST /api/v1/namespaces/default/configmaps"),
        ("kube.delete('cm/a')", "DELETE /api/v1/namespaces/default/configmaps/a"),
        ("kube.as_user('jane').create(THING)", "POST /api/*/configmaps"),
        ("kube.exec('pod/a', 'rm')", "exec in pod/a"),
        ("run_controller(print)", "a controller writes"),
        (
            "kube_client.resources.get(api_version='v1', kind='ConfigMap')"
            ".create(THING, namespace='default')",
            "POST https://127.0.0.1:*/api/v1/namespaces/default/configmaps",
        ),
    ],
)
def test_write_that_was_not_allowed_is_refused(
    theirs: Cluster,
    project: Project,
    run: Callable[..., pytest.RunResult],
    test: str,
    what: str,
) -> None:
    """Before it is sent, whoever sends it; the text says how to allow it."""
    project.test(
        "THING = {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'a'}}\n"
        f"def test_writes(kube, run_controller, kube_client):\n    {test}\n"
    )

    result = run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"E *SettingsError: {what}: the cluster of context staging "
            "(https://127.0.0.1:*) is only read, until writes are allowed: by "
            "--kube-allow-writes, PYTEST_KUBE_ALLOW_WRITES=true, kube_allow_writes = "
            "true in the ini file, or allowWrites: true in a profile"
        ]
    )
    assert "a" not in names(theirs.client, "/api/v1/namespaces/default/configmaps")


def test_namespace_for_a_test_is_refused_where_nothing_may_be_written(
    project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """Asked for explicitly, it is not silently another isolation."""
    project.test("def test_reads(kube):\n    pass\n")

    result = run("--kube-isolation=namespace")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["E *SettingsError: isolation by namespace makes namespaces: the cluster of *"]
    )


# --- isolation ----------------------------------------------------------------


@pytest.mark.parametrize("how", ["option", "marker"])
def test_rollback_of_somebody_elses_cluster_is_refused(
    project: Project, run: Callable[..., pytest.RunResult], how: str
) -> None:
    """Its etcd is out of reach; what can be done instead is told."""
    marker = "import pytest\n\n@pytest.mark.kube(isolation='rollback')\n"
    project.test(f"{marker * (how == 'marker')}{TEST}")
    option = ["--kube-isolation=rollback"] if how == "option" else []

    result = run("--kube-allow-writes", *option)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *SettingsError: isolation by rollback: the existing cluster, Kubernetes "
            "v* cannot, for its etcd is out of reach; take namespace, or a cluster of "
            "kwok, envtest or kind"
        ]
    )


def test_namespace_is_the_default_isolation(
    theirs: Cluster, project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """Each test has a namespace of its own, which goes; wider handles, too."""
    before = names(theirs.client, "/api/v1/namespaces")
    project.test(
        "import pytest\n"
        "THING = {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'a'}}\n"
        "@pytest.fixture(scope='module')\n"
        "def wide(kube_module):\n"
        "    kube_module.apply(THING)\n"
        "    return kube_module\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_own(kube, wide, number):\n"
        "    assert wide.get('cm/a') and kube.find('cm/a') is None\n"
        "    kube.apply(THING)\n"
        "    labels = kube.get(f'namespace/{kube.namespace}')['metadata']['labels']\n"
        "    assert labels['pytest-kube/run'] and labels['pytest-kube/made-at']\n"
    )

    result = run("--kube-allow-writes")

    result.assert_outcomes(passed=2)
    assert names(theirs.client, "/api/v1/namespaces") == before


def test_without_isolation_what_tests_made_is_removed(
    theirs: Cluster,
    limited: Client,
    project: Project,
    run: Callable[..., pytest.RunResult],
) -> None:
    """In the namespace of the context; what was there before stays."""
    maps = "/api/v1/namespaces/team/configmaps"
    limited.request("POST", maps, body={"metadata": {"name": "theirs"}})
    project.ini("")
    project.test(
        "def thing(name):\n"
        "    return {'apiVersion': 'v1', 'kind': 'ConfigMap',\n"
        "            'metadata': {'name': name}}\n"
        "def test_makes(kube):\n"
        "    kube.apply(thing('applied'))\n"
        "    kube.create(thing('created'))\n"
        "    kube.apply(thing('theirs'))\n"
        "def test_does_not_find_them(kube):\n"
        "    assert kube.find('cm/applied') is None\n"
    )

    result = run("--kube-allow-writes", "--kube-isolation=none")

    result.assert_outcomes(passed=2)
    assert names(limited, maps) == {"theirs", "kube-root-ca.crt"}


def test_user_who_may_not_make_namespaces_is_told_what_to_do(
    limited: Client, project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """The tests can share the namespace of the context."""
    project.ini("")
    project.test(WRITES)

    result = run("--kube-allow-writes")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *ClusterError: a namespace for the test cannot be made: namespaces is "
            'forbidden: User "jane" cannot create resource "namespaces" *',
            "*With --kube-isolation=none the tests share the namespace of the context, "
            "team",
        ]
    )
    result.stdout.no_fnmatch_line("*to be removed*")


def test_what_cannot_be_removed_is_listed(
    theirs: Cluster,
    limited: Client,
    project: Project,
    run: Callable[..., pytest.RunResult],
) -> None:
    """At the end of the run, as commands, with the reasons; no test fails for it."""
    role = f"{ROLES}/namespaces/team/roles/all"
    verbs = ["get", "list", "watch", "create", "patch"]
    patch = {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": verbs}]}
    limited.patch(role, patch, type_="merge")
    project.ini("")
    project.test(WRITES)

    result = run("--kube-allow-writes", "--kube-isolation=none")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "kube: left in the cluster, to be removed:",
            "  kubectl --kubeconfig=* --context=staging delete configmaps/a "
            '--namespace=team   # DELETE *: 403 Forbidden: configmaps "a" is forbidden: *',
        ]
    )


def test_namespaces_of_dead_runs_are_told(
    theirs: Cluster, project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """Those that a run of these days may still use are not."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    for name, began in (("a", "2026-01-01T00-00-00Z"), ("b", now)):
        labels = {"pytest-kube/run": f"run-{name}", "pytest-kube/made-at": began}
        body = {"metadata": {"name": name, "labels": labels}}
        theirs.client.request("POST", "/api/v1/namespaces", body=body)
    project.test("def test_reads(kube):\n    pass\n")

    result = run()

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "kube: earlier runs have left 1 namespace(s): kubectl --kubeconfig=* "
            "--context=staging delete namespaces -l 'pytest-kube/run in (run-a)'"
        ]
    )


# --- what is installed --------------------------------------------------------

MANIFEST = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: manager}
rules: []
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: theirs}
rules: []
"""


def install(client: Client, crd: str) -> None:
    """Let the cluster's owner install a CRD."""
    import yaml

    client.request("POST", CRDS, body=yaml.safe_load(crd))


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_what_the_run_installed_goes_at_its_end(
    theirs: Cluster,
    project: Project,
    run: Callable[..., pytest.RunResult],
    workers: tuple[str, ...],
) -> None:
    """With pytest-xdist, when all workers are done; what was there before stays."""
    roles = f"{ROLES}/clusterroles"
    theirs.client.request("POST", roles, body={"metadata": {"name": "theirs"}})
    before = names(theirs.client, roles), names(theirs.client, "/api/v1/namespaces")
    project.write("rbac.yaml", MANIFEST)
    project.ini('kube_crds = ["crds"]', 'kube_manifests = ["rbac.yaml"]')
    project.test(
        "import pytest\n"
        "WIDGET = {'apiVersion': 'example.com/v1', 'kind': 'Widget',\n"
        "          'metadata': {'name': 'w', 'finalizers': ['example.com/never']}}\n"
        "@pytest.mark.parametrize('number', range(4))\n"
        "def test_works(kube, number):\n"
        "    kube.create(WIDGET)\n"
        "    labels = kube.get('crd/widgets.example.com')['metadata']['labels']\n"
        "    assert 'pytest-kube/run' in labels\n"
        "    role = kube.get('clusterrole/manager')\n"
        "    assert role['metadata']['labels'].items() & labels.items()\n"
        "    assert 'labels' not in kube.get('clusterrole/theirs')['metadata']\n"
    )

    result = run("--kube-allow-writes", *workers)

    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("*to be removed*")
    after = names(theirs.client, roles), names(theirs.client, "/api/v1/namespaces")
    assert after == before
    assert is_going(theirs.client, f"{CRDS}/widgets.example.com")


def test_identical_crd_stays(
    theirs: Cluster, project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """It is compared as the server stores it, and neither changed nor removed."""
    install(theirs.client, CRD)
    before = theirs.client.request("GET", f"{CRDS}/widgets.example.com")
    project.test(TEST)

    result = run("--kube-allow-writes")

    result.assert_outcomes(passed=1)
    after = theirs.client.request("GET", f"{CRDS}/widgets.example.com")
    for key in ("uid", "generation", "labels"):
        assert after["metadata"].get(key) == before["metadata"].get(key)


def test_crd_with_other_content_is_refused(
    theirs: Cluster, project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """What differs is named; others may rely on it."""
    install(theirs.client, CRD.replace("minimum: 0", "minimum: 7"))
    project.test(TEST)

    result = run("--kube-allow-writes")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *ClusterError: CRD widgets.example.com from */crds is installed already, "
            "with other content; others may rely on it: take a cluster of your own, or "
            "let the run replace it and put it back, by replaceCRDs: true in a profile *",
            "*installed -> file",
            "*spec.versions[[]v1].schema.openAPIV3Schema.properties.spec.properties.size"
            ".minimum: 7 -> 0",
        ]
    )


def test_replaced_crd_is_put_back(
    theirs: Cluster,
    project: Project,
    file: Path,
) -> None:
    """A profile says that this cluster is one where that may be done."""
    install(theirs.client, CRD.replace("minimum: 0", "minimum: 7"))
    before = theirs.client.request("GET", f"{CRDS}/widgets.example.com")
    project.write(
        "clusters/staging.yaml",
        "provider: existing\ncontext: staging\nallowWrites: true\nreplaceCRDs: true\n"
        f"kubeconfig: {file}\n",
    )
    project.test(TEST)

    result = project.run("--kube=staging")

    result.assert_outcomes(passed=1)
    after = theirs.client.request("GET", f"{CRDS}/widgets.example.com")
    assert after["spec"] == before["spec"]


def test_crd_that_a_user_may_not_install_is_told(
    limited: Client, project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """Somebody else has to."""
    project.test(TEST)

    result = run("--kube-allow-writes", "--kube-isolation=none")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *ClusterError: CRD widgets.example.com from */crds is not installed, and "
            "this user may not do it: customresourcedefinitions.apiextensions.k8s.io "
            '"widgets.example.com" is forbidden: User "jane" cannot get *; have it '
            "installed, or name the context of a user who may"
        ]
    )


def test_user_of_one_namespace_tests_a_controller_there(
    theirs: Cluster,
    limited: Client,
    project: Project,
    run: Callable[..., pytest.RunResult],
) -> None:
    """The CRD is there, and cannot be compared; finalizers of its kind are no burden."""
    install(theirs.client, CRD)
    project.test(
        "def reconcile(client, namespace, ready, stop):\n"
        "    import kubernetes\n"
        "    api = kubernetes.client.CoreV1Api(client)\n"
        "    api.create_namespaced_config_map(\n"
        "        namespace, {'metadata': {'name': 'made'}})\n"
        "    ready()\n"
        "    stop.wait()\n"
        "def test_works(kube, run_controller):\n"
        "    run_controller(reconcile)\n"
        "    kube.delete('cm/made')\n"
        "    kube.create({'apiVersion': 'example.com/v1', 'kind': 'Widget',\n"
        "                 'metadata': {'name': 'w', 'finalizers': ['a.com/never']}})\n"
    )

    result = run("--kube-allow-writes", "--kube-isolation=none")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "kube: CRD widgets.example.com is there; this user may not see whether as in *"
        ]
    )
    assert names(limited, "/apis/example.com/v1/namespaces/team/widgets") == set()


def test_failure_of_a_user_of_one_namespace_is_explained(
    limited: Client, project: Project, run: Callable[..., pytest.RunResult]
) -> None:
    """As far as the user may look."""
    project.ini("")
    project.test(f"{WRITES}    kube.wait_for('cm/a', 'delete', timeout=0.1)\n")

    result = run("--kube-allow-writes", "--kube-isolation=none")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *WaitTimeoutError: ConfigMap team/a: *",
            "objects *ConfigMap a, kube-root-ca.crt",
        ]
    )
