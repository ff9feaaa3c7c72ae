"""The README is true: its commands run, its files work, CI runs what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
SET_UP, WHOLE_SUITE, *BINARIES = COMMANDS


def block(kind: str, start: str) -> str:
    (found,) = [t for k, t in BLOCKS if k == kind and t.startswith(start)]
    return found


@pytest.mark.timeout(600)
def test_set_up_command_tests_the_example_in_a_fresh_checkout(tmp_path: Path) -> None:
    """The first thing a newcomer copies, in a folder without our environment."""
    checkout = tmp_path / "checkout"
    left_out = shutil.ignore_patterns(".git", ".venv", ".nox", "__pycache__", ".*cache")
    shutil.copytree(ROOT, checkout, ignore=left_out)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_CURRENT")}

    done = subprocess.run(
        ["bash", "-c", SET_UP],
        cwd=checkout,
        env=env,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"=+ \d+ passed in .* =+", done.stdout)
    assert "kube: kwok cluster, Kubernetes v" in done.stdout


def test_ci_runs_the_whole_suite_by_the_command_of_the_readme() -> None:
    """What a newcomer copies is what CI proves."""
    assert WHOLE_SUITE in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


@pytest.mark.parametrize("command", BINARIES)
def test_binaries_command_runs(command: str) -> None:
    """As installed: the script beside the interpreter."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    done = subprocess.run(
        command.split(), env=env, capture_output=True, text=True, timeout=60, check=True
    )

    assert "kubectl" in done.stdout


DATABASE = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: database}
spec:
  selector: {matchLabels: {app: database}}
  template:
    metadata: {labels: {app: database}}
    spec: {containers: [{name: main, image: none}]}
"""


def test_what_a_module_makes_survives_the_test_of_the_readme(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test deletes it, and it is there for another one, and works."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makefile(".yaml", database=DATABASE)
    pytester.makepyfile(
        "import pytest\n\n"
        + block("python", "@pytest.fixture(scope=")
        + "\n\ndef test_is_back(kube_module, kube, database):\n"
        "    assert kube_module.get(database).uid == database.uid\n"
        "    kube_module.patch(database, {'spec': {'replicas': 2}})\n"
        "    two = 'jsonpath={.status.readyReplicas}=2'\n"
        "    kube_module.wait_for(database, two)\n"
    )

    result = pytester.runpytest_subprocess("--kube=kwok", timeout=100)

    result.assert_outcomes(passed=2)


def test_configuration_and_test_of_the_readme_work(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied into a repository that has the files they name."""
    folder = Path(pytester.path)
    example = ROOT / "examples" / "kopf"
    for name in ("config", "src"):
        shutil.copytree(example / name, folder / name)
    (folder / "pyproject.toml").write_text(block("toml", "# pyproject.toml"))
    (folder / "tests").mkdir()
    test = block("python", "# tests/test_memcached.py")
    (folder / "tests" / "test_memcached.py").write_text(test)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    arguments = block("console", "$ pytest --kube=kwok").split()[2:]

    result = pytester.runpytest_subprocess(*arguments, timeout=100)

    result.assert_outcomes(passed=1)


def test_profile_of_the_readme_works(pytester: pytest.Pytester) -> None:
    """Every key of it, with a real control plane."""
    folder = Path(pytester.path)
    (folder / "clusters").mkdir()
    (folder / "clusters" / "mine.yaml").write_text(block("yaml", "provider: kwok"))
    (folder / "test_nodes.py").write_text(
        "def test_nodes(kube):\n"
        "    names = sorted(node.name for node in kube.list('nodes'))\n"
        "    assert names == ['gpu-0', 'node-0', 'node-1', 'node-2']\n"
    )

    result = pytester.runpytest_subprocess("--kube=mine", timeout=100)

    result.assert_outcomes(passed=1)


def test_options_of_the_readme_are_those_of_the_plugin() -> None:
    """None is missing, none is invented."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    real = set(re.findall(r"^  (--kube[a-z-]*)", done.stdout, re.MULTILINE))
    table = README.partition("## Options")[2].partition("### Profiles")[0]
    told = set(re.findall(r"`(--kube[a-z-]*)", table)) - {"--kube=existing"}

    assert told == real
