"""What goes wrong with docker, kind and the nodes, and how that is told."""

from __future__ import annotations

import gc
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

from pytest_kube.binaries.releases import NODE_IMAGES
from pytest_kube.errors import ClusterError
from pytest_kube.profiles import Profile
from pytest_kube.providers import kind, kind_nodes, kind_plane
from pytest_kube.settings import Settings
from pytest_kube.system.processes import Process

docker = pytest.importorskip("docker", reason="needs the extra 'kind'")

PROFILE = Profile("kind", "kind")


class Node:
    """A node's container."""

    name = "t-control-plane"

    def __init__(self, status: str = "running", error: Exception | None = None) -> None:
        self.status = status
        self.attrs = {"State": {"ExitCode": 137}}
        self._error = error

    def reload(self) -> None:
        if self._error:
            raise self._error


def test_user_who_may_not_use_docker_is_told_how(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The daemon is there: to start it would be the wrong advice."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)

    def refused(**_: Any) -> None:
        reason = "PermissionError(13, 'Permission denied')"
        raise docker.errors.DockerException(f"Connection aborted: {reason}")

    monkeypatch.setattr(docker, "from_env", refused)

    with (
        pytest.raises(ClusterError) as error,
        kind.create(PROFILE, Settings(PROFILE), print),
    ):
        pass

    text = str(error.value)
    assert "and this user may not use its default socket: Connection aborted" in text
    assert "Add the user to the group of the socket, usually docker" in text


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            'ERROR: failed to pull image "x": exit status 1',
            "The node image is not there and could not be pulled: docker load or "
            "docker pull it first, give another one as 'image' in the profile, or "
            f"another --kube-version; kind made {', '.join(NODE_IMAGES)}.",
        ),
        (
            'node(s) already exist for a cluster with the name "t"',
            "A cluster of that name is there already; kind delete cluster removes it.",
        ),
        (
            "ERROR: running kind with rootless provider requires cgroup v2, see x",
            "A rootless daemon needs a machine with cgroup v2, which 'docker info' "
            "tells; one of root's does without.",
        ),
        (
            'provider requires setting systemd property "Delegate=yes", see x',
            "The rootless daemon may limit neither memory nor processors: set "
            "Delegate=yes for user@.service, as kind's page on rootless describes.",
        ),
        (
            "[kubelet-check] The kubelet is not healthy after 4m0.000501119s",
            "kubelet does not start in the node: often for the machine's cgroups, of "
            "which 'docker info' tells the version, for the limits of inotify, or for "
            "want of memory; --kube-version with an older one tells whether it is the "
            "version.",
        ),
        (
            'could not find a log line that matches "Reached target .*Multi-User '
            'System.*|detected cgroup v1"',
            "The node did not start: often the limits of inotify are too low; see "
            "sysctl fs.inotify.max_user_instances, which kind wants at 512.",
        ),
    ],
)
def test_kinds_own_words_are_followed_by_what_to_do(
    tmp_path: Path, said: str, expected: str
) -> None:
    """And its last lines stand below."""
    log = tmp_path / "log"
    log.write_text(f"Creating cluster\n\x1b[31m{said}\x1b[0m\n")
    process = Process("kind-create", ["kind", "create", "cluster"], log)

    error = kind_plane._failed(process, "ended with exit code 1")

    first, *rest = str(error).splitlines()
    assert first == f"kind create cluster ended with exit code 1. {expected}"
    assert rest == [
        "  kind create cluster",
        "  Its last lines:",
        "    Creating cluster",
        f"    {said}",
    ]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (
            Node("exited"),
            "node t-control-plane does not run any more: its container is exited, exit "
            "code 137",
        ),
        (
            Node(error=docker.errors.NotFound("no such container")),
            "node t-control-plane is gone: somebody removed its container",
        ),
        (
            Node(error=ConnectionError("refused")),
            "docker does not answer any more, so nothing is known of node "
            "t-control-plane: refused",
        ),
    ],
)
def test_node_that_is_lost_is_named(node: Node, expected: str) -> None:
    """Before and after each rollback; the next test gets a new cluster."""
    with pytest.raises(ClusterError) as error:
        kind_nodes.check([Node(), node])

    assert str(error.value) == expected


def test_control_plane_is_not_killed_on_podman(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would never come back."""
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
    machines = kind_nodes.Machines([Node()], lambda: None)

    with pytest.raises(ClusterError) as error:
        machines.do("restart", "t-control-plane")

    assert str(error.value) == (
        "node t-control-plane: no restart on podman, which gives a container another "
        "address when it starts again; the control plane would not find itself. pause "
        "and resume work, and workers can be killed"
    )


def test_podman_without_its_socket_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of docker is of use there."""
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
    monkeypatch.setenv("CONTAINER_HOST", "unix:///nowhere/podman.sock")

    with pytest.raises(ClusterError) as error:
        kind.daemon()

    text = str(error.value)
    del error
    with warnings.catch_warnings():  # docker's package leaves a socket open
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert text.startswith(
        "--kube=kind with KIND_EXPERIMENTAL_PROVIDER=podman needs podman's socket, and "
        "none answers at unix:///nowhere/podman.sock: "
    )
    assert text.endswith(
        "\n  Start it: systemctl --user start podman.socket (without --user for root), "
        "or let CONTAINER_HOST name another one"
    )


def test_command_that_fails_in_a_node_says_what_it_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its exit code."""
    done = subprocess.CompletedProcess([], 2, b"", b"no such file\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    with pytest.raises(ClusterError) as error:
        kind_nodes.run(Node(), "cat", "/x")

    assert str(error.value) == "t-control-plane: cat /x: exit code 2: no such file"
