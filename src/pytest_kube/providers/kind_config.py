"""What a kind cluster is made of: kind's config, and what its control plane is given.

kubeadm writes the manifests of etcd, the API server and the others; patches of those
add our flags. They are the same for every version of kubeadm's own config, and leave
what a user's config file says to kubeadm as it is.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_kube.controlplane import apiserver, etcd
from pytest_kube.errors import SettingsError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kube.profiles import Profile

__tracebackhide__ = hide_frames

ETCD_PORT = 2379
RESTARTED = {"kube-controller-manager": 10257, "kube-scheduler": 10259}
"""What some rollbacks start anew, and the port on which each says that it is well."""

AUDIT_LOG = PurePosixPath("audit", "audit.log")
"""Where the audit log is in the shared folder; rotated files come to stand beside."""

SHARED = PurePosixPath("/pytest-kube")
"""Where the node has the shared folder."""

_POLICY = "audit-policy.yaml"
_PATCHES = "patches"
_ALONE = {
    # There is one of them: started again, it need not wait for its own old lease.
    "leader-elect": "false",
    # The default of 20 requests per second makes tests wait for nothing.
    "kube-api-qps": "5000",
    "kube-api-burst": "10000",
}


def write(profile: Profile, folder: Path, port: int) -> Path:
    """Write all that the cluster is made of into a folder that its node shares.

    Args:
        profile: Which cluster.
        folder: Where; it must not exist.
        port: On which port of the loopback interface etcd is published.

    Returns:
        The config file for kind.

    Raises:
        SettingsError: The profile's own config file is none.
    """
    folder.mkdir()
    shutil.copyfile(apiserver.AUDIT_POLICY, folder / _POLICY)
    log = folder / AUDIT_LOG
    log.parent.mkdir()
    # The API server writes it as root. Where it exists it stays ours, and so do the
    # rotated files.
    log.touch(mode=0o600)
    beside = folder / _PATCHES
    beside.mkdir()
    for component, patch in patches(profile).items():
        (beside / f"{component}+json.json").write_text(json.dumps(patch), "utf-8")
    path = folder / "kind.json"
    path.write_text(json.dumps(config(profile, folder, port)), "utf-8")
    return path


def config(profile: Profile, folder: Path, port: int) -> dict[str, Any]:
    """Return kind's config for a profile: the user's own file, with ours beside it."""
    merged = _own(Path(profile.config)) if profile.config else {}
    merged.setdefault("kind", "Cluster")
    merged.setdefault("apiVersion", "kind.x-k8s.io/v1alpha4")
    nodes = merged.setdefault("nodes", [{"role": "control-plane"}])
    nodes += [{"role": "worker"} for _ in range(profile.workers)]
    control = [n for n in nodes if n.get("role", "control-plane") == "control-plane"]
    if len(control) != 1:
        raise SettingsError(
            f"{profile.config}: {len(control)} nodes are control planes; rollback and "
            "history need all of the state in one etcd, so there must be one"
        )
    # Every node has the folder, for by that is found whose it is.
    shared = {"hostPath": str(folder), "containerPath": str(SHARED)}
    for node in nodes:
        mounts = (*(node.get("extraMounts") or ()), *profile.mounts, shared)
        node["extraMounts"] = list(mounts)
    if profile.patches:
        own = merged.get("kubeadmConfigPatches") or ()
        merged["kubeadmConfigPatches"] = [*own, *profile.patches]
    # Not one of docker's choice: it would be another when the node starts again.
    etcd_port = {
        "containerPort": ETCD_PORT,
        "hostPort": port,
        "listenAddress": "127.0.0.1",
    }
    patch = f"kind: InitConfiguration\npatches: {{directory: {SHARED / _PATCHES}}}\n"
    for key, entry in (
        ("extraPortMappings", etcd_port),
        ("kubeadmConfigPatches", patch),
    ):
        control[0][key] = [*(control[0].get(key) or ()), entry]
    for key, values in (
        ("featureGates", profile.feature_gates),
        ("runtimeConfig", profile.runtime_config),
    ):
        if values:
            merged[key] = {**(merged.get(key) or {}), **values}
    return merged


def _own(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as e:
        reason = " ".join(str(e).split())
        raise SettingsError(f"config of the profile: {path}: {reason}") from e
    is_config = isinstance(found, dict) and found.get("kind") == "Cluster"
    nodes = found.get("nodes") if is_config else None
    if not is_config or not (nodes is None or isinstance(nodes, list)):
        raise SettingsError(
            f"config of the profile: {path} is no config file of kind; those begin "
            "with 'kind: Cluster' and 'apiVersion: kind.x-k8s.io/v1alpha4'"
        )
    return {key: value for key, value in found.items() if value is not None}


def patches(profile: Profile) -> dict[str, list[dict[str, Any]]]:
    """Return for each component what is added to its manifest."""
    server = apiserver.recorded(policy=SHARED / _POLICY, audit=SHARED / AUDIT_LOG)
    flags: dict[str, Mapping[str, str]] = {
        "etcd": etcd.TUNING,
        "kube-apiserver": server,
        **dict.fromkeys(RESTARTED, _ALONE),
    }
    if unknown := profile.extra_args.keys() - flags.keys():
        raise SettingsError(
            f"extraArgs of the profile: {', '.join(sorted(unknown))} is not known on "
            f"kind; known are {', '.join(flags)}"
        )
    added = {
        component: [
            _added("containers/0/command", f"--{flag}={value}")
            for flag, value in {**ours, **profile.extra_args.get(component, {})}.items()
        ]
        for component, ours in flags.items()
    }
    volume = {"name": "pytest-kube", "hostPath": {"path": str(SHARED)}}
    mounted = {"name": "pytest-kube", "mountPath": str(SHARED)}
    added["kube-apiserver"] += [
        _added("volumes", volume),
        _added("containers/0/volumeMounts", mounted),
    ]
    return added


def _added(where: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": f"/spec/{where}/-", "value": value}
