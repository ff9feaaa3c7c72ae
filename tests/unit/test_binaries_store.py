"""Where programs are looked for, in which order, and what is said when they aren't."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_kube.binaries import releases, store
from pytest_kube.binaries.releases import Platform
from pytest_kube.binaries.store import (
    Found,
    Store,
    cache_folder,
    cache_key,
    programs_folder,
)
from pytest_kube.errors import BinaryError, SettingsError

from .binaries_server import put, release_server, script


@pytest.fixture(autouse=True)
def _linux(monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Platform("linux", "amd64")
    monkeypatch.setattr(releases, "this_platform", lambda: platform)


def test_lookup_order(tmp_path: Path) -> None:
    """Each place wins over those behind it."""
    places = {
        "TEST_ASSET_KUBE_APISERVER": tmp_path / "asset/my-apiserver",
        "KUBEBUILDER_ASSETS": tmp_path / "assets/kube-apiserver",
        "--kube-binaries": tmp_path / "explicit/kube-apiserver",
        "cache": tmp_path
        / "cache/bin/linux-amd64/kube-apiserver-1.36.3/kube-apiserver",
        "setup-envtest": tmp_path
        / "data/kubebuilder-envtest/k8s/1.36.3-linux-amd64/kube-apiserver",
        "PATH": tmp_path / "path/kube-apiserver",
    }
    for path in places.values():
        put(path, script("Kubernetes v1.36.3"))
    environ = {
        "TEST_ASSET_KUBE_APISERVER": str(places["TEST_ASSET_KUBE_APISERVER"]),
        "KUBEBUILDER_ASSETS": str(tmp_path / "assets"),
        "PYTEST_KUBE_CACHE": str(tmp_path / "cache"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PATH": str(tmp_path / "path"),
    }
    store = Store("1.36.3", explicit=tmp_path / "explicit", environ=environ)

    found = []
    while (program := store.find("kube-apiserver")) is not None:
        found.append(program)
        program.path.unlink()

    assert found == [Found(path, origin) for origin, path in places.items()]


def test_setup_envtest_on_macos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS, the store of setup-envtest and our cache are in the user's library."""
    monkeypatch.setattr(releases, "this_platform", lambda: Platform("darwin", "arm64"))
    library = tmp_path / "Library"
    path = put(
        library
        / "Application Support/io.kubebuilder.envtest/k8s/1.36.3-darwin-arm64/etcd",
        script("etcd"),
    )
    environ = {"HOME": str(tmp_path)}

    assert Store("1.36.3", environ=environ).find("etcd") == Found(path, "setup-envtest")
    assert cache_folder(environ) == library / "Caches/pytest-kube"


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"PYTEST_KUBE_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/pytest-kube"),
        ({"PYTEST_KUBE_CACHE": "", "HOME": "/c"}, "/c/.cache/pytest-kube"),
        ({}, f"{Path.home()}/.cache/pytest-kube"),
    ],
)
def test_cache_folder(environ: dict[str, str], folder: str) -> None:
    """The cache is where the user, or the desktop's convention, wants it."""
    assert cache_folder(environ) == Path(folder)


@pytest.mark.parametrize(
    ("name", "answer", "taken"),
    [
        ("kube-apiserver", "Kubernetes v1.36.3", True),
        ("kube-apiserver", "Kubernetes v1.36.2", False),
        ("kube-apiserver", "Kubernetes v1.36.3-rc.0", False),
        ("kubectl", "Client Version: v1.36.3", True),
        ("kubectl", "Client Version: v1.37.0", False),
        ("etcd", "etcd Version: 3.6.12", True),
        ("etcd", "etcd Version: 3.6.0", True),
        ("etcd", "etcd Version: 3.10.0", True),
        ("etcd", "etcd Version: 3.4.23", False),
        ("kwok", "kwok version v0.8.0 go1.26.8 (linux/amd64)", True),
        ("kind", "kind version 0.33.0", True),
        ("kind", "kind version 0.9.0", False),
        ("kind", "hello", False),
    ],
)
def test_version_of_a_program_on_path(
    tmp_path: Path, name: str, answer: str, *, taken: bool
) -> None:
    """From PATH, Kubernetes' programs need its exact version, others a late enough one."""
    path = put(tmp_path / name, script(answer))
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path)}

    found = Store("1.36.3", environ=environ).find(name)

    assert found == (Found(path, "PATH") if taken else None)


