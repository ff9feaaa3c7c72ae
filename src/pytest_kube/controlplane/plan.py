"""Which control plane to run: programs, flags, and what it starts with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kube.settings import START_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_kube.profiles import Profile


@dataclass(frozen=True)
class Plan:
    """Which control plane to run.

    Attributes:
        profile: Nodes, feature gates, extra arguments.
        version: The Kubernetes version of the binaries.
        binaries: Program name to path.
        nodes: Whether controller-manager, scheduler and kwok run too.
        crds: Files and folders with CRDs that it starts with.
        manifests: Files and folders with what else it starts with.
        start_timeout: Seconds that each component has to become ready.
    """

    profile: Profile
    version: str
    binaries: Mapping[str, Path]
    nodes: bool
    crds: tuple[Path, ...] = ()
    manifests: tuple[Path, ...] = ()
    start_timeout: float = START_TIMEOUT

    @property
    def described(self) -> tuple[object, ...]:
        """What planes have to have in common to be alike: programs and flags."""
        profile = self.profile
        programs = sorted(
            (n, p.stat().st_size, p.stat().st_mtime) for n, p in self.binaries.items()
        )
        return (
            self.version,
            programs,
            profile.nodes if self.nodes else (),
            profile.feature_gates,
            profile.runtime_config,
            profile.extra_args,
        )

    @property
    def content(self) -> str:
        """A digest of the files that the plane starts with; empty for none."""
        if not self.crds and not self.manifests:
            return ""
        from pytest_kube import manifests

        digest = hashlib.sha256()
        for path in (*self.crds, None, *self.manifests):
            for file in manifests.files(path) if path else ():
                digest.update(repr((file.name, file.read_bytes())).encode())
            digest.update(b"\0")
        return digest.hexdigest()
