"""Kubernetes objects as the handle gives them: dictionaries, and nothing clever."""

from __future__ import annotations

from typing import Any


class Object(dict[str, Any]):
    """A Kubernetes object: the dictionary the API server sent, and four shortcuts."""

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return str(self["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        """``metadata.namespace``, or ``None`` for a cluster-scoped object."""
        namespace: str | None = self["metadata"].get("namespace")
        return namespace

    @property
    def uid(self) -> str:
        """``metadata.uid``."""
        return str(self["metadata"]["uid"])

    @property
    def kind(self) -> str:
        """``kind``."""
        return str(self["kind"])
