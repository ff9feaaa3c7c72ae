"""What a kind cluster is made of: the user's config file, and what is added to it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_kube.errors import SettingsError
from pytest_kube.profiles import Profile
from pytest_kube.providers import kind_config

PROFILE = Profile("kind", "kind")
FOLDER = Path("/folder")


def own(tmp_path: Path, text: str, **more: Any) -> Profile:
    """Return a profile with a config file of kind's own."""
    path = tmp_path / "kind.yaml"
    path.write_text(text, "utf-8")
    return replace(PROFILE, config=str(path), **more)


def flags(folder: Path, component: str) -> list[str]:
    """Return what is added to the command line of a component."""
    patch = json.loads((folder / "patches" / f"{component}+json.json").read_text())
    where = "/spec/containers/0/command/-"
    return [each["value"] for each in patch if each["path"] == where]


def test_one_node_publishes_etcd_and_shares_a_folder() -> None:
    """On the loopback interface only, at a port that stays when it starts again."""
    (node,) = kind_config.config(PROFILE, FOLDER, 4321)["nodes"]

    assert node == {
        "role": "control-plane",
        "extraPortMappings": [
            {"containerPort": 2379, "hostPort": 4321, "listenAddress": "127.0.0.1"}
        ],
        "extraMounts": [{"hostPath": "/folder", "containerPath": "/pytest-kube"}],
        "kubeadmConfigPatches": [
            "kind: InitConfiguration\npatches: {directory: /pytest-kube/patches}\n"
        ],
    }


def test_workers_gates_and_groups_of_the_profile_are_kinds() -> None:
    """Every component gets them, kubelet too."""
    profile = replace(
        PROFILE,
        workers=2,
        feature_gates={"A": True},
        runtime_config={"batch/v1": "false"},
    )

    config = kind_config.config(profile, FOLDER, 1)

    roles = [node["role"] for node in config["nodes"]]
    assert roles == ["control-plane", "worker", "worker"]
    assert config["featureGates"] == {"A": True}
    assert config["runtimeConfig"] == {"batch/v1": "false"}


def test_users_config_file_keeps_what_it_says(tmp_path: Path) -> None:
    """Ours is added to it, in the control plane's node."""
    text = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {ipFamily: dual}
featureGates: {B: true}
nodes:
- role: worker
- extraMounts: [{hostPath: /data, containerPath: /data}]
  kubeadmConfigPatches: ["kind: ClusterConfiguration"]
"""
    profile = own(tmp_path, text, feature_gates={"A": True})

    config = kind_config.config(profile, FOLDER, 1)

    worker, control = config["nodes"]
    assert config["networking"] == {"ipFamily": "dual"}
    assert config["featureGates"] == {"A": True, "B": True}
    mounts = [{"hostPath": "/folder", "containerPath": "/pytest-kube"}]
    assert worker == {"role": "worker", "extraMounts": mounts}
    assert [m["containerPath"] for m in control["extraMounts"]] == [
        "/data",
        "/pytest-kube",
    ]
    assert control["kubeadmConfigPatches"][0] == "kind: ClusterConfiguration"
    assert len(control["kubeadmConfigPatches"]) == 2


def test_mounts_and_patches_of_the_profile_are_beside_those_of_the_file(
    tmp_path: Path,
) -> None:
    """Every node has the mounts; the patches are for all of kubeadm."""
    text = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
kubeadmConfigPatches: ["kind: A"]
nodes: [{extraMounts: [{hostPath: /a, containerPath: /a}]}]
"""
    mount = {"hostPath": "/b", "containerPath": "/b", "readOnly": True}
    profile = own(tmp_path, text, mounts=(mount,), patches=("kind: B",), workers=1)

    config = kind_config.config(profile, FOLDER, 1)

    control, worker = config["nodes"]
    assert [m["hostPath"] for m in control["extraMounts"]] == ["/a", "/b", "/folder"]
    assert mount in worker["extraMounts"]
    assert config["kubeadmConfigPatches"] == ["kind: A", "kind: B"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "kind: Deployment\n",
            "config of the profile: FILE is no config file of kind; those begin with "
            "'kind: Cluster' and 'apiVersion: kind.x-k8s.io/v1alpha4'",
        ),
        (
            "kind: Cluster\nnodes: [{role: control-plane}, {role: control-plane}]\n",
            "FILE: 2 nodes are control planes; rollback and history need all of the "
            "state in one etcd, so there must be one",
        ),
    ],
)
def test_config_file_that_cannot_be_used_is_an_error(
    tmp_path: Path, text: str, expected: str
) -> None:
    """It names the file, and why."""
    profile = own(tmp_path, text)

    with pytest.raises(SettingsError) as error:
        kind_config.config(profile, FOLDER, 1)

    assert str(error.value).replace(profile.config, "FILE") == expected


def test_config_file_that_is_not_yaml_is_an_error(tmp_path: Path) -> None:
    """With what YAML says of it."""
    profile = own(tmp_path, "kind: [\n")

    with pytest.raises(SettingsError, match="config of the profile: .*kind.yaml: whil"):
        kind_config.config(profile, FOLDER, 1)


def test_control_plane_gets_what_rollback_history_and_audit_need(
    tmp_path: Path,
) -> None:
    """As patches of its manifests; arguments of the profile come last, and win."""
    given = {"kube-apiserver": {"audit-log-maxsize": "7", "v": "4"}}

    kind_config.write(replace(PROFILE, extra_args=given), tmp_path / "node", 1)

    folder = tmp_path / "node"
    assert {"--unsafe-no-fsync=true", "--max-txn-ops=100000"} <= set(
        flags(folder, "etcd")
    )
    assert {
        "--storage-media-type=application/json",
        "--etcd-compaction-interval=0",
        "--audit-policy-file=/pytest-kube/audit-policy.yaml",
        "--audit-log-path=/pytest-kube/audit/audit.log",
        "--audit-log-maxsize=7",
        "--v=4",
    } <= set(flags(folder, "kube-apiserver"))
    assert "--leader-elect=false" in flags(folder, "kube-scheduler")
    assert (folder / "audit-policy.yaml").is_file()
    assert (folder / "audit" / "audit.log").stat().st_mode & 0o777 == 0o600


def test_arguments_of_what_does_not_run_on_kind_are_an_error(tmp_path: Path) -> None:
    """Not ignored: they would seem to have an effect."""
    profile = replace(PROFILE, extra_args={"kwok": {"v": "4"}})

    with pytest.raises(SettingsError) as error:
        kind_config.write(profile, tmp_path / "node", 1)

    assert str(error.value) == (
        "extraArgs of the profile: kwok is not known on kind; known are etcd, "
        "kube-apiserver, kube-controller-manager, kube-scheduler"
    )
