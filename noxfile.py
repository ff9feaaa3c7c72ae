"""Sessions: lint, types, tests, clusters, versions, pythons, oldest, kind, and more."""

from __future__ import annotations

import sys
from pathlib import Path

import nox

# Users have it beside nox; here it lies beside this file, and needs nothing else.
sys.path.insert(0, str(Path(__file__).parent / "src"))

from pytest_kube.nox import kube_versions

nox.needs_version = ">=2025.5.1"  # for download_python
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, *groups: str) -> None:
    """Install the project as its users do, and what the session needs."""
    session.install("-e", ".[kind]", *nox.project.dependency_groups(PROJECT, *groups))


PROJECT = nox.project.load_toml("pyproject.toml")
# What users notice first when a Python or a dependency does not fit.
SHORT = (
    "tests/unit",
    *(
        f"tests/acceptance/test_{n}.py"
        for n in ("assertions", "clients", "kube_option")
    ),
)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and who may import whom."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("python", "docs/generate.py", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Our own code, strictly, and users' code as mypy and pyright see it."""
    install(session, "lint", "test")
    session.run("mypy")
    session.run("pyright")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test; real clusters included, kind where docker is."""
    install(session, "test", "dask")
    session.run("pytest", *session.posargs)


@nox.session
def clusters(session: nox.Session) -> None:
    """Tests against real control planes only."""
    install(session, "test")
    session.run("pytest", "tests/clusters", *session.posargs)


@nox.session
@kube_versions()
def versions(session: nox.Session, kube: str) -> None:
    """Tests against control planes of the newest Kubernetes and of three before it."""
    install(session, "test")
    session.run("pytest-kube", "binaries", "install", f"--kube-version={kube}")
    # kind has one node image; the tests of it are the session kind.
    session.run("pytest", "tests/clusters", "--ignore-glob=*_kind*", *session.posargs)


@nox.session(python=nox.project.python_versions(PROJECT), download_python="never")
def pythons(session: nox.Session) -> None:
    """Unit tests and a few others on each Python that is there; others are skipped."""
    install(session, "test")
    session.run("pytest", *SHORT, *session.posargs)


@nox.session(venv_backend="uv", python="3.11", download_python="never")
def oldest(session: nox.Session) -> None:
    """The same with the lowest versions that our dependencies may have."""
    install(session, "test")
    # Last, for what the tests need would raise some again.
    session.install("--upgrade", "--resolution=lowest-direct", "-e", ".[kind]")
    session.run("pytest", *SHORT, *session.posargs)


@nox.session
def kind(session: nox.Session) -> None:
    """Tests on kind, and an example on it."""
    install(session, "test")
    tests = [
        f"tests/clusters/test_{n}.py"
        for n in ("kind", "kind_kept", "kind_state", "history")
    ]
    session.run("pytest", *tests, *session.posargs)
    with session.chdir("examples/kopf"):
        session.run("pytest", "--kube=kind")


@nox.session
def examples(session: nox.Session) -> None:
    """The examples, each as its own repository."""
    install(session, "test", "dask")
    session.run("pytest", "tests/examples", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Figures beside those of the peers, in one run."""
    install(session, "test")
    session.run("python", "benchmarks/bench.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel, and test an example with it, without the source."""
    session.install("build")
    folder = Path(session.create_tmp())
    session.run("python", "-m", "build", "--outdir", str(folder))
    (wheel,) = folder.glob("*.whl")
    session.install("--force-reinstall", str(wheel), "kopf>=1.45")
    with session.chdir("examples/kopf"):
        session.run("pytest", "--kube=kwok", "-p", "no:cacheprovider")
