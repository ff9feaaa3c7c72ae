"""Real clusters, one of each kind for the whole run, and handles on them."""

from __future__ import annotations

import gc
import io
import os
import secrets
import shutil
import subprocess
import tarfile
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION, resolve_version
from pytest_kube.binaries.store import Store
from pytest_kube.kube import Kube
from pytest_kube.profiles import NodeGroup, Profile
from pytest_kube.providers import envtest, kind, kwok
from pytest_kube.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kube.cluster import Cluster

# Clusters of another version, where the environment asks for it; kind needs an image.
VERSION = resolve_version(os.environ.get("PYTEST_KUBE_VERSION", ""))
IMAGE = f"kindest/node:v{DEFAULT_VERSION}"
NODES = (
    NodeGroup(count=2),
    NodeGroup(
        name="gpu",
        capacity={"cpu": "4", "example.com/gpu": "2"},
        labels={"tier": "gpu"},
        taints=({"key": "gpu", "value": "yes", "effect": "NoSchedule"},),
    ),
)


@pytest.fixture(scope="session")
def envtest_cluster() -> Iterator[Cluster]:
    profile = Profile("envtest", "envtest")
    with envtest.create(profile, Settings(profile, VERSION), print) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kwok_cluster() -> Iterator[Cluster]:
    profile = Profile("kwok", "kwok", nodes=NODES)
    with kwok.create(profile, Settings(profile, VERSION), print) as cluster:
        yield cluster


@pytest.fixture(params=["envtest", "kwok"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Each kind of cluster in turn."""
    found: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return found


@pytest.fixture
def handle(cluster: Cluster) -> Iterator[Kube]:
    """A handle on a namespace of the test's own."""
    yield from _handle(cluster)


@pytest.fixture
def on_kwok(kwok_cluster: Cluster) -> Iterator[Kube]:
    """A handle where pods run."""
    yield from _handle(kwok_cluster)


def _handle(cluster: Cluster) -> Iterator[Kube]:
    kube = Kube(cluster, f"test-{secrets.token_hex(4)}", timeout=20)
    # Where real nodes have to be asked, deleting a namespace takes ten seconds.
    mark = cluster.mark() if "pods" in cluster.capabilities else None
    cluster.create_namespace(kube.namespace)
    yield kube
    if mark:
        cluster.roll_back(mark)
        cluster.release(mark)
    else:
        kube.leftovers.clean_up()


@pytest.fixture(scope="session")
def binaries() -> dict[str, Path]:
    """Every program of a kwok cluster."""
    return Store(VERSION, environ=dict(os.environ)).require(*kwok.PROGRAMS)


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """The real kubectl, to compare with."""
    return Store(VERSION).require("kubectl")["kubectl"]


# --- kind -----------------------------------------------------------------------


def daemon() -> Any:
    """Return docker's client if it can make the cluster, else skip."""
    docker = pytest.importorskip("docker", reason="needs the extra 'kind'")
    why = ""
    with warnings.catch_warnings():
        # The package leaves a socket open when it is not let in, or nobody answers.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client = docker.from_env()
            client.ping()
        except docker.errors.DockerException as e:
            why = str(e)
        gc.collect()
    if why:
        pytest.skip(f"docker cannot be used: {why}")
    try:
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        client.close()
        pytest.skip(f"docker has no {IMAGE}; docker pull it")
    return client


@pytest.fixture(scope="session")
def docker_client() -> Iterator[Any]:
    client = daemon()
    yield client
    client.close()


@pytest.fixture(scope="session")
def loaded_image(docker_client: Any) -> Iterator[str]:
    """A local image that is in no registry: one file, made here."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("hello")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"hi\n"))
    name = "pytest-kube.invalid/hello:1"
    repository, tag = name.split(":")
    docker_client.api.import_image_from_data(
        data.getvalue(), repository=repository, tag=tag
    )
    yield name
    docker_client.images.remove(name)


TALKATIVE = """
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Println("told:", os.Args[1:])
		if os.Args[1] == "fail" {
			fmt.Fprintln(os.Stderr, "it was told to")
			os.Exit(3)
		}
		if os.Args[1] == "sleep" {
			time.Sleep(time.Hour)
		}
		if os.Args[1] == "stubborn" {
			signal.Ignore(syscall.SIGTERM)
			time.Sleep(time.Hour)
		}
		return
	}
	fmt.Println("serving")
	http.ListenAndServe(":8080", http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
}
"""


def _build_image(client: Any, name: str, source: str, folder: Path) -> None:
    """Build a Go program that stands alone, and an image that has nothing else."""
    (folder / "main.go").write_text(source)
    env = {**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off"}
    command = ["go", "build", "-o", "server", "main.go"]
    subprocess.run(command, cwd=folder, env=env, check=True, timeout=100)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(folder / "server", "server")
    repository, tag = name.split(":")
    client.api.import_image_from_data(
        data.getvalue(),
        repository=repository,
        tag=tag,
        changes=['ENTRYPOINT ["/server"]'],
    )


@pytest.fixture(scope="session")
def build_image(
    docker_client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], None]:
    """Build an image of a name from the source of a Go program."""

    def build(name: str, source: str) -> None:
        _build_image(docker_client, name, source, tmp_path_factory.mktemp("image"))

    return build


@pytest.fixture(scope="session")
def talkative_image(
    docker_client: Any, build_image: Callable[[str, str], None]
) -> Iterator[str | None]:
    """A program that logs, serves and does what it is told; ``None`` without Go."""
    if not shutil.which("go"):
        yield None
        return
    name = "pytest-kube.invalid/talkative:1"
    build_image(name, TALKATIVE)
    yield name
    docker_client.images.remove(name)


@pytest.fixture(scope="session")
def archived_image(
    docker_client: Any, loaded_image: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """An image in a file, as docker save writes it, and its name."""
    name = "pytest-kube.invalid/archived:1"
    image = docker_client.images.get(loaded_image)
    image.tag(name)
    path = tmp_path_factory.mktemp("archive") / "image.tar"
    with path.open("wb") as file:
        for chunk in docker_client.images.get(name).save(named=name):
            file.write(chunk)
    docker_client.images.remove(name)
    return name, path


@pytest.fixture(scope="session")
def kind_cluster(
    docker_client: Any,
    loaded_image: str,
    talkative_image: str | None,
    archived_image: tuple[str, Path],
) -> Iterator[Cluster]:
    images = (loaded_image, talkative_image, str(archived_image[1]))
    folder = archived_image[1].parent
    (folder / "hello").write_text("from the host\n", "utf-8")
    profile = Profile(
        "kind",
        "kind",
        images=tuple(filter(None, images)),
        mounts=({"hostPath": str(folder), "containerPath": "/here", "readOnly": True},),
        patches=("kind: KubeletConfiguration\nmaxPods: 77\n",),
    )
    with kind.create(profile, Settings(profile), print) as cluster:
        yield cluster
