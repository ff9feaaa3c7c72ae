"""Test Kubernetes controllers against a real control plane."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kube.cluster import Cluster as Cluster
    from pytest_kube.conditions import Condition as Condition
    from pytest_kube.conditions import condition as condition
    from pytest_kube.conditions import deleted as deleted
    from pytest_kube.conditions import exists as exists
    from pytest_kube.conditions import failed as failed
    from pytest_kube.conditions import field as field
    from pytest_kube.conditions import jsonpath as jsonpath
    from pytest_kube.conditions import observed as observed
    from pytest_kube.conditions import phase as phase
    from pytest_kube.conditions import ready as ready
    from pytest_kube.controllers.outcomes import Outcome as Outcome
    from pytest_kube.controllers.runner import Controller as Controller
    from pytest_kube.errors import APIError as APIError
    from pytest_kube.errors import ArchiveError as ArchiveError
    from pytest_kube.errors import BinaryError as BinaryError
    from pytest_kube.errors import ClusterError as ClusterError
    from pytest_kube.errors import ComponentExitedError as ComponentExitedError
    from pytest_kube.errors import ComponentNotReadyError as ComponentNotReadyError
    from pytest_kube.errors import ConflictError as ConflictError
    from pytest_kube.errors import ControllerError as ControllerError
    from pytest_kube.errors import ControllerExitedError as ControllerExitedError
    from pytest_kube.errors import ControllerNotReadyError as ControllerNotReadyError
    from pytest_kube.errors import ExecError as ExecError
    from pytest_kube.errors import HistoryError as HistoryError
    from pytest_kube.errors import KubeError as KubeError
    from pytest_kube.errors import KubeWarning as KubeWarning
    from pytest_kube.errors import ManifestError as ManifestError
    from pytest_kube.errors import NotFoundError as NotFoundError
    from pytest_kube.errors import NotRejectedError as NotRejectedError
    from pytest_kube.errors import SettingsError as SettingsError
    from pytest_kube.errors import UnknownResourceError as UnknownResourceError
    from pytest_kube.errors import WaitFailedError as WaitFailedError
    from pytest_kube.errors import WaitTimeoutError as WaitTimeoutError
    from pytest_kube.history import History as History
    from pytest_kube.history import Version as Version
    from pytest_kube.kube import Kube as Kube
    from pytest_kube.objects import Object as Object
    from pytest_kube.pods import Node as Node
    from pytest_kube.rbac import RBACReport as RBACReport

# Resolved at first use: importing this package must stay free of cost, for every
# pytest run of everybody who has it installed imports it.
_HOME = {
    "APIError": "errors",
    "ArchiveError": "errors",
    "BinaryError": "errors",
    "Cluster": "cluster",
    "ClusterError": "errors",
    "ComponentExitedError": "errors",
    "ComponentNotReadyError": "errors",
    "Condition": "conditions",
    "ConflictError": "errors",
    "Controller": "controllers.runner",
    "ControllerError": "errors",
    "ControllerExitedError": "errors",
    "ControllerNotReadyError": "errors",
    "ExecError": "errors",
    "History": "history",
    "HistoryError": "errors",
    "Kube": "kube",
    "KubeError": "errors",
    "KubeWarning": "errors",
    "ManifestError": "errors",
    "Node": "pods",
    "NotFoundError": "errors",
    "NotRejectedError": "errors",
    "Object": "objects",
    "Outcome": "controllers.outcomes",
    "RBACReport": "rbac",
    "SettingsError": "errors",
    "UnknownResourceError": "errors",
    "Version": "history",
    "WaitFailedError": "errors",
    "WaitTimeoutError": "errors",
    "condition": "conditions",
    "deleted": "conditions",
    "exists": "conditions",
    "failed": "conditions",
    "field": "conditions",
    "jsonpath": "conditions",
    "observed": "conditions",
    "phase": "conditions",
    "ready": "conditions",
}

__all__ = list(_HOME)

if not TYPE_CHECKING:  # else every name would seem to be one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
