"""What exists: programs, their versions, release files and Go modules. No I/O."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from typing import NamedTuple

from pytest_kube.errors import SettingsError

KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
)
PROGRAMS = ("etcd", *KUBERNETES_PROGRAMS, "kwok", "kind")

PROGRAMS_OF = {
    "envtest": ("etcd", "kube-apiserver"),
    "existing": (),
    "kind": ("kind",),
    "kwok": (
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kwok",
    ),
}
"""What the providers of ours make their clusters of."""

DEFAULT_VERSION = "1.36.3"

NEWEST_PATCHES = {
    "1.33": "1.33.13",
    "1.34": "1.34.4",
    "1.35": "1.35.4",
    "1.36": "1.36.3",
    "1.37": "1.37.2",
}
"""The newest patch of each minor that can be downloaded and be built."""

MATRIX = tuple(NEWEST_PATCHES)[-4:]
"""The newest minor and three before it: upstream maintains three at a time, and who
runs controllers on clusters of others meets one more."""

_ETCD_VERSION = "3.6.12"
_ETCD_VERSIONS = {"1.37": "3.7.3"}
_OWN_VERSIONS = {"kwok": "0.8.0", "kind": "0.33.0"}

NODE_IMAGES = {
    version.partition("@")[0]: f"kindest/node:v{version}"
    for version in (
        "1.33.12@sha256:3f5c8443c620245e4d355cfe09e96a91ead32ceaa569d3f1ca9edf0cb2fe2ff4",
        "1.34.11@sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d",
        "1.35.8@sha256:07b2536e30b803ed61d1677a79df6115f798ce64c80f9e22f6ed45afd09323c0",
        "1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed",
        "1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5",
    )
}
"""The node images made for that kind, of which there is one for each minor version."""


class Platform(NamedTuple):
    """An operating system and an architecture, in Go's words."""

    os: str
    arch: str

    def __str__(self) -> str:
        return f"{self.os}/{self.arch}"


@dataclass(frozen=True)
class Asset:
    """A file of a release and where its checksum is written.

    Attributes:
        url: Where it is.
        checksums: Where a text, a JSON or a YAML document with its checksum is.
        algorithm: The kind of checksum.
        member: The name of the program in it, for an archive.
    """

    url: str
    checksums: str
    algorithm: str = "sha256"
    member: str = ""

    @property
    def filename(self) -> str:
        """The last part of its URL."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Recipe:
    """How a program is built.

    Attributes:
        module: The Go module it is in.
        package: Its command in there.
        minutes: How long it takes on a small machine, from nothing.
    """

    module: str
    package: str
    minutes: int


RECIPES = {
    "etcd": Recipe("go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", 1),
    "kwok": Recipe("sigs.k8s.io/kwok", "sigs.k8s.io/kwok/cmd/kwok", 2),
    "kind": Recipe("sigs.k8s.io/kind", "sigs.k8s.io/kind", 1),
} | {
    name: Recipe("k8s.io/kubernetes", f"k8s.io/kubernetes/cmd/{name}", minutes)
    for name, minutes in zip(KUBERNETES_PROGRAMS, (4, 2, 1, 1), strict=True)
}


def resolve_version(text: str) -> str:
    """Return the full Kubernetes version that *text* asks for.

    A minor version (``1.36``) means its newest known patch; ``latest`` and nothing mean
    the default; a full version stays as it is, known or not.

    Raises:
        SettingsError: It is no version, or a minor version that is not known.
    """
    asked = text.strip().removeprefix("v")
    if asked in ("", "latest"):
        return DEFAULT_VERSION
    if re.fullmatch(r"\d+\.\d+\.\d+", asked):
        return asked
    if asked in NEWEST_PATCHES:
        return NEWEST_PATCHES[asked]
    raise SettingsError(
        f"{text!r} is not a Kubernetes version that pytest-kube knows; give one of "
        f"{', '.join(NEWEST_PATCHES)}, or a full version such as {DEFAULT_VERSION}"
    )


def minor_version(version: str) -> str:
    """Return ``1.36`` of ``1.36.3``."""
    return ".".join(version.split(".")[:2])


def image_version(text: str) -> str:
    """Return what is known of a node image's version before one is looked for.

    A full version as it was asked for, else the minor: images have patches of their
    own.
    """
    version = resolve_version(text)
    is_full = version == text.strip().removeprefix("v")
    return version if is_full else minor_version(version)


def program_version(name: str, version: str) -> str:
    """Return the program's own version that goes with Kubernetes *version*."""
    if name == "etcd":
        return _ETCD_VERSIONS.get(minor_version(version), _ETCD_VERSION)
    return _OWN_VERSIONS.get(name, version)


def this_platform() -> Platform:
    """Return what this machine runs."""
    machine = platform.machine().lower()
    architectures = {"x86_64": "amd64", "aarch64": "arm64"}
    return Platform(platform.system().lower(), architectures.get(machine, machine))


def asset(name: str, version: str, on: Platform) -> Asset | None:
    """Return the release file of the program's *version*, if there may be one."""
    github = "https://github.com"
    if name == "etcd":
        folder = f"{github}/etcd-io/etcd/releases/download/v{version}"
        stem = f"etcd-v{version}-{on.os}-{on.arch}"
        suffix = "tar.gz" if on.os == "linux" else "zip"
        return Asset(f"{folder}/{stem}.{suffix}", f"{folder}/SHA256SUMS", member="etcd")
    if name == "kind":
        folder = f"{github}/kubernetes-sigs/kind/releases/download/v{version}"
        url = f"{folder}/kind-{on.os}-{on.arch}"
        return Asset(url, f"{url}.sha256sum")
    if name == "kwok":
        # No file with checksums is published, but GitHub computes one itself.
        repository = "kubernetes-sigs/kwok"
        return Asset(
            f"{github}/{repository}/releases/download/v{version}/kwok-{on.os}-{on.arch}",
            f"https://api.github.com/repos/{repository}/releases/tags/v{version}",
        )
    if on.os == "linux" or name == "kubectl":
        url = f"https://dl.k8s.io/release/v{version}/bin/{on.os}/{on.arch}/{name}"
        return Asset(url, f"{url}.sha256")
    if name == "kube-apiserver":
        # For macOS, only the archives made for envtest have one.
        tools = "kubernetes-sigs/controller-tools"
        tag = f"envtest-v{version}"
        return Asset(
            f"{github}/{tools}/releases/download/{tag}/{tag}-{on.os}-{on.arch}.tar.gz",
            f"https://raw.githubusercontent.com/{tools}/HEAD/envtest-releases.yaml",
            algorithm="sha512",
            member=name,
        )
    return None
