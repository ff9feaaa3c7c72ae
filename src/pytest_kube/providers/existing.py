"""existing: a cluster that somebody else created, named by context, left as it was."""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pytest_kube import contexts, kubeconfig
from pytest_kube.belongings import MADE_AT, RUN, Belongings
from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store
from pytest_kube.client import UNAUTHORIZED, Client
from pytest_kube.cluster import Cluster
from pytest_kube.errors import APIError, ClusterError, hide_frames
from pytest_kube.system.processes import Guardian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_kube.contexts import Context
    from pytest_kube.profiles import Profile
    from pytest_kube.settings import Settings

__tracebackhide__ = hide_frames

FIRST_TIMEOUT = 10.0
"""Seconds for the first answers: who waits longer has no way to the server."""

_STAMP = "%Y-%m-%dT%H-%M-%SZ"  # labels have no colons
_LONG_AGO = timedelta(hours=1)
_CAPABILITIES = frozenset({"nodes", "pods", "controllers"})


@contextlib.contextmanager
def create(
    profile: Profile, settings: Settings, report: Callable[[str], None]
) -> Iterator[Cluster]:
    """Use the cluster of a kubeconfig's context, and remove what was made there.

    Raises:
        SettingsError: No context was named, or one that tests keep away from.
        ClusterError: The kubeconfig or the context is missing, or the API server does
            not answer.
    """
    context = contexts.chosen(settings)
    with Guardian() as guardian:
        # A file of its own: in the user's, another context may be the current one.
        path = guardian.directory / "kubeconfig"
        kubeconfig.save(path, context.config)
        read_only = "" if profile.allow_writes else _read_only(context)
        client = Client.from_kubeconfig(path, read_only=read_only)
        user, version = first_answers(client, context)
        report(
            f"using the existing cluster {context.name} at {client.server} as {user}"
        )
        # kubectl speaks to servers of neighbouring versions.
        store = Store(
            DEFAULT_VERSION,
            explicit=settings.binaries,
            offline=settings.offline,
            report=report,
        )
        now = datetime.now(UTC)
        run = settings.run or secrets.token_hex(8)
        labels = {RUN: run, MADE_AT: now.strftime(_STAMP)}
        _tell_of_earlier(client, context, now - _LONG_AGO, report)
        belongings = Belongings(client, labels, replace_crds=profile.replace_crds)

        def identity(user: str, groups: Sequence[str] = ()) -> Path:  # noqa: ARG001
            return path  # its certificates are not ours to sign

        try:
            yield Cluster(
                provider="existing",
                version=version,
                client=client,
                guardian=guardian,
                capabilities=_CAPABILITIES,
                kubectl=lambda: store.require("kubectl")["kubectl"],
                identity=identity,
                single_apiserver=False,
                namespace=context.namespace,
                belongings=belongings,
            )
        finally:
            belongings.remove()


def _read_only(context: Context) -> str:
    return (
        f"the cluster of context {context.name} ({context.server}) is only read, until "
        "writes are allowed: by --kube-allow-writes, PYTEST_KUBE_ALLOW_WRITES=true, "
        "kube_allow_writes = true in the ini file, or allowWrites: true in a profile"
    )


def _tell_of_earlier(
    client: Client, context: Context, since: datetime, report: Callable[[str], None]
) -> None:
    """Tell of namespaces that no run can be working in any more."""
    try:
        found = client.list("/api/v1/namespaces", labels=f"{RUN},{MADE_AT}").items
    except APIError:
        return  # this user may not look
    old = [
        labels[RUN]
        for labels in (namespace["metadata"]["labels"] for namespace in found)
        if labels[MADE_AT] < since.strftime(_STAMP)
    ]
    if old:
        runs = ",".join(sorted(set(old)))
        report(
            f"earlier runs have left {len(old)} namespace(s): {context.kubectl} delete "
            f"namespaces -l '{RUN} in ({runs})'"
        )


def first_answers(client: Client, context: Context) -> tuple[str, str]:
    """Return as whom we are known, and the version of the server.

    Raises:
        ClusterError: There is no answer, or none for us.
    """
    review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    user = context.user
    try:
        try:
            known = client.request("POST", review, body=body, timeout=FIRST_TIMEOUT)
            user = str(known["status"]["userInfo"]["username"])
        except APIError as e:
            if e.status == UNAUTHORIZED:
                raise
            # Kubernetes before 1.28, or a user who may not even ask that.
        return user, client.version(timeout=FIRST_TIMEOUT)
    except APIError as e:
        what = "not known" if e.status == UNAUTHORIZED else "refused"
        raise ClusterError(
            f"{context}: the user is {what}: {e}\n  Log in again, or name another "
            f"context; {context.kubectl} auth whoami tells the same"
        ) from e
    except ClusterError as e:
        raise ClusterError(
            f"{context}: it cannot be reached: {e}\n  Is it running, and is there a "
            "way to it: a VPN, a proxy (proxy-url in the kubeconfig, HTTPS_PROXY)?"
        ) from e
