"""The ways to somebody's cluster: plug-ins, tokens, proxies, names, pods."""

from __future__ import annotations

import base64
import json
import os
import queue
import select
import socket
import socketserver
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube import contexts, kubeconfig, login
from pytest_kube.client import Client
from pytest_kube.errors import APIError, ClusterError
from pytest_kube.kube import Kube
from pytest_kube.profiles import Profile
from pytest_kube.providers import existing
from pytest_kube.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kube.cluster import Cluster

    Make = Callable[..., Path]

PLUG_IN = """\
#!/usr/bin/env python3
import json, os, pathlib, sys

here = pathlib.Path(__file__).parent
with (here / "asked").open("a") as f:
    f.write(os.environ["KUBERNETES_EXEC_INFO"] + "\\n")
assert sys.argv[1:] == ["--for", "tests"] and os.environ["WHO"] == "jane"
print(json.dumps({
    "apiVersion": "client.authentication.k8s.io/v1",
    "kind": "ExecCredential",
    "status": json.loads((here / "status").read_text()),
}))
"""


@pytest.fixture
def theirs(envtest_cluster: Cluster) -> Iterator[Cluster]:
    mark = envtest_cluster.mark()
    yield envtest_cluster
    envtest_cluster.roll_back(mark)
    envtest_cluster.release(mark)


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("KUBE"):
            monkeypatch.delenv(name)


@pytest.fixture
def make(theirs: Cluster, tmp_path: Path) -> Make:
    """Write a kubeconfig with a context staging; what is not given is the admin's."""

    def make(
        user: dict[str, Any] | None = None, name: str = "config", **changes: Any
    ) -> Path:
        cluster, admin = kubeconfig.current(theirs.kubeconfig)
        given = {key.replace("_", "-"): value for key, value in changes.items()}
        cluster = {k: v for k, v in {**cluster, **given}.items() if v is not None}
        content = {
            "current-context": "staging",
            "contexts": [
                {"name": "staging", "context": {"cluster": "c", "user": "jane"}}
            ],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "jane", "user": admin if user is None else user}],
        }
        path = tmp_path / "home" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    return make


def settings(file: Path | str, context: str = "staging") -> Settings:
    """Return settings that name a context."""
    named = Profile("existing", "existing", context=context, kubeconfig=str(file))
    return Settings(named)


@contextmanager
def using(file: Path | str, context: str = "staging") -> Iterator[tuple[Cluster, str]]:
    """Use a cluster by a kubeconfig; return it, and the line that says so."""
    asked, lines = settings(file, context), []
    with existing.create(asked.profile, asked, lines.append) as cluster:
        yield cluster, lines[0]


def refusal(file: Path | str, context: str = "staging") -> str:
    """Return why a cluster cannot be used, with the kubeconfig's path left out."""
    with pytest.raises(ClusterError) as caught, using(file, context):
        pass
    return str(caught.value)


# --- exec plug-ins ------------------------------------------------------------


@pytest.fixture
def plug_in(tmp_path: Path) -> Path:
    """A plug-in beside the kubeconfig, and its folder."""
    folder = tmp_path / "home" / "bin"
    folder.mkdir(parents=True)
    path = folder / "login"
    path.write_text(PLUG_IN)
    path.chmod(0o755)
    return folder


def by_exec(**changes: Any) -> dict[str, Any]:
    """Return a user who logs in by the plug-in."""
    spec = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "bin/login",
        "args": ["--for", "tests"],
        "env": [{"name": "WHO", "value": "jane"}],
        "interactiveMode": "IfAvailable",
    }
    return {"exec": {**spec, **changes}}


def token(theirs: Cluster, name: str = "robot") -> str:
    """Return a token of a ServiceAccount, which is made for it."""
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    theirs.client.request("POST", accounts, body={"metadata": {"name": name}})
    request = {"spec": {"expirationSeconds": 3600}}
    path = f"{accounts}/{name}/token"
    found: str = theirs.client.request("POST", path, body=request)["status"]["token"]
    return found


