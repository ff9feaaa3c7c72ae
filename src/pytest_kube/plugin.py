"""The pytest side: options and hooks, one line each into the session.

Every pytest run of everybody who has pytest-kube installed imports this module: it
imports pytest and the standard library only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.fixtures import (  # noqa: F401  # registered by being here
    LENDING,
    SESSION,
    asked_for,
    check_markers,
    compared,
    first_version,
    kube,
    kube_client,
    kube_cluster,
    kube_controller,
    kube_module,
    kube_namespace,
    kube_session,
    kube_version,
    need_cluster,
    run_controller,
    summary,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_kube.failures import Failures

FAILURES: pytest.StashKey[Failures] = pytest.StashKey()

MARKER = (
    "kube(crds=[...], manifests=[...], controller='...', ready='...', "
    "service_account='...', isolation='...', version='>=1.36'): "
    "what the test needs of its cluster, beyond the ini values kube_crds and so on"
)

FLAGS = {
    "--kube-offline": "Never download or build anything.",
    "--kube-reuse": (
        "Leave the cluster running for the next run, and use that of an earlier one, "
        "rolled back (kwok, envtest). It ends by itself after 15 minutes without use; "
        "see pytest-kube status."
    ),
    "--kube-share": (
        "One cluster for all workers of pytest-xdist, with a namespace for each test, "
        "instead of a cluster for each worker (kwok, envtest)."
    ),
    "--kube-allow-writes": (
        "Let tests write to the cluster of --kube=existing; without it they read, in "
        "the namespace of the context."
    ),
}

OPTIONS = {
    "--kube-version": (
        "V",
        (
            "Kubernetes version of the cluster: 1.36 (the newest known patch) or "
            "1.36.3; with several, 1.34,1.36, each test runs once on each."
        ),
    ),
    "--kube-timeout": ("SECONDS", "How long a wait takes at most (default: 10)."),
    "--kube-binaries": (
        "auto|PATH",
        "Folder with kube-apiserver, etcd and so on (default: auto, find them).",
    ),
    "--kube-isolation": (
        "rollback|namespace|none",
        (
            "How tests are kept apart (default: rollback of the whole cluster on kwok, "
            "envtest and kind, a namespace for each test on others)."
        ),
    ),
    "--kube-artifacts": (
        "failed|all|none",
        "The tests whose diagnostics are kept as files (default: failed).",
    ),
    "--kube-artifacts-dir": (
        "DIR",
        "Where they are kept (default: .pytest-kube/artifacts).",
    ),
    "--kube-context": (
        "NAME",
        "The kubeconfig context that --kube=existing uses; in-cluster in a pod.",
    ),
    "--kube-config": ("FILE", "The kubeconfig file that --kube=existing uses."),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each with an ini value of the same name."""
    group = parser.getgroup("kube", "tests against Kubernetes clusters")
    group.addoption(
        "--kube",
        metavar="NAME",
        default=None,
        help="Run the tests that need a cluster, on this one: a profile "
        "(clusters/NAME.yaml) or a provider (kwok, envtest, kind, existing).",
    )
    for option, text in FLAGS.items():
        group.addoption(
            option, action="store_const", const="true", default=None, help=text
        )
    for option, (metavar, text) in OPTIONS.items():
        group.addoption(option, metavar=metavar, default=None, help=text)
    for option in ("--kube", *FLAGS, *OPTIONS):
        name = option.removeprefix("--").replace("-", "_")
        parser.addini(name, f"Same as {option}.", default=None)
    parser.addini(
        "kube_versions",
        "Kubernetes versions to test on, one after the other, where --kube-version "
        "does not say otherwise.",
        type="args",
    )
    parser.addini(
        "kube_crds",
        "Files and folders with CRDs, installed once per cluster, before any test.",
        type="args",
    )
    parser.addini(
        "kube_manifests",
        "Files and folders with manifests, applied once per cluster.",
        type="args",
    )
    parser.addini(
        "kube_controller",
        "The controller under test: kopf:FILE.py, kopf:package.module, "
        "package.module:callable, package.module:registry, or exec:PROGRAM ARGUMENTS.",
        default="",
    )
    parser.addini(
        "kube_service_account",
        "NAMESPACE/NAME of the ServiceAccount that controllers run as, with its roles; "
        "without it each is a user who may do everything.",
        default="",
    )
    parser.addini(
        "kube_strict",
        "Fail a test whose controller was refused something by its roles, instead of "
        "warning.",
        type="bool",
        default=False,
    )
    parser.addini(
        "kube_controller_ready",
        "When a program is ready: log:REGEX, http://127.0.0.1:{port:health}/readyz, "
        "lease:NAME, watches (kwok, envtest: the default) or started.",
        default="",
    )
    parser.addini(
        "kube_refuse",
        "Words that the context, cluster and server of --kube=existing must not have "
        "in their names; * stands for anything (default: prod production prd live).",
        type="args",
        default=["prod", "production", "prd", "live"],
    )
    parser.addini(
        "kube_redact",
        "Names of environment variables whose values no artifact shows, as it shows no "
        "values of Secrets: TOKEN, AWS_*.",
        type="args",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; read the settings when a cluster is asked for."""
    config.addinivalue_line("markers", MARKER)
    if asked_for(config):
        from pytest_kube.failures import Failures
        from pytest_kube.lending import Lending
        from pytest_kube.run_report import RunReport
        from pytest_kube.session import Session

        session = config.stash[SESSION] = Session.from_config(config)
        failures = config.stash[FAILURES] = Failures(session)
        config.stash[LENDING] = Lending(session, failures)
        config.pluginmanager.register(RunReport(config, failures, os.environ))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which cluster the tests will use."""
    session = config.stash.get(SESSION, None)
    return session.header() if session else None


def pytest_report_collectionfinish(
    config: pytest.Config, items: list[pytest.Item]
) -> str | None:
    """Start the cluster if a collected test needs it, and say how long it took."""
    session = config.stash.get(SESSION, None)
    if session is None or not need_cluster(items):
        return None
    session.on_version(first_version(items))
    return session.start_early()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that needs a cluster once for each version."""
    session = metafunc.config.stash.get(SESSION, None)
    if session and "kube_version" in metafunc.fixturenames:
        versions = session.settings.versions
        if versions:
            metafunc.parametrize(
                "kube_version", versions, indirect=True, scope="session"
            )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Check the markers before anything is started."""
    check_markers(items, config.stash.get(LENDING, None))


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """Note when pytest-timeout will end the test: waits have to end before."""
    stash = item.config.stash
    if FAILURES in stash:
        stash[LENDING].limit(settings.timeout)
        stash[FAILURES].timer = None if settings.func_only else (item, settings)


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    """Note that pytest-timeout has stopped counting."""
    stash = item.config.stash
    if FAILURES in stash:
        stash[LENDING].limit(None)
        stash[FAILURES].timer = None


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Show what differs between two Kubernetes objects."""
    return compared(op, left, right)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Collect diagnostics of a test, before its fixtures are torn down."""
    failures = item.config.stash.get(FAILURES, None)
    if failures and call.excinfo:
        failures.tidy(call.excinfo)
    report = yield
    if failures:
        failures.collect(item, report)
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what the cluster was, or how to get one."""
    summary(terminalreporter, config.stash.get(SESSION, None))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of pytest-xdist has made and others may still need."""
    session = node.config.stash.get(SESSION, None)
    if session:
        session.take_over(getattr(node, "workeroutput", None) or {})


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Delete the cluster."""
    run = session.config.stash.get(SESSION, None)
    if run:
        run.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete the cluster, when the run ended before its session did."""
    run = config.stash.get(SESSION, None)
    if run:
        run.close()
