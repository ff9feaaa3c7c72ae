"""The processes of a control plane: ready, safe, and explained when they are not."""

from __future__ import annotations

import hashlib
import json
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from pytest_kube.client import Client
from pytest_kube.conditions import exists
from pytest_kube.controlplane import plane
from pytest_kube.controlplane.plan import Plan
from pytest_kube.errors import APIError, ComponentExitedError, ComponentNotReadyError
from pytest_kube.kube import Kube
from pytest_kube.profiles import Profile
from pytest_kube.state.template import Content, Template

from .conftest import VERSION

if TYPE_CHECKING:
    from pytest_kube.cluster import Cluster

PLAIN = Profile("plain", "envtest")


def planned(
    binaries: dict[str, Path], profile: Profile = PLAIN, **further: Any
) -> plane.Plan:
    """Return the plan of a plane; without nodes unless they are asked for."""
    names = ("etcd", "kube-apiserver")
    if further.setdefault("nodes", False):
        names += tuple(plane.COMPONENTS)
    programs = {name: binaries[name] for name in names}
    return Plan(profile, VERSION, programs, **further)


def listening(cluster: Cluster) -> set[tuple[str, int]]:
    """Return the addresses on which processes of *cluster* listen, from /proc."""
    inodes = set()
    for process in cluster.guardian.processes():
        for fd in Path(f"/proc/{process.pid}/fd").iterdir():
            target = str(fd.readlink()) if fd.exists() else ""
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.add((address, int(port, 16)))
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux' /proc")
def test_every_component_listens_on_loopback_only(kwok_cluster: Cluster) -> None:
    """Nobody outside of the machine can reach anything of a test cluster."""
    addresses = {address for address, _ in listening(kwok_cluster)}

    assert addresses == {"0100007F"}


def test_etcd_refuses_clients_without_a_certificate(envtest_cluster: Cluster) -> None:
    """Not even other users of the machine can read the state."""
    process = next(p for p in envtest_cluster.guardian.processes() if p.name == "etcd")
    url = next(a for a in process.argv if a.startswith("--listen-client-urls="))
    authority = envtest_cluster.guardian.directory / "pki" / "ca.crt"
    context = ssl.create_default_context(cafile=authority)
    pool = urllib3.PoolManager(ssl_context=context, retries=False)

    with pytest.raises(urllib3.exceptions.HTTPError, match="alert|reset"):
        pool.request("GET", url.partition("=")[2] + "/health", timeout=5)


def test_each_component_logs_to_a_file_of_its_own(kwok_cluster: Cluster) -> None:
    """A failure can be explained by what each component said."""
    assert sorted(kwok_cluster.logs) == [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kwok",
    ]
    assert all(path.is_file() for path in kwok_cluster.logs.values())


def test_each_component_has_an_identity_of_its_own(kwok_cluster: Cluster) -> None:
    """The API server can tell who asked."""
    folder = kwok_cluster.guardian.directory / "kubeconfigs"
    users = {
        json.loads(path.read_text())["users"][0]["name"] for path in folder.iterdir()
    }

    assert users >= {
        "pytest-kube-admin",
        "system:kube-controller-manager",
        "system:kube-scheduler",
        "kwok",
    }


def test_identity_is_who_the_api_server_sees(cluster: Cluster) -> None:
    """A kubeconfig of an identity logs in as that user, with its groups."""
    client = Client.from_kubeconfig(cluster.identity("jane", ["testers"]))

    review = client.request(
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
    )

    assert review["status"]["userInfo"]["username"] == "jane"
    assert "testers" in review["status"]["userInfo"]["groups"]


def test_identity_without_a_role_may_nothing(cluster: Cluster) -> None:
    """RBAC is real."""
    client = Client.from_kubeconfig(cluster.identity("nobody", []))

    with pytest.raises(APIError, match='403 Forbidden: .*User "nobody" cannot list'):
        client.request("GET", "/api/v1/namespaces/default/configmaps")