def test_plug_in_gives_a_token(theirs: Cluster, make: Make, plug_in: Path) -> None:
    """It runs from wherever the kubeconfig is, knows what for, and is asked once."""
    (plug_in / "status").write_text(json.dumps({"token": token(theirs)}))

    with using(make(by_exec(provideClusterInfo=True))) as (cluster, line):
        cluster.client.version()
        path = cluster.kubeconfig

    assert line.endswith(" as system:serviceaccount:default:robot")
    (asked,) = map(json.loads, (plug_in / "asked").read_text().splitlines())
    assert asked["spec"]["interactive"] is False
    assert asked["spec"]["cluster"]["server"] == theirs.client.server
    assert not path.exists()


def test_plug_in_gives_a_certificate(
    theirs: Cluster, make: Make, plug_in: Path
) -> None:
    """With its key; it is shown in the TLS handshake."""
    _, user = kubeconfig.current(theirs.identity("jane", ("system:masters",)))
    pair = {
        ours: base64.b64decode(user[f"client-{theirs}-data"]).decode()
        for ours, theirs in (
            ("clientCertificateData", "certificate"),
            ("clientKeyData", "key"),
        )
    }
    (plug_in / "status").write_text(json.dumps(pair))

    with using(make(by_exec())) as (cluster, line):
        assert cluster.client.list("/api/v1/namespaces").items

    assert line.endswith(" as jane")


def test_credential_that_has_ended_is_renewed(
    theirs: Cluster, make: Make, plug_in: Path
) -> None:
    """By its time, before a request; the next one then uses the new one."""
    status = {"token": token(theirs), "expirationTimestamp": "2020-01-01T00:00:00Z"}
    (plug_in / "status").write_text(json.dumps(status))
    client = Client.from_kubeconfig(make(by_exec()))
    other = {"token": token(theirs, "other")}
    (plug_in / "status").write_text(json.dumps(other))

    client.version()
    client.version()

    assert len((plug_in / "asked").read_text().splitlines()) == 2


def test_credential_that_is_refused_is_renewed_once(
    theirs: Cluster, make: Make, plug_in: Path
) -> None:
    """The server knows better than the clock; when it stays so, it is an error."""
    (plug_in / "status").write_text(json.dumps({"token": "old"}))
    client = Client.from_kubeconfig(make(by_exec()))

    with pytest.raises(APIError, match="401 Unauthorized"):
        client.version()
    (plug_in / "status").write_text(json.dumps({"token": token(theirs)}))

    assert client.version() == theirs.version
    assert len((plug_in / "asked").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"command": "no-such-login", "installHint": "Get it from the intranet."},
            "exec plug-in 'no-such-login' is not there: not in PATH; install it, or log "
            "in by a token or a certificate. Get it from the intranet.",
        ),
        (
            {"command": "bin/gone"},
            "exec plug-in 'HOME/bin/gone' is not there: no such program; install it, or "
            "log in by a token or a certificate",
        ),
        (
            {"command": "sh", "args": ["-c", "echo no session >&2; exit 3"]},
            "exec plug-in 'sh' failed with exit code 3; it said: no session",
        ),
        (
            {"command": "sh", "args": ["-c", "exit 3"]},
            "exec plug-in 'sh' failed with exit code 3; it said: nothing on its standard "
            "error",
        ),
        (
            {"command": "echo", "args": ["s3cret"]},
            "exec plug-in 'echo' printed 7 characters that are not JSON; it has to print "
            "an ExecCredential and nothing else",
        ),
        (
            {"command": "echo", "args": ['{"status": {"tokens": "s3cret"}}']},
            "exec plug-in 'echo' printed JSON without status.token, and without "
            "status.clientCertificateData and clientKeyData",
        ),
        (
            {"command": "echo", "args": ["[]"]},
            "exec plug-in 'echo' printed JSON without status.token, and without *",
        ),
        (
            {
                "command": "echo",
                "args": ['{"status": {"token": "t", "expirationTimestamp": "soon"}}'],
            },
            "exec plug-in 'echo' printed an expirationTimestamp that is no time: 'soon'",
        ),
        (
            {"apiVersion": "client.authentication.k8s.io/v1alpha1"},
            "exec plug-in 'HOME/bin/login' speaks client.authentication.k8s.io/v1alpha1; "
            "known are client.authentication.k8s.io/v1, "
            "client.authentication.k8s.io/v1beta1",
        ),
        (
            {"interactiveMode": "Always"},
            "exec plug-in 'HOME/bin/login' wants to ask somebody at a terminal "
            "(interactiveMode: Always), and tests have none; log in by a token or a "
            "certificate instead",
        ),
    ],
)
def test_plug_in_that_gives_nothing_says_why(
    make: Make, plug_in: Path, changes: dict[str, Any], expected: str
) -> None:
    """What it printed may be a secret, and is not shown; what it said for people is."""
    text = refusal(make(by_exec(**changes)))

    text = text.partition(": ")[2].replace(str(plug_in.parent), "HOME")
    assert text.startswith(expected.removesuffix("*"))
    assert "s3cret" not in text


