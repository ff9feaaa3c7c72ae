"""The fixtures. Their docstrings are what ``pytest --fixtures`` shows.

Imports pytest and the standard library only; all else waits until a test needs it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.errors import hide_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kube.cluster import Cluster
    from pytest_kube.controllers.runner import Controller
    from pytest_kube.kube import Kube
    from pytest_kube.lending import Lending
    from pytest_kube.session import Session

__tracebackhide__ = hide_frames

SESSION = pytest.StashKey["Session"]()
LENDING = pytest.StashKey["Lending"]()

NOT_ASKED = "needs a cluster: pytest --kube=kwok (or envtest, kind)"

NAMES = (
    "kube",
    "kube_client",
    "kube_cluster",
    "kube_controller",
    "kube_module",
    "kube_namespace",
    "kube_session",
    "kube_version",
    "run_controller",
)
"""The fixtures for which a cluster is started."""


@pytest.fixture(scope="session")
def kube_version(request: pytest.FixtureRequest) -> str:
    """The Kubernetes version that was asked for by ``--kube-version``; may be empty.

    With several versions each test that needs a cluster runs once on each of them, and
    this is the one of now. ``kube_cluster.version`` is what the API server says.
    """
    asked: str = getattr(request, "param", "")
    return _session(request.config).on_version(asked)


@pytest.fixture(scope="session")
def kube_cluster(
    kube_version: str,  # noqa: ARG001  # it decides which one
    pytestconfig: pytest.Config,
) -> Cluster:
    """The cluster of this run, named by ``--kube``; started once, deleted at the end.

    The CRDs of ``kube_crds`` and the manifests of ``kube_manifests`` are there.
    ``kube_cluster.kubeconfig`` is its administrator's kubeconfig file,
    ``kube_cluster.version`` its Kubernetes version.
    """
    return _session(pytestconfig).cluster()


@pytest.fixture(scope="session")
def kube_session(
    kube_cluster: Cluster,  # noqa: ARG001  # it is started first
    request: pytest.FixtureRequest,
) -> Iterator[Kube]:
    """A handle like ``kube`` for the whole run: what it makes is there for every test.

    For fixtures of scope ``session``. What tests change of it is rolled back.
    """
    with _lending(request.config).handle(request.node, "session") as handle:
        yield handle


@pytest.fixture(scope="module")
def kube_module(
    kube_cluster: Cluster,  # noqa: ARG001
    request: pytest.FixtureRequest,
) -> Iterator[Kube]:
    """A handle like ``kube`` for one test file: what it makes goes with the module.

    For fixtures of scope ``module``. What tests change of it is rolled back.
    """
    with _lending(request.config).handle(request.node, "module") as handle:
        yield handle


@pytest.fixture
def kube(
    kube_cluster: Cluster,  # noqa: ARG001
    request: pytest.FixtureRequest,
) -> Iterator[Kube]:
    """A handle on the cluster, in a new namespace of the test's own.

    ``kube.apply("sample.yaml")``, ``create``, ``get``, ``find``, ``list``, ``patch``,
    ``delete``, and ``kube.wait_for("deployment/web", "condition=Available")``. At the
    end the whole cluster is rolled back to what it was before: namespaces, CRDs,
    finalizers, everything. What ``kube_module`` and ``kube_session`` made stays.
    """
    with _lending(request.config).handle(request.node, "function") as handle:
        yield handle


@pytest.fixture
def kube_namespace(kube: Kube) -> str:
    """The name of the test's own namespace."""
    return kube.namespace


