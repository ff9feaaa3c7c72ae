"""kind: real nodes in containers, made by the kind binary, inspected by docker."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kube.binaries.releases import (
    NODE_IMAGES,
    image_version,
    minor_version,
    resolve_version,
)
from pytest_kube.binaries.store import Store
from pytest_kube.controlplane import kept
from pytest_kube.errors import ClusterError, SettingsError, hide_frames
from pytest_kube.profiles import ARCHIVES
from pytest_kube.providers import kind_nodes, kind_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kube.cluster import Cluster
    from pytest_kube.profiles import Profile
    from pytest_kube.settings import Settings

__tracebackhide__ = hide_frames


@contextlib.contextmanager
def create(
    profile: Profile, settings: Settings, report: Callable[[str], None]
) -> Iterator[Cluster]:
    """Create a kind cluster, and delete it at the end, also after a crash.

    Raises:
        SettingsError: There is no node image for that version.
        ClusterError: Docker cannot be had, or kind failed; the text has its last lines.
        ComponentNotReadyError: The cluster exists but does not become usable.
    """
    version = resolve_version(settings.version)
    store = Store(
        version, explicit=settings.binaries, offline=settings.offline, report=report
    )
    docker = daemon()
    with contextlib.closing(docker):
        plan = kind_plane.KindPlan(
            profile,
            version,
            store.require("kind"),
            nodes=True,
            crds=settings.crds,
            manifests=settings.manifests,
            docker=docker,
            image=profile.image or node_image(docker, settings.version),
            images={
                reference: _image(docker, reference) for reference in profile.images
            },
            kubectl=lambda: store.require("kubectl")["kubectl"],
            report=report,
        )
        kind_plane.sweep(plan)
        with kept.running(plan, settings, report, kind_plane) as cluster:
            yield cluster


def daemon() -> Any:
    """Return a client of the docker daemon.

    Raises:
        ClusterError: None answers, or this user may not use it; the text says which.
    """
    try:
        import docker
    except ImportError as e:
        raise ClusterError(
            "--kube=kind needs the docker package: pip install 'pytest-kube[kind]'. "
            "--kube=kwok and --kube=envtest work without docker"
        ) from e
    if kind_nodes.engine() == "podman":
        return _podman(docker)
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except (docker.errors.DockerException, OSError) as e:
        where = os.environ.get("DOCKER_HOST") or "its default socket"
        if "Permission denied" in str(e):
            raise ClusterError(
                f"--kube=kind needs a docker daemon, and this user may not use {where}:"
                f" {e}\n  Add the user to the group of the socket, usually docker, and "
                "log in again; or point DOCKER_HOST at a daemon of the user's own, "
                "rootless.\n  --kube=kwok and --kube=envtest work without docker"
            ) from e
        raise ClusterError(
            f"--kube=kind needs a docker daemon, and none answers at {where}: {e}\n"
            "  Start it, or point DOCKER_HOST at one; 'docker info' tells the same."
            "\n  --kube=kwok and --kube=envtest work without docker"
        ) from e
    return client


def _podman(docker: Any) -> Any:
    """Return a client of podman, which speaks as docker does."""
    own = f"{os.environ.get('XDG_RUNTIME_DIR') or '/run'}/podman/podman.sock"
    address = os.environ.get("CONTAINER_HOST") or f"unix://{own}"
    try:
        client = docker.DockerClient(base_url=address, timeout=60)
        client.ping()
    except (docker.errors.DockerException, OSError) as e:
        raise ClusterError(
            "--kube=kind with KIND_EXPERIMENTAL_PROVIDER=podman needs podman's socket, "
            f"and none answers at {address}: {e}\n  Start it: systemctl --user start "
            "podman.socket (without --user for root), or let CONTAINER_HOST name "
            "another one"
        ) from e
    return client


def node_image(docker: Any, asked: str) -> str:
    """Return the node image for a version as it was asked for.

    For a minor version that is the one made for our kind, or another one that docker
    has already; a full version is that one. What has to be pulled has a digest.

    Raises:
        SettingsError: There is none for that minor version.
    """
    version = image_version(asked)
    minor = minor_version(version)
    local = _local(docker, minor)
    made = next((v for v in NODE_IMAGES if minor_version(v) == minor), "")
    if version != minor:
        made = version
    elif local and made not in local:
        made = local[-1]
    if made in local:
        return f"kindest/node:v{made}"
    if made:
        return NODE_IMAGES.get(made, f"kindest/node:v{made}")
    raise SettingsError(
        f"--kube-version={asked}: no node image of kind is known for it, and docker "
        f"has none; known are {', '.join(map(minor_version, NODE_IMAGES))}. Name one "
        "as 'image' in a profile"
    )


def _local(docker: Any, minor: str) -> list[str]:
    """Return the versions of a minor that docker has a node image of, oldest first."""
    # podman writes the host of the registry, too.
    tag = re.compile(rf"(?:docker\.io/)?kindest/node:v({re.escape(minor)}\.\d+)")
    found = (
        match[1]
        for image in docker.api.images()
        for match in map(tag.fullmatch, image["RepoTags"] or ())
        if match
    )
    return sorted(found, key=lambda version: int(version.rpartition(".")[2]))


def _image(docker: Any, reference: str) -> Any:
    """Return a local image, or the file that it is in."""
    if reference.endswith(ARCHIVES):
        return Path(reference)
    from docker.errors import ImageNotFound

    try:
        return docker.images.get(reference)
    except ImageNotFound as e:
        raise ClusterError(
            f"image {reference} of the profile is not in the local docker daemon; "
            "docker build or docker pull it first"
        ) from e