def test_kubectl_is_asked_its_own_way(tmp_path: Path) -> None:
    """Kubectl has a command instead of an option, and must not ask a cluster."""
    content = b'#!/bin/sh\n[ "$*" = "version --client" ] && echo Client v1.36.3\n'
    put(tmp_path / "kubectl", content)
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path)}

    assert Store("1.36.3", environ=environ).find("kubectl") is not None


def test_program_that_hangs_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that does not say its version is not waited for."""
    monkeypatch.setattr(store, "VERSION_TIMEOUT", 0.1)
    put(tmp_path / "etcd", b"#!/bin/sh\nexec /bin/sleep 60\n")
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path)}

    assert Store("1.36.3", environ=environ).find("etcd") is None


def test_rows(tmp_path: Path) -> None:
    """Every program has a row, with or without a path."""
    etcd = put(tmp_path / "etcd", script("etcd"))
    environ = {"HOME": str(tmp_path)}

    rows = Store("1.35.4", explicit=tmp_path, environ=environ).rows()

    assert rows == [
        ("etcd", "3.6.12", etcd, "--kube-binaries"),
        ("kube-apiserver", "1.35.4", None, ""),
        ("kube-controller-manager", "1.35.4", None, ""),
        ("kube-scheduler", "1.35.4", None, ""),
        ("kubectl", "1.35.4", None, ""),
        ("kwok", "0.8.0", None, ""),
        ("kind", "0.33.0", None, ""),
    ]


def test_require_what_is_there(tmp_path: Path) -> None:
    """What is found is neither fetched nor copied, and comes in the asked order."""
    etcd = put(tmp_path / "etcd", script("etcd"))
    kwok = put(tmp_path / "kwok", script("kwok"))
    store = Store(
        "1.36.3", explicit=tmp_path, offline=True, environ={"HOME": str(tmp_path)}
    )

    assert list(store.require("kwok", "etcd").items()) == [
        ("kwok", kwok),
        ("etcd", etcd),
    ]


def test_explicit_folder_missing(tmp_path: Path) -> None:
    """A folder that the user named and that isn't there is a wrong setting."""
    folder = tmp_path / "bin"

    with pytest.raises(SettingsError) as caught:
        Store("1.36.3", explicit=folder)

    assert str(caught.value) == (
        f"--kube-binaries={folder}: no such folder; give the folder that holds the "
        "programs, or auto"
    )