@pytest.fixture
def kube_client(kube: Kube, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The official client: a ``kubernetes.dynamic.DynamicClient``, ready to use.

    ``kube_client.resources.get(api_version="v1", kind="Pod").get(namespace=…)``
    """
    with _lending(request.config).official_client(kube) as client:
        yield client


@pytest.fixture
def run_controller(
    kube: Kube, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Controller]]:
    """Start controllers: ``run_controller(spec, **options)`` returns when it is ready.

    *spec* is a function (``async def``, or one with a parameter ``stop``), an object
    with ``start()`` and ``stop()``, a ``kopf.OperatorRegistry``, or
    ``"kopf:FILE.py"``, ``"kopf:package.module"``, ``"package.module:callable"``,
    ``"package.module:registry"``,
    ``"exec:PROGRAM ARGUMENTS"``, also as a list of words. Options are further arguments
    of the function or of ``kopf.operator``; for a program, ``env`` and ``ready``:
    ``"log:REGEX"``, ``"http://127.0.0.1:{port:health}/readyz"``, ``"lease:NAME"`` (it
    holds the Lease itself; without an audit log: another one holds it than before),
    ``"watches"`` (its watches are open, the default on kwok, envtest, kind) or
    ``"started"``. ``service_account="NAMESPACE/NAME"`` runs it as that one, with its
    roles; without, it may do everything. All controllers are stopped at the end of the
    test; one that ends earlier fails the test, at once if it is waiting.
    """
    with _lending(request.config).controllers(kube, request.node) as start:
        yield start


@pytest.fixture
def kube_controller(
    run_controller: Callable[..., Controller], request: pytest.FixtureRequest
) -> Controller:
    """The configured controller under test (``kube_controller``), running and ready.

    ``kube_controller.output`` is what it logged, ``kube_controller.errors`` what its
    handlers raised. ``@pytest.mark.kube(controller=…)`` takes another one.
    """
    spec, options = _lending(request.config).controller_spec(request.node)
    return run_controller(spec, **options)


def asked_for(config: pytest.Config) -> bool:
    """Say whether the run has a cluster: by option, environment or ini value.

    The first of them that is there decides; an empty one asks for none.
    """
    name: str | None = config.getoption("kube")
    if name is None:
        name = os.environ.get("PYTEST_KUBE")
    if name is None:
        name = config.getini("kube")
    return bool(name)


def _session(config: pytest.Config) -> Session:
    if SESSION not in config.stash:
        pytest.skip(NOT_ASKED)
    return config.stash[SESSION]


def _lending(config: pytest.Config) -> Lending:
    if LENDING not in config.stash:
        pytest.skip(NOT_ASKED)
    return config.stash[LENDING]


def first_version(items: list[pytest.Item]) -> str:
    """Return the version that the first test runs on, if there are several."""
    specs = (getattr(item, "callspec", None) for item in items)
    found = (spec.params.get("kube_version") for spec in specs if spec)
    return next(filter(None, found), "")


def need_cluster(items: list[pytest.Item]) -> bool:
    """Say whether any of the collected tests uses a fixture of ours."""
    return any(set(NAMES) & set(getattr(i, "fixturenames", ())) for i in items)


MARKER_ARGUMENTS = (
    "crds",
    "manifests",
    "controller",
    "ready",
    "service_account",
    "isolation",
    "version",
)


def check_markers(items: list[pytest.Item], lending: Lending | None) -> None:
    """Refuse unknown arguments of the marker ``kube``, naming test and argument.

    Tests that are for other versions than the one they would run on are skipped.
    """
    for item in items:
        for marker in item.iter_markers("kube"):
            unknown = set(marker.kwargs) - set(MARKER_ARGUMENTS)
            if unknown or marker.args:
                what = ", ".join(sorted(unknown)) or "positional arguments"
                raise pytest.UsageError(
                    f"{item.nodeid}: @pytest.mark.kube does not take {what}; "
                    f"it takes {', '.join(MARKER_ARGUMENTS)}"
                )
            isolation = marker.kwargs.get("isolation", "none")
            if isolation not in {"rollback", "namespace", "none"}:
                raise pytest.UsageError(
                    f"{item.nodeid}: @pytest.mark.kube(isolation={isolation!r}): "
                    "allowed are 'rollback', 'namespace', 'none'"
                )
            _check_version(item, marker.kwargs.get("version"))
        if lending and (why := lending.unfit(item)):
            item.add_marker(pytest.mark.skip(reason=why))


def _check_version(item: pytest.Item, wanted: Any) -> None:
    if wanted is None:
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        SpecifierSet(wanted)
    except (InvalidSpecifier, TypeError, AttributeError):
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.kube(version={wanted!r}): expected versions "
            "as pip takes them, such as '>=1.36' or '>=1.34,<1.37'"
        ) from None


def summary(reporter: pytest.TerminalReporter, session: Session | None) -> None:
    """Add the summary line: which cluster it was, or how to get one."""
    if session is not None:
        if text := session.summary():
            reporter.write_line(text)
        return
    skipped = reporter.stats.get("skipped", [])
    count = sum(NOT_ASKED in str(report.longrepr) for report in skipped)
    if count:
        tests = "test needs" if count == 1 else "tests need"
        reporter.write_line(f"kube: {count} {tests} a cluster; run pytest --kube=kwok")


def compared(op: str, left: object, right: object) -> list[str] | None:
    """Return how two objects of the handle differ; ``None`` if they are none."""
    objects = sys.modules.get("pytest_kube.objects")
    if objects is None or op != "==":
        return None
    if not isinstance(left, objects.Object) and not isinstance(right, objects.Object):
        return None
    from pytest_kube.diff import comparison

    return comparison(left, right)
