"""existing: a cluster that somebody else created, named by context, left as it was."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kube import kubeconfig
from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store
from pytest_kube.client import Client
from pytest_kube.cluster import Cluster
from pytest_kube.errors import SettingsError, hide_frames
from pytest_kube.system.processes import Guardian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_kube.profiles import Profile
    from pytest_kube.settings import Settings

__tracebackhide__ = hide_frames


@contextlib.contextmanager
def create(
    profile: Profile,
    settings: Settings,
    report: Callable[[str], None],
) -> Iterator[Cluster]:
    """Use the cluster of a kubeconfig's context; the current one is never assumed.

    Raises:
        SettingsError: No context was named.
        ClusterError: The kubeconfig or the context is missing, or the API server does
            not answer.
    """
    if settings.reuse or settings.share:
        raise SettingsError(
            "--kube-reuse and --kube-share are for clusters of kwok and envtest; an "
            "existing one is there before and after every run anyway"
        )
    if not profile.context:
        raise SettingsError(
            "--kube=existing needs --kube-context=NAME: tests create and delete "
            "objects, so the cluster has to be named"
        )
    default = os.environ.get("KUBECONFIG") or "~/.kube/config"
    source = Path(profile.kubeconfig or default.split(os.pathsep)[0]).expanduser()
    with Guardian() as guardian:
        # A file of its own: in the user's, another context may be the current one.
        path = guardian.directory / "kubeconfig"
        kubeconfig.select(source, profile.context, path)
        client = Client.from_kubeconfig(path)
        # kubectl speaks to servers of neighbouring versions.
        store = Store(
            DEFAULT_VERSION,
            explicit=settings.binaries,
            offline=settings.offline,
            report=report,
        )
        report(f"using the existing cluster {profile.context} at {client.server}")

        def identity(user: str, groups: Sequence[str] = ()) -> Path:  # noqa: ARG001
            return path  # its certificates are not ours to sign

        yield Cluster(
            provider="existing",
            version=client.version(),
            client=client,
            guardian=guardian,
            capabilities=frozenset({"nodes", "pods", "controllers"}),
            kubectl=lambda: store.require("kubectl")["kubectl"],
            identity=identity,
            single_apiserver=False,
        )