def test_bad_extra_argument_names_the_component_the_flag_and_the_profile(
    binaries: dict[str, Path],
) -> None:
    """Who reads the error knows what to change, and where."""
    profile = Profile("odd", "envtest", extra_args={"kube-apiserver": {"no-such": "1"}})

    with (
        pytest.raises(ComponentExitedError) as error,
        plane.running(planned(binaries, profile)),
    ):
        pass

    text = str(error.value)
    assert text.startswith("kube-apiserver ended with exit code 1 before it was ready.")
    assert "The profile 'odd' gives it extra arguments: --no-such=1" in text
    assert "unknown flag: --no-such" in text
    assert error.value.component == "kube-apiserver"
    assert error.value.exit_code == 1


@pytest.mark.parametrize("component", ["etcd", "kube-controller-manager", "kwok"])
def test_component_that_exits_at_start_is_named(
    component: str, binaries: dict[str, Path]
) -> None:
    """Whichever it is, the error is about it and not about who waited for it."""
    profile = Profile("odd", "kwok", extra_args={component: {"no-such-flag": "1"}})

    with (
        pytest.raises(ComponentExitedError) as error,
        plane.running(planned(binaries, profile, nodes=True)),
    ):
        pass

    assert str(error.value).startswith(f"{component} ended with exit code ")
    assert "no-such-flag" in error.value.log_tail


def test_component_that_never_becomes_ready_is_named_with_its_last_answer(
    binaries: dict[str, Path], tmp_path: Path
) -> None:
    """A process that runs and does nothing is not waited for for ever."""
    idle = tmp_path / "etcd"
    idle.write_text("#!/bin/sh\necho I am not etcd\nexec sleep 100\n")
    idle.chmod(0o755)

    with (
        pytest.raises(ComponentNotReadyError) as error,
        plane.running(planned({**binaries, "etcd": idle}, start_timeout=0.5)),
    ):
        pass

    text = str(error.value)
    assert text.startswith("etcd runs (pid ")
    assert "but was not ready within " in text
    assert "Connection refused" in text
    assert "I am not etcd" in text


def test_port_that_was_taken_meanwhile_is_replaced_by_another(
    binaries: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losing the race for a port costs a second start, not the run."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        real, calls = plane.free_ports, []

        def first_time_unlucky(count: int) -> list[int]:
            calls.append(count)
            ports = real(count)
            return [port, *ports[1:]] if len(calls) == 1 else ports

        monkeypatch.setattr(plane, "free_ports", first_time_unlucky)
        with plane.running(planned(binaries)) as cluster:
            assert cluster.version == VERSION

    assert len(calls) == 2


# --- templates ----------------------------------------------------------------

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"size": {"type": "integer"}},
                            }
                        },
                    }
                },
            }
        ],
    },
}
THING = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "thing"}}


