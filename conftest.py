"""What the tests of pytest-kube itself need: the binaries, before the first test."""

from __future__ import annotations

import os

import pytest

from pytest_kube.binaries.releases import DEFAULT_VERSION
from pytest_kube.binaries.store import Store, cache_folder

pytest_plugins = ["pytester"]

# Tests with a home folder of their own still use the binaries of this one.
os.environ.setdefault("PYTEST_KUBE_CACHE", str(cache_folder(os.environ)))

PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "kwok",
)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch the binaries outside of any test, for fetching has no 120 s limit.

    Who names a version has fetched what the tests that they select need of it.
    """
    real = ("acceptance", "clusters", "examples")
    if (
        session.config.option.collectonly
        or "PYTEST_KUBE_VERSION" in os.environ
        or not any(set(item.path.parts) & set(real) for item in session.items)
    ):
        return
    capture = session.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        Store(DEFAULT_VERSION).require(*PROGRAMS)
