"""The process environment while a controller runs in it: one cluster, and no other."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Clients prefer the cluster they run in, which in CI is not the one under test.
_IN_CLUSTER = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
_NO_PROXY = ("NO_PROXY", "no_proxy")
_FROZEN = "KUBE_CONFIG_DEFAULT_LOCATION"
_DEFAULT = "_default"
_CLIENTS = ("kubernetes", "kubernetes.aio", "kubernetes_asyncio")


@contextlib.contextmanager
def cluster_environment(kubeconfig: Path) -> Iterator[None]:
    """Make *kubeconfig* what every Kubernetes client of this process finds.

    ``KUBECONFIG`` is set, the in-cluster variables are taken away, and so is the
    clients' memory: the official ones read ``KUBECONFIG`` once, at import
    (https://github.com/kubernetes-client/python/issues/2240), and keep a configuration
    for everybody; kr8s keeps its connections by thread. Whoever was configured for
    another cluster before finds none, rather than that one. What is on this machine is
    reached without the proxy that the environment may name.
    """
    names = ("KUBECONFIG", *_IN_CLUSTER, *_NO_PROXY)
    before = {name: os.environ.get(name) for name in names}
    for name in _IN_CLUSTER:
        os.environ.pop(name, None)
    for name in _NO_PROXY:
        os.environ[name] = ",".join(filter(None, [before[name], "127.0.0.1,localhost"]))
    os.environ["KUBECONFIG"] = str(kubeconfig)
    _thaw(str(kubeconfig))
    defaults = _forget_defaults()
    try:
        yield
    finally:
        for configuration, default in defaults.items():
            setattr(configuration, _DEFAULT, default)
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


def _forget_defaults() -> dict[type, Any]:
    """Take away what clients would use without asking; return what that was."""
    if kr8s := sys.modules.get("kr8s._api"):
        kr8s.Api._instances.clear()  # noqa: SLF001  # it has no other way
    found: dict[type, Any] = {}
    for client in _CLIENTS:
        module = sys.modules.get(f"{client}.client.configuration")
        configuration: Any = getattr(module, "Configuration", None)
        if getattr(configuration, _DEFAULT, None) is not None:
            found[configuration] = getattr(configuration, _DEFAULT)
            setattr(configuration, _DEFAULT, None)
    return found
