"""pytest-kube doctor: what it says is there is there, what is missing is told how to get.

The command itself runs, in situations that are real as far as a test can make them.
"""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kube import kubeconfig
from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import REMEDIES
from pytest_kube.profiles import Profile
from pytest_kube.providers import envtest
from pytest_kube.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kube.cluster import Cluster

PROGRAMS = {
    "kwok": (
        *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
        "kwok",
    ),
    "envtest": ("etcd", "kube-apiserver"),
}


@pytest.fixture
def doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Run the command in an empty folder; return exit code and output."""
    for name in list(os.environ):
        if name.startswith(("KUBE", "TEST_ASSET_", "ENVTEST_", "USE_EXISTING")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    main = "from pytest_kube.cli import main; exit(main())"

    def doctor(
        *arguments: str, open_files: int = 0, **variables: str
    ) -> tuple[int, str]:
        limit = ["prlimit", f"--nofile={open_files}"] if open_files else []
        done = subprocess.run(
            [*limit, sys.executable, "-c", main, "doctor", *arguments],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    return doctor


def block(text: str, name: str) -> str:
    """Return what stands below the title that begins so."""
    found = re.search(rf"^{name}.*\n((?:  .*\n)*)", text, re.MULTILINE)
    assert found, text
    return found[0]


# --- what is there ------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_it_says_is_there_is_there(
    doctor: Callable[..., tuple[int, str]], kubernetes_folder: str, name: str
) -> None:
    """Each program of the provider, by a path that can be run."""
    code, text = doctor(name)

    found = re.findall(r"^  ok +(\S+) \S+: (/.*) \(.*\)$", text, re.MULTILINE)
    assert code == 0
    assert f"\n{name}: usable\n" in text
    assert tuple(program for program, _ in found) == PROGRAMS[name]
    assert all(os.access(path, os.X_OK) for _, path in found)


def test_without_a_name_every_provider_is_told_of(
    doctor: Callable[..., tuple[int, str]], kubernetes_folder: str
) -> None:
    """Two of them are enough to test with, whatever docker does."""
    code, text = doctor(DOCKER_HOST="unix:///nowhere/docker.sock")

    titles = re.findall(r"^(\w+): (?:not )?usable$", text, re.MULTILINE)
    assert code == 0
    assert titles == ["kwok", "envtest", "kind", "existing"]
    assert "\nkind: not usable\n" in text
    assert "pytest-kube 0." in text.splitlines()[0]
    assert f"pytest {pytest.__version__}" in text.splitlines()[0]


def test_programs_of_another_folder_are_named_with_their_place(
    doctor: Callable[..., tuple[int, str]], kubernetes_folder: str
) -> None:
    """A variable that decides is shown where it does, and as it is set."""
    code, text = doctor("envtest", KUBEBUILDER_ASSETS=kubernetes_folder)

    assert code == 0
    assert f"  ok       KUBEBUILDER_ASSETS={kubernetes_folder}\n" in text
    assert f"{kubernetes_folder}/etcd (KUBEBUILDER_ASSETS)\n" in text


def test_nothing_is_left_behind(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Neither a cache nor a temporary file."""
    doctor(
        PYTEST_KUBE_CACHE=str(tmp_path / "cache"), PYTEST_KUBE_MIRROR="http://[::1]:1"
    )

    assert list(tmp_path.iterdir()) == []


def test_password_of_a_proxy_is_not_shown(
    doctor: Callable[..., tuple[int, str]],
) -> None:
    """People paste this into issues."""
    _, text = doctor("envtest", HTTPS_PROXY="http://me:hunter2@proxy.example:3128")

    assert "  ok       HTTPS_PROXY=http://…@proxy.example:3128\n" in text
    assert "hunter2" not in text
    assert "clusters on this machine are reached without it" in text


# --- programs -----------------------------------------------------------------