def test_nothing_helps(tmp_path: Path) -> None:
    """Without network and Go, every place is named, with its trouble, and remedies."""
    assets = tmp_path / "assets"
    put(assets / "kube-scheduler", script("Kubernetes v1.36.3"), executable=False)
    old = put(tmp_path / "path/kube-scheduler", script("Kubernetes v1.34.0"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    environ = {
        "TEST_ASSET_KUBE_SCHEDULER": str(tmp_path / "nowhere"),
        "KUBEBUILDER_ASSETS": str(assets),
        "PYTEST_KUBE_CACHE": str(tmp_path / "cache"),
        "PYTEST_KUBE_MIRROR": f"http://127.0.0.1:{closed}",
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PATH": str(tmp_path / "path"),
    }

    with pytest.raises(BinaryError) as caught:
        Store("1.36.3", explicit=tmp_path, environ=environ).require("kube-scheduler")

    assert caught.value.name == "kube-scheduler"
    assert str(caught.value).splitlines() == [
        "kube-scheduler 1.36.3: not found, and cannot be fetched",
        "  kube-scheduler was looked for in",
        f"    TEST_ASSET_KUBE_SCHEDULER           no file {tmp_path}/nowhere",
        f"    KUBEBUILDER_ASSETS                  {assets}/kube-scheduler is not executable",
        f"    --kube-binaries                     no file {tmp_path}/kube-scheduler",
        f"    cache                               no file {tmp_path}/cache/bin/linux-amd64/kube-scheduler-1.36.3/kube-scheduler",
        f"    setup-envtest                       no file {tmp_path}/data/kubebuilder-envtest/k8s/1.36.3-linux-amd64/kube-scheduler",
        f"    PATH                                {old} is of version 1.34.0",
        f"    download                            http://127.0.0.1:{closed}/dl.k8s.io/release/v1.36.3/bin/linux/amd64/kube-scheduler.sha256: the host cannot be reached ([Errno {errno.ECONNREFUSED}] Connection refused)",
        "    build                               there is no go on PATH",
        "  what helps",
        "    - connect to the network, or set PYTEST_KUBE_MIRROR to a mirror of the hosts",
        "    - install Go (https://go.dev/dl): what cannot be downloaded is built",
        "    - --kube-binaries=PATH or KUBEBUILDER_ASSETS=PATH: a folder with the programs",
    ]


def test_offline(tmp_path: Path) -> None:
    """With the offline switch nothing is asked for, and the error says it is on."""
    with release_server() as server:
        server.put_kind("0.33.0", script("kind"))
        environ = {
            "PYTEST_KUBE_CACHE": str(tmp_path),
            "PYTEST_KUBE_MIRROR": server.mirror,
            "HOME": str(tmp_path),
        }

        with pytest.raises(BinaryError) as caught:
            Store("1.36.3", offline=True, environ=environ).require("kind")

        assert not server.hits
    lines = str(caught.value).splitlines()
    switch = "the offline switch (--kube-offline or ENVTEST_INSTALLED_ONLY) is on"
    assert f"    download                            {switch}" in lines
    assert f"    build                               {switch}" in lines
    assert "    - leave the offline switch out, once" in lines


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """A cache that is no folder is named, with the way to have another."""
    cache = put(tmp_path / "cache", b"")
    environ = {"PYTEST_KUBE_CACHE": str(cache), "HOME": str(tmp_path)}

    with pytest.raises(BinaryError) as caught:
        Store("1.36.3", environ=environ).require("kind")

    assert str(caught.value).startswith("kind 0.33.0 cannot be stored: [Errno 20] ")
    assert str(caught.value).endswith(
        f"\n  the cache is {cache}; PYTEST_KUBE_CACHE names another folder"
    )


def test_import_is_cheap() -> None:
    """Looking for programs loads nothing but the standard library, and not all of it."""
    code = (
        "import sys, pytest_kube.binaries.store as store\n"
        "print({'urllib3', 'tenacity', 'filelock', 'yaml', 'ssl'} & set(sys.modules))"
    )

    assert subprocess.check_output([sys.executable, "-c", code]) == b"set()\n"


# --- the cache of a CI system ---------------------------------------------------


def test_key_names_platform_and_versions() -> None:
    """Somebody who looks at a list of caches knows what it is."""
    key = cache_key(["etcd", "kube-apiserver"], ["1.36.3", "1.34.4"])

    assert key == "pytest-kube-linux-amd64-1.34.4-1.36.3-bc576ebf3620"


def test_key_knows_neither_order_nor_repetition() -> None:
    """The cache has the same either way."""
    again = cache_key(["kwok", "etcd", "kwok"], ["1.36.3", "1.34.4", "1.36.3"])

    assert again == cache_key(["etcd", "kwok"], ["1.34.4", "1.36.3"])


def test_key_changes_with_every_program_and_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also with those of our own choice, and with the platform."""
    keys = [
        cache_key(["etcd"], ["1.36.3"]),
        cache_key(["etcd", "kwok"], ["1.36.3"]),
        cache_key(["etcd", "kube-apiserver"], ["1.36.3"]),
        cache_key(["etcd", "kube-apiserver"], ["1.36.2"]),
    ]
    monkeypatch.setattr(releases, "_ETCD_VERSION", "3.6.99")
    keys.append(cache_key(["etcd"], ["1.36.3"]))
    monkeypatch.setattr(releases, "this_platform", lambda: Platform("linux", "arm64"))
    keys.append(cache_key(["etcd"], ["1.36.3"]))

    assert len(set(keys)) == len(keys)


def test_key_of_what_no_version_changes() -> None:
    """The kind program is the same for every version of Kubernetes."""
    assert cache_key(["kind"], ["1.34.4"]) == cache_key(["kind"], ["1.36.3"])


def test_folder_of_programs_holds_nothing_else(tmp_path: Path) -> None:
    """Templates, which have private keys in them, and locks of clusters are beside it."""
    folder = programs_folder({"PYTEST_KUBE_CACHE": str(tmp_path)})

    assert folder == tmp_path / "bin" / "linux-amd64"
