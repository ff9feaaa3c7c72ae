"""Somebody's cluster, named by a context: where it is, and whether tests may use it."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_kube import kubeconfig
from pytest_kube.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_kube.settings import Settings

IN_CLUSTER = "in-cluster"
"""The context of a pod: its ServiceAccount, in the cluster that it runs in."""

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Context:
    """A context of somebody's kubeconfig.

    Attributes:
        name: The context.
        config: A kubeconfig that has it, and nothing else.
        kubectl: How kubectl is made to use it.
    """

    name: str
    config: Mapping[str, Any]
    kubectl: str

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self.config["clusters"][0]["cluster"].get("server") or "")

    @property
    def user(self) -> str:
        """What the kubeconfig calls the user."""
        return str(self.config["users"][0]["name"])

    @property
    def namespace(self) -> str:
        """The namespace of the context."""
        context = self.config["contexts"][0]["context"]
        return str(context.get("namespace") or "default")

    def __str__(self) -> str:
        return f"context {self.name}: {self.server} as {self.user}"

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield what people name a cluster by: what it is, and the name."""
        yield "context", self.name
        yield "cluster", str(self.config["clusters"][0]["name"])
        yield "server", urlsplit(self.server).hostname or ""


def chosen(settings: Settings) -> Context:
    """Return the context that was named; the current one is never assumed.

    Raises:
        SettingsError: None was named, or one that tests are to keep away from, or a
            setting that goes with clusters of ours only.
        ClusterError: There is no such context, or its kubeconfig is wrong.
    """
    if settings.reuse or settings.share:
        raise SettingsError(
            "--kube-reuse and --kube-share are for clusters of kwok, envtest and kind; "
            "an existing one is there before and after every run anyway"
        )
    profile = settings.profile
    if not profile.context:
        raise SettingsError(
            "--kube=existing needs --kube-context=NAME: tests create and delete "
            "objects, so the cluster has to be named"
        )
    if profile.context == IN_CLUSTER:
        context = _in_cluster(os.environ)
    else:
        sources = _sources(profile.kubeconfig)
        words = ["kubectl"]
        words += [f"--kubeconfig={sources[0]}"] if profile.kubeconfig else []
        words += [f"--context={profile.context}"]
        config = kubeconfig.narrow(sources, profile.context)
        context = Context(profile.context, config, shlex.join(words))
    if not context.server:
        raise SettingsError(f"context {context.name}: its cluster has no server")
    _check(context, settings.refuse)
    return context


def _sources(file: str) -> list[Path]:
    """Return the kubeconfig files, as kubectl finds them."""
    if file:
        return [Path(file).expanduser()]
    listed = os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [Path(p).expanduser() for p in listed.split(os.pathsep) if p]
    if found := [path for path in paths if path.exists()]:
        return found
    raise SettingsError(
        f"--kube=existing: there is no kubeconfig {' nor '.join(map(str, paths))}; "
        "give one by --kube-config=FILE or KUBECONFIG; in a pod, take "
        f"--kube-context={IN_CLUSTER}"
    )


def _in_cluster(environ: Mapping[str, str]) -> Context:
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "")
    token = SERVICE_ACCOUNT / "token"
    if not (host and port and token.is_file()):
        raise SettingsError(
            f"--kube-context={IN_CLUSTER} is for pods: there, KUBERNETES_SERVICE_HOST "
            f"and KUBERNETES_SERVICE_PORT are set, and {token} exists"
        )
    named = SERVICE_ACCOUNT / "namespace"
    namespace = named.read_text("utf-8").strip() if named.is_file() else "default"
    cluster = {
        "server": f"https://{f'[{host}]' if ':' in host else host}:{port}",
        "certificate-authority": str(SERVICE_ACCOUNT / "ca.crt"),
    }
    details = {"cluster": IN_CLUSTER, "user": IN_CLUSTER, "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": IN_CLUSTER,
        "clusters": [{"name": IN_CLUSTER, "cluster": cluster}],
        "users": [{"name": IN_CLUSTER, "user": {"tokenFile": str(token)}}],
        "contexts": [{"name": IN_CLUSTER, "context": details}],
    }
    return Context(IN_CLUSTER, config, "kubectl")


def _check(context: Context, refuse: Sequence[str]) -> None:
    """Keep tests away from clusters whose names say what they are.

    Raises:
        SettingsError: A pattern matches; the text says which, and how to go on.
    """
    for what, name in context.names():
        for pattern in refuse:
            if any(fnmatchcase(word, pattern.lower()) for word in _words(name)):
                others = [p for p in refuse if p != pattern]
                raise SettingsError(
                    f"--kube-context={context.name}: tests keep away from it, for "
                    f"{pattern!r} of kube_refuse matches the name of its {what}, "
                    f"{name}\n  server {context.server}\n  If it is the right one, "
                    f"leave the pattern out: kube_refuse = {others} in the ini file"
                )


def _words(name: str) -> Iterator[str]:
    """Yield a name and the words in it; ``non-prod`` is one, and so is ``prod``1."""
    lower = re.sub(r"\b(non|pre)[-_.]", r"\1", name.lower().replace("_", "-"))
    yield name.lower()
    for word in re.split(r"[^a-z0-9]+", lower):
        yield word
        yield word.rstrip("0123456789")
