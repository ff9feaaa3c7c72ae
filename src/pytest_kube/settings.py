"""What one pytest run was asked to do: options, environment, ini values, profile.

Read once, at configure time, into frozen data. It starts nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pytest_kube import kubebuilder, profiles
from pytest_kube.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from pytest_kube.profiles import Profile

Artifacts = Literal["failed", "all", "none"]
Isolation = Literal["rollback", "namespace", "none"]

IDLE = 15 * 60.0
"""Seconds; the way from one edit to the next test run is rarely longer."""

DEFAULT_TIMEOUT = 10.0
"""Seconds that a wait takes at most, when neither test nor option says otherwise."""

START_TIMEOUT = 60.0
"""Seconds for each component; on an idle machine all of them need about two."""

REFUSE = ("prod", "production", "prd", "live")
"""Words in the names of clusters that tests keep away from."""


@dataclass(frozen=True)
class Settings:
    """Everything that options, environment and ini files decide.

    Attributes:
        profile: The cluster to test against.
        version: The Kubernetes version as it was asked for; may be empty.
        version_by: What asked for it, as errors name it.
        versions: All of them, where the tests are run once for each.
        timeout: Seconds that a wait takes at most by default.
        binaries: A folder with the programs, or ``None`` to look for them.
        offline: Never fetch anything.
        start_timeout: Seconds that a component has to become ready (kwok, envtest).
        existing_by: The variable that asked for an existing cluster, and so for the
            current context; else empty.
        isolation: How tests are kept apart; ``None`` for the best that the cluster can.
        reuse: Whether the cluster outlives the run, and that of an earlier one is used.
        share: Whether the workers of pytest-xdist use one cluster together.
        idle: Seconds that a cluster which outlives the run waits for the next one.
        run: What the workers of one pytest-xdist run have in common; else empty.
        artifacts: The tests whose diagnostics stay on disk.
        artifacts_dir: Where they stay.
        crds: Files and folders with CRDs, installed once per cluster.
        manifests: Files and folders, applied once per cluster.
        controller: The controller under test, or an empty string.
        service_account: Whose token it gets, ``NAMESPACE/NAME``; else it is a user of
            its own who may do everything.
        strict: Whether what is only warned of otherwise is an error.
        controller_ready: When it is ready, if it is a program; may be empty.
        refuse: What the name of an existing cluster must not have in it.
        redact: Names of environment variables whose values no artifact shows; ``*``
            stands for anything.
    """

    profile: Profile
    version: str = ""
    version_by: str = "--kube-version"
    versions: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT
    binaries: Path | None = None
    offline: bool = False
    start_timeout: float = START_TIMEOUT
    existing_by: str = ""
    isolation: Isolation | None = None
    reuse: bool = False
    share: bool = False
    idle: float = IDLE
    run: str = ""
    artifacts: Artifacts = "failed"
    artifacts_dir: Path = Path(".pytest-kube/artifacts")
    crds: tuple[Path, ...] = ()
    manifests: tuple[Path, ...] = ()
    controller: str = ""
    controller_ready: str = ""
    service_account: str = ""
    strict: bool = False
    refuse: tuple[str, ...] = REFUSE
    redact: tuple[str, ...] = ()

    def redacted_values(self, environ: Mapping[str, str]) -> list[str]:
        """Return the values that no artifact shows; what is not set has none."""
        return [
            value
            for name, value in environ.items()
            if any(fnmatchcase(name, pattern) for pattern in self.redact)
        ]


def read(config: pytest.Config) -> Settings:
    """Read all settings of a run that asked for a cluster.

    Raises:
        SettingsError: A value is wrong; the text names it and what is allowed.
    """
    root = config.rootpath
    profile = profiles.find(_text(config, "kube") or "", root / "clusters")
    if context := _text(config, "kube_context"):
        profile = replace(profile, context=context)
    if kubeconfig := _text(config, "kube_config"):
        profile = replace(profile, kubeconfig=kubeconfig)
    if _text(config, "kube_allow_writes") is not None:
        profile = replace(profile, allow_writes=_flag(config, "kube_allow_writes"))
    environ, existing_by, version_by = os.environ, "", ""
    is_envtest = profile.provider == "envtest"
    if is_envtest and kubebuilder.uses_existing(environ):
        existing_by = f"{kubebuilder.USE_EXISTING}=true"
        name = "existing" if profile.name == "envtest" else profile.name
        profile = replace(profile, name=name, provider="existing")
    versions = _versions(config, profile)
    if is_envtest and versions == ("",):
        version, version_by = kubebuilder.kubernetes_version(environ)
        versions = (version,)
    binaries = _text(config, "kube_binaries") or "auto"
    reuse, share = _flag(config, "kube_reuse"), _flag(config, "kube_share")
    isolation = _choice(config, "kube_isolation", get_args(Isolation))
    if reuse and share:
        raise SettingsError(
            "--kube-reuse and --kube-share: one of them; with pytest-xdist, "
            "--kube-reuse gives each worker a cluster of its own that outlives the run"
        )
    if share and isolation == "rollback":
        raise SettingsError(
            "--kube-share and --kube-isolation=rollback: a rollback would undo what "
            "other workers do; a shared cluster has a namespace for each test"
        )
    return Settings(
        profile=profile,
        version=versions[0],
        version_by=version_by or "--kube-version",
        versions=versions if len(versions) > 1 else (),
        timeout=_seconds(_text(config, "kube_timeout")),
        binaries=None if binaries == "auto" else _folder(root, binaries),
        offline=_flag(config, "kube_offline")
        or (is_envtest and kubebuilder.is_installed_only(environ)),
        start_timeout=kubebuilder.start_timeout(environ) or START_TIMEOUT,
        existing_by=existing_by,
        isolation=isolation,
        reuse=reuse,
        share=share,
        run=os.environ.get("PYTEST_XDIST_TESTRUNUID", ""),
        artifacts=_choice(config, "kube_artifacts", get_args(Artifacts)) or "failed",
        artifacts_dir=root
        / (_text(config, "kube_artifacts_dir") or ".pytest-kube/artifacts"),
        crds=_paths(config, "kube_crds"),
        manifests=_paths(config, "kube_manifests"),
        controller=str(config.getini("kube_controller") or ""),
        service_account=str(config.getini("kube_service_account") or ""),
        strict=bool(config.getini("kube_strict")),
        controller_ready=str(config.getini("kube_controller_ready") or ""),
        refuse=tuple(config.getini("kube_refuse")),
        redact=_variables(config, "kube_redact"),
    )


def _text(config: pytest.Config, name: str) -> str | None:
    """Look on the command line, in the environment, in the ini file, in this order."""
    value = config.getoption(name, default=None)
    if value is None:
        value = os.environ.get(f"PYTEST_{name.upper()}")
    if value is None:
        value = config.getini(name) or None
    return None if value is None else str(value)


def _versions(config: pytest.Config, profile: Profile) -> tuple[str, ...]:
    """Return the versions that the tests run on, one after the other."""
    asked = _text(config, "kube_version")
    listed = tuple(config.getini("kube_versions"))
    if asked is None and not listed:
        return (profile.version,)
    found = [v.strip() for v in asked.split(",")] if asked is not None else [*listed]
    option = "kube_versions" if asked is None else f"--kube-version={asked}"
    if len(found) > 1 and not all(found):
        raise SettingsError(f"{option}: there is a version missing between commas")
    if len(found) > 1 and profile.provider == "existing":
        raise SettingsError(
            f"{option}: an existing cluster has one version; several are for clusters "
            "that are made for the tests"
        )
    return tuple(dict.fromkeys(found))


def _choice(config: pytest.Config, name: str, allowed: tuple[str, ...]) -> Any:
    value = _text(config, name)
    if value is not None and value not in allowed:
        option = f"--{name.replace('_', '-')}"
        raise SettingsError(f"{option}={value}: allowed are {', '.join(allowed)}")
    return value


def _seconds(text: str | None) -> float:
    if text is None:
        return DEFAULT_TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingsError(
            f"--kube-timeout={text}: expected seconds above 0, for example 10 or 2.5"
        )
    return seconds


def _flag(config: pytest.Config, name: str) -> bool:
    text = _text(config, name)
    value = (text or "no").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise SettingsError(f"{name} = {text}: expected true or false")


def _folder(root: Path, text: str) -> Path:
    folder = root / Path(text).expanduser()
    if not folder.is_dir():
        raise SettingsError(
            f"--kube-binaries={text}: no such folder ({folder}); give the folder that "
            "holds kube-apiserver, etcd and the others, or auto"
        )
    return folder


def _variables(config: pytest.Config, name: str) -> tuple[str, ...]:
    names = tuple(config.getini(name))
    for each in names:
        if not each or "=" in each or any(map(str.isspace, each)):
            raise SettingsError(
                f"{name} in {config.inipath}: {each!r} is no name of an environment "
                "variable; give names, not values: TOKEN, AWS_*"
            )
    return names


def _paths(config: pytest.Config, name: str) -> tuple[Path, ...]:
    base = config.inipath.parent if config.inipath else config.rootpath
    paths = tuple(base / p for p in config.getini(name))
    for path in paths:
        if not path.exists():
            raise SettingsError(
                f"{name} in {config.inipath}: {path} does not exist; paths are "
                "relative to that file"
            )
    return paths