def widget(**spec: object) -> dict[str, Any]:
    """Return an object of the kind of the CRD."""
    return {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": spec,
    }


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the templates, an empty one."""
    monkeypatch.setenv("PYTEST_KUBE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "templates"


@pytest.fixture
def crds(tmp_path: Path) -> Path:
    """A folder with one CRD."""
    folder = tmp_path / "crds"
    folder.mkdir()
    (folder / "widgets.json").write_text(json.dumps(CRD))
    return folder


def test_damaged_template_is_replaced(
    binaries: dict[str, Path], templates: Path
) -> None:
    """A cluster starts without a usable template, and makes a new one."""
    with plane.running(planned(binaries)):
        (template,) = templates.iterdir()
    whole = template.read_bytes()
    template.write_bytes(whole[:-1000])

    with plane.running(planned(binaries)) as cluster:
        roles = cluster.client.request(
            "GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        )

    assert len(roles["items"]) > 50
    assert Template(template).read() is not None


@pytest.mark.parametrize("age", [400 * 24 * 3600.0, -3 * 24 * 3600.0])
def test_template_of_another_time_is_replaced(
    binaries: dict[str, Path], templates: Path, age: float
) -> None:
    """Its certificates are not valid any more, or not yet; others are made."""
    with plane.running(planned(binaries)) as cluster:
        old = authority(cluster)
    (path,) = templates.iterdir()
    body = json.loads(path.read_text())["body"]
    body["made"] -= age
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    path.write_text(json.dumps({"sha256": digest, "body": body}))

    with plane.running(planned(binaries)) as cluster:
        new = authority(cluster)

    content = Template(path).read()
    assert new != old
    assert content is not None
    assert content.pki["ca.crt"] == new


def authority(cluster: Cluster) -> bytes:
    """Return the certificate that clients of *cluster* trust."""
    return (cluster.guardian.directory / "pki" / "ca.crt").read_bytes()


@pytest.mark.parametrize("nodes", [False, True])
def test_certificates_are_those_of_the_template(
    binaries: dict[str, Path], templates: Path, *, nodes: bool
) -> None:
    """What the state says of them is true: copies of the CA, and tokens."""
    plan = planned(binaries, nodes=nodes)
    tokens = "/api/v1/namespaces/default/serviceaccounts/default/token"
    reviews = "/apis/authentication.k8s.io/v1/tokenreviews"
    with plane.running(plan) as cluster:
        first = authority(cluster)
        if not nodes:
            cluster.client.request(
                "POST",
                "/api/v1/namespaces/default/serviceaccounts",
                body={"metadata": {"name": "default"}},
            )
        uid = cluster.client.request("GET", tokens.removesuffix("/token"))
        token = cluster.client.request("POST", tokens, body={"spec": {}})
        spec = {"spec": {"token": token["status"]["token"]}}
        (path,) = templates.iterdir()

    with plane.running(plan) as cluster:
        assert authority(cluster) == first
        assert path.stat().st_mode & 0o777 == 0o600
        if not nodes:
            return
        assert cluster.state is not None
        start = cluster.state._etcd.count("/registry/")[0]
        copy = cluster.client.request(
            "GET", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"
        )
        assert copy["data"]["ca.crt"].encode() == first
        # The account is the template's, so even the token of the plane before is good.
        account = cluster.client.request("GET", tokens.removesuffix("/token"))
        assert account["metadata"]["uid"] == uid["metadata"]["uid"]
        review = cluster.client.request("POST", reviews, body=spec)
        assert review["status"]["authenticated"] is True
        cluster.state.settle(1.5, 10.0)
        rewritten = {change.key for change in cluster.state.changes(start)}
        assert not [key for key in rewritten if "configmaps" in key]


def test_cluster_from_a_template_has_what_a_fresh_one_has(
    binaries: dict[str, Path], templates: Path
) -> None:
    """The template changes how long a start takes, and nothing else."""

    def names() -> set[tuple[str, str]]:
        with plane.running(planned(binaries)) as cluster:
            client = cluster.client
            # On a fresh cluster it comes a moment later.
            later = "configmap/extension-apiserver-authentication"
            Kube(cluster, "kube-system").wait_for(later, exists)
            return {
                (resource.full_name, item["metadata"]["name"])
                for resource in client.resources()
                if "list" in resource.verbs
                and resource.plural not in {"events", "leases"}
                for item in client.request("GET", resource.path())["items"]
            }

    fresh, from_template = names(), names()

    assert fresh == from_template


@pytest.mark.parametrize("nodes", [False, True])
def test_crds_and_manifests_of_the_template_can_be_used_at_once(
    binaries: dict[str, Path],
    templates: Path,
    crds: Path,
    tmp_path: Path,
    *,
    nodes: bool,
) -> None:
    """The second start finds them in the state, served, with what else is there."""
    applied = tmp_path / "manifests"
    applied.mkdir()
    (applied / "thing.json").write_text(json.dumps(THING))
    (applied / "widget.json").write_text(json.dumps(widget(size=1)))
    plan = planned(binaries, crds=(crds,), manifests=(applied,), nodes=nodes)
    uids = []

    for number in range(3):
        with plane.running(plan) as cluster:
            own = {**widget(size=2), "metadata": {"name": "own"}}
            kube = Kube(cluster, "default")
            kube.create(own)
            assert [w.name for w in kube.list("widgets")] == ["own", "w"]
            uids += [kube.get("widget/w")["metadata"]["uid"]]
            assert kube.get("cm/thing")
            assert len(list(templates.iterdir())) == 2
            with pytest.raises(APIError, match="spec.size"):
                kube.create({**widget(size="big"), "metadata": {"name": f"x{number}"}})

    assert len(set(uids)) == 1


def test_crd_among_the_manifests_is_served_at_once(
    binaries: dict[str, Path], templates: Path, tmp_path: Path
) -> None:
    """An operator's whole installation is one file; its kinds can be used, too."""
    file = tmp_path / "all.json"
    items = [CRD, widget(size=1)]
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    for _ in range(3):
        with plane.running(planned(binaries, manifests=(file,))) as cluster:
            own = {**widget(size=2), "metadata": {"name": "own"}}
            kube = Kube(cluster, "default")
            kube.create(own)
            assert [w.name for w in kube.list("widgets")] == ["own", "w"]