def test_plug_in_that_waits_for_somebody_is_ended(
    make: Make, plug_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody will come; running it by hand shows for whom it waits."""
    monkeypatch.setattr("pytest_kube.exec_plugins.TIMEOUT", 0.2)

    text = refusal(make(by_exec(command="sleep", args=["60"])))

    assert text.endswith(
        "exec plug-in 'sleep' took more than 0.2 s; run it by hand to see what it waits "
        "for: perhaps for somebody to log in"
    )


# --- files --------------------------------------------------------------------


def test_files_beside_the_kubeconfig_are_found(theirs: Cluster, make: Make) -> None:
    """The authority, the certificate and the key, by paths from there."""
    cluster, user = kubeconfig.current(theirs.kubeconfig)
    names = {"certificate-authority": cluster}
    names |= {"client-certificate": user, "client-key": user}
    path = make({key: f"{key}.pem" for key in list(names)[1:]})
    for key, section in names.items():
        data = base64.b64decode(section[f"{key}-data"])
        (path.parent / f"{key}.pem").write_bytes(data)
    make(
        {key: f"{key}.pem" for key in list(names)[1:]},
        certificate_authority="certificate-authority.pem",
        certificate_authority_data=None,
    )

    with using(path) as (_, line):
        assert line.endswith(" as pytest-kube-admin")


def test_token_in_a_file_is_read_again(theirs: Cluster, make: Make) -> None:
    """Somebody renews it, and takes the old one away."""
    path = make({"tokenFile": "token"})
    (path.parent / "token").write_text(token(theirs))
    client = Client.from_kubeconfig(path)
    client.version()
    (path.parent / "token").write_text("old")
    client._renew(client._pool)

    with pytest.raises(APIError, match="401 Unauthorized"):
        client.version()
    (path.parent / "token").write_text(token(theirs, "other"))

    assert client.version() == theirs.version


def test_several_files_of_kubeconfig_are_one(
    theirs: Cluster, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one that has an entry counts; one that does not exist is left out."""
    file = make()
    first, second = file.with_name("first"), file.with_name("second")
    content = json.loads(file.read_text())
    wrong = [{"name": "jane", "user": {"token": "of the last file"}}]
    first.write_text(json.dumps({"contexts": content.pop("contexts")}))
    second.write_text(json.dumps(content))
    file.write_text(json.dumps({"users": wrong}))
    paths = [first.with_name("gone"), first, second, file]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, paths)))

    with using("") as (_, line):
        assert line.endswith(" as pytest-kube-admin")


# --- pods ---------------------------------------------------------------------


def test_pod_uses_the_cluster_that_it_runs_in(
    theirs: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its ServiceAccount's files and two environment variables."""
    cluster, _ = kubeconfig.current(theirs.kubeconfig)
    (tmp_path / "token").write_text(token(theirs))
    (tmp_path / "namespace").write_text("team\n")
    authority = base64.b64decode(cluster["certificate-authority-data"])
    (tmp_path / "ca.crt").write_bytes(authority)
    monkeypatch.setattr(contexts, "SERVICE_ACCOUNT", tmp_path)
    server = theirs.client.server.removeprefix("https://")
    host, _, port = server.partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)

    with using("", "in-cluster") as (found, line):
        assert found.namespace == "team"
    assert line == (
        f"using the existing cluster in-cluster at https://{server} as "
        "system:serviceaccount:default:robot"
    )


