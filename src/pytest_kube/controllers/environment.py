"""The process environment while a controller runs in it: one cluster, and no other."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Clients prefer the cluster they run in, which in CI is not the one under test.
_IN_CLUSTER = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
_NO_PROXY = ("NO_PROXY", "no_proxy")
_FROZEN = "KUBE_CONFIG_DEFAULT_LOCATION"
_CLIENTS = ("kubernetes", "kubernetes.aio", "kubernetes_asyncio")


@contextlib.contextmanager
def cluster_environment(kubeconfig: Path) -> Iterator[None]:
    """Make *kubeconfig* what every Kubernetes client of this process finds.

    ``KUBECONFIG`` is set, the in-cluster variables are taken away, and so is the
    official clients' memory: they read ``KUBECONFIG`` once, at import
    (https://github.com/kubernetes-client/python/issues/2240). What is on this machine
    is reached without the proxy that the environment may name.
    """
    names = ("KUBECONFIG", *_IN_CLUSTER, *_NO_PROXY)
    before = {name: os.environ.get(name) for name in names}
    for name in _IN_CLUSTER:
        os.environ.pop(name, None)
    for name in _NO_PROXY:
        os.environ[name] = ",".join(filter(None, [before[name], "127.0.0.1,localhost"]))
    os.environ["KUBECONFIG"] = str(kubeconfig)
    _thaw(str(kubeconfig))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _thaw(before["KUBECONFIG"] or "~/.kube/config")


def _thaw(location: str) -> None:
    for client in _CLIENTS:
        for module in (f"{client}.config", f"{client}.config.kube_config"):
            loaded = sys.modules.get(module)
            if loaded is not None and hasattr(loaded, _FROZEN):
                setattr(loaded, _FROZEN, location)