def test_other_content_of_a_crd_is_another_template(
    binaries: dict[str, Path], templates: Path, crds: Path
) -> None:
    """Between two starts somebody edits a file: the second serves the new schema."""
    plan = planned(binaries, crds=(crds,))
    with plane.running(plan) as cluster:
        Kube(cluster, "default").create(widget(size=1))
    changed = json.dumps(CRD).replace('"size"', '"colour"')
    (crds / "widgets.json").write_text(changed.replace("integer", "string"))

    for _ in range(2):
        with plane.running(plan) as cluster:
            kube = Kube(cluster, "default")
            kube.create(widget(colour="red"))
            with pytest.raises(APIError, match='unknown field "spec.size"'):
                kube.create({**widget(size=1), "metadata": {"name": "w2"}})

    assert len(list(templates.iterdir())) == 3


def test_other_manifests_are_another_template(
    binaries: dict[str, Path], templates: Path, tmp_path: Path
) -> None:
    """Changed, added and removed files count; their times do not."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    plan = planned(binaries, manifests=(folder,))
    found = []

    for name, colour in [("a", "red"), ("a", "blue"), ("b", "red"), ("a", "red")]:
        for file in folder.iterdir():
            file.unlink()
        thing = {**THING, "data": {"colour": colour}}
        (folder / f"{name}.json").write_text(json.dumps(thing))
        with plane.running(plan) as cluster:
            found += [Kube(cluster, "default").get("cm/thing")["data"]["colour"]]

    assert found == ["red", "blue", "red", "red"]
    assert len(list(templates.iterdir())) == 4


@pytest.mark.parametrize("damage", ["truncated", "wrong"])
def test_damaged_template_with_crds_falls_back_to_the_one_without(
    binaries: dict[str, Path], templates: Path, crds: Path, damage: str
) -> None:
    """The start is as quick as with other CRDs, and the file is made anew."""
    plan = planned(binaries, crds=(crds,))
    with plane.running(plan) as cluster:
        first = authority(cluster)
    base = Template.of(templates, plan.described)
    whole = Template.of(templates, plan.described, plan.content)
    content = whole.read()
    assert content is not None
    if damage == "truncated":
        whole.path.write_bytes(whole.path.read_bytes()[:-100])
    else:  # no etcd starts with it, though the file is in order
        pki = {**content.pki, "etcd.key": content.pki["ca.key"]}
        whole.save(Content(pki, content.values))
    kept = base.path.read_bytes()

    with plane.running(plan) as cluster:
        assert authority(cluster) == first
        Kube(cluster, "default").create(widget(size=1))

    assert base.path.read_bytes() == kept
    assert whole.read() is not None


def test_feature_gates_and_runtime_config_reach_the_api_server(
    binaries: dict[str, Path],
) -> None:
    """A profile turns on what is off by default."""
    profile = Profile(
        "alpha",
        "envtest",
        feature_gates={"MutatingAdmissionPolicy": True},
        runtime_config={"admissionregistration.k8s.io/v1beta1": "true"},
    )

    with plane.running(planned(binaries, profile)) as cluster:
        served = cluster.client.request("GET", "/apis/admissionregistration.k8s.io")

    versions = {v["version"] for v in served["versions"]}
    assert "v1beta1" in versions


def test_kubectl_works_with_the_cluster(cluster: Cluster, kubectl: Path) -> None:
    """The kubeconfig is one for everybody's tools."""
    command = [kubectl, "--kubeconfig", cluster.kubeconfig, "get", "ns", "-o", "name"]

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=True
    )

    assert "namespace/kube-system" in done.stdout