def test_offline_and_nothing_there_is_told_with_three_remedies(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """The same that a run would say, before it."""
    code, text = doctor(
        *("envtest", "--kube-offline"),
        PYTEST_KUBE_CACHE=str(tmp_path / "cache"),
        PATH=str(tmp_path),
    )

    assert code == 1
    assert block(text, "envtest") == (
        "envtest: not usable\n"
        f"  missing  etcd 3.6.12, kube-apiserver {DEFAULT_VERSION}: not here, and the "
        "offline switch (--kube-offline or ENVTEST_INSTALLED_ONLY) is on\n"
        + "".join(f"           {r.strip().removeprefix('- ')}\n" for r in REMEDIES)
    )


def test_no_way_to_a_host_and_no_go_is_told_with_the_host(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Nothing listens on port 1."""
    code, text = doctor(
        "envtest",
        PYTEST_KUBE_CACHE=str(tmp_path / "cache"),
        PYTEST_KUBE_MIRROR="http://127.0.0.1:1",
        PATH=str(tmp_path),
    )

    assert code == 1
    assert "kube-apiserver" in text
    assert ": not here; there is no go on PATH, and\n" in text
    assert "http://127.0.0.1:1/dl.k8s.io/release/" in text
    assert "the host cannot be reached (" in text
    assert REMEDIES[1].strip().removeprefix("- ") in text


def test_where_go_is_they_are_built(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Usable, after minutes that are told before; unchecked modules are told, too."""
    go = tmp_path / "go"
    go.write_text(
        '#!/bin/sh\necho \'{"GOSUMDB": "off", "GONOSUMDB": "*.corp", '
        '"GOPRIVATE": "", "GOINSECURE": ""}\'\n'
    )
    go.chmod(0o755)

    code, text = doctor(
        "envtest",
        PYTEST_KUBE_CACHE=str(tmp_path / "cache"),
        PYTEST_KUBE_MIRROR="http://127.0.0.1:1",
        PATH=f"{tmp_path}:/usr/bin:/bin",
    )

    assert code == 0
    assert f"built at first use with {go} in about 5 min, for\n" in text
    assert "           pytest-kube binaries install etcd kube-apiserver\n" in text
    assert (
        "  note     Go modules are not all checked by their checksums: "
        "GONOSUMDB=*.corp, GOSUMDB=off\n"
    ) in text


def test_cache_that_cannot_be_written_is_told(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """A file stands in its way, which stops even root."""
    (tmp_path / "file").touch()

    code, text = doctor(
        "envtest", PYTEST_KUBE_CACHE=str(tmp_path / "file/cache"), PATH=str(tmp_path)
    )

    assert code == 1
    assert f"cannot be stored: {tmp_path}/file is no folder\n" in text
    assert text.count("           PYTEST_KUBE_CACHE names another folder\n") == 2


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_cache_of_somebody_else_is_told(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Permissions are asked for, not tried."""
    (tmp_path / "cache").mkdir(mode=0o500)

    _, text = doctor("envtest", PYTEST_KUBE_CACHE=str(tmp_path / "cache"))

    assert f"cache: {tmp_path}/cache: {tmp_path}/cache is not writable\n" in text


def test_cache_that_others_can_write_is_told(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """What they put there, tests would run."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)

    _, text = doctor("existing", PYTEST_KUBE_CACHE=str(tmp_path / "cache"))

    assert f"cache: others may write to {tmp_path}/cache, and so replace" in text
    assert f"           chmod go-w {tmp_path}/cache\n" in text


def test_limit_of_open_files_is_told(doctor: Callable[..., tuple[int, str]]) -> None:
    """The hard one, for programs in Go raise the other by themselves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    _, plenty = doctor("existing")
    _, few = doctor("existing", open_files=512)

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    assert "open files" not in plenty
    assert (
        "  note     open files: 512 at most for a process, which an API server may "
        "exceed\n           ulimit -H -n 1024\n"
    ) in few


def test_wrong_variable_is_told(doctor: Callable[..., tuple[int, str]]) -> None:
    """Here rather than at the first run."""
    code, text = doctor("envtest", KUBEBUILDER_CONTROLPLANE_START_TIMEOUT="60")

    assert code == 1
    assert (
        "  missing  KUBEBUILDER_CONTROLPLANE_START_TIMEOUT=60: no duration as Go writes "
    ) in text


# --- names --------------------------------------------------------------------


def test_unknown_name_lists_what_there_is(
    doctor: Callable[..., tuple[int, str]],
) -> None:
    """As the option does."""
    code, text = doctor("kwock")

    assert code == 1
    assert text.startswith(
        "pytest-kube: --kube=kwock: no such provider or profile; did you mean kwok?\n"
        "  providers  envtest, existing, kind, kwok\n"
    )


def test_profile_is_looked_at_with_its_version(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Its title says what makes it."""
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters/old.yaml").write_text("provider: kwok\nversion: '1.34'\n")

    code, text = doctor(
        *("old", "--kube-offline"),
        PYTEST_KUBE_CACHE=str(tmp_path / "cache"),
        PATH=str(tmp_path),
    )

    assert code == 1
    assert "\nold (kwok): not usable\n" in text
    assert "kube-apiserver 1.34.4, " in text


# --- docker -------------------------------------------------------------------


def test_docker_daemon_that_does_not_answer_is_told(
    doctor: Callable[..., tuple[int, str]],
) -> None:
    """With the words of a run, and what works without."""
    pytest.importorskip("docker", reason="needs the extra 'kind'")

    code, text = doctor("kind", DOCKER_HOST="unix:///nowhere/docker.sock")

    assert code == 1
    assert "  missing  docker: --kube=kind needs a docker daemon, and none " in text
    assert "answers at unix:///nowhere/docker.sock: " in text
    assert "Start it, or point DOCKER_HOST at one; 'docker info' tells" in text


def test_missing_docker_package_is_told(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """How to install it, in the words of a run."""
    (tmp_path / "docker.py").write_text("raise ImportError")

    code, text = doctor("kind", PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH')}")

    assert code == 1
    assert "needs the docker package: pip install 'pytest-kube[kind]'" in text


def test_missing_docker_program_is_told(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """kind runs it, and so do we."""
    code, text = doctor("kind", PATH=str(tmp_path))

    assert code == 1
    assert "  missing  docker: the program is not on PATH" in text


def test_user_who_may_not_use_docker_is_told(tmp_path: Path) -> None:
    """A daemon is there, and the user has no right to its socket."""
    pytest.importorskip("docker", reason="needs the extra 'kind'")
    path = tmp_path / "docker.sock"
    # Everything is imported before root becomes somebody who may not read it.
    script = (
        "import os, docker, http.client, requests, urllib3\n"
        "from pytest_kube import cli, doctor\n"
        "from pytest_kube.profiles import Profile\n"
        "from pytest_kube.providers import kind\n"
        "from pytest_kube.settings import Settings\n"
        "settings = Settings(Profile('kind', 'kind'))\n"
        "if os.getuid() == 0:\n"
        "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(*doctor._docker(settings), sep='\\n')\n"
    )
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(os.path.relpath(path))  # a whole path may be too long
        path.chmod(0)

        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "DOCKER_HOST": f"unix://{path}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert "and this user may not use unix://" in done.stdout, done.stderr
    assert "Add the user to the group of the socket, usually docker" in done.stdout


# --- existing -----------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> Iterator[Cluster]:
    """Somebody's cluster."""
    profile = Profile("envtest", "envtest")
    with envtest.create(profile, Settings(profile), print) as cluster:
        yield cluster


def write_kubeconfig(path: Path, source: Path, server: str = "") -> str:
    cluster, user = kubeconfig.current(source)
    if server:
        cluster["server"] = server
    content = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": name, "context": {"cluster": "c", "user": "u"}}
            for name in ("staging", "production")
        ],
    }
    path.write_text(json.dumps(content))
    return str(path)


def test_contexts_are_listed_and_not_asked(
    doctor: Callable[..., tuple[int, str]], theirs: Cluster, tmp_path: Path
) -> None:
    """Nothing listens there; production is told to be refused."""
    server = "https://127.0.0.1:1"
    file = write_kubeconfig(tmp_path / "config", theirs.kubeconfig, server)

    code, text = doctor("existing", KUBECONFIG=file)

    assert code == 0
    assert f"  ok       kubeconfig {file}; which of its contexts, tests have" in text
    assert f"  ok       context staging: {server} as u\n" in text
    assert "  note     --kube-context=production: tests keep away from it" in text


def test_context_that_is_named_is_asked(
    doctor: Callable[..., tuple[int, str]], theirs: Cluster, tmp_path: Path
) -> None:
    """Version, user, and whether tests could have namespaces."""
    file = write_kubeconfig(tmp_path / "config", theirs.kubeconfig)

    code, text = doctor("--kube-context=staging", f"--kube-config={file}")

    server = theirs.client.server
    assert code == 0
    assert (
        f"  ok       context staging: {server} as u: Kubernetes {theirs.version}, known "
        "as pytest-kube-admin\n"
    ) in text
    assert "  ok       may create namespaces; --kube-allow-writes lets tests\n" in text


def test_user_without_rights_is_told_what_tests_can_do(
    doctor: Callable[..., tuple[int, str]], theirs: Cluster, tmp_path: Path
) -> None:
    """They share the namespace of the context."""
    file = write_kubeconfig(tmp_path / "config", theirs.identity("jane", ()))

    code, text = doctor("existing", "--kube-context=staging", f"--kube-config={file}")

    assert code == 0
    assert "known as jane\n" in text
    assert "  note     may not create namespaces: with --kube-allow-writes" in text
    assert f"kubectl --kubeconfig={file} --context=staging auth can-i create" in text


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ("staging", "context staging: https://127.0.0.1:1 as u: it cannot be reached"),
        ("stagging", "no context 'stagging'; did you mean staging? There are: staging"),
        ("production", "tests keep away from it, for 'production' of kube_refuse"),
    ],
)
def test_context_that_cannot_be_used_is_told(
    doctor: Callable[..., tuple[int, str]],
    theirs: Cluster,
    tmp_path: Path,
    context: str,
    expected: str,
) -> None:
    """With the words of a run."""
    file = write_kubeconfig(
        tmp_path / "config", theirs.kubeconfig, "https://127.0.0.1:1"
    )

    code, text = doctor("existing", f"--kube-context={context}", KUBECONFIG=file)

    assert code == 1
    assert "\nexisting: not usable\n  missing  " in text
    assert expected in text


def test_file_that_is_no_kubeconfig_is_told(
    doctor: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """And one that is not there."""
    (tmp_path / "config").write_text("[1, 2]")

    wrong = doctor("existing", KUBECONFIG=str(tmp_path / "config"))
    absent = doctor("existing", KUBECONFIG=str(tmp_path / "none"))

    assert wrong[0] == absent[0] == 1
    assert f"  missing  kubeconfig {tmp_path}/config: not a kubeconfig\n" in wrong[1]
    assert f"there is no kubeconfig {tmp_path}/none; give one by --kube" in absent[1]
