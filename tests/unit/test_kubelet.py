"""The kubelet of a replay: who may ask it, and what it answers."""

from __future__ import annotations

import http.client
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kube.controlplane import certs
from pytest_kube.kubelet import Kubelet

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/containerLogs/test/web/main"


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """Its certificates, and others."""
    files = certs.kubelet()
    other = certs.Authority().client("kube-apiserver")
    files["other-client.crt"], files["other-client.key"] = other
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def kubelet(pki: Path) -> Iterator[Kubelet]:
    """One that serves a log of three lines."""
    (pki / "pods/test/web").mkdir(parents=True)
    log = "".join(f"2026-01-02T03:04:0{n}Z {n}\n" for n in range(3))
    (pki / "pods/test/web/main.log").write_text(log)
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with Kubelet(pki, now) as kubelet, kubelet.serving(pki):
        yield kubelet


def ask(
    kubelet: Kubelet, path: str, *, method: str = "GET", client: str = "kubelet-client"
) -> tuple[int, str]:
    """Ask as the API server does, or as somebody else."""
    context = ssl.create_default_context(cafile=str(kubelet.folder / "kubelet-ca.crt"))
    if client:
        pair = kubelet.folder / f"{client}.crt"
        context.load_cert_chain(pair, pair.with_suffix(".key"))
    connection = http.client.HTTPSConnection(
        "127.0.0.1", kubelet.server_port, timeout=10, context=context
    )
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_log_is_answered(kubelet: Kubelet) -> None:
    """Seconds count back from when the archive was made."""
    assert ask(kubelet, PATH) == (200, "0\n1\n2\n")
    assert ask(kubelet, f"{PATH}?tailLines=1&follow=true") == (200, "2\n")
    assert ask(kubelet, f"{PATH}?sinceSeconds=4") == (200, "1\n2\n")
    times = "?sinceTime=2026-01-02T03:04:02Z&timestamps=true"
    assert ask(kubelet, PATH + times) == (200, "2026-01-02T03:04:02Z 2\n")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/containerLogs/test/web/side", "the archive has no log of container side of"),
        (
            f"{PATH}?previous=true",
            "the archive has no log of the last life of containe",
        ),
        (
            "/containerLogs/test/web/..%2Fmain",
            "the archive has no log of container ../",
        ),
        (f"{PATH}?tailLines=x", "tailLines=x: no query"),
        (f"{PATH}?sinceTime=now", "sinceTime=now: no query"),
        (f"{PATH}?sinceSeconds={10**30}", f"sinceSeconds={10**30}: no query"),
        ("/containerLogs/test/web", "this is the replay of an archive: its containers"),
        (
            "/",
            "this is the replay of an archive: its containers do not run, only what ",
        ),
        (
            "/metrics",
            "this is the replay of an archive: its containers do not run, onl",
        ),
    ],
)
def test_what_cannot_be_answered_is_told(
    kubelet: Kubelet, path: str, text: str
) -> None:
    """As a bad request: that text alone is shown by kubectl as it is."""
    status, answer = ask(kubelet, path)

    assert (status, answer[: len(text)]) == (400, text)


def test_containers_do_nothing(kubelet: Kubelet) -> None:
    """They are asked to run something by other methods, too."""
    status, answer = ask(kubelet, "/exec/test/web/main?command=ls", method="POST")

    assert (status, answer) == (
        400,
        "this is the replay of an archive: its containers do not run, only what they "
        "have logged is there",
    )


@pytest.mark.parametrize("client", ["", "other-client"])
def test_strangers_get_nothing(
    kubelet: Kubelet, client: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody without the certificate; and nothing is written of it."""
    with pytest.raises(OSError, match="alert|reset|EOF|closed"):
        ask(kubelet, PATH, client=client)

    assert ask(kubelet, PATH)[0] == 200
    assert capfd.readouterr() == ("", "")


def test_silent_client_keeps_nobody_waiting(kubelet: Kubelet) -> None:
    """Not even one that never begins to speak TLS."""
    with socket.create_connection(("127.0.0.1", kubelet.server_port), timeout=10):
        assert ask(kubelet, PATH)[0] == 200


def test_it_listens_on_this_machine_only(kubelet: Kubelet) -> None:
    """And it ends with its context."""
    assert kubelet.server_address == ("127.0.0.1", kubelet.server_port)
