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
    """Return the context that was named; the current one if a variable asks for it.

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
    name = profile.context
    given = f"--kube-context={name}"
    if not name and settings.existing_by:
        name = _current(profile.kubeconfig, settings.existing_by)
        given = f"{settings.existing_by}, context {name}"
    if not name:
        raise SettingsError(
            "--kube=existing needs --kube-context=NAME: tests create and delete "
            "objects, so the cluster has to be named"
        )
    if name == IN_CLUSTER:
        context = _in_cluster(os.environ)
    else:
        sources = _sources(profile.kubeconfig)
        words = ["kubectl"]
        words += [f"--kubeconfig={sources[0]}"] if profile.kubeconfig else []
        words += [f"--context={name}"]
        config = kubeconfig.narrow(sources, name)
        context = Context(name, config, shlex.join(words))
    if not context.server:
        raise SettingsError(f"context {context.name}: its cluster has no server")
    _check(context, settings.refuse, given)
    return context


def names(file: str) -> tuple[list[Path], list[str]]:
    """Return the kubeconfig files, and the contexts that they have.

    Args:
        file: The only one, or empty for those that kubectl finds.

    Raises:
        SettingsError: There is no kubeconfig.
        ClusterError: One cannot be read.
    """
    sources = _sources(file)
    return sources, kubeconfig.context_names(sources)


def _current(file: str, asked_by: str) -> str:
    """Return the context that envtest takes: that of a pod in one, or the current one.

    Raises:
        SettingsError: There is none.
    """
    if not file and not os.environ.get("KUBECONFIG") and _is_pod(os.environ):
        return IN_CLUSTER
    sources = _sources(file)
    if name := kubeconfig.current_context(sources):
        return name
    raise SettingsError(
        f"{asked_by}: kubeconfig {os.pathsep.join(map(str, sources))} has no current "
        "context; kubectl config use-context NAME sets one, --kube-context=NAME names "
        "one for this run"
    )


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


def _is_pod(environ: Mapping[str, str]) -> bool:
    names = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
    return all(environ.get(n) for n in names) and (SERVICE_ACCOUNT / "token").is_file()


def _in_cluster(environ: Mapping[str, str]) -> Context:
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "")
    token = SERVICE_ACCOUNT / "token"
    if not _is_pod(environ):
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


def _check(context: Context, refuse: Sequence[str], given: str) -> None:
    """Keep tests away from clusters whose names say what they are.

    Args:
        context: The cluster.
        refuse: The patterns of names to keep away from.
        given: What named it, as the error says it.

    Raises:
        SettingsError: A pattern matches; the text says which, and how to go on.
    """
    for what, name in context.names():
        for pattern in refuse:
            if any(fnmatchcase(word, pattern.lower()) for word in _words(name)):
                others = [p for p in refuse if p != pattern]
                raise SettingsError(
                    f"{given}: tests keep away from it, for "
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
