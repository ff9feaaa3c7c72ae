"""What envtest, setup-envtest and Kubebuilder's Makefile say by environment variables.

Where programs are, KUBEBUILDER_ASSETS and TEST_ASSET_*, is for ``binaries.store``.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_kube.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

USE_EXISTING = "USE_EXISTING_CLUSTER"
START_TIMEOUT = "KUBEBUILDER_CONTROLPLANE_START_TIMEOUT"
VERSION = "ENVTEST_K8S_VERSION"
INSTALLED_ONLY = "ENVTEST_INSTALLED_ONLY"
ASSETS = "KUBEBUILDER_ASSETS"

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,  # Go takes both of the letters that look like this
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = rf"(\d+\.?\d*|\.\d+)({'|'.join(_UNITS)})"


def uses_existing(environ: Mapping[str, str]) -> bool:
    """Tell whether tests are to run against the cluster of the current context."""
    return environ.get(USE_EXISTING, "").lower() == "true"


def is_installed_only(environ: Mapping[str, str]) -> bool:
    """Tell whether setup-envtest would download nothing: any value says so."""
    return bool(environ.get(INSTALLED_ONLY))


def kubernetes_version(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the Kubernetes version, and the variable that says it; or nothing.

    Where the programs are named, they decide: setup-envtest writes their version into
    the name of their folder.

    Raises:
        SettingsError: It is a range, which only setup-envtest can look up.
    """
    if assets := environ.get(ASSETS):
        named = re.fullmatch(r"(\d+\.\d+\.\d+)-\w+-\w+", PurePath(assets).name)
        return (named[1], f"{ASSETS}={assets}") if named else ("", "")
    text = environ.get(VERSION, "")
    if not text:
        return "", ""
    # 1.36.x is a minor version, too; an exclamation mark asks for the newest one.
    asked = re.sub(r"\.[x*]$", "", text.removesuffix("!"))
    if asked != "latest" and not re.fullmatch(r"v?\d+\.\d+(\.\d+)?", asked):
        raise SettingsError(
            f"{VERSION}={text}: give a version, such as 1.36 or 1.36.3; or let "
            f"setup-envtest choose, and point {ASSETS} at what it prints; or name "
            "one by --kube-version"
        )
    return asked, f"{VERSION}={text}"


def start_timeout(environ: Mapping[str, str]) -> float | None:
    """Return the seconds that a component of a control plane has to become ready.

    Raises:
        SettingsError: It is no duration.
    """
    text = environ.get(START_TIMEOUT, "")
    if text in ("", "0"):  # for envtest, too, both are its default
        return None
    if not re.fullmatch(f"({_PART})+", text):
        raise SettingsError(
            f"{START_TIMEOUT}={text}: no duration as Go writes it; give numbers with "
            "units, such as 60s, 1m30s or 500ms"
        )
    seconds = sum(float(n) * _UNITS[unit] for n, unit in re.findall(_PART, text))
    return seconds or None
