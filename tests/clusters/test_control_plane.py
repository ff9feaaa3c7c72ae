"""The processes of a control plane: ready, safe, and explained when they are not."""

from __future__ import annotations

import json
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import urllib3

from pytest_kube.client import Client
from pytest_kube.conditions import exists
from pytest_kube.controlplane import plane
from pytest_kube.errors import APIError, ComponentExitedError, ComponentNotReadyError
from pytest_kube.kube import Kube
from pytest_kube.profiles import Profile

if TYPE_CHECKING:
    from pytest_kube.cluster import Cluster

PLAIN = Profile("plain", "envtest")


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
        plane.running(profile, "1.36.3", binaries, nodes=False),
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
        plane.running(profile, "1.36.3", binaries, nodes=True),
    ):
        pass

    assert str(error.value).startswith(f"{component} ended with exit code ")
    assert "no-such-flag" in error.value.log_tail


def test_component_that_never_becomes_ready_is_named_with_its_last_answer(
    binaries: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that runs and does nothing is not waited for for ever."""
    idle = tmp_path / "etcd"
    idle.write_text("#!/bin/sh\necho I am not etcd\nexec sleep 100\n")
    idle.chmod(0o755)
    monkeypatch.setattr(plane, "START_TIMEOUT", 0.5)

    with (
        pytest.raises(ComponentNotReadyError) as error,
        plane.running(PLAIN, "1.36.3", {**binaries, "etcd": idle}, nodes=False),
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
        with plane.running(PLAIN, "1.36.3", binaries, nodes=False) as cluster:
            assert cluster.version == "1.36.3"

    assert len(calls) == 2


def test_damaged_template_is_replaced(
    binaries: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster starts without a usable template, and makes a new one."""
    monkeypatch.setenv("PYTEST_KUBE_CACHE", str(tmp_path))
    with plane.running(PLAIN, "1.36.3", binaries, nodes=False):
        (template,) = (tmp_path / "templates").iterdir()
    whole = template.read_bytes()
    template.write_bytes(whole[:-1000])

    with plane.running(PLAIN, "1.36.3", binaries, nodes=False) as cluster:
        roles = cluster.client.request(
            "GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        )

    assert len(roles["items"]) > 50
    assert json.loads(template.read_bytes())["entries"]


def test_cluster_from_a_template_has_what_a_fresh_one_has(
    binaries: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template changes how long a start takes, and nothing else."""
    monkeypatch.setenv("PYTEST_KUBE_CACHE", str(tmp_path))

    def names() -> set[tuple[str, str]]:
        with plane.running(PLAIN, "1.36.3", binaries, nodes=False) as cluster:
            client = cluster.client
            # Holds the new CA, so it is in no template and comes a moment later.
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

    with plane.running(profile, "1.36.3", binaries, nodes=False) as cluster:
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