# --- names and proxies ----------------------------------------------------------


def test_server_may_have_another_name(theirs: Cluster, make: Make) -> None:
    """A tunnel ends here, and the certificate is for the name over there."""
    server = theirs.client.server

    with using(make(server=server, tls_server_name="kubernetes.default.svc")) as found:
        assert found[0].client.version() == theirs.version
    text = refusal(make(server=server, tls_server_name="other.example.com"))

    assert "Hostname mismatch, certificate is not valid for 'other.example.com'" in text


@pytest.mark.filterwarnings("error")
def test_certificate_need_not_be_looked_at(theirs: Cluster, make: Make) -> None:
    """Where the kubeconfig says so, and without a warning for each request."""
    without = {"certificate_authority_data": None}

    with using(make(**without, insecure_skip_tls_verify=True)) as (cluster, _):
        assert cluster.client.version() == theirs.version
    text = refusal(make(**without))

    assert "certificate verify failed" in text


class Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy that knows CONNECT only, and one server behind every name."""

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        host, _, port = server.removeprefix("https://").partition(":")
        self.behind = (host, int(port))
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: queue.SimpleQueue[list[str]] = queue.SimpleQueue()


class _Tunnel(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        lines = []
        while line := self.rfile.readline().decode().strip():
            lines.append(line)
        self.server.asked.put(lines)
        with socket.create_connection(self.server.behind, 5) as other:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = {self.connection: other, other: self.connection}
            while True:
                for end in select.select([*ends], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)


@pytest.fixture
def proxy(theirs: Cluster) -> Iterator[Proxy]:
    with Proxy(theirs.client.server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


AWAY = "https://staging.example.invalid:6443"


def test_proxy_of_the_kubeconfig_is_used(
    theirs: Cluster, make: Make, proxy: Proxy
) -> None:
    """With its password; a watch goes through it as well."""
    url = proxy.url.replace("//", "//jane:p%40ss@")
    path = make(server=AWAY, proxy_url=url, tls_server_name="kubernetes")

    with using(path) as (cluster, line):
        kube = Kube(cluster, "default")
        kube.wait_for("namespace/default", "create", timeout=5)

    assert line.startswith(f"using the existing cluster staging at {AWAY} as ")
    asked = proxy.asked.get(timeout=5)
    assert asked[0].startswith("CONNECT staging.example.invalid:6443 HTTP/")
    secret = base64.b64encode(b"jane:p@ss").decode()
    assert f"proxy-authorization: basic {secret}".lower() in [a.lower() for a in asked]


def test_proxy_of_the_environment_is_used(
    make: Make, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For servers that NO_PROXY does not name."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,example.com")

    with using(make(server=AWAY, tls_server_name="kubernetes")):
        pass

    assert proxy.asked.get(timeout=5)[0].startswith("CONNECT staging.example.invalid")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("https://staging.example.com:6443", "http://proxy:3128"),
        ("https://10.1.2.3:6443", ""),
        ("https://11.1.2.3:6443", "http://proxy:3128"),
        ("https://inside.corp:6443", ""),
        ("https://127.0.0.1:6443", ""),
        ("https://localhost:6443", ""),
        ("https://[::1]:6443", ""),
    ],
)
def test_environment_says_for_whom_there_is_a_proxy(
    server: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for kubectl: names, networks, and never this machine itself."""
    monkeypatch.setenv("HTTPS_PROXY", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8, .corp")

    assert login.proxy_for(server) == expected


def test_unknown_kind_of_proxy_is_told(make: Make) -> None:
    """Before anything is sent."""
    text = refusal(make(server=AWAY, proxy_url="socks5://jane:s3cret@127.0.0.1:1"))

    assert text == (
        "the proxy on the way to the API server is socks5://127.0.0.1:1; those of http "
        "and https are supported"
    )


def test_server_that_never_answers_is_given_up(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection, and that is all."""
    monkeypatch.setattr(existing, "FIRST_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"

        text = refusal(make(server=url))

    assert text.startswith(
        f"context staging: {url} as jane: it cannot be reached: POST "
    )
    assert "timed out" in text
