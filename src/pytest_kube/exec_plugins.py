"""Exec plug-ins of kubeconfig files: programs that print a credential when asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kube.errors import ClusterError, hide_frames

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__tracebackhide__ = hide_frames

TIMEOUT = 60.0
"""Seconds; some ask a cloud far away."""

API_VERSIONS = tuple(f"client.authentication.k8s.io/{v}" for v in ("v1", "v1beta1"))

_SHOWN = 2000


class Credential(NamedTuple):
    """What a plug-in printed: a token, or a certificate with its key, or both.

    Attributes:
        expires: When it is of no use any more, in seconds since 1970.
    """

    token: str
    certificate: str
    key: str
    expires: float


def run(
    spec: Mapping[str, Any], cluster: Mapping[str, Any], base: Path, source: Path
) -> Credential:
    """Run the plug-in of a kubeconfig's user.

    Args:
        spec: The ``exec`` of the user.
        cluster: The kubeconfig's cluster, which some plug-ins want to know.
        base: The folder from which a command with a slash in its name is found.
        source: The kubeconfig, for the text of errors.

    Raises:
        ClusterError: It is missing, failed, took too long, or printed no credential.
    """
    command = str(spec.get("command") or "")
    where = f"kubeconfig {source}: exec plug-in {command!r}"
    version = str(spec.get("apiVersion") or "")
    if version not in API_VERSIONS:
        raise ClusterError(
            f"{where} speaks {version or 'no apiVersion'}; known are "
            f"{', '.join(API_VERSIONS)}"
        )
    if spec.get("interactiveMode") == "Always":
        raise ClusterError(
            f"{where} wants to ask somebody at a terminal (interactiveMode: Always), "
            "and tests have none; log in by a token or a certificate instead"
        )
    environ = dict(os.environ)
    environ.update({e["name"]: e["value"] for e in spec.get("env") or ()})
    told = {"interactive": False, **_told(spec, cluster)}
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": told}
    environ["KUBERNETES_EXEC_INFO"] = json.dumps(info)
    name = str(base / command) if "/" in command else command
    program = shutil.which(name, path=environ.get("PATH"))
    if program is None:
        hint = str(spec.get("installHint") or "").strip()
        lacks = "no such program" if "/" in name else "not in PATH"
        raise ClusterError(
            f"{where} is not there: {lacks}; install it, or log in by a token or a "
            f"certificate{hint and f'. {hint}'}"
        )
    return _credential(
        _output([program, *map(str, spec.get("args") or ())], environ, where), where
    )


def _told(spec: Mapping[str, Any], cluster: Mapping[str, Any]) -> dict[str, Any]:
    if not spec.get("provideClusterInfo"):
        return {}
    names = {"server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url"}
    names |= {"certificate-authority-data"}
    return {"cluster": {k: v for k, v in cluster.items() if k in names}}


def _output(argv: list[str], environ: Mapping[str, str], where: str) -> str:
    try:
        ended = subprocess.run(
            argv,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"{where} took more than {TIMEOUT:g} s; run it by hand to see what it "
            "waits for: perhaps for somebody to log in"
        ) from None
    except OSError as e:
        raise ClusterError(f"{where} cannot be run: {e.strerror}") from e
    if ended.returncode:
        said = ended.stderr.strip()[-_SHOWN:] or "nothing on its standard error"
        raise ClusterError(
            f"{where} failed with exit code {ended.returncode}; it said: {said}"
        )
    return ended.stdout


def _credential(output: str, where: str) -> Credential:
    # What it printed may be a secret: no error shows it.
    try:
        answer = json.loads(output)
    except ValueError:
        raise ClusterError(
            f"{where} printed {len(output)} characters that are not JSON; it has to "
            "print an ExecCredential and nothing else"
        ) from None
    status = answer.get("status") if isinstance(answer, dict) else None
    status = status if isinstance(status, dict) else {}
    token = str(status.get("token") or "")
    certificate = str(status.get("clientCertificateData") or "")
    key = str(status.get("clientKeyData") or "")
    if not token and not (certificate and key):
        raise ClusterError(
            f"{where} printed JSON without status.token, and without "
            "status.clientCertificateData and clientKeyData"
        )
    expires = inf
    if stamp := status.get("expirationTimestamp"):
        try:
            expires = datetime.fromisoformat(str(stamp)).timestamp()
        except ValueError:
            raise ClusterError(
                f"{where} printed an expirationTimestamp that is no time: {stamp!r}"
            ) from None
    return Credential(token, certificate, key, expires)
